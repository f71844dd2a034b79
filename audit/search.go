package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// DefaultLimit is how many entries a page holds if its query sets no limit.
const DefaultLimit = 100

// An Order is the order in which a search goes through the entries, by Seq.
type Order uint8

// The orders.
const (
	NewestFirst Order = iota
	OldestFirst
)

// String returns "newest first" or "oldest first".
func (o Order) String() string {
	switch o {
	case NewestFirst:
		return "newest first"
	case OldestFirst:
		return "oldest first"
	}
	return fmt.Sprintf("Order(%d)", o)
}

// A Query says which entries to find. A zero field finds all.
type Query struct {
	Event   string // a pattern: "*" is one token, a final "**" one or more
	Actor   string // who acted
	Target  string // what it was about
	Either  string // who acted or what it was about
	Verb    plugbus.Verb
	Outcome plugbus.Outcome
	Reason  plugbus.Reason

	// Since and Until are the half-open range [Since, Until). An entry with
	// repeats is found if it was going on then: from Time to Last.
	Since, Until time.Time

	// MinSeq finds entries from this Seq on.
	MinSeq uint64

	Order  Order
	Limit  int    // entries of a page; 0 is 100, and a negative limit is an error
	Cursor Cursor // Page.Next of the page before; empty for the first page
}

// A Cursor is a place in a search. It is text that can be kept and sent, and
// is good for as long as the log lives.
type Cursor string

// A Page is what a search found.
type Page struct {
	Entries []Entry

	// Next continues the search. It is empty if the search came to its end.
	Next Cursor

	// Missed is how many entries are no longer kept in the part of the sequence
	// that this page covers. They might have been found.
	Missed uint64
}

// Search returns a page of the entries that match q, in the order of q. The
// first page covers the log from the end where the order begins, and each next
// page goes on where the one before it stopped; no entry is on two pages. The
// texts of a query are escaped like those of an entry, so an entry is found by
// what was recorded.
//
// It holds the log's mutex only for some hundred entries at a time. It returns
// an error that matches plugbus.ErrInvalid for a query that makes no sense.
func (l *Log) Search(q Query) (Page, error) {
	f, err := newFilter(q)
	if err != nil {
		return Page{}, fmt.Errorf("audit: search: %w: %w", plugbus.ErrInvalid, err)
	}
	return l.search(f), nil
}

// Recent returns the newest n entries that are kept, newest first. It returns
// none for 0, and an error that matches plugbus.ErrInvalid for a negative n.
func (l *Log) Recent(n int) ([]Entry, error) {
	if n < 0 {
		return nil, fmt.Errorf("audit: recent: %w: %d entries asked for; expected 0 or more", plugbus.ErrInvalid, n)
	}
	if n == 0 {
		return nil, nil
	}
	page, err := l.Search(Query{Limit: n})
	return page.Entries, err
}

// Get returns the entry that was recorded as seq. It reports false if there is
// none, or if it is no longer kept.
func (l *Log) Get(seq uint64) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.bySeq[seq]
	if s == nil {
		return Entry{}, false
	}
	return s.entry.clone(), true
}

// A filter is a query that was checked.
type filter struct {
	Query
	event topic.Pattern
	at    uint64 // the Seq where the page before stopped; 0 if there is none
}

func newFilter(q Query) (*filter, error) {
	f := &filter{Query: q}
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	if q.Event != "" {
		f.event, err = topic.Parse(q.Event)
		check(err)
	}
	if q.Verb != 0 {
		_, err = q.Verb.MarshalText()
		check(err)
	}
	if q.Outcome != 0 {
		_, err = q.Outcome.MarshalText()
		check(err)
	}
	if q.Order > OldestFirst {
		check(fmt.Errorf("%v; expected NewestFirst or OldestFirst", q.Order))
	}
	if q.Limit < 0 {
		check(fmt.Errorf("the limit is %d; expected 0 for the default of %d, or more", q.Limit, DefaultLimit))
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		check(fmt.Errorf("until %v is before since %v", q.Until, q.Since))
	}
	if q.Cursor != "" {
		f.at, err = q.Cursor.parse(q.Order)
		check(err)
	}
	if f.Limit == 0 {
		f.Limit = DefaultLimit
	}
	f.Actor, f.Target, f.Either = escape(q.Actor), escape(q.Target), escape(q.Either)
	f.Reason = plugbus.Reason(escape(string(q.Reason)))
	return f, errors.Join(errs...)
}

func (f *filter) match(e *Entry) bool {
	return (f.Actor == "" || f.Actor == e.Actor) &&
		(f.Target == "" || f.Target == e.Target) &&
		(f.Either == "" || f.Either == e.Actor || f.Either == e.Target) &&
		(f.Verb == 0 || f.Verb == e.Verb) &&
		(f.Outcome == 0 || f.Outcome == e.Outcome) &&
		(f.Reason == "" || f.Reason == e.Reason) &&
		(f.Since.IsZero() || !e.Last.Before(f.Since)) &&
		(f.Until.IsZero() || e.Time.Before(f.Until)) &&
		(f.Event == "" || f.event.Match(e.Event))
}

// The words of a cursor say which way it goes.
var cursorWords = [...]string{NewestFirst: "before-", OldestFirst: "after-"}

func (c Cursor) parse(o Order) (uint64, error) {
	if o > OldestFirst {
		return 0, nil // reported already
	}
	digits, ok := strings.CutPrefix(string(c), cursorWords[o])
	seq, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || seq == 0 {
		return 0, fmt.Errorf("cursor %q is not of a search with %v; expected the Next of a page in the same order", escape(string(c)), o)
	}
	return seq, nil
}

func (l *Log) search(f *filter) Page {
	w := walk{filter: f}
	for l.step(&w) {
	}
	for i, e := range w.page.Entries {
		w.page.Entries[i] = e.clone() // out of the mutex; details never change
	}
	return w.page
}

// A walk is a search under way.
type walk struct {
	*filter
	page    Page
	started bool
	at      uint64 // the Seq that was visited last; all up to it are dealt with
	end     uint64 // the last Seq to visit
}

// step visits some entries, and reports whether there are more to visit.
func (l *Log) step(w *walk) bool {
	const visits = 256
	l.mu.Lock()
	defer l.mu.Unlock()
	if !w.started {
		w.start(l.seq)
	}
	n := l.seek(w.at, w.Order)
	for range visits {
		if n == nil || w.beyond(n.value.entry.Seq) {
			w.skipTo(w.end)
			return false
		}
		e := &n.value.entry
		w.visit(e.Seq)
		if w.match(e) {
			w.page.Entries = append(w.page.Entries, *e)
			if len(w.page.Entries) == w.Limit {
				if w.at != w.end {
					w.page.Next = Cursor(cursorWords[w.Order] + strconv.FormatUint(w.at, 10))
				}
				return false
			}
		}
		n = w.Order.next(n)
	}
	return true
}

// start sets the ends of the walk: what is recorded from now on is not
// visited, so a walk ends.
func (w *walk) start(last uint64) {
	w.started = true
	first := max(w.MinSeq, 1)
	if w.Order == OldestFirst {
		w.at, w.end = min(max(w.filter.at, first-1), last), last
	} else {
		w.at, w.end = last+1, first
		if w.filter.at != 0 {
			w.at = min(w.at, w.filter.at)
		}
	}
}

// beyond reports whether seq is behind the end.
func (w *walk) beyond(seq uint64) bool {
	if w.Order == OldestFirst {
		return seq > w.end
	}
	return seq < w.end
}

// visit goes on to seq, and counts what is missing before it.
func (w *walk) visit(seq uint64) {
	w.page.Missed += distance(w.at, seq) - 1
	w.at = seq
}

// skipTo goes on to the end, and counts what is missing up to it.
func (w *walk) skipTo(end uint64) {
	ahead := w.at < end
	if w.Order == NewestFirst {
		ahead = w.at > end
	}
	if ahead {
		w.page.Missed += distance(w.at, end)
		w.at = end
	}
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// seek returns the first node behind seq in the order o, or nil. Where the entry
// of seq is no longer kept, it looks from the beginning, where few are left of
// many, and from seq, where most are kept, until one of the two finds it.
func (l *Log) seek(seq uint64, o Order) *node[*slot] {
	if s := l.bySeq[seq]; s != nil {
		return o.next(&s.order)
	}
	n, near := l.order.last, seq
	if o == OldestFirst {
		n = l.order.first
	}
	for n != nil && (o == OldestFirst && n.value.entry.Seq <= seq || o == NewestFirst && n.value.entry.Seq >= seq) {
		n = o.next(n)
		if o == OldestFirst {
			near++
		} else {
			near--
		}
		if s := l.bySeq[near]; s != nil {
			return &s.order
		}
	}
	return n
}

func (o Order) next(n *node[*slot]) *node[*slot] {
	if o == OldestFirst {
		return n.next
	}
	return n.prev
}
