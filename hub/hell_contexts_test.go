package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// The places where code runs because a plugin hands in a value of its own with methods: a
// context, or what it logs.

// An evilContext is a context of which one method is code.
type evilContext struct {
	context.Context //nolint:containedctx // It is a context.
	c               *cell
	at              string
}

func (e evilContext) do(method string) {
	if e.at == method {
		_ = e.c.run(hook{})
	}
}

func (e evilContext) Deadline() (time.Time, bool) { e.do("Deadline"); return e.Context.Deadline() }
func (e evilContext) Done() <-chan struct{}       { e.do("Done"); return e.Context.Done() }
func (e evilContext) Err() error                  { e.do("Err"); return e.Context.Err() }
func (e evilContext) Value(key any) any           { e.do("Value"); return e.Context.Value(key) }

// contextPlaces are those of contexts: each method, in each call that uses it.
func contextPlaces() []place {
	calls := []struct {
		name string
		uses []string // methods of the context
		do   func(ctx context.Context, c *cell, s *hub.Session)
	}{
		{"Emit", []string{"Value"}, func(ctx context.Context, _ *cell, s *hub.Session) {
			_, _ = s.Emit(ctx, "own", 1, events.WaitForRoom())
		}},
		{"Replay", []string{"Err"}, func(ctx context.Context, c *cell, s *hub.Session) {
			for range s.Replay(ctx, "**", events.All()) { //nolint:errcheck // Reading is the point.
			}
		}},
		{"Send", []string{"Value", "Deadline", "Done"}, func(ctx context.Context, _ *cell, s *hub.Session) {
			_, _ = s.Send(ctx, "source", "slow", 1)
		}},
		{"Stream", []string{"Value", "Deadline", "Done"}, func(ctx context.Context, _ *cell, s *hub.Session) {
			for range s.Stream(ctx, "source", "flow", 1) { //nolint:errcheck // Reading is the point.
			}
		}},
		{"Publish", []string{"Value"}, func(ctx context.Context, _ *cell, s *hub.Session) {
			_, _ = s.Publish(ctx, "own", 1)
		}},
		{"Set", []string{"Value"}, func(ctx context.Context, c *cell, s *hub.Session) {
			if v, err := s.OpenStore(context.Background(), "words"); err == nil { //nolint:contextcheck // It has a context of its own.
				_, _ = v.Set(ctx, "own", nil)
			}
		}},
		{"CreateStore", []string{"Value"}, func(ctx context.Context, _ *cell, s *hub.Session) {
			if v, err := s.CreateStore(ctx, "own", store.Config{}); err == nil {
				_ = v.Drop(ctx)
			}
		}},
	}
	var all []place
	for _, call := range calls {
		for _, method := range call.uses {
			all = append(all, place{
				name: fmt.Sprintf("%s of a context for %s", method, call.name), leak: "devil: goroutine caller", lacks: bare("a context"),
				provoke: func(c *cell, _ context.Context) error {
					return inGo(c, "caller", func(ctx context.Context, s *hub.Session) {
						call.do(evilContext{ctx, c, method}, c, s) //nolint:contextcheck // It has a context of its own.
					})
				},
			})
		}
	}
	return append(all, place{
		name: "value that a plugin logs", leak: "devil: call Session.Logger", early: true, lacks: bare("a value"), deaf: "it is the log",
		unnamed: "what a plugin logs is its own", provoke: sendJob,
		start: func(c *cell, s *hub.Session) {
			serveFor(c, s, "job", func(ctx context.Context, _ router.Message) (any, error) {
				s.Logger().InfoContext(ctx, "hello", "value", evilValue{c})
				return "done", nil
			})
		},
	})
}

// An evilValue is logged by code.
type evilValue struct{ c *cell }

func (v evilValue) LogValue() slog.Value {
	_ = v.c.run(hook{})
	return slog.StringValue("a value")
}
