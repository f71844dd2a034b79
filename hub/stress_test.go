package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// TestStress has plugins join, emit, subscribe, panic, be quarantined, restored,
// and leave, all at the same time. At every poll the books balance and an
// emitter is not lost, at the end nothing runs, and no plugin saw two of its
// handlers at once.
func TestStress(t *testing.T) {
	h := open(t, hub.Options{WaitLimit: 5 * time.Second, Events: events.Options{Buffer: 32}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var rounds, quarantined, overlaps atomic.Uint64
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				live(t, h, fmt.Sprintf("p%d", i), random, &quarantined, &overlaps) //nolint:contextcheck // ctx only ends the loop.
				rounds.Add(1)
			}
		})
	}
	wait.Go(func() {
		for ctx.Err() == nil {
			require.NoError(t, h.Ledger().Check())
			s := h.Inspect()
			require.NoError(t, s.Ledger.Check())
			for _, p := range s.Plugins {
				for _, sub := range p.Subscriptions {
					require.NoError(t, sub.Ledger.Check())
				}
				if p.State == hub.Quarantined {
					err := h.Restore(p.ID)
					require.True(t, err == nil || errors.Is(err, hub.ErrUnknownPlugin) || errors.Is(err, plugbus.ErrInvalid), "%v", err)
				}
			}
			h.Health(ctx)
		}
	})
	wait.Wait()
	idle(t, h)
	require.Empty(t, h.Leaks())
	require.Empty(t, h.Plugins())
	report, err := h.Close(t.Context())
	require.NoError(t, err)
	require.True(t, report.Clean(), "%+v", report)
	require.NoError(t, report.Ledger.Check())
	require.Zero(t, report.Ledger.Waiting+report.Ledger.Running)
	require.Zero(t, overlaps.Load())
	require.NotZero(t, quarantined.Load())
	require.NotZero(t, report.Ledger.Failed)
	t.Logf("%d lives, %d quarantines, %v", rounds.Load(), quarantined.Load(), report.Ledger)
}

// live is the life of one plugin.
func live(t testing.TB, h *hub.Hub, id string, random *rand.Rand, quarantined, overlaps *atomic.Uint64) {
	var inside bool // Of the plugin's worker.
	panics := random.IntN(3) == 0
	handler := func(_ context.Context, e events.Event) error {
		if inside {
			overlaps.Add(1)
		}
		inside = true
		defer func() { inside = false }()
		if panics && e.Source() == id {
			panic("boo")
		}
		return nil
	}
	r := &receiver{plug{manifest: named(id), health: func(ctx context.Context) error { return handler(ctx, events.Event{}) }}, handler}
	r.start = func(ctx context.Context, s *hub.Session) error {
		for _, pattern := range []string{"word.*", "**", "word." + id} {
			if _, err := s.Subscribe(pattern, handler); err != nil {
				return err
			}
		}
		return s.Go("emitter", func(ctx context.Context) {
			for i := 0; ctx.Err() == nil && i < 200; i++ {
				_, _ = s.Emit(ctx, "word."+id, i)
			}
		})
	}
	require.NoError(t, h.Register(context.Background(), r))
	for i := range random.IntN(50) {
		_, err := r.session.Broadcast(context.Background(), "other.said", i, events.Audience{})
		require.True(t, err == nil || errors.Is(err, plugbus.ErrDenied), "%v", err)
		if sub, err := r.session.Subscribe("word.*", handler); err == nil && i%2 == 0 {
			sub.Unsubscribe()
		}
	}
	for i := 0; panics && i < 100_000; i++ { // Until the hub has had enough.
		if _, err := r.session.Emit(context.Background(), "word."+id, i); errors.Is(err, plugbus.ErrDenied) {
			quarantined.Add(1)
			break
		}
	}
	require.NoError(t, h.Unregister(context.Background(), id))
}
