package router_test

import (
	"slices"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
)

// This file says what a mailbox does with three slices for each plugin, in the words
// of the package comment and of router.Options. TestMailboxModel compares.

// A mail is one delivery.
type mail struct {
	n        int // what it carries
	from, to string
	typ      string // or the topic
	pattern  string // of a publication's handler
	size     int
	priority plugbus.Priority
	expires  time.Time // zero for never
	awaited  bool
	deadline time.Time // of the caller
	limit    time.Time // of the handler that runs; zero for none
	gone     bool      // the caller has its answer
	ended    bool      // it has its outcome
	place    string    // where its handler is
}

func (m *mail) beside() bool { return m.typ == "aside" }

// A round is three slices that are served in rounds of 8, 4 and 1.
type round struct {
	queues [3][]*mail // high, normal, low
	left   [3]int
	waited [3]int // how many others came before the first of each
}

func newRound() round { return round{left: [3]int{8, 4, 1}} }

func (r *round) len() int { return len(r.queues[0]) + len(r.queues[1]) + len(r.queues[2]) }

func (r *round) push(m *mail) {
	lane := int(plugbus.PriorityHigh - m.priority)
	r.queues[lane] = append(r.queues[lane], m)
}

func (r *round) pop() *mail {
	for {
		for lane := range r.queues {
			if len(r.queues[lane]) == 0 || r.left[lane] == 0 {
				continue
			}
			m := r.queues[lane][0]
			r.queues[lane] = r.queues[lane][1:]
			if r.left[lane]--; lane == 2 {
				r.left = [3]int{8, 4, 1}
			}
			for other := range r.queues {
				r.waited[other]++
				if other == lane || len(r.queues[other]) == 0 {
					r.waited[other] = 0
				}
			}
			return m
		}
		r.left = [3]int{8, 4, 1}
	}
}

// all returns what waits, the most urgent first.
func (r *round) all() []*mail { return slices.Concat(r.queues[0], r.queues[1], r.queues[2]) }

func (r *round) remove(m *mail) bool {
	for lane, queue := range r.queues {
		if i := slices.Index(queue, m); i >= 0 {
			if r.queues[lane] = slices.Delete(slices.Clone(queue), i, i+1); i == 0 {
				r.waited[lane] = 0
			}
			return true
		}
	}
	return false
}

// A naiveBox is a mailbox.
type naiveBox struct {
	id       string
	types    map[string]bool
	patterns []string
	round    round
	beside   round   // what waits for the concurrent handler
	active   []*mail // calls of the concurrent handler
	current  *mail   // what the worker is in, even if it was abandoned
	closing  bool
	held     bool
}

func newNaiveBox(id string) *naiveBox {
	b := &naiveBox{id: id, types: map[string]bool{"note": true, "fail": true}, round: newRound(), beside: newRound()}
	switch id {
	case "a":
		b.types["slow"] = true
		b.patterns = []string{"news.*"}
	case "b":
		b.types["aside"] = true
		b.patterns = []string{"news.x", "news.*"}
	}
	return b
}

func (b *naiveBox) waiting() []*mail { return append(b.round.all(), b.beside.all()...) }

// A naiveLetter is a dead letter.
type naiveLetter struct {
	mail    mail
	number  uint64
	outcome plugbus.Outcome
	died    time.Time
}

// A post office is all mailboxes, and what they count.
type office struct {
	most, letterMost int
	bytes            int64
	boxes            map[string]*naiveBox // nil for who has left
	denied           map[string]bool
	raise            bool // messages may be sent with a high priority
	ledger           plugbus.Ledger
	started          map[string][]string // what each plugin is to have begun with, in order
	answers          map[*mail]string    // what callers are to hear
	letters          []naiveLetter
	buried           uint64
	evicted          uint64
	abandoned        []*mail // whose handlers have not returned
	worst            [3]int  // the longest that the first of a lane had to wait for others
}

func (o *office) room(from string, size int, b *naiveBox) bool {
	count, bytes, ownCount, ownBytes := 0, int64(0), 0, int64(0)
	for _, m := range b.waiting() {
		count++
		bytes += int64(m.size)
		if m.from == from {
			ownCount++
			ownBytes += int64(m.size)
		}
	}
	switch {
	case count >= o.most, count > 0 && bytes+int64(size) > o.bytes:
		return false
	case ownCount == 0:
		return true
	}
	return ownCount < max(1, o.most/4) && ownBytes+int64(size) <= o.bytes/4
}

func (o *office) count(outcome plugbus.Outcome) string {
	o.ledger.Count(outcome, 1)
	return outcome.String()
}

// offer offers a message, and returns what its sender is told at once: "" if it was
// accepted.
func (o *office) offer(m *mail, now time.Time) string {
	b := o.boxes[m.to]
	switch {
	case o.denied["send "+m.to], m.priority == plugbus.PriorityHigh && !o.raise:
		return o.count(plugbus.Refused)
	case b == nil, o.denied["receive "+m.from], b.closing, !b.types[m.typ]:
		return o.count(plugbus.Refused)
	}
	why := o.put(m, b, now)
	o.serve(b, now)
	return why
}

// put puts a message that the door let in into a mailbox, whose plugin will serve it.
func (o *office) put(m *mail, b *naiveBox, now time.Time) string {
	if !o.room(m.from, m.size, b) {
		return o.count(plugbus.Full)
	}
	o.ledger.Offered++
	o.ledger.Accepted++
	if m.beside() && len(b.active) < 2 && b.beside.len() == 0 {
		o.begin(m, b, now)
		return ""
	}
	if o.ledger.Waiting++; m.beside() {
		b.beside.push(m)
	} else {
		b.round.push(m)
	}
	return ""
}

// serve lets a plugin begin with what it can.
func (o *office) serve(b *naiveBox, now time.Time) {
	for !b.held && b.current == nil && b.round.len() > 0 {
		m := b.round.pop()
		o.ledger.Waiting--
		o.begin(m, b, now)
	}
	for lane := range o.worst {
		o.worst[lane] = max(o.worst[lane], b.round.waited[lane])
	}
	for len(b.active) < 2 && b.beside.len() > 0 {
		m := b.beside.pop()
		o.ledger.Waiting--
		o.begin(m, b, now)
	}
}

// begin begins with a message, unless it is too late for it or it may not be had now.
func (o *office) begin(m *mail, b *naiveBox, now time.Time) {
	o.ledger.Running++
	give, take := "send "+m.to, "receive "+m.from
	if m.pattern != "" {
		give, take = "publish "+m.typ, "consume "+m.typ
	}
	switch {
	case !m.expires.IsZero() && !now.Before(m.expires):
		o.end(m, plugbus.Expired, now)
	case m.pattern == "" && !b.types[m.typ], o.denied[give], o.denied[take]:
		o.end(m, plugbus.Undeliverable, now)
	default:
		m.place = place(b.id, m.key(), o.started[b.id])
		o.started[b.id] = append(o.started[b.id], m.key())
		if m.typ == "slow" {
			m.limit = now.Add(3 * time.Second)
		}
		if m.beside() {
			b.active = append(b.active, m)
		} else {
			b.current = m
		}
	}
}

// end gives a message that runs its outcome.
func (o *office) end(m *mail, outcome plugbus.Outcome, now time.Time) {
	o.ledger.Running--
	o.over(m, outcome, now)
}

// over gives a message its outcome, and its caller the answer.
func (o *office) over(m *mail, outcome plugbus.Outcome, now time.Time) {
	o.ledger.Count(outcome, 1)
	m.ended = true
	switch {
	case m.awaited && !m.gone:
		o.answers[m], m.gone = outcome.String(), true
	case !m.awaited && outcome != plugbus.Handled:
		o.buried++
		o.letters = append(o.letters, naiveLetter{*m, o.buried, outcome, now})
		o.evict()
	}
}

// evict makes room for dead letters: the sender that has the most loses its oldest.
func (o *office) evict() {
	for len(o.letters) > o.letterMost {
		counts, most := map[string]int{}, 0
		for _, l := range o.letters {
			counts[l.mail.from]++
			most = max(most, counts[l.mail.from])
		}
		i := slices.IndexFunc(o.letters, func(l naiveLetter) bool { return counts[l.mail.from] == most })
		o.letters = slices.Delete(o.letters, i, i+1)
		o.evicted++
	}
}

// drop takes a message that waits out.
func (o *office) drop(m *mail, outcome plugbus.Outcome, now time.Time) {
	b := o.boxes[m.to]
	if b.round.remove(m) || b.beside.remove(m) {
		o.ledger.Waiting--
		o.over(m, outcome, now)
	}
}

// finish lets a handler return.
func (o *office) finish(m *mail, now time.Time) {
	b := o.boxes[m.to]
	if i := slices.Index(o.abandoned, m); i >= 0 {
		o.abandoned = slices.Delete(o.abandoned, i, i+1)
	} else if m.typ == "fail" {
		o.end(m, plugbus.Failed, now)
	} else {
		o.end(m, plugbus.Handled, now)
	}
	if b == nil {
		return
	}
	if i := slices.Index(b.active, m); i >= 0 {
		b.active = slices.Delete(b.active, i, i+1)
	} else if b.current == m {
		b.current = nil
	}
	o.serve(b, now)
}

// abandon gives a message that runs its outcome before its handler returns.
func (o *office) abandon(m *mail, now time.Time) {
	o.end(m, plugbus.Abandoned, now)
	o.abandoned = append(o.abandoned, m)
}

// running returns what handlers are in, and what they were abandoned in.
func (o *office) running() []*mail {
	all := slices.Clone(o.abandoned)
	for _, id := range []string{"a", "b", "c"} {
		b := o.boxes[id]
		if b == nil {
			continue
		}
		for _, m := range append(slices.Clone(b.active), b.current) {
			if m != nil && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// busy reports whether a plugin has anything left to do.
func (o *office) busy(b *naiveBox) bool {
	return len(b.waiting())+len(b.active) > 0 || b.current != nil && !b.current.ended
}

// pass lets time pass: whoever waits too long has waited long enough.
func (o *office) pass(all []*mail, now time.Time) {
	for _, m := range all {
		late := !m.deadline.IsZero() && !m.gone && !now.Before(m.deadline)
		runs := slices.Contains(o.running(), m)
		switch {
		case runs && !m.ended && (late || !m.limit.IsZero() && !now.Before(m.limit)):
			o.abandon(m, now)
		case late && runs: // It has its outcome, and the caller its answer.
		case late && !m.ended:
			o.drop(m, plugbus.Expired, now)
		}
	}
}

// key tells deliveries apart.
func (m *mail) key() string { return strings.Join([]string{number(m.n), m.typ, m.pattern}, " ") }

// place names a call of a handler: what is sent again comes to the same handler more
// than once.
func place(id, key string, before []string) string {
	n := 0
	for _, other := range before {
		if other == key {
			n++
		}
	}
	return strings.Join([]string{id, key, number(n)}, " ")
}
