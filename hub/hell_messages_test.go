package hub_test

import (
	"context"
	"encoding/json"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// The places where code runs for messages and publications.

// sendJob has the code run for a request, whose sender waits.
func sendJob(c *cell, ctx context.Context) error { //nolint:revive // The cell is the subject.
	_, err := c.peer.Send(ctx, "devil", "job", c.payload)
	return err
}

func postJob(c *cell, ctx context.Context) error { return c.peer.Post(ctx, "devil", "job", c.payload) } //nolint:revive // The cell is the subject.

// handleJob has the devil handle messages of type "job".
func handleJob(options ...router.HandleOption) func(c *cell, s *hub.Session) {
	return func(c *cell, s *hub.Session) {
		var r *router.Route
		r = serveFor(c, s, "job", func(ctx context.Context, m router.Message) (any, error) {
			return "done", c.run(hook{ctx, m.Data(), func() { r.Remove() }})
		}, options...)
	}
}

// badJob has the devil answer messages of type "job" with an error.
func badJob(bad func(c *cell) error) func(c *cell, s *hub.Session) {
	return func(c *cell, s *hub.Session) {
		serveFor(c, s, "job", func(context.Context, router.Message) (any, error) { return nil, bad(c) })
	}
}

func evil(c *cell) error { return evilText{c} }

// evilWay is a middleware that is code.
func evilWay(c *cell) router.Middleware {
	return func(next router.Deliver) router.Deliver {
		return func(ctx context.Context, m *router.Draft) (router.Response, error) {
			if m.Type == "job" {
				if err := c.run(hook{ctx: ctx, remove: func() { c.h.Unuse("hell") }}); err != nil {
					return router.Response{}, err
				}
			}
			return next(ctx, m)
		}
	}
}

const senderPays = "middleware runs on the goroutine of the sender"

func messagePlaces() []place {
	job := "devil: handler job"
	draft := map[need]string{aPayload: "to change a message is what middleware is for"}
	return []place{
		{name: "handler of a request", start: handleJob(), provoke: sendJob, leak: job, early: true},
		{name: "handler of a post", start: handleJob(), provoke: postJob, leak: job},
		{name: "handler of a post with a time-out", start: handleJob(router.Timeout(ownTime)), provoke: postJob, leak: job, early: true},
		{name: "concurrent handler of a request", start: handleJob(router.Concurrent(2)), provoke: sendJob, leak: job, early: true},
		{name: "concurrent handler of a post", start: handleJob(router.Concurrent(2)), provoke: postJob, leak: job},
		{
			name: "handler of what has none", provoke: sendJob, leak: job, early: true,
			start: func(c *cell, s *hub.Session) {
				var r *router.Route
				var err error
				r, err = s.HandleDefault(func(ctx context.Context, m router.Message) (any, error) {
					return "done", c.run(hook{ctx, m.Data(), func() { r.Remove() }})
				})
				if err != nil {
					c.fault("the devil cannot handle the rest: %v", err)
				}
			},
		},
		{
			name: "handler of a capability", leak: job, early: true,
			start: func(c *cell, s *hub.Session) {
				err := s.Provide(hub.Capability{Name: "job"}, func(ctx context.Context, m router.Message) (any, error) {
					return "done", c.run(hook{ctx, m.Data(), func() { _ = s.Withdraw("job") }})
				})
				if err != nil {
					c.fault("the devil cannot provide: %v", err)
				}
			},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Call(ctx, "job", c.payload)
				return err
			},
		},
		{
			name: "handler of a topic", leak: job,
			start: func(c *cell, s *hub.Session) {
				var r *router.Route
				var err error
				r, err = s.HandleTopic("job", func(ctx context.Context, m router.Message) error {
					return c.run(hook{ctx, m.Data(), func() { r.Remove() }})
				})
				if err != nil {
					c.fault("the devil cannot handle the topic: %v", err)
				}
			},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Publish(ctx, "job", c.payload)
				return err
			},
		},
		{
			name: "inline handler", start: handleJob(), leak: job, stack: "its handler runs on the stack of the sender, as the policy says",
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.friend.Send(ctx, "devil", "job", c.payload)
				return err
			},
		},
		{
			name: "typed handler", provoke: sendJob, leak: job, early: true,
			start: func(c *cell, s *hub.Session) {
				var r *router.Route
				var err error
				r, err = router.Handle(s, "job", func(ctx context.Context, value map[string]any) (string, error) {
					return "done", c.run(hook{ctx, value, func() { r.Remove() }})
				})
				if err != nil {
					c.fault("the devil cannot handle: %v", err)
				}
			},
		},
		{
			name: "decoder of a typed request", leak: job, early: true, lacks: bare("a decoder"),
			start: func(c *cell, s *hub.Session) {
				_, err := router.Handle(s, "job", func(context.Context, evilJSON) (string, error) { return "done", nil })
				if err != nil {
					c.fault("the devil cannot handle: %v", err)
				}
			},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Send(ctx, "devil", "job", json.RawMessage(`{}`))
				return err
			},
		},
		{
			name: "decoder of a typed reply", leak: "devil: goroutine request", lacks: bare("a decoder"),
			provoke: func(c *cell, _ context.Context) error {
				return inGo(c, "request", func(ctx context.Context, s *hub.Session) {
					_, _ = router.Send[evilJSON](ctx, s, "source", "echo", json.RawMessage(`{}`))
				})
			},
		},
		{
			name: "text of the error of a handler", provoke: sendJob, leak: job, early: true, lacks: bare("the text of an error"), text: unreadable,
			start: badJob(evil),
		},
		{
			name: "text of the error of a handler of posts", provoke: postJob, leak: job, lacks: bare("the text of an error"), text: unreadable,
			start: badJob(evil),
		},
		{
			name: "text of what a handler panics with", provoke: sendJob, leak: job, early: true, lacks: bare("the text of a panic"), text: unreadable,
			start: badJob(func(c *cell) error { panic(evilText{c}) }),
		},
		{
			name: "middleware", host: true, lacks: draft, provoke: sendJob, deaf: "it is the refusal of a message, which the audit log has", stack: senderPays, start: handleJob0,
			before: func(c *cell) { c.use(evilWay(c)) },
		},
		{
			name: "middleware of one plugin", host: true, lacks: draft, provoke: sendJob, deaf: "it is the refusal of a message, which the audit log has", stack: senderPays, start: handleJob0,
			before: func(c *cell) { c.use(evilWay(c), router.ForTarget("devil")) },
		},
		{
			name: "middleware of a publication", host: true, lacks: draft, deaf: "it is the refusal of a message, which the audit log has", stack: senderPays,
			before: func(c *cell) { c.use(evilWay(c), router.ForTarget("devil")) },
			start: func(c *cell, s *hub.Session) {
				if _, err := s.HandleTopic("job", func(context.Context, router.Message) error { return nil }); err != nil {
					c.fault("the devil cannot handle the topic: %v", err)
				}
			},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Publish(ctx, "job", c.payload)
				return err
			},
		},
		{
			name: "middleware around a retry", host: true, lacks: draft, provoke: sendJob, deaf: "it is the refusal of a message, which the audit log has", stack: senderPays, start: handleJob0,
			before: func(c *cell) {
				if err := c.h.Use("retry", router.Retry(router.RetryOptions{})); err != nil {
					c.fault("use: %v", err)
				}
				c.use(evilWay(c))
			},
		},
	}
}

// handleJob0 has the devil handle messages of type "job" as a good plugin does.
func handleJob0(c *cell, s *hub.Session) { serveFor(c, s, "job", echo) }

func (c *cell) use(m router.Middleware, options ...router.UseOption) {
	if err := c.h.Use("hell", m, options...); err != nil {
		c.fault("use: %v", err)
	}
}

func streamPlaces() []place {
	read := func(c *cell, ctx context.Context) error {
		for _, err := range c.peer.Stream(ctx, "devil", "job", c.payload) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	handle := func(c *cell, s *hub.Session, f func(ctx context.Context, m router.Message, k hook, yield func(any) bool) error) {
		var r *router.Route
		var err error
		r, err = s.HandleStream("job", func(ctx context.Context, m router.Message, yield func(any) bool) error {
			return f(ctx, m, hook{ctx, m.Data(), func() { r.Remove() }}, yield)
		})
		if err != nil {
			c.fault("the devil cannot handle streams: %v", err)
		}
	}
	return []place{
		{
			name: "handler of a stream", leak: "devil: handler job", early: true, provoke: read,
			start: func(c *cell, s *hub.Session) {
				handle(c, s, func(_ context.Context, _ router.Message, k hook, _ func(any) bool) error { return c.run(k) })
			},
		},
		{
			name: "handler of a stream, between chunks", leak: "devil: handler job", early: true, provoke: read,
			start: func(c *cell, s *hub.Session) {
				handle(c, s, func(_ context.Context, _ router.Message, k hook, yield func(any) bool) error {
					for yield("a") && yield("b") {
						return c.run(k)
					}
					return nil
				})
			},
		},
		{
			name: "reader of a stream", lacks: map[need]string{aHandle: "a loop ends with break"}, leak: "devil: goroutine reader", idle: true,
			provoke: func(c *cell, _ context.Context) error {
				return inGo(c, "reader", func(ctx context.Context, s *hub.Session) {
					for m, err := range s.Stream(ctx, "source", "flow", c.payload) {
						if err == nil {
							_ = c.run(hook{ctx: ctx, data: m.Data()})
						}
					}
				})
			},
		},
		{
			name: "reader of a typed stream", lacks: bare("a decoder"), leak: "devil: goroutine reader", idle: true,
			provoke: func(c *cell, _ context.Context) error {
				return inGo(c, "reader", func(ctx context.Context, s *hub.Session) {
					for range router.Stream[evilJSON](ctx, s, "source", "flow", json.RawMessage(`{}`)) { //nolint:errcheck // Reading is the point.
					}
				})
			},
		},
	}
}
