package events

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
)

// ledger returns what became of everything that s accepted. The figures belong
// to one moment, since bus.mu, which is held, keeps new events away, and the
// worker moves events only from one figure to another.
func (s *Subscription) ledger() plugbus.Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.counts
	w := s.word.Load()
	l.Waiting += uint64(s.queue.count + s.page.count)
	pos := w >> posShift
	l.Handled += pos - s.joined - s.slow
	if s.following {
		waiting := s.log.next - pos
		if w&(running|outside) == running {
			waiting--
		}
		// What the overflow rule has dropped is dropped, although the worker has
		// not jumped over it yet.
		kept := max(pos, s.claimed.Load()) + uint64(s.opts.buffer)
		if s.log.next > kept {
			l.Dropped += s.log.next - kept
			waiting -= s.log.next - kept
		}
		l.Waiting += waiting
	}
	if w&(running|abandoned) == running {
		l.Running++
	}
	for c := range s.active {
		if !c.abandoned {
			l.Running++
		}
	}
	return l
}

// empty reports whether s has nothing left to handle and handles nothing.
// bus.mu is held.
func (s *Subscription) empty() bool {
	l := s.ledger()
	return l.Waiting == 0 && l.Running == 0 && !s.finishing()
}

// Ledger returns the figures of the bus, which balance.
func (b *Bus) Ledger() plugbus.Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.door
	l.Add(b.past)
	for c := range b.everyClient() {
		for s := range c.subs {
			l.Add(s.ledger())
		}
	}
	return l
}

// everyClient yields the clients, those aside, and those that ended with a handler that
// still runs. bus.mu is held.
func (b *Bus) everyClient() func(yield func(*Client) bool) {
	return func(yield func(*Client) bool) {
		for _, c := range b.clients {
			if !yield(c) {
				return
			}
		}
		for c := range b.aside {
			if !yield(c) {
				return
			}
		}
		for c := range b.gone {
			if !yield(c) {
				return
			}
		}
	}
}

// SubscriptionStats say how a subscription fares.
type SubscriptionStats struct {
	ID      uint64
	Plugin  string
	Pattern string // "" for a handler of broadcasts
	Site    string // where the plugin subscribed, as file:line
	Ledger  plugbus.Ledger
	Buffer  int  // how many events may wait
	Reading bool // it still reads the history

	// Lost counts the events lost to the overflow rule by source. With the rule
	// DropOldest, those that make way while a handler runs are in Ledger at once,
	// and here when it has returned.
	Lost map[string]uint64
}

// Stats returns how the subscription fares.
func (s *Subscription) Stats() SubscriptionStats {
	b := s.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	return s.stats()
}

func (s *Subscription) stats() SubscriptionStats {
	stats := SubscriptionStats{
		ID: s.id, Plugin: s.client.id, Pattern: s.pattern.String(), Site: s.site,
		Ledger: s.ledger(), Buffer: s.opts.buffer, Reading: s.reading.Load(),
	}
	stats.Ledger.Accepted = stats.Ledger.Ended() + stats.Ledger.Waiting + stats.Ledger.Running
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Lost = maps.Clone(s.lost)
	stats.Ledger.Full = s.refused
	stats.Ledger.Offered = stats.Ledger.Accepted + stats.Ledger.Full
	return stats
}

// ClientStats say how a client fares.
type ClientStats struct {
	ID            string
	Owner         any    `json:"-"` // of ClientOptions
	Emitted       uint64 // events that the door accepted
	Refused       uint64 // acts that it refused
	Draining      bool
	Held          bool                // it calls no handler yet
	Subscriptions []SubscriptionStats // in the order they were made
}

// Stats returns how the clients fare, in the order of their ids, at one moment,
// and the ledger of that moment.
func (b *Bus) Stats() (clients []ClientStats, ledger plugbus.Ledger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ledger = b.door
	ledger.Add(b.past)
	for c := range b.everyClient() {
		stats := ClientStats{ID: c.id, Emitted: c.emitted, Refused: c.refused, Draining: c.draining, Owner: c.owner, Held: c.held.Load()}
		for s := range c.subs {
			one := s.stats()
			stats.Subscriptions = append(stats.Subscriptions, one)
			one.Ledger.Offered, one.Ledger.Accepted, one.Ledger.Full = 0, 0, 0 // The door's figures have them.
			ledger.Add(one.Ledger)
		}
		slices.SortFunc(stats.Subscriptions, func(a, b SubscriptionStats) int { return cmp.Compare(a.ID, b.ID) })
		clients = append(clients, stats)
	}
	slices.SortFunc(clients, func(a, b ClientStats) int { return cmp.Compare(a.ID, b.ID) })
	return clients, ledger
}

// A Leak is a handler that was abandoned and has not returned. Go cannot end
// it.
type Leak struct {
	Plugin, Pattern, Site string
}

// Leaks returns the handlers that were abandoned and still run.
func (b *Bus) Leaks() []Leak {
	b.mu.Lock()
	defer b.mu.Unlock()
	var leaks []Leak
	for c := range b.everyClient() {
		for s := range c.subs {
			for range s.hung() {
				leaks = append(leaks, Leak{c.id, s.pattern.String(), s.site})
			}
		}
	}
	slices.SortFunc(leaks, func(a, b Leak) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Site, b.Site))
	})
	return leaks
}

// hung returns how many abandoned calls of s still run.
func (s *Subscription) hung() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.word.Load()&(running|abandoned) == running|abandoned {
		n++
	}
	for c := range s.active {
		if c.abandoned {
			n++
		}
	}
	return n
}

// armWatch sees to it that handlers which run long are noticed.
func (b *Bus) armWatch() {
	if b.opts.OnSlow == nil || b.watching.Load() || b.watching.Swap(true) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == nil {
		b.watch = time.AfterFunc(b.opts.SlowAfter, b.look)
	} else {
		b.watch.Reset(b.opts.SlowAfter)
	}
}

// look finds the handlers that are where they were at the last look.
func (b *Bus) look() {
	b.watching.Store(false)
	var slow []Slow
	b.mu.Lock()
	busy := false
	for c := range b.everyClient() {
		for s := range c.subs {
			late, runs := s.look()
			busy = busy || runs || c.actor.Running() // It may be about to call one.
			for range late {
				slow = append(slow, Slow{c.id, s.pattern.String(), s.site, c.owner, b.opts.SlowAfter})
			}
		}
	}
	b.mu.Unlock()
	if busy {
		b.armWatch()
	}
	for _, s := range slow {
		b.opts.OnSlow(s)
	}
}

// look returns how many calls of the handler it sees for the second time, and
// whether one runs. bus.mu is held.
func (s *Subscription) look() (late int, runs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.active {
		if c.looks++; c.looks == 2 {
			late++
		}
	}
	w := s.word.Load()
	at := [2]uint64{w, s.counts.Ended()} // It differs between any two calls of the worker.
	runs = w&running != 0
	switch {
	case at != s.watched:
		s.warned = false
	case runs && !s.warned:
		s.warned = true
		late++
	}
	s.watched = at
	return late, runs || len(s.active) > 0
}
