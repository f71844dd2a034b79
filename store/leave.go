package store

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus/internal/actor"
)

// BeginDrain ends the client's watches. Everything else goes on until Close, its
// validators included. The watches of a client that was succeeded end by themselves, with
// what they have.
func (c *Client) BeginDrain() {
	if c.heir.Load() == nil {
		c.endWatches()
	}
}

func (c *Client) endWatches() {
	c.mu.Lock()
	c.draining = true
	c.ready = nil // All of them end.
	watches := make([]*Watch, 0, len(c.watches))
	for w := range c.watches {
		watches = append(watches, w)
	}
	c.mu.Unlock()
	for _, w := range watches {
		w.finish(ErrClosed)
	}
}

// Drained ends the client's watches, and waits until no watcher of the plugin runs, and
// returns nil; or until ctx is done, and returns its error. A call that was abandoned is
// not waited for. If the client was succeeded, it waits until its watches have ended.
func (c *Client) Drained(ctx context.Context) error {
	c.BeginDrain()
	succeeded := c.heir.Load() != nil
	return c.until(ctx, func() bool { return c.watching && !c.hangs() || succeeded && len(c.watches) > 0 })
}

// until waits while runs, which is called with c.mu held, returns true.
func (c *Client) until(ctx context.Context, runs func() bool) error {
	err := c.db.idle.Until(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ended.Load() || !runs()
	})
	if err != nil {
		return fmt.Errorf("store: drain client %q: %w", c.id, err)
	}
	return nil
}

// Close ends the client: its watches end, nobody waits for its validators any more, and
// every later call returns [ErrClosed]. The stores that it owns stay. It waits for a
// call of the plugin that runs until ctx is done; if that has not returned then, the
// error says so, and Leaks names it. With the context of a handler of the client itself
// it waits for nothing. No call of the plugin begins after it has returned. It can be
// called more than once.
func (c *Client) Close(ctx context.Context) error {
	c.BeginDrain()
	db := c.db
	inside := actor.Owner(ctx) == c.actor
	if heir := c.heir.Load(); heir != nil {
		if !inside {
			_ = c.Drained(ctx) // If it does not, the next wait says so.
		}
		c.endWatches()
		c.bequeath(heir)
	}
	c.dismiss()
	var err error
	if !inside {
		err = c.until(ctx, c.works)
	}
	db.mu.Lock()
	if c.ended.Swap(true) {
		db.mu.Unlock()
		return err
	}
	if db.clients[c.id] == c {
		delete(db.clients, c.id)
	}
	delete(db.aside, c)
	db.ending[c] = struct{}{}
	db.mu.Unlock()
	for _, s := range db.spaces() {
		s.mu.Lock()
		if s.validator != nil && s.validator.client == c {
			s.validator = nil
		}
		s.mu.Unlock()
	}
	c.end()
	if c.ownActor {
		c.actor.Retire()
	}
	db.left(c)
	db.idle.Tell()
	return err
}

// dismiss answers those who wait for a validator of the plugin, and all who come later.
func (c *Client) dismiss() {
	c.mu.Lock()
	c.leaving = true
	errands := c.errands
	c.errands = nil
	c.mu.Unlock()
	for _, e := range errands {
		e.verdict <- fmt.Errorf("%w: %w", errNoVerdict, errOwnerLeft)
	}
}

// Ended reports whether the client has left, and no call of the plugin runs any more.
func (c *Client) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended.Load() && c.running == nil
}

// left lets go of a client that has ended.
func (db *DB) left(c *Client) {
	if !c.Ended() {
		return
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	delete(db.ending, c)
}
