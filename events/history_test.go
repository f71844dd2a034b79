// The history has no door of its own but the replays, which show neither its
// bounds nor its pages; so these tests look at it from inside.
package events

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/topic"
)

// hPast feeds a history, and remembers all that it fed.
type hPast struct {
	history
	all   []Event
	nanos int64 // of the next event
}

func newHPast(o Options) *hPast { return &hPast{history: newHistory(o)} }

// hLimits are bounds that no test meets by accident.
var hLimits = Options{HistoryEvents: 1 << 20, HistoryBytes: 1 << 40, HistoryAge: math.MaxInt64}

func (p *hPast) emit(source, name string, size int) {
	e := Event{
		seq: uint64(len(p.all) + 1), nanos: p.nanos, info: sized(size),
		origin: &origin{name: name, source: source}, meta: &meta{},
	}
	p.all = append(p.all, e)
	p.add(&e)
}

// kept returns what the history holds, in order.
func (p *hPast) kept() (kept []Event) {
	for _, s := range p.sources {
		for i := range s.count {
			kept = append(kept, *s.at(i))
		}
	}
	slices.SortFunc(kept, func(a, b Event) int { return cmp.Compare(a.seq, b.seq) })
	return kept
}

func (p *hPast) keptSeqs() []uint64 { return hSeqsOf(p.kept()) }

func hSeqsOf(all []Event) (seqs []uint64) {
	for _, e := range all {
		seqs = append(seqs, e.seq)
	}
	return seqs
}

// weights returns what the sources take of the bounds, counted anew.
func (p *hPast) weights() map[string]int64 {
	weights := map[string]int64{}
	for _, e := range p.kept() {
		weights[e.Source()] += p.weigh(&e)
	}
	return weights
}

func TestHistoryBounds(t *testing.T) {
	for _, test := range []struct {
		count int
		bytes int64
		sizes []int
		want  []uint64
	}{
		{count: 3, sizes: []int{0, 0, 0}, want: []uint64{1, 2, 3}},
		{count: 3, sizes: []int{0, 0, 0, 0, 0}, want: []uint64{3, 4, 5}},
		{count: 1, sizes: []int{0, 0}, want: []uint64{2}},
		{bytes: 10, sizes: []int{5, 5}, want: []uint64{1, 2}},
		{bytes: 10, sizes: []int{5, 5, 1}, want: []uint64{2, 3}},
		{bytes: 10, sizes: []int{2, 2, 2, 9}, want: []uint64{4}},
		{bytes: 10, sizes: []int{11}, want: []uint64{1}}, // one event stays, whatever its size
		{bytes: 10, sizes: []int{11, 1}, want: []uint64{2}},
		{bytes: 10, sizes: []int{1, 11}, want: []uint64{2}},
	} {
		o := hLimits
		o.HistoryEvents, o.HistoryBytes = cmp.Or(test.count, o.HistoryEvents), cmp.Or(test.bytes, o.HistoryBytes)
		p := newHPast(o)
		bytes := int64(0)
		for _, size := range test.sizes {
			p.emit("a", "x", size)
		}
		for _, e := range p.kept() {
			bytes += int64(e.Size())
		}
		require.Equal(t, test.want, p.keptSeqs(), "%+v", test)
		require.Equal(t, len(test.want), p.count)
		require.Equal(t, bytes, p.bytes)
		require.EqualValues(t, len(test.sizes)-len(test.want), p.evicted)
	}
}

func TestHistoryOff(t *testing.T) {
	p := newHPast(Options{HistoryEvents: 0, HistoryBytes: 1, HistoryAge: 1})
	p.emit("a", "x", 1)
	require.Empty(t, p.kept())
	require.EqualValues(t, 1, p.lostAfter(0, time.Time{}, hAny))
}

// TestHistoryFairShare is E13: a flood evicts itself, by count and by bytes, and
// what the quiet sources told stays.
func TestHistoryFairShare(t *testing.T) {
	for _, test := range []struct {
		options   Options
		quietSize int
		floodSize int
	}{
		{Options{HistoryEvents: 100, HistoryBytes: 1 << 30}, 0, 0},
		{Options{HistoryEvents: 100, HistoryBytes: 1 << 30}, 64, 0},
		{Options{HistoryEvents: 100, HistoryBytes: 1}, 0, 0}, // no byte for each of the count
		{Options{HistoryEvents: 1 << 20, HistoryBytes: 1000}, 10, 10},
		{Options{HistoryEvents: 1 << 20, HistoryBytes: 1000}, 10, 100},
	} {
		test.options.HistoryAge = math.MaxInt64
		p := newHPast(test.options)
		for range 10 {
			p.emit("quiet", "x", test.quietSize)
			p.emit("other", "x", test.quietSize)
		}
		for range 1000 {
			p.emit("flood", "x", test.floodSize)
		}
		require.Equal(t, p.all[:20], p.kept()[:20], "%+v", test)
		require.Greater(t, p.sources["flood"].count, 5)
		require.EqualValues(t, 1020, p.all[len(p.all)-1].seq)
		require.EqualValues(t, len(p.all)-p.count, p.evicted)

		// The share is what others leave: a second flood takes its part from the
		// first one.
		for range 1000 {
			p.emit("flood2", "x", test.floodSize)
		}
		require.Equal(t, p.all[:20], p.kept()[:20], "%+v", test)
		require.InDelta(t, p.sources["flood"].weight, p.sources["flood2"].weight, float64(2*p.weigh(&p.all[1999])))
	}
}

// TestHistoryAge shows that events leave when they are too old: those of a source
// when it emits, and all when somebody reads.
func TestHistoryAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := New(Options{HistoryAge: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, bus.Close(context.Background())) }()
		emit := func(id string) {
			c := bus.clients[id]
			if c == nil {
				c, err = bus.Client(id, ClientOptions{})
				require.NoError(t, err)
			}
			_, err := c.Emit(t.Context(), "x", "four")
			require.NoError(t, err)
		}
		emit("a")
		<-time.After(30 * time.Second)
		emit("a")
		emit("b")
		<-time.After(30 * time.Second)
		require.Equal(t, HistoryStats{Events: 3, Bytes: 12, Sources: map[string]int{"a": 2, "b": 1}}, bus.History(), "not older than a minute")
		<-time.After(1)
		emit("a") // And so lets go of its own first one.
		require.Equal(t, 3, bus.history.count)
		require.Equal(t, HistoryStats{Events: 3, Bytes: 12, Evicted: 1, Sources: map[string]int{"a": 2, "b": 1}}, bus.History())
		<-time.After(30 * time.Second)
		require.Equal(t, HistoryStats{Events: 1, Bytes: 4, Evicted: 3, Sources: map[string]int{"a": 1}}, bus.History())
		<-time.After(time.Hour)
		require.Equal(t, HistoryStats{Evicted: 4, Sources: map[string]int{}}, bus.History())
		require.Empty(t, bus.history.heap)
	})
}

func hAny(string, uint64) bool { return true }

func TestHistoryLostAfter(t *testing.T) {
	o := hLimits
	o.HistoryEvents = 1
	p := newHPast(o)
	for i, name := range []string{"a", "b", "a", "c", "last"} {
		p.nanos = int64(i+1) * 10
		p.emit("source", name, 0)
	}
	for _, test := range []struct {
		names string
		after uint64
		since int64
		want  uint64
	}{
		{"abc", 0, 0, 4},
		{"abc", 3, 0, 4},
		{"abc", 4, 0, 0},
		{"ab", 0, 0, 3},
		{"ab", 3, 0, 0},
		{"b", 0, 0, 2},
		{"b", 1, 0, 2},
		{"b", 2, 0, 0},
		{"d", 0, 0, 0}, // only strangers were lost
		{"", 0, 0, 0},
		{"ab", 0, 30, 3},
		{"ab", 0, 31, 0},
		{"abc", 0, 31, 4},
	} {
		got := p.lostAfter(test.after, time.Unix(0, test.since), func(name string, _ uint64) bool {
			return slices.Contains([]byte(test.names), name[0])
		})
		require.Equal(t, test.want, got, "%+v", test)
	}
	require.Zero(t, p.lostAfter(0, time.Now().AddDate(1000, 0, 0), hAny))
}

// TestHistoryLostNamesAreBounded shows that a plugin which invents names costs
// no memory; what is lost of further ones counts for all.
func TestHistoryLostNamesAreBounded(t *testing.T) {
	o := hLimits
	o.HistoryEvents = 1
	p := newHPast(o)
	none := func(string, uint64) bool { return false }
	for i := range maxLostNames {
		p.emit("source", fmt.Sprint("name", i), 0)
	}
	p.emit("source", "last", 0)
	require.Len(t, p.lost, maxLostNames)
	require.Zero(t, p.lostAfter(0, time.Time{}, none))
	for i := range 100 {
		p.emit("source", fmt.Sprint("further", i), 0)
	}
	require.Len(t, p.lost, maxLostNames)
	lost := p.lostAfter(0, time.Time{}, none)
	require.EqualValues(t, maxLostNames+100, lost)
	require.Zero(t, p.lostAfter(lost, time.Time{}, none))

	// A name that is known goes on by itself.
	p.emit("source", "name7", 0)
	p.emit("source", "name7", 0)
	require.EqualValues(t, maxLostNames+102, p.lostAfter(0, time.Time{}, func(name string, _ uint64) bool { return name == "name7" }))
}

// TestHistoryAgreesWithList compares a history with the plain list of all that
// was emitted: what it holds, what it says of losses, and each of its pages.
func TestHistoryAgreesWithList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			HistoryEvents: rapid.IntRange(1, 60).Draw(t, "events"),
			HistoryBytes:  rapid.Int64Range(1, 400).Draw(t, "bytes"),
			HistoryAge:    time.Duration(rapid.IntRange(1, 100).Draw(t, "age")),
		}
		p := newHPast(o)
		sources := rapid.SampledFrom([]string{"a", "b", "c", "flood", "flood", "flood"})
		names := rapid.SampledFrom([]string{"x.a", "x.b", "y"})
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			p.nanos += rapid.Int64Range(0, 3).Draw(t, "passes")
			before := p.kept()
			p.emit(sources.Draw(t, "source"), names.Draw(t, "name"), rapid.IntRange(0, 40).Draw(t, "size"))
			hCheckEviction(t, p, before)
		}
		if rapid.Bool().Draw(t, "look") {
			p.age(p.nanos)
			for _, e := range p.kept() {
				require.GreaterOrEqual(t, e.nanos, p.nanos-int64(p.maxAge))
			}
		}
		hCheckBooks(t, p)
		hCheckPages(t, p)
	})
}

// hCheckEviction checks that what an event pushed out was the oldest of sources
// that had most, or too old.
func hCheckEviction(t *rapid.T, p *hPast, before []Event) {
	newest := p.all[len(p.all)-1]
	kept := map[uint64]bool{}
	for _, e := range p.kept() {
		kept[e.seq] = true
	}
	weights := p.weights()
	lastLost := map[string]Event{}
	for _, e := range append(before, newest) {
		if kept[e.seq] {
			continue
		}
		if e.Source() == newest.Source() && e.nanos < newest.nanos-int64(p.maxAge) {
			continue
		}
		lastLost[e.Source()] = e
	}
	for source, e := range lastLost {
		for other, weight := range weights {
			if weights[source]+p.weigh(&e) < weight {
				t.Fatalf("%q lost %d although %q has more: %v", source, e.seq, other, weights)
			}
		}
	}
	needed := func(e Event) bool { return p.count == p.maxCount || p.bytes+int64(e.Size()) > p.maxBytes }
	if len(lastLost) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(lastLost)), needed) {
		t.Fatalf("%v were evicted although there was room", lastLost)
	}
}

// hCheckBooks checks the bounds and the figures, and that each source has kept
// its latest.
func hCheckBooks(t *rapid.T, p *hPast) {
	kept := p.kept()
	bytes := int64(0)
	held := map[string]int{}
	for _, e := range kept {
		bytes += int64(e.Size())
		held[e.Source()]++
	}
	require.Equal(t, len(kept), p.count)
	require.Equal(t, bytes, p.bytes)
	require.LessOrEqual(t, p.count, p.maxCount)
	require.True(t, bytes <= p.maxBytes || p.count == 1)
	require.EqualValues(t, len(p.all)-len(kept), p.evicted)
	require.Len(t, p.sources, len(held))
	require.Len(t, p.heap, len(held))
	weights := p.weights()
	for i, s := range p.heap {
		require.Equal(t, i, s.index)
		require.Equal(t, weights[s.source], s.weight)
	}
	lost := map[string]uint64{}
	for _, e := range slices.Backward(p.all) {
		if held[e.Source()] > 0 {
			held[e.Source()]--
			require.Contains(t, hSeqsOf(kept), e.seq, "a source keeps its latest events")
		} else {
			lost[e.Name()] = max(lost[e.Name()], e.seq)
		}
	}
	after := rapid.Uint64Range(0, uint64(len(p.all))).Draw(t, "after")
	for name, seq := range lost {
		if seq <= after {
			seq = 0
		}
		require.Equal(t, seq, p.lostAfter(after, time.Time{}, func(n string, s uint64) bool {
			require.Equal(t, lost[n], s)
			return n == name
		}))
	}
	since := rapid.Int64Range(0, p.nanos+1).Draw(t, "since")
	first := slices.IndexFunc(kept, func(e Event) bool { return e.nanos >= since })
	want := uint64(math.MaxUint64) - 1
	if first >= 0 {
		want = kept[first].seq - 1
	}
	require.Equal(t, want, p.before(time.Unix(0, since)))
}

// hCheckPages reads by pages what a loop over the list finds.
func hCheckPages(t *rapid.T, p *hPast) {
	after := rapid.Uint64Range(0, uint64(len(p.all))).Draw(t, "after")
	to := rapid.Uint64Range(0, uint64(len(p.all))+1).Draw(t, "to")
	limit := rapid.IntRange(1, 70).Draw(t, "limit")
	pattern := topic.MustParse(rapid.SampledFrom([]string{"**", "x.*", "y", "z"}).Draw(t, "pattern"))
	reader := &Client{number: 1}
	for _, s := range p.heap {
		for i := range s.count {
			m := *s.at(i).meta
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				m.expires = rapid.Int64Range(1, 2*p.nanos+1).Draw(t, "expires")
			case 1:
				m.audience = []uint64{1}
			case 2:
				m.audience = []uint64{2}
			}
			s.at(i).meta = &m
		}
	}
	var want, got []Event
	for _, e := range p.kept() {
		if e.seq > after && e.seq <= to && pattern.Match(e.Name()) && e.meta.isFor(reader) && (e.meta.expires == 0 || p.nanos < e.meta.expires) {
			want = append(want, e)
		}
	}
	for done := false; !done; {
		var page []Event
		was := after
		page, after, done = p.page(after, to, limit, pattern, reader, p.nanos)
		require.LessOrEqual(t, len(page), limit)
		require.True(t, done || after > was, "a page gets on")
		for _, e := range page {
			require.True(t, was < e.seq && e.seq <= after)
		}
		got = append(got, page...)
	}
	require.Equal(t, want, got)
}

// TestHistoryPageIsBounded is E20: a page looks at so many events and no more,
// whether they match or not, so that emitters need not wait long.
func TestHistoryPageIsBounded(t *testing.T) {
	p := newHPast(hLimits)
	for range 2*maxScan + 100 {
		p.emit("a", "x", 0)
	}
	reader := &Client{}
	after := uint64(0)
	for _, want := range []uint64{maxScan, 2 * maxScan, 2*maxScan + 100} {
		page, upTo, done := p.page(after, math.MaxUint64, pageSize, topic.MustParse("y"), reader, 0)
		require.Empty(t, page)
		require.Equal(t, want, upTo)
		require.Equal(t, want == uint64(len(p.all)), done)
		after = upTo
	}
	page, after, done := p.page(0, math.MaxUint64, pageSize, topic.MustParse("x"), reader, 0)
	require.Len(t, page, pageSize)
	require.EqualValues(t, pageSize, after)
	require.False(t, done)
}

// TestAudiencesTakeOfTheBytes shows that what a broadcast remembers of its
// audience is bounded with the rest of the history (E13).
func TestAudiencesTakeOfTheBytes(t *testing.T) {
	h := newHistory(Options{HistoryEvents: 100, HistoryBytes: 800, HistoryAge: time.Hour})
	for i := range uint64(50) {
		e := record(i+1, "a", 0)
		e.meta.audience = make([]uint64, 20)
		h.add(e)
	}
	require.Equal(t, 5, h.count)
	require.EqualValues(t, 800, h.bytes)
}
