package audit_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

// TestA1Parties proves that an entry is found by who acted, by what it was
// about, and by either. None of the entries has details (A2).
func TestA1Parties(t *testing.T) {
	l := newLog(t, audit.Options{CoalesceWithin: apart})
	record(t, l, refused("a", "b")) // 1
	record(t, l, refused("b", "a")) // 2
	record(t, l, refused("b", "c")) // 3
	for _, test := range []struct {
		query audit.Query
		want  []uint64
	}{
		{audit.Query{}, []uint64{3, 2, 1}},
		{audit.Query{Actor: "a"}, []uint64{1}},
		{audit.Query{Target: "a"}, []uint64{2}},
		{audit.Query{Either: "a"}, []uint64{2, 1}},
		{audit.Query{Either: "a", Actor: "b"}, []uint64{2}},
		{audit.Query{Actor: "c"}, nil},
	} {
		require.Equal(t, test.want, seqs(search(t, l, test.query).Entries), "%+v", test.query)
	}
}

func TestSearchByEvent(t *testing.T) {
	l := newLog(t, audit.Options{})
	for _, event := range []string{"emit.refused", "send.refused", "plugin.worker.quarantined", "hub:closed"} {
		record(t, l, audit.Entry{Event: event})
	}
	for _, test := range []struct {
		pattern string
		want    []uint64
	}{
		{"", []uint64{4, 3, 2, 1}},
		{"emit.refused", []uint64{1}},
		{"*.refused", []uint64{2, 1}},
		{"plugin.**", []uint64{3}},
		{"plugin.*", nil},
		{"**", []uint64{3, 2, 1}}, // a leading wildcard leaves out the hub's own names
		{"hub:*", []uint64{4}},
	} {
		require.Equal(t, test.want, seqs(search(t, l, audit.Query{Event: test.pattern}).Entries), "%q", test.pattern)
	}
}

// TestA3Limits proves that 0 is none and a negative number is a mistake.
func TestA3Limits(t *testing.T) {
	l := newLog(t, audit.Options{CoalesceWithin: apart})
	for range 120 {
		record(t, l, refused("a", "x"))
	}
	for _, test := range []struct{ n, want int }{{0, 0}, {1, 1}, {119, 119}, {120, 120}, {1000, 120}} {
		got, err := l.Recent(test.n)
		require.NoError(t, err)
		require.Len(t, got, test.want, "Recent(%d)", test.n)
		if test.want > 0 {
			require.EqualValues(t, 120, got[0].Seq, "newest first")
		}
	}
	_, err := l.Recent(-1)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = l.Search(audit.Query{Limit: -1})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.Len(t, search(t, l, audit.Query{}).Entries, audit.DefaultLimit)
}

// TestA12Ranges proves that a range includes its beginning and not its end, and
// that an entry is in every range in which it went on.
func TestA12Ranges(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0) }
	l := newLog(t, audit.Options{CoalesceWithin: 5 * time.Second})
	for _, s := range []int{10, 11, 13} { // one entry
		e := refused("a", "x")
		e.Time = at(s)
		record(t, l, e)
	}
	for _, test := range []struct {
		since, until time.Time
		want         int
	}{
		{time.Time{}, time.Time{}, 1},
		{at(0), time.Time{}, 1},
		{at(13), time.Time{}, 1},
		{at(14), time.Time{}, 0},
		{time.Time{}, at(10), 0},
		{time.Time{}, at(11), 1},
		{at(0), at(10), 0},
		{at(11), at(12), 1},
		{at(12), at(12), 1}, // it went on then
		{at(14), at(15), 0},
	} {
		got := search(t, l, audit.Query{Since: test.since, Until: test.until}).Entries
		require.Len(t, got, test.want, "[%v, %v)", test.since, test.until)
	}
}

func TestSearchInvalid(t *testing.T) {
	l := newLog(t, audit.Options{})
	for _, test := range []struct {
		query audit.Query
		want  string
	}{
		{audit.Query{Event: "a..b"}, "a..b"},
		{audit.Query{Verb: 99}, "99"},
		{audit.Query{Outcome: 99}, "99"},
		{audit.Query{Order: 99}, "Order(99); expected NewestFirst or OldestFirst"},
		{audit.Query{Limit: -3}, "limit is -3"},
		{audit.Query{Since: time.Unix(2, 0), Until: time.Unix(1, 0)}, "is before since"},
		{audit.Query{Cursor: "after-7"}, `cursor "after-7" is not of a search with newest first`},
		{audit.Query{Cursor: "before-7", Order: audit.OldestFirst}, `cursor "before-7"`},
		{audit.Query{Cursor: "before-0"}, `cursor "before-0"`},
		{audit.Query{Cursor: "before-x\n"}, `cursor "before-x\\n"`},
		{audit.Query{Cursor: "before-1", Order: 99, Limit: -3}, "limit is -3"}, // all mistakes
	} {
		_, err := l.Search(test.query)
		require.ErrorIs(t, err, plugbus.ErrInvalid, "%+v", test.query)
		require.ErrorContains(t, err, test.want)
	}
}

// TestPaging proves that pages neither shift nor overlap while entries are
// recorded and evicted, and that what is evicted between two pages is missed.
func TestPaging(t *testing.T) {
	l := newLog(t, audit.Options{Capacity: 6, CoalesceWithin: apart})
	for range 6 {
		record(t, l, refused("a", "x"))
	}
	first := search(t, l, audit.Query{Limit: 2})
	require.Equal(t, []uint64{6, 5}, seqs(first.Entries))
	require.Zero(t, first.Missed)
	require.Empty(t, search(t, l, audit.Query{Limit: 6}).Next, "there is nothing before 1")
	require.Zero(t, search(t, l, audit.Query{Cursor: "after-18446744073709551615", Order: audit.OldestFirst}))

	record(t, l, refused("a", "x")) // evicts 1
	second := search(t, l, audit.Query{Limit: 2, Cursor: first.Next})
	require.Equal(t, []uint64{4, 3}, seqs(second.Entries))

	for range 5 {
		record(t, l, refused("a", "x")) // evicts up to 6
	}
	third := search(t, l, audit.Query{Limit: 2, Cursor: second.Next})
	require.Empty(t, third.Entries)
	require.EqualValues(t, 2, third.Missed, "1 and 2")
	require.Empty(t, third.Next)

	oldest := search(t, l, audit.Query{Limit: 2, Order: audit.OldestFirst})
	require.Equal(t, []uint64{7, 8}, seqs(oldest.Entries))
	require.EqualValues(t, 6, oldest.Missed)
	for range 4 {
		record(t, l, refused("a", "x")) // evicts up to 10, the cursor's place too
	}
	next := search(t, l, audit.Query{Limit: 9, Order: audit.OldestFirst, Cursor: oldest.Next})
	require.Equal(t, []uint64{11, 12, 13, 14, 15, 16}, seqs(next.Entries))
	require.EqualValues(t, 2, next.Missed, "9 and 10")

	tail := search(t, l, audit.Query{MinSeq: 16})
	require.Equal(t, []uint64{16}, seqs(tail.Entries))
	require.Zero(t, tail.Missed)
	require.Empty(t, search(t, l, audit.Query{MinSeq: 17, Order: audit.OldestFirst}).Entries)
	require.Empty(t, search(t, l, audit.Query{MinSeq: 99}).Entries)
}

// TestSearchDuringFlood proves that a search that is overtaken by evictions
// stays in order, accounts for every number, and ends.
func TestSearchDuringFlood(t *testing.T) {
	l := newLog(t, audit.Options{Capacity: 2000, CoalesceWithin: apart})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = l.Record(refused(fmt.Sprint(i), "x"))
				}
			}
		})
	}
	for i := range 50 {
		order := audit.Order(i % 2)
		page := search(t, l, audit.Query{Order: order, Limit: 10_000})
		got := seqs(page.Entries)
		for j := 1; j < len(got); j++ {
			require.Equal(t, order == audit.OldestFirst, got[j-1] < got[j])
		}
		if len(got) > 0 && order == audit.NewestFirst {
			require.EqualValues(t, got[0], uint64(len(got))+page.Missed, "the newest is kept, so it is where the search began")
		}
	}
	close(stop)
	wg.Wait()
}
