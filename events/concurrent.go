package events

import (
	"context"
	"time"

	"github.com/plugbus/plugbus"
)

// A call is one call of a handler that somebody else may have to end: it has a
// time-out, or is one of several of a concurrent subscription.
type call struct {
	event Event

	// Under the subscription's lock.
	begun     bool
	abandoned bool
	looks     int       // of the watch for slow handlers
	began     time.Time // if the host observes
}

// spawn starts calls of a concurrent subscription, as many as it may have.
// s.mu is held.
func (s *Subscription) spawn() {
	for !s.client.held.Load() && s.word.Load()&closed == 0 && len(s.active) < s.opts.concurrent && s.first() != nil {
		e, c := s.beginCall()
		s.client.bus.actors.Go(func() { s.calls(e, c) })
	}
}

// beginCall takes the next event of a concurrent subscription. s.mu is held.
func (s *Subscription) beginCall() (Event, *call) {
	e := s.takeFirst()
	c := &call{event: e}
	if s.active == nil {
		s.active = map[*call]struct{}{}
	}
	s.active[c] = struct{}{}
	return e, c
}

// calls handles one event, and then others while there are any. It ends with
// the queue, or when the subscription is closed.
func (s *Subscription) calls(e Event, c *call) {
	orderly := false
	defer func() {
		if orderly {
			return
		}
		// The handler panicked, or ended this goroutine: go on with another.
		if next, c, more := s.endCall(c, plugbus.Failed, &e, failure(recover())); more {
			s.client.bus.actors.Go(func() { s.calls(next, c) })
		}
	}()
	s.client.bus.armWatch()
	for more := true; more && s.beginsCall(c); {
		outcome, err := s.serve(&e, c)
		e, c, more = s.endCall(c, outcome, &e, err)
	}
	orderly = true
}

// beginsCall reports whether a call may begin: if the subscription has been closed since it
// was spawned, its event was cancelled with those that wait.
func (s *Subscription) beginsCall(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, c.begun = s.active[c]
	return c.begun
}

// cancelSpawned takes back the calls that have not begun, and returns how many these are.
// s is closed, and s.mu is held.
func (s *Subscription) cancelSpawned() (cancelled int) {
	for c := range s.active {
		if c.begun {
			continue
		}
		if s.client.bus.opts.Observe != nil {
			s.observe(plugbus.Cancelled, &c.event, time.Time{})
		}
		delete(s.active, c)
		cancelled++
	}
	return cancelled
}

// endCall ends one call of a concurrent subscription, and begins the next if
// there is an event for it.
func (s *Subscription) endCall(c *call, o plugbus.Outcome, e *Event, err error) (next Event, nextCall *call, more bool) {
	if err != nil {
		s.client.bus.telling.Add(1)
	}
	s.mu.Lock()
	delete(s.active, c)
	if !c.abandoned {
		s.counts.Count(o, 1)
		if s.client.bus.opts.Observe != nil {
			s.observe(o, e, c.began)
		}
	}
	w := s.word.Load()
	if w&closed == 0 && s.first() != nil {
		next, nextCall = s.beginCall()
		more = true
	}
	s.mu.Unlock()
	if err != nil {
		if !c.abandoned {
			s.report(o, e, err)
		}
		s.client.bus.telling.Add(-1)
	}
	if w&(closed|detached) != 0 {
		s.settle()
	}
	if s.wants() {
		s.signal(nil) // The worker reads the next page of the history.
	}
	if !more {
		s.client.bus.idle.Tell()
	}
	return next, nextCall, more
}

// limit returns a context that ends when the handler's time is over. The
// delivery is then abandoned, unless stop is called before.
func (s *Subscription) limit(ctx context.Context, e *Event, c *call) (limited context.Context, stop func()) {
	if c == nil {
		c = &call{event: *e}
		s.mu.Lock()
		c.abandoned = s.word.Load()&abandoned != 0 // The plugin was cut off between the start and here.
		s.call = c
		s.mu.Unlock()
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.timeout)
	over := func() {
		b := s.client.bus
		b.telling.Add(1)
		if s.abandonCall(c) {
			s.report(plugbus.Abandoned, &c.event, ErrTimedOut)
			if s.word.Load()&(closed|detached) != 0 {
				s.settle() // Perhaps it was the last that the client waits for.
			}
		}
		b.telling.Add(-1)
		b.idle.Tell()
	}
	timer := time.AfterFunc(s.opts.timeout, over)
	return limited, func() {
		timer.Stop()
		if limited.Err() == context.DeadlineExceeded && ctx.Err() == nil {
			over() // Whichever of the two timers was the first.
		}
		cancel()
	}
}

// abandonCall gives a running call its outcome before it returns.
func (s *Subscription) abandonCall(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, active := s.active[c]; s.call != c && !active || c.abandoned {
		return false
	}
	c.abandoned = true
	if s.call == c {
		s.flag(abandoned)
	}
	s.counts.Abandoned++
	if s.client.bus.opts.Observe != nil {
		began := c.began
		if s.call == c {
			began = s.began
		}
		s.observe(plugbus.Abandoned, &c.event, began)
	}
	return true
}

// abandonAll gives every running call of a closed subscription its outcome, and
// returns their events. That of a call without a time-out is the worker's alone,
// and stays unnamed.
func (s *Subscription) abandonAll() (left []*Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.word.Load()&(running|abandoned) == running {
		s.flag(abandoned)
		if s.client.bus.opts.Observe != nil {
			s.observe(plugbus.Abandoned, &s.current, s.began)
		}
		if s.call != nil {
			s.call.abandoned = true // Its time-out has nothing more to say.
			left = append(left, &s.call.event)
		} else {
			left = append(left, &Event{})
		}
	}
	for c := range s.active {
		if !c.abandoned {
			c.abandoned = true
			left = append(left, &c.event)
			if s.client.bus.opts.Observe != nil {
				s.observe(plugbus.Abandoned, &c.event, c.began)
			}
		}
	}
	s.counts.Abandoned += uint64(len(left))
	return left
}
