package events_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestFenceBeforeTheTimeOut ends a client whose handler then runs into its
// time-out too: it was abandoned once.
func TestFenceBeforeTheTimeOut(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}} {
		synctest.Test(t, func(t *testing.T) {
			var failures []events.Failure
			bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g := closedGate(t)
			listen(t, c, "e", g.then(nil), append(options, events.Timeout(time.Minute))...)
			tell(t, emitter, "e", nil)
			synctest.Wait()
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			require.ErrorIs(t, c.Close(limited), context.DeadlineExceeded)
			pass(time.Hour)
			require.NoError(t, bus.Ledger().Check())
			require.EqualValues(t, 1, bus.Ledger().Abandoned)
			require.Len(t, failures, 1)
			g.open()
			synctest.Wait()
		})
	}
}

// TestSlowHandlersAreNamedWhileClosing is E10 for a bus that takes no more
// events.
func TestSlowHandlersAreNamedWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan events.Slow, 1)
		bus := openBus(t, events.Options{SlowAfter: time.Second, OnSlow: func(s events.Slow) { slow <- s }})
		c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
		g := closedGate(t)
		listen(t, c, "e", g.then(nil))
		tell(t, emitter, "e", nil)
		synctest.Wait()
		bus.CloseIntake()
		pass(time.Minute)
		require.Len(t, slow, 1)
		g.open()
	})
}

// TestNothingOfAPluginStays shows that a plugin that has left can be collected,
// although emitters remember where their events went, and somebody has its
// subscriptions.
func TestNothingOfAPluginStays(t *testing.T) {
	type plugin struct{ state [64]byte }
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}} {
		bus := openBus(t, events.Options{})
		emitter := joinBus(t, bus, "emitter")
		subscribe := func() (weak.Pointer[plugin], *events.Subscription) {
			p, c := &plugin{}, joinBus(t, bus, "plugin")
			s := listen(t, c, "e", func(context.Context, events.Event) error {
				p.state[0]++
				return nil
			}, append(options, events.Filter(func(events.Event) bool { return p.state[1] == 0 }))...)
			tell(t, emitter, "e", nil)
			require.NoError(t, bus.Idle(t.Context()))
			require.NoError(t, c.Close(t.Context()))
			require.NoError(t, s.Wait(t.Context()))
			return weak.Make(p), s
		}
		p, s := subscribe()
		runtime.GC()
		require.Nil(t, p.Value())
		runtime.KeepAlive(s)
		runtime.KeepAlive(emitter)
	}
}
