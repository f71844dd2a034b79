package router

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
)

// A callContext is the context of a handler that somebody waits for, or whose
// time is limited. It ends with the plugin's session, when the caller gives up,
// when the time is over, and when the handler has returned. It costs no more than
// its own memory until somebody asks for Done.
type callContext struct {
	actor.Context
	session  context.Context //nolint:containedctx // A callContext is a context: this is its parent.
	deadline time.Time       // zero for none
	chosen   bool            // the plugin or its caller chose the deadline
	waits    atomic.Int32    // requests that the handler waits for

	// Of a handler that runs on its caller's stack, where nobody watches the
	// caller's time for it.
	caller context.Context //nolint:containedctx // The other parent; nil for other handlers.
	until  time.Time       // the caller's deadline; zero for none

	mu    sync.Mutex // guards below
	err   error
	done  chan struct{}
	undo  []func() bool // what makes the context end
	after map[*func()]struct{}
}

// newContext returns the context of a handler of c that serves what led led to.
// Beside is what runs the handler, nil for the worker.
func (c *Client) newContext(led chain.Chain, beside any, deadline time.Time, chosen bool) *callContext {
	return &callContext{
		Context: *c.actor.NewContextBeside(c.session, led, beside),
		session: c.session, deadline: deadline, chosen: chosen,
	}
}

type callKey struct{}

// callOf returns the context of the handler of which ctx was made, or nil.
func callOf(ctx context.Context) *callContext {
	c, _ := ctx.Value(callKey{}).(*callContext)
	return c
}

// Value returns what that of an [actor.Context] does.
func (c *callContext) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// wait notes that the handler waits for a request, and resume that it goes on. It
// does not if its own time is over: then it is the request that took it.
func (c *callContext) wait() {
	if c != nil {
		c.waits.Add(1)
	}
}

func (c *callContext) resume() {
	if c != nil && (c.deadline.IsZero() || time.Now().Before(c.deadline)) {
		c.waits.Add(-1)
	}
}

// Deadline returns when the caller's time, or the handler's own, is over.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Err returns why the context has ended, or nil.
func (c *callContext) Err() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if why := c.due(); why != nil {
		c.end(why) // So that Done agrees, and the answer stays.
		return c.Err()
	}
	return nil
}

// due returns why the context has to end now, or nil. That its time is over, the
// context hears from whoever watches it, when the delivery has its outcome.
func (c *callContext) due() error {
	if err := c.session.Err(); err != nil || c.caller == nil {
		return err
	}
	if err := c.caller.Err(); err != nil {
		return err
	}
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		return context.DeadlineExceeded
	}
	return nil
}

// Done returns a channel that is closed when the context ends.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	first := c.done == nil
	if first {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
			first = false
		}
	}
	done := c.done
	c.mu.Unlock()
	if first {
		c.watch()
	}
	return done
}

// watch makes the context end when it has to.
func (c *callContext) watch() {
	endWith := func(parent context.Context) func() bool {
		return context.AfterFunc(parent, func() { c.end(parent.Err()) })
	}
	undo := []func() bool{endWith(c.session)}
	if c.caller != nil {
		undo = append(undo, endWith(c.caller))
		if !c.until.IsZero() {
			undo = append(undo, time.AfterFunc(time.Until(c.until), func() { c.end(context.DeadlineExceeded) }).Stop)
		}
	}
	c.mu.Lock()
	over := c.err != nil
	if !over {
		c.undo = undo
	}
	c.mu.Unlock()
	if over {
		for _, f := range undo {
			f()
		}
	}
}

// AfterFunc calls f on a goroutine of its own when the context ends, unless stop
// is called before. Contexts derived from this one use it, and so need no
// goroutine that waits.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	c.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f() // As the contract of context.AfterFunc has it; it is the context package's own.
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	key := &f
	c.after[key] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waits := c.after[key]
		delete(c.after, key)
		return waits
	}
}

// end ends the context, unless it has ended, with an error of package context,
// whatever the reason.
func (c *callContext) end(why error) {
	if why != context.DeadlineExceeded { //nolint:errorlint // A foreign error is not unwrapped here.
		why = context.Canceled
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = why
	if c.done != nil {
		close(c.done)
	}
	undo, after := c.undo, c.after
	c.undo, c.after = nil, nil
	c.mu.Unlock()
	for _, f := range undo {
		f()
	}
	for f := range after {
		go (*f)() // The same.
	}
}
