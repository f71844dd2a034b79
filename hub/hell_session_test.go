package hub_test

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// sessionCalls are calls of all methods of a session, as code makes them that does not
// care where it is: of what waits for others, it waits for itself too. What they open they
// leave open, but for what would be in the way of a second call.
func sessionCalls() map[string]func(ctx context.Context, s *hub.Session) {
	handler := func(context.Context, router.Message) (any, error) { return nil, nil }
	return map[string]func(ctx context.Context, s *hub.Session){
		"ID":     func(_ context.Context, s *hub.Session) { _ = s.ID() },
		"Logger": func(ctx context.Context, s *hub.Session) { s.Logger().DebugContext(ctx, "from hell") },
		"Go":     func(_ context.Context, s *hub.Session) { _ = s.Go("from hell", func(context.Context) {}) },
		"Subscribe": func(_ context.Context, s *hub.Session) {
			sub, err := s.Subscribe("hell.*", func(context.Context, events.Event) error { return nil }, events.StartAt(events.All()))
			if err == nil {
				sub.Unsubscribe()
			}
		},
		"Emit": func(ctx context.Context, s *hub.Session) {
			_, _ = s.Emit(ctx, "ping", 1, events.WaitForRoom())
		},
		"Broadcast": func(ctx context.Context, s *hub.Session) {
			_, _ = s.Broadcast(ctx, "hell.broadcast", 1, events.Audience{})
		},
		"Replay": func(ctx context.Context, s *hub.Session) {
			for range s.Replay(ctx, "**", events.All()) { //nolint:errcheck // Reading is the point.
			}
		},
		"Handle": func(_ context.Context, s *hub.Session) {
			if r, err := s.Handle("hell.type", handler); err == nil {
				r.Remove()
			}
		},
		"HandleStream": func(_ context.Context, s *hub.Session) {
			r, err := s.HandleStream("hell.stream", func(context.Context, router.Message, func(any) bool) error { return nil })
			if err == nil {
				r.Remove()
			}
		},
		"HandleDefault": func(_ context.Context, s *hub.Session) {
			if r, err := s.HandleDefault(handler); err == nil {
				r.Remove()
			}
		},
		"HandleTopic": func(_ context.Context, s *hub.Session) {
			if r, err := s.HandleTopic("hell.topic", func(context.Context, router.Message) error { return nil }); err == nil {
				r.Remove()
			}
		},
		"Send": func(ctx context.Context, s *hub.Session) {
			_, _ = s.Send(ctx, "devil", "ping", nil)
			_, _ = s.Send(ctx, "source", "echo", 1, router.WaitForRoom())
		},
		"Stream": func(ctx context.Context, s *hub.Session) {
			for range s.Stream(ctx, "source", "flow", 1) { //nolint:errcheck // Reading is the point.
			}
			for range s.Stream(ctx, "source", "flow", 1) { //nolint:errcheck // The errors do not matter here.
				break
			}
		},
		"Post":    func(ctx context.Context, s *hub.Session) { _ = s.Post(ctx, "devil", "ping", nil) },
		"Publish": func(ctx context.Context, s *hub.Session) { _, _ = s.Publish(ctx, "hell.topic", 1) },
		"CreateStore": func(ctx context.Context, s *hub.Session) {
			if v, err := s.CreateStore(ctx, "hell.made", store.Config{}); err == nil {
				_ = v.Drop(ctx)
			}
		},
		"EnsureStore": func(ctx context.Context, s *hub.Session) {
			v, err := s.EnsureStore(ctx, "hell.kept", store.Config{Validator: func(context.Context, *store.Proposal) error { return nil }})
			if err == nil {
				_, _ = v.Set(ctx, "k", nil)
			}
		},
		"OpenStore": func(ctx context.Context, s *hub.Session) {
			if v, err := s.OpenStore(ctx, "words"); err == nil {
				_, _ = v.Set(ctx, "from.hell", nil)
				_, _ = v.Watch(ctx, "from.hell", func(context.Context, store.Change) error { return nil })
			}
		},
		"Stores":     func(ctx context.Context, s *hub.Session) { _, _ = s.Stores(ctx) },
		"Provide":    func(_ context.Context, s *hub.Session) { _ = s.Provide(hub.Capability{Name: "hell.skill"}, handler) },
		"Withdraw":   func(_ context.Context, s *hub.Session) { _ = s.Withdraw("hell.skill") },
		"Find":       func(_ context.Context, s *hub.Session) { _, _ = s.Find(discovery.Criteria{}) },
		"Candidates": func(_ context.Context, s *hub.Session) { _, _ = s.Candidates(discovery.Criteria{}) },
		"Providers":  func(_ context.Context, s *hub.Session) { _, _ = s.Providers("hell.skill") },
		"Capability": func(_ context.Context, s *hub.Session) { _, _ = s.Capability("devil", "hell.skill") },
		"Call":       func(ctx context.Context, s *hub.Session) { _, _ = s.Call(ctx, "hell.skill", 1) },
	}
}

// TestHellKnowsAllMethods shows that no method of a session is left out of what code
// from hell calls.
func TestHellKnowsAllMethods(t *testing.T) {
	var methods []string
	for m := range reflect.TypeFor[*hub.Session]().Methods() {
		methods = append(methods, m.Name)
	}
	require.Equal(t, slices.Sorted(slices.Values(methods)), slices.Sorted(maps.Keys(sessionCalls())))
}

// ownTime is the time-out of handlers that have one.
const ownTime = 5 * time.Second
