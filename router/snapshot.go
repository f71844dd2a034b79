package router

import (
	"cmp"
	"slices"

	"github.com/plugbus/plugbus"
)

// Ledger returns the figures of the router, which balance.
func (r *Router) Ledger() plugbus.Ledger {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.past
	l.Count(plugbus.Refused, r.refused.Load())
	for b := range r.everyBox() {
		b.mu.Lock()
		l.Add(b.ledger())
		b.mu.Unlock()
	}
	return l
}

// everyBox yields the mailboxes, and those that are closed with a handler that
// still runs. r.mu is held.
func (r *Router) everyBox() func(yield func(*mailbox) bool) {
	return func(yield func(*mailbox) bool) {
		for _, b := range r.boxes {
			if !yield(b) {
				return
			}
		}
		for b := range r.gone {
			if !yield(b) {
				return
			}
		}
	}
}

// A MailboxStats says how a mailbox and its plugin fare.
type MailboxStats struct {
	ID       string
	Owner    any            `json:"-"` // of ClientOptions
	Ledger   plugbus.Ledger // of the messages to the plugin
	Waiting  int
	Bytes    int64 // that wait
	Sent     uint64
	Refused  uint64 // messages of the plugin that were not accepted, and handlers it may not have
	Late     uint64 // replies that came too late
	Draining bool
	Held     bool // its client calls no handler yet
	Handlers []RouteStats
}

// A RouteStats describes a handler.
type RouteStats struct {
	Type       string // "" for the default, or the pattern of topics
	Topic      bool
	Stream     bool
	Concurrent int
	Site       string
}

// A Stats says how a router fares.
type Stats struct {
	Mailboxes   []MailboxStats // in the order of their ids
	Ledger      plugbus.Ledger
	DeadLetters int
	Evicted     uint64 // dead letters that made way
	Late        uint64 // replies that came too late
	Untraced    uint64 // requests by a plugin that serves something, without its context
	Middleware  []MiddlewareInfo
}

// Stats returns how the router fares.
func (r *Router) Stats() Stats {
	var s Stats
	s.Untraced = r.untraced.Load()
	s.Middleware = r.Middleware()
	r.letters.mu.Lock()
	r.letters.prune(r.clock.Now())
	s.DeadLetters, s.Evicted = len(r.letters.list), r.letters.evicted
	r.letters.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Ledger, s.Late = r.past, r.late
	s.Ledger.Count(plugbus.Refused, r.refused.Load())
	for b := range r.everyBox() {
		one := b.stats()
		s.Mailboxes = append(s.Mailboxes, one)
		s.Ledger.Add(one.Ledger)
		s.Late += one.Late
	}
	slices.SortFunc(s.Mailboxes, func(a, b MailboxStats) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

func (b *mailbox) stats() MailboxStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := MailboxStats{
		ID: b.id, Owner: b.tag, Ledger: b.ledger(), Waiting: b.waiting, Bytes: b.bytes, Late: b.late,
		Draining: b.state == draining || b.state == closed, Held: b.held,
	}
	if b.client == nil {
		return s
	}
	s.Sent, s.Refused = b.client.sent.Load(), b.client.refused.Load()
	for _, r := range b.client.everyRoute() {
		s.Handlers = append(s.Handlers, RouteStats{r.Type(), r.topics, r.stream != nil, r.opts.concurrent, r.site})
	}
	slices.SortFunc(s.Handlers, func(a, b RouteStats) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Site, b.Site))
	})
	return s
}

// Room says whether the mailbox of a plugin has room for a small message from a
// sender, and handles the type: "", or why not. It is a look at one moment, and no
// promise.
func (r *Router) Room(from, to, typ string) string {
	r.mu.Lock()
	b := r.boxes[to]
	r.mu.Unlock()
	if b == nil {
		return "not joined"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch route := b.route(typ); {
	case b.state != open:
		return "draining"
	case route == nil:
		return "no handler"
	case !route.opts.senders.admits(from):
		return "not for this sender"
	case b.hasRoom(0, b.share(from)) != admitted:
		return "full"
	}
	return ""
}

// A Leak is a handler that was abandoned and has not returned. Go cannot end
// it.
type Leak struct {
	Plugin, Type, Site string
}

// Leaks returns the handlers that were abandoned and still run.
func (r *Router) Leaks() []Leak {
	r.mu.Lock()
	defer r.mu.Unlock()
	var leaks []Leak
	for b := range r.everyBox() {
		b.mu.Lock()
		for d := b.running; d != nil; d = d.next {
			if d.abandoned {
				leaks = append(leaks, Leak{b.id, d.msg.address.name, d.site()})
			}
		}
		b.mu.Unlock()
	}
	slices.SortFunc(leaks, func(a, b Leak) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Site, b.Site))
	})
	return leaks
}
