package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// benchPolicy has every guard on: rights with a deny, a rate that the benchmark
// stays below, limits and content checks. The emitter "metered" has a byte rate
// besides, which is off by default.
const benchPolicy = `{"version": 1, "plugins": {
	"emitter": {
		"trust": "basic",
		"emit": {"allow": ["point.*"], "deny": ["point.secret"]},
		"rates": {"events": {"limit": 1000000000000, "burst": 1000000000}}
	},
	"metered": {
		"trust": "basic",
		"emit": {"allow": ["point.*"], "deny": ["point.secret"]},
		"rates": {"events": {"limit": 1000000000000, "burst": 1000000000}, "bytes": {"limit": 1000000000000, "burst": 1000000000}}
	}%s
}}`

type reading struct{ N, X, Y int64 }

// A labelled reading has text, which the content checks read.
type labelled struct {
	reading
	Unit string
}

// guarded returns a hub with an emitter and subscribers, who add up what they
// get.
func guarded(tb testing.TB, id string, subs int) (h *hub.Hub, emitter *hub.Session, got []int64) {
	tb.Helper()
	var more string
	for i := range subs {
		more += fmt.Sprintf(`, "sub%d": {"subscribe": {"allow": ["point.*"]}}`, i)
	}
	policy, err := security.Parse(fmt.Appendf(nil, benchPolicy, more), "bench.json")
	require.NoError(tb, err)
	h, err = hub.New(hub.Options{Policy: policy, Events: events.Options{Buffer: events.MaxBuffer, QueueBytes: 1 << 30}})
	require.NoError(tb, err)
	plugins := []hub.Plugin{hub.Func(hub.Manifest{ID: id}, func(_ context.Context, s *hub.Session) error {
		emitter = s
		return nil
	})}
	const line = 16 // numbers in two cache lines, so that subscribers do not share one
	got = make([]int64, subs*line)
	for i := range subs {
		plugins = append(plugins, hub.Func(hub.Manifest{ID: fmt.Sprintf("sub%d", i)}, func(_ context.Context, s *hub.Session) error {
			_, err := s.Subscribe("point.*", func(_ context.Context, e events.Event) error {
				switch data := e.Data().(type) {
				case reading:
					got[i*line] += data.N
				case labelled:
					got[i*line] += data.N
				}
				return nil
			})
			return err
		}))
	}
	require.NoError(tb, h.Register(tb.Context(), plugins...))
	tb.Cleanup(func() {
		require.NoError(tb, h.Ledger().Check())
		_, err := h.Close(context.Background())
		require.NoError(tb, err)
	})
	return h, emitter, got
}

// BenchmarkGuardedEmit measures an emit with all guards on, until every
// subscriber has handled it. What subscribers got is added up, so that a lost or
// doubled event fails the benchmark.
func BenchmarkGuardedEmit(b *testing.B) {
	for _, test := range []struct {
		emitter string
		data    any
		subs    int
	}{
		{"emitter", reading{N: 1}, 0},
		{"emitter", reading{N: 1}, 1},
		{"emitter", reading{N: 1}, 10},
		{"emitter", reading{N: 1}, 100},
		{"emitter", labelled{reading{N: 1}, "mm"}, 1},
		{"metered", reading{N: 1}, 1},
	} {
		b.Run(fmt.Sprintf("by=%s/data=%T/subs=%d", test.emitter, test.data, test.subs), func(b *testing.B) {
			h, emitter, got := guarded(b, test.emitter, test.subs)
			ctx := b.Context()
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				if _, err := emitter.Emit(ctx, "point.moved", test.data); err != nil {
					b.Fatal(err)
				}
				if n++; n%8192 == 0 {
					require.NoError(b, h.Idle(ctx))
				}
			}
			require.NoError(b, h.Idle(ctx))
			for i := range test.subs {
				require.Equal(b, n, got[i*len(got)/test.subs])
			}
		})
	}
}

// BenchmarkLoneEvent measures one event from emit to the handler's answer, with
// nothing else going on.
func BenchmarkLoneEvent(b *testing.B) {
	h, emitter, _ := guarded(b, "emitter", 0)
	done := make(chan struct{})
	_, err := h.Host().Subscribe("point.*", func(context.Context, events.Event) error {
		done <- struct{}{}
		return nil
	})
	require.NoError(b, err)
	ctx := b.Context()
	var data any = reading{N: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := emitter.Emit(ctx, "point.moved", data); err != nil {
			b.Fatal(err)
		}
		<-done
	}
}

// A guarded emit of a small struct allocates nothing, with a rate and a byte
// rate, content checks, history, and a subscriber that checks what it got.
func TestGuardedEmitAllocatesNothing(t *testing.T) {
	for _, data := range []any{reading{N: 1}, labelled{reading{N: 1}, "mm"}} {
		h, emitter, got := guarded(t, "metered", 1)
		ctx := t.Context()
		emit := func() {
			_, err := emitter.Emit(ctx, "point.moved", data)
			require.NoError(t, err)
		}
		for range 20_000 { // Fill the history and the pools.
			emit()
		}
		require.NoError(t, h.Idle(ctx))
		before := got[0]
		const runs = 1000
		allocs := testing.AllocsPerRun(runs, emit)
		require.NoError(t, h.Idle(ctx))
		require.Zero(t, allocs, "%T", data)
		require.Equal(t, before+runs+1, got[0])
	}
}
