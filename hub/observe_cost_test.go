//go:build !race

package hub_test // The race detector makes pools forget.

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestObserverAllocatesNothing shows that to observe an act and its delivery takes no
// memory, once the queue has grown.
func TestObserverAllocatesNothing(t *testing.T) {
	for _, observer := range []hub.Observer{nil, hub.ObserverFunc(func(context.Context, []plugbus.Observation) {})} {
		h := open(t, hub.Options{Observer: observer, ObserverQueue: 1024})
		a, b := join(t, h, "a"), join(t, h, "b")
		_, err := b.Subscribe("job.*", func(context.Context, events.Event) error { return nil })
		require.NoError(t, err)
		_, err = b.Handle("job", func(context.Context, router.Message) (any, error) { return nil, nil })
		require.NoError(t, err)
		ctx := context.Background()
		act := func() {
			_, _ = a.Emit(ctx, "job.new", 1)
			_, _ = a.Send(ctx, "b", "job", nil)
		}
		for range 5000 {
			act()
		}
		require.LessOrEqual(t, testing.AllocsPerRun(2000, act), 1.0, "the context of a request's handler is the one")
	}
}

// BenchmarkObserved shows what the Observer costs those who act: nothing if there is none.
func BenchmarkObserved(b *testing.B) {
	for _, on := range []bool{false, true} {
		o := hub.Options{}
		if on {
			o.Observer = hub.ObserverFunc(func(context.Context, []plugbus.Observation) {})
		}
		for _, what := range []string{"emit", "send"} {
			b.Run(fmt.Sprintf("act=%s/observer=%v", what, on), func(b *testing.B) {
				h := open(b, o)
				from, to := join(b, h, "from"), join(b, h, "to")
				_, err := to.Subscribe("job.*", func(context.Context, events.Event) error { return nil }, events.Buffer(1<<16))
				require.NoError(b, err)
				_, err = to.Handle("job", func(context.Context, router.Message) (any, error) { return nil, nil })
				require.NoError(b, err)
				ctx := context.Background()
				b.ReportAllocs()
				for b.Loop() {
					if what == "emit" {
						_, err = from.Emit(ctx, "job.new", 1)
					} else {
						_, err = from.Send(ctx, "to", "job", nil)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				require.NoError(b, h.Idle(ctx))
			})
		}
	}
}
