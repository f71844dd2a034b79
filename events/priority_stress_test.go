package events_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestE5PriorityWhileLeaving has a plugin leave, or lose handlers, right after an
// event that wakes handlers of a higher priority than the one that is at work:
// each event reaches the handlers that it reaches by priority.
func TestE5PriorityWhileLeaving(t *testing.T) {
	bus := openBus(t, events.Options{})
	emitter := joinBus(t, bus, "emitter")
	for round := range 400 {
		c := joinBus(t, bus, fmt.Sprint("plugin", round))
		var subs []*events.Subscription
		last, lastPriority := uint64(0), 0 // Of the plugin's worker.
		for priority, pattern := range []string{"**", "*", "rare", "rare", "*"} {
			options := append([]events.SubscribeOption{events.Priority(priority)}, kinds[(round+priority)%6]...)
			if priority == 4 {
				options = append(options, events.Once())
			}
			subs = append(subs, listen(t, c, pattern, func(_ context.Context, e events.Event) error {
				if e.Seq() < last || e.Seq() == last && priority > lastPriority {
					t.Errorf("round %d: %d with priority %d after %d with %d", round, e.Seq(), priority, last, lastPriority)
				}
				last, lastPriority = e.Seq(), priority
				return nil
			}, options...))
		}
		tell(t, emitter, "often", nil)
		for range round % 8 {
			runtime.Gosched()
		}
		for range round % 3 {
			tell(t, emitter, "often", nil)
		}
		tell(t, emitter, "rare", nil)
		if round%4 == 0 {
			subs[2].Unsubscribe()
			subs[1].Unsubscribe()
		}
		require.NoError(t, c.Close(context.Background()))
	}
}
