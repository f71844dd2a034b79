package events

import (
	"cmp"
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
// where it stopped. A Seq that the bus has not reached yet is the end of the
// history.
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
	end     uint64 // a Seq after which it reads nothing; 0 for none
	live    uint64 // the last Seq before the reader began: what follows is live

	begun     bool
	after     uint64 // what it has read, as a Seq
	gathering bool   // it reads up to live first, to know which events are asked for
	gathered  []Event
	latest    map[string]int  // the places of names in gathered
	told      uint64          // the highest Seq of which the reader was told that it is gone
	cut       *TruncatedError // what to tell it next
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
		r.after = min(r.from.n, r.live)
	case fromTime:
		r.after = min(h.before(r.from.t), r.live)
		r.miss(0, r.from.t)
	case fromLast, fromLatest:
		r.gathering = true
		r.latest = map[string]int{}
	case fromAll:
	}
}

// miss looks for events after a Seq, and not before a time, that were asked for
// and are gone. bus.mu is held.
func (r *reader) miss(after uint64, since time.Time) {
	lost := r.client.bus.history.lostAfter(after, since, func(name string, seq uint64) bool {
		if i, known := r.latest[name]; known && r.gathered[i].seq > seq {
			return false
		}
		return r.pattern.Match(name) && r.client.guard.Permit(plugbus.VerbSubscribe, name).Allowed()
	})
	if lost > 0 {
		r.told, r.cut = lost, &TruncatedError{After: after, Lost: lost}
	}
}

// next returns the next events, and whether the reader has reached the end.
// There may be none although it has not. bus.mu is held.
func (r *reader) next(now time.Time) (page []Event, done bool) {
	if !r.begun {
		r.begin(now)
	}
	b := r.client.bus
	to := r.live
	if !r.gathering {
		to = cmp.Or(r.end, nothing)
		r.miss(max(r.after, r.told), time.Time{})
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
	oldest := uint64(0)
	if r.from.kind == fromLast && uint64(len(r.gathered)) == r.from.n {
		oldest = r.gathered[0].seq
	}
	r.miss(oldest, time.Time{})
	page = r.gathered
	slices.SortFunc(page, func(a, b Event) int { return cmp.Compare(a.seq, b.seq) })
	r.gathering, r.gathered, r.latest, r.after = false, nil, nil, r.live
	return page, false
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
	if r.cut != nil {
		s.cut.Store(true)
		r.cut = nil
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
		if r.end > 0 {
			s.flag(detached)
		}
	}
	if s.opts.concurrent > 1 {
		s.spawn()
	}
	s.mu.Unlock()
	switch {
	case done && r.end > 0: // Its client was succeeded.
		s.client.checkDrained()
		b.idle.Tell()
	case done:
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
	if !s.attached && !s.finishing() {
		s.stopReading()
		if s.opts.concurrent > 1 {
			s.spawn()
		}
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
// The sequence ends after its first error, but for one: a [*TruncatedError] says
// that events that were asked for are gone, and the rest follows. It is the
// first element, or comes later if events go while the reader reads. The error is
// otherwise [ErrClosed], ctx.Err(), an [*OptionError], or a
// [*plugbus.DeniedError], which a rate can cause in the middle: each page counts
// as one act. An event that the plugin may no longer have when its turn comes is
// left out.
func (c *Client) Replay(ctx context.Context, pattern string, from From) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		fail := func(err error) { yield(Event{}, err) }
		if ctx == nil {
			fail(c.noContext("replays", pattern))
			return
		}
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
			if err := c.mayReplay(ctx, p); err != nil {
				fail(err)
				return
			}
			var page []Event
			if page, done, err = c.readPage(r); err != nil {
				fail(err)
				return
			}
			if cut := r.cut; cut != nil {
				r.cut = nil
				if !yield(Event{}, cut) {
					return
				}
			}
			for i := range page {
				if err := c.mayReplay(ctx, p); err != nil {
					fail(err)
					return
				}
				if r.permitted(&page[i]) && !yield(page[i], nil) {
					return
				}
			}
		}
	}
}

// mayReplay returns nil as long as a replay may go on.
func (c *Client) mayReplay(ctx context.Context, p topic.Pattern) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("events: replay %q: %w", p, err)
	}
	if c.ended.Load() {
		return fmt.Errorf("plugin %q replays %q: %w", c.id, p, ErrClosed)
	}
	return nil
}

// readPage asks the door for one page, and reads it.
func (c *Client) readPage(r *reader) (page []Event, done bool, err error) {
	pattern := r.pattern.String()
	permit := c.guard.PermitPattern(plugbus.VerbSubscribe, pattern, true)
	if !permit.Allowed() {
		return nil, false, c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbSubscribe, Object: pattern, Reason: permit.Reason, Hint: "to replay takes the right to subscribe",
		})
	}
	if err := c.takeAct(permit, pattern); err != nil {
		return nil, false, err
	}
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false, fmt.Errorf("plugin %q replays %q: %w", c.id, r.pattern, ErrClosed)
	}
	if !r.begun {
		r.live = b.seq
	}
	c.observeAsked(pattern)
	page, done = r.next(b.clock.Now())
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
