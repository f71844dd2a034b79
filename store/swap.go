package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/plugbus/plugbus"
)

// A plugin is replaced in three steps: a client that is held joins beside the one of
// the plugin, and opens its watches; it succeeds that one; and when that one has ended,
// it settles.

// Succeed puts c, which is held, in the place of old. In each store the watches of old
// end with the revision that it has at this step, when they have told everything up to
// it; the watches of c begin after it, those with [Snapshot] with what the store has
// then, and those with [After] where they say. The validators of old stay those of their
// stores until old is closed. Nothing of c is called before [Client.Settle].
//
// The error is [ErrClosed] if one of the two has ended or drains, and matches
// [plugbus.ErrInvalid] if c is not held for the place of old; nothing has changed then.
func (c *Client) Succeed(old *Client) error {
	db := c.db
	db.mu.Lock()
	err := c.maySucceed(old)
	if err == nil {
		c.understudy = false
		delete(db.aside, c)
		db.clients[c.id] = c
		old.heir.Store(c)
		db.aside[old] = struct{}{}
	}
	db.mu.Unlock()
	if err != nil {
		return err
	}
	old.mu.Lock()
	old.draining = true
	ending := slices.Collect(maps.Keys(old.watches))
	old.mu.Unlock()
	c.mu.Lock()
	beginning := slices.Collect(maps.Keys(c.watches))
	c.mu.Unlock()
	spaces := map[*space]struct{}{}
	for _, w := range slices.Concat(ending, beginning) {
		spaces[w.space] = struct{}{}
	}
	for s := range spaces {
		s.cut(ending, beginning)
	}
	for _, w := range ending {
		w.signal(nil)
	}
	return nil
}

// maySucceed returns why c cannot take the place of old. db.mu is held.
func (c *Client) maySucceed(old *Client) error {
	switch {
	case !c.understudy || old == nil || old.db != c.db || old.id != c.id || old.understudy:
		return fmt.Errorf("store: client %q succeeds another: it has to be made with ClientOptions.Held, once for each, and the other has to be of its id and DB: %w", c.id, plugbus.ErrInvalid)
	case c.ended.Load() || c.db.clients[c.id] != old || c.drains() || old.drains():
		return fmt.Errorf("store: client %q succeeds another: %w", c.id, ErrClosed)
	}
	return nil
}

func (c *Client) drains() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// cut ends the watches of the store among ending, and begins those among beginning, at
// one revision.
func (s *space) cut(ending, beginning []*Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range ending {
		if w.space == s {
			w.end.Store(s.revision + 1)
		}
	}
	for _, w := range beginning {
		if _, open := s.watches[w]; !open {
			continue
		}
		switch {
		case w.opts.snapshot:
			w.resync(0)
		case !w.opts.resume:
			w.seen.Store(s.revision)
		}
	}
}

// lastRevision returns the last revision that the watch is for.
func (w *Watch) lastRevision() uint64 {
	if end := w.end.Load(); end > 0 {
		return end - 1
	}
	return math.MaxUint64
}

// over reports whether the watch has told everything that it is for. The worker calls it.
func (w *Watch) over() bool {
	return w.seen.Load() >= w.lastRevision() && len(w.begin)+len(w.page) == 0 && w.snapshot == nil && w.proof == nil && w.last == nil
}

// Settle lets a client that was held call its functions, when the one that it has
// succeeded has ended, and makes the validators that it has set meanwhile those of their
// stores. Before Succeed, and the second time, it does nothing. A persistent store that
// gets a validator and had none, or the other way round, is changed on its backend, for
// which Settle waits until ctx is done. The error tells which stores were not changed; the
// client has settled all the same.
func (c *Client) Settle(ctx context.Context) error {
	c.db.mu.RLock()
	understudy := c.understudy
	c.db.mu.RUnlock()
	if understudy {
		return nil
	}
	c.mu.Lock()
	settles := c.held.Swap(false)
	spaces := slices.Collect(maps.Keys(c.deferred))
	c.mu.Unlock()
	if !settles {
		return nil
	}
	c.signal(nil)
	var errs []error
	for _, s := range spaces {
		release, err := c.db.manage(ctx, c)
		next, set := c.takeDeferred(s)
		switch {
		case err != nil:
		case set:
			err = c.guardBy(ctx, s, next, release)
		default: // The plugin has set another meanwhile.
			release()
		}
		if err != nil && !errors.Is(err, ErrDropped) && !c.ended.Load() {
			errs = append(errs, &StoreError{Plugin: c.id, Act: "set the validator of", Store: s.name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// takeDeferred returns the validator that was put off for a store, and whether one was.
func (c *Client) takeDeferred(s *space) (next *validator, set bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, set = c.deferred[s]
	delete(c.deferred, s)
	return next, set
}

// putOff keeps a validator of a client that is held, and reports whether it did. One that
// is not put off takes the place of one that was.
func (c *Client) putOff(s *space, next *validator) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held.Load() {
		delete(c.deferred, s)
		return false
	}
	if c.deferred == nil {
		c.deferred = map[*space]*validator{}
	}
	c.deferred[s] = next
	return true
}

// bequeath puts what the heir has set in the place of the validators of c, so that there
// is always one.
func (c *Client) bequeath(heir *Client) {
	for _, s := range c.db.spaces() {
		s.mu.Lock()
		if s.validator != nil && s.validator.client == c && !heir.ended.Load() {
			s.validator = heir.inherit(s)
		}
		s.mu.Unlock()
	}
}

// inherit returns what is to be the validator of a store that the predecessor of c had
// one for: nil if c has set none. The lock of the store is held.
func (c *Client) inherit(s *space) *validator {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, set := c.deferred[s]
	switch {
	case !set:
		return nil
	case next == nil: // It is to be taken away, which may take a while.
		return &validator{client: c, check: func(context.Context, *Proposal) error { return nil }}
	}
	return next
}

// revalidates reports whether the store has another validator than one that could not be
// asked.
func (s *space) revalidates(than *validator) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.validator != nil && s.validator != than
}
