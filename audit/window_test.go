package audit_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

// TestA5Repeats proves that repeats share an entry, whatever their target.
func TestA5Repeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, audit.Options{})
		first := time.Now()
		for i := range 1000 {
			seq := record(t, l, refused("flood", fmt.Sprint("name-", i)))
			require.EqualValues(t, 1, seq, "a repeat returns the number of the entry that it joins")
			<-time.After(999 * time.Microsecond)
		}
		last := first.Add(999 * 999 * time.Microsecond)
		got, _ := l.Get(1)
		require.Equal(t, "name-0", got.Target, "the first target is kept")
		require.EqualValues(t, 1000, got.Count)
		require.Equal(t, first, got.Time)
		require.Equal(t, last, got.Last)
		require.EqualValues(t, 999, l.Stats().Coalesced)
		require.EqualValues(t, 999, l.Stats().Actors[0].Coalesced)

		<-time.After(time.Until(first.Add(time.Second)))
		require.EqualValues(t, 2, record(t, l, refused("flood", "y")), "the time is over")
		require.EqualValues(t, 2, record(t, l, refused("flood", "z")), "and a new one runs")
	})
}

// TestRepeatsDiffer proves that entries which differ in what matters stand for
// themselves.
func TestRepeatsDiffer(t *testing.T) {
	l := newLog(t, audit.Options{})
	base := refused("a", "x")
	base.Time = time.Now()
	record(t, l, base)
	for i, change := range []func(*audit.Entry){
		func(e *audit.Entry) { e.Event = "emit.other" },
		func(e *audit.Entry) { e.Actor = "b" },
		func(e *audit.Entry) { e.Verb = plugbus.VerbSend },
		func(e *audit.Entry) { e.Outcome = plugbus.Full },
		func(e *audit.Entry) { e.Reason = plugbus.ReasonQuarantined },
		func(e *audit.Entry) { e.Admin = true },
		func(e *audit.Entry) { e.Admin, e.Target = true, "y" },
		func(e *audit.Entry) { e.Admin, e.Details = true, []audit.Detail{{"version", "2"}} },
		func(e *audit.Entry) { e.Time = e.Time.Add(time.Second) },
	} {
		e := base
		change(&e)
		require.EqualValues(t, i+2, record(t, l, e), "%+v", e)
	}
	admin := base
	admin.Admin, admin.Details = true, []audit.Detail{{"version", "2"}}
	require.EqualValues(t, 9, record(t, l, admin), "an admin entry that differs in nothing is a repeat")
}

// TestRepeatsOfThePast proves that a late report of an earlier time joins, and
// that Last does not run back.
func TestRepeatsOfThePast(t *testing.T) {
	l := newLog(t, audit.Options{})
	e := refused("a", "x")
	e.Time, e.Count = time.Now(), 5
	record(t, l, e)
	earlier := e
	earlier.Time = e.Time.Add(-time.Millisecond)
	require.EqualValues(t, 1, record(t, l, earlier))
	got, _ := l.Get(1)
	require.EqualValues(t, 10, got.Count, "a recorder may count for itself")
	require.Equal(t, e.Time, got.Last)

	earlier.Time = e.Time.Add(-time.Hour)
	require.EqualValues(t, 2, record(t, l, earlier), "too long ago")
}

// TestRepeatsOfTheNewest proves that when an entry takes the place of another
// that it does not repeat, the end of the older one does not end the newer.
func TestRepeatsOfTheNewest(t *testing.T) {
	l := newLog(t, audit.Options{AdminCapacity: 2})
	start := time.Now()
	swap := func(version string, at time.Duration) uint64 {
		return record(t, l, audit.Entry{
			Event: "policy.swapped", Actor: "host", Admin: true, Time: start.Add(at),
			Details: []audit.Detail{{"version", version}},
		})
	}
	require.EqualValues(t, 1, swap("1", 0))
	require.EqualValues(t, 2, swap("2", 1))
	record(t, l, audit.Entry{Event: "policy.checked", Actor: "host", Admin: true}) // evicts 1
	require.EqualValues(t, 2, swap("2", 2))
}

// TestRepeatOfAnEvictedEntry proves that nothing joins an entry that is gone.
func TestRepeatOfAnEvictedEntry(t *testing.T) {
	l := newLog(t, audit.Options{Capacity: 1})
	require.EqualValues(t, 1, record(t, l, refused("a", "x")))
	require.EqualValues(t, 2, record(t, l, refused("b", "x")))
	require.EqualValues(t, 3, record(t, l, refused("a", "x")))
	got, _ := l.Get(3)
	require.EqualValues(t, 1, got.Count)
}

// TestRepeatsReachSinks proves that a sink gets an entry at once, and its count
// when no repeat can join any more, even if nothing else happens.
func TestRepeatsReachSinks(t *testing.T) {
	type line struct {
		seq, count uint64
		at         time.Duration
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var lines []line
		l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{
			Name: "lines",
			Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
				lines = append(lines, line{e.Seq, e.Count, time.Since(start)})
				return nil
			}),
		}}})
		for range 3 {
			record(t, l, refused("a", "x"))
		}
		record(t, l, refused("b", "x"))
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []line{{1, 1, 0}, {2, 1, 0}, {1, 3, time.Second}}, lines)

		lines, start = nil, time.Now()
		for _, actor := range []string{"a", "b"} { // b begins when a is half over
			record(t, l, refused(actor, "x"))
			record(t, l, refused(actor, "x"))
			<-time.After(time.Second / 2)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []line{{3, 1, 0}, {4, 1, time.Second / 2}, {3, 2, time.Second}, {4, 2, 2 * time.Second}}, lines)

		lines, start = nil, time.Now()
		record(t, l, refused("a", "x"))
		record(t, l, refused("a", "x"))
		require.NoError(t, l.Close(t.Context()))
		require.Equal(t, []line{{5, 1, 0}, {5, 2, 0}}, lines, "Close does not wait for the time to pass")
	})
}

// TestRepeatsOfTheFuture proves that an entry whose recorder is ahead of the time
// does not keep the counts of others from the sinks.
func TestRepeatsOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts []uint64
		l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{
			Name: "counts",
			Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
				counts = append(counts, e.Count)
				return nil
			}),
		}}})
		ahead := refused("ahead", "x")
		ahead.Time = time.Now().Add(time.Hour)
		record(t, l, ahead)
		record(t, l, refused("a", "x"))
		record(t, l, refused("a", "x"))
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []uint64{1, 1, 2}, counts)
	})
}

// TestManyWindows proves that a timer closes any number of windows.
func TestManyWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		total := uint64(0)
		l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{
			Name: "sum", Queue: 1000,
			Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
				if e.Count > 1 {
					total += e.Count
				}
				return nil
			}),
		}}})
		for i := range 300 {
			record(t, l, refused(fmt.Sprint(i), "x"))
			record(t, l, refused(fmt.Sprint(i), "x"))
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 600, total)
	})
}

// TestRepeatsAllocateNothing proves that a flood of repeats makes no garbage.
func TestRepeatsAllocateNothing(t *testing.T) {
	l := newLog(t, audit.Options{})
	e := refused("flood", "x")
	e.Time = time.Now()
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = l.Record(e) })) // the first run is not counted
}
