package events_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// openBus returns a bus. When the test ends, it is closed, everything has its
// outcome, and nothing of it remains.
func openBus(t testing.TB, o events.Options) *events.Bus {
	t.Helper()
	bus, err := events.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, bus.Close(context.Background()))
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.Zero(t, l.Waiting+l.Running, "%v", l)
		require.Empty(t, bus.Leaks())
	})
	return bus
}

// joinBus returns the client of a plugin that may do everything.
func joinBus(t testing.TB, bus *events.Bus, id string) *events.Client {
	t.Helper()
	c, err := bus.Client(id, events.ClientOptions{})
	require.NoError(t, err)
	return c
}

func listen(t testing.TB, c *events.Client, pattern string, h events.Handler, options ...events.SubscribeOption) *events.Subscription {
	t.Helper()
	s, err := c.Subscribe(pattern, h, options...)
	require.NoError(t, err)
	return s
}

func tell(t testing.TB, c *events.Client, name string, data any, options ...events.EmitOption) events.Receipt {
	t.Helper()
	r, err := c.Emit(t.Context(), name, data, options...)
	require.NoError(t, err)
	return r
}

// pass lets time pass in a bubble, and what happens in it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A diary keeps the events that its handler got.
type diary struct {
	mu      sync.Mutex // guards below
	entries []events.Event
}

func (d *diary) write(_ context.Context, e events.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, e)
	return nil
}

func (d *diary) read() []events.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]events.Event(nil), d.entries...)
}

// seqs returns the Seq of each event.
func (d *diary) seqs() []int {
	all := []int{}
	for _, e := range d.read() {
		all = append(all, int(e.Seq()))
	}
	return all
}

// missed returns what each event said it follows.
func (d *diary) missed() []int {
	all := []int{}
	for _, e := range d.read() {
		all = append(all, e.Missed())
	}
	return all
}

// A gate lets handlers pass while it is open.
type gate struct {
	mu     sync.Mutex // guards below
	closed chan struct{}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// pass waits until the gate is open.
func (g *gate) pass() {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// then returns a handler that waits at the gate and then goes on to h. A nil h
// does nothing.
func (g *gate) then(h events.Handler) events.Handler {
	return func(ctx context.Context, e events.Event) error {
		g.pass()
		if h == nil {
			return nil
		}
		return h(ctx, e)
	}
}

// closedGate returns a gate that is closed, and that opens when the test ends.
func closedGate(t testing.TB) *gate {
	g := &gate{}
	g.close()
	t.Cleanup(g.open)
	return g
}

func nothing(context.Context, events.Event) error { return nil }

// TestNilContext shows that a call without a context is an error, and no panic.
func TestNilContext(t *testing.T) {
	t.Parallel()
	bus := openBus(t, events.Options{})
	a := joinBus(t, bus, "a")
	var none context.Context
	_, emitted := a.Emit(none, "word.said", 1)
	_, waited := a.Emit(none, "word.said", 1, events.WaitForRoom())
	_, broadcast := a.Broadcast(none, "word.said", 1, events.Audience{})
	errs := []error{emitted, waited, broadcast}
	for _, err := range a.Replay(none, "**", events.All()) {
		errs = append(errs, err)
	}
	require.Len(t, errs, 4)
	for _, err := range errs {
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.ErrorContains(t, err, "the context is nil")
	}
}
