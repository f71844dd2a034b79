package actor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lingerPeriod is how often parked workers are looked at. One that was parked
// before the last look ends.
const lingerPeriod = 20 * time.Millisecond

// A Group owns the goroutines of the actors of one hub.
type Group struct {
	epoch  atomic.Uint32 // counts the looks at parked workers
	armed  atomic.Bool   // whether the timer is set
	closed atomic.Bool   // written under mu

	mu     sync.Mutex // guards below
	actors map[*Actor]struct{}
	timer  *time.Timer
	live   int           // goroutines
	gone   chan struct{} // closed when closed and live is 0
}

// NewGroup returns a group without actors.
func NewGroup() *Group {
	return &Group{actors: map[*Actor]struct{}{}, gone: make(chan struct{})}
}

// New returns an actor of the group. It is given back by Retire.
func (g *Group) New() *Actor {
	a := &Actor{group: g, park: make(chan bool, 2)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.actors[a] = struct{}{}
	return a
}

// Go runs f on a goroutine of the group. The caller makes f end; Close waits
// for it.
func (g *Group) Go(f func()) {
	g.started()
	go func() {
		defer g.ended()
		f()
	}()
}

// Live returns how many goroutines the group has.
func (g *Group) Live() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live
}

// Close ends the parked workers, and waits until every goroutine of the group
// has ended or ctx is done. The caller has retired all actors, or sees to it
// that their sources run dry.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed.Swap(true) {
		g.armed.Store(false)
		if g.timer != nil {
			g.timer.Stop()
		}
		if g.live == 0 {
			close(g.gone)
		}
	}
	parked := make([]*Actor, 0, len(g.actors))
	for a := range g.actors {
		parked = append(parked, a)
	}
	g.mu.Unlock()
	for _, a := range parked {
		a.dismiss()
	}
	select {
	case <-g.gone:
		return nil
	default:
	}
	select {
	case <-g.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Group) started() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live++
}

func (g *Group) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live--
	if g.closed.Load() && g.live == 0 {
		select {
		case <-g.gone: // A late signal woke somebody after Close.
		default:
			close(g.gone)
		}
	}
}

func (g *Group) forget(a *Actor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.actors, a)
}

// linger reports whether a worker that has nothing to do may park.
func (g *Group) linger(a *Actor) bool {
	a.epoch.Store(g.epoch.Load())
	if g.armed.Load() {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.arm()
	return !g.closed.Load()
}

// arm sets the timer unless it is set. g.mu is held.
func (g *Group) arm() {
	switch {
	case g.closed.Load() || !g.armed.CompareAndSwap(false, true):
	case g.timer == nil:
		g.timer = time.AfterFunc(lingerPeriod, g.look)
	default:
		g.timer.Reset(lingerPeriod)
	}
}

// look ends the workers that have been parked since before the last look.
func (g *Group) look() {
	now := g.epoch.Add(1)
	var idle []*Actor
	g.mu.Lock()
	// A worker that reads armed before this is seen below as running or parked;
	// one that reads it later sets the timer itself.
	g.armed.Store(false)
	for a := range g.actors {
		switch state := a.state.Load(); {
		case state == parked && now-a.epoch.Load() > 1:
			idle = append(idle, a)
		case state != 0:
			g.arm()
		}
	}
	g.mu.Unlock()
	for _, a := range idle {
		a.dismiss()
	}
}
