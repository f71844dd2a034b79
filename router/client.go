package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
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

	// MaxHandlers bounds the client's handlers, those of topics included. If
	// zero, it is 1,000; if negative, the client may have none.
	MaxHandlers int

	// MaxWildcards bounds the wildcards of one topic pattern. If zero, it is 8;
	// if negative, a pattern may have none.
	MaxWildcards int

	// Actor is the plugin's worker, which other mechanisms share. If nil, the
	// client has its own.
	Actor *actor.Actor

	// Held makes a client that is to take the place of the one with its id, by
	// [Client.Succeed] and [Client.Settle]. It can do everything at once; but nothing
	// comes to its handlers until it succeeds the other, and none of them is called
	// until it settles.
	Held bool

	// Owner is what whoever makes the client wants back in each Failure and Slow
	// that is about it: an id may have joined again by then. It may be nil.
	Owner any
}

// A Client is one plugin's handle to a router. It stamps the plugin's id on
// everything that the plugin sends. Its methods may be called by several
// goroutines.
type Client struct {
	router    *Router
	id        string
	owner     any
	guard     plugbus.Guard
	actor     *actor.Actor
	ownActor  bool
	source    int // of the actor
	quota     int // of handlers
	wildcards int // of one pattern
	box       *mailbox

	session context.Context //nolint:containedctx // The parent of the handlers' contexts.
	end     context.CancelFunc
	ended   atomic.Bool

	last  atomic.Pointer[way] // that a message went last
	ways  atomic.Pointer[wayTable]
	plain atomic.Pointer[plainMeta]
	reach atomic.Pointer[reach] // of the topic that was published last

	sent    atomic.Uint64 // messages, a publication being one
	refused atomic.Uint64 // acts

	// Under the lock of box.
	handlers   map[string]*Route
	fallback   *Route
	topics     map[*Route]struct{}
	routes     int           // all of these
	orphans    int           // messages that waited when their senders left, while the client drained
	understudy bool          // it is to succeed another; nothing comes to it yet
	active     int           // deliveries that it runs, and that have no outcome
	drained    chan struct{} // closed when it drains and has nothing left; nil before

	// Of the worker.
	contexts [4]*actor.Context
	evict    int // the next place in contexts to be overwritten
}

// Client returns the handle of a new plugin. It is an error if the id is not one
// ASCII token, or is in use; or, with ClientOptions.Held, if it is not.
func (r *Router) Client(id string, o ClientOptions) (_ *Client, err error) {
	if err := topic.CheckID(id); err != nil {
		return nil, fmt.Errorf("router: new client: %w", err)
	}
	c := &Client{router: r, id: id, owner: o.Owner, guard: o.Guard, actor: o.Actor, topics: map[*Route]struct{}{}}
	c.quota, c.wildcards = max(0, cmp.Or(o.MaxHandlers, 1000)), max(0, cmp.Or(o.MaxWildcards, 8))
	if c.guard == nil {
		c.guard = door.Open(id)
	}
	if o.Context == nil {
		o.Context = context.Background()
	}
	c.session, c.end = context.WithCancel(o.Context) // With no lock held: it may be of any type.
	defer func() {
		if err != nil {
			c.end()
		}
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return nil, fmt.Errorf("router: new client %q: %w", id, ErrClosed)
	}
	b := r.boxes[id]
	switch {
	case o.Held && b == nil:
		return nil, fmt.Errorf("router: new client: nobody has the id %q, so there is no place to hold a client for; leave ClientOptions.Held unset: %w", id, plugbus.ErrInvalid)
	case !o.Held && b != nil:
		return nil, fmt.Errorf("router: new client: the id %q is in use; a client must leave before its id joins again: %w", id, plugbus.ErrInvalid)
	}
	if c.actor == nil {
		c.actor, c.ownActor = r.actors.New(), true
	}
	c.source = c.actor.Attach((*source)(c))
	if o.Held {
		c.box, c.understudy = b, true
		r.aside[c] = struct{}{}
		return c, nil
	}
	c.box = &mailbox{router: r, id: id, client: c, tag: c.owner}
	r.boxes[id] = c.box
	r.topology.Add(1)
	return c, nil
}

// ID returns the id of the plugin.
func (c *Client) ID() string { return c.id }

func (c *Client) closedError(act, name string) error {
	return fmt.Errorf("plugin %q %s %q: %w: the plugin has left", c.id, act, plugbus.CutText(name), ErrClosed)
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

// BeginDrain ends the flow of new messages to the client: its mailbox takes no
// more, and what it has is still handled.
func (c *Client) BeginDrain() {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	c.beginDrain()
}

// beginDrain is BeginDrain, or, for a client that was succeeded, the same without the
// mailbox, which is its successor's. The lock of the mailbox is held.
func (c *Client) beginDrain() {
	b := c.box
	if c.drained != nil || c.ended.Load() {
		return
	}
	c.drained = make(chan struct{})
	if b.client == c {
		b.state = draining
		b.welcome()
	}
	if c.understudy {
		c.settled() // Nothing is for it.
	}
	b.settled()
}

// Drained waits until the client, which drains, has handled everything, and
// returns nil; or until ctx is done, and returns its error.
func (c *Client) Drained(ctx context.Context) error {
	drained := c.whenDrained()
	if isClosed(drained) {
		return nil
	}
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("router: drain client %q: %w", c.id, ctx.Err())
	}
}

// whenDrained begins to drain, and returns a channel that is closed at the end of that.
func (c *Client) whenDrained() <-chan struct{} {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	c.beginDrain()
	if c.drained == nil { // It has ended without.
		c.drained = make(chan struct{})
		close(c.drained)
	}
	return c.drained
}

// Close drains the client until ctx is done, and then ends it: what waits is
// cancelled, a handler that still runs is abandoned, and every later call returns
// [ErrClosed]. It returns nil if everything was handled, and otherwise a
// [*CloseError], which matches ctx.Err(). No new call of a handler starts after it
// returned. With the context of a handler of the client itself it waits for
// nothing, and returns nil.
func (c *Client) Close(ctx context.Context) (err error) {
	drained := c.whenDrained()
	if actor.Owner(ctx) != c.actor && !isClosed(drained) {
		select {
		case <-drained:
		case <-c.session.Done():
			err = c.session.Err()
		case <-ctx.Done():
			err = ctx.Err()
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
	r, b := c.router, c.box
	r.mu.Lock()
	b.mu.Lock()
	if c.ended.Swap(true) { // Under the locks, so that whoever comes second finds nothing left to do.
		b.mu.Unlock()
		r.mu.Unlock()
		return 0, 0
	}
	var cut []*delivery
	var hung []Failure
	for d := b.running; d != nil; d = d.next {
		if d.runner == c && !d.abandoned {
			hung = append(hung, b.failure(d, plugbus.Abandoned, ErrTargetLeft))
			r.bury(d, plugbus.Abandoned, ErrTargetLeft)
			b.abandon(d, ErrTargetLeft) // Its context ends with the session.
		}
	}
	if b.client == c {
		cut = b.shut()
	}
	c.clear()
	b.former = slices.DeleteFunc(b.former, func(other *Client) bool { return other == c })
	delete(r.aside, c)
	if c.drained != nil && !isClosed(c.drained) {
		close(c.drained)
	}
	r.topology.Add(1)
	b.mu.Unlock()
	r.mu.Unlock()
	// First the outcome, then the end of the context: a handler that returns on
	// account of it was abandoned.
	c.end()
	r.undone(cut)
	for _, f := range hung {
		b.report(f, nil)
	}
	if c.ownActor {
		c.actor.Retire()
	}
	r.idle.Tell()
	return len(cut), len(hung)
}

// Ended reports whether the client has ended, no handler of it runs, and the host
// has heard of those that failed.
func (c *Client) Ended() bool {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	return c.ended.Load() && c.box.runs(c) == 0 && c.box.reports == 0
}

// contextFor returns the context of a handler that serves what led led to, and
// whose time nobody limits. The worker calls it.
func (c *Client) contextFor(led chain.Chain) *actor.Context {
	for _, ctx := range c.contexts {
		if ctx != nil && ctx.Chain() == led {
			return ctx
		}
	}
	ctx := c.actor.NewContext(c.session, led)
	c.contexts[c.evict] = ctx
	c.evict = (c.evict + 1) % len(c.contexts)
	return ctx
}

// Orphans counts the messages that waited for the client, when it drained, and were
// cancelled since their senders left.
func (c *Client) Orphans() int {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	return c.orphans
}
