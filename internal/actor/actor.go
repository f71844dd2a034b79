package actor

import (
	"sync/atomic"

	"github.com/plugbus/plugbus/internal/chain"
)

// A Source has work for an actor. Its methods are called by one worker at a
// time.
type Source interface {
	// Work does some of the work that waits, and reports whether more waits.
	// It returns after a bounded number of handler calls, so that the sources
	// of an actor take turns.
	Work() (more bool)
}

// MaxSources is how many sources an actor can have.
const MaxSources = 8

// The state of an actor: one bit for each source that has work, and what the
// worker is about.
const (
	sourceBits = 1<<MaxSources - 1
	running    = 1 << MaxSources       // a worker is on its way through the sources
	parked     = 1 << (MaxSources + 1) // a worker waits on the park channel
)

// An Actor runs the handlers of one plugin one at a time.
type Actor struct {
	group *Group

	state   atomic.Uint32
	retired atomic.Bool
	epoch   atomic.Uint32 // the group's epoch when the worker parked

	// park has a token for the parked worker: true to go on, false to end. A
	// worker that was told to end and its successor may wait here together;
	// they are alike, so it does not matter which one gets which token.
	park chan bool

	sources [MaxSources]Source
	count   int

	serving
	next *Actor // the next one to wake; belongs to whoever claimed the wake-up
}

// Attach adds a source and returns its number, for Signal. All sources are
// attached before the first Signal.
func (a *Actor) Attach(s Source) int {
	n := a.count
	a.sources[n] = s
	a.count++
	return n
}

// Signal says that source has work. If it returns true, the caller has to wake
// the actor: by Wake, or by a Wakes list.
func (a *Actor) Signal(source int) bool {
	return a.state.Or(1<<source|running)&running == 0
}

// Wake starts the worker after a Signal that returned true.
func (a *Actor) Wake() {
	if a.state.Load()&parked != 0 {
		a.park <- true
		return
	}
	a.group.started()
	go a.work() // Ends when there is no work for a while; Group.Close waits for it.
}

// Wakes collects actors to be woken together. Its owner wakes the first, which
// wakes the second before it works, and so on: whoever has many to wake pays
// for one.
type Wakes struct{ first *Actor }

// Add adds an actor whose Signal returned true.
func (w *Wakes) Add(a *Actor) {
	a.next = w.first
	w.first = a
}

// Wake wakes them all.
func (w *Wakes) Wake() {
	if w.first != nil {
		w.first.Wake()
	}
}

// Running reports whether a worker is on its way through the sources.
func (a *Actor) Running() bool { return a.state.Load()&running != 0 }

// Retire says that the actor gets no more signals. A parked worker ends at once,
// a running one when its sources have no more work.
func (a *Actor) Retire() {
	a.retired.Store(true)
	a.group.forget(a)
	a.dismiss()
}

// dismiss ends the worker if it is parked.
func (a *Actor) dismiss() {
	if a.state.CompareAndSwap(parked, 0) {
		a.park <- false
	}
}

// Claim takes the place of the worker if that has nothing to do, and reports
// whether it did. Whoever has claimed an actor calls its handlers, and then
// Release.
func (a *Actor) Claim() bool {
	return a.state.CompareAndSwap(parked, parked|running) || a.state.CompareAndSwap(0, running)
}

// Release ends a Claim. What was signalled meanwhile is the worker's.
func (a *Actor) Release() {
	a.Serve(chain.Chain{})
	for {
		state := a.state.Load()
		if state&sourceBits != 0 {
			a.Wake()
			return
		}
		if a.state.CompareAndSwap(state, state&^running) {
			break
		}
	}
	if a.retired.Load() || a.group.closed.Load() {
		a.dismiss() // Whoever ended us found the worker claimed.
	}
}

func (a *Actor) work() {
	orderly := false
	defer func() {
		if orderly {
			a.group.ended()
			return
		}
		// A handler ended this goroutine by runtime.Goexit; the panics of
		// handlers are recovered by the sources. Which source it was is not
		// known here, so all of them get a turn.
		a.state.Or(1<<a.count - 1)
		go a.work() // Takes the place of this one in the group.
	}()
	for {
		if next := a.next; next != nil {
			a.next = nil
			next.Wake()
		}
		// A worker that ended or parked in rounds may have a successor already,
		// so from there on only the channel is touched.
		if !a.rounds() || !<-a.park {
			orderly = true
			return
		}
		a.state.And(^uint32(parked))
	}
}

// rounds calls the sources in turn until none has work. It then gives up the
// running bit, and reports whether the worker is to park.
func (a *Actor) rounds() (park bool) {
	for {
		pending := a.state.And(^uint32(sourceBits)) & sourceBits
		if pending == 0 {
			a.Serve(chain.Chain{})
			rest := uint32(0)
			if park = !a.retired.Load() && a.group.linger(a); park {
				rest = parked
			}
			if !a.state.CompareAndSwap(running, rest) {
				continue // More work was signalled.
			}
			if park && (a.retired.Load() || a.group.closed.Load()) {
				a.dismiss() // Whoever ended us may have looked just before we parked.
			}
			return park
		}
		for i := range a.count {
			if pending&(1<<i) == 0 {
				continue
			}
			a.Serve(chain.Chain{}) // What the source before this one served is over.
			if a.sources[i].Work() {
				a.state.Or(1 << i)
			}
		}
	}
}
