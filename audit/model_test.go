package audit_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/topic"
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
	coalesced               uint64
	evicted, adminEvicted   uint64
}

func newModel(capacity, adminCapacity int, within time.Duration) *model {
	return &model{capacity: capacity, adminCapacity: adminCapacity, within: within, closed: map[uint64]bool{}, moved: map[[2]any]int{}}
}

// record records an entry, whose times and count are set.
func (m *model) record(e audit.Entry) uint64 {
	for i := range m.kept {
		k := &m.kept[i]
		same := k.Event == e.Event && k.Actor == e.Actor && k.Verb == e.Verb && k.Outcome == e.Outcome && k.Reason == e.Reason &&
			k.Unconfirmed == e.Unconfirmed && k.Admin == e.Admin && (!e.Admin || k.Target == e.Target)
		if !same || m.closed[k.Seq] {
			continue
		}
		if e.Time.Sub(k.Time).Abs() < m.within && (!e.Admin || slices.Equal(k.Details, e.Details)) {
			m.coalesced++
			k.Count += e.Count
			if e.Last.After(k.Last) {
				k.Last = e.Last
			}
			return k.Seq
		}
		if m.within > 0 {
			m.closed[k.Seq] = true
		}
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
	if e.Admin {
		m.adminEvicted++
	} else {
		m.evicted++
	}
	m.kept = slices.Delete(m.kept, i, i+1)
}

func (m *model) move(e audit.Entry) {
	m.clock++
	m.moved[[2]any{e.Admin, e.Actor}] = m.clock
}

// get returns an entry that is kept.
func (m *model) get(seq uint64) (audit.Entry, bool) {
	for _, k := range m.kept {
		if k.Seq == seq {
			return k, true
		}
	}
	return audit.Entry{}, false
}

func found(q audit.Query, e audit.Entry) bool {
	return (q.Event == "" || topic.MustParse(q.Event).Match(e.Event)) &&
		(q.Actor == "" || q.Actor == e.Actor) &&
		(q.Target == "" || q.Target == e.Target) &&
		(q.Either == "" || q.Either == e.Target || q.Either == e.Actor) &&
		(q.Verb == 0 || q.Verb == e.Verb) &&
		(q.Outcome == 0 || q.Outcome == e.Outcome) &&
		(q.Reason == "" || q.Reason == e.Reason) &&
		(q.Since.IsZero() || !e.Last.Before(q.Since)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until))
}

// page goes through the sequence number by number, from behind the number where the
// page before stopped, or from an end if that is 0. It returns where the next page
// goes on, or 0.
func (m *model) page(q audit.Query, stopped uint64) (p audit.Page, next uint64) {
	first, last := max(q.MinSeq, 1), m.last
	var numbers []uint64
	for seq := first; seq <= last; seq++ {
		if stopped == 0 || q.Order == audit.OldestFirst && seq > stopped || q.Order == audit.NewestFirst && seq < stopped {
			numbers = append(numbers, seq)
		}
	}
	if q.Order == audit.NewestFirst {
		slices.Reverse(numbers)
	}
	for i, seq := range numbers {
		e, kept := m.get(seq)
		switch {
		case !kept:
			p.Missed++
		case found(q, e):
			if p.Entries = append(p.Entries, e); len(p.Entries) == q.Limit {
				if i < len(numbers)-1 {
					next = seq
				}
				return p, next
			}
		}
	}
	return p, 0
}

var modelActors = []string{"a", "b", "c", "d", "e"}

func drawEntry(t *rapid.T, now time.Time) audit.Entry {
	at := now.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 3, 4, 60}).Draw(t, "ago")) * time.Second)
	e := audit.Entry{
		Time: at, Last: at, Count: 1,
		Event:   rapid.SampledFrom([]string{"emit.refused", "emit.other", "alert", "hub:closed"}).Draw(t, "event"),
		Actor:   rapid.SampledFrom(modelActors).Draw(t, "actor"),
		Target:  rapid.SampledFrom(modelActors).Draw(t, "target"),
		Verb:    rapid.SampledFrom([]plugbus.Verb{0, plugbus.VerbEmit}).Draw(t, "verb"),
		Outcome: rapid.SampledFrom([]plugbus.Outcome{0, plugbus.Refused}).Draw(t, "outcome"),
		Reason:  rapid.SampledFrom([]plugbus.Reason{"", plugbus.ReasonCycle}).Draw(t, "reason"),
		Admin:   rapid.IntRange(0, 3).Draw(t, "admin") == 0,
	}
	if rapid.IntRange(0, 3).Draw(t, "detailed") == 0 {
		e.Details = []audit.Detail{{Key: "k", Value: rapid.SampledFrom([]string{"v", "w"}).Draw(t, "value")}}
	}
	if rapid.IntRange(0, 5).Draw(t, "many") == 0 {
		e.Count, e.Last = 3, e.Time.Add(2*time.Second)
	}
	return e
}

func drawQuery(t *rapid.T, start time.Time) audit.Query {
	at := func(name string) time.Time {
		if rapid.Bool().Draw(t, name) {
			return time.Time{}
		}
		return start.Add(time.Duration(rapid.IntRange(-10, 60).Draw(t, name+" at")) * time.Second)
	}
	maybe := rapid.SampledFrom(append(slices.Repeat([]string{""}, 2*len(modelActors)), modelActors...))
	q := audit.Query{
		Event:   rapid.SampledFrom([]string{"", "", "emit.*", "alert", "**", "hub:*", "*.refused"}).Draw(t, "event"),
		Actor:   maybe.Draw(t, "actor"),
		Target:  maybe.Draw(t, "target"),
		Either:  maybe.Draw(t, "either"),
		Verb:    rapid.SampledFrom([]plugbus.Verb{0, 0, plugbus.VerbEmit, plugbus.VerbSend}).Draw(t, "verb"),
		Outcome: rapid.SampledFrom([]plugbus.Outcome{0, 0, plugbus.Refused}).Draw(t, "outcome"),
		Reason:  rapid.SampledFrom([]plugbus.Reason{"", "", plugbus.ReasonCycle}).Draw(t, "reason"),
		Since:   at("since"),
		Until:   at("until"),
		MinSeq:  rapid.Uint64Range(0, 20).Draw(t, "minSeq"),
		Order:   rapid.SampledFrom([]audit.Order{audit.NewestFirst, audit.OldestFirst}).Draw(t, "order"),
		Limit:   rapid.IntRange(1, 5).Draw(t, "limit"),
	}
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		q.Since, q.Until = q.Until, q.Since
	}
	return q
}

// TestModel compares a log with the model: what is kept, what joins what, what is
// found, on which pages, and what is missed, also where entries are recorded and
// forgotten between two pages (A1, A3, A5, A7, A12).
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		within := rapid.SampledFrom([]time.Duration{4 * time.Second, 4 * time.Second, apart}).Draw(t, "within")
		m := newModel(rapid.IntRange(1, 8).Draw(t, "capacity"), rapid.IntRange(1, 3).Draw(t, "adminCapacity"), within)
		l, err := audit.New(audit.Options{Capacity: m.capacity, AdminCapacity: m.adminCapacity, CoalesceWithin: m.within})
		require.NoError(t, err)
		start := time.Unix(1_800_000_000, 0)
		now := start
		record := func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "later")) * time.Second)
			e := drawEntry(t, now)
			want := m.record(e)
			got, err := l.Record(e)
			require.NoError(t, err)
			require.Equal(t, want, got, "Record(%+v)", e)
		}
		t.Repeat(map[string]func(*rapid.T){
			"record": record,
			"many": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "n") {
					record(t)
				}
			},
			"search": func(t *rapid.T) {
				q := drawQuery(t, start)
				stopped := uint64(0)
				for {
					want, next := m.page(q, stopped)
					got, err := l.Search(q)
					require.NoError(t, err)
					require.Equal(t, want.Entries, got.Entries, "%+v", q)
					require.Equal(t, want.Missed, got.Missed, "missed by %+v", q)
					require.Equal(t, next == 0, got.Next == "", "%+v goes on", q)
					if next == 0 {
						return
					}
					q.Cursor, stopped = got.Next, next
					if rapid.IntRange(0, 3).Draw(t, "meanwhile") == 0 {
						record(t)
					}
				}
			},
			"": func(t *rapid.T) {
				m.requireStats(t, l.Stats())
				seq := rapid.Uint64Range(0, m.last+2).Draw(t, "seq")
				want, kept := m.get(seq)
				got, ok := l.Get(seq)
				require.Equal(t, kept, ok)
				require.Equal(t, want, got)
				n := rapid.IntRange(0, 12).Draw(t, "recent")
				newest := slices.Clone(m.kept)
				slices.Reverse(newest)
				recent, err := l.Recent(n)
				require.NoError(t, err)
				require.True(t, slices.EqualFunc(newest[:min(n, len(newest))], recent, func(a, b audit.Entry) bool { return a.Seq == b.Seq && a.Count == b.Count }))
			},
		})
	})
}

// requireStats compares the figures, and demands that they add up.
func (m *model) requireStats(t *rapid.T, st audit.Stats) {
	kept, adminKept := 0, 0
	holds := map[string]int{}
	for _, k := range m.kept {
		if k.Admin {
			adminKept++
			continue
		}
		kept++
		holds[k.Actor]++
	}
	require.Equal(t, m.last, st.Recorded)
	require.Equal(t, m.coalesced, st.Coalesced)
	require.Equal(t, []any{kept, adminKept, m.evicted, m.adminEvicted}, []any{st.Kept, st.AdminKept, st.Evicted, st.AdminEvicted})
	require.Equal(t, st.Recorded, uint64(st.Kept+st.AdminKept)+st.Evicted+st.AdminEvicted)
	require.LessOrEqual(t, st.Kept, m.capacity)
	require.LessOrEqual(t, st.AdminKept, m.adminCapacity)
	require.Len(t, st.Actors, len(holds))
	for _, a := range st.Actors {
		require.Equal(t, holds[a.Actor], a.Kept, a.Actor)
	}
	require.True(t, slices.IsSortedFunc(st.Actors, func(a, b audit.ActorStats) int {
		return cmp.Or(cmp.Compare(b.Kept, a.Kept), strings.Compare(a.Actor, b.Actor))
	}))
}
