package router

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/plugbus/plugbus"
)

// A plugin is replaced in three steps: a client that is held joins beside the one of
// the plugin, and sets its handlers; it succeeds that one; and when that one has ended,
// it settles.

// Succeed puts c, which is held, in the place of old, in one step. What waits in the
// mailbox and what comes is for c from then on, and for its handlers, of topics too;
// what runs goes on at old, as after [Client.BeginDrain]. A message that waits and whose
// type c does not handle will be undeliverable; so will a publication for a handler of
// topics of which c has none in its place: of handlers of the same pattern the first
// follows on the first, and so on. C calls no handler before [Client.Settle].
//
// The error is [ErrClosed] if one of the two has ended or drains, and matches
// [plugbus.ErrInvalid] if c is not held for the place of old; nothing has changed then.
func (c *Client) Succeed(old *Client) error {
	r, b := c.router, c.box
	r.mu.Lock()
	defer r.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !c.understudy || old == nil || old.box != b || old.understudy:
		return fmt.Errorf("router: client %q succeeds another: it has to be made with ClientOptions.Held, once for each, and the other has to be of its id and router: %w", c.id, plugbus.ErrInvalid)
	case c.drained != nil || c.ended.Load() || b.client != old || b.state != open:
		return fmt.Errorf("router: client %q succeeds another: %w", c.id, ErrClosed)
	}
	b.reroute()
	old.bequeath(c)
	c.understudy = false
	delete(r.aside, c)
	b.client, b.tag, b.held = c, c.owner, true
	b.former = append(b.former, old)
	b.edition++
	r.aside[old] = struct{}{}
	r.topology.Add(1)
	old.beginDrain()
	return nil
}

// Settle lets a client that was held call its handlers, when the one that it has
// succeeded has ended. Before Succeed, and the second time, it does nothing.
func (c *Client) Settle() {
	b := c.box
	b.mu.Lock()
	settles := b.client == c && b.held
	if settles {
		b.held = false
	}
	b.mu.Unlock()
	if settles {
		c.signal(nil)
	}
}

// reroute puts everything that waits where the next client of the mailbox finds
// it, whatever that handles. b.mu is held.
func (b *mailbox) reroute() {
	for _, l := range b.allLanes() {
		if l == &b.lanes {
			continue
		}
		for d := l.pop(); d != nil; d = l.pop() {
			b.lanes.push(d)
		}
	}
	for _, first := range b.lanes.first {
		for d := first; d != nil; d = d.next {
			d.detach()
			d.accept = nil // It is of the guard of the client that leaves.
		}
	}
}

// detach takes a delivery away from its handler, since another may come in its
// place. The mailbox's lock is held.
func (d *delivery) detach() {
	if d.msg.address.kind == KindPublish && d.route != nil {
		d.meant = d.route
	}
	d.route = nil
}

// resolve looks for the handler of a message that came when the mailbox was held,
// or whose handler is gone. It leaves none if the handler is of the other kind or
// not for this sender. b.mu is held.
func (b *mailbox) resolve(d *delivery) {
	d.route = d.meant
	if b.match(d) != admitted {
		d.route = nil
	}
}

// bequeath takes the handlers of c away, and puts those of its heir in their place. The
// locks of the router and the mailbox are held.
func (c *Client) bequeath(heir *Client) {
	index, next := &c.router.topics, heir.inOrder()
	for _, route := range next {
		index.Add(route.pattern, route)
	}
	for _, route := range c.inOrder() {
		if i := slices.IndexFunc(next, func(n *Route) bool { return n.pattern == route.pattern }); i >= 0 {
			route.heir = next[i]
			next = slices.Delete(next, i, i+1)
		}
	}
	c.clear()
}

// inOrder returns the handlers of topics in the order in which they were set. The lock
// of the mailbox is held.
func (c *Client) inOrder() []*Route {
	return slices.SortedFunc(maps.Keys(c.topics), func(a, b *Route) int { return cmp.Compare(a.number, b.number) })
}
