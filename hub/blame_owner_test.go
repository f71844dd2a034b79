package hub_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// leftovers are calls of a plugin "a" that still run when it has left, and then are found
// to run long, run out of their time, or panic.
var leftovers = map[string]struct {
	set  func(t *testing.T, h *hub.Hub, s *hub.Session, f func())
	call func(t *testing.T, h *hub.Hub)
}{
	"a handler of events": {func(t *testing.T, _ *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		_, err := s.Subscribe("word.*", func(context.Context, events.Event) error { f(); return nil }, events.Timeout(time.Minute))
		require.NoError(t, err)
	}, func(t *testing.T, h *hub.Hub) { t.Helper(); emit(t, h.Host(), "word.said", 1) }},
	"a concurrent handler of events": {func(t *testing.T, _ *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		_, err := s.Subscribe("word.*", func(context.Context, events.Event) error { f(); return nil }, events.Timeout(time.Minute), events.Concurrent(2))
		require.NoError(t, err)
	}, func(t *testing.T, h *hub.Hub) { t.Helper(); emit(t, h.Host(), "word.said", 1) }},
	"a handler of messages": {func(t *testing.T, _ *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		serve(t, s, "ask", func(context.Context, router.Message) (any, error) { f(); return nil, nil }, router.Timeout(time.Minute))
	}, func(t *testing.T, h *hub.Hub) {
		t.Helper()
		require.NoError(t, h.Host().Post(t.Context(), "a", "ask", 1))
	}},
	"a watcher": {func(t *testing.T, h *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		create(t, h.Host(), "words", store.Config{Read: []string{"a"}})
		_, err := view(t, s, "words").Watch(t.Context(), "**", func(context.Context, store.Change) error { f(); return nil }, store.Timeout(time.Minute))
		require.NoError(t, err)
	}, func(t *testing.T, h *hub.Hub) { t.Helper(); set(t, view(t, h.Host(), "words"), "a", "1") }},
	"a validator": {func(t *testing.T, _ *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		create(t, s, "words", store.Config{Validator: func(context.Context, *store.Proposal) error { f(); return nil }})
	}, func(t *testing.T, h *hub.Hub) {
		t.Helper()
		words := view(t, h.Host(), "words")
		go func() { _, _ = words.Set(context.Background(), "a", nil) }() // Ends with the owner, or the validator's time.
	}},
	"a function of Go": {func(t *testing.T, _ *hub.Hub, s *hub.Session, f func()) {
		t.Helper()
		require.NoError(t, s.Go("f", func(context.Context) { f() }))
	}, func(*testing.T, *hub.Hub) {}},
}

// TestSuccessorIsNotCharged shows that what still runs of a plugin that has left counts
// for that plugin alone, and not for the next one with its id (H2): neither as a failure
// nor as slow, however it ends.
func TestSuccessorIsNotCharged(t *testing.T) {
	for name, left := range leftovers {
		for how, succeed := range map[string]func(ctx context.Context, h *hub.Hub) error{
			"another joins": func(ctx context.Context, h *hub.Hub) error {
				_ = h.Unregister(ctx, "a")
				return h.Register(ctx, &plug{manifest: named("a")})
			},
			"it is replaced": func(ctx context.Context, h *hub.Hub) error { return h.Replace(ctx, &plug{manifest: named("a")}) },
		} {
			for _, panics := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					label := fmt.Sprintf("%s, %s, panics: %t", name, how, panics)
					h := open(t, hub.Options{FailureBudget: 1, WaitLimit: time.Millisecond, Store: store.Options{ValidateLimit: time.Minute}})
					release := make(chan struct{})
					left.set(t, h, join(t, h, "a"), func() {
						<-release
						if panics {
							panic("boo")
						}
					})
					left.call(t, h)
					synctest.Wait()
					require.NoError(t, succeed(t.Context(), h), label)
					synctest.Wait()
					require.NotEmpty(t, h.Leaks(), label)
					<-time.After(2 * time.Minute)
					close(release)
					synctest.Wait()
					for _, p := range h.Inspect().Plugins {
						if p.ID == "a" && p.State == hub.Ready {
							require.Zero(t, p.Failures, label)
							require.Zero(t, p.Slow, label)
							require.Empty(t, p.LastError, label)
						}
					}
					require.Equal(t, hub.Ready, state(h, "a"), label)
					require.Empty(t, h.Leaks(), label)
				})
			}
		}
	}
}
