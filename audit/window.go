package audit

import (
	"slices"
	"time"

	"github.com/plugbus/plugbus"
)

// A key is what entries have in common that are one entry if they come close
// together. The target is part of it only for admin entries: a plugin that is
// refused could vary it at will.
type key struct {
	event, actor, target string
	verb                 plugbus.Verb
	outcome              plugbus.Outcome
	reason               plugbus.Reason
	admin, unconfirmed   bool
}

func (e *Entry) key() key {
	k := key{
		event: e.Event, actor: e.Actor, verb: e.Verb, outcome: e.Outcome, reason: e.Reason,
		admin: e.Admin, unconfirmed: e.Unconfirmed,
	}
	if e.Admin {
		k.target = e.Target
	}
	return k
}

// The windows are the entries that repeats join if they come in time. A window
// that is over may stay until something closes it; no more are open than
// entries are kept.
type windows struct {
	open     list[*slot] // in the order of their Seq
	byKey    map[key]*slot
	repeated int // how many of them have repeats that the sinks do not know of
	timer    *time.Timer
}

// find returns the slot that e repeats, or nil.
func (w *windows) find(e *Entry, within time.Duration) *slot {
	s := w.byKey[e.key()]
	if s == nil || e.Time.Sub(s.entry.Time).Abs() >= within ||
		e.Admin && !slices.Equal(e.Details, s.entry.Details) {
		return nil
	}
	return s
}

// join adds e to the entry of s.
func (l *Log) join(s *slot, e *Entry) {
	s.entry.Count += e.Count
	if e.Last.After(s.entry.Last) {
		s.entry.Last = e.Last
	}
	l.coalesced++
	s.holder.coalesced++
	if !s.repeated && len(l.feeds) > 0 {
		s.repeated = true
		l.windows.repeated++
		l.setTimer()
	}
}

// openWindow lets repeats join the entry of s from now on, and no longer the
// entry before it.
func (l *Log) openWindow(s *slot) {
	k := s.entry.key()
	if before := l.windows.byKey[k]; before != nil {
		l.closeWindow(before)
	}
	l.windows.byKey[k] = s
	l.windows.open.push(&s.window)
	s.open = true
}

// closeWindow ends the window of s, if it is open, and tells the sinks how
// often the entry was repeated.
func (l *Log) closeWindow(s *slot) {
	if !s.open {
		return
	}
	s.open = false
	l.windows.open.remove(&s.window)
	delete(l.windows.byKey, s.entry.key())
	if s.repeated {
		s.repeated = false
		l.windows.repeated--
		l.tell(s)
	}
}

// setTimer sees to it that the sinks learn of repeats even if nothing else is
// recorded. It fires at most once in the time of a window.
func (l *Log) setTimer() {
	if l.windows.timer == nil && l.windows.repeated > 0 {
		l.timers.Add(1)
		l.windows.timer = time.AfterFunc(l.within, func() {
			defer l.timers.Done()
			l.closeWindows(time.Now())
		})
	}
}

// closeWindows closes the windows that are over at now, a batch at a time so
// that nobody waits long for the mutex.
func (l *Log) closeWindows(now time.Time) {
	for more := true; more; {
		more = l.closeSomeWindows(now)
	}
}

func (l *Log) closeSomeWindows(now time.Time) (more bool) {
	const batch = 64
	l.mu.Lock()
	defer l.mu.Unlock()
	for range batch {
		first := l.windows.open.first
		// A time ahead of now must not keep the windows behind it open.
		if first == nil || now.Sub(first.value.entry.Time).Abs() < l.within {
			l.windows.timer = nil
			if !l.closed {
				l.setTimer()
			}
			return false
		}
		l.closeWindow(first.value)
	}
	return true
}
