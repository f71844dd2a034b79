package router

import (
	"context"
	"errors"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/site"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Handler handles a message. What it returns is the reply, and of a [Response]
// that it got itself the payload; for a Post that is thrown away. It runs on the plugin's worker, so that handlers of one plugin do
// not run at the same time, unless it is [Concurrent]. Its context ends when the
// caller gives up or the plugin leaves.
type Handler func(ctx context.Context, m Message) (reply any, err error)

// A StreamHandler handles a message with many replies, each of which it gives to
// yield. Yield waits while the reader has enough to read. It returns false when
// there is no use in going on: the reader has stopped or was idle for too long,
// the time is over, or the chunk was refused. The context has ended then.
type StreamHandler func(ctx context.Context, m Message, yield func(chunk any) bool) error

// A TopicHandler handles a publication.
type TopicHandler func(ctx context.Context, m Message) error

// A Route leads messages of one type, or publications of one topic pattern, to a
// handler.
type Route struct {
	client  *Client
	name    string        // the type; "" for the default
	pattern topic.Pattern // of topics
	topics  bool
	any     bool   // it is the default
	number  uint64 // in the order in which they were set
	site    string
	opts    handleOptions
	single  Handler
	stream  StreamHandler
	topic   TopicHandler

	// Under the mailbox's lock.
	removed bool
	heir    *Route // what took its place when the client was replaced
	lanes   lanes  // what waits for a concurrent handler
	busy    int    // its calls that run
}

// beside reports whether the handler runs beside the worker. No route is none.
func (r *Route) beside() bool { return r != nil && r.opts.concurrent > 0 }

// place returns where the handler's plugin waits when the handler does: nil for
// its worker.
func (r *Route) place() any {
	if r.beside() {
		return r
	}
	return nil
}

// Type returns the type of message, "" for the default handler, or the pattern of
// topics.
func (r *Route) Type() string {
	if r.topics {
		return r.pattern.String()
	}
	return r.name
}

// Handle handles messages of a type. The error is [ErrClosed], an
// [*OptionError], a [*plugbus.DeniedError], or matches [ErrHandlerExists] or
// [plugbus.ErrInvalid].
func (c *Client) Handle(typ string, handler Handler, options ...HandleOption) (*Route, error) {
	if handler == nil {
		return nil, c.nilHandler(typ)
	}
	return c.handle(&Route{name: typ, single: handler}, options)
}

// HandleStream handles messages of a type that have many replies.
func (c *Client) HandleStream(typ string, handler StreamHandler, options ...HandleOption) (*Route, error) {
	if handler == nil {
		return nil, c.nilHandler(typ)
	}
	return c.handle(&Route{name: typ, stream: handler}, options)
}

// HandleDefault handles messages of the types that have no handler, but no
// streams.
func (c *Client) HandleDefault(handler Handler, options ...HandleOption) (*Route, error) {
	if handler == nil {
		return nil, c.nilHandler("")
	}
	return c.handle(&Route{any: true, single: handler}, options)
}

// HandleTopic handles publications whose topic matches a pattern, in the grammar
// of event patterns, and that the plugin may consume. A plugin with several
// handlers that match gets one delivery for each.
func (c *Client) HandleTopic(pattern string, handler TopicHandler, options ...HandleOption) (*Route, error) {
	if handler == nil {
		return nil, c.nilHandler(pattern)
	}
	return c.handle(&Route{topics: true, name: pattern, topic: handler}, options)
}

func (c *Client) nilHandler(name string) error {
	return fmt.Errorf("plugin %q handles %q: the handler is nil: %w", c.id, plugbus.CutText(name), plugbus.ErrInvalid)
}

// handle opens a route.
func (c *Client) handle(r *Route, options []HandleOption) (*Route, error) {
	r.client, r.site = c, site.Caller()
	for _, option := range options {
		err := error(&OptionError{"HandleOption", nil, "an option of package router"})
		if option != nil {
			err = option.applyHandle(&r.opts)
		}
		if err != nil {
			return nil, fmt.Errorf("plugin %q handles %q: %w", c.id, plugbus.CutText(r.name), err)
		}
	}
	if o := r.opts; o.idle > 0 && r.stream == nil || o.narrow && !r.topics || o.measured && r.topics {
		return nil, fmt.Errorf("plugin %q handles %q: %w", c.id, plugbus.CutText(r.name),
			&OptionError{"HandleOption", "Idle, Narrow or Measured", "Idle for streams only, Narrow for topics only, and Measured not for topics"})
	}
	if c.ended.Load() {
		return nil, c.closedError("handles", r.name)
	}
	if err := c.mayHandle(r); err != nil {
		return nil, err
	}
	if err := c.open(r); err != nil {
		return nil, err
	}
	return r, nil
}

// mayHandle checks the name of a route, and the right to consume a topic. Which
// messages a plugin may receive is asked for each.
func (c *Client) mayHandle(r *Route) error {
	if !r.topics {
		if r.any {
			return nil
		}
		if err := topic.CheckName(r.name); err != nil {
			return fmt.Errorf("plugin %q handles a type: %w", c.id, err)
		}
		return nil
	}
	refusal := plugbus.Refusal{Verb: plugbus.VerbConsume, Object: r.name}
	pattern, err := topic.Parse(r.name)
	if err != nil {
		refusal.Reason, refusal.Cause = plugbus.ReasonInvalidName, err
		return c.decline(refusal)
	}
	if n := pattern.Wildcards(); n > c.wildcards {
		refusal.Reason = plugbus.ReasonQuotaExceeded
		refusal.Hint = fmt.Sprintf("the pattern has %d wildcards; at most %d are allowed", n, c.wildcards)
		return c.decline(refusal)
	}
	if permit := c.guard.PermitPattern(plugbus.VerbConsume, r.name, r.opts.narrow); !permit.Allowed() {
		refusal.Reason = permit.Reason
		return c.decline(refusal)
	}
	r.pattern = pattern
	return nil
}

// decline counts the refusal of a handler, and has it recorded.
func (c *Client) decline(r plugbus.Refusal) error {
	c.refused.Add(1)
	return c.guard.Refuse(r)
}

// open enters a route, within the quota.
func (c *Client) open(r *Route) error {
	taken, err := c.enter(r)
	if err == errQuota { //nolint:errorlint // It is never wrapped.
		return c.decline(plugbus.Refusal{
			Verb: plugbus.VerbReceive, Object: c.id, Reason: plugbus.ReasonQuotaExceeded,
			Hint: fmt.Sprintf("the plugin may have %d handlers", c.quota),
		})
	}
	if taken != nil {
		return fmt.Errorf("plugin %q handles %q: %w, at %s", c.id, r.name, ErrHandlerExists, taken.site)
	}
	return err
}

var errQuota = errors.New("router: too many handlers")

// enter is open, apart from what must not be done under a lock. Taken is the
// route that is there already.
func (c *Client) enter(r *Route) (taken *Route, err error) {
	b := c.box
	router := c.router
	router.mu.Lock()
	defer router.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	router.routes++
	r.number = router.routes
	switch {
	case c.ended.Load() || b.client != c && !c.understudy:
		return nil, c.closedError("handles", r.name)
	case c.routes >= c.quota:
		return nil, errQuota
	case r.topics:
		c.topics[r] = struct{}{}
		if !c.understudy {
			router.topics.Add(r.pattern, r)
			router.topology.Add(1)
		}
	case r.name == "":
		if c.fallback != nil {
			return c.fallback, nil
		}
		c.fallback = r
	default:
		if old := c.handlers[r.name]; old != nil {
			return old, nil
		}
		if c.handlers == nil {
			c.handlers = map[string]*Route{}
		}
		c.handlers[r.name] = r
	}
	c.routes++
	b.edition++
	return nil, nil
}

// Remove closes the route. What waits for it is cancelled; a call that runs goes
// on. It can be called from anywhere and more than once.
func (r *Route) Remove() {
	c, b := r.client, r.client.box
	c.router.mu.Lock()
	b.mu.Lock()
	if r.removed {
		b.mu.Unlock()
		c.router.mu.Unlock()
		return
	}
	cut := b.cancel(ErrNoHandler, func(d *delivery) bool { return d.route == r })
	b.forget(r)
	b.mu.Unlock()
	c.router.mu.Unlock()
	c.router.undone(cut)
}

// forget takes a route out. The locks of the router and the mailbox are held.
func (b *mailbox) forget(r *Route) {
	c := r.client
	r.removed = true
	c.routes--
	b.edition++
	switch {
	case r.topics:
		delete(c.topics, r)
		if !c.understudy {
			b.router.topics.Remove(r.pattern, r)
			b.router.topology.Add(1)
		}
	case r.name == "":
		c.fallback = nil
	default:
		delete(c.handlers, r.name)
	}
}

// clear takes all handlers of a client out. The locks of the router and the mailbox are
// held.
func (c *Client) clear() {
	for _, route := range c.everyRoute() {
		c.box.forget(route)
	}
}

// everyRoute returns the handlers of a client. The lock of the mailbox is held.
func (c *Client) everyRoute() []*Route {
	all := make([]*Route, 0, c.routes)
	for _, route := range c.handlers {
		all = append(all, route)
	}
	if c.fallback != nil {
		all = append(all, c.fallback)
	}
	for route := range c.topics {
		all = append(all, route)
	}
	return all
}
