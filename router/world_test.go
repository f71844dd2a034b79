package router_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
	"github.com/plugbus/plugbus/router"
)

// newRouter returns a router. When the test ends, it is closed, everything has
// its outcome, and nothing of it remains.
func newRouter(t testing.TB, o router.Options) *router.Router {
	t.Helper()
	r, err := router.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close(context.Background()))
		requireBalanced(t, r)
	})
	return r
}

// requireBalanced demands that everything has its outcome, and that no handler is
// left.
func requireBalanced(t testing.TB, r *router.Router) {
	t.Helper()
	l := r.Ledger()
	require.NoError(t, l.Check())
	require.Zero(t, l.Waiting+l.Running, "%v", l)
	require.Empty(t, r.Leaks())
}

// join returns the client of a plugin that may do everything, or what its guard
// says.
func join(t testing.TB, r *router.Router, id string, guard ...*fakeGuard) *router.Client {
	t.Helper()
	o := router.ClientOptions{}
	for _, g := range guard {
		o.Guard = g
	}
	c, err := r.Client(id, o)
	require.NoError(t, err)
	return c
}

// joinHeld returns a client that is to take the place of the one with its id.
func joinHeld(t testing.TB, r *router.Router, id string, guard ...*fakeGuard) *router.Client {
	t.Helper()
	o := router.ClientOptions{Held: true}
	if len(guard) > 0 {
		o.Guard = guard[0]
	}
	c, err := r.Client(id, o)
	require.NoError(t, err)
	return c
}

func handle(t testing.TB, c *router.Client, typ string, h router.Handler, options ...router.HandleOption) *router.Route {
	t.Helper()
	route, err := c.Handle(typ, h, options...)
	require.NoError(t, err)
	return route
}

func post(t testing.TB, c *router.Client, to, typ string, data any, options ...router.SendOption) {
	t.Helper()
	require.NoError(t, c.Post(t.Context(), to, typ, data, options...))
}

// echo replies with the payload.
func echo(_ context.Context, m router.Message) (any, error) { return m.Data(), nil }

// denial returns the refusal in err.
func denial(t testing.TB, err error) *plugbus.DeniedError {
	t.Helper()
	denied, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok, "%v", err)
	return denied
}

// remote returns the error of the handler in err.
func remote(t testing.TB, err error) *plugbus.RemoteError {
	t.Helper()
	e, ok := errors.AsType[*plugbus.RemoteError](err)
	require.True(t, ok, "%v", err)
	return e
}

// undelivered returns the error of an accepted message without a reply in err.
func undelivered(t testing.TB, err error) *router.DeliveryError {
	t.Helper()
	e, ok := errors.AsType[*router.DeliveryError](err)
	require.True(t, ok, "%v", err)
	return e
}

// mailboxOf returns the figures of one mailbox.
func mailboxOf(t testing.TB, r *router.Router, id string) router.MailboxStats {
	t.Helper()
	boxes := r.Stats().Mailboxes
	i := slices.IndexFunc(boxes, func(b router.MailboxStats) bool { return b.ID == id })
	require.GreaterOrEqual(t, i, 0, "no mailbox %q", id)
	return boxes[i]
}

// pass lets time pass in a bubble, and what happens in it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A diary keeps the messages that its handlers got.
type diary struct {
	mu      sync.Mutex // guards below
	entries []router.Message
}

// write is a handler that replies with nothing.
func (d *diary) write(_ context.Context, m router.Message) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, m)
	return nil, nil
}

func (d *diary) read() []router.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

// data returns the payload of each message.
func (d *diary) data() []any {
	all := []any{}
	for _, m := range d.read() {
		all = append(all, m.Data())
	}
	return all
}

// A gate lets handlers pass while it is open.
type gate struct {
	mu     sync.Mutex // guards below
	closed chan struct{}
}

// closedGate returns a gate that is closed, and that opens when the test ends.
func closedGate(t testing.TB) *gate {
	g := &gate{closed: make(chan struct{})}
	t.Cleanup(g.open)
	return g
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

// then returns a handler that waits at the gate, whatever its context says, and
// then goes on to h.
func (g *gate) then(h router.Handler) router.Handler {
	return func(ctx context.Context, m router.Message) (any, error) {
		g.pass()
		return h(ctx, m)
	}
}

// rules are the policy of a test: everything is allowed but what is denied, by
// verb and name.
type rules struct {
	version atomic.Uint64
	asked   atomic.Uint64 // calls of Permit, PermitVia and PermitPattern

	mu       sync.Mutex // guards below
	denied   map[string]plugbus.Reason
	unknown  map[string]bool
	inline   map[string]bool // recipients
	priority plugbus.Priority
	acts     plugbus.Meter
	bytes    plugbus.Meter
	payload  plugbus.PayloadRules
	refused  []plugbus.Refusal
}

func newRules() *rules {
	return &rules{
		denied: map[string]plugbus.Reason{}, unknown: map[string]bool{}, inline: map[string]bool{},
		priority: plugbus.PriorityHigh,
	}
}

// change changes the rules, which makes a new version.
func (r *rules) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	r.version.Add(1)
}

func (r *rules) deny(verb plugbus.Verb, name string) {
	r.change(func() { r.denied[verb.String()+" "+name] = plugbus.ReasonDeniedByRule })
}

func (r *rules) allow(verb plugbus.Verb, name string) {
	r.change(func() { delete(r.denied, verb.String()+" "+name) })
}

func (r *rules) refusals() []plugbus.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.refused)
}

func (r *rules) guard(id string) *fakeGuard { return &fakeGuard{rules: r, id: id} }

// A fakeGuard answers for one plugin.
type fakeGuard struct {
	*rules
	id string

	// onPermit runs in each Permit, before it answers; it may be nil.
	onPermit func(verb plugbus.Verb, object string)
}

func (g *fakeGuard) Version() uint64 { return g.version.Load() }

func (g *fakeGuard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	g.asked.Add(1)
	g.mu.Lock()
	p := &plugbus.Permit{
		Version: g.version.Load(), Reason: g.denied[verb.String()+" "+object],
		Acts: g.acts, Bytes: g.bytes, Payload: g.payload,
		Priority: g.priority, Inline: verb == plugbus.VerbSend && g.inline[object],
	}
	g.mu.Unlock()
	if g.onPermit != nil {
		g.onPermit(verb, object)
	}
	return p
}

func (g *fakeGuard) PermitVia(_ plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	return g.Permit(verb, object)
}

func (g *fakeGuard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	g.asked.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &plugbus.Permit{Version: g.version.Load()}
	matches := topic.MustParse(pattern)
	for rule := range g.denied {
		name, ok := strings.CutPrefix(rule, verb.String()+" ")
		if ok && matches.Match(name) {
			p.Partial = true
			if !narrow {
				p.Reason = plugbus.ReasonPatternTooWide
			}
		}
	}
	return p
}

func (g *fakeGuard) PermitAt(version uint64, verb plugbus.Verb, object string) *plugbus.Permit {
	if version != g.version.Load() {
		return &plugbus.Permit{Version: version, Reason: plugbus.ReasonPolicyUnavailable}
	}
	return g.Permit(verb, object)
}

func (g *fakeGuard) Knows(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.unknown[id]
}

func (g *fakeGuard) Refuse(r plugbus.Refusal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, r)
	return &plugbus.DeniedError{
		Plugin: g.id, Verb: r.Verb, Object: r.Object, Reason: r.Reason, Record: uint64(len(g.refused)),
		RetryAfter: r.RetryAfter, Hint: r.Hint, Chain: r.Chain, Cause: r.Cause,
	}
}

// A fakeMeter has so much, and says so long to wait.
type fakeMeter struct {
	left  atomic.Int64
	retry time.Duration
}

func newMeter(left int64, retry time.Duration) *fakeMeter {
	m := &fakeMeter{retry: retry}
	m.left.Store(left)
	return m
}

func (m *fakeMeter) Take(_ time.Time, n int) time.Duration {
	if m.left.Add(-int64(n)) < 0 {
		m.left.Add(int64(n))
		return m.retry
	}
	return 0
}
