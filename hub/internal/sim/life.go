package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A slot is an id, and the plugins that had it one after the other.
type slot struct {
	id string

	ending atomic.Int32  // acts that have plugins of the slot leave
	begun  atomic.Uint64 // such acts

	mu      sync.Mutex
	version int
	lives   []*life
	left    []time.Time // when nobody had the id

	turns   atomic.Uint64 // grows when a change of who has the id begins, and when it ends
	turning atomic.Int64  // how many do
}

// still returns what reports whether nobody has come to have the id since, nor left it.
func (s *slot) still() func() bool {
	n := s.turns.Load()
	rests := s.turning.Load() == 0
	return func() bool { return rests && s.turns.Load() == n && s.turning.Load() == 0 }
}

// present returns the plugin that had the id, without doubt, all the time that the slot was
// still, or nil. It is for the end of the world.
func (s *slot) present(at span) *life {
	for _, l := range s.lives {
		ready, seated := l.ready.Load(), l.seated.Load()
		if (ready != 0 && ready < at.begin || seated != 0 && seated < at.begin) && (l.gone.Load() == 0 || l.gone.Load() > at.end) && !l.unsure.Load() {
			return l
		}
	}
	return nil
}

// enter notes that an act begins which has a plugin leave. What it returns ends that, and
// reports whether it was the only one.
func (s *slot) enter() (leave func() (alone bool)) {
	n, first := s.begun.Add(1), s.ending.Add(1) == 1
	return func() bool { return s.ending.Add(-1) == 0 && first && s.begun.Load() == n }
}

// turn notes that a change of who has the id begins, and returns what notes its end.
func (s *slot) turn() (end func()) {
	s.turning.Add(1)
	s.turns.Add(1)
	return func() {
		s.turns.Add(1)
		s.turning.Add(-1)
	}
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
	heirOf  *life         // whose place it is to take, before it has it
	seated  atomic.Uint64 // the stamp when it had taken it
	alike   atomic.Pointer[subscription]
	places  atomic.Int32  // of its subscriptions and routes
	leaving atomic.Uint64 // the stamp when somebody first had it leave
	gone    atomic.Uint64 // the stamp after which none of its calls begins
	cut     atomic.Bool   // it was not waited for, so that what had begun may show later
	unsure  atomic.Bool   // a Replace of it has failed
	joined  atomic.Bool   // its Start has gone well
	ready   atomic.Uint64 // the stamp when it was registered
	began   uint64        // the stamp of when it was made
	start   time.Time     // when that was

	// Under World.mu.
	inside map[*call]struct{} // what runs
	got    []delivery         // broadcasts, as a receiver
	offers []*offer           // of capabilities
	types  []string           // of messages that it handles
	guards uint64             // the stamp when it had set the validator of its store; 0 if it has not
	busy   bool               // a call ran when the hub was about to be closed
	blown  []time.Time        // when handlers of events panicked, or ended their goroutine
}

// A call is one call into a plugin that runs.
type call struct {
	place     string
	serial    bool
	since     uint64
	goroutine string
	at        time.Time
	key       any // of a handler with calls beside each other
}

// goroutine names the goroutine that runs.
func goroutine() string {
	var buffer [32]byte
	name, _, _ := bytes.Cut(buffer[:runtime.Stack(buffer[:], false)], []byte(" ["))
	return string(name)
}

// moved reports whether the plugin has left before the hub closed, or come in another's
// place.
func (l *life) moved() bool {
	return l.seated.Load() != 0 || l.joined.Load() && l.gone.Load() != 0
}

// errStart is why a Start fails that is to.
var errStart = errors.New("the plugin does not want to start")

// live makes the next plugin of a slot.
func (w *World) live(s *slot, r *rand.Rand) *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	l := &life{world: w, id: s.id, version: s.version, healthy: chance(r, 700), began: w.stamp.Add(1), start: time.Now(), inside: map[*call]struct{}{}}
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
	c := &call{place: place, serial: serial, since: w.stamp.Add(1), goroutine: goroutine(), at: time.Now()}
	if gone := l.gone.Load(); gone != 0 && gone < c.since && !l.cut.Load() {
		w.wrong("%s: %s begins after the plugin has left", l.name(), place)
	}
	if l.heirOf != nil && handles(place) && !l.heirOf.ended() {
		w.wrong("%s: %s begins before the plugin has left whose place it takes", l.name(), place)
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

// handles reports whether a call waits for the plugin to have its place.
func handles(place string) bool {
	return place != "Start" && place != "Stop" && place != "function of Go" && !strings.HasPrefix(place, "validator")
}

// crowd notes that a call is one of those of which a number may run at a time.
func (l *life) crowd(c *call, key any, most int) {
	l.world.mu.Lock()
	c.key = key
	run := 0
	for other := range l.inside {
		if other.key == key {
			run++
		}
	}
	l.world.mu.Unlock()
	if run > most {
		l.world.wrong("%s: %d calls of %s run at a time, and %d may", l.name(), run, c.place, most)
	}
}

// deadline notes if the time of a call is over, and its context does not say so.
func (l *life) deadline(ctx context.Context, c *call, limit time.Duration) (over bool) {
	over = limit > 0 && time.Since(c.at) > limit
	if end, limited := ctx.Deadline(); (over || limited && time.Now().After(end)) && ctx.Err() == nil {
		l.world.wrong("%s: %s has run for %v, and its context is not done", l.name(), c.place, time.Since(c.at))
	}
	return over
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
	l.subscribeAlike(r)
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
	w := l.world
	c := l.enter("ReceiveEvent", true)
	defer l.leave(c)
	defer func() { l.deadline(ctx, c, w.plan.Options.Events.HandlerTimeout) }()
	n, ok := w.isOf(l, e)
	w.mu.Lock()
	l.got = append(l.got, delivery{stamp: c.since, at: c.at, seq: e.Seq(), n: n.N})
	w.mu.Unlock()
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
