package events

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/topic"
)

// ClientOptions configure a [Client]. The zero value allows everything.
type ClientOptions struct {
	// Guard decides what the client may do. If nil, it may do everything.
	Guard plugbus.Guard

	// Context ends the handlers' contexts when it is done, beside the client's
	// own end. If nil, only the client's end does.
	Context context.Context //nolint:containedctx // The parent of the handlers' contexts.

	// MaxSubscriptions bounds the client's subscriptions. If zero, it is 1,000;
	// if negative, the client may have none.
	MaxSubscriptions int

	// MaxWildcards bounds the wildcards of one pattern, since patterns with many
	// make the look-up of names dear. If zero, it is 8; if negative, a pattern may
	// have none.
	MaxWildcards int

	// Actor is the plugin's worker, which other mechanisms share. If nil, the
	// client has its own.
	Actor *actor.Actor

	// Held makes a client that is to take the place of the one with its id, by
	// [Client.Succeed] and [Client.Settle]. It can do everything at once; but no event
	// comes to its subscriptions until it succeeds the other, and none of their
	// handlers is called until it settles. They count toward its quota like any other.
	Held bool

	// Owner is what whoever makes the client wants back in each Failure and Slow
	// that is about it: an id may have joined again by then. It may be nil.
	Owner any
}

// A Client is one plugin's handle to a bus. It stamps the plugin's id on
// everything that the plugin emits. Its methods may be called by several
// goroutines.
type Client struct {
	bus       *Bus
	id        string
	number    uint64 // of this client, whatever its id
	owner     any
	guard     plugbus.Guard
	actor     *actor.Actor
	ownActor  bool
	source    int // of the actor
	quota     int // of subscriptions
	wildcards int // of one pattern

	session context.Context //nolint:containedctx // The parent of the handlers' contexts.
	end     context.CancelFunc
	ended   atomic.Bool // written under bus.mu

	last   atomic.Pointer[route] // of the name that was emitted last
	routes atomic.Pointer[routeTable]
	plain  atomic.Pointer[plainMeta]

	inbox atomic.Pointer[Subscription] // that became ready, linked by nextReady
	held  atomic.Bool                  // calls no handler yet; written under bus.mu
	open  atomic.Int32                 // subscriptions that may handle something; written under bus.mu

	// Of the worker.
	ready    []*Subscription // a heap by the next event
	contexts [4]*actor.Context
	evict    int // the next place in contexts to be overwritten

	// Under bus.mu.
	subs       map[*Subscription]struct{}
	understudy bool    // it is to succeed another; nothing comes to it yet
	heir       *Client // that has succeeded it
	draining   bool
	drained    chan struct{} // closed when there is nothing left to handle
	emitted    uint64
	refused    uint64
}

// Client returns the handle of a new plugin. It is an error if the id is not one
// ASCII token, or is in use; or, with ClientOptions.Held, if it is not.
func (b *Bus) Client(id string, o ClientOptions) (*Client, error) {
	if err := topic.CheckID(id); err != nil {
		return nil, fmt.Errorf("events: new client: %w", err)
	}
	c := &Client{bus: b, id: id, owner: o.Owner, guard: o.Guard, actor: o.Actor, subs: map[*Subscription]struct{}{}}
	c.understudy = o.Held
	c.held.Store(o.Held)
	c.quota, c.wildcards = max(0, cmp.Or(o.MaxSubscriptions, 1000)), max(0, cmp.Or(o.MaxWildcards, 8))
	if c.guard == nil {
		c.guard = door.Open(id)
	}
	if o.Context == nil {
		o.Context = context.Background()
	}
	c.session, c.end = context.WithCancel(o.Context) // Without a lock: it calls methods of the host's context.
	if err := b.enter(c); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// enter puts a new client into the books.
func (b *Bus) enter(c *Client) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("events: new client %q: %w", c.id, ErrClosed)
	}
	_, taken := b.clients[c.id]
	if c.understudy && !taken {
		return fmt.Errorf("events: new client: nobody has the id %q, so there is no place to hold a client for; leave ClientOptions.Held unset: %w", c.id, plugbus.ErrInvalid)
	}
	if taken && !c.understudy {
		return fmt.Errorf("events: new client: the id %q is in use; a client must leave before its id joins again: %w", c.id, plugbus.ErrInvalid)
	}
	if c.actor == nil {
		c.actor, c.ownActor = b.actors.New(), true
	}
	c.source = c.actor.Attach((*source)(c))
	b.nextClient++
	c.number = b.nextClient
	if c.understudy {
		b.aside[c] = struct{}{}
	} else {
		b.clients[c.id] = c
	}
	return nil
}

// ID returns the id of the plugin.
func (c *Client) ID() string { return c.id }

// BeginDrain ends the flow of new events to the client: its subscriptions get
// no more, and what they have is still handled.
func (c *Client) BeginDrain() {
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	c.beginDrain()
}

func (c *Client) beginDrain() {
	if c.draining {
		return
	}
	c.draining = true
	c.drained = make(chan struct{})
	for s := range c.subs {
		if c.heir != nil {
			s.yield()
		} else {
			s.detach()
		}
	}
	c.checkDrained()
}

// checkDrained closes drained if nothing is left. bus.mu is held.
func (c *Client) checkDrained() {
	if !c.draining || isClosed(c.drained) {
		return
	}
	for s := range c.subs {
		if !s.empty() {
			return
		}
	}
	close(c.drained)
}

// Close drains the client until ctx is done, and then ends it: what waits is
// cancelled, a handler that still runs is abandoned, and every later call
// returns [ErrClosed]. It returns nil if everything was handled, and otherwise
// a [*CloseError], which matches ctx.Err(). No new call of a handler
// starts after it returned. With the context of a handler of the client itself it
// does not wait for that handler; with another context the handler would wait for
// itself, until that is done.
func (c *Client) Close(ctx context.Context) error {
	c.BeginDrain()
	var err error
	if actor.Owner(ctx) != c.actor {
		select {
		case <-c.drained:
		default:
			select {
			case <-c.drained:
			case <-c.session.Done():
				err = c.session.Err()
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
	}
	cut, abandoned := c.fence()
	if err != nil && cut+abandoned > 0 {
		return &CloseError{c.id, cut, abandoned, err}
	}
	return nil
}

// fence ends the client at once.
func (c *Client) fence() (cancelled, abandoned int) {
	b := c.bus
	b.mu.Lock()
	if c.ended.Swap(true) {
		b.mu.Unlock()
		return 0, 0
	}
	if b.clients[c.id] == c {
		delete(b.clients, c.id)
	}
	delete(b.aside, c)
	var hung []*Subscription
	for s := range c.subs {
		n, running := s.close()
		cancelled += n
		if running {
			hung = append(hung, s)
		}
	}
	if len(c.subs) > 0 {
		b.gone[c] = struct{}{}
	}
	b.topology++
	if c.held.Swap(false) {
		c.signal(nil) // The worker lets go of what its subscriptions held.
	}
	b.mu.Unlock()
	// First the outcome, then the end of the context: a handler that returns on
	// account of it was abandoned.
	b.telling.Add(1)
	left := make([][]*Event, len(hung))
	for i, s := range hung {
		left[i] = s.abandonAll()
		abandoned += len(left[i])
	}
	c.end()
	for i, s := range hung {
		for _, e := range left[i] {
			s.report(plugbus.Abandoned, e, ErrClosed)
		}
	}
	b.telling.Add(-1)
	if c.ownActor {
		c.actor.Retire()
	}
	b.idle.Tell()
	return cancelled, abandoned
}

// signal says that the client has work, and wakes its worker now or with the
// others.
func (c *Client) signal(wakes *actor.Wakes) {
	if c.actor.Signal(c.source) {
		if wakes == nil {
			c.actor.Wake()
			return
		}
		wakes.Add(c.actor)
	}
}

// workBudget is how many events a client handles before other sources of its
// actor get their turn.
const workBudget = 128

// A source is a client as its actor sees it.
type source Client

// Work handles events that wait, in their order.
func (s *source) Work() (more bool) { return (*Client)(s).work() }

func (c *Client) work() (more bool) {
	if c.held.Load() {
		return false
	}
	c.bus.armWatch()
	for budget := workBudget; budget > 0; {
		c.collect()
		if len(c.ready) == 0 {
			c.bus.idle.Tell()
			return false
		}
		budget -= max(1, c.merge(c.horizon(), budget))
	}
	return true
}

// horizon returns the Seq up to which every subscription that has an event is in
// the heap. Handlers of one plugin run in the order of events, so the worker
// looks at events that have reached all queues, and at no others. For one
// subscription there is nothing to be known; one that drains counts like any
// other, since it still has events that the others have too.
func (c *Client) horizon() uint64 {
	if c.open.Load() <= 1 {
		return nothing
	}
	limit := c.bus.published()
	c.collect()
	return limit
}

// published returns the Seq of the last event, which is in all its queues.
func (b *Bus) published() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// collect takes the subscriptions that have become ready into the heap.
func (c *Client) collect() {
	if c.inbox.Load() == nil {
		return
	}
	for s := c.inbox.Swap(nil); s != nil; {
		next := s.nextReady
		s.nextReady = nil
		s.key = 0 // To be looked at first, whatever it has.
		c.push(s)
		s = next
	}
}

// merge handles events up to limit, a Seq, and at most budget of them.
func (c *Client) merge(limit uint64, budget int) (n int) {
	for n < budget && len(c.ready) > 0 {
		s := c.ready[0]
		if next := s.next(); next != s.key {
			if next == nothing {
				c.pop()
				if s.rest() {
					c.push(s)
				}
				continue
			}
			s.key = next
			c.down(0)
			continue
		}
		if s.key > limit || limit == nothing && c.open.Load() > 1 {
			return n
		}
		n += s.step(max(s.key, min(limit, c.secondKey()-1)), budget-n)
		if c.inbox.Load() != nil {
			return n
		}
	}
	return n
}

// secondKey returns the lowest key of the heap but for the first.
func (c *Client) secondKey() uint64 {
	key := uint64(nothing)
	for _, s := range c.ready[1:min(3, len(c.ready))] {
		key = min(key, s.key)
	}
	return key
}

func (c *Client) push(s *Subscription) {
	c.ready = append(c.ready, s)
	for i := len(c.ready) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.ready[i].before(c.ready[parent]) {
			return
		}
		c.ready[i], c.ready[parent] = c.ready[parent], c.ready[i]
		i = parent
	}
}

// pop takes the first out of the heap.
func (c *Client) pop() {
	last := len(c.ready) - 1
	c.ready[0], c.ready[last] = c.ready[last], nil
	c.ready = c.ready[:last]
	c.down(0)
}

// down moves the i-th to its place after its key has grown.
func (c *Client) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(c.ready); child++ {
			if c.ready[child].before(c.ready[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		c.ready[i], c.ready[least] = c.ready[least], c.ready[i]
		i = least
	}
}

// contextFor returns the context of a handler that serves what chain led to.
// The worker calls it.
func (c *Client) contextFor(chain plugbus.Chain) *actor.Context {
	for _, ctx := range c.contexts {
		if ctx != nil && ctx.Chain() == chain {
			return ctx
		}
	}
	ctx := c.actor.NewContext(c.session, chain)
	c.contexts[c.evict] = ctx
	c.evict = (c.evict + 1) % len(c.contexts)
	return ctx
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Drained waits until the client, which drains, has handled everything, and
// returns nil; or until ctx is done, and returns its error.
func (c *Client) Drained(ctx context.Context) error {
	c.BeginDrain()
	select {
	case <-c.drained:
		return nil
	default:
	}
	select {
	case <-c.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("events: drain client %q: %w", c.id, ctx.Err())
	}
}

// Ended reports whether the client has ended and no handler of it runs.
func (c *Client) Ended() bool {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	return c.ended.Load() && len(c.subs) == 0
}
