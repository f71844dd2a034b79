package store

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/panics"
)

// A call is one call of a plugin's watcher or validator, on its worker.
type call struct {
	watch *Watch // that must not have been stopped when it begins, or nil
	what  string // for the host, such as a pattern
	store string
	site  string
	more  bool   // the watch holds more to deliver
	late  func() // called when it is abandoned
	begun time.Time

	// Under the client's lock.
	abandoned bool // what it returns is thrown away
	settled   bool // and late has returned
	behind    bool // and its watch has more to look at
	told      bool // OnSlow has heard of it
}

// A Failure is a call of a watcher or validator that did not go well.
type Failure struct {
	Plugin    string // whose call it was
	Owner     any    // the Owner of its client
	Store     string
	What      string // "watch PATTERN" or "validator"
	Site      string // where the watch was opened
	Writer    string // whose write led to the call; "" if nobody's did
	Key       string // "" if it is about several or none
	Revision  uint64
	Abandoned bool  // it had not returned in its time, and goes on
	Err       error // what it returned, a [*PanicError], [ErrGoexit] or [ErrTimedOut]
}

// A Slow is a call of a watcher or validator that runs long.
type Slow struct {
	Plugin string
	Owner  any // of its client
	Store  string
	What   string
	Site   string
	For    time.Duration
}

// panicked returns the error of a panic.
func panicked(recovered any) error {
	return &PanicError{Value: panics.Text(recovered), Stack: string(debug.Stack())}
}

// run calls f on the worker, which serves led meanwhile, and reports whether it did: not
// if the client or the watch has ended. After the time limit, 0 for none, its context
// ends, and it is abandoned. Otherwise ended gets its error, also if it panics or ends its
// goroutine.
func (c *Client) run(k *call, led plugbus.Chain, limit time.Duration, f func(ctx context.Context) error, ended func(err error)) (ran bool) {
	k.begun = c.db.clock.Now()
	if !c.begin(k) {
		return false
	}
	ran = true // Also if f panics: who hears that it has not run gives a verdict in its place.
	c.db.slow.arm()
	var ctx context.Context = c.actor.NewContext(c.session, led)
	stop := func() {}
	if limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		timer := time.AfterFunc(limit, func() { c.abandon(k) })
		ctx, stop = limited, func() {
			timer.Stop()
			if limited.Err() == context.DeadlineExceeded {
				c.abandon(k) // Whichever of the two timers was the first.
			}
			cancel()
		}
	}
	c.actor.Serve(led)
	returned := false
	var err error
	defer func() {
		if !returned {
			if r := recover(); r != nil {
				err = panicked(r)
			} else {
				err = ErrGoexit
			}
		}
		stop()
		c.actor.Serve(plugbus.Chain{})
		c.mu.Lock()
		c.running = nil
		abandoned := k.abandoned
		c.mu.Unlock()
		if !abandoned {
			ended(err)
		}
		c.db.left(c)
	}()
	err = f(ctx)
	returned = true
	return ran
}

// begin notes that a call runs, and reports whether it may.
func (c *Client) begin(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Load() || k.watch != nil && k.watch.stopped.Load() {
		return false
	}
	c.running = k
	return true
}

// abandon gives up on a call that runs, once.
func (c *Client) abandon(k *call) {
	c.mu.Lock()
	over := c.running != k || k.abandoned
	if !over {
		k.abandoned = true
	}
	c.mu.Unlock()
	if over {
		return
	}
	k.late()
	behind := k.more || k.watch != nil && k.watch.isBehind()
	c.mu.Lock()
	k.settled, k.behind = true, behind
	c.mu.Unlock()
	c.db.idle.Tell()
}

func (c *Client) report(f Failure) {
	if told := c.db.opts.OnFailure; told != nil {
		f.Owner = c.owner
		told(f)
	}
}

// A source gives the worker what the client has for it.
type source Client

// maxTurn is how many changes a watch delivers before others have their turn.
const maxTurn = 16

// Work implements actor.Source. It calls one validator, so that writers do not wait for
// long, and then lets one watch have its turn, so that writers do not keep it from that.
func (s *source) Work() (more bool) {
	c := (*Client)(s)
	if c.held.Load() {
		return false
	}
	defer c.rest()
	if e := c.nextErrand(); e != nil {
		e.do(c)
	}
	w, more := c.nextReady()
	if w != nil {
		w.turn()
	}
	return more
}

// nextErrand takes the errand that has waited longest, if there is one. The client works
// from then on, until it rests.
func (c *Client) nextErrand() (e *errand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = true
	if len(c.errands) > 0 {
		e = c.errands[0]
		e.begun = true
		c.errands[0] = nil
		c.errands = c.errands[1:]
	}
	return e
}

// nextReady takes the watch that has waited longest, if there is one, and reports whether
// more work waits.
func (c *Client) nextReady() (w *Watch, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) > 0 {
		w = c.ready[0]
		w.queued.Store(false)
		c.ready[0] = nil
		c.ready = c.ready[1:]
		c.watching = true
	}
	return w, len(c.errands)+len(c.ready) > 0
}

// rest ends what Work began, also if a handler ended the worker.
func (c *Client) rest() {
	c.mu.Lock()
	c.working, c.watching = false, false
	c.mu.Unlock()
	c.db.idle.Tell()
}

// signal says that the client has work.
func (c *Client) signal(wakes *actor.Wakes) {
	if !c.actor.Signal(c.source) {
		return
	}
	if wakes == nil {
		c.actor.Wake()
		return
	}
	wakes.Add(c.actor)
}

// busy reports whether the worker has something to do for the DB, or does it, but for a
// call that was abandoned. c.mu is held.
func (c *Client) busy() bool {
	return c.works() || len(c.errands)+len(c.ready) > 0 || c.hangs() && c.running.behind && !c.running.watch.stopped.Load()
}

// works reports whether the worker does something for the DB, but for a call that was
// abandoned. c.mu is held.
func (c *Client) works() bool { return c.working && !c.hangs() }

// hangs reports whether the worker is held up by a call that was abandoned. c.mu is held.
func (c *Client) hangs() bool { return c.running != nil && c.running.settled }
