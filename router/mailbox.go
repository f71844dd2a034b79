package router

import (
	"sync"

	"github.com/plugbus/plugbus"
)

// A share is what one sender has in a mailbox.
type share struct {
	count int
	bytes int64
}

// A state is what a mailbox is about.
type state uint8

const (
	open     state = iota
	draining       // takes nothing new
	closed
)

// A mailbox holds what waits for one plugin. It outlives the client that handles it
// only when another succeeds that one.
type mailbox struct {
	router *Router
	id     string

	mu      sync.Mutex // guards below
	state   state
	client  *Client   // who handles; nil when it is closed
	tag     any       // the Owner of the latest client
	held    bool      // the client calls no handler yet
	former  []*Client // that were succeeded, and have not ended
	edition uint64    // grows when the handlers change

	lanes   lanes // what the worker handles
	waiting int   // messages in lanes, and in those of concurrent routes
	bytes   int64
	shares  map[string]*share
	room    chan struct{} // closed when there may be room; nil if nobody waits

	running *delivery      // the first of a list
	counts  plugbus.Ledger // but for Waiting and Running
	active  int            // deliveries that run, and have no outcome
	reports int            // what the host hears just now
	late    uint64         // replies that came too late
}

// admission is what a mailbox says to a message.
type admission uint8

const (
	admitted   admission = iota
	full                 // no room at all
	shareFull            // the sender has its share
	closing              // the plugin leaves
	unhandled            // no handler
	unwelcome            // the handler is not for this sender
	isStream             // the handler replies with a stream
	isNoStream           // the handler replies once
)

// hasRoom says whether a message of size bytes from a sender fits. A sender that
// has nothing in the mailbox may put in one of any size. b.mu is held.
func (b *mailbox) hasRoom(size int, s *share) admission {
	o := &b.router.opts
	switch {
	case b.waiting >= o.MailboxMessages || b.waiting > 0 && b.bytes+int64(size) > o.MailboxBytes:
		return full
	case s.count == 0:
		return admitted
	case s.count >= max(1, o.MailboxMessages/4) || s.bytes+int64(size) > o.MailboxBytes/4:
		return shareFull
	}
	return admitted
}

// share returns what a sender has. b.mu is held.
func (b *mailbox) share(from string) *share {
	s := b.shares[from]
	if s == nil {
		if len(b.shares) >= 64 && len(b.shares) > 2*b.waiting {
			for id, other := range b.shares {
				if other.count == 0 {
					delete(b.shares, id)
				}
			}
		}
		if b.shares == nil {
			b.shares = map[string]*share{}
		}
		s = &share{}
		b.shares[from] = s
	}
	return s
}

// route returns the handler for a type, or nil. b.mu is held.
func (b *mailbox) route(name string) *Route {
	c := b.client
	if c == nil {
		return nil
	}
	if r := c.handlers[name]; r != nil {
		return r
	}
	return c.fallback
}

// A step is what has to follow when a mailbox has taken a message.
type step uint8

const (
	stepNone  step = iota
	stepWake       // wake the worker
	stepStart      // start a call of a concurrent handler
)

// enqueue takes a message, or says why not. The caller counts one for which there
// is no room. b.mu is held.
func (b *mailbox) enqueue(d *delivery) (why admission, next step) {
	if why := b.admit(d); why != admitted {
		return why, stepNone
	}
	if d.runner != b.client {
		d.accept = nil // It is of another guard.
	}
	from, size := d.msg.address.from, d.msg.Size()
	s := b.share(from)
	if why := b.hasRoom(size, s); why != admitted {
		return why, stepNone
	}
	b.counts.Offered++
	b.counts.Accepted++
	d.share = s
	r := d.route
	beside := r.beside()
	if beside && r.busy < r.opts.concurrent && r.lanes.count == 0 {
		r.busy++
		b.begin(d)
		return admitted, stepStart
	}
	s.count++
	s.bytes += int64(size)
	b.waiting++
	b.bytes += int64(size)
	d.phase = waiting
	d.delayed = d.msg.address.kind.awaited() &&
		(beside || b.waiting > 1 || b.active > 0 || b.client.actor.Running())
	b.lanesOf(d).push(d)
	if beside || b.held {
		return admitted, stepNone
	}
	return admitted, stepWake
}

// awaitRoom returns a channel that is closed when there may be room. b.mu is
// held.
func (b *mailbox) awaitRoom() chan struct{} {
	if b.room == nil { // All who wait share it, so that a crowd costs nothing.
		b.room = make(chan struct{})
	}
	return b.room
}

// count counts an outcome of the door.
func (b *mailbox) count(o plugbus.Outcome) {
	b.mu.Lock()
	gone := b.state == closed
	if !gone {
		b.counts.Count(o, 1)
	}
	b.mu.Unlock()
	if gone { // Nobody looks at its figures any more.
		r := b.router
		r.mu.Lock()
		defer r.mu.Unlock()
		r.past.Count(o, 1)
	}
}

// admit says whether the mailbox is for such a message, whatever its room. While it is
// held all messages wait together, for the worker to start them. b.mu is held.
func (b *mailbox) admit(d *delivery) admission {
	if b.state != open {
		return closing
	}
	why := b.match(d)
	if why == admitted && b.held {
		d.detach()
	}
	return why
}

// look says whether the mailbox is for messages of an address, whatever its room.
func (b *mailbox) look(a *address) admission {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admit(&delivery{msg: Message{address: a}})
}

// match finds the handler of a message. b.mu is held.
func (b *mailbox) match(d *delivery) admission {
	a := d.msg.address
	if a.kind != KindPublish && (d.route == nil || d.edition != b.edition) {
		d.route, d.edition = b.route(a.name), b.edition
	}
	for d.route != nil && d.route.removed && d.route.heir != nil {
		d.route = d.route.heir // The plugin was replaced since the sender looked.
	}
	switch r := d.route; {
	case r == nil || r.removed:
		return unhandled
	case !r.opts.senders.admits(a.from):
		return unwelcome
	case r.stream != nil && a.kind != KindStream:
		return isStream
	case r.stream == nil && a.kind == KindStream:
		return isNoStream
	}
	return admitted
}

// lanesOf returns where a message waits. b.mu is held.
func (b *mailbox) lanesOf(d *delivery) *lanes {
	if d.route.beside() {
		return &d.route.lanes
	}
	return &b.lanes
}

// leave undoes what enqueue did to the figures of what waits. b.mu is held.
func (b *mailbox) leave(d *delivery) {
	d.share.count--
	d.share.bytes -= int64(d.msg.Size())
	b.waiting--
	b.bytes -= int64(d.msg.Size())
	b.welcome()
}

// begin notes that a delivery runs. b.mu is held.
func (b *mailbox) begin(d *delivery) {
	d.phase, d.runner = running, b.client
	if d.delayed {
		d.began = b.router.clock.Now()
	}
	d.mark()
	d.open()
	d.prev, d.next = nil, b.running
	if d.next != nil {
		d.next.prev = d
	}
	b.running = d
	b.active++
	d.runner.active++
}

// end undoes begin. b.mu is held.
func (b *mailbox) end(d *delivery) {
	if d.prev == nil {
		b.running = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
}

// rests notes that a delivery which runs has its outcome. b.mu is held.
func (b *mailbox) rests(d *delivery) {
	b.active--
	d.runner.active--
}

// next takes the next message for the worker of c, or returns nil. A message for a
// concurrent handler, which a mailbox that was held may have, is set aside: the
// caller starts it.
func (b *mailbox) next(c *Client) (d *delivery, aside bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.client == c && !b.held {
		d := b.lanes.pop()
		if d == nil {
			return nil, false
		}
		if d.route == nil || d.route.removed {
			b.resolve(d)
		}
		r := d.route
		if r.beside() {
			if r.busy >= r.opts.concurrent {
				r.lanes.push(d)
				continue
			}
			r.busy++
		}
		b.leave(d)
		b.begin(d)
		return d, r.beside()
	}
	return nil, false
}

// nextBeside is next for a call of a concurrent route that has ended. It gives
// up the call's place if there is nothing to do.
func (b *mailbox) nextBeside(r *Route) *delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := r.lanes.pop()
	if d == nil {
		r.busy--
		return nil
	}
	b.leave(d)
	b.begin(d)
	return d
}

// allLanes returns everywhere where messages wait. b.mu is held.
func (b *mailbox) allLanes() []*lanes {
	all := []*lanes{&b.lanes}
	if b.client != nil {
		for _, r := range b.client.everyRoute() {
			all = append(all, &r.lanes)
		}
	}
	return all
}

// cancel takes messages that wait out of the mailbox, for a reason that it tells
// their senders. The caller lets go of them, by router.undone. b.mu is held.
func (b *mailbox) cancel(why error, which func(*delivery) bool) (cut []*delivery) {
	for _, l := range b.allLanes() {
		for _, first := range l.first {
			for d := first; d != nil; {
				next := d.next
				if which(d) {
					b.drop(d, l, plugbus.Cancelled)
					b.router.bury(d, plugbus.Cancelled, why)
					d.tell(Response{}, d.lost(plugbus.Cancelled, why, false))
					cut = append(cut, d)
				}
				d = next
			}
		}
	}
	b.settled()
	return cut
}

// drop ends a delivery that waits. b.mu is held.
func (b *mailbox) drop(d *delivery, from *lanes, o plugbus.Outcome) {
	from.remove(d)
	b.leave(d)
	d.phase = over
	b.counts.Count(o, 1)
	if d.observes() {
		d.observe(o, "")
	}
}

// abandon gives a delivery that runs its outcome, and its sender an error. The
// caller ends its context. b.mu is held.
func (b *mailbox) abandon(d *delivery, why error) {
	d.abandoned = true
	b.rests(d)
	b.counts.Count(plugbus.Abandoned, 1)
	if d.observes() {
		d.observe(plugbus.Abandoned, "")
	}
	d.tell(Response{}, d.lost(plugbus.Abandoned, why, true))
	b.settled()
}

// shut closes a mailbox whose client ends, and returns what it still had. It stays
// known for as long as a handler runs. The router's lock and b.mu are held.
func (b *mailbox) shut() (cut []*delivery) {
	cut = b.cancel(ErrTargetLeft, func(*delivery) bool { return true })
	b.state, b.client = closed, nil
	b.welcome()
	delete(b.router.boxes, b.id)
	b.router.topology.Add(1)
	if b.running != nil {
		b.router.gone[b] = struct{}{}
		return cut
	}
	b.retire()
	return cut
}

// retire hands the figures of a closed mailbox to the router. The router's lock
// and b.mu are held.
func (b *mailbox) retire() {
	b.router.past.Add(b.counts)
	b.router.late += b.late
	b.counts, b.late = plugbus.Ledger{}, 0
	delete(b.router.gone, b)
}

// runs returns how many calls of handlers of c have not returned. b.mu is held.
func (b *mailbox) runs(c *Client) (n int) {
	for d := b.running; d != nil; d = d.next {
		if d.runner == c {
			n++
		}
	}
	return n
}

// welcome tells those who wait for room to look again. b.mu is held.
func (b *mailbox) welcome() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// settled notes that the figures may have become zero. b.mu is held.
func (b *mailbox) settled() {
	if b.reports > 0 {
		return
	}
	if b.client != nil && b.waiting == 0 {
		b.client.settled()
	}
	for _, c := range b.former {
		c.settled()
	}
}

// settled ends the draining of a client for which nothing waits, if nothing of it runs.
// The lock of the mailbox is held.
func (c *Client) settled() {
	if c.active == 0 && c.drained != nil && !isClosed(c.drained) {
		close(c.drained)
	}
}

// ledger returns the figures of this moment. b.mu is held.
func (b *mailbox) ledger() plugbus.Ledger {
	l := b.counts
	l.Waiting, l.Running = uint64(b.waiting), uint64(b.active)
	return l
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
