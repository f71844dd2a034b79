package events_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestReplayIsForTheAskingSubscription is E15: no other subscription gets the
// events of a replay, of whatever plugin and under whatever name.
func TestReplayIsForTheAskingSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter, reader, other := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), hClient(t, bus, "other")
		hEmitMany(t, emitter, 3)
		var mine, others hRecorder
		for _, c := range []*events.Client{emitter, reader, other} {
			hSubscribe(t, c, "x", others.handle)
			hSubscribe(t, c, "**", others.handle)
			hSubscribe(t, c, "replay:*", others.handle)
		}
		hSubscribe(t, reader, "x", mine.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3}, mine.seqs())
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		synctest.Wait()
		require.Empty(t, others.events())
	})
}

// TestReplayAsksForThePermissionOfNow is E18.
func TestReplayAsksForThePermissionOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		for range 40 {
			hEmit(t, emitter, "x.a")
			hEmit(t, emitter, "x.b")
		}
		guard.deny(plugbus.VerbSubscribe, "x.b")
		for _, e := range hReplayedEvents(t, reader, "x.*", events.All()) {
			require.Equal(t, "x.a", e.Name())
		}
		require.Equal(t, []uint64{75, 77, 79}, hReplayed(t, reader, "x.*", events.Last(3)), "the last that it may have")
		require.Equal(t, []uint64{79}, hReplayed(t, reader, "x.*", events.LatestPerName()))

		// The policy changes under a subscription that has read a page, and
		// under a replay.
		guard.deny(plugbus.VerbSubscribe)
		got := newHGate()
		s := hSubscribe(t, reader, "x.*", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		guard.deny(plugbus.VerbSubscribe, "x.a")
		got.open()
		require.Equal(t, "x.a", got.events()[0].Name())
		require.Len(t, got.events(), 41)
		for _, e := range got.events()[1:] {
			require.Equal(t, "x.b", e.Name())
		}
		require.EqualValues(t, 31, s.Stats().Ledger.Undeliverable, "what the page held; the next one held none")

		seqs := []uint64{}
		for e, err := range reader.Replay(t.Context(), "x.*", events.All()) {
			require.NoError(t, err)
			if len(seqs) == 0 {
				guard.deny(plugbus.VerbSubscribe, "x.b")
			}
			seqs = append(seqs, e.Seq())
		}
		require.Equal(t, []uint64{2, 65, 67, 69, 71, 73, 75, 77, 79}, seqs)

		guard.deny(plugbus.VerbSubscribe, "x.a", "x.b")
		require.Empty(t, hReplayed(t, reader, "x.*", events.All()))
	})
}

func hReplayedEvents(t *testing.T, c *events.Client, pattern string, from events.From) []events.Event {
	t.Helper()
	got, errs := hReplay(c, pattern, from)
	require.Empty(t, errs)
	return got
}

// TestReplayNeedsRightOfThen is E18 where the host asks for both rights.
func TestReplayNeedsRightOfThen(t *testing.T) {
	for _, test := range []struct {
		needed    bool
		forgotten uint64
		want      []uint64
	}{
		{false, 0, []uint64{1, 2, 3}},
		{true, 0, []uint64{2, 3}},
		{true, 1, []uint64{2, 3}},
		{true, 2, []uint64{3}}, // what is no longer known is not allowed
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{ReplayNeedsRightOfThen: test.needed})
			guard := &hGuard{plugin: "both"}
			emitter, reader := hGuarded(t, bus, "emitter", guard), hGuarded(t, bus, "reader", guard)
			guard.deny(plugbus.VerbSubscribe, "x")
			hEmit(t, emitter, "x")
			guard.deny(plugbus.VerbSubscribe, "y")
			hEmit(t, emitter, "x")
			guard.deny(plugbus.VerbSubscribe)
			hEmit(t, emitter, "x")
			guard.forgotten = test.forgotten
			require.Equal(t, test.want, hReplayed(t, reader, "x", events.All()), "%+v", test)
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
			synctest.Wait()
			require.Equal(t, test.want, got.seqs(), "%+v", test)
		})
	}
}

// TestReplayPageIsAnAct is E20: the rate can refuse a replay, also in the middle,
// and what it read until then stays good.
func TestReplayPageIsAnAct(t *testing.T) {
	for _, test := range []struct{ acts, want int }{{0, 0}, {1, 64}, {2, 128}, {3, 192}, {4, 200}} {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		hEmitMany(t, emitter, 200)
		meter := &hMeter{}
		meter.left.Store(int64(test.acts))
		guard.acts = meter
		got, errs := hReplay(reader, "x", events.All())
		require.Len(t, got, test.want)
		if test.want == 200 {
			require.Empty(t, errs)
			continue
		}
		require.Len(t, errs, 1)
		denied := hRequireDenied(t, errs[0], plugbus.ReasonRateLimitExceeded)
		require.Equal(t, time.Minute, denied.RetryAfter)
		require.Equal(t, plugbus.VerbSubscribe, denied.Verb)
		require.Len(t, guard.refusals(), 1)
	}
}

// TestHistoryHoldsNoRefusedEvent is E14.
func TestHistoryHoldsNoRefusedEvent(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "emitter", acts: &hMeter{}}
	guard.deny(plugbus.VerbEmit, "x.denied")
	emitter, reader := hGuarded(t, bus, "emitter", guard), hClient(t, bus, "reader")
	for _, test := range []struct {
		name   string
		data   any
		reason plugbus.Reason
	}{
		{"x.denied", nil, plugbus.ReasonDeniedByRule},
		{"x.*", nil, plugbus.ReasonInvalidName},
		{"", nil, plugbus.ReasonInvalidName},
		{"x.rate", nil, plugbus.ReasonRateLimitExceeded},
	} {
		_, err := emitter.Emit(t.Context(), test.name, test.data)
		hRequireDenied(t, err, test.reason)
		_, err = emitter.Broadcast(t.Context(), test.name, test.data, events.Audience{})
		if test.name != "x.denied" {
			hRequireDenied(t, err, test.reason)
		}
	}
	require.Empty(t, hReplayed(t, reader, "**", events.All()))
	require.Zero(t, bus.History().Events)
}
