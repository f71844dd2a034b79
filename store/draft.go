package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
)

// A draft is a write before it is decided about.
type draft struct {
	client *Client
	space  *space
	pass   *pass // of the right to write
	act    string
	led    plugbus.Chain // what led to the write, with its client
	rules  uint64
	now    int64

	expects []expectation // what the caller wants to be as it was
	ranges  []*rangeRead  // the same
	pins    []expectation // what the validator has seen
	edits   []edit        // one for each key, in the order in which they were first named
	reads   bool          // what is in expects and ranges was read

	guarded   bool       // as the store was when the validator was asked
	validator *validator // the one that was asked
	deadline  time.Time  // for its turn to come
}

// An expectation is what revision a key has to have, 0 for none.
type expectation struct {
	key      string
	revision uint64
}

// An edit is what is to become of one key.
type edit struct {
	key     string
	value   string
	delete  bool
	expires int64

	made *record // when it was decided
}

// record returns the record of an edit that sets. It has no revision yet.
func (e *edit) record(d *draft) *record {
	e.made = &record{key: e.key, value: e.value, writer: d.client.id, at: d.now, expires: e.expires, place: -1}
	if e.expires != 0 {
		e.made.led = d.led
	}
	return e.made
}

// errStale says that rights, or the validator, have changed since they were asked.
var errStale = errors.New("stale")

// newDraft returns a draft without edits, of an act that the door has let in.
func (v *View) newDraft(act string, p *pass, now time.Time) *draft {
	v.client.db.saw(p.permit.Version)
	return &draft{
		client: v.client, space: v.space, pass: p, act: act,
		led: p.cause.Then(v.client.id), rules: p.permit.Version, now: now.UnixNano(),
	}
}

// commit has a draft decided about, and waits until it is done.
func (d *draft) commit(ctx context.Context) error {
	err := d.attempt(ctx)
	if d.client.db.opts.Observe != nil {
		d.observe(err)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, plugbus.ErrDenied):
		return err
	case errors.Is(err, ErrQuota):
		return d.client.refuse(plugbus.Refusal{
			Verb: plugbus.VerbWrite, Object: d.space.name, Reason: plugbus.ReasonQuotaExceeded, Chain: d.pass.cause, Cause: err,
		})
	}
	if len(d.edits) == 1 {
		return &KeyError{Plugin: d.client.id, Act: d.act, Store: d.space.name, Key: plugbus.CutText(d.edits[0].key), Err: err}
	}
	return &StoreError{Plugin: d.client.id, Act: d.act, Store: d.space.name, Err: err}
}

func (d *draft) attempt(ctx context.Context) error {
	if err := d.mayRead(); err != nil {
		return err
	}
	if err := d.fits(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrNotDone, err)
		}
		if err := d.validate(ctx); err != nil {
			return err
		}
		p, wait, err := d.space.propose(d)
		switch {
		case wait != nil:
			if err := d.client.await(ctx, wait); err != nil {
				return fmt.Errorf("%w: %w", ErrNotDone, err)
			}
		case err == errStale: //nolint:errorlint // It is never wrapped.
			if err := d.renew(); err != nil {
				return err
			}
		case d.pinned(err):
		case err != nil || p == nil:
			return err
		default:
			if err := d.client.await(ctx, p); err != nil {
				return &CommitError{Store: d.space.name, Outcome: ErrUnknown, Err: err}
			}
			return p.err
		}
	}
}

// pinned reports whether a draft conflicts only with what the validator has seen,
// which is then to be asked again.
func (d *draft) pinned(err error) bool {
	conflict, ok := err.(*ConflictError) //nolint:errorlint // It is never wrapped here.
	if !ok {
		return false
	}
	for _, e := range d.expects {
		if e.key == conflict.Key {
			return false
		}
	}
	for _, e := range d.pins {
		if e.key == conflict.Key {
			return true
		}
	}
	return false
}

// renew asks again for the rights, which may have changed.
func (d *draft) renew() error {
	pass, err := d.may(plugbus.VerbWrite, Write)
	if err != nil {
		return err
	}
	d.pass, d.rules = pass, pass.permit.Version
	d.client.db.saw(d.rules)
	return d.mayRead()
}

// mayRead asks again for the right to read, if a conflict would tell of what was read.
func (d *draft) mayRead() error {
	if !d.reads {
		return nil
	}
	_, err := d.may(plugbus.VerbRead, Read)
	return err
}

// may asks for a right.
func (d *draft) may(verb plugbus.Verb, right Rights) (*pass, error) {
	c, s := d.client, d.space
	p := c.access(s, s.name, d.pass.cause, verb, right)
	if p.permit.Allowed() {
		return p, nil
	}
	return nil, c.refuse(plugbus.Refusal{
		Verb: verb, Object: s.name, Reason: p.permit.Reason, Chain: p.cause,
		Rule: p.rule, Remedy: p.remedy, Hint: "the rights changed while the write was on its way",
	})
}

// await waits for the backend to be done with p.
func (c *Client) await(ctx context.Context, p *pending) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.session.Done():
		return ErrClosed
	}
}

// put adds an edit, or replaces the one of the same key.
func (d *draft) put(e edit) {
	if old := d.edited(e.key); old != nil {
		*old = e
		return
	}
	d.edits = append(d.edits, e)
}

// edited returns the edit of a key, or nil.
func (d *draft) edited(key string) *edit {
	for i := range d.edits {
		if d.edits[i].key == key {
			return &d.edits[i]
		}
	}
	return nil
}
