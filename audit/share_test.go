package audit_test

import (
	"fmt"
	"testing"

	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

func kept(l *audit.Log) map[string]int {
	all := map[string]int{}
	for _, a := range l.Stats().Actors {
		all[a.Actor] = a.Kept
	}
	return all
}

// TestA5Shares proves that a flood pushes out its own entries.
func TestA5Shares(t *testing.T) {
	l := newLog(t, audit.Options{Capacity: 100, CoalesceWithin: apart})
	quiet := record(t, l, refused("quiet", "x"))
	for range 70 {
		record(t, l, refused("busy", "x"))
	}
	for range 10_000 {
		record(t, l, refused("flood", "x"))
	}
	_, ok := l.Get(quiet)
	require.True(t, ok, "evidence of another survives")
	require.Equal(t, map[string]int{"quiet": 1, "busy": 49, "flood": 50}, kept(l), "who is above the share gives down to it, and no further")

	require.EqualValues(t, 10_071, l.Stats().Recorded)
	require.EqualValues(t, 10_071-100, l.Stats().Evicted)
	page := search(t, l, audit.Query{Limit: 1000})
	require.EqualValues(t, 10_071-100, page.Missed, "a search says what is gone")
	require.Len(t, page.Entries, 100)
}

// TestA5SharesOfMany proves the law: with n actors, nobody is pushed below
// capacity/n by others.
func TestA5SharesOfMany(t *testing.T) {
	const capacity, actors = 60, 6
	l := newLog(t, audit.Options{Capacity: capacity, CoalesceWithin: apart})
	for i := range actors {
		for range capacity / actors {
			record(t, l, refused(fmt.Sprint(i), "x"))
		}
	}
	for i := range 1000 {
		record(t, l, refused(fmt.Sprint(i%3), "x"))
	}
	for i := range actors {
		require.Equal(t, capacity/actors, kept(l)[fmt.Sprint(i)])
	}
}

// TestA5AdminApart proves that plugins cannot push out admin entries.
func TestA5AdminApart(t *testing.T) {
	l := newLog(t, audit.Options{Capacity: 10, AdminCapacity: 2, CoalesceWithin: apart})
	swap := audit.Entry{Event: "policy.swapped", Actor: "host", Admin: true}
	for range 3 {
		record(t, l, swap)
	}
	for i := range 1000 {
		record(t, l, refused(fmt.Sprint(i), "x")) // a stranger each time
	}
	require.Equal(t, []uint64{3, 2}, seqs(search(t, l, audit.Query{Actor: "host"}).Entries))
	st := l.Stats()
	require.Len(t, st.Actors, 10, "of who has no entry nothing is kept")
	require.Equal(t, []int{10, 2}, []int{st.Kept, st.AdminKept})
	require.EqualValues(t, 1, st.AdminEvicted)
	require.EqualValues(t, 990, st.Evicted)
}
