package events_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

type point struct{ N, X, Y int64 }

// BenchmarkEmit measures an emit without a guard; package hub has the guarded one,
// beside its peers.
func BenchmarkEmit(b *testing.B) {
	for _, subs := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			bus, err := events.New(events.Options{QueueBytes: 1 << 30})
			require.NoError(b, err)
			emitter, err := bus.Client("emitter", events.ClientOptions{})
			require.NoError(b, err)
			got := make([]int64, subs*16)
			for i := range subs {
				c, err := bus.Client(fmt.Sprintf("sub%d", i), events.ClientOptions{})
				require.NoError(b, err)
				_, err = c.Subscribe("point.*", func(_ context.Context, e events.Event) error {
					got[i*16] += e.Data().(point).N
					return nil
				}, events.Buffer(events.MaxBuffer))
				require.NoError(b, err)
			}
			var p any = point{N: 1}
			ctx := context.Background()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				_, err := emitter.Emit(ctx, "point.moved", p)
				if err != nil {
					b.Fatal(err)
				}
				if n++; n%8192 == 0 {
					require.NoError(b, bus.Idle(ctx))
				}
			}
			require.NoError(b, bus.Idle(ctx))
			for i := range subs {
				require.EqualValues(b, n, got[i*16])
			}
			require.NoError(b, bus.Ledger().Check())
			require.NoError(b, bus.Close(ctx))
		})
	}
}
