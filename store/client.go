package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/schema"
)

// A Client is one plugin's handle to a DB: what it does it does as this plugin. Its
// methods may be called by several goroutines.
type Client struct {
	db         *DB
	id         string
	number     uint64 // of this client, whatever its id
	owner      any
	guard      plugbus.Guard
	super      bool
	actor      *actor.Actor
	ownActor   bool
	source     int // of the actor
	maxWatches int

	session  context.Context //nolint:containedctx // The parent of the contexts of calls.
	end      context.CancelFunc
	ended    atomic.Bool
	held     atomic.Bool            // nothing is called on the worker yet; written under mu
	heir     atomic.Pointer[Client] // that has succeeded it
	managing atomic.Int64           // changes of stores that wait for their turn
	refused  atomic.Uint64          // acts

	understudy bool // it is to succeed another; under the lock of the DB

	mu         sync.Mutex // guards below
	draining   bool       // there are no more watches
	leaving    bool       // nor are validators asked
	watches    map[*Watch]struct{}
	ready      []*Watch // with changes to deliver
	errands    []*errand
	working    bool                  // the worker does something for the client
	watching   bool                  // which is the turn of a watch
	running    *call                 // of the plugin, on the worker
	deferred   map[*space]*validator // that it has set while it was held, nil for none
	validating []*space              // for whose validators the worker runs, the innermost last
}

// ID returns the id of the plugin.
func (c *Client) ID() string { return c.id }

// usable returns why the client can begin nothing with ctx, or nil.
func (c *Client) usable(ctx context.Context) error {
	switch {
	case ctx == nil:
		return newOptionError("ctx", nil, "a context, such as context.Background()")
	case c.ended.Load():
		return ErrClosed
	}
	return ctx.Err()
}

// Create makes a store that the plugin owns, and returns a view of it. The store
// outlives the client. The error matches [ErrExists], [ErrNotPersistent], [ErrQuota],
// [ErrClosed], [ErrReadOnly] or [plugbus.ErrInvalid]; or it is a
// [*plugbus.DeniedError].
func (c *Client) Create(ctx context.Context, name string, config Config) (*View, error) {
	fail := func(err error, hint string) (*View, error) {
		return nil, &StoreError{Plugin: c.id, Act: "create", Store: plugbus.CutText(name), Err: err, Hint: hint}
	}
	if err := c.usable(ctx); err != nil {
		return fail(err, "")
	}
	cause := c.causeOf(ctx)
	p := c.permitCreate(name, cause)
	parcel := door.Parcel{}
	if config.Schema != nil {
		parcel.Data = string(config.Schema)
	}
	if _, err := c.enter(p, name, plugbus.VerbCreate, &parcel); err != nil {
		return nil, err
	}
	lists, err := newACL(c.id, &config)
	if err := errors.Join(err, config.check()); err != nil {
		return fail(err, "")
	}
	if config.Persistent && c.db.opts.Backend == nil {
		return fail(ErrNotPersistent, "the host gives the hub a directory (hub.Options.StoreDir), or the store is made without Persistent")
	}
	s := newSpace(c.db, private(name), c.id, config)
	s.acl.Store(lists)
	if config.Schema != nil {
		s.config.Schema = []byte(parcel.Data.(string))
		if s.schema, err = schema.Compile(s.config.Schema); err != nil {
			return fail(fmt.Errorf("Config.Schema: %w", err), "")
		}
	}
	if config.Validator != nil {
		s.guarded, s.validator = true, &validator{client: c, check: config.Validator}
	}
	if err := c.db.create(ctx, c, s, cause); err != nil {
		if errors.Is(err, plugbus.ErrDenied) {
			return nil, err
		}
		if errors.Is(err, ErrQuota) {
			return nil, c.refuse(plugbus.Refusal{Verb: plugbus.VerbCreate, Object: name, Reason: plugbus.ReasonQuotaExceeded, Chain: cause, Cause: err})
		}
		if errors.Is(err, ErrExists) {
			return fail(err, "open it instead; its config is as it was made")
		}
		return fail(err, "")
	}
	return &View{client: c, space: s}, nil
}

// known returns an id, or "" if the plugin may not know of it.
func (c *Client) known(id string) string {
	if !c.guard.Knows(id) {
		return ""
	}
	return id
}

// called returns what a plugin is called in an error of this one, with its id if this one
// may know it.
func (c *Client) called(what, id string) string {
	if id = c.known(id); id == "" {
		return what
	}
	return fmt.Sprintf("%s %q", what, id)
}

// permitCreate is the answer to whether the plugin may create a store.
func (c *Client) permitCreate(name string, cause plugbus.Chain) *pass {
	const verb = plugbus.VerbCreate
	return &pass{cause: cause, permit: door.Sound(c.guard.PermitVia(cause, verb, name), verb, name)}
}

// Open returns a view of a store to which the plugin has some right. The error is a
// [*plugbus.DeniedError], also if there is no such store; or, for those who may create
// it, it matches [ErrNotFound].
func (c *Client) Open(ctx context.Context, name string) (*View, error) {
	const act = "open"
	if err := c.usable(ctx); err != nil {
		return nil, &StoreError{Plugin: c.id, Act: act, Store: plugbus.CutText(name), Err: err}
	}
	cause := c.causeOf(ctx)
	s := c.db.space(name)
	verb := plugbus.VerbRead
	p := c.access(s, name, cause, verb, Read)
	if !p.permit.Allowed() {
		if other := c.access(s, name, cause, plugbus.VerbWrite, Write); other.permit.Allowed() {
			verb, p = plugbus.VerbWrite, other
		}
	}
	missing := false
	if s == nil { // Whoever may create it may know that.
		create := c.permitCreate(name, cause)
		if missing = create.permit.Allowed(); missing {
			verb, p = plugbus.VerbCreate, create
		}
	}
	if p.permit.Reason == plugbus.ReasonInsufficientPermissions { // The same whether the store is there or not.
		p.hint = "there is no such store yet, or the policy or its owner does not let the plugin use it"
	}
	if _, err := c.enter(p, name, verb, nil); err != nil {
		return nil, err
	}
	if missing {
		return nil, &StoreError{Plugin: c.id, Act: act, Store: name, Err: ErrNotFound, Hint: "create it first"}
	}
	return &View{client: c, space: s}, nil
}

// An Info is what a plugin may know of a store.
type Info struct {
	Name       string
	Owner      string // "" if the plugin may not know of it
	Persistent bool
	Rights     Rights // of the plugin, by the policy and the lists together
	Keys       int
	Bytes      int64
	Revision   uint64
}

// List returns the stores to which the plugin has some right, in the order of their
// names.
func (c *Client) List(ctx context.Context) ([]Info, error) {
	if err := c.usable(ctx); err != nil {
		return nil, &StoreError{Plugin: c.id, Act: "list", Store: "*", Err: err}
	}
	cause := c.causeOf(ctx)
	var all []Info
	for _, s := range c.db.spaces() {
		read, write := c.access(s, s.name, cause, plugbus.VerbRead, Read), c.access(s, s.name, cause, plugbus.VerbWrite, Write)
		rights := Rights(0)
		if read.permit.Allowed() {
			rights |= Read
		}
		if write.permit.Allowed() {
			rights |= Write
			if c.super || write.acl.of(c.id)&Admin != 0 {
				rights |= Admin
			}
		}
		if rights == 0 {
			continue
		}
		if len(all) == 0 { // What it may not have costs it nothing.
			first, verb := read, plugbus.VerbRead
			if rights&Read == 0 {
				first, verb = write, plugbus.VerbWrite
			}
			if _, err := c.enter(first, s.name, verb, nil); err != nil {
				return nil, err
			}
		}
		info := s.info()
		info.Rights = rights
		info.Owner = c.known(s.owner)
		all = append(all, info)
	}
	return all, nil
}

func (s *space) info() Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.figures()
}

// figures returns what info does. s.mu is held.
func (s *space) figures() Info {
	return Info{Name: s.name, Owner: s.owner, Persistent: s.config.Persistent, Keys: len(s.entries), Bytes: s.bytes, Revision: s.revision}
}
