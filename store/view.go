package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/internal/topic"
)

// A View is one plugin's handle to one store. Each call asks anew whether the plugin
// may. Its methods may be called by several goroutines. It is made by [Client.Create],
// [Client.Ensure] and [Client.Open]; its zero value is of no use. A view of a store that
// was dropped is of no more use, also if another is made under the same name.
type View struct {
	client *Client
	space  *space
	passes [2]atomic.Pointer[pass] // the last, to read and to write
}

// Name returns the name of the store.
func (v *View) Name() string { return v.space.name }

// Owner returns the id of the plugin that made the store, or "" if the plugin of the
// view may not know of it.
func (v *View) Owner() string { return v.client.known(v.space.owner) }

// pass returns the answer to whether the plugin may read or write with ctx.
func (v *View) pass(ctx context.Context, verb plugbus.Verb) *pass {
	c, s := v.client, v.space
	right, at := Read, &v.passes[0]
	if verb == plugbus.VerbWrite {
		right, at = Write, &v.passes[1]
	}
	cause := c.causeOf(ctx)
	if p := at.Load(); p != nil && p.holds(c, s, cause) {
		return p
	}
	p := c.access(s, s.name, cause, verb, right)
	at.Store(p)
	return p
}

// enter passes the door with an act on one key.
func (v *View) enter(ctx context.Context, act, key string, verb plugbus.Verb, parcel *door.Parcel) (*pass, time.Time, error) {
	if err := v.client.usable(ctx); err != nil {
		return nil, time.Time{}, v.keyed(act, key, err)
	}
	p := v.pass(ctx, verb)
	now, err := v.client.enter(p, v.space.name, verb, parcel)
	return p, now, err
}

func (v *View) keyed(act, key string, err error) error {
	return &KeyError{Plugin: v.client.id, Act: act, Store: v.space.name, Key: plugbus.CutText(key), Err: err}
}

// Get returns the entry of a key. The error matches [ErrNotFound], [ErrDropped],
// [ErrClosed] or [plugbus.ErrInvalid], or is a [*plugbus.DeniedError]. What it returns
// is done: a persistent entry is on disk.
func (v *View) Get(ctx context.Context, key string) (Entry, error) {
	const act = "get"
	_, now, err := v.enter(ctx, act, key, plugbus.VerbRead, nil)
	if err != nil {
		return Entry{}, err
	}
	s := v.space
	s.mu.RLock()
	r, dropped := s.entries[key], s.dropped
	s.mu.RUnlock()
	if r != nil && (r.expires == 0 || r.expires > now.UnixNano()) {
		return Entry{r}, nil
	}
	err = ErrNotFound
	if dropped {
		err = ErrDropped
	} else if wrong := topic.CheckKey(key); wrong != nil {
		err = wrong
	}
	return Entry{}, v.keyed(act, key, err)
}

// A SetOption changes how one entry is set: [TTL].
type SetOption interface{ apply(o *setOptions) error }

type setOptions struct{ ttl time.Duration }

type ttlOption time.Duration

// TTL sets how long the entry lives, 1 ms to 100 years, or for ever if it is 0, in place
// of what the store's config says.
func TTL(d time.Duration) SetOption { return ttlOption(d) }

func (d ttlOption) apply(o *setOptions) error {
	wrong := limits.List{Fault: newOptionError}
	o.ttl = limits.Within(&wrong, "TTL", time.Duration(d), 0, minTTL, maxTTL)
	return wrong.Err()
}

// Set makes value what the key has, and returns the new entry. When it has returned, a
// persistent entry is on disk. The error is a [*plugbus.DeniedError], of which the
// cause may match [ErrQuota] or [ErrRejected]; or it matches [ErrNoValidator],
// [ErrReadOnly], [ErrBusy], [ErrNotDone], [ErrUnknown], [ErrDropped], [ErrClosed] or
// [plugbus.ErrInvalid].
func (v *View) Set(ctx context.Context, key string, value []byte, options ...SetOption) (Entry, error) {
	return v.put(ctx, "set", key, value, nil, options)
}

// Create is Set for a key that has no entry. If it has one, the error matches
// [ErrExists] and [ErrConflict].
func (v *View) Create(ctx context.Context, key string, value []byte, options ...SetOption) (Entry, error) {
	e, err := v.put(ctx, "create", key, value, []expectation{{key, 0}}, options)
	if c, ok := errors.AsType[*ConflictError](err); ok {
		c.create = true
	}
	return e, err
}

// Update is Set for a key whose entry has this revision, not 0. If it has another, or
// none, the error matches [ErrConflict].
func (v *View) Update(ctx context.Context, key string, value []byte, revision uint64, options ...SetOption) (Entry, error) {
	const act = "update"
	if revision == 0 {
		return Entry{}, v.keyed(act, key, newOptionError("the revision", revision, "that of an entry; to make one, use Create"))
	}
	return v.put(ctx, act, key, value, []expectation{{key, revision}}, options)
}

func (v *View) put(ctx context.Context, act, key string, value []byte, expects []expectation, options []SetOption) (Entry, error) {
	p, now, e, err := v.edit(ctx, act, key, value, options)
	if err != nil {
		return Entry{}, err
	}
	d := v.newDraft(act, p, now)
	d.expects, d.edits = expects, []edit{e}
	for i := range d.expects {
		d.expects[i].key = e.key
	}
	if err := d.commit(ctx); err != nil {
		return Entry{}, err
	}
	return Entry{d.edits[0].made}, nil
}

// edit passes the door with an entry.
func (v *View) edit(ctx context.Context, act, key string, value []byte, options []SetOption) (p *pass, now time.Time, e edit, err error) {
	if err := topic.CheckKey(key); err != nil {
		return nil, now, e, v.keyed(act, key, err)
	}
	o := setOptions{ttl: v.space.config.TTL}
	for _, option := range options {
		if option == nil {
			return nil, now, e, v.keyed(act, key, newOptionError("an option", nil, "a store.SetOption"))
		}
		if err := option.apply(&o); err != nil {
			return nil, now, e, v.keyed(act, key, err)
		}
	}
	parcel, limit := door.Parcel{Texts: [2]string{key}}, v.space.config.MaxValueBytes
	if len(value) <= limit { // What is too long is not even copied.
		parcel.Data = string(value)
	}
	if p, now, err = v.enter(ctx, act, key, plugbus.VerbWrite, &parcel); err != nil {
		return nil, now, e, err
	}
	refuse := func(reason plugbus.Reason, cause error) error {
		return v.client.refuse(plugbus.Refusal{Verb: plugbus.VerbWrite, Object: v.space.name, Reason: reason, Chain: p.cause, Cause: cause})
	}
	if len(value) > limit {
		return nil, now, e, refuse(plugbus.ReasonQuotaExceeded, &QuotaError{
			Store: v.space.name, Quota: "bytes of one value", Limit: int64(limit), Would: int64(len(value)),
		})
	}
	e = edit{key: private(key)}
	e.value, _ = parcel.Data.(string)
	if err := inspect(e.value, p.permit.Payload.Content); err != nil {
		return nil, now, e, refuse(plugbus.ReasonInvalidContent, err)
	}
	if o.ttl != 0 {
		e.expires = now.Add(o.ttl).UnixNano()
	}
	return p, now, e, nil
}

// A DeleteOption changes how a key is deleted: [IfRevision].
type DeleteOption interface{ applyDelete(o *deleteOptions) error }

type deleteOptions struct{ revision uint64 }

type ifRevision uint64

// IfRevision deletes only an entry of this revision, not 0. If it has another, or there
// is none, the error matches [ErrConflict].
func IfRevision(revision uint64) DeleteOption { return ifRevision(revision) }

func (r ifRevision) applyDelete(o *deleteOptions) error {
	if o.revision = uint64(r); r == 0 {
		return newOptionError("IfRevision", 0, "the revision of an entry")
	}
	return nil
}

// Delete takes the entry of a key away. It is no error if there is none. Otherwise the
// errors are those of [View.Set].
func (v *View) Delete(ctx context.Context, key string, options ...DeleteOption) error {
	const act = "delete"
	if err := topic.CheckKey(key); err != nil {
		return v.keyed(act, key, err)
	}
	var o deleteOptions
	for _, option := range options {
		if option == nil {
			return v.keyed(act, key, newOptionError("an option", nil, "a store.DeleteOption"))
		}
		if err := option.applyDelete(&o); err != nil {
			return v.keyed(act, key, err)
		}
	}
	p, now, err := v.enter(ctx, act, key, plugbus.VerbWrite, nil)
	if err != nil {
		return err
	}
	d := v.newDraft(act, p, now)
	d.edits = []edit{{key: private(key), delete: true}}
	if o.revision != 0 {
		d.expects = []expectation{{d.edits[0].key, o.revision}}
	}
	return d.commit(ctx)
}
