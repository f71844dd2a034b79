package router

import "context"

// A plugin is replaced in three steps: its client holds the mail and hands it over;
// the next client with the id takes the mailbox; and when that has set its handlers,
// it settles.

// Hold keeps the messages that wait and those that come for the next client with
// this id, which Handover makes room for. What runs goes on; Drained waits for it.
func (c *Client) Hold() {
	b := c.box
	b.mu.Lock()
	defer b.mu.Unlock()
	c.beginDrain(held)
}

// Handover ends a client that holds its mail, and leaves the mailbox to the next
// client with this id. It waits for what runs until ctx is done, and then
// abandons it, with a [*CloseError]. If no such client comes, [Router.Drop] cancels
// what waits.
func (c *Client) Handover(ctx context.Context) error {
	c.Hold()
	return c.close(ctx, true)
}

// Settle lets a client that took over a mailbox begin with the mail that waits,
// when it has set its handlers. Until then it handles nothing.
func (c *Client) Settle() {
	r, b := c.router, c.box
	r.mu.Lock()
	b.mu.Lock()
	wake := b.client == c && b.state == held
	if wake {
		b.settle()
		r.topology.Add(1)
	}
	b.mu.Unlock()
	r.mu.Unlock()
	if wake {
		c.signal(nil)
	}
}

// Drop closes a mailbox that was handed over and that nobody has taken.
func (r *Router) Drop(id string) {
	r.mu.Lock()
	b := r.boxes[id]
	if b == nil || b.owner() != nil {
		r.mu.Unlock()
		return
	}
	b.mu.Lock()
	cut := b.shut()
	b.mu.Unlock()
	r.mu.Unlock()
	r.undone(cut)
}

// clear takes all handlers out of the mailbox, or leaves those of topics as ghosts,
// so that what is published in the meantime is not lost. The router's lock and b.mu
// are held.
func (b *mailbox) clear(handover bool) {
	for _, route := range b.handlers {
		b.forget(route)
	}
	if b.fallback != nil {
		b.forget(b.fallback)
	}
	for route := range b.client.topics {
		b.forget(route)
		if handover {
			if b.ghosts == nil {
				b.ghosts = map[*Route]struct{}{}
			}
			b.ghosts[route] = struct{}{}
			b.router.topics.Add(route.pattern, route)
		}
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

// predecessor returns the first handler of the same topics that was left behind
// for r to take its place. b.mu is held.
func (b *mailbox) predecessor(r *Route) (first *Route) {
	for ghost := range b.ghosts {
		if ghost.pattern == r.pattern && (first == nil || ghost.number < first.number) {
			first = ghost
		}
	}
	return first
}

// settle opens a mailbox that was handed over, for its new client. Topic handlers
// of the old one that the new one has not set again go. The router's lock and b.mu
// are held.
func (b *mailbox) settle() {
	b.reroute() // Should it be the client that held it.
	b.state, b.drained = open, nil
	for r := range b.ghosts {
		b.exorcise(r)
	}
}

// exorcise takes the topic handler of a client that has left out of the index.
// The router's lock and b.mu are held.
func (b *mailbox) exorcise(r *Route) {
	b.router.topics.Remove(r.pattern, r)
	b.router.topology.Add(1)
	delete(b.ghosts, r)
	r.removed = true
}
