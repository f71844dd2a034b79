package events_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A lenientMeter counts what is taken, and refuses nothing.
type lenientMeter struct{ taken int }

func (m *lenientMeter) Take(_ time.Time, n int) time.Duration {
	m.taken += n
	return 0
}

// TestEmitAllocatesNothing emits a small struct under a guard that meters acts
// and bytes and inspects content, to a subscriber that adds up what it gets. The
// caller's own boxing into any is not counted.
func TestEmitAllocatesNothing(t *testing.T) {
	type small struct {
		N, X int64
		Y    int64
	}
	for i, options := range [][]events.SubscribeOption{nil, {events.OnOverflow(events.DropNewest)}, {events.Fair()}} {
		bus := openBus(t, events.Options{HistoryEvents: 1000})
		r := newRules()
		acts, bytes := &lenientMeter{}, &lenientMeter{}
		r.acts, r.bytes, r.payload.Content = acts, bytes, plugbus.CheckAll
		emitter := guarded(t, bus, r.guard("emitter"))
		listener := guarded(t, bus, newRules().guard("listener"))
		sum := int64(0)
		handled := make(chan struct{}, 1)
		listen(t, listener, "point.*", func(_ context.Context, e events.Event) error {
			sum += e.Data().(small).N
			handled <- struct{}{}
			return nil
		}, options...)
		var data any = small{N: 1}
		ctx := t.Context()
		emit := func() {
			if _, err := emitter.Emit(ctx, "point.moved", data); err != nil {
				t.Error(err)
			}
			<-handled
		}
		const warm, runs = 3000, 2000
		for range warm {
			emit()
		}
		require.Zero(t, testing.AllocsPerRun(runs, emit), "options %d", i)
		require.NoError(t, bus.Idle(ctx))
		require.EqualValues(t, warm+runs+1, sum)
		require.Equal(t, warm+runs+1, acts.taken)
		require.Equal(t, (warm+runs+1)*24, bytes.taken)
	}
}
