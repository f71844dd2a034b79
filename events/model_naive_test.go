package events_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// What events lead to on a bus that is naive: it looks at every subscription for
// everything, and keeps everything in slices.

// heaviest returns the source that loses an event to one of newcomer.
func (s *modelSub) heaviest(newcomer string) string {
	counts := map[string]int{}
	for _, e := range s.queue {
		counts[e.source]++
	}
	most := newcomer
	for _, source := range slices.Sorted(maps.Keys(counts)) {
		if counts[source] > counts[most] {
			most = source
		}
	}
	return most
}

func (w *world) hasRoom(s *modelSub, size int) bool {
	bytes := 0
	for _, e := range s.queue {
		bytes += e.size
	}
	return len(s.queue) == 0 || len(s.queue) < s.buffer && int64(bytes+size) <= w.options.QueueBytes
}

// offer offers an event to a subscription alone, and reports whether it was taken.
func (w *world) offer(s *modelSub, e modelEvent) bool {
	s.led.Offered++
	for !w.hasRoom(s, e.size) {
		victim := -1
		switch s.rule {
		case events.RefuseToEmitter:
			s.led.Full++
			return false
		case events.DropNewest:
			if most := s.heaviest(e.source); s.fair && most != e.source {
				for victim = len(s.queue) - 1; s.queue[victim].source != most; victim-- {
				}
			}
		case events.DropOldest:
			victim = 0
			if most := s.heaviest(e.source); s.fair {
				victim = slices.IndexFunc(s.queue, func(e modelEvent) bool { return e.source == most })
			}
		}
		s.owed++
		s.led.Dropped++
		if victim < 0 {
			s.lost[e.source]++
			s.led.Accepted++
			return true
		}
		s.lost[s.queue[victim].source]++
		s.queue = slices.Delete(s.queue, victim, victim+1)
	}
	s.queue = append(s.queue, e)
	s.led.Accepted++
	return true
}

// follow appends an event to the log of a follower. What the worker has claimed is
// not dropped: that is an eighth of the buffer at most, and what it is exactly is left
// open, so the bus is asked, whose worker hangs.
func (w *world) follow(t *rapid.T, s *modelSub, e modelEvent) {
	s.led.Offered++
	s.led.Accepted++
	s.log = append(s.log, e)
	if len(s.log) <= s.buffer {
		return
	}
	require.NotNil(t, s.of.current, "a worker that is free handles at once")
	left := int(s.s.Stats().Ledger.Waiting) - len(s.page) - len(s.queue)
	claimed := left - s.buffer
	most := max(1, s.buffer/8)
	if s.of.single && most == 1 && s.of.current == s {
		most = 0 // It runs.
	}
	require.GreaterOrEqual(t, claimed, 0, s.what())
	require.LessOrEqual(t, claimed, most, s.what())
	if len(s.log) > left {
		victim := s.log[claimed]
		s.lost[victim.source]++
		s.log = slices.Delete(s.log, claimed, claimed+1)
		s.log[claimed].gap += victim.gap + 1
		s.led.Dropped++
	}
	require.Len(t, s.log, left, s.what())
}

// publish gives an event its place, and returns what the receipt is to say.
func (w *world) publish(t *rapid.T, p *modelPlugin, e modelEvent) (r events.Receipt) {
	w.seq++
	e.seq = w.seq
	p.emitted++
	r.Seq = uint64(e.seq)
	for _, s := range w.subs {
		if s.detached || s.receiver && !e.broadcast || !s.receiver && !s.matches(e.name) {
			continue
		}
		if e.broadcast && !slices.Contains(e.audience, s.of) || s.reader != nil && !e.noHistory {
			continue // What a reader gets comes by the history.
		}
		taken := true
		if s.follows() && !e.broadcast {
			w.follow(t, s, e)
		} else {
			taken = w.offer(s, e)
		}
		if !p.knows(s.of) {
			continue
		}
		r.Matched++
		if taken {
			r.Accepted++
		} else {
			r.Full++
		}
	}
	if !e.noHistory {
		w.history.add(t, w.bus, e)
	}
	return r
}

// crowded reports whether a queue that an event goes to has no room for it.
func (w *world) crowded(e modelEvent) bool {
	return slices.ContainsFunc(w.subs, func(s *modelSub) bool {
		if s.detached || s.receiver || !s.matches(e.name) || s.reader != nil && !e.noHistory {
			return false
		}
		inLog := len(s.log)
		for _, c := range s.calls {
			if c.ofLog {
				inLog++
			}
		}
		return s.follows() && inLog >= s.buffer || !w.hasRoom(s, e.size)
	})
}

// first returns the next event of s, and the slice that has it.
func (s *modelSub) first() (from *[]modelEvent) {
	for _, part := range []*[]modelEvent{&s.page, &s.log, &s.queue} {
		if len(*part) == 0 || part == &s.queue && s.reader != nil && (*part)[0].seq > s.reader.readTo {
			continue
		}
		if from == nil || (*part)[0].seq < (*from)[0].seq {
			from = part
		}
	}
	return from
}

// start takes the first event of s to its handler.
func (w *world) start(s *modelSub) {
	from := s.first()
	e := (*from)[0]
	ofLog := from == &s.log
	*from = (*from)[1:]
	now := time.Now()
	switch {
	case !e.expires.IsZero() && !now.Before(e.expires):
		s.led.Expired++
		return
	case s.of.denied(plugbus.VerbSubscribe, e.name):
		s.led.Undeliverable++
		w.failures++
		return
	case s.even && e.N%2 != 0:
		s.led.Handled++
		return
	}
	if s.once {
		s.fall(true) // It is the last, so it tells of all losses.
	}
	s.want = append(s.want, modelGot{e.seq, e.name, e.source, e.modelPayload, e.at.UnixNano(), e.replayed, s.cut, s.owed})
	s.owed, s.cut = 0, false
	if s.many == 0 && !e.replayed {
		s.of.order = append(s.of.order, fmt.Sprint(e.seq, " by ", s.id))
	}
	if s.once || s.quits && e.N == 3 {
		w.close(s)
	}
	c := &modelCall{e: e, ofLog: ofLog}
	if s.of.open {
		w.ended(s, c)
		return
	}
	if s.timeout > 0 {
		c.deadline = now.Add(s.timeout)
	}
	s.calls = append(s.calls, c)
	if s.many == 0 {
		s.of.current = s
	}
}

// ended gives a call that returned its outcome.
func (w *world) ended(s *modelSub, c *modelCall) {
	switch {
	case c.abandoned:
	case s.bad != nil && c.e.N == 2:
		s.led.Failed++
		w.failures++
	default:
		s.led.Handled++
	}
}

// abandon gives a call that hangs its outcome.
func (w *world) abandon(s *modelSub, c *modelCall) {
	if !c.abandoned {
		c.abandoned = true
		s.led.Abandoned++
		w.failures++
	}
}

// fall lets s come upon losses of its log: those before its first event, or all.
func (s *modelSub) fall(all bool) {
	for i := range s.log {
		if i == 0 || all {
			s.owed += s.log[i].gap
			s.log[i].gap = 0
		}
	}
}

// detach ends the flow of events to a subscription.
func (s *modelSub) detach() {
	s.fall(true)
	s.detached = true
}

// close ends a subscription.
func (w *world) close(s *modelSub) {
	s.detach()
	s.closed, s.reader = true, nil
	s.led.Cancelled += uint64(s.waiting())
	s.page, s.log, s.queue = nil, nil, nil
}

// settle lets everybody do what they can.
func (w *world) settle(t *rapid.T) {
	for _, p := range w.plugins {
		w.run(p)
	}
	for w.seated(t) {
		for _, p := range w.plugins {
			w.run(p)
		}
	}
}

// run lets a plugin handle what it can: first it reads the history, and then comes
// the lowest Seq, and of this the highest priority.
func (w *world) run(p *modelPlugin) {
	for more := true; more; {
		more = false
		var first *modelSub
		for _, s := range w.subs {
			if s.of != p {
				continue
			}
			for s.many > 0 && len(s.calls) < s.many && s.first() != nil {
				w.start(s)
			}
			if p.current != nil || s.closed {
				continue
			}
			if s.detached && s.reader != nil && (s.many == 0 || s.first() == nil) {
				s.reader, more = nil, true // It does not read on.
			}
			for s.reader != nil && s.first() == nil {
				w.read(s)
				more = true
			}
			s.fall(false)
			if s.many == 0 && s.first() != nil && (first == nil || cmp.Or(
				cmp.Compare((*s.first())[0].seq, (*first.first())[0].seq), cmp.Compare(first.priority, s.priority)) < 0) {
				first = s
			}
		}
		if first != nil && p.current == nil {
			w.start(first)
			more = true
		}
	}
}

// seated looks whether the emitter that waits for room has got it, and reports
// whether that changes anything.
func (w *world) seated(t *rapid.T) bool {
	waiter := w.waiter
	if waiter == nil {
		return false
	}
	denied := waiter.p.denied(plugbus.VerbEmit, waiter.e.name)
	if w.crowded(waiter.e) && (!denied || len(waiter.result) == 0) {
		return false // It may have looked again and been refused; who wakes it in vain is left open.
	}
	require.NotEmpty(t, waiter.result, "there is room for %d bytes of %q", waiter.e.size, waiter.e.name)
	w.waiter = nil
	result := <-waiter.result
	if denied {
		w.refuses(t, waiter.p, result.err)
		return false
	}
	require.NoError(t, result.err)
	waiter.e.at = time.Now()
	want := w.publish(t, waiter.p, waiter.e)
	requireReceipt(t, want, result.receipt)
	return true
}

// refuses counts an act of p that the door has refused.
func (w *world) refuses(t *rapid.T, p *modelPlugin, err error) {
	require.ErrorIs(t, err, plugbus.ErrDenied)
	p.refused++
	w.refused++
}
