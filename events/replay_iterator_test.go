package events_test

import (
	"context"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestReplayIterator shows how a replay ends, by either side.
func TestReplayIterator(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "reader"}
	emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
	hEmitMany(t, emitter, 200)

	t.Run("break", func(t *testing.T) {
		var got []uint64
		for e, err := range reader.Replay(t.Context(), "x", events.All()) {
			require.NoError(t, err)
			if got = append(got, e.Seq()); len(got) == 70 {
				break
			}
		}
		require.Len(t, got, 70)
	})
	t.Run("break at an error", func(t *testing.T) {
		for _, err := range reader.Replay(t.Context(), "x", events.Last(0)) {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
			break
		}
	})
	t.Run("range again", func(t *testing.T) {
		replay := reader.Replay(t.Context(), "x", events.Last(2))
		for range 2 { // A sequence can be used twice; each time it reads anew.
			var got []uint64
			for e, err := range replay {
				require.NoError(t, err)
				got = append(got, e.Seq())
			}
			require.Equal(t, []uint64{199, 200}, got)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for _, err := range reader.Replay(ctx, "x", events.All()) {
			if last = err; err == nil {
				n++
			}
			if n == 3 {
				cancel() // In the middle of a page.
			}
		}
		require.Equal(t, 3, n)
		require.ErrorIs(t, last, context.Canceled)
		require.ErrorContains(t, last, `replay "x"`)
		require.Equal(t, 1, hErrors(reader.Replay(ctx, "x", events.All())), "an error and nothing else")
	})
	t.Run("emit inside", func(t *testing.T) {
		var got []uint64
		for e, err := range reader.Replay(t.Context(), "x", events.All()) {
			require.NoError(t, err)
			if got = append(got, e.Seq()); len(got) <= 100 {
				hEmit(t, emitter, "x") // The end is where it is when the reader gets there.
			}
		}
		require.Len(t, got, 300)
		require.True(t, slices.IsSorted(got))
	})
	for _, test := range []struct {
		pattern string
		from    events.From
	}{
		{"", events.All()},
		{"a..b", events.All()},
		{"a*", events.All()},
		{"**.a", events.All()},
		{"x", events.Last(0)},
		{"x", events.Last(-1)},
	} {
		got, errs := hReplay(reader, test.pattern, test.from)
		require.Empty(t, got)
		require.Len(t, errs, 1, "%+v", test)
		require.ErrorIs(t, errs[0], plugbus.ErrInvalid, "%+v", test)
	}
	t.Run("right", func(t *testing.T) {
		guard.deny(plugbus.VerbSubscribe, "x.*")
		_, err := reader.Subscribe("x.*", (&hRecorder{}).handle)
		hRequireDenied(t, err, plugbus.ReasonDeniedByRule)
		require.Empty(t, hReplayed(t, reader, "x.*", events.All()), "a replay is narrowed to what the grant covers")
	})
}

func hErrors(replay iter.Seq2[events.Event, error]) (n int) {
	for _, err := range replay {
		if err != nil {
			n++
		}
	}
	return n
}

// TestReplayAfterTheEnd shows that a replay ends with its client, and with the
// bus.
func TestReplayAfterTheEnd(t *testing.T) {
	bus := hBus(t, events.Options{})
	emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
	hEmitMany(t, emitter, 10)
	n := 0
	var last error
	for _, err := range reader.Replay(t.Context(), "x", events.All()) {
		if last = err; err == nil {
			n++
		}
		if n == 3 {
			require.NoError(t, reader.Close(t.Context()))
		}
	}
	require.Equal(t, 3, n, "a client that has left gets nothing more")
	require.ErrorIs(t, last, events.ErrClosed)
	_, errs := hReplay(reader, "x", events.All())
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], plugbus.ErrClosed)

	bus.CloseIntake()
	_, errs = hReplay(emitter, "x", events.All())
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], events.ErrClosed)
}
