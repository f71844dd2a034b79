package events

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/ids"
	"github.com/plugbus/plugbus/internal/payload"
)

// A Receipt says what became of an event at the door. Its figures count only
// recipients that the emitter may know of.
type Receipt struct {
	Seq      uint64 // 0 if nothing was emitted
	Matched  int    // subscriptions that the event is for
	Accepted int    // of these, those that took it; the overflow rule may still drop it
	Refused  int    // recipients of a broadcast that may not have it
	Full     int    // subscriptions whose queue had no room

	nanos int64
	salt  uint32
}

// ID returns the id of the event.
func (r Receipt) ID() plugbus.ID {
	if r.Seq == 0 {
		return plugbus.ID{}
	}
	return ids.At(r.nanos, r.Seq, r.salt)
}

// Emit tells an event to whoever subscribed to its name. It returns when the
// event has its place in the order and in the queues; it does not wait for
// handlers, nor for room in a queue unless told to by [WaitForRoom]. The bus
// keeps a copy of data, so the caller may go on using it.
//
// The chain of ctx goes with the event; its deadline and cancellation matter
// only while Emit waits for room. The error is a [*plugbus.DeniedError],
// [ErrClosed], an [*OptionError], or, with WaitForRoom, an error that matches
// [ErrNoRoom]. For a nil ctx it matches [plugbus.ErrInvalid].
func (c *Client) Emit(ctx context.Context, name string, data any, options ...EmitOption) (Receipt, error) {
	if ctx == nil {
		return Receipt{}, c.noContext("emits", name)
	}
	if len(options) > 0 {
		return c.emitWith(ctx, name, data, options)
	}
	for range maxMoves {
		r := c.route(name)
		var e Event
		if err := c.admit(ctx, plugbus.VerbEmit, r, data, &plain, &e); err != nil {
			return Receipt{}, err
		}
		receipt, _, err := c.publish(r, &e, false) //nolint:contextcheck // A handler's context comes from its plugin.
		if err != errPolicyMoved {                 //nolint:errorlint // It is never wrapped.
			return receipt, err
		}
	}
	return Receipt{}, c.refuseMoving(plugbus.VerbEmit, name)
}

func (c *Client) noContext(acts, name string) error {
	return fmt.Errorf("plugin %q %s %q: the context is nil; pass on the one that you were given, or context.Background(): %w", c.id, acts, plugbus.CutText(name), plugbus.ErrInvalid)
}

// maxMoves bounds how often one act is checked anew because the policy moved. No
// policy moves that fast; a guard whose permits do not have its version does.
const maxMoves = 100

// refuseMoving refuses an act that no check holds for.
func (c *Client) refuseMoving(verb plugbus.Verb, name string) error {
	return c.refuse(plugbus.Refusal{
		Verb: verb, Object: name, Reason: plugbus.ReasonCheckFailed,
		Hint: "the guard must give its permits the version that its Version returns",
	})
}

// errPolicyMoved says that the policy has changed between the door and the
// order: what was checked is to be checked again, all of it.
var errPolicyMoved = errors.New("events: the policy has changed")

// emitWith is apart from Emit so that an emit without options allocates none.
func (c *Client) emitWith(ctx context.Context, name string, data any, options []EmitOption) (Receipt, error) {
	var o emitOptions
	if err := o.apply(name, options); err != nil {
		return Receipt{}, err
	}
	limited, stop := ctx, context.CancelFunc(func() {})
	if o.wait {
		limited, stop = context.WithTimeout(ctx, c.bus.opts.WaitLimit)
	}
	defer stop()
	for range maxMoves {
		r := c.route(name)
		var e Event
		if err := c.admit(ctx, plugbus.VerbEmit, r, data, &o, &e); err != nil {
			return Receipt{}, err
		}
		receipt, err := c.publishWithRoom(ctx, limited, r, &e, o.wait)
		if err != errPolicyMoved { //nolint:errorlint // It is never wrapped.
			return receipt, err
		}
	}
	return Receipt{}, c.refuseMoving(plugbus.VerbEmit, name)
}

// plain are the options of an emit without options. Nobody writes to them.
var plain emitOptions

func (o *emitOptions) apply(name string, options []EmitOption) error {
	for _, option := range options {
		if option == nil {
			return &OptionError{"EmitOption", nil, "an option of package events"}
		}
		if err := option.applyEmit(o); err != nil {
			return fmt.Errorf("emit %q: %w", plugbus.CutText(name), err)
		}
	}
	return nil
}

// admit has the door check an act, and fills in the event that was checked.
func (c *Client) admit(ctx context.Context, verb plugbus.Verb, r *route, data any, o *emitOptions, e *Event) error {
	if c.ended.Load() {
		return fmt.Errorf("plugin %q emits %q: %w: the plugin has left", c.id, plugbus.CutText(r.origin.name), ErrClosed)
	}
	act := &door.Act{ // By pointer, since a value would be built and then copied.
		Plugin: c.id, Verb: verb, Object: r.origin.name, Permit: r.permit,
		Cause: c.actor.Cause(ctx), MaxDepth: c.bus.opts.MaxDepth,
	}
	parcel := &door.Parcel{Data: data, Headers: o.headers, Texts: [2]string{o.correlation}}
	now, refusal := door.Check(c.bus.clock, act, parcel)
	if refusal != nil {
		return c.refuse(*refusal)
	}
	e.frozen, e.nanos, e.origin, e.info = parcel.Data, now.UnixNano(), r.origin, sized(parcel.Size)
	e.meta = c.metaFor(act.Cause, parcel.Headers, o, e)
	return nil
}

// A plainMeta is the meta of events that have nothing but a chain.
type plainMeta struct {
	cause chain.Chain
	meta  *meta
}

// metaFor returns what travels with an event. A plugin's events have few
// chains, so the last one is kept.
func (c *Client) metaFor(cause chain.Chain, headers map[string]string, o *emitOptions, e *Event) *meta {
	plain := c.plain.Load()
	if plain == nil || plain.cause != cause {
		plain = &plainMeta{cause, &meta{chain: cause.Then(c.id)}}
		c.plain.Store(plain)
	}
	noHistory := o.noHistory || payload.IsShared(e.frozen)
	if !noHistory && headers == nil && o.maxAge == 0 && o.correlation == "" {
		return plain.meta
	}
	m := *plain.meta
	m.headers, m.correlation, m.noHistory = headers, o.correlation, noHistory
	if o.maxAge > 0 {
		m.expires = e.nanos + min(int64(o.maxAge), math.MaxInt64-e.nanos)
	}
	return &m
}

// refuse counts a refusal, has it recorded, and returns the plugin's error.
func (c *Client) refuse(r plugbus.Refusal) error {
	b := c.bus
	b.mu.Lock()
	if c.ended.Load() { // What ends too late changes no books: they may have been read for the last time.
		b.mu.Unlock()
		return fmt.Errorf("plugin %q: %v %q: %w", c.id, r.Verb, plugbus.CutText(r.Object), ErrClosed)
	}
	if r.Verb != plugbus.VerbSubscribe {
		b.door.Count(plugbus.Refused, 1)
	}
	c.refused++
	if b.opts.Observe != nil {
		c.observeRefusal(&r)
	}
	b.mu.Unlock()
	return c.guard.Refuse(r)
}

// publish gives an admitted event its place in the order, and puts it into the
// history, the logs and the queues, all in one critical section. With needRoom
// it does so only if every queue has room; otherwise it returns a queue that has
// none.
func (c *Client) publish(r *route, e *Event, needRoom bool) (receipt Receipt, crowd *Subscription, err error) {
	b := c.bus
	var wakes actor.Wakes
	b.mu.Lock()
	switch {
	case b.closed || c.ended.Load():
		b.mu.Unlock()
		return receipt, nil, fmt.Errorf("plugin %q emits %q: %w", c.id, r.origin.name, ErrClosed)
	case c.guard.Version() != r.permit.Version:
		b.mu.Unlock()
		return receipt, nil, errPolicyMoved
	case r.topology != b.topology:
		r = c.lead(r)
	}
	if needRoom {
		if crowd = r.crowded(e); crowd != nil {
			b.mu.Unlock()
			return receipt, crowd, nil
		}
	}
	b.seq++
	e.seq = b.seq
	c.emitted++
	if b.opts.Observe != nil {
		c.observeEvent(plugbus.VerbEmit, e)
	}
	receipt = Receipt{Seq: e.seq, Matched: r.known, Accepted: r.known, nanos: e.nanos, salt: b.salt}
	b.door.Offered += uint64(r.followers)
	b.door.Accepted += uint64(r.followers)
	inHistory := !e.meta.noHistory
	if inHistory {
		b.history.add(e)
	}
	for _, l := range r.logs {
		l.append(e)
		if l.resting.Load() {
			l.rouse(&wakes)
		}
	}
	for _, s := range r.queued {
		c.offer(s, e, &receipt, &wakes)
	}
	if !inHistory {
		for _, s := range r.catching {
			c.offer(s, e, &receipt, &wakes)
		}
	}
	b.mu.Unlock()
	wakes.Wake()
	return receipt, nil, nil
}

// offer offers an event to a subscription with a queue, and counts the result.
// bus.mu is held.
func (c *Client) offer(s *Subscription, e *Event, receipt *Receipt, wakes *actor.Wakes) {
	door := &c.bus.door
	door.Offered++
	taken := s.offer(e, wakes)
	if taken {
		door.Accepted++
	} else {
		door.Full++
		if c.bus.opts.Observe != nil {
			s.observe(plugbus.Full, e, time.Time{})
		}
	}
	if !c.knows(s.client.id) {
		return
	}
	receipt.Matched++
	if taken {
		receipt.Accepted++
	} else {
		receipt.Full++
	}
}

// offer puts an event into the queue, as the overflow rule says, and reports
// whether it was accepted. bus.mu is held.
func (s *Subscription) offer(e *Event, wakes *actor.Wakes) bool {
	s.mu.Lock()
	taken := s.enqueue(e)
	if s.opts.concurrent > 1 {
		s.spawn()
	}
	s.mu.Unlock()
	if s.opts.concurrent <= 1 {
		s.signal(wakes)
	}
	return taken
}

// enqueue is offer with s.mu held.
func (s *Subscription) enqueue(e *Event) bool {
	for !s.queue.hasRoom(e.Size(), s.opts.buffer, s.client.bus.opts.QueueBytes) {
		var victim Event
		var other bool
		switch s.opts.overflow {
		case RefuseToEmitter:
			s.refused++
			return false
		case DropNewest:
			if victim, other = s.queue.dropLatest(e.Source()); !other {
				victim = *e
			}
		case DropOldest:
			victim, other = s.queue.drop(e.Source()), true
		}
		s.counts.Dropped++
		if s.client.bus.opts.Observe != nil {
			s.observe(plugbus.Dropped, &victim, time.Time{})
		}
		s.missed.Add(1)
		countSource(s.losses(), victim.Source(), 1)
		if !other {
			return true
		}
		s.private.Add(-1)
		if s.queue.count < s.opts.buffer-1 {
			s.welcome() // What left may be larger than what comes.
		}
	}
	s.queue.push(e)
	s.private.Add(1)
	return true
}

// crowded returns a subscription whose queue has no room for an event, or nil.
// bus.mu is held.
func (r *route) crowded(e *Event) *Subscription {
	for _, l := range r.logs {
		for s := range l.followers {
			if s.full(e.Size()) {
				return s
			}
		}
	}
	for _, s := range r.queued {
		if s.full(e.Size()) {
			return s
		}
	}
	for _, s := range r.catching {
		if e.meta.noHistory && s.full(e.Size()) {
			return s
		}
	}
	return nil
}

func (s *Subscription) full(size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isFull(size)
}

// isFull is full with s.mu held. bus.mu is held too.
func (s *Subscription) isFull(size int) bool {
	if s.following && s.log.next-s.word.Load()>>posShift >= uint64(s.opts.buffer) {
		return true
	}
	return !s.queue.hasRoom(size, s.opts.buffer, s.client.bus.opts.QueueBytes)
}

// publishWithRoom publishes an admitted event; with needRoom, when every queue
// has room, or not at all if limited, which comes from ctx, is done before.
func (c *Client) publishWithRoom(ctx, limited context.Context, r *route, e *Event, needRoom bool) (Receipt, error) {
	for {
		receipt, crowd, err := c.publish(r, e, needRoom) //nolint:contextcheck // A handler's context comes from its plugin.
		if crowd == nil {
			return receipt, err
		}
		if err := c.waitForRoom(ctx, limited, crowd, e); err != nil {
			return Receipt{}, err
		}
	}
}

// waitForRoom waits until a queue may have room for an event.
func (c *Client) waitForRoom(ctx, limited context.Context, crowd *Subscription, e *Event) error {
	if crowd.client == c && actor.Owner(ctx) == c.actor {
		return c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbEmit, Object: e.Name(), Reason: plugbus.ReasonCycle, Chain: e.meta.chain,
			Hint: "a handler cannot wait for room in a queue of its own plugin; emit without WaitForRoom",
		})
	}
	select {
	case <-crowd.waitForRoom(e.Size()):
	case <-c.session.Done():
		return fmt.Errorf("plugin %q emits %q: %w", c.id, e.Name(), ErrClosed)
	case <-limited.Done():
		if c.bus.opts.Observe != nil {
			c.observeNoRoom(e)
		}
		return fmt.Errorf("plugin %q emits %q: %w: %w", c.id, e.Name(), ErrNoRoom, limited.Err())
	}
	e.nanos = c.bus.clock.Now().UnixNano()
	return nil
}

// waitForRoom returns a channel that is closed when s may have room.
func (s *Subscription) waitForRoom(size int) <-chan struct{} {
	b := s.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil { // All who wait share it, so that a crowd costs nothing.
		s.room = make(chan struct{})
	}
	room := s.room
	// First the flag, then the look: a call that ends after the look sees it.
	s.flag(crowded)
	if !s.attached || !s.isFull(size) {
		s.welcome()
	}
	return room
}
