package events_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A closingMeter ends its client when it is asked, and has nothing to give.
type closingMeter struct{ end func() }

func (m closingMeter) Take(time.Time, int) time.Duration {
	m.end()
	return -1
}

// TestRefusedTooLate shows that an act which is refused when its client has ended changes
// no books: whoever closed the bus has read them.
func TestRefusedTooLate(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "late"}
	c := hGuarded(t, bus, "late", guard)
	var books plugbus.Ledger
	guard.acts = closingMeter{func() {
		require.NoError(t, c.Close(t.Context()))
		books = bus.Ledger()
	}}
	_, err := c.Emit(t.Context(), "a", 1)
	require.ErrorIs(t, err, events.ErrClosed)
	require.Equal(t, books, bus.Ledger())
	require.Empty(t, guard.refused)
}

// A cuttingGuard calls a function when it is next asked for its version.
type cuttingGuard struct {
	*hGuard
	cut atomic.Pointer[func()]
}

func (g *cuttingGuard) Version() uint64 {
	if cut := g.cut.Swap(nil); cut != nil {
		(*cut)()
	}
	return g.hGuard.Version()
}

// TestCutOffAtTheStart shows that a delivery whose plugin is cut off between its start and
// the call of the handler is abandoned once, also if the handler then exceeds its time.
func TestCutOffAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &cuttingGuard{hGuard: &hGuard{plugin: "late"}}
		c, err := bus.Client("late", events.ClientOptions{Guard: guard})
		require.NoError(t, err)
		called := false
		_, err = c.Subscribe("a", func(context.Context, events.Event) error {
			called = true
			<-time.After(time.Minute)
			return nil
		}, events.Timeout(time.Second))
		require.NoError(t, err)
		cut := func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = c.Close(ctx)
		}
		guard.cut.Store(&cut)
		_, err = hClient(t, bus, "emitter").Emit(t.Context(), "a", 1)
		require.NoError(t, err)
		<-time.After(time.Hour)
		require.True(t, called)
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.EqualValues(t, 1, l.Abandoned)
	})
}
