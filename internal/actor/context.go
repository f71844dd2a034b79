package actor

import (
	"context"
	"time"

	"github.com/plugbus/plugbus/internal/chain"
)

// A Context is what a handler gets: it ends with its plugin's session, and its
// only value is the chain that led to the handler.
type Context struct {
	owner   *Actor
	session context.Context //nolint:containedctx // A Context is a context: this is its parent.
	chain   chain.Chain
	beside  any // what runs the handler, if the worker does not
}

// NewContext returns the context of a handler of a that serves what c led to.
// It ends when session ends.
func (a *Actor) NewContext(session context.Context, c chain.Chain) *Context {
	return &Context{owner: a, session: session, chain: c}
}

// NewContextBeside is NewContext for a handler that does not run on the worker,
// but on a goroutine of runner.
func (a *Actor) NewContextBeside(session context.Context, c chain.Chain, runner any) *Context {
	return &Context{a, session, c, runner}
}

// Chain returns the chain that led to the handler.
func (c *Context) Chain() chain.Chain { return c.chain }

// Deadline reports that there is none; a handler with a time-out gets a context
// derived from this one.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns a channel that is closed when the session ends.
func (c *Context) Done() <-chan struct{} { return c.session.Done() }

// Err returns nil until the session ends.
func (c *Context) Err() error { return c.session.Err() }

// Value returns the chain for chain.Key, and otherwise nil: values of contexts
// do not travel between plugins.
func (c *Context) Value(key any) any {
	switch key.(type) {
	case chain.Key:
		return c.chain
	case ownerKey:
		return c.owner
	case besideKey:
		return c.beside
	}
	return nil
}

// String says what the context is, as the contexts of the standard library do.
func (c *Context) String() string { return "plugbus handler of " + c.chain.String() }

type (
	ownerKey  struct{}
	besideKey struct{}
)

// Owner returns the actor for whose handler ctx was made, or nil.
func Owner(ctx context.Context) *Actor {
	a, _ := ctx.Value(ownerKey{}).(*Actor)
	return a
}

// Beside returns what runs the handler for which ctx was made, or nil if the
// plugin's worker does.
func Beside(ctx context.Context) any { return ctx.Value(besideKey{}) }
