package audit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A model does what a log does, with slices and loops.
type model struct {
	capacity, adminCapacity int
	within                  time.Duration
	last                    uint64
	kept                    []audit.Entry // by Seq
	closed                  map[uint64]bool
	clock                   int
	moved                   map[[2]any]int // when the count of an actor last changed, by pool
}

func (m *model) record(e audit.Entry) uint64 {
	e.Count, e.Last = 1, e.Time
	for i := range m.kept {
		k := &m.kept[i]
		same := k.Event == e.Event && k.Actor == e.Actor && k.Verb == e.Verb && k.Outcome == e.Outcome &&
			k.Reason == e.Reason && k.Admin == e.Admin && (!e.Admin || k.Target == e.Target)
		if !same || m.closed[k.Seq] {
			continue
		}
		if e.Time.Sub(k.Time) < m.within && (!e.Admin || slices.Equal(k.Details, e.Details)) {
			k.Count++
			k.Last = e.Time
			return k.Seq
		}
		m.closed[k.Seq] = true
	}
	m.last++
	e.Seq = m.last
	m.evict(e)
	m.kept = append(m.kept, e)
	m.move(e)
	return e.Seq
}

func (m *model) evict(e audit.Entry) {
	capacity := m.capacity
	if e.Admin {
		capacity = m.adminCapacity
	}
	size, counts := 0, map[string]int{}
	for _, k := range m.kept {
		if k.Admin == e.Admin {
			size++
			counts[k.Actor]++
		}
	}
	if size < capacity {
		return
	}
	victim := e.Actor
	for actor, n := range counts {
		if n > counts[victim] || n == counts[victim] && victim != e.Actor &&
			m.moved[[2]any{e.Admin, actor}] < m.moved[[2]any{e.Admin, victim}] {
			victim = actor
		}
	}
	i := slices.IndexFunc(m.kept, func(k audit.Entry) bool { return k.Actor == victim && k.Admin == e.Admin })
	m.move(m.kept[i])
	m.kept = slices.Delete(m.kept, i, i+1)
}

func (m *model) move(e audit.Entry) {
	m.clock++
	m.moved[[2]any{e.Admin, e.Actor}] = m.clock
}

// find returns every entry that q finds, and how many of its part of the
// sequence are gone.
func (m *model) find(q audit.Query) (found []audit.Entry, missed uint64) {
	first := max(q.MinSeq, 1)
	if m.last >= first {
		missed = m.last - first + 1
	}
	for _, k := range m.kept {
		if k.Seq < first {
			continue
		}
		missed--
		if (q.Event == "" || q.Event == k.Event || q.Event == "emit.*" && k.Event == "emit.refused") &&
			(q.Actor == "" || q.Actor == k.Actor) &&
			(q.Target == "" || q.Target == k.Target) &&
			(q.Either == "" || q.Either == k.Target || q.Either == k.Actor) &&
			(q.Verb == 0 || q.Verb == k.Verb) &&
			(q.Outcome == 0 || q.Outcome == k.Outcome) &&
			(q.Reason == "" || q.Reason == k.Reason) &&
			(q.Since.IsZero() || !k.Last.Before(q.Since)) &&
			(q.Until.IsZero() || k.Time.Before(q.Until)) {
			found = append(found, k)
		}
	}
	if q.Order == audit.NewestFirst {
		slices.Reverse(found)
	}
	return found, missed
}

// TestModel compares a log with the model: what is kept, what joins what, what
// is found, on which pages, and what is missed.
func TestModel(t *testing.T) {
	actors := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			capacity:      rapid.IntRange(1, 8).Draw(t, "capacity"),
			adminCapacity: rapid.IntRange(1, 3).Draw(t, "adminCapacity"),
			within:        4 * time.Second,
			closed:        map[uint64]bool{},
			moved:         map[[2]any]int{},
		}
		l, err := audit.New(audit.Options{Capacity: m.capacity, AdminCapacity: m.adminCapacity, CoalesceWithin: m.within})
		require.NoError(t, err)
		start := time.Unix(1_800_000_000, 0)
		now := start

		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "later")) * time.Second)
			e := audit.Entry{
				Time:    now,
				Event:   rapid.SampledFrom([]string{"emit.refused", "alert"}).Draw(t, "event"),
				Actor:   rapid.SampledFrom(actors).Draw(t, "actor"),
				Target:  rapid.SampledFrom(actors).Draw(t, "target"),
				Verb:    rapid.SampledFrom([]plugbus.Verb{0, plugbus.VerbEmit}).Draw(t, "verb"),
				Outcome: rapid.SampledFrom([]plugbus.Outcome{0, plugbus.Refused}).Draw(t, "outcome"),
				Reason:  rapid.SampledFrom([]plugbus.Reason{"", plugbus.ReasonCycle}).Draw(t, "reason"),
				Admin:   rapid.Bool().Draw(t, "admin"),
			}
			if rapid.Bool().Draw(t, "detailed") {
				e.Details = []audit.Detail{{Key: "k", Value: "v"}}
			}
			got, err := l.Record(e)
			require.NoError(t, err)
			require.Equal(t, m.record(e), got, "Record(%+v)", e)
		}

		st := l.Stats()
		require.Equal(t, m.last, st.Recorded)
		require.Equal(t, st.Recorded, uint64(st.Kept+st.AdminKept)+st.Evicted+st.AdminEvicted)

		at := func(name string) time.Time {
			if rapid.Bool().Draw(t, name) {
				return time.Time{}
			}
			return start.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, name+" at")) * time.Second)
		}
		maybe := rapid.SampledFrom(append(slices.Repeat([]string{""}, len(actors)), actors...))
		q := audit.Query{
			Event:   rapid.SampledFrom([]string{"", "emit.*", "alert"}).Draw(t, "event"),
			Actor:   maybe.Draw(t, "actor"),
			Target:  maybe.Draw(t, "target"),
			Either:  maybe.Draw(t, "either"),
			Verb:    rapid.SampledFrom([]plugbus.Verb{0, plugbus.VerbEmit, plugbus.VerbSend}).Draw(t, "verb"),
			Outcome: rapid.SampledFrom([]plugbus.Outcome{0, plugbus.Refused}).Draw(t, "outcome"),
			Reason:  rapid.SampledFrom([]plugbus.Reason{"", plugbus.ReasonCycle}).Draw(t, "reason"),
			Since:   at("since"),
			Until:   at("until"),
			MinSeq:  rapid.Uint64Range(0, 20).Draw(t, "minSeq"),
			Order:   rapid.SampledFrom([]audit.Order{audit.NewestFirst, audit.OldestFirst}).Draw(t, "order"),
			Limit:   rapid.IntRange(1, 5).Draw(t, "limit"),
		}
		if !q.Until.IsZero() && q.Until.Before(q.Since) {
			q.Since, q.Until = q.Until, q.Since
		}
		want, wantMissed := m.find(q)
		var got []audit.Entry
		var missed uint64
		for {
			page, err := l.Search(q)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Entries), q.Limit)
			got, missed = append(got, page.Entries...), missed+page.Missed
			if page.Next == "" {
				break
			}
			q.Cursor = page.Next
		}
		require.Equal(t, want, got, "%+v", q)
		require.Equal(t, wantMissed, missed, "missed by %+v", q)
	})
}
