package events_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestTimeoutOfWhoObeys has handlers return as soon as their context says that their time is
// over: they had not returned by then, so each is abandoned, whichever of the two clocks is
// the first.
func TestTimeoutOfWhoObeys(t *testing.T) {
	for name, options := range map[string][]events.SubscribeOption{
		"worker":     {events.Timeout(time.Second)},
		"concurrent": {events.Timeout(time.Second), events.Concurrent(4)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := openBus(t, events.Options{})
				c := joinBus(t, bus, "a")
				_, err := c.Subscribe("said", func(ctx context.Context, _ events.Event) error {
					<-ctx.Done()
					return ctx.Err()
				}, options...)
				require.NoError(t, err)
				const n = 200
				for range n {
					_, err := c.Emit(t.Context(), "said", nil)
					require.NoError(t, err)
				}
				require.NoError(t, bus.Idle(t.Context()))
				l := bus.Ledger()
				require.EqualValues(t, n, l.Abandoned, "%+v", l)
			})
		})
	}
}
