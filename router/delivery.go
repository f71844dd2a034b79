package router

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
)

// A phase is where a delivery is.
type phase uint8

const (
	waiting phase = iota + 1
	running
	over
)

// A delivery is one message on its way to one recipient, and back to its sender
// if that waits. It is taken from its router's pool, and goes back there when all
// who hold it have let go: the mailbox, and the sender if it waits.
type delivery struct {
	pool    *sync.Pool
	msg     Message
	from    *Client // the sender
	box     *mailbox
	runner  *Client // who handles it, or did so at the door
	route   *Route  // nil until a held mailbox has somebody to handle it
	meant   *Route  // the handler of a topic that it was for, if that has left
	edition uint64  // of the mailbox, for which route was looked up
	cause   plugbus.Chain

	permitted uint64          // the version of the sender's guard that allowed it
	accept    *plugbus.Permit // of runner, at the door; nil if nobody handled then
	expires   int64           // unix nanoseconds; 0 for never
	deadline  time.Time
	chosen    bool      // the sender chose the deadline
	delayed   bool      // the handler is busy with something else
	began     time.Time // when the handler was called, if delayed
	started   time.Time // the same, if the host observes
	holders   atomic.Int32

	// Under the mailbox's lock.
	next, prev *delivery // in a lane, or among those that run
	share      *share
	phase      phase
	gone       bool         // the sender no longer waits
	abandoned  bool         // it has its outcome, and the handler has not returned
	looks      int          // of the watch for slow handlers
	ctx        *callContext // of the handler; nil if it needs none of its own
	limit      *limit       // of the handler's own time; nil if it has none

	// Written before done gets its token, and read after.
	reply Response
	err   error
	done  chan struct{}

	clock  *time.Timer // of the sender
	stream *stream
}

func (r *Router) newDelivery(holders int32) *delivery {
	d, reused := r.deliveries.Get().(*delivery)
	if !reused {
		d = &delivery{pool: &r.deliveries, done: make(chan struct{}, 1)}
	}
	d.holders.Store(holders)
	return d
}

// release lets go of a delivery.
func (d *delivery) release() {
	if d.holders.Add(-1) > 0 {
		return
	}
	*d = delivery{pool: d.pool, done: d.done, clock: d.clock}
	d.pool.Put(d)
}

// open makes the context of the handler, if it needs one of its own. The
// mailbox's lock is held.
func (d *delivery) open() {
	if d.route == nil || !d.msg.address.kind.awaited() && d.route.opts.timeout == 0 {
		return
	}
	deadline, chosen := d.deadline, d.chosen
	if limit := d.route.opts.timeout; limit > 0 {
		own := d.from.router.clock.Now().Add(limit)
		if deadline.IsZero() || own.Before(deadline) {
			deadline, chosen = own, true
		}
	}
	d.ctx = d.runner.newContext(d.msg.meta.chain, d.route.place(), deadline, chosen)
}

// excused reports whether the handler is not to blame for the end of its time: the
// sender chose that, or it had less than half of the time that there is by default,
// since the message had to wait; or it waits for another plugin itself.
func (d *delivery) excused(why error) bool {
	sent, began := d.msg.Time(), d.began
	if began.IsZero() {
		began = sent
	}
	switch {
	case why == ErrTimedOut: //nolint:errorlint // They are never wrapped.
		return false
	case d.ctx != nil && d.ctx.waits.Load() > 0:
		return true
	case why == ErrIdle: //nolint:errorlint // The same.
		s := d.stream
		return s.chosen || s.first.Load() == 0 && began.Sub(sent) > s.idle/2
	}
	return d.chosen || d.deadline.Sub(began) < d.from.router.opts.RequestTimeout/2
}

// A limit ends the time of one call of a handler.
type limit struct {
	timer *time.Timer
	d     *delivery // nil when the call has ended; under the mailbox's lock
}

// stop ends the limit, nil included. The mailbox's lock is held.
func (l *limit) stop() {
	if l != nil {
		l.timer.Stop()
		l.d = nil
	}
}

// lost returns the error that the sender of an accepted message gets instead of
// a reply.
func (d *delivery) lost(o plugbus.Outcome, why error, started bool) error {
	a := d.msg.address
	return &DeliveryError{
		From: a.from, To: a.to, Type: a.name, Outcome: o, Started: started,
		After: d.from.router.clock.Now().Sub(d.msg.Time()).Round(time.Microsecond), Err: why,
	}
}

// site returns where the plugin set the handler, if there is one.
func (d *delivery) site() string {
	if d.route == nil {
		return ""
	}
	return d.route.site
}

// failure returns what the host is to hear of a delivery, if it wants to: the
// caller passes that to report. Until then the mailbox is not at rest, so that
// whoever waits for that finds what the host noted. b.mu is held.
func (b *mailbox) failure(d *delivery, o plugbus.Outcome, why error) Failure {
	if b.router.opts.OnFailure == nil {
		return Failure{}
	}
	b.reports++
	a := d.msg.address
	return Failure{Plugin: a.to, Owner: d.runner.owner, From: a.from, Sender: d.from.owner, Type: a.name, Kind: a.kind, ID: d.msg.ID(), Site: d.site(), Outcome: o, Err: why}
}

// reported notes that the host has heard of a failure or a request.
func (b *mailbox) reported() {
	b.mu.Lock()
	b.reports--
	b.settled()
	b.mu.Unlock()
	b.router.idle.Tell()
}

// tell gives the sender its answer, if it still waits. The mailbox's lock is
// held.
func (d *delivery) tell(reply Response, err error) {
	if !d.msg.address.kind.awaited() || d.gone {
		return
	}
	d.gone = true // There is one answer.
	d.reply, d.err = reply, err
	d.done <- struct{}{}
}
