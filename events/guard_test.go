package events_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/topic"
)

// rules are the policy of a test: everything is allowed but what is denied, by
// verb and name.
type rules struct {
	version atomic.Uint64
	asked   atomic.Uint64 // calls of Permit and PermitPattern

	mu      sync.Mutex // guards below
	denied  map[string]plugbus.Reason
	unknown map[string]bool
	acts    plugbus.Meter
	bytes   plugbus.Meter
	payload plugbus.PayloadRules
	refused []plugbus.Refusal
}

func newRules() *rules {
	return &rules{denied: map[string]plugbus.Reason{}, unknown: map[string]bool{}}
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
	return append([]plugbus.Refusal(nil), r.refused...)
}

func (r *rules) guard(id string) *fakeGuard { return &fakeGuard{rules: r, id: id} }

// A fakeGuard answers for one plugin.
type fakeGuard struct {
	*rules
	id string

	// onPermit runs in each Permit, before it answers; it may be nil.
	onPermit func()
}

func (g *fakeGuard) Version() uint64 { return g.version.Load() }

func (g *fakeGuard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	g.asked.Add(1)
	g.mu.Lock()
	p := &plugbus.Permit{
		Version: g.version.Load(), Reason: g.denied[verb.String()+" "+object],
		Acts: g.acts, Bytes: g.bytes, Payload: g.payload,
	}
	g.mu.Unlock()
	if g.onPermit != nil {
		g.onPermit()
	}
	return p
}

func (g *fakeGuard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	g.asked.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &plugbus.Permit{Version: g.version.Load(), Acts: g.acts}
	matches := topic.MustParse(pattern)
	for rule := range g.denied {
		var ruleVerb, name string
		_, _ = fmt.Sscan(rule, &ruleVerb, &name)
		if ruleVerb == verb.String() && matches.Match(name) {
			p.Partial = true
			if !narrow {
				p.Reason = plugbus.ReasonPatternTooWide
			}
		}
	}
	return p
}

func (g *fakeGuard) PermitVia(_ plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	return g.Permit(verb, object)
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

func (m *fakeMeter) Take(_ time.Time, n int) time.Duration {
	if m.left.Add(-int64(n)) < 0 {
		m.left.Add(int64(n))
		return m.retry
	}
	return 0
}

func guarded(t testing.TB, bus *events.Bus, g *fakeGuard) *events.Client {
	t.Helper()
	c, err := bus.Client(g.id, events.ClientOptions{Guard: g})
	require.NoError(t, err)
	return c
}

// TestE11Door shows the checks of one emit and their order, what the guard
// hears, and that nothing that was refused is delivered or kept (E14).
func TestE11Door(t *testing.T) {
	plenty := func() *fakeMeter {
		m := &fakeMeter{retry: time.Second}
		m.left.Store(1000)
		return m
	}
	for _, test := range []struct {
		name    string
		data    any
		rules   func(r *rules)
		reason  plugbus.Reason
		retry   time.Duration
		actsOff int64
	}{
		{"e", "ok", func(*rules) {}, "", 0, 1},
		{"e", "no", func(r *rules) { r.deny(plugbus.VerbEmit, "e") }, plugbus.ReasonDeniedByRule, 0, 0},
		{"a..b", nil, func(r *rules) { r.deny(plugbus.VerbEmit, "a..b") }, plugbus.ReasonInvalidName, 0, 0},
		{"a..b", nil, func(*rules) {}, plugbus.ReasonInvalidName, 0, 0},
		{"e", "no", func(r *rules) { r.acts = &fakeMeter{retry: 3 * time.Second} }, plugbus.ReasonRateLimitExceeded, 3 * time.Second, 0},
		{"e", "no", func(r *rules) { r.acts = &fakeMeter{retry: -1} }, plugbus.ReasonRateLimitExceeded, 0, 0},
		{"e", make(chan int), func(*rules) {}, plugbus.ReasonInvalidPayload, 0, 1},
		{"e", "toolong", func(r *rules) { r.payload.MaxBytes = 3 }, plugbus.ReasonTooLarge, 0, 1},
		{"e", plugbus.Shared(1), func(*rules) {}, plugbus.ReasonSharedNotGranted, 0, 1},
		{"e", "<script>", func(r *rules) { r.payload.Content = plugbus.CheckAll }, plugbus.ReasonInvalidContent, 0, 1},
		{"e", "four", func(r *rules) { r.bytes = &fakeMeter{retry: 2 * time.Second} }, plugbus.ReasonByteRateExceeded, 2 * time.Second, 1},
		// Of two reasons, the first check gives its own, and what comes after is not asked.
		{"e", make(chan int), func(r *rules) { r.deny(plugbus.VerbEmit, "e") }, plugbus.ReasonDeniedByRule, 0, 0},
		{"e", make(chan int), func(r *rules) { r.acts = &fakeMeter{retry: 1} }, plugbus.ReasonRateLimitExceeded, 1, 0},
		{"e", "toolong", func(r *rules) { r.payload.MaxBytes = 3; r.bytes = &fakeMeter{retry: 1} }, plugbus.ReasonTooLarge, 0, 1},
	} {
		what := fmt.Sprintf("%q %v %s", test.name, test.data, test.reason)
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			r := newRules()
			acts := plenty()
			r.acts = acts
			test.rules(r)
			d := &diary{}
			listen(t, joinBus(t, bus, "listener"), "**", d.write)
			receipt, err := guarded(t, bus, r.guard("plugin")).Emit(t.Context(), test.name, test.data)
			synctest.Wait()
			if test.actsOff != 0 || r.acts == plugbus.Meter(acts) {
				require.Equal(t, 1000-test.actsOff, acts.left.Load(), what)
			}
			if test.reason == "" {
				require.NoError(t, err)
				require.Len(t, d.read(), 1)
				require.Equal(t, 1, bus.History().Events)
				return
			}
			require.ErrorIs(t, err, plugbus.ErrDenied, what)
			denied, ok := errors.AsType[*plugbus.DeniedError](err)
			require.True(t, ok)
			require.Equal(t, test.reason, denied.Reason, what)
			require.Equal(t, test.retry, denied.RetryAfter, what)
			require.Equal(t, plugbus.VerbEmit, denied.Verb)
			require.Equal(t, test.name, denied.Object)
			require.Zero(t, receipt)
			require.Empty(t, d.read(), what)
			require.Zero(t, bus.History().Events, what)
			require.Len(t, r.refusals(), 1, what)
			require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, bus.Ledger())
			clients, _ := bus.Stats()
			require.EqualValues(t, 1, clients[1].Refused)
			require.Zero(t, clients[1].Emitted)
		})
	}
}

// TestByteRate charges what the door measured.
func TestByteRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		r := newRules()
		meter := &fakeMeter{retry: time.Second}
		meter.left.Store(10)
		r.bytes = meter
		c := guarded(t, bus, r.guard("plugin"))
		tell(t, c, "e", "12345678")
		require.EqualValues(t, 2, meter.left.Load())
		_, err := c.Emit(t.Context(), "e", "123")
		require.ErrorIs(t, err, plugbus.ErrDenied)
		tell(t, c, "e", "12")
		require.EqualValues(t, 0, meter.left.Load())
	})
}

// TestPolicyChangesAtTheDoor changes the policy after the door has admitted an
// event and before it has its place in the order: the new policy decides.
func TestPolicyChangesAtTheDoor(t *testing.T) {
	for _, wait := range []bool{false, true} {
		for _, denied := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				bus := openBus(t, events.Options{})
				r := newRules()
				g := r.guard("plugin")
				d := &diary{}
				listen(t, joinBus(t, bus, "listener"), "**", d.write)
				var once sync.Once
				g.onPermit = func() {
					once.Do(func() {
						if denied {
							r.deny(plugbus.VerbEmit, "e")
						} else {
							r.deny(plugbus.VerbEmit, "other")
						}
					})
				}
				var options []events.EmitOption
				if wait {
					options = append(options, events.WaitForRoom())
				}
				_, err := guarded(t, bus, g).Emit(t.Context(), "e", nil, options...)
				synctest.Wait()
				require.Equal(t, denied, err != nil, "%v", err)
				require.Equal(t, denied, len(d.read()) == 0)
				if denied {
					require.ErrorIs(t, err, plugbus.ErrDenied)
					require.Zero(t, bus.History().Events)
				}
			})
		}
	}
}

// TestPolicyChangesWhileWaitingForRoom takes the permission away from an
// emitter that waits.
func TestPolicyChangesWhileWaitingForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		r := newRules()
		gate := closedGate(t)
		listen(t, joinBus(t, bus, "listener"), "**", gate.then(nil), events.Buffer(1), events.Fair())
		c := guarded(t, bus, r.guard("plugin"))
		tell(t, c, "e", nil)
		synctest.Wait()
		tell(t, c, "e", nil)
		done := make(chan error)
		go func() {
			_, err := c.Emit(context.Background(), "e", nil, events.WaitForRoom())
			done <- err
		}()
		synctest.Wait()
		r.deny(plugbus.VerbEmit, "e")
		gate.open()
		require.ErrorIs(t, <-done, plugbus.ErrDenied)
		require.EqualValues(t, 2, bus.Ledger().Accepted)
	})
}

// TestPermissionRevokedWhileWaiting does not deliver what waited while the
// permission was taken away, and delivers again when it is given back. The check
// is made for each event, also within a batch.
func TestPermissionRevokedWhileWaiting(t *testing.T) {
	for i, options := range kinds[:7] {
		synctest.Test(t, func(t *testing.T) {
			var failures []events.Failure
			bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
			r := newRules()
			c, emitter := guarded(t, bus, r.guard("plugin")), joinBus(t, bus, "emitter")
			d := &diary{}
			listen(t, c, "*", func(ctx context.Context, e events.Event) error {
				switch e.Data() {
				case "revoke":
					r.deny(plugbus.VerbSubscribe, "e")
				case "give back":
					r.allow(plugbus.VerbSubscribe, "e")
				}
				return d.write(ctx, e)
			}, options...)
			for range 50 {
				tell(t, emitter, "e", nil)
			}
			synctest.Wait()
			tell(t, emitter, "e", "revoke")
			for range 50 {
				tell(t, emitter, "e", "secret")
			}
			tell(t, emitter, "other", "give back")
			tell(t, emitter, "e", "open")
			synctest.Wait()
			require.Len(t, d.read(), 53, "kind %d", i)
			require.Equal(t, "open", d.read()[52].Data())
			l := bus.Ledger()
			require.EqualValues(t, 50, l.Undeliverable)
			require.Len(t, failures, 50)
			require.Equal(t, plugbus.Undeliverable, failures[0].Outcome)
			require.ErrorIs(t, failures[0].Err, plugbus.ErrDenied)
			require.Equal(t, "e", failures[0].Event)
			require.EqualValues(t, 52, failures[0].Seq)
		})
	}
}

// TestConcurrentChecksEachEvent is the same for calls at a time.
func TestConcurrentChecksEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		r := newRules()
		c := guarded(t, bus, r.guard("plugin"))
		g, d := closedGate(t), &diary{}
		listen(t, c, "*", g.then(d.write), events.Concurrent(2))
		for range 10 {
			tell(t, c, "e", nil)
		}
		synctest.Wait()
		r.deny(plugbus.VerbSubscribe, "e")
		g.open()
		synctest.Wait()
		require.Len(t, d.read(), 2, "those that had started")
		require.EqualValues(t, 8, bus.Ledger().Undeliverable)
	})
}

// TestNarrow refuses a pattern wider than the grant, or delivers what the grant
// covers, only where it is told to.
func TestE11Narrow(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			r := newRules()
			r.deny(plugbus.VerbSubscribe, "a.secret")
			c, emitter := guarded(t, bus, r.guard("plugin")), joinBus(t, bus, "emitter")
			d := &diary{}
			_, err := c.Subscribe("a.*", d.write, options...)
			denied, ok := errors.AsType[*plugbus.DeniedError](err)
			require.True(t, ok)
			require.Equal(t, plugbus.ReasonPatternTooWide, denied.Reason)
			require.Equal(t, plugbus.VerbSubscribe, denied.Verb)
			require.Zero(t, bus.Ledger().Offered, "a refused subscription is no delivery")

			listen(t, c, "a.*", d.write, append(options, events.Narrow())...)
			synctest.Wait() // A reader of the history gets the rest as it comes.
			for _, name := range []string{"a.x", "a.secret", "a.y", "a.secret", "a.x"} {
				tell(t, emitter, name, nil)
			}
			synctest.Wait()
			require.ElementsMatch(t, []int{1, 3, 5}, d.seqs())
			require.EqualValues(t, 2, bus.Ledger().Undeliverable)
		})
	}
}

// TestGuardIsAskedOncePerVersion shows that answers are kept for as long as the
// version stands.
func TestGuardIsAskedOncePerVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		r := newRules()
		c := guarded(t, bus, r.guard("plugin"))
		listen(t, c, "*", nothing)
		ask := func() uint64 {
			before := r.asked.Load()
			for range 100 {
				tell(t, c, "e", nil)
				synctest.Wait()
			}
			return r.asked.Load() - before
		}
		require.NotZero(t, ask())
		require.Zero(t, ask())
		r.deny(plugbus.VerbEmit, "other")
		require.LessOrEqual(t, ask(), uint64(2), "the emitter's and the subscriber's answer")
		require.Zero(t, ask())
	})
}

// TestReceiptsHideUnknownPlugins counts in a receipt only whom the emitter may
// know of, whatever becomes of the event there.
func TestE22ReceiptsHideUnknownPlugins(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			r := newRules()
			r.unknown["ghost"] = true
			r.unknown["plugin"] = true // It knows itself nevertheless.
			c := guarded(t, bus, r.guard("plugin"))
			d := &diary{}
			require.Zero(t, tell(t, c, "e", nil).Matched, "nobody listens")
			ghost := joinBus(t, bus, "ghost")
			listen(t, ghost, "e", d.write, append(options, events.Buffer(1))...)
			require.Zero(t, tell(t, c, "e", nil).Matched)
			listen(t, joinBus(t, bus, "known"), "e", nothing, options...)
			synctest.Wait() // A reader of the history is matched when it has caught up.
			require.Equal(t, 1, tell(t, c, "e", nil).Matched)
			listen(t, c, "e", nothing, options...)
			synctest.Wait()
			receipt := tell(t, c, "e", nil)
			require.Equal(t, 2, receipt.Matched)
			require.Equal(t, 2, receipt.Accepted)
			r.change(func() { delete(r.unknown, "ghost") })
			require.Equal(t, 3, tell(t, c, "e", nil).Matched, "kind %d", i)
			r.change(func() { r.unknown["ghost"] = true })
			require.Equal(t, 2, tell(t, c, "e", nil).Matched)
			synctest.Wait()
			require.NotEmpty(t, d.read(), "it is served all the same")
		})
	}
	synctest.Test(t, func(t *testing.T) { // Also when it has no room.
		bus := openBus(t, events.Options{})
		r := newRules()
		r.unknown["ghost"] = true
		g := closedGate(t)
		listen(t, joinBus(t, bus, "ghost"), "e", g.then(nil), events.Buffer(1), events.OnOverflow(events.RefuseToEmitter))
		c := guarded(t, bus, r.guard("plugin"))
		for range 5 {
			receipt := tell(t, c, "e", nil)
			require.Zero(t, receipt.Matched+receipt.Accepted+receipt.Full+receipt.Refused)
			synctest.Wait()
		}
		require.EqualValues(t, 3, bus.Ledger().Full)
	})
}

func TestQuotas(t *testing.T) {
	bus := openBus(t, events.Options{MaxSubscriptions: 3})
	one, err := bus.Client("one", events.ClientOptions{MaxSubscriptions: 2, MaxWildcards: 1})
	require.NoError(t, err)
	two := joinBus(t, bus, "two")
	quota := func(err error) {
		t.Helper()
		denied, ok := errors.AsType[*plugbus.DeniedError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, plugbus.ReasonQuotaExceeded, denied.Reason)
		require.NotEmpty(t, denied.Hint)
	}
	s := listen(t, one, "a", nothing)
	listen(t, one, "a", nothing)
	_, err = one.Subscribe("a", nothing)
	quota(err)
	listen(t, two, "a", nothing)
	_, err = two.Subscribe("a", nothing)
	quota(err)
	s.Unsubscribe()
	s = listen(t, two, "a", nothing)
	s.Unsubscribe()
	listen(t, one, "*", nothing)
	_, err = one.Subscribe("*.*", nothing)
	quota(err)
}
