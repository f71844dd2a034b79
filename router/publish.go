package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/ids"
)

// A reach is what a client knows about publishing to one topic: whether it may,
// and which handlers there are. It is immutable, and holds as long as the versions
// in it do.
type reach struct {
	topic    string
	cause    plugbus.Chain
	permit   *plugbus.Permit
	topology uint64
	targets  []target
}

// A target is one handler of a topic.
type target struct {
	route   *Route
	address *address
	number  int32 // of the handler, among those of its plugin
	known   bool  // to the sender
}

// Publish sends a message to every handler of a topic, those of the plugin itself
// included, and does not wait for them. It has one id. A recipient whose mailbox
// has no room does not get it: the receipt names it. The error says why nothing
// was published; that nobody handles the topic is none.
//
// The error is a [*plugbus.DeniedError], [ErrClosed], that of ctx, if it was done
// before, or an [*OptionError]. For a nil ctx it matches [plugbus.ErrInvalid].
func (c *Client) Publish(ctx context.Context, topic string, data any, options ...SendOption) (Receipt, error) {
	if ctx == nil {
		return Receipt{}, c.noContext(KindPublish, topic)
	}
	o := &noOptions
	if len(options) > 0 {
		var err error
		if o, err = c.options(KindPublish, topic, options); err != nil {
			return Receipt{}, err
		}
	}
	if c.router.middleware.Load() != nil {
		return c.publishThrough(ctx, topic, data, o)
	}
	return c.publish(ctx, topic, data, o)
}

// publish checks a publication, and puts it into the mailboxes.
func (c *Client) publish(ctx context.Context, topic string, data any, o *sendOptions) (Receipt, error) {
	p, err := c.admitPublication(ctx, topic, data, o)
	if err != nil {
		return Receipt{}, err
	}
	var wakes actor.Wakes
	for _, t := range p.reach.targets {
		c.deliver(p, t, &wakes) //nolint:contextcheck // A handler's context is its plugin's.
	}
	wakes.Wake()
	return p.receipt, nil
}

// republish publishes a dead letter again, to the handler that it was for: the one
// of that pattern, and if there are several, the one in the same place.
func (c *Client) republish(ctx context.Context, letter *DeadLetter, o *sendOptions) error {
	p, err := c.admitPublication(ctx, letter.Type(), letter.Data(), o)
	if err != nil {
		return err
	}
	var to *target
	for i, t := range p.reach.targets {
		if t.address.to != letter.To() || t.route.pattern.String() != letter.Pattern() {
			continue
		}
		if to == nil || t.number == letter.number {
			to = &p.reach.targets[i]
		}
	}
	failed := &SendError{From: c.id, To: letter.To(), Type: letter.Type(), Err: ErrNoHandler, Hint: "its handler of this topic has gone"}
	if to == nil {
		return failed
	}
	switch c.deliver(p, *to, nil) { //nolint:contextcheck // The same.
	case admitted:
		return nil
	case full, shareFull:
		failed.Err, failed.Hint = ErrQueueFull, "try again later"
	case unwelcome:
		failed.Err, failed.Hint = plugbus.ErrDenied, "it may not have it now"
	case closing, unhandled, isStream, isNoStream:
	}
	return failed
}

// A publication is one that the door admitted.
type publication struct {
	reach   *reach
	msg     Message
	cause   plugbus.Chain
	expires int64
	receipt Receipt
}

// admitPublication is the door for publications.
func (c *Client) admitPublication(ctx context.Context, topic string, data any, o *sendOptions) (*publication, error) {
	if c.ended.Load() {
		return nil, c.closedError("publishes", topic)
	}
	if c.router.closed.Load() {
		return nil, fmt.Errorf("plugin %q publishes %q: %w", c.id, plugbus.CutText(topic), ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("plugin %q publishes %q: %w", c.id, plugbus.CutText(topic), err)
	}
	cause := c.led(ctx, o)
	p := &publication{reach: c.reachOf(topic, cause), cause: cause}
	permit := p.reach.permit
	if permit.Allowed() && o.priority > permit.Priority {
		return nil, c.refuse(KindPublish, topic, plugbus.Refusal{
			Verb: plugbus.VerbPublish, Object: topic, Reason: plugbus.ReasonPriorityNotGranted, Chain: cause,
			Hint: fmt.Sprintf("the plugin may publish with the priority %v at most, not %v", permit.Priority, o.priority),
		})
	}
	act := &door.Act{Plugin: c.id, Verb: plugbus.VerbPublish, Object: topic, Permit: permit, Cause: cause, MaxDepth: c.router.opts.MaxDepth}
	parcel := &door.Parcel{Data: data, Headers: o.headers, Texts: [2]string{o.correlation, o.clientID}}
	now, refusal := door.Check(c.router.clock, act, parcel)
	if refusal != nil {
		return nil, c.refuse(KindPublish, topic, *refusal)
	}
	p.msg = Message{
		frozen: parcel.Data, seq: c.router.seq.Add(1), nanos: now.UnixNano(),
		meta: c.metaFor(cause, false, nil).with(parcel.Headers, o), size: int32(min(parcel.Size, 1<<31-1)), priority: o.priority,
	}
	p.receipt.ID = ids.At(p.msg.nanos, p.msg.seq, c.router.salt)
	p.expires = o.expiry(now)
	c.sent.Add(1)
	if c.router.opts.Observe != nil {
		c.observeAct(0, &address{name: topic, kind: KindPublish, salt: c.router.salt}, &p.msg)
	}
	return p, nil
}

// refit replaces what a publication carries to the next recipient by what the
// middlewares of that recipient made of it, which passes the door like the rest.
func (c *Client) refit(p *publication, d *Draft, o *sendOptions) error {
	permit := *p.reach.permit
	permit.Acts, permit.Bytes = nil, nil // The publication is one act, whoever it reaches.
	act := &door.Act{Plugin: c.id, Verb: plugbus.VerbPublish, Object: d.Type, Permit: &permit, Cause: p.cause, MaxDepth: c.router.opts.MaxDepth}
	if o.priority > permit.Priority {
		return c.refuse(KindPublish, d.Type, plugbus.Refusal{
			Verb: plugbus.VerbPublish, Object: d.Type, Reason: plugbus.ReasonPriorityNotGranted, Chain: p.cause,
			Hint: "a middleware raised the priority over that of the plugin",
		})
	}
	parcel := &door.Parcel{Data: d.Data, Headers: o.headers, Texts: [2]string{o.correlation, o.clientID}}
	if _, refusal := door.Check(c.router.clock, act, parcel); refusal != nil {
		return c.refuse(KindPublish, d.Type, *refusal)
	}
	p.msg.frozen, p.msg.size, p.msg.priority = parcel.Data, int32(min(parcel.Size, 1<<31-1)), o.priority
	p.msg.meta = c.metaFor(p.cause, false, nil).with(parcel.Headers, o)
	return nil
}

// reachOf returns the reach of a topic.
func (c *Client) reachOf(topic string, cause plugbus.Chain) *reach {
	r := c.router
	if p := c.reach.Load(); p != nil && p.topic == topic && p.cause == cause &&
		p.permit.Version == c.guard.Version() && p.topology == r.topology.Load() {
		return p
	}
	p := &reach{topic: topic, cause: cause, topology: r.topology.Load()}
	p.permit = door.Sound(c.guard.PermitVia(cause, plugbus.VerbPublish, topic), plugbus.VerbPublish, topic)
	if !p.permit.Allowed() {
		return p
	}
	r.mu.Lock()
	routes := r.topics.Append(nil, topic)
	r.mu.Unlock()
	slices.SortFunc(routes, func(a, b *Route) int { return cmp.Compare(a.number, b.number) })
	addresses, numbers := map[string]*address{}, map[string]int32{}
	for _, route := range routes {
		to := route.client.id
		if addresses[to] == nil {
			addresses[to] = &address{from: c.id, to: to, name: topic, kind: KindPublish, salt: r.salt}
		}
		numbers[to]++
		p.targets = append(p.targets, target{route, addresses[to], numbers[to], c.knows(to)})
	}
	c.reach.Store(p)
	return p
}

// deliver puts a publication into one mailbox, and notes the result.
func (c *Client) deliver(p *publication, t target, wakes *actor.Wakes) admission {
	r, to := &p.receipt, t.address.to
	note := func(list *[]string) {
		if t.known {
			r.Matched++
			*list = append(*list, to)
		}
	}
	runner := t.route.client
	var accept *plugbus.Permit
	if !runner.ended.Load() { // Or else its successor is asked, if it has one.
		accept = runner.guard.PermitVia(p.cause, plugbus.VerbConsume, p.reach.topic)
	}
	if accept != nil && !accept.Allowed() {
		runner.box.count(plugbus.Refused)
		c.observeKept(p, t, plugbus.Refused, accept.Reason)
		note(&r.Refused)
		c.keptFrom(p, to)
		return unwelcome
	}
	d := c.router.newDelivery(1)
	d.msg, d.from, d.cause, d.expires = p.msg, c, p.cause, p.expires
	d.msg.address, d.msg.number, d.runner = t.address, t.number, runner
	m := *p.msg.meta
	m.pattern = t.route.pattern.String()
	d.msg.meta = &m
	d.box, d.route, d.permitted, d.accept = runner.box, t.route, p.reach.permit.Version, accept
	b := runner.box
	b.mu.Lock()
	why, next := b.enqueue(d)
	runner = b.client
	b.mu.Unlock()
	switch why {
	case admitted:
		if t.known {
			r.Matched++
			r.Accepted++
		}
		runner.follow(next, d, wakes)
	case full, shareFull:
		b.count(plugbus.Full)
		c.observeKept(p, t, plugbus.Full, "")
		note(&r.Full)
		d.release()
	case unhandled, closing: // It has left meanwhile.
		b.count(plugbus.Refused)
		c.observeKept(p, t, plugbus.Refused, plugbus.ReasonUnknownPlugin)
		d.release()
	case unwelcome, isStream, isNoStream:
		b.count(plugbus.Refused)
		c.observeKept(p, t, plugbus.Refused, plugbus.ReasonRecipientCannotReceive)
		note(&r.Refused)
		c.keptFrom(p, to)
		d.release()
	}
	return why
}

// keptFrom records that a recipient may not have a publication; the others are
// served.
func (c *Client) keptFrom(p *publication, to string) {
	_ = c.guard.Refuse(plugbus.Refusal{
		Verb: plugbus.VerbPublish, Object: p.reach.topic, Reason: plugbus.ReasonRecipientCannotReceive, Chain: p.msg.meta.chain,
		Cause: fmt.Errorf("plugin %q may not have it", to),
	})
}
