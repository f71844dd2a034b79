package events_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestDrainEndsWithTheTimeout shows that a plugin has drained when its last handler is
// abandoned, although that has not returned.
func TestDrainEndsWithTheTimeout(t *testing.T) {
	for kind, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			what := fmt.Sprint("kind ", kind)
			bus := openBus(t, events.Options{})
			c, g := joinBus(t, bus, "plugin"), closedGate(t)
			listen(t, c, "e", g.then(nil), append(options, events.Timeout(time.Second))...)
			tell(t, joinBus(t, bus, "emitter"), "e", nil)
			synctest.Wait()
			start := time.Now()
			long, stop := context.WithTimeout(t.Context(), time.Hour)
			defer stop()
			require.NoError(t, c.Drained(long), what)
			require.NoError(t, c.Close(long), what)
			require.Equal(t, time.Second, time.Since(start), what)
			require.Len(t, bus.Leaks(), 1, what)
		})
	}
}

// TestDrainEndsWithTheSubscription shows that a plugin has drained when what waits is
// cancelled, although a handler that was abandoned before has not returned.
func TestDrainEndsWithTheSubscription(t *testing.T) {
	for kind, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			what := fmt.Sprint("kind ", kind)
			bus := openBus(t, events.Options{})
			c, emitter, g := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter"), closedGate(t)
			s := listen(t, c, "e", g.then(nil), append(options, events.Timeout(time.Second))...)
			for range 4 {
				tell(t, emitter, "e", nil)
			}
			synctest.Wait()
			c.BeginDrain()
			pass(2 * time.Second)
			long, stop := context.WithTimeout(t.Context(), time.Hour)
			defer stop()
			drained := make(chan error, 1)
			go func() { drained <- c.Drained(long) }()
			synctest.Wait()
			require.Empty(t, drained, what)
			s.Unsubscribe()
			synctest.Wait()
			require.Len(t, drained, 1, what)
			require.NoError(t, <-drained, what)
		})
	}
}
