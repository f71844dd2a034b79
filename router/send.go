package router

import (
	"context"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/door"
)

// Send sends a message to a plugin, and waits for the reply. It returns when
// there is one, when ctx is done, or when the time is over: that is the deadline
// of ctx, or [Timeout], or else 30 seconds. The router keeps a copy of data, so
// the caller may go on using it.
//
// The error is a [*plugbus.RemoteError] if the handler returned an error or
// panicked; a [*plugbus.DeniedError] if the door refused, also for a request that
// would wait for itself (ReasonCycle); a [*SendError] that matches
// [ErrUnknownTarget], [ErrNoHandler] or [ErrQueueFull]; a [*DeliveryError] if the
// message was accepted and has no reply; [ErrClosed]; that of ctx, if it was done
// before; or an [*OptionError]. For a nil ctx it matches [plugbus.ErrInvalid].
func (c *Client) Send(ctx context.Context, to, typ string, data any, options ...SendOption) (Response, error) {
	if ctx == nil {
		return Response{}, c.noContext(KindSend, typ)
	}
	o := &noOptions
	if len(options) > 0 {
		var err error
		if o, err = c.options(KindSend, typ, options); err != nil {
			return Response{}, err
		}
	}
	if c.router.middleware.Load() != nil {
		return c.sendThrough(ctx, KindSend, to, typ, data, o)
	}
	return c.request(ctx, to, typ, data, o)
}

// Post sends a message to a plugin, and does not wait for its handler. The error
// says why the message was not accepted, as that of [Client.Send] does. What
// becomes of it after that is for the host to see: in the ledger, and among the
// dead letters if it is not handled.
func (c *Client) Post(ctx context.Context, to, typ string, data any, options ...SendOption) error {
	if ctx == nil {
		return c.noContext(KindPost, typ)
	}
	o := &noOptions
	if len(options) > 0 {
		var err error
		if o, err = c.options(KindPost, typ, options); err != nil {
			return err
		}
	}
	if c.router.middleware.Load() != nil {
		_, err := c.sendThrough(ctx, KindPost, to, typ, data, o)
		return err
	}
	return c.post(ctx, to, typ, data, o)
}

func (c *Client) noContext(kind Kind, typ string) error {
	return fmt.Errorf("plugin %q: %v %q: the context is nil; pass on the one that you were given, or context.Background(): %w", c.id, kind, plugbus.CutText(typ), plugbus.ErrInvalid)
}

// options is apart from the callers so that a call without options allocates
// none.
func (c *Client) options(kind Kind, typ string, options []SendOption) (*sendOptions, error) {
	o := &sendOptions{}
	if err := o.apply(kind, options); err != nil {
		return nil, fmt.Errorf("plugin %q: %v %q: %w", c.id, kind, plugbus.CutText(typ), err)
	}
	return o, nil
}

// request sends and waits.
func (c *Client) request(ctx context.Context, to, typ string, data any, o *sendOptions) (Response, error) {
	d := c.router.newDelivery(2)
	if err := c.dispatch(ctx, KindSend, to, typ, data, o, d); err != nil {
		return Response{}, err
	}
	return c.await(ctx, d)
}

func (c *Client) post(ctx context.Context, to, typ string, data any, o *sendOptions) error {
	return c.dispatch(ctx, KindPost, to, typ, data, o, c.router.newDelivery(1))
}

// dispatch checks a message at the door, and puts it into the recipient's
// mailbox. If it returns an error, it has let go of the delivery.
func (c *Client) dispatch(ctx context.Context, kind Kind, to, typ string, data any, o *sendOptions, d *delivery) error {
	w, err := c.admit(ctx, kind, to, typ, data, o, d)
	if err != nil {
		d.holders.Store(1)
		d.release()
		return err
	}
	if w.permit.Inline && kind == KindSend && w.peer != nil && c.inline(ctx, w, d) {
		return nil
	}
	if err := c.enqueue(ctx, w, o, d); err != nil {
		d.holders.Store(1)
		d.release()
		return err
	}
	c.sent.Add(1)
	return nil
}

// cause returns what led to an act with ctx.
func (c *Client) cause(ctx context.Context) plugbus.Chain {
	return c.actor.Cause(ctx)
}

// led is cause, but for a message that is sent again, to which leads what did so
// then.
func (c *Client) led(ctx context.Context, o *sendOptions) plugbus.Chain {
	if o.again != nil {
		return *o.again
	}
	return c.cause(ctx)
}

// admit is the door: one check of one message. It fills in the delivery that was
// checked.
func (c *Client) admit(ctx context.Context, kind Kind, to, typ string, data any, o *sendOptions, d *delivery) (*way, error) {
	if c.ended.Load() {
		return nil, c.closedError("sends", typ)
	}
	if c.router.closed.Load() {
		return nil, fmt.Errorf("plugin %q sends %q: %w", c.id, plugbus.CutText(typ), ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("plugin %q sends %q to %q: %w", c.id, plugbus.CutText(typ), plugbus.CutText(to), err)
	}
	cause := c.led(ctx, o)
	w := c.way(kind, to, typ, cause)
	act := &door.Act{Plugin: c.id, Verb: plugbus.VerbSend, Object: to, Permit: w.permit, Cause: cause, MaxDepth: c.router.opts.MaxDepth}
	if w.permit.Allowed() {
		if err := c.precheck(ctx, w, o, act, d); err != nil {
			return nil, err
		}
	}
	parcel := &door.Parcel{Data: data, Headers: o.headers, Texts: [2]string{o.correlation, o.clientID}}
	now, refusal := door.Check(c.router.clock, act, parcel)
	if refusal != nil {
		return nil, c.refuse(kind, typ, *refusal)
	}
	d.msg = Message{
		frozen: parcel.Data, seq: c.router.seq.Add(1), nanos: now.UnixNano(), address: w.address,
		meta: d.msg.meta.with(parcel.Headers, o), size: int32(min(parcel.Size, 1<<31-1)), number: 1, priority: o.priority,
	}
	d.from, d.cause, d.box, d.permitted, d.runner, d.accept = c, cause, w.box, w.permit.Version, w.peer, w.accept
	d.expires = o.expiry(now)
	if kind.awaited() {
		c.setDeadline(ctx, kind, o, d, now)
	}
	return w, nil
}

// setDeadline sets until when the sender waits.
func (c *Client) setDeadline(ctx context.Context, kind Kind, o *sendOptions, d *delivery, now time.Time) {
	deadline, limited := ctx.Deadline()
	d.chosen = limited || o.timeout > 0
	if limited && o.timeout == 0 {
		if own := callOf(ctx); own != nil && !own.chosen && deadline.Equal(own.deadline) {
			d.chosen = false // It is a default, handed on.
		}
	}
	switch {
	case o.timeout > 0:
		if own := now.Add(o.timeout); !limited || own.Before(deadline) {
			deadline = own
		}
	case !limited && kind == KindSend:
		deadline = now.Add(c.router.opts.RequestTimeout)
	}
	if !o.by.IsZero() && (deadline.IsZero() || o.by.Before(deadline)) {
		deadline = o.by
	}
	d.deadline = deadline
}

// precheck refuses what only the router can know to be wrong with a message that
// the policy allows, before it costs anything.
func (c *Client) precheck(ctx context.Context, w *way, o *sendOptions, act *door.Act, d *delivery) error {
	a := w.address
	refusal := plugbus.Refusal{Verb: plugbus.VerbSend, Object: a.to, Chain: act.Cause}
	if w.invalid != nil {
		refusal.Reason, refusal.Cause = plugbus.ReasonInvalidName, w.invalid
		return c.refuse(a.kind, a.name, refusal)
	}
	if o.priority > w.permit.Priority {
		refusal.Reason = plugbus.ReasonPriorityNotGranted
		refusal.Hint = fmt.Sprintf("the plugin may send with the priority %v at most, not %v", w.permit.Priority, o.priority)
		return c.refuse(a.kind, a.name, refusal)
	}
	if act.Cause.Depth() >= act.MaxDepth {
		return nil // Which the door refuses.
	}
	led, own := act.Cause, false
	if a.kind.awaited() {
		// Who waits is the handler whose context this is, if that still runs. What
		// another one of the plugin serves may be deeper, and decide above; but that
		// one does not wait.
		if own = actor.Owner(ctx) == c.actor && c.actor.Serves(chain.From(ctx)); own {
			led = chain.From(ctx)
		} else if led.Depth() > 0 {
			c.router.untraced.Add(1)
		}
	}
	d.msg.meta = c.metaFor(led, own, actor.Beside(ctx))
	if w.box == nil {
		return c.unsent(w, ErrUnknownTarget, "it has not joined, or has left")
	}
	if !w.known && (w.accept != nil && !w.accept.Allowed() || w.box.look(a) != admitted) {
		return c.hide(w)
	}
	if w.accept != nil && !w.accept.Allowed() {
		refusal.Reason = plugbus.ReasonRecipientCannotReceive
		if w.accept.Reason == plugbus.ReasonQuarantined {
			refusal.Hint = "the recipient is quarantined"
		}
		return c.refuse(a.kind, a.name, refusal)
	}
	if own && w.box.waitsIn(a.name, d.msg.meta.chain) {
		refusal.Reason, refusal.Chain = plugbus.ReasonCycle, d.msg.meta.chain
		refusal.Hint = "the request would wait for itself: " + d.msg.meta.chain.Then(a.to).String()
		return c.refuse(a.kind, a.name, refusal)
	}
	return nil
}

// waitsIn reports whether the handler of a type has to wait for what the chain
// leads to.
func (b *mailbox) waitsIn(name string, led plugbus.Chain) bool {
	if !led.Has(b.id) {
		return false
	}
	b.mu.Lock()
	r := b.route(name)
	b.mu.Unlock()
	if r.beside() {
		return led.Waiting(b.id, r) >= r.opts.concurrent
	}
	return led.Waiting(b.id, nil) > 0
}

// refuse counts a refusal, has it recorded, and returns the plugin's error.
func (c *Client) refuse(kind Kind, typ string, r plugbus.Refusal) error {
	to := r.Object
	if kind == KindPublish {
		to = ""
	}
	if err := c.countRefusal(kind, to, typ, r.Reason, r.Chain); err != nil {
		return err
	}
	return c.guard.Refuse(r)
}

// countRefusal counts a message that no mailbox has counted. If the client has ended it
// counts nothing, since the books may have been read for the last time, and returns the
// error of an act that came too late.
func (c *Client) countRefusal(kind Kind, to, typ string, reason plugbus.Reason, led plugbus.Chain) error {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	if c.ended.Load() {
		return fmt.Errorf("plugin %q: %v %q: %w", c.id, kind, plugbus.CutText(typ), ErrClosed)
	}
	if c.router.opts.Observe != nil {
		c.observeRefusal(kind, to, typ, reason, led)
	}
	c.router.refused.Add(1)
	c.refused.Add(1)
	return nil
}

// hide refuses a message to a plugin of which the sender may not know. That there
// is none, or that it would not have the message, all look alike.
func (c *Client) hide(w *way) error {
	return c.refuse(w.address.kind, w.address.name, plugbus.Refusal{Verb: plugbus.VerbSend, Object: w.address.to, Reason: plugbus.ReasonUnknownPlugin, Chain: w.cause})
}

// unsent counts a message that could not be accepted, and returns the sender's
// error.
func (c *Client) unsent(w *way, why error, hint string) error {
	if !w.known {
		return c.hide(w)
	}
	reason := plugbus.ReasonRecipientCannotReceive
	if why == ErrUnknownTarget { //nolint:errorlint // It is never wrapped.
		reason = plugbus.ReasonUnknownPlugin
	}
	if err := c.countRefusal(w.address.kind, w.address.to, w.address.name, reason, w.cause); err != nil {
		return err
	}
	return &SendError{From: c.id, To: plugbus.CutText(w.address.to), Type: plugbus.CutText(w.address.name), Err: why, Hint: hint}
}

// knows reports whether the client may know of another plugin.
func (c *Client) knows(id string) bool { return id == c.id || c.guard.Knows(id) }

// A plainMeta is the meta of messages that have nothing but a chain.
type plainMeta struct {
	cause   plugbus.Chain
	awaited bool
	by      any
	meta    *meta
}

// metaFor returns what travels with a message. A plugin's messages have few
// chains, so the last one is kept.
func (c *Client) metaFor(cause plugbus.Chain, awaited bool, by any) *meta {
	p := c.plain.Load()
	if p != nil && p.cause == cause && p.awaited == awaited && p.by == by {
		return p.meta
	}
	p = &plainMeta{cause: cause, awaited: awaited, by: by}
	if awaited {
		p.meta = &meta{chain: cause.Await(c.id, by)}
	} else {
		p.meta = &meta{chain: cause.Then(c.id)}
	}
	c.plain.Store(p)
	return p.meta
}

// with returns m with what the sender said.
func (m *meta) with(headers map[string]string, o *sendOptions) *meta {
	if headers == nil && o.correlation == "" && o.clientID == "" {
		return m
	}
	return &meta{chain: m.chain, headers: headers, correlation: o.correlation, clientID: o.clientID}
}

// enqueue puts a message into the mailbox, or says why it does not take it. It
// waits for room if the sender asked for that.
func (c *Client) enqueue(ctx context.Context, w *way, o *sendOptions, d *delivery) error {
	b := w.box
	var deadline time.Time // of the wait for room
	for {
		b.mu.Lock()
		why, next := b.enqueue(d)
		if why == admitted && d.observes() {
			c.observeAct(0, w.address, &d.msg)
		}
		runner := b.client
		var room chan struct{}
		if why == full || why == shareFull {
			if o.wait {
				room = b.awaitRoom()
			} else {
				b.counts.Count(plugbus.Full, 1)
				if d.observes() {
					c.observeAct(plugbus.Full, w.address, &d.msg)
					d.observe(plugbus.Full, "")
				}
			}
		}
		b.mu.Unlock()
		switch {
		case why == admitted:
			runner.follow(next, d, nil) //nolint:contextcheck // A handler's context is its plugin's.
			return nil
		case room == nil:
			return c.rejected(w, why)
		case deadline.IsZero():
			deadline = c.roomDeadline(ctx, d)
		}
		if err := c.waitForRoom(ctx, w, d, room, deadline); err != nil {
			return err
		}
	}
}

// follow does what has to follow on the acceptance of a message by c, which is
// nil while nobody handles. Only if the delivery is to be started does it still
// belong to the caller.
func (c *Client) follow(next step, d *delivery, wakes *actor.Wakes) {
	switch next {
	case stepStart:
		c.startBeside(d)
	case stepWake:
		c.signal(wakes)
	case stepNone:
	}
}

// rejected returns the error of a message that the mailbox did not take.
func (c *Client) rejected(w *way, why admission) error {
	a := w.address
	switch why {
	case full, shareFull:
		hint := "try again later, or use WaitForRoom"
		if why == shareFull {
			hint = "the sender has its share of the mailbox already; " + hint
		}
		c.refused.Add(1) // The mailbox has counted it.
		return &SendError{From: c.id, To: a.to, Type: a.name, Err: ErrQueueFull, Hint: hint}
	case unwelcome:
		if !w.known {
			return c.hide(w)
		}
		return c.refuse(a.kind, a.name, plugbus.Refusal{
			Verb: plugbus.VerbSend, Object: a.to, Reason: plugbus.ReasonRecipientCannotReceive, Chain: w.cause,
			Hint: fmt.Sprintf("its handler of %q is not for this sender", a.name),
		})
	case unhandled:
		return c.unsent(w, ErrNoHandler, "check the spelling of the type; a plugin that is starting may not have set its handlers yet")
	case isStream:
		return c.unsent(w, errIsStream, "")
	case isNoStream:
		return c.unsent(w, errIsNoStream, "")
	default:
		return c.unsent(w, ErrUnknownTarget, "it is leaving")
	}
}

// roomDeadline returns until when the sender waits for room.
func (c *Client) roomDeadline(ctx context.Context, d *delivery) time.Time {
	if !d.deadline.IsZero() {
		return d.deadline
	}
	deadline := c.router.clock.Now().Add(c.router.opts.WaitLimit)
	if own, limited := ctx.Deadline(); limited && own.Before(deadline) {
		return own
	}
	return deadline
}

// waitForRoom waits until the mailbox may have room.
func (c *Client) waitForRoom(ctx context.Context, w *way, d *delivery, room <-chan struct{}, deadline time.Time) error {
	a := w.address
	led := chain.From(ctx)
	if actor.Owner(ctx) == c.actor && c.actor.Serves(led) && (a.to == c.id || led.Waiting(a.to, nil) > 0) {
		return c.refuse(a.kind, a.name, plugbus.Refusal{
			Verb: plugbus.VerbSend, Object: a.to, Reason: plugbus.ReasonCycle, Chain: d.msg.meta.chain,
			Hint: "a handler cannot wait for room in a mailbox whose plugin waits for it; send without WaitForRoom",
		})
	}
	clock := time.NewTimer(time.Until(deadline))
	defer clock.Stop()
	var why error
	select {
	case <-room:
		return nil
	case <-c.session.Done():
		why = ErrClosed
	case <-ctx.Done():
		why = ctx.Err()
	case <-clock.C:
		why = context.DeadlineExceeded
	}
	d.box.count(plugbus.Full)
	if d.observes() {
		c.observeAct(plugbus.Full, a, &d.msg)
		d.observe(plugbus.Full, "")
	}
	c.refused.Add(1)
	return &SendError{From: c.id, To: a.to, Type: a.name, Err: fmt.Errorf("%w: %w", ErrQueueFull, why), Hint: "its mailbox had no room all the while"}
}
