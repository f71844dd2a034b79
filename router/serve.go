package router

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/panics"
)

// workBudget is how many messages a client handles before other sources of its
// actor get their turn.
const workBudget = 128

// A source is a client as its actor sees it.
type source Client

// Work handles messages that wait.
func (s *source) Work() (more bool) { return (*Client)(s).work() }

func (c *Client) work() (more bool) {
	for range workBudget {
		d, aside := c.box.next(c)
		switch {
		case d == nil:
			c.router.idle.Tell()
			return false
		case aside:
			c.startBeside(d)
		default:
			c.serve(d)
		}
	}
	return true
}

// startBeside starts a delivery of a concurrent route, and then others while
// there are any.
func (c *Client) startBeside(d *delivery) {
	route := d.route
	c.router.actors.Go(func() { c.calls(d, route) }) // Ends with what waits for the route.
}

func (c *Client) calls(d *delivery, route *Route) {
	orderly := false
	defer func() {
		if orderly {
			return
		}
		// The handler ended this goroutine: go on with another.
		if next := c.box.nextBeside(route); next != nil {
			c.startBeside(next)
		}
		c.router.idle.Tell()
	}()
	for ; d != nil; d = c.box.nextBeside(route) {
		c.serve(d)
	}
	orderly = true
	c.router.idle.Tell()
}

// inline handles a message on its sender's stack, if its recipient has nothing
// else to do.
func (c *Client) inline(ctx context.Context, w *way, d *delivery) bool {
	b, runner := w.box, w.peer
	if !runner.actor.Claim() {
		return false
	}
	defer c.router.idle.Tell()
	defer runner.actor.Release() // Also if the handler ends this goroutine.
	b.mu.Lock()
	if b.client != runner || b.waiting > 0 || b.admit(d) != admitted || d.route == nil || d.route.beside() {
		b.mu.Unlock()
		return false
	}
	b.counts.Offered++
	b.counts.Accepted++
	if d.observes() {
		c.observeAct(0, w.address, &d.msg)
	}
	b.begin(d)
	d.ctx.caller, d.ctx.until = ctx, d.deadline
	b.mu.Unlock()
	c.sent.Add(1)
	runner.serve(d) //nolint:contextcheck // The delivery has it.
	return true
}

// A verdict is how a delivery ended.
type verdict struct {
	outcome plugbus.Outcome
	reply   Response
	err     error                // what the handler returned, or why there is no reply
	why     error                // the same, with methods of our own
	remote  *plugbus.RemoteError // what the sender learns of the handler's failure
	started bool                 // the handler was called, although the outcome does not say so
	left    bool                 // the sender had gone before
}

// serve handles one delivery, whatever its handler does, and the methods of the
// error that it returns.
func (c *Client) serve(d *delivery) {
	c.router.armWatch()
	if d.route.beside() {
		c.actor.Enter(d.msg.meta.chain)
	} else {
		c.actor.Serve(d.msg.meta.chain)
	}
	orderly := false
	defer func() {
		if !orderly {
			c.finish(d, c.failure(failed(recover())))
		}
	}()
	v := c.decide(d)
	orderly = true
	c.finish(d, v)
}

// failed returns the error of a handler that did not return, from what its
// deferred function recovered.
func failed(recovered any) error {
	if recovered == nil {
		return ErrGoexit
	}
	return &PanicError{What: "the handler", Value: panics.Text(recovered), Stack: string(debug.Stack())}
}

// decide decides about one delivery, and calls the handler.
func (c *Client) decide(d *delivery) verdict {
	if d.expires != 0 && c.router.clock.Now().UnixNano() >= d.expires {
		return unserved(plugbus.Expired, context.DeadlineExceeded)
	}
	if d.route == nil {
		return unserved(plugbus.Undeliverable, ErrNoHandler)
	}
	accept, err := c.permitted(d)
	if err != nil {
		return unserved(plugbus.Undeliverable, err)
	}
	var ctx context.Context
	switch {
	case d.ctx != nil:
		ctx = d.ctx
		if d.route.opts.timeout > 0 {
			c.limit(d)
		}
	case d.route.beside():
		ctx = c.actor.NewContextBeside(c.session, d.msg.meta.chain, d.route)
	default:
		ctx = c.contextFor(d.msg.meta.chain)
	}
	if c.ended.Load() { // Since the delivery began; no call starts now.
		return unserved(plugbus.Cancelled, ErrTargetLeft)
	}
	var reply any
	switch r := d.route; {
	case r.topic != nil:
		err = r.topic(ctx, d.msg)
	case r.stream != nil:
		var fault error
		if fault, err = d.stream.run(ctx, d); fault != nil {
			return c.faulty(fault)
		}
	default:
		reply, err = r.single(ctx, d.msg)
	}
	if err != nil {
		return c.returned(err)
	}
	if d.msg.address.kind != KindSend {
		return verdict{outcome: plugbus.Handled}
	}
	response, err := c.reply(d, accept, reply, 0)
	if err != nil {
		return c.failure(err)
	}
	return verdict{outcome: plugbus.Handled, reply: response}
}

// faulty is the verdict about a stream that ended for a reason of its own.
func (c *Client) faulty(fault error) verdict {
	if revoked, ok := fault.(*plugbus.DeniedError); ok { //nolint:errorlint // It is never wrapped.
		v := unserved(plugbus.Undeliverable, revoked)
		v.started = true
		return v
	}
	return c.failure(fault)
}

// unserved is the verdict about a delivery whose handler was not called.
func unserved(o plugbus.Outcome, why error) verdict { return verdict{outcome: o, err: why, why: why} }

// permitted asks for both rights as they are now, unless they are as they were when
// it asked last, or at the door, and returns what the recipient may reply.
func (c *Client) permitted(d *delivery) (accept *plugbus.Permit, err error) {
	a := d.msg.address
	give, take, from := plugbus.VerbSend, plugbus.VerbReceive, a.from
	object := a.to
	if a.kind == KindPublish {
		give, take, object, from = plugbus.VerbPublish, plugbus.VerbConsume, a.name, a.name
	}
	if version := d.from.guard.Version(); version != d.permitted {
		p := d.from.guard.PermitVia(d.cause, give, object)
		if !p.Allowed() {
			return nil, &plugbus.DeniedError{Plugin: a.from, Verb: give, Object: object, Reason: p.Reason, Hint: "it was allowed when the message was sent"}
		}
		d.permitted = p.Version
	}
	if d.accept != nil && d.accept.Version == c.guard.Version() {
		return d.accept, nil
	}
	accept = c.guard.PermitVia(d.cause, take, from)
	if !accept.Allowed() {
		return nil, &plugbus.DeniedError{Plugin: c.id, Verb: take, Object: from, Reason: accept.Reason, Hint: "it was allowed when the message was sent"}
	}
	d.accept = accept
	return accept, nil
}

// finish ends a delivery, and gives its sender the answer. If it was abandoned
// before, what the handler returned is thrown away. Nothing in it runs a plugin's
// code, and the host's comes last.
func (c *Client) finish(d *delivery, v verdict) {
	b, r := d.box, c.router
	var answer error
	if v.err != nil && d.msg.address.kind.awaited() {
		answer = c.answer(d, &v)
	}
	if d.route.beside() { // Before anybody hears that it has ended.
		c.actor.Leave(d.msg.meta.chain)
	} else {
		c.actor.Serve(plugbus.Chain{})
	}
	b.mu.Lock()
	b.end(d)
	d.limit.stop()
	d.phase = over
	v.left = d.gone
	first := !d.abandoned
	if first {
		b.rests(d)
		b.counts.Count(v.outcome, 1)
		if d.observes() {
			d.observe(v.outcome, reasonOf(v.outcome, v.err))
		}
		if v.outcome != plugbus.Handled {
			r.bury(d, v.outcome, v.why) // Under the lock, so that nobody finds us idle before.
		}
	}
	if d.msg.address.kind == KindSend && d.gone {
		b.late++
	}
	d.tell(v.reply, answer)
	var f Failure
	if first && (v.outcome == plugbus.Failed || v.outcome == plugbus.Undeliverable) {
		f = b.failure(d, v.outcome, v.err)
		f.Blameless = v.outcome == plugbus.Undeliverable || !v.blames()
	}
	var s *Served
	if first {
		s = d.served(&v)
	}
	b.settled()
	retire := b.state == closed && b.running == nil
	b.mu.Unlock()
	if d.ctx != nil {
		d.ctx.end(context.Canceled)
	}
	d.release()
	if retire {
		r.retire(b)
	}
	b.report(f, s)
}

// retire lets go of a closed mailbox when its last handler has returned.
func (r *Router) retire(b *mailbox) {
	r.mu.Lock()
	b.mu.Lock()
	if b.state == closed && b.running == nil {
		b.retire()
	}
	b.mu.Unlock()
	r.mu.Unlock()
	r.idle.Tell()
}

// limit ends the handler's own time.
func (c *Client) limit(d *delivery) {
	b, l := d.box, &limit{d: d}
	b.mu.Lock()
	defer b.mu.Unlock()
	d.limit = l
	l.timer = time.AfterFunc(d.route.opts.timeout, func() { c.timeOut(b, l) })
}

func (c *Client) timeOut(b *mailbox, l *limit) {
	b.mu.Lock()
	d := l.d
	if d == nil || d.abandoned {
		b.mu.Unlock()
		return
	}
	v := unserved(plugbus.Abandoned, ErrTimedOut)
	ctx, f, s := d.ctx, b.failure(d, v.outcome, v.err), d.served(&v)
	c.router.bury(d, v.outcome, v.why)
	b.abandon(d, ErrTimedOut)
	b.mu.Unlock()
	ctx.end(context.DeadlineExceeded)
	c.router.idle.Tell()
	b.report(f, s)
}

// report tells the host of a failure, and of a request to a measured handler, if
// there is one of either.
func (b *mailbox) report(f Failure, s *Served) {
	r := b.router
	if f.Outcome != 0 {
		defer b.reported()
		r.opts.OnFailure(f)
	}
	if s != nil {
		defer b.reported()
		r.opts.OnServed(*s)
	}
}
