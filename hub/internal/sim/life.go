package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A slot is an id, and the plugins that had it one after the other.
type slot struct {
	id string

	mu      sync.Mutex
	version int
	lives   []*life
}

// latest returns the life that began last and has a session, or nil.
func (s *slot) latest() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range slices.Backward(s.lives) {
		if l.session.Load() != nil {
			return l
		}
	}
	return nil
}

// any returns some life that has a session, or nil.
func (s *slot) any(r *rand.Rand) *life {
	if l := s.latest(); l == nil || chance(r, 950) {
		return l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lives[r.IntN(len(s.lives))]; l.session.Load() != nil {
		return l
	}
	return nil
}

// A life is one plugin from its Start to its end.
type life struct {
	world   *World
	id      string
	version int
	failing string // how its Start fails, if it does
	healthy bool   // what Health says
	session atomic.Pointer[hub.Session]
	before  *life         // whose place it took
	seated  atomic.Uint64 // the stamp when it had taken it
	alike   atomic.Pointer[subscription]
	places  atomic.Int32  // of its subscriptions and routes
	gone    atomic.Uint64 // the stamp after which none of its calls begins
	cut     atomic.Bool   // it was not waited for, so that what had begun may show later
	unsure  atomic.Bool   // a Replace of it has failed
	joined  atomic.Bool   // its Start has gone well

	inside map[*call]struct{} // what runs, under World.mu
}

// A call is one call into a plugin that runs.
type call struct {
	place     string
	serial    bool
	since     uint64
	goroutine string
	at        time.Time
}

// goroutine names the goroutine that runs.
func goroutine() string {
	var buffer [32]byte
	name, _, _ := bytes.Cut(buffer[:runtime.Stack(buffer[:], false)], []byte(" ["))
	return string(name)
}

// errStart is why a Start fails that is to.
var errStart = errors.New("the plugin does not want to start")

// live makes the next plugin of a slot.
func (w *World) live(s *slot, r *rand.Rand) *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	l := &life{world: w, id: s.id, version: s.version, healthy: chance(r, 700), inside: map[*call]struct{}{}}
	if chance(r, 150) {
		l.failing = pick(r, "error", "panic", "late")
		if w.plan.Profile == Wild {
			l.failing = pick(r, l.failing, "goexit", "hang")
		}
	}
	s.lives = append(s.lives, l)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives = append(w.lives, l)
	return l
}

// enter notes that a call of the plugin begins, and what is wrong with that.
func (l *life) enter(place string, serial bool) *call {
	w := l.world
	c := &call{place, serial, w.stamp.Add(1), goroutine(), time.Now()}
	if gone := l.gone.Load(); gone != 0 && gone < c.since && !l.cut.Load() {
		w.wrong("%s: %s begins after the plugin has left", l.name(), place)
	}
	w.mu.Lock()
	var beside string
	for other := range l.inside {
		if serial && other.serial && other.goroutine != c.goroutine { // On one it is a call within the other.
			beside = other.place
		}
	}
	l.inside[c] = struct{}{}
	w.mu.Unlock()
	if beside != "" {
		w.wrong("%s: %s begins while %s runs", l.name(), place, beside)
	}
	return c
}

// leave notes that the call ends.
func (l *life) leave(c *call) {
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	delete(l.inside, c)
}

func (l *life) name() string {
	return fmt.Sprintf("%s (version %d, gone %d)", l.id, l.version, l.gone.Load())
}

// Manifest implements [hub.Plugin].
func (l *life) Manifest() hub.Manifest {
	return hub.Manifest{ID: l.id, Version: fmt.Sprintf("1.%d.0", l.version)}
}

// Start implements [hub.Plugin].
func (l *life) Start(ctx context.Context, s *hub.Session) error {
	c := l.enter("Start", true)
	defer l.leave(c)
	l.session.Store(s)
	r := dice(l.world.plan.Seed, uint64(l.version), l.id, "start") //nolint:gosec // It is small.
	l.subscribeAlike()
	for range r.IntN(6) {
		l.subscribe(r)
	}
	l.serve(r)
	if chance(r, 800) {
		l.world.ensure(ctx, l, s, l.world.storeOf(l.id))
	}
	switch l.failing {
	case "error":
		return errStart
	case "panic":
		panic("not today")
	case "late":
		<-time.After(time.Duration(r.Int64N(int64(2 * waitLimit))))
	case "goexit":
		runtime.Goexit()
	case "hang":
		<-l.world.release
	}
	if chance(r, 300) {
		<-time.After(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
	}
	l.emit(ctx, r, mix(textHash(l.id), uint64(l.version)), 0) //nolint:gosec // It is small.
	l.joined.Store(ctx.Err() == nil)
	return nil
}

// Stop implements [hub.Stopper].
func (l *life) Stop(ctx context.Context) error {
	c := l.enter("Stop", true)
	defer l.leave(c)
	return l.behave(ctx, "stop", uint64(l.version), 3) //nolint:gosec // It is small.
}

// Health implements [hub.HealthChecker].
func (l *life) Health(ctx context.Context) error {
	c := l.enter("Health", true)
	defer l.leave(c)
	if !l.healthy {
		return errors.New("not well")
	}
	return l.behave(ctx, "health", uint64(l.version), 3) //nolint:gosec // It is small.
}

// ReceiveEvent implements [hub.EventReceiver].
func (l *life) ReceiveEvent(ctx context.Context, e events.Event) error {
	c := l.enter("ReceiveEvent", true)
	defer l.leave(c)
	n, ok := l.world.isOf(l, e)
	if !ok {
		return nil
	}
	return l.behave(ctx, "receive", n.N, n.Depth)
}

// end notes that the plugin has left.
func (l *life) end(stamp uint64, cut bool) {
	if cut {
		l.cut.Store(true)
	}
	l.gone.CompareAndSwap(0, stamp)
}
