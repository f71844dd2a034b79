package hub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
)

// An Observer is the one place for metrics and traces: it gets an observation of each
// act at the door of events, messages and stores, and of each delivery when it has
// ended, in the order in which the hub counted them. Those that count a delivery add
// up to [Hub.Ledger]: see [plugbus.Ledger.Observe]. Registering handlers and
// capabilities, finding providers, and calls that fail before the door, such as those of
// a session that has ended, are not observed.
//
// Nobody waits for it but [Hub.Close]: observations wait in a queue of bounded length, and
// a goroutine of its own gives them to the Observer, one call at a time, with no lock held.
// All that an act pays for is the entry in that queue and the reading of the clock. What
// finds the queue full is dropped and counted, in [Snapshot.Observer]. A call that panics
// or ends its goroutine is logged and counted, and the next call goes on with what follows.
type Observer interface {
	// Observe gets what was observed since the last call, at least one observation and
	// at most Options.ObserverQueue. The batch is the hub's, and valid during the call
	// only. The context ends when the hub has closed, or gives up waiting. What the call
	// does through the hub is observed too, so that an Observer which acts at each call
	// is called again for that. It may close the hub, with this context, and then gets no
	// more.
	Observe(ctx context.Context, batch []plugbus.Observation)
}

// An ObserverFunc is a function as an [Observer].
type ObserverFunc func(ctx context.Context, batch []plugbus.Observation)

// Observe calls the function.
func (f ObserverFunc) Observe(ctx context.Context, batch []plugbus.Observation) { f(ctx, batch) }

// ObserverStats say how the [Observer] fares. They are zero without one.
type ObserverStats struct {
	Waiting  int    // observations, those included that it is being given
	Observed uint64 // observations that it has been given
	Dropped  uint64 // for which the queue had no room, or which the hub closed on
	Panics   uint64 // calls that panicked or ended their goroutine
}

// defaultObserverQueue and maxObserverQueue bound the observations that wait.
const (
	defaultObserverQueue = 8192
	maxObserverQueue     = 1 << 20
)

// An observatory gives observations to the Observer. Its lock comes after all others.
type observatory struct {
	observer Observer
	logger   *slog.Logger
	room     int
	group    *actor.Group // of the one worker, apart from those of plugins
	worker   *actor.Actor
	ctx      context.Context //nolint:containedctx // That of the calls.
	end      context.CancelFunc

	mu      sync.Mutex // guards below
	waiting []plugbus.Observation
	spare   []plugbus.Observation // what the next ones go to when the waiting ones are given away
	given   int                   // how many the Observer has just now
	stats   ObserverStats
	closed  bool // nothing more is taken
	hung    bool // Close has given up on a call
}

func newObservatory(o Observer, room int, logger *slog.Logger) *observatory {
	w := &observatory{observer: o, logger: logger, room: room, group: actor.NewGroup()}
	w.worker = w.group.New()
	w.worker.Attach(w)
	ctx, end := context.WithCancel(context.Background())
	w.ctx, w.end = inside{ctx, w.worker.NewContext(ctx, plugbus.Chain{})}, end
	return w
}

// taker returns what takes observations, nil if there is no Observer.
func (w *observatory) taker() func(plugbus.Observation) {
	if w == nil {
		return nil
	}
	return w.add
}

// add takes an observation. It does not block, and may be called with locks held.
func (w *observatory) add(o plugbus.Observation) {
	w.mu.Lock()
	if w.closed || len(w.waiting)+w.given >= w.room {
		w.stats.Dropped++
		w.mu.Unlock()
		return
	}
	w.waiting = append(w.waiting, o)
	if w.worker.Signal(0) { // Under the lock: when nothing more is taken, nobody is woken any more.
		w.worker.Wake()
	}
	w.mu.Unlock()
}

// Work implements actor.Source: it gives away all that waits.
func (w *observatory) Work() (more bool) {
	w.mu.Lock()
	batch := w.waiting
	if len(batch) == 0 {
		w.mu.Unlock()
		return false
	}
	w.waiting, w.spare, w.given = w.spare[:0], nil, len(batch)
	w.mu.Unlock()
	orderly := false
	defer func() {
		if !orderly {
			w.failed(failure("the Observer", recover()))
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stats.Observed += uint64(len(batch))
		clear(batch) // Nobody holds on to the names, and who kept the batch finds nothing.
		w.spare, w.given, w.hung = batch[:0], 0, false
		more = len(w.waiting) > 0
	}()
	w.observer.Observe(w.ctx, batch)
	orderly = true
	return
}

// failed counts a call that did not return. The log gets the first, and then ever fewer.
func (w *observatory) failed(err error) {
	w.mu.Lock()
	w.stats.Panics++
	n := w.stats.Panics
	w.mu.Unlock()
	if n&(n-1) == 0 {
		w.logger.Error("the Observer did not return", "times", n, "error", err)
	}
}

// figures returns how the Observer fares; nil is none.
func (w *observatory) figures() ObserverStats {
	if w == nil {
		return ObserverStats{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Waiting = len(w.waiting) + w.given
	return s
}

// retire takes nothing more. The worker ends when it has given away what waits.
func (w *observatory) retire() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.worker.Retire()
}

// close waits until the Observer has all that was taken, or until ctx is done. Then the
// rest is dropped, and no call begins any more. A call in which the hub is being closed is
// not waited for.
func (w *observatory) close(ctx context.Context) error {
	if w == nil {
		return nil
	}
	defer w.end()
	w.retire()
	own := actor.Owner(ctx) == w.worker
	if own {
		ctx = ended(ctx)
	}
	err := w.group.Close(ctx)
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := len(w.waiting)
	w.stats.Dropped += uint64(lost)
	w.waiting = nil
	if own {
		return nil
	}
	w.hung = w.given > 0
	return fmt.Errorf("hub: Options.Observer has not returned, and did not get %d observations: %w", lost, err)
}

// hangs reports whether Close has given up on a call that has not returned.
func (w *observatory) hangs() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hung
}
