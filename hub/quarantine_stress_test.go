package hub_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// TestTurnsAreToldInOrder has one plugin fail, be probed and restored by several at once:
// of each quarantine and each restoration the plugins hear once and in their order, and so
// does the audit log; each quarantine ends once; and what is said of a plugin that leaves
// is said before it has left.
func TestTurnsAreToldInOrder(t *testing.T) {
	var audited lineBox
	keep := audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
		if e.Event != "plugin.failed" && e.Event != "plugin.probed" && strings.HasPrefix(e.Event, "plugin.") {
			audited.add(strings.TrimPrefix(e.Event, "plugin."))
		}
		return nil
	})
	h := open(t, hub.Options{
		FailureBudget: 1, ProbeAfter: 20 * time.Microsecond, ProbeMax: 50 * time.Microsecond,
		Audit: audit.Options{CoalesceWithin: -1, Sinks: []audit.SinkOptions{{Name: "lines", Sink: keep, Queue: 1_000_000}}},
	})
	var told lineBox
	_, err := h.Host().Subscribe("plugin:*", func(_ context.Context, e events.Event) error {
		told.add(strings.TrimPrefix(e.Name(), "plugin:"))
		return nil
	}, events.Buffer(1<<16))
	require.NoError(t, err)
	const lives = 10
	for range lives {
		s := join(t, h, "a")
		require.NoError(t, h.Quarantine("a", "so that there is one"))
		var wait sync.WaitGroup
		for n := range 4 {
			wait.Go(func() {
				for i := range 60 {
					_ = s.Go("panics", func(context.Context) { panic("boo") })
					_ = h.Restore("a")
					if n == 0 && i == 40 {
						require.NoError(t, h.Unregister(context.Background(), "a"))
					}
				}
			})
		}
		wait.Wait()
	}
	idle(t, h)
	_, err = h.Close(t.Context())
	require.NoError(t, err)
	for what, lines := range map[string][]string{"notices": told.take(), "audit": audited.take()} {
		state, turns := "unregistered", 0
		for i, next := range lines {
			after := map[string][]string{
				"registered": {"unregistered"}, "quarantined": {"registered", "restored"}, "restored": {"quarantined"},
				"unregistered": {"registered", "quarantined", "restored"},
			}[next]
			require.Contains(t, after, state, "%s: %q at %d", what, next, i)
			state, turns = next, turns+1
		}
		require.Equal(t, "unregistered", state)
		require.Greater(t, turns, 2*lives, what)
	}
}
