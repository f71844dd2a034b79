package router

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/panics"
)

// sendThrough is Send and Post through middleware.
func (c *Client) sendThrough(ctx context.Context, kind Kind, to, typ string, data any, o *sendOptions) (Response, error) {
	t, d := c.embark(ctx, kind, to, typ, data, o)
	return t.through(ctx, d, func(ctx context.Context, d *Draft, o *sendOptions) (Response, error) {
		holders := int32(1)
		if kind == KindSend {
			holders = 2
		}
		sent := c.router.newDelivery(holders)
		if err := c.dispatch(ctx, kind, d.To, d.Type, d.Data, o, sent); err != nil {
			return Response{}, err
		}
		t.arrive(1)
		if kind == KindSend {
			return c.await(ctx, sent)
		}
		return accepted(d.To), nil
	})
}

// streamThrough is openStream through middleware.
func (c *Client) streamThrough(ctx context.Context, to, typ string, data any, o *sendOptions) (*delivery, error) {
	t, d := c.embark(ctx, KindStream, to, typ, data, o)
	defer func() { // Middleware did not want the stream, or ended this goroutine.
		if needless := t.end(); needless != nil {
			c.abandonStream(needless)
		}
	}()
	_, err := t.through(ctx, d, func(ctx context.Context, d *Draft, o *sendOptions) (Response, error) {
		stream, err := c.openStream(ctx, d.To, d.Type, d.Data, o)
		if err != nil {
			return Response{}, err
		}
		t.arrive(1)
		if needless := t.keep(stream); needless != nil {
			c.abandonStream(needless)
		}
		return accepted(d.To), nil
	})
	if err != nil {
		return nil, err
	}
	return t.end(), nil
}

// abandonStream ends a stream that nobody is going to read.
func (c *Client) abandonStream(d *delivery) {
	c.giveUp(d, context.Canceled)
	d.release()
}

// accepted stands for the acceptance of a message without a reply.
func accepted(by string) Response { return Response{from: by} }

// A doorstep is what follows the last middleware.
type doorstep func(ctx context.Context, d *Draft, o *sendOptions) (Response, error)

// through calls the middlewares for all messages, then those for the target, and
// then last. Middleware that changes the target leads to the middlewares of the new
// one.
func (t *trip) through(ctx context.Context, d *Draft, last doorstep) (Response, error) {
	c := t.client
	if c.ended.Load() || c.router.closed.Load() {
		return Response{}, fmt.Errorf("plugin %q: %v %q: %w", c.id, t.kind, plugbus.CutText(t.typ), ErrClosed)
	}
	return t.run(ctx, d, t.in.forTarget(""), func(ctx context.Context, d *Draft) (Response, error) {
		if t.kind == KindPublish {
			return t.publish(ctx, d, last)
		}
		return t.toTarget(ctx, d, last, 0)
	})
}

// publish is the end of a publication's way, of which each recipient's middleware
// has its own.
func (t *trip) publish(ctx context.Context, d *Draft, last doorstep) (Response, error) {
	if d.To != "" {
		return Response{}, t.stop(ctx, &MiddlewareError{fmt.Errorf("a middleware gave a publication a recipient, %q", plugbus.CutText(d.To))})
	}
	return t.knock(ctx, d, last)
}

// knock passes a draft to the door.
func (t *trip) knock(ctx context.Context, d *Draft, last doorstep) (Response, error) {
	if by := t.options.by; !by.IsZero() && !t.client.router.clock.Now().Before(by) {
		return Response{}, fmt.Errorf("plugin %q: %v %q: middleware took all of its time: %w", t.client.id, t.kind, plugbus.CutText(t.typ), context.DeadlineExceeded)
	}
	o, err := t.sendOptions(ctx, d)
	if err != nil {
		return Response{}, err
	}
	return last(ctx, d, o)
}

// maxRedirects bounds how often middleware sends one message elsewhere.
const maxRedirects = 8

func (t *trip) toTarget(ctx context.Context, d *Draft, last doorstep, redirects int) (Response, error) {
	to := d.To
	var some []use
	if to != "" { // Those of "" have run.
		some = t.in.forTarget(to)
	}
	return t.run(ctx, d, some, func(ctx context.Context, d *Draft) (Response, error) {
		switch {
		case d.To == to:
			return t.knock(ctx, d, last)
		case redirects == maxRedirects:
			return Response{}, t.stop(ctx, &MiddlewareError{fmt.Errorf("middlewares send it from one plugin to another in a circle, more than %d times", maxRedirects)})
		}
		return t.toTarget(ctx, d, last, redirects+1)
	})
}

// run calls some middlewares in their order, and then last.
func (t *trip) run(ctx context.Context, d *Draft, some []use, last Deliver) (Response, error) {
	next := last
	for _, u := range slices.Backward(some) {
		next = t.step(u, next)
	}
	return next(ctx, d)
}

// A gate is the next step of one call of a middleware. It is open while that
// runs.
type gate struct {
	trip   *trip
	name   string // of the middleware
	next   Deliver
	closed atomic.Bool
	begun  atomic.Int32 // calls of next
	ended  atomic.Int32 // of these, those that returned
}

func (g *gate) pass(ctx context.Context, d *Draft) (Response, error) {
	switch {
	case g.closed.Load():
		return Response{}, fmt.Errorf("the middleware %q called next after it had returned: %w", g.name, ErrClosed)
	case d == nil:
		return Response{}, fmt.Errorf("the middleware %q called next with no message: %w", g.name, plugbus.ErrInvalid)
	case d.trip != g.trip: // A draft of the middleware's own making.
		d = d.Clone()
		d.trip = g.trip
	}
	g.begun.Add(1)
	response, err := g.next(ctx, d)
	g.ended.Add(1)
	return response, err
}

// step is one middleware, whose panic stops the message and nothing else.
func (t *trip) step(u use, next Deliver) Deliver {
	return func(ctx context.Context, d *Draft) (response Response, err error) {
		g := &gate{trip: t, name: u.info.Name, next: next}
		orderly := false
		defer func() {
			if orderly {
				return
			}
			recovered := recover()
			g.closed.Store(true)
			if recovered == nil && g.begun.Load() > g.ended.Load() {
				return // Something further on ends this goroutine, such as an inline handler. It is counted there.
			}
			failure := fmt.Errorf("the middleware %q ended its goroutine (runtime.Goexit)", u.info.Name)
			if recovered != nil {
				failure = &PanicError{What: fmt.Sprintf("the middleware %q", u.info.Name), Value: panics.Text(recovered), Stack: string(debug.Stack())}
			}
			response, err = t.judge(ctx, g, Response{}, failure, true)
		}()
		response, err = u.wrap(g.pass)(ctx, d)
		orderly = true
		g.closed.Store(true)
		return t.judge(ctx, g, response, err, false)
	}
}

// judge returns what the sender, or the middleware around this one, gets. Whatever
// next has counted is not counted twice.
func (t *trip) judge(ctx context.Context, g *gate, response Response, err error, broken bool) (Response, error) {
	passed, _ := t.arrived()
	called := g.begun.Load() > 0
	switch {
	case err == nil && passed && response.from != "":
		return response, nil
	case err == nil:
		err = fmt.Errorf("the middleware %q returned neither an error nor what next returned", g.name)
	case called && !broken:
		return response, err
	case !broken: // Which is its right.
		return Response{}, t.stop(ctx, fmt.Errorf("the middleware %q: %w", g.name, err))
	}
	if err = (&MiddlewareError{err}); called {
		return Response{}, t.spoil(ctx, err)
	}
	return Response{}, t.stop(ctx, err)
}

// publishThrough is Publish through middleware: that for all runs once, and that of
// a recipient for each of its handlers.
func (c *Client) publishThrough(ctx context.Context, name string, data any, o *sendOptions) (Receipt, error) {
	t, d := c.embark(ctx, KindPublish, "", name, data, o)
	_, err := t.through(ctx, d, func(ctx context.Context, d *Draft, o *sendOptions) (Response, error) {
		p, err := c.admitPublication(ctx, d.Type, d.Data, o)
		if err != nil {
			return Response{}, err
		}
		taken := 0
		for _, to := range p.reach.targets {
			if c.deliverThrough(ctx, t.in, p, to, d) {
				taken++
			}
		}
		t.arrive(taken)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.receipt = p.receipt
		return accepted(c.id), nil
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.receipt, err
}

// deliverThrough delivers a publication to one handler, through the middlewares of
// its plugin if there are any, and reports whether the mailbox took it. What they
// made of it passes the door again.
func (c *Client) deliverThrough(ctx context.Context, in *middlewares, p *publication, to target, whole *Draft) (taken bool) {
	some := in.forTarget(to.address.to)
	if len(some) == 0 {
		return c.deliver(p, to, nil) == admitted //nolint:contextcheck // A handler's context is its plugin's.
	}
	d := whole.Clone()
	d.To = to.address.to
	t := &trip{client: c, kind: KindPublish, to: d.To, typ: whole.Type, options: whole.trip.options, in: in, route: to.route}
	d.trip = t
	before := *p // The next recipient gets what the sender published.
	before.receipt = Receipt{}
	_, err := t.run(ctx, d, some, func(ctx context.Context, d *Draft) (Response, error) {
		if d.To != t.to || d.Type != t.typ {
			return Response{}, t.stop(ctx, &MiddlewareError{errors.New("a middleware changed the recipient or the topic of a publication")})
		}
		return t.knock(ctx, d, func(_ context.Context, d *Draft, o *sendOptions) (Response, error) {
			one := before
			if err := c.refit(&one, d, o); err != nil {
				return Response{}, err
			}
			return t.handOver(&one, to) //nolint:contextcheck // The same.
		})
	})
	t.end() // From here on the receipt stays as it is.
	if err != nil && t.receipt.Matched == 0 && to.known && !errors.Is(err, ErrNoHandler) {
		t.receipt = Receipt{Matched: 1, Refused: []string{t.to}}
	}
	p.receipt.add(&t.receipt)
	_, mailboxes := t.arrived()
	return mailboxes > 0
}

// handOver delivers a publication to one handler. The receipt tells of the first
// try that was accepted, or else of the last one.
func (t *trip) handOver(p *publication, to target) (Response, error) {
	why := t.client.deliver(p, to, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over && !t.passed {
		t.receipt = p.receipt
	}
	switch why {
	case admitted:
		t.passed = true
		t.accepted++
		return accepted(t.to), nil
	case full, shareFull:
		return Response{}, &SendError{From: t.client.id, To: t.to, Type: t.typ, Err: ErrQueueFull, Hint: "try again later"}
	case unwelcome:
		return Response{}, &plugbus.DeniedError{Plugin: t.client.id, Verb: plugbus.VerbPublish, Object: t.typ, Reason: plugbus.ReasonRecipientCannotReceive}
	default:
		return Response{}, &SendError{From: t.client.id, To: t.to, Type: t.typ, Err: ErrNoHandler, Hint: "it has left, or removed the handler"}
	}
}

// add adds what became of a publication at one handler.
func (r *Receipt) add(one *Receipt) {
	r.Matched += one.Matched
	r.Accepted += one.Accepted
	r.Refused = append(r.Refused, one.Refused...)
	r.Full = append(r.Full, one.Full...)
}
