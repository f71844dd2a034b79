package events

import (
	"container/heap"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/plugbus/plugbus/internal/topic"
)

// A history keeps the latest events, bounded by count, bytes and age. When it is
// full, the oldest event of the source that fills most of it makes way, so that
// a flood evicts itself and not the events of others. It is guarded by the
// bus's lock.
type history struct {
	maxCount int
	maxBytes int64
	maxAge   time.Duration
	slot     int64 // what an event takes of the bounds besides its bytes: its part of the count

	count   int
	bytes   int64
	evicted uint64
	sources map[string]*sourceHistory
	heap    sourceHeap // by weight, the heaviest first

	// lost has, for each name, what was evicted last, so that a reader learns of
	// losses that concern it and of no others. Beyond maxLostNames it is
	// lostOther that counts for all names.
	lost      map[string]*lostName
	lostOther lostName

	// The last source and name, which save the look-ups of most events.
	lastSource *sourceHistory
	lastLost   *lostName
}

// A lostName has the highest Seq and the latest time that were evicted of a
// name.
type lostName struct {
	name  string
	seq   uint64
	nanos int64
}

const maxLostNames = 4096

type sourceHistory struct {
	ring
	source string
	weight int64 // what the source takes of the bounds, in bytes
	index  int   // in the heap
}

type sourceHeap []*sourceHistory //nolint:recvcheck // Package heap wants it so.

func (h sourceHeap) Len() int           { return len(h) }
func (h sourceHeap) Less(i, j int) bool { return h[i].weight > h[j].weight }
func (h sourceHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *sourceHeap) Push(x any) {
	s := x.(*sourceHistory)
	s.index = len(*h)
	*h = append(*h, s)
}

func (h *sourceHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}

func newHistory(o Options) history {
	return history{
		maxCount: o.HistoryEvents, maxBytes: o.HistoryBytes, maxAge: o.HistoryAge,
		slot:    max(1, o.HistoryBytes/int64(max(1, o.HistoryEvents))),
		sources: map[string]*sourceHistory{}, lost: map[string]*lostName{},
	}
}

// weigh returns what an event takes of the bounds: its bytes, and its slot.
func (h *history) weigh(e *Event) int64 { return e.kept() + h.slot }

func (h *history) add(e *Event) {
	if h.maxCount == 0 {
		h.lose(e)
		return
	}
	s := h.from(e.origin.source)
	s.push(e)
	h.count++
	h.bytes += e.kept()
	s.weight += h.weigh(e)
	if s.index != 0 {
		heap.Fix(&h.heap, s.index)
	}
	for oldest := e.nanos - int64(h.maxAge); s.at(0).nanos < oldest; {
		h.evict(s)
	}
	for h.count > h.maxCount || h.bytes > h.maxBytes && h.count > 1 {
		h.evict(h.heap[0])
	}
}

// from returns what there is of a source.
func (h *history) from(source string) *sourceHistory {
	if s := h.lastSource; s != nil && s.source == source {
		return s
	}
	s := h.sources[source]
	if s == nil {
		s = &sourceHistory{source: source}
		h.sources[source] = s
		heap.Push(&h.heap, s)
	}
	h.lastSource = s
	return s
}

// evict lets go of the oldest event of a source.
func (h *history) evict(s *sourceHistory) {
	rec := s.pop()
	h.count--
	h.bytes -= rec.kept()
	s.weight -= h.weigh(&rec)
	h.evicted++
	h.lose(&rec)
	if s.count == 0 {
		heap.Remove(&h.heap, s.index)
		delete(h.sources, s.source)
		h.lastSource = nil
		return
	}
	heap.Fix(&h.heap, s.index)
}

func (h *history) lose(e *Event) {
	lost := h.lastLost
	if name := e.origin.name; lost == nil || lost.name != name {
		if lost = h.lost[name]; lost == nil {
			lost = &h.lostOther
			if len(h.lost) < maxLostNames {
				lost = &lostName{name: name}
				h.lost[name] = lost
			}
		}
		h.lastLost = lost
	}
	lost.seq, lost.nanos = max(lost.seq, e.seq), max(lost.nanos, e.nanos)
}

// age lets go of what is older than the maximum age.
func (h *history) age(now int64) {
	oldest := now - int64(h.maxAge)
	for _, s := range slices.Clone(h.heap) {
		for s.count > 0 && s.at(0).nanos < oldest {
			h.evict(s)
		}
	}
}

// lostAfter returns the highest Seq that is gone of those after a Seq and not
// before a time, and that concerns admits; or 0.
func (h *history) lostAfter(after uint64, since time.Time, concerns func(name string, seq uint64) bool) (gone uint64) {
	matters := func(lost *lostName) bool {
		return lost.seq > max(after, gone) && !time.Unix(0, lost.nanos).Before(since)
	}
	if matters(&h.lostOther) {
		gone = h.lostOther.seq
	}
	for name, lost := range h.lost {
		if matters(lost) && concerns(name, lost.seq) {
			gone = lost.seq
		}
	}
	return gone
}

// before returns the Seq before the first event that is not older than t.
func (h *history) before(t time.Time) uint64 {
	first := uint64(math.MaxUint64)
	for _, s := range h.sources {
		i := sort.Search(s.count, func(i int) bool { return !s.at(i).Time().Before(t) })
		if i < s.count {
			first = min(first, s.at(i).seq)
		}
	}
	return first - 1
}

// A cursor stands before one event of a source.
type cursor struct {
	s *sourceHistory
	i int
}

func (c cursor) event() *Event { return c.s.at(c.i) }

// cursors is a heap, the cursor before the lowest Seq first.
type cursors []cursor //nolint:recvcheck // Package heap wants it so.

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return c[i].event().seq < c[j].event().seq }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)        { *c = append(*c, x.(cursor)) }

func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// maxScan bounds how many events one page looks at, and so how long a reader
// holds the bus's lock.
const maxScan = 512

// page returns up to limit events after one Seq and up to another that match
// the pattern and are meant for the reader, in order, and the Seq up to which it
// looked. Done says that there is no more.
func (h *history) page(after, to uint64, limit int, pattern topic.Pattern, reader *Client, now int64) (found []Event, upTo uint64, done bool) {
	var heads cursors
	for _, s := range h.heap {
		if i := sort.Search(s.count, func(i int) bool { return s.at(i).seq > after }); i < s.count {
			heads = append(heads, cursor{s, i})
		}
	}
	heap.Init(&heads)
	upTo = after
	for looked := 0; len(heads) > 0; looked++ {
		if looked == maxScan || len(found) == limit {
			return found, upTo, false
		}
		rec := heads[0].event()
		if rec.seq > to {
			break
		}
		upTo = rec.seq
		if m := rec.meta; pattern.Match(rec.origin.name) && m.isFor(reader) && (m.expires == 0 || now < m.expires) {
			found = append(found, *rec)
		}
		if heads[0].i++; heads[0].i < heads[0].s.count {
			heap.Fix(&heads, 0)
		} else {
			heap.Pop(&heads)
		}
	}
	return found, upTo, true
}
