package hub_test

import (
	"context"
	"encoding/json"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// The places where code runs for events.

// emitJob has the code run for an event.
func emitJob(c *cell, ctx context.Context) error { //nolint:revive // The cell is the subject.
	_, err := c.peer.Emit(ctx, "job", c.payload)
	return err
}

// onJob subscribes the devil to "job".
func onJob(options ...events.SubscribeOption) func(c *cell, s *hub.Session) {
	return func(c *cell, s *hub.Session) {
		var sub *events.Subscription
		var err error
		subscribed := make(chan struct{})
		defer close(subscribed)
		sub, err = s.Subscribe("job", func(ctx context.Context, e events.Event) error {
			return c.run(hook{ctx, e.Data(), func() { <-subscribed; sub.Unsubscribe() }})
		}, options...)
		if err != nil {
			c.fault("the devil cannot subscribe: %v", err)
		}
	}
}

// An evilText is an error whose text is made by code.
type evilText struct{ c *cell } //nolint:errname // It is a payload too.

func (e evilText) Error() string {
	_ = e.c.run(hook{})
	return "a text"
}

// An evilJSON is decoded by code.
type evilJSON struct{ n int }

func (e *evilJSON) UnmarshalJSON([]byte) error {
	e.n++
	return trial.Load().run(hook{})
}

// An evilPayload has methods which nobody may call.
type evilPayload struct{ N int } //nolint:errname // It is a payload too.

func (evilPayload) MarshalJSON() ([]byte, error) { _ = trial.Load().run(hook{}); return nil, nil }
func (evilPayload) MarshalText() ([]byte, error) { _ = trial.Load().run(hook{}); return nil, nil }
func (evilPayload) String() string               { _ = trial.Load().run(hook{}); return "" }
func (evilPayload) GoString() string             { _ = trial.Load().run(hook{}); return "" }
func (evilPayload) Error() string                { _ = trial.Load().run(hook{}); return "" }

// unreadable is what the host reads in place of a text that cannot be had.
const unreadable = "hub_test.evilText"

// bare returns why there is nothing for code to have.
func bare(what string) map[need]string {
	return map[need]string{
		aContext: what + " gets no context to wait for", aPayload: what + " gets nothing that has references",
		aHandle: "there is no handle by which " + what + " could take itself away",
	}
}

func less(lacks map[need]string, given ...need) map[need]string {
	for _, g := range given {
		delete(lacks, g)
	}
	return lacks
}

func eventPlaces() []place {
	job := "devil: handler job"
	return []place{
		{name: "event handler", start: onJob(), provoke: emitJob, leak: job},
		{name: "event handler with a time-out", start: onJob(events.Timeout(ownTime)), provoke: emitJob, leak: job, early: true},
		{name: "concurrent event handler", start: onJob(events.Concurrent(2)), provoke: emitJob, leak: job},
		{name: "concurrent event handler with a time-out", start: onJob(events.Concurrent(2), events.Timeout(ownTime)), provoke: emitJob, leak: job, early: true},
		{name: "event handler with a queue of its own", start: onJob(events.OnOverflow(events.RefuseToEmitter)), provoke: emitJob, leak: job},
		{
			name: "event filter", lacks: less(bare("a filter"), aPayload, aHandle), leak: job,
			start: func(c *cell, s *hub.Session) {
				var sub *events.Subscription
				var err error
				sub, err = s.Subscribe("job", func(context.Context, events.Event) error { return nil }, events.Filter(func(e events.Event) bool {
					_ = c.run(hook{nil, e.Data(), func() { sub.Unsubscribe() }})
					return true
				}))
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			}, provoke: emitJob,
		},
		{
			name: "handler of the history", leak: job, once: true,
			before: func(c *cell) { emit(c.t, c.peer, "job", c.payload) },
			provoke: func(c *cell, _ context.Context) error {
				onJob(events.StartAt(events.All()))(c, c.devil.Load())
				return nil
			},
		},
		{
			name: "receiver of broadcasts", method: "ReceiveEvent", leak: "devil: handler ReceiveEvent", lacks: map[need]string{aHandle: "a receiver is the plugin itself"},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Broadcast(ctx, "job", c.payload, events.Audience{IDs: []string{"devil", "bystander"}})
				return err
			},
		},
		{
			name: "typed event handler", leak: job,
			start: func(c *cell, s *hub.Session) {
				var sub *events.Subscription
				var err error
				sub, err = events.Subscribe(s, "job", func(ctx context.Context, value map[string]any, _ events.Event) error {
					return c.run(hook{ctx, value, func() { sub.Unsubscribe() }})
				})
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			}, provoke: emitJob,
		},
		{
			name: "decoder of a typed event", leak: job, lacks: bare("a decoder"),
			start: func(c *cell, s *hub.Session) {
				_, err := events.Subscribe(s, "job", func(context.Context, evilJSON, events.Event) error { return nil })
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			},
			provoke: func(c *cell, ctx context.Context) error {
				_, err := c.peer.Emit(ctx, "job", json.RawMessage(`{}`))
				return err
			},
		},
		{
			name: "text of the error of an event handler", leak: job, lacks: bare("the text of an error"), text: unreadable,
			start: func(c *cell, s *hub.Session) {
				_, err := s.Subscribe("job", func(context.Context, events.Event) error { return evilText{c} })
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			}, provoke: emitJob,
		},
		{
			name: "text of the error of a concurrent event handler", leak: job, lacks: bare("the text of an error"), text: unreadable,
			start: func(c *cell, s *hub.Session) {
				_, err := s.Subscribe("job", func(context.Context, events.Event) error { return evilText{c} }, events.Concurrent(2))
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			}, provoke: emitJob,
		},
		{
			name: "text of what an event handler panics with", leak: job, lacks: bare("the text of a panic"), text: "hub_test.evilText",
			start: func(c *cell, s *hub.Session) {
				_, err := s.Subscribe("job", func(context.Context, events.Event) error { panic(evilText{c}) })
				if err != nil {
					c.fault("the devil cannot subscribe: %v", err)
				}
			}, provoke: emitJob,
		},
		{
			name: "loop over the history", lacks: map[need]string{aHandle: "a loop ends with break"},
			leak: "devil: goroutine loop", before: func(c *cell) { emit(c.t, c.peer, "job", c.payload) },
			provoke: func(c *cell, _ context.Context) error {
				return inGo(c, "loop", func(ctx context.Context, s *hub.Session) {
					for e, err := range s.Replay(ctx, "job", events.All()) {
						if err == nil {
							_ = c.run(hook{ctx: ctx, data: e.Data()})
						}
					}
				})
			},
		},
		{
			name: "methods of a payload", never: "after the door no method of a payload runs",
			provoke: func(c *cell, ctx context.Context) error {
				s := c.devil.Load()
				_, err := s.Emit(ctx, "job.odd", evilPayload{1})
				if err != nil {
					c.fault("emit: %v", err)
				}
				if _, err := s.Send(ctx, "source", "echo", map[string]any{"x": evilPayload{2}}); err != nil {
					c.fault("send: %v", err)
				}
				return s.Post(ctx, "source", "nobody", &evilPayload{3})
			},
		},
	}
}

// inGo has a function of the devil run, which is its own and which nobody waits for.
func inGo(c *cell, name string, f func(ctx context.Context, s *hub.Session)) error {
	s := c.devil.Load()
	err := s.Go(name, func(ctx context.Context) { f(ctx, s) })
	if err != nil {
		c.fault("the devil cannot start a function: %v", err)
	}
	return err
}
