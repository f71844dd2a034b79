package events

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/panics"
)

// What the worker of a plugin does with one subscription. All of it runs on the
// worker, but for the calls of a concurrent subscription.

// nothing is the key of a subscription that has no event.
const nothing = math.MaxUint64

// before orders the subscriptions of a client: by the next event, and of the
// same event by priority.
func (s *Subscription) before(other *Subscription) bool {
	if s.key != other.key {
		return s.key < other.key
	}
	if s.opts.priority != other.opts.priority {
		return s.opts.priority > other.opts.priority
	}
	return s.id < other.id
}

// signal says that s has an event.
func (s *Subscription) signal(wakes *actor.Wakes) {
	if !s.ready.CompareAndSwap(false, true) {
		return
	}
	c := s.client
	for {
		s.nextReady = c.inbox.Load()
		if c.inbox.CompareAndSwap(s.nextReady, s) {
			break
		}
	}
	c.signal(wakes)
}

// wants reports whether s has something for its worker to do.
func (s *Subscription) wants() bool {
	switch w := s.word.Load(); {
	case w&(closed|detached) != 0 && s.pinned.Load():
		return true
	case w&closed != 0:
		return false
	case s.opts.concurrent > 1:
		return s.reading.Load() && s.peek() == nothing
	case s.reading.Load() || s.private.Load() > 0:
		return true
	default:
		return s.pinned.Load() && s.log.count.Load() != w>>posShift
	}
}

// next returns the Seq of the next event, or nothing.
func (s *Subscription) next() uint64 {
	w := s.word.Load()
	if w&(closed|detached) != 0 {
		s.release()
	}
	if w&closed != 0 {
		return nothing
	}
	if s.reader != nil {
		s.read()
	}
	if s.opts.concurrent > 1 {
		return nothing // It has goroutines of its own.
	}
	key := uint64(nothing)
	if s.chunk != nil {
		if len(s.batch) == 0 {
			s.claim()
		}
		if len(s.batch) > 0 {
			key = s.batch[0].seq
		}
	}
	if s.private.Load() > 0 {
		key = min(key, s.peek())
	}
	return key
}

// peek returns the Seq of what first returns, or nothing.
func (s *Subscription) peek() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.first(); first != nil {
		return first.seq
	}
	return nothing
}

// first returns the first event of the page and the queue. While s reads the
// history, an event in the queue waits until everything before it was read. s.mu
// is held.
func (s *Subscription) first() *Event {
	var first *Event
	if s.page.count > 0 {
		first = s.page.at(0)
	}
	if s.queue.count > 0 {
		if q := s.queue.at(0); q.seq <= s.readTo && (first == nil || q.seq < first.seq) {
			first = q
		}
	}
	return first
}

// takeFirst takes what first returned, which makes room. s.mu is held.
func (s *Subscription) takeFirst() Event {
	s.welcome()
	s.private.Add(-1)
	if s.page.count > 0 && (s.queue.count == 0 || s.page.at(0).seq < s.queue.at(0).seq) {
		return s.page.pop()
	}
	return s.queue.pop()
}

// rest puts s to rest when it has no event, and reports whether it got one
// meanwhile.
func (s *Subscription) rest() (more bool) {
	s.ready.Store(false) // First: an emitter that takes s off the rest list has to signal it.
	if s.pinned.Load() {
		s.log.settle(s)
	}
	return s.wants() && s.ready.CompareAndSwap(false, true)
}

// claim takes the next events of the log, after what the overflow rule drops.
// For an eighth of the buffer they are the worker's, and the rule no longer
// applies to them.
func (s *Subscription) claim() {
	l := s.log
	pos := s.word.Load() >> posShift
	count := l.count.Load()
	if count == pos {
		return
	}
	want := max(pos, count-min(count, uint64(s.opts.buffer)))
	if want > pos || pos >= s.chunk.end.Load() {
		pos = l.advance(s, pos, want)
		count = l.count.Load() // The oldest chunk left may begin after the old count.
	}
	n := min(count, s.chunk.end.Load(), pos+uint64(max(1, s.opts.buffer/8))) - pos
	s.batch = s.chunk.records[pos-s.chunk.start:][:n]
	s.claimed.Store(pos + n)
}

// dropped counts what s jumps over. l.mu is held.
func (s *Subscription) dropped(l *log, from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.word.Load()&(closed|detached) != 0 {
		return // Counted already.
	}
	l.lost(s, from, to, s.losses())
	s.counts.Dropped += to - from
	s.observeDropped(to - from)
	s.slow += to - from
	s.word.Add((to - from) << posShift)
	s.missed.Add(to - from)
}

// step handles events up to bound, a Seq, and at most budget of them, of what
// next has found.
func (s *Subscription) step(bound uint64, budget int) (n int) {
	e := &s.taken
	defer func() {
		if s.word.Load()&running != 0 {
			n++
			s.finish(plugbus.Failed, s.now, failure(recover()))
		}
		*e, s.now = Event{}, nil // Nobody holds on to the payload.
	}()
	for n < budget {
		if s.private.Load() > 0 {
			var ok, wait bool
			if *e, ok, wait = s.takeOutside(bound); wait {
				return n
			}
			if ok {
				s.now = e
				outcome, err := s.serve(e, nil)
				s.finish(outcome, e, err)
				n++
				continue
			}
		}
		if len(s.batch) == 0 || s.batch[0].seq > bound {
			return n
		}
		if s.easy(&s.batch[0]) {
			n += s.follow(bound, budget-n)
			continue
		}
		if !s.start() {
			return n
		}
		*e = s.batch[0]
		s.now = e
		s.batch = s.batch[1:]
		outcome, err := s.serve(e, nil)
		s.finish(outcome, e, err)
		n++
	}
	return n
}

// takeOutside starts the delivery of an event that the log did not bring, if it
// is the next one. Wait says that it is, but that its turn has not come, so that
// what the log has must wait too.
func (s *Subscription) takeOutside(bound uint64) (e Event, ok, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.first()
	switch {
	case s.word.Load()&closed != 0 || first == nil || s.precedes(first):
		return e, false, false
	case first.seq > bound:
		return e, false, true
	case bound == nothing-1 && s.client.open.Load() > 1:
		return e, false, true // There was no limit for one subscription, but now there are two.
	}
	s.flag(running | outside)
	return s.takeFirst(), true, false
}

// precedes reports whether the log may have an event before e: what it got since
// the last claim may be.
func (s *Subscription) precedes(e *Event) bool {
	if len(s.batch) > 0 {
		return s.batch[0].seq < e.seq
	}
	return s.chunk != nil && s.log.count.Load() != s.word.Load()>>posShift
}

// start starts the delivery of the first event of the batch, unless the log is
// no longer where s reads.
func (s *Subscription) start() bool {
	for {
		w := s.word.Load()
		if w&(closed|detached) != 0 {
			s.batch = nil
			return false
		}
		if s.word.CompareAndSwap(w, w|running) {
			return true
		}
	}
}

// easy reports whether an event needs nothing but a call of the handler: its
// permission is known, it does not expire, and nothing has to be said with it.
func (s *Subscription) easy(r *Event) bool {
	if r.meta != s.seen || s.allowed.version != s.client.guard.Version() {
		return s.prepare(r)
	}
	return (s.allowed.all || s.allowed.name == r.origin.name) && s.missed.Load() == 0
}

// prepare makes the events that are like r easy, if they can be.
func (s *Subscription) prepare(r *Event) bool {
	if s.special || s.cut.Load() || r.meta.expires != 0 || s.missed.Load() != 0 || !s.permitted(r) {
		return false
	}
	s.seen = r.meta
	s.context = s.client.contextFor(r.meta.chain)
	return s.allowed.all || s.allowed.name == r.origin.name
}

// follow handles easy events of the batch. The first is easy.
func (s *Subscription) follow(bound uint64, budget int) (n int) {
	if !s.start() {
		return 0
	}
	s.client.actor.Serve(s.seen.chain)
	w := s.word.Load() &^ flags
	for {
		s.now = &s.batch[0]
		s.batch = s.batch[1:]
		err := s.handler(s.context, *s.now)
		n++
		if err != nil {
			s.finish(plugbus.Failed, s.now, panics.Returned(err))
			return n
		}
		again := uint64(0)
		if n < budget && len(s.batch) > 0 && s.batch[0].seq <= bound && s.batch[0].meta == s.seen && s.easy(&s.batch[0]) && s.private.Load() == 0 {
			again = running
		} else {
			s.client.actor.Serve(chain.Chain{}) // Before the outcome can be seen.
		}
		if !s.word.CompareAndSwap(w|running, w+one|again) {
			s.finish(plugbus.Handled, s.now, nil)
			return n
		}
		if again == 0 {
			return n
		}
		w += one
	}
}

// finish ends the running delivery, unless it was abandoned before. A flag that
// was set while the handler ran takes effect here.
func (s *Subscription) finish(o plugbus.Outcome, e *Event, err error) {
	s.client.actor.Serve(chain.Chain{}) // Before the outcome can be seen.
	if err != nil {
		s.client.bus.telling.Add(1)
	}
	s.mu.Lock()
	w := s.word.Load()
	if w&abandoned == 0 {
		s.counts.Count(o, 1)
	}
	if s.client.bus.opts.Observe != nil {
		if w&abandoned == 0 {
			s.observe(o, e, s.began)
		}
		s.current = Event{}
	}
	next := w &^ (running | outside | abandoned | crowded)
	if w&outside == 0 {
		s.slow++
		next += one
	}
	s.word.Store(next)
	s.call = nil
	s.welcome()
	s.mu.Unlock()
	if err != nil {
		if w&abandoned == 0 {
			s.report(o, e, err)
		}
		s.client.bus.telling.Add(-1)
	}
	if w&(closed|detached) != 0 {
		s.batch = nil
		s.settle()
	}
}

// settle does what was put off while a call ran.
func (s *Subscription) settle() {
	b := s.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	s.mu.Lock()
	retire := s.word.Load()&(closed|running) == closed && len(s.active) == 0
	s.mu.Unlock()
	if retire {
		s.retire()
		return
	}
	s.client.checkDrained()
}

// serve decides about one event, and calls the handler. A concurrent
// subscription gives it the call.
func (s *Subscription) serve(e *Event, concurrent *call) (plugbus.Outcome, error) {
	c := s.client
	if c.bus.opts.Observe != nil {
		s.begun(e, concurrent)
	}
	if e.meta.expires != 0 && c.bus.clock.Now().UnixNano() >= e.meta.expires {
		return plugbus.Expired, nil
	}
	if concurrent == nil && !s.permitted(e) || concurrent != nil && !c.guard.Permit(plugbus.VerbSubscribe, e.Name()).Allowed() {
		return plugbus.Undeliverable, fmt.Errorf("plugin %q may no longer subscribe to %q: %w", c.id, e.Name(), plugbus.ErrDenied)
	}
	var ctx context.Context
	if concurrent == nil {
		c.actor.Serve(e.meta.chain)
		ctx = c.contextFor(e.meta.chain)
	} else {
		c.actor.Enter(e.meta.chain)
		defer c.actor.Leave(e.meta.chain)
		ctx = c.actor.NewContextBeside(c.session, e.meta.chain, s)
	}
	if s.opts.filter != nil {
		if !s.opts.filter(*e) {
			return plugbus.Handled, nil
		}
		if s.word.Load()&closed != 0 {
			return plugbus.Cancelled, nil // While the filter ran.
		}
	}
	if s.opts.once {
		if s.fired.Swap(true) {
			return plugbus.Cancelled, nil
		}
		s.Unsubscribe()
	}
	if s.missed.Load() > 0 {
		e.info = e.info.missing(s.missed.Swap(0))
	}
	if s.cut.Load() && s.cut.Swap(false) {
		e.info |= infoTruncated
	}
	if s.opts.timeout > 0 {
		limited, stop := s.limit(ctx, e, concurrent)
		defer stop()
		ctx = limited
	}
	if err := s.handler(ctx, *e); err != nil {
		return plugbus.Failed, panics.Returned(err)
	}
	return plugbus.Handled, nil
}

// permitted reports whether the plugin may have the event, by the policy of
// now.
func (s *Subscription) permitted(e *Event) bool {
	a, guard := &s.allowed, s.client.guard
	version := guard.Version()
	if a.version != version || a.name == "" && !a.all {
		*a = allowance{version: version}
		if !s.opts.receiver {
			p := guard.PermitPattern(plugbus.VerbSubscribe, s.pattern.String(), false)
			*a = allowance{version: p.Version, all: p.Allowed() && !p.Partial}
		}
	}
	if a.all {
		return true
	}
	if name := e.origin.name; a.name != name {
		p := guard.Permit(plugbus.VerbSubscribe, name)
		if !p.Allowed() {
			return false
		}
		if p.Version == a.version {
			a.name = name
		}
	}
	return true
}

// failure returns the error of a handler that did not return, from what its
// deferred function recovered.
func failure(recovered any) error {
	if recovered == nil {
		return ErrGoexit
	}
	return &PanicError{Value: panics.Text(recovered), Stack: string(debug.Stack())}
}

// report tells the host of a failure.
func (s *Subscription) report(o plugbus.Outcome, e *Event, err error) {
	if f := s.client.bus.opts.OnFailure; f != nil {
		f(Failure{
			Plugin: s.client.id, Owner: s.client.owner, Source: e.Source(), Pattern: s.pattern.String(), Site: s.site,
			Event: e.Name(), Seq: e.seq, Outcome: o, Err: err,
		})
	}
}
