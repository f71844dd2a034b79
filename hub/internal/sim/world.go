package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
)

// A World is a hub with what happens to it.
type World struct {
	plan   *Plan
	settle func() // waits until all goroutines of the world wait
	hub    *hub.Hub
	caller *hub.Session
	born   time.Time

	stamp    atomic.Uint64
	dozing   atomic.Int32  // calls of the bystander that take long
	release  chan struct{} // what hangs waits for it
	actors   sync.WaitGroup
	closing  atomic.Uint64 // the stamp when Close was called first
	shut     sync.Once
	closedAt time.Time // of closing
	slots    map[string]*slot
	stores   map[string]*shop

	mu         sync.Mutex // guards below
	shops      []*shop    // of stores, those included that were dropped
	violations []string
	reigns     []reign
	swaps      sync.Mutex // one swap at a time, so that the reigns are known
	emissions  map[uint64]*emission
	subs       []*subscription
	messages   map[uint64]*message
	replays    []*replay
	lives      []*life
	seen       []sight // by the witness
	tally      Tally
	sums       plugbus.Ledger // of what was observed
	report     hub.Report     // of Close
	held       []captivity
	byID       map[uint64]*subscription
	searches   []*search
	watches    []*watching
	final      hub.Snapshot
	unserved   uint64            // posts and publications whose handler did not do well
	taken      map[uint64]bool   // the numbers of dead letters that are gone
	passed     map[uint64]uint64 // how often messages came by the middleware that counts
	counting   []span            // while that was in use
	retried    []string          // to whom messages were tried again
}

// A captivity is a time in which a plugin was in quarantine.
type captivity struct {
	id       string
	from, to time.Time
}

// A Tally says how much happened in a world.
type Tally struct {
	Acts, Emissions, Deliveries, Messages, Handlings, Writes, Looks, Changes, Polls, Lives, Hangs, Quarantines, Swaps uint64

	Simulated time.Duration
}

// Add adds another tally.
func (t *Tally) Add(o Tally) {
	t.Acts += o.Acts
	t.Emissions += o.Emissions
	t.Deliveries += o.Deliveries
	t.Messages += o.Messages
	t.Handlings += o.Handlings
	t.Writes += o.Writes
	t.Looks += o.Looks
	t.Changes += o.Changes
	t.Polls += o.Polls
	t.Lives += o.Lives
	t.Hangs += o.Hangs
	t.Quarantines += o.Quarantines
	t.Swaps += o.Swaps
	t.Simulated += o.Simulated
}

// Operations counts what the world checked: acts, deliveries, reads, and looks.
func (t *Tally) Operations() uint64 {
	return t.Emissions + t.Deliveries + t.Messages + t.Handlings + t.Writes + t.Looks + t.Changes + t.Polls
}

// Run plays the plan in the bubble that it is called in, of which settle is
// synctest.Wait, and returns what was not as it was promised.
func (p *Plan) Run(settle func()) (violations []string, tally Tally, err error) {
	w := &World{
		plan: p, settle: settle, born: time.Now(), release: make(chan struct{}),
		slots: map[string]*slot{}, stores: map[string]*shop{},
		emissions: map[uint64]*emission{}, messages: map[uint64]*message{}, byID: map[uint64]*subscription{},
		taken: map[uint64]bool{}, passed: map[uint64]uint64{},
	}
	o := p.Options
	o.Policy = p.rules[0].policy
	if p.observed {
		o.Observer = w
	}
	if w.hub, err = hub.New(o); err != nil {
		return nil, tally, fmt.Errorf("open the hub of seed %d: %w", p.Seed, err)
	}
	w.reigns = []reign{{rules: p.rules[0], from: w.born}}
	for _, id := range p.Plugins {
		w.slots[id] = &slot{id: id}
	}
	if err := w.seat(); err != nil {
		return nil, tally, err
	}
	w.play()
	w.end()
	w.check()
	w.tally.Simulated = time.Since(w.born)
	w.tally.Acts = uint64(len(p.acts))
	w.tally.Lives = uint64(len(w.lives))
	return w.violations, w.tally, nil
}

// wrong notes that a promise was broken.
func (w *World) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if len(w.violations) < 20 && !slices.ContainsFunc(w.violations, func(v string) bool { return strings.HasSuffix(v, text) }) {
		w.violations = append(w.violations, fmt.Sprintf("[%v] %s", time.Since(w.born), text))
	}
}

// play does the acts at their times, each on a goroutine of its own, polls, and
// closes the hub.
func (w *World) play() {
	ended := make(chan struct{})
	var pollers sync.WaitGroup
	pollers.Go(func() { w.poll(ended) })
	w.actors.Go(w.closeHub)
	for _, a := range w.plan.acts {
		if wait := a.at - time.Since(w.born); wait > 0 {
			<-time.After(wait)
		}
		w.actors.Go(func() { a.do.act(w, a) })
	}
	// Whoever calls the hub comes back, but for what hangs on purpose, which has no limit.
	back := make(chan struct{})
	go func() {
		w.actors.Wait()
		close(back)
	}()
	select {
	case <-back:
	case <-time.After(10 * time.Minute):
		w.wrong("callers have not come back after ten minutes")
	}
	close(ended)
	pollers.Wait()
}

// in does something that the hub bounds, and notes if it took longer.
func (w *World) in(limit time.Duration, what string, f func()) {
	begin := time.Now()
	f()
	if took := time.Since(begin); took > limit {
		w.wrong("%s took %v, want at most %v", what, took, limit)
	}
}

// context returns the context of an act of the host: one without an end, with a short
// time, or one that is done.
func (a *act) context() (context.Context, context.CancelFunc) {
	switch a.dice.IntN(5) {
	case 0:
		return context.WithTimeout(context.Background(), 0)
	case 1:
		return context.WithTimeout(context.Background(), time.Duration(1+a.dice.Int64N(int64(time.Second))))
	}
	return context.WithCancel(context.Background())
}

// closeHub closes the hub at its time, by several callers at once.
func (w *World) closeHub() {
	<-time.After(w.plan.closeAt)
	var wait sync.WaitGroup
	for range w.plan.closers {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), w.plan.closeTime)
			defer cancel()
			w.beginClose()
			w.in(w.plan.closeTime+hub.CloseGrace, "Close", func() { w.closed(w.hub.Close(ctx)) })
		})
	}
	wait.Wait()
}

// beginClose notes that the hub is about to be closed.
func (w *World) beginClose() {
	w.shut.Do(func() {
		w.mu.Lock()
		for _, l := range w.lives {
			l.busy = len(l.inside) > 0
		}
		w.mu.Unlock()
		w.closedAt = time.Now()
		w.closing.Store(w.stamp.Add(1))
	})
}

// Observe implements [hub.Observer]: it adds up what it is told.
func (w *World) Observe(_ context.Context, batch []plugbus.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range batch {
		w.sums.Observe(batch[i])
	}
}

// closed checks what a call of Close returned.
func (w *World) closed(report hub.Report, err error) {
	if err != nil && report.Ledger == (plugbus.Ledger{}) {
		return // It waited for another one, which has not ended.
	}
	w.mu.Lock()
	w.report = report
	w.mu.Unlock()
	if bad := report.Ledger.Check(); bad != nil {
		w.wrong("the report of Close: %v", bad)
	}
	if report.Ledger.Waiting != 0 || report.Ledger.Running != 0 {
		w.wrong("something waits or runs when the hub is closed: %v", report.Ledger)
	}
}

// end looks at what still runs when the hub is closed, lets it go, and looks again.
func (w *World) end() {
	w.closed(w.hub.Close(context.Background())) // That of a handler may not be over yet.
	w.settle()
	w.compareLeaks()
	close(w.release)
	// What sleeps or waits wakes up in the end.
	<-time.After(time.Hour)
	w.settle()
	if leaks := w.hub.Leaks(); len(leaks) > 0 {
		w.wrong("leaks, when all has returned: %v", leaks)
	}
	final := w.hub.Inspect()
	w.final = final
	if err := final.Ledger.Check(); err != nil || final.Ledger.Waiting != 0 || final.Ledger.Running != 0 {
		w.wrong("the last ledger: %v (%v)", final.Ledger, err)
	}
	if final.Ledger != w.report.Ledger {
		w.wrong("the ledger has changed since Close reported it: from %v to %v", w.report.Ledger, final.Ledger)
	}
	if w.plan.observed && final.Observer.Dropped == 0 && w.sums != final.Ledger {
		w.wrong("what was observed adds up to %v, and the ledger is %v", w.sums, final.Ledger)
	}
	for _, p := range final.Plugins {
		if p.ID != host {
			w.wrong("the closed hub still has a plugin %q, %v", p.ID, p.State)
		}
	}
}

// compareLeaks compares what runs with what Leaks says.
func (w *World) compareLeaks() {
	var want, got []string
	w.mu.Lock()
	for _, l := range w.lives {
		outer := map[string]uint64{} // by goroutine: a call within another is not named by itself
		for call := range l.inside {
			if since, ok := outer[call.goroutine]; !ok || call.since < since {
				outer[call.goroutine] = call.since
			}
		}
		for call := range l.inside {
			if outer[call.goroutine] < call.since {
				continue
			}
			want = append(want, fmt.Sprintf("%s: %s of version %d, for %v, stamp %d, gone %d", l.id, call.place, l.version, time.Since(call.at), call.since, l.gone.Load()))
		}
	}
	for range w.dozing.Load() {
		want = append(want, bystander+": it dozes")
	}
	w.tally.Hangs += uint64(len(want))
	w.mu.Unlock()
	leaks := w.hub.Leaks()
	for _, l := range leaks {
		got = append(got, l.Plugin)
	}
	owners := make([]string, len(want))
	for i, s := range want {
		owners[i] = s[:len(s)-len(s[indexColon(s):])]
	}
	slices.Sort(owners)
	slices.Sort(got)
	if !slices.Equal(owners, got) {
		slices.Sort(want)
		w.wrong("the hub is closed; these calls have not returned: %q; but Leaks says %+v", want, leaks)
	}
}

func indexColon(s string) int {
	for i := range s {
		if s[i] == ':' {
			return i
		}
	}
	return len(s)
}
