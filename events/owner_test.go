package events_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestOwner shows that what the host hears of a client has the Owner of that very client,
// also when another one has its id.
func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []any
		hear := func(what ...any) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, what...)
		}
		bus := hBus(t, events.Options{
			SlowAfter: time.Second,
			OnFailure: func(f events.Failure) { hear(f.Outcome, f.Owner) },
			OnSlow:    func(s events.Slow) { hear("slow", s.Owner) },
		})
		release := make(chan struct{})
		old, err := bus.Client("a", events.ClientOptions{Owner: "the old"})
		require.NoError(t, err)
		_, err = old.Subscribe("x", func(context.Context, events.Event) error { <-release; return nil })
		require.NoError(t, err)
		emitter := hClient(t, bus, "emitter")
		say := func() {
			t.Helper()
			_, err := emitter.Emit(t.Context(), "x", 1)
			require.NoError(t, err)
			synctest.Wait()
		}
		say()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, old.Close(ctx))
		next, err := bus.Client("a", events.ClientOptions{Owner: "the new"})
		require.NoError(t, err)
		_, err = next.Subscribe("x", func(context.Context, events.Event) error { panic("boo") })
		require.NoError(t, err)
		<-time.After(3 * time.Second)
		say()
		close(release)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []any{plugbus.Abandoned, "the old", "slow", "the old", plugbus.Failed, "the new"}, heard)
	})
}
