package events

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A From is a place in the history. The zero From is its end: nothing of the
// history, only what comes.
type From struct {
	kind fromKind
	n    uint64
	t    time.Time
}

type fromKind uint8

const (
	fromNow fromKind = iota
	fromLast
	fromAfter
	fromTime
	fromAll
	fromLatest
)

// All begins with the oldest event that the history holds.
func All() From { return From{kind: fromAll} }

// Last begins with the last n events that match and that the reader may have.
func Last(n int) From { return From{kind: fromLast, n: uint64(max(n, 0))} }

// After begins with the first event after a Seq, which is how a reader goes on
// where it stopped.
func After(seq uint64) From { return From{kind: fromAfter, n: seq} }

// Since begins with the first event that is not older than t. A Seq is the
// better cursor, since times of events may be equal.
func Since(t time.Time) From { return From{kind: fromTime, t: t} }

// LatestPerName gives the latest event of each name.
func LatestPerName() From { return From{kind: fromLatest} }

func (f From) check() error {
	if f.kind == fromLast && f.n == 0 {
		return &OptionError{"Last", f.n, "at least 1"}
	}
	return nil
}

// A reader pages through the history for one plugin.
type reader struct {
	client  *Client
	pattern topic.Pattern
	from    From
	live    uint64 // the last Seq before the reader began: what follows is live

	begun     bool
	after     uint64 // what it has read, as a Seq
	gathering bool   // it reads up to live first, to know which events are asked for
	gathered  []Event
	latest    map[string]int // the places of names in gathered
	lost      uint64         // the highest Seq that was asked for and is gone
}

// pageSize bounds the events of one page.
const pageSize = 64

// begin finds the place to start at. bus.mu is held.
func (r *reader) begin(now time.Time) {
	h := &r.client.bus.history
	h.age(now.UnixNano())
	r.begun = true
	switch r.from.kind {
	case fromNow:
		r.after = r.live
	case fromAfter:
		r.after = r.from.n
	case fromTime:
		r.after = min(h.before(r.from.t), r.live)
	case fromLast, fromLatest:
		r.gathering = true
		r.latest = map[string]int{}
	case fromAll:
	}
	if r.from.kind == fromAll || r.from.kind == fromAfter {
		r.lost = h.lostAfter(r.after, func(name string) bool {
			return r.pattern.Match(name) && r.client.guard.Permit(plugbus.VerbSubscribe, name).Allowed()
		})
	}
}

// next returns the next events, and whether the reader has reached the end.
// There may be none although it has not. bus.mu is held.
func (r *reader) next(now time.Time) (page []Event, done bool) {
	if !r.begun {
		r.begin(now)
	}
	b := r.client.bus
	to := uint64(nothing)
	if r.gathering {
		to = r.live
	}
	page, r.after, done = b.history.page(r.after, to, pageSize, r.pattern, r.client, now.UnixNano())
	page = slices.DeleteFunc(page, func(e Event) bool { return !r.permitted(&e) })
	for i := range page {
		page[i].info |= infoReplayed
	}
	if !r.gathering {
		return page, done
	}
	r.gather(page)
	if !done {
		return nil, false
	}
	r.gathering, r.after = false, r.live
	slices.SortFunc(r.gathered, func(a, b Event) int { return int(int64(a.seq - b.seq)) })
	return r.gathered, false
}

// gather keeps what may turn out to be asked for.
func (r *reader) gather(page []Event) {
	if r.from.kind == fromLast {
		r.gathered = append(r.gathered, page...)
		if more := len(r.gathered) - int(min(r.from.n, 1<<31)); more > 0 {
			r.gathered = slices.Delete(r.gathered, 0, more)
		}
		return
	}
	for _, rec := range page {
		if i, known := r.latest[rec.Name()]; known {
			r.gathered[i] = rec
			continue
		}
		r.latest[rec.Name()] = len(r.gathered)
		r.gathered = append(r.gathered, rec)
	}
}

// permitted reports whether the reader may have an event of the history.
func (r *reader) permitted(e *Event) bool {
	guard := r.client.guard
	if !guard.Permit(plugbus.VerbSubscribe, e.Name()).Allowed() {
		return false
	}
	return !r.client.bus.opts.ReplayNeedsRightOfThen || guard.PermitAt(e.origin.version, plugbus.VerbSubscribe, e.Name()).Allowed()
}

// read fetches the next page for a subscription that has handled the last one.
// At the end of the history it joins the log in the same moment, so that no
// event falls between them, or comes by both.
func (s *Subscription) read() {
	b := s.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.readOn() {
		return
	}
	r := s.reader
	page, done := r.next(b.clock.Now())
	if r.lost > 0 {
		s.cut, r.lost = true, 0
	}
	b.door.Offered += uint64(len(page))
	b.door.Accepted += uint64(len(page))
	s.mu.Lock()
	for i := range page {
		s.page.push(&page[i])
	}
	s.private.Add(int32(len(page)))
	s.readTo = r.after
	if done {
		s.stopReading()
	}
	if s.opts.concurrent > 1 {
		s.spawn()
	}
	s.mu.Unlock()
	if done {
		s.log.catching = without(s.log.catching, s)
		b.topology++
		s.join()
	}
}

// readOn reports whether s has handled what it read, and may read more. bus.mu
// is held.
func (s *Subscription) readOn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached {
		s.stopReading()
		return false
	}
	return s.first() == nil
}

// stopReading lets the queue go on by itself. s.mu is held.
func (s *Subscription) stopReading() {
	s.reader = nil
	s.readTo = nothing
	s.reading.Store(false)
}

// Replay returns the events of the history that match the pattern and that the
// plugin may have, from the given place to the end as it is when the reader
// gets there. It reads page by page, so events may come in meanwhile.
//
// The sequence ends after its first error, but for one: a [*TruncatedError] is
// the first element when events that were asked for are gone, and the rest
// follows. The error is otherwise [ErrClosed], ctx.Err(), an [*OptionError], or
// a [*plugbus.DeniedError], which a rate can cause in the middle: each page
// counts as one act.
func (c *Client) Replay(ctx context.Context, pattern string, from From) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		fail := func(err error) { yield(Event{}, err) }
		if err := from.check(); err != nil {
			fail(err)
			return
		}
		p, err := topic.Parse(pattern)
		if err != nil {
			fail(c.refuse(plugbus.Refusal{Verb: plugbus.VerbSubscribe, Object: pattern, Reason: plugbus.ReasonInvalidName, Cause: err}))
			return
		}
		r := &reader{client: c, pattern: p, from: from}
		for done := false; !done; {
			if err := ctx.Err(); err != nil {
				fail(fmt.Errorf("events: replay %q: %w", pattern, err))
				return
			}
			var page []Event
			if page, done, err = c.readPage(r); err != nil {
				fail(err)
				return
			}
			if r.lost > 0 {
				if !yield(Event{}, &TruncatedError{After: r.from.n, Lost: r.lost}) {
					return
				}
				r.lost = 0
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
		}
	}
}

// readPage asks the door for one page, and reads it.
func (c *Client) readPage(r *reader) (page []Event, done bool, err error) {
	now := c.bus.clock.Now()
	refusal := plugbus.Refusal{Verb: plugbus.VerbSubscribe, Object: r.pattern.String(), Hint: "replay asks for the right to subscribe"}
	permit := c.guard.PermitPattern(plugbus.VerbSubscribe, r.pattern.String(), true)
	if refusal.Reason = permit.Reason; refusal.Reason != "" {
		return nil, false, c.refuse(refusal)
	}
	if permit.Acts != nil {
		if wait := permit.Acts.Take(now, 1); wait != 0 {
			refusal.Reason, refusal.RetryAfter, refusal.Hint = plugbus.ReasonRateLimitExceeded, max(wait, 0), ""
			return nil, false, c.refuse(refusal)
		}
	}
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || c.ended.Load() {
		return nil, false, fmt.Errorf("plugin %q replays %q: %w", c.id, r.pattern, ErrClosed)
	}
	if !r.begun {
		r.live = b.seq
	}
	page, done = r.next(now)
	return page, done, nil
}

// HistoryStats say what the history holds.
type HistoryStats struct {
	Events  int
	Bytes   int64
	Evicted uint64         // since the bus began
	Sources map[string]int // events by source
}

// History returns what the history holds.
func (b *Bus) History() HistoryStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history.age(b.clock.Now().UnixNano())
	stats := HistoryStats{Events: b.history.count, Bytes: b.history.bytes, Evicted: b.history.evicted, Sources: map[string]int{}}
	for s := range maps.Values(b.history.sources) {
		stats.Sources[s.source] = s.count
	}
	return stats
}
