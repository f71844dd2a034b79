package events_test

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A modelHistory is a slice, and what has left it.
type modelHistory struct {
	max      int
	maxBytes int64
	maxAge   time.Duration
	slot     int64

	kept    []modelEvent
	evicted uint64
	gone    map[string]modelEvent // by name, the last that left
}

func newModelHistory(o events.Options) modelHistory {
	count := max(0, o.HistoryEvents)
	return modelHistory{
		max: count, maxBytes: o.HistoryBytes, maxAge: o.HistoryAge,
		slot: max(1, o.HistoryBytes/int64(max(1, count))), gone: map[string]modelEvent{},
	}
}

// takes returns the bytes that an event takes.
func (e *modelEvent) takes() int64 { return int64(e.size) + 8*int64(len(e.audience)) }

func (h *modelHistory) bytes() (n int64) {
	for i := range h.kept {
		n += h.kept[i].takes()
	}
	return n
}

func (h *modelHistory) old(e *modelEvent) bool { return e.at.Before(time.Now().Add(-h.maxAge)) }

// sources returns how many events of each source there are.
func (h *modelHistory) sources() map[string]int {
	n := map[string]int{}
	for i := range h.kept {
		if !h.old(&h.kept[i]) {
			n[h.kept[i].source]++
		}
	}
	return n
}

func (h *modelHistory) lose(e modelEvent) {
	last := h.gone[e.name]
	last.seq = max(last.seq, e.seq)
	if e.at.After(last.at) {
		last.at = e.at
	}
	h.gone[e.name] = last
}

func (h *modelHistory) evict(i int) {
	h.lose(h.kept[i])
	h.kept = slices.Delete(h.kept, i, i+1)
	h.evicted++
}

// age lets go of what is too old: of one source, or of all.
func (h *modelHistory) age(source string) {
	for i := 0; i < len(h.kept); {
		if e := &h.kept[i]; h.old(e) && (source == "" || source == e.source) {
			h.evict(i)
		} else {
			i++
		}
	}
}

// add keeps an event, and lets go of the oldest of the source that takes most. Which
// of several that take the same it is, is left open: the one after which the history
// has what the bus has.
func (h *modelHistory) add(t *rapid.T, bus *events.Bus, e modelEvent) {
	if h.max == 0 {
		h.lose(e)
		return
	}
	h.kept = append(h.kept, e)
	h.age(e.source)
	sources := sync.OnceValue(func() map[string]int { return bus.History().Sources })
	require.True(t, h.makeWay(sources, false), "the oldest of the heaviest has to make way")
}

// makeWay evicts until the history is within its bounds, and reports whether it then
// has so many events of each source, if it had a choice.
func (h *modelHistory) makeWay(sources func() map[string]int, chosen bool) bool {
	if len(h.kept) <= h.max && (h.bytes() <= h.maxBytes || len(h.kept) == 1) {
		return !chosen || maps.Equal(h.sources(), sources())
	}
	weights := map[string]int64{}
	for i := range h.kept {
		weights[h.kept[i].source] += h.kept[i].takes() + h.slot
	}
	most := slices.Max(slices.Collect(maps.Values(weights)))
	maps.DeleteFunc(weights, func(_ string, n int64) bool { return n < most })
	for _, source := range slices.Sorted(maps.Keys(weights)) {
		before := *h
		before.kept, before.gone = slices.Clone(h.kept), maps.Clone(h.gone)
		h.evict(slices.IndexFunc(h.kept, func(e modelEvent) bool { return e.source == source }))
		if h.makeWay(sources, chosen || len(weights) > 1) {
			return true
		}
		*h = before
	}
	return false
}

// A modelFrom is a place in the history.
type modelFrom struct {
	kind string
	n    int
	t    time.Time
}

// place draws a place.
func (w *world) place(t *rapid.T) (modelFrom, events.From) {
	f := modelFrom{kind: rapid.SampledFrom([]string{"now", "all", "last", "after", "since", "latest"}).Draw(t, "from")}
	switch f.kind {
	case "all":
		return f, events.All()
	case "last":
		f.n = rapid.SampledFrom([]int{1, 2, 5, 70}).Draw(t, "n")
		return f, events.Last(f.n)
	case "after":
		f.n = max(0, w.seq+rapid.SampledFrom([]int{-100, -20, -5, -1, 0, 1, 5, 30}).Draw(t, "n"))
		return f, events.After(uint64(f.n))
	case "since":
		f.t = time.Now().Add(-rapid.SampledFrom([]time.Duration{0, 3 * time.Second, 10 * time.Second, time.Hour}).Draw(t, "ago"))
		return f, events.Since(f.t)
	case "latest":
		return f, events.LatestPerName()
	default:
		return f, events.From{}
	}
}

// A modelReader reads the history for one plugin.
type modelReader struct {
	of      *modelPlugin
	matches func(name string) bool
	from    modelFrom
	live    int // the last Seq before the reader began
	begun   bool
	after   int // what it has read
	readTo  int // up to here a subscription may handle what is in its queue
	told    int // of losses
}

const modelPage = 64

// loss returns the highest Seq that was asked for and is gone, or 0.
func (h *modelHistory) loss(r *modelReader, after int, since time.Time, latest map[string]int) (gone int) {
	for name, e := range h.gone {
		if e.seq > after && !e.at.Before(since) && r.matches(name) && !r.of.denied(plugbus.VerbSubscribe, name) && e.seq > latest[name] {
			gone = max(gone, e.seq)
		}
	}
	return gone
}

// asked returns what the history has for a reader between two Seqs.
func (h *modelHistory) asked(r *modelReader, after, to int) (found []modelEvent) {
	now := time.Now()
	for _, e := range h.kept {
		mine := !e.broadcast || slices.Contains(e.audience, r.of)
		if e.seq > after && e.seq <= to && r.matches(e.name) && mine && (e.expires.IsZero() || now.Before(e.expires)) {
			e.replayed = true
			found = append(found, e)
		}
	}
	return found
}

// next returns the next page, what was lost before it, and whether it is the last.
func (h *modelHistory) next(r *modelReader) (page []modelEvent, lost *events.TruncatedError, done bool) {
	miss := func(after int, since time.Time, latest map[string]int) {
		if seq := h.loss(r, after, since, latest); seq > 0 {
			r.told, lost = seq, &events.TruncatedError{After: uint64(after), Lost: uint64(seq)}
		}
	}
	barred := func(e modelEvent) bool { return r.of.denied(plugbus.VerbSubscribe, e.name) }
	if !r.begun {
		r.begun = true
		h.age("")
		switch r.from.kind {
		case "now":
			r.after = r.live
		case "after":
			r.after = min(r.from.n, r.live)
		case "since":
			r.after = r.live
			for _, e := range h.kept {
				if !e.at.Before(r.from.t) {
					r.after = min(r.after, e.seq-1)
				}
			}
			miss(0, r.from.t, nil)
		case "last", "latest":
			page = slices.DeleteFunc(h.asked(r, 0, r.live), barred)
			r.after, r.readTo = r.live, r.live
			oldest, latest := 0, map[string]int{}
			if r.from.kind == "last" {
				page = page[max(0, len(page)-r.from.n):]
				if len(page) == r.from.n {
					oldest = page[0].seq
				}
			} else {
				for _, e := range page {
					latest[e.name] = e.seq
				}
				page = slices.DeleteFunc(page, func(e modelEvent) bool { return e.seq < latest[e.name] })
			}
			miss(oldest, time.Time{}, latest)
			return page, lost, false
		}
	}
	miss(max(r.after, r.told), time.Time{}, nil)
	page = h.asked(r, r.after, math.MaxInt)
	done = true
	if len(page) > modelPage || len(page) == modelPage && h.kept[len(h.kept)-1].seq > page[modelPage-1].seq {
		done = false
		page = page[:modelPage]
		r.after = page[modelPage-1].seq
	}
	r.readTo = r.after
	return slices.DeleteFunc(page, barred), lost, done
}

// read takes the next page to a subscription, which at the end gets what comes live.
func (w *world) read(s *modelSub) {
	page, lost, done := w.history.next(s.reader)
	s.cut = s.cut || lost != nil
	s.page = append(s.page, page...)
	s.led.Offered += uint64(len(page))
	s.led.Accepted += uint64(len(page))
	if done {
		s.reader = nil
	}
}
