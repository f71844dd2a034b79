package events

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/plugbus/plugbus"
)

// A plugin is replaced in three steps: a client that is held joins beside the one of
// the plugin, and opens its subscriptions; it succeeds that one; and when that one has
// ended, it settles.

// Succeed puts c, which is held, in the place of old, in one step. Of each event one of
// the two has all deliveries: those up to this step are of the subscriptions of old,
// and those after it of the subscriptions of c, for which those that ask for history
// begin here. Old gets nothing new, and goes on with what it has, as after
// [Client.BeginDrain]; a subscription of it that still reads the history reads it to
// this step. C calls no handler before [Client.Settle].
//
// The error is [ErrClosed] if one of the two has ended or drains, and matches
// [plugbus.ErrInvalid] if c is not held for the place of old; nothing has changed then.
func (c *Client) Succeed(old *Client) error {
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !c.understudy || old == nil || old.bus != b || old.id != c.id || old.understudy:
		return fmt.Errorf("events: client %q succeeds another: it has to be made with ClientOptions.Held, once for each, and the other has to be of its id and bus: %w", c.id, plugbus.ErrInvalid)
	case c.draining || b.clients[c.id] != old || old.draining:
		return fmt.Errorf("events: client %q succeeds another: %w", c.id, ErrClosed)
	}
	c.understudy = false
	delete(b.aside, c)
	b.clients[c.id] = c
	old.heir = c
	b.aside[old] = struct{}{}
	// The new ones first, so that a log which both follow stays.
	for _, s := range slices.SortedFunc(maps.Keys(c.subs), func(a, b *Subscription) int { return cmp.Compare(a.id, b.id) }) {
		s.waits = false
		s.attach()
	}
	old.beginDrain()
	return nil
}

// Settle lets a client that was held call its handlers, when the one that it has
// succeeded has ended. Before Succeed, and the second time, it does nothing.
func (c *Client) Settle() {
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.understudy || !c.held.Swap(false) {
		return
	}
	for s := range c.subs {
		if s.opts.concurrent > 1 {
			s.mu.Lock()
			s.spawn()
			s.mu.Unlock()
		}
	}
	c.signal(nil)
}

// latest returns the client that has the place of c now. bus.mu is held.
func (c *Client) latest() *Client {
	for c.heir != nil {
		c = c.heir
	}
	return c
}

// yield ends the flow of new events to s, whose client was succeeded. If s reads the
// history, it reads it up to here. bus.mu is held.
func (s *Subscription) yield() {
	if !s.attached || s.reader == nil || s.client.bus.seq == 0 {
		s.detach()
		return
	}
	s.leaveBus()
	s.mu.Lock()
	s.welcome()
	s.mu.Unlock()
	s.leaveLog()
	s.reader.end = s.client.bus.seq
}

// finishing reports whether s still reads the history although nothing new comes to it.
// bus.mu is held.
func (s *Subscription) finishing() bool { return s.reader != nil && s.reader.end > 0 }
