package events_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestTruncated shows that what the history no longer holds is reported to
// those who asked for it (E21), and to nobody else.
func TestTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 5})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		guard.deny(plugbus.VerbSubscribe, "x.secret")
		var at []time.Time
		for _, name := range []string{"y", "x.a", "x.b", "x.secret", "x.c", "x.a", "x.a", "x.c", "z"} {
			hAdvance(time.Second)
			at = append(at, time.Now())
			hEmit(t, emitter, name) // The last five are left, from 5 on.
		}
		for _, test := range []struct {
			pattern string
			from    events.From
			want    *events.TruncatedError
		}{
			{"x.*", events.All(), &events.TruncatedError{Lost: 3}}, // 4 is a secret
			{"x.*", events.After(0), &events.TruncatedError{Lost: 3}},
			{"x.*", events.After(2), &events.TruncatedError{After: 2, Lost: 3}},
			{"x.*", events.After(3), nil},
			{"x.*", events.Since(at[0]), &events.TruncatedError{Lost: 3}},
			{"x.*", events.Since(at[2]), &events.TruncatedError{Lost: 3}},
			{"x.*", events.Since(at[2].Add(1)), nil},
			{"x.*", events.Last(4), nil},
			{"x.*", events.Last(5), &events.TruncatedError{Lost: 3}},
			{"x.*", events.LatestPerName(), &events.TruncatedError{Lost: 3}}, // of x.b
			{"x.*", events.From{}, nil},

			{"x.a", events.All(), &events.TruncatedError{Lost: 2}},
			{"x.a", events.LatestPerName(), nil},
			{"x.b", events.Last(1), &events.TruncatedError{Lost: 3}},
			{"x.c", events.All(), nil}, // only strangers were lost
			{"z", events.All(), nil},
			{"x.secret", events.All(), nil},
		} {
			events, errs := hReplay(reader, test.pattern, test.from)
			for _, e := range events {
				require.False(t, e.Truncated())
			}
			if test.want == nil {
				require.Empty(t, errs, "%+v", test)
			} else {
				require.Equal(t, []error{test.want}, errs, "%+v", test)
			}
			hRequireTruncated(t, emitter, reader, test.pattern, test.from, test.want != nil)
		}
	})
}

// hRequireTruncated asserts that a subscription says once whether events are
// gone, and at once if it has an order.
func hRequireTruncated(t *testing.T, emitter, reader *events.Client, pattern string, from events.From, want bool) {
	t.Helper()
	for _, option := range []events.SubscribeOption{
		events.OnOverflow(events.DropOldest), events.OnOverflow(events.DropNewest), events.Concurrent(3),
	} {
		var got hRecorder
		s := hSubscribe(t, reader, pattern, got.handle, option, events.Narrow(), events.StartAt(from))
		synctest.Wait()
		hEmit(t, emitter, "x.secret", events.NoHistory())
		hEmit(t, emitter, "x.a", events.NoHistory())
		synctest.Wait()
		s.Unsubscribe()
		if len(got.events()) == 0 {
			continue
		}
		marks := []bool{}
		for _, e := range got.events() {
			marks = append(marks, e.Truncated())
		}
		if option == events.Concurrent(3) {
			require.Equal(t, want, slices.Contains(marks, true), "%q from %+v", pattern, from)
			continue
		}
		require.Equal(t, want, marks[0], "%q from %+v with %#v", pattern, from, option)
		require.NotContains(t, marks[1:], true)
	}
}

// TestTruncatedWhileReading shows that what the history loses before a slow
// reader gets there is reported too: nothing is skipped in silence (E21).
func TestTruncatedWhileReading(t *testing.T) {
	for _, from := range []events.From{events.All(), events.After(0), events.Last(100), events.Since(time.Time{}), events.LatestPerName()} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{HistoryEvents: 100})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			hEmitMany(t, emitter, 100)
			got := newHGate()
			hSubscribe(t, reader, "x", got.handle, events.StartAt(from))
			synctest.Wait()
			hEmitMany(t, emitter, 250)
			got.open()
			require.NoError(t, bus.Idle(t.Context()))
			var after []uint64
			before := uint64(0)
			for _, e := range got.events() {
				if e.Truncated() {
					after = append(after, before)
				} else if before > 0 {
					require.Equal(t, before+1, e.Seq(), "%+v: a gap, and no word of it", from)
				}
				before = e.Seq()
			}
			require.Len(t, after, 1, "%+v", from)
			require.EqualValues(t, 350, before)

			var errs []error
			before = 250
			for e, err := range reader.Replay(t.Context(), "x", events.After(250)) {
				if err != nil {
					require.Equal(t, &events.TruncatedError{After: 314, Lost: 400}, err)
					errs = append(errs, err)
					before = 400
					continue
				}
				if e.Seq() == 260 {
					hEmitMany(t, emitter, 150)
				}
				require.Equal(t, before+1, e.Seq())
				before++
			}
			require.Len(t, errs, 1)
			require.EqualValues(t, 500, before)
		})
	}
}

// TestTruncatedIsToldOnce shows that a reader hears once of what was gone before
// it came, although what is left begins before that and takes it several pages.
func TestTruncatedIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 300})
		quiet, flood, reader := hClient(t, bus, "quiet"), hClient(t, bus, "flood"), hClient(t, bus, "reader")
		hEmitMany(t, quiet, 140)
		hEmitMany(t, flood, 1000)
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Len(t, got.events(), 300)
		for i, e := range got.events() {
			require.Equal(t, i == 0, e.Truncated(), "%d", i)
		}
		_, errs := hReplay(reader, "x", events.After(10))
		require.Equal(t, []error{&events.TruncatedError{After: 10, Lost: 980}}, errs)
	})
}

// TestTruncatedSurvivesFilter shows that the word of a gap waits for the handler.
func TestTruncatedSurvivesFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 3})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmitMany(t, emitter, 5)
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()),
			events.Filter(func(e events.Event) bool { return e.Seq() == 5 }))
		synctest.Wait()
		require.Equal(t, []uint64{5}, got.seqs())
		require.True(t, got.events()[0].Truncated())
	})
}

// TestReplayWithoutHistory shows a bus that keeps none: all of it is gone, and
// what comes still comes.
func TestReplayWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: -1})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmitMany(t, emitter, 2)
		got, errs := hReplay(reader, "x", events.All())
		require.Empty(t, got)
		require.Equal(t, []error{&events.TruncatedError{Lost: 2}}, errs)
		var live hRecorder
		hSubscribe(t, reader, "x", live.handle, events.StartAt(events.All()))
		synctest.Wait()
		hEmitMany(t, emitter, 2)
		synctest.Wait()
		require.Equal(t, []uint64{3, 4}, live.seqs())
		require.True(t, live.events()[0].Truncated())
		require.Zero(t, bus.History().Events)
	})
}

// TestReplaySkipsExpired shows that no replay shows an event after its time, nor
// one that is older than the history keeps.
func TestReplaySkipsExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryAge: time.Hour})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmit(t, emitter, "x")
		hEmit(t, emitter, "x", events.MaxAge(time.Minute))
		hEmit(t, emitter, "x", events.MaxAge(math.MaxInt64))
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		hAdvance(time.Minute - 1)
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		hAdvance(1)
		require.Equal(t, []uint64{1, 3}, hReplayed(t, reader, "x", events.All()))
		var got hRecorder
		s := hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Equal(t, []uint64{1, 3}, got.seqs())
		require.Zero(t, s.Stats().Ledger.Expired, "it was never offered")

		// One expires while it waits in the page of a reader.
		hEmit(t, emitter, "y")
		hEmit(t, emitter, "y", events.MaxAge(time.Minute))
		slow := newHGate()
		s = hSubscribe(t, reader, "y", slow.handle, events.StartAt(events.All()))
		synctest.Wait()
		hAdvance(time.Minute)
		slow.open()
		require.Equal(t, []uint64{4}, slow.seqs())
		require.EqualValues(t, 1, s.Stats().Ledger.Expired)

		hAdvance(time.Hour)
		require.Empty(t, hTruncated(t, reader, "**"))
	})
}

// hTruncated replays all of a pattern that has lost events.
func hTruncated(t *testing.T, c *events.Client, pattern string) []events.Event {
	t.Helper()
	got, errs := hReplay(c, pattern, events.All())
	require.Len(t, errs, 1)
	var truncated *events.TruncatedError
	require.ErrorAs(t, errs[0], &truncated)
	return got
}
