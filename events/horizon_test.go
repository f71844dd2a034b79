package events

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPriorityWhileDraining looks, in the worker's place, at a plugin whose
// subscriptions stop being fed while the worker is between two looks at its
// inbox. The subscription that has become ready meanwhile handles the event
// first, since it has the higher priority (E5).
func TestPriorityWhileDraining(t *testing.T) {
	for _, late := range [][]SubscribeOption{nil, {Fair()}, {OnOverflow(RefuseToEmitter)}} {
		bus, err := New(Options{})
		require.NoError(t, err)
		c, err := bus.Client("plugin", ClientOptions{})
		require.NoError(t, err)
		emitter, err := bus.Client("emitter", ClientOptions{})
		require.NoError(t, err)
		emit := func(name string) {
			_, err := emitter.Emit(t.Context(), name, nil)
			require.NoError(t, err)
		}
		var order []string
		subscribe := func(pattern string, priority int, options ...SubscribeOption) {
			_, err := c.Subscribe(pattern, func(_ context.Context, e Event) error {
				order = append(order, fmt.Sprint(e.Name(), " by ", priority))
				return nil
			}, append(options, Priority(priority))...)
			require.NoError(t, err)
		}
		subscribe("**", 1)
		subscribe("last", 2, late...)

		require.True(t, c.actor.Claim(), "we are the worker")
		emit("first")
		c.collect()
		emit("last")
		c.BeginDrain()
		c.merge(c.horizon(), workBudget)
		for c.work() {
			t.Log("more")
		}
		c.actor.Release()
		require.Equal(t, []string{"first by 1", "last by 2", "last by 1"}, order)
		require.NoError(t, bus.Close(t.Context()))
	}
}
