package events_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// hBus returns a bus that the end of the test closes, with its ledger balanced.
func hBus(t *testing.T, o events.Options) *events.Bus {
	t.Helper()
	bus, err := events.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, bus.Close(context.Background()))
		require.NoError(t, bus.Ledger().Check())
		require.Empty(t, bus.Leaks())
	})
	return bus
}

func hClient(t *testing.T, bus *events.Bus, id string) *events.Client {
	t.Helper()
	return hGuarded(t, bus, id, nil)
}

// hGuarded returns a client that asks guard, unless it is nil.
func hGuarded(t *testing.T, bus *events.Bus, id string, guard *hGuard) *events.Client {
	t.Helper()
	var o events.ClientOptions
	if guard != nil {
		o.Guard = guard
	}
	c, err := bus.Client(id, o)
	require.NoError(t, err)
	return c
}

// hEmit emits an event without a payload and returns its Seq.
func hEmit(t *testing.T, c *events.Client, name string, options ...events.EmitOption) uint64 {
	t.Helper()
	receipt, err := c.Emit(t.Context(), name, nil, options...)
	require.NoError(t, err)
	return receipt.Seq
}

// hEmitMany emits n events x and returns their Seqs.
func hEmitMany(t *testing.T, c *events.Client, n int) (seqs []uint64) {
	t.Helper()
	for range n {
		seqs = append(seqs, hEmit(t, c, "x"))
	}
	return seqs
}

func hSubscribe(t *testing.T, c *events.Client, pattern string, handler events.Handler, options ...events.SubscribeOption) *events.Subscription {
	t.Helper()
	s, err := c.Subscribe(pattern, handler, options...)
	require.NoError(t, err)
	return s
}

// hAdvance moves the time of a bubble.
func hAdvance(d time.Duration) { <-time.After(d) }

// An hRecorder keeps what its handler got.
type hRecorder struct {
	mu  sync.Mutex
	got []events.Event
}

func (r *hRecorder) handle(_ context.Context, e events.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, e)
	return nil
}

func (r *hRecorder) events() []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *hRecorder) seqs() []uint64 { return hSeqs(r.events()) }

func hSeqs(all []events.Event) (seqs []uint64) {
	for _, e := range all {
		seqs = append(seqs, e.Seq())
	}
	return seqs
}

// An hGate is a recorder whose handler waits for leave with every event. It is
// for use in a bubble.
type hGate struct {
	hRecorder
	leave chan struct{}
}

func newHGate() *hGate { return &hGate{leave: make(chan struct{})} }

func (g *hGate) handle(ctx context.Context, e events.Event) error {
	_ = g.hRecorder.handle(ctx, e)
	<-g.leave
	return nil
}

// let lets n calls return, and waits until nothing moves any more.
func (g *hGate) let(n int) {
	for range n {
		g.leave <- struct{}{}
	}
	synctest.Wait()
}

// open lets all calls return, now and later.
func (g *hGate) open() {
	close(g.leave)
	synctest.Wait()
}

// hReplay reads a replay to its end.
func hReplay(c *events.Client, pattern string, from events.From) (got []events.Event, errs []error) {
	for e, err := range c.Replay(context.Background(), pattern, from) {
		if err != nil {
			errs = append(errs, err)
		} else {
			got = append(got, e)
		}
	}
	return got, errs
}

// hReplayed returns the Seqs of a replay that goes well.
func hReplayed(t *testing.T, c *events.Client, pattern string, from events.From) []uint64 {
	t.Helper()
	got, errs := hReplay(c, pattern, from)
	require.Empty(t, errs)
	return hSeqs(got)
}

// An hGuard is the policy of one plugin, which a test changes as it goes. It
// allows what it does not deny.
type hGuard struct {
	plugin string
	acts   plugbus.Meter
	shared bool
	hidden []string // ids that the plugin may not know of

	mu        sync.Mutex        // guards below
	denied    []map[string]bool // one for each version; the last is in force
	forgotten uint64            // versions up to this one are no longer kept
	refused   []plugbus.Refusal
}

// deny denies objects from now on, and allows all others.
func (g *hGuard) deny(verb plugbus.Verb, objects ...string) {
	denied := map[string]bool{}
	for _, object := range objects {
		denied[verb.String()+" "+object] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.denied = append(g.denied, denied)
}

func (g *hGuard) Version() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return uint64(len(g.denied))
}

func (g *hGuard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	return g.PermitAt(g.Version(), verb, object)
}

func (g *hGuard) PermitVia(_ plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	return g.Permit(verb, object)
}

func (g *hGuard) PermitAt(version uint64, verb plugbus.Verb, object string) *plugbus.Permit {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &plugbus.Permit{Version: version, Acts: g.acts, Payload: plugbus.PayloadRules{Shared: g.shared}}
	switch {
	case g.forgotten > 0 && version <= g.forgotten:
		p.Reason = plugbus.ReasonPolicyUnavailable
	case version > 0 && g.denied[version-1][verb.String()+" "+object]:
		p.Reason = plugbus.ReasonDeniedByRule
	}
	return p
}

func (g *hGuard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	p := g.Permit(verb, pattern)
	if !p.Allowed() && narrow {
		p.Reason = ""
	}
	p.Partial = p.Version > 0
	return p
}

func (g *hGuard) Knows(id string) bool { return !slices.Contains(g.hidden, id) }

func (g *hGuard) Refuse(r plugbus.Refusal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, r)
	return &plugbus.DeniedError{
		Plugin: g.plugin, Verb: r.Verb, Object: r.Object, Reason: r.Reason,
		RetryAfter: r.RetryAfter, Hint: r.Hint, Chain: r.Chain, Cause: r.Cause, Record: uint64(len(g.refused)),
	}
}

func (g *hGuard) refusals() []plugbus.Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.refused)
}

// An hMeter admits so many acts.
type hMeter struct{ left atomic.Int64 }

func (m *hMeter) Take(_ time.Time, n int) time.Duration {
	if m.left.Add(-int64(n)) < 0 {
		return time.Minute
	}
	return 0
}

// hRequireDenied asserts that err is a refusal for a reason.
func hRequireDenied(t *testing.T, err error, reason plugbus.Reason) plugbus.DeniedError {
	t.Helper()
	denied, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, denied.Reason)
	require.ErrorIs(t, err, plugbus.ErrDenied)
	return *denied
}

// TestFrom shows every place to start at (E21): a Seq is exclusive, a time is
// inclusive, and a subscription and a replay mean the same by it.
func TestFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		var at []time.Time
		for _, name := range []string{"x.b", "x.a", "x.a", "y", "x.b", "x.c"} {
			hAdvance(time.Second)
			at = append(at, time.Now())
			hEmit(t, emitter, name)
		}
		hAdvance(time.Second)
		live := uint64(len(at))
		for _, test := range []struct {
			from events.From
			want []uint64 // of x.*
		}{
			{events.From{}, nil},
			{events.All(), []uint64{1, 2, 3, 5, 6}},
			{events.Last(1), []uint64{6}},
			{events.Last(2), []uint64{5, 6}},
			{events.Last(4), []uint64{2, 3, 5, 6}}, // of those that match
			{events.Last(1 << 40), []uint64{1, 2, 3, 5, 6}},
			{events.After(0), []uint64{1, 2, 3, 5, 6}},
			{events.After(3), []uint64{5, 6}},
			{events.After(6), nil},
			{events.After(1 << 60), nil}, // a cursor of another bus
			{events.Since(time.Time{}), []uint64{1, 2, 3, 5, 6}},
			{events.Since(at[2]), []uint64{3, 5, 6}},
			{events.Since(at[2].Add(1)), []uint64{5, 6}},
			{events.Since(at[5].Add(1)), nil},
			{events.Since(time.Now().AddDate(1000, 0, 0)), nil}, // beyond what nanoseconds can say
			{events.LatestPerName(), []uint64{3, 5, 6}},
		} {
			require.Equal(t, test.want, hReplayed(t, reader, "x.*", test.from), "%+v", test.from)

			var got hRecorder
			s := hSubscribe(t, reader, "x.*", got.handle, events.StartAt(test.from))
			live++
			require.Equal(t, live, hEmit(t, emitter, "x.live", events.NoHistory()))
			synctest.Wait()
			require.Equal(t, append(test.want, live), got.seqs(), "%+v", test.from)
			for _, e := range got.events() {
				require.Equal(t, e.Seq() != live, e.Replayed(), "%+v: %d", test.from, e.Seq())
				require.False(t, e.Truncated())
			}
			s.Unsubscribe()
		}
	})
}

// TestReplayed shows the mark of a replay, and that the rest of the event is as
// it was (E16). Nobody else can set the mark, by any name (E17).
func TestReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		var live, again hRecorder
		hSubscribe(t, reader, "**", live.handle)
		for _, name := range []string{"x", "replay:x", "replay/x"} {
			_, err := emitter.Emit(t.Context(), name, "data", events.CorrelationID("c"), events.Headers(map[string]string{
				"replayed": "true", "Replayed": "true",
			}))
			require.NoError(t, err)
		}
		hAdvance(time.Hour)
		hSubscribe(t, reader, "**", again.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Len(t, again.events(), 3)
		for i, e := range again.events() {
			was := live.events()[i]
			require.False(t, was.Replayed())
			require.True(t, e.Replayed())
			require.Equal(t, hEnvelope(was), hEnvelope(e))
		}
		replayed, errs := hReplay(reader, "**", events.All())
		require.Empty(t, errs)
		require.Equal(t, again.events(), replayed)

		// An event cannot be sent on to pass for one of the history.
		_, err := reader.Emit(t.Context(), "x", again.events()[0])
		hRequireDenied(t, err, plugbus.ReasonInvalidPayload)
	})
}

// hEnvelope is what an event says about itself but for the marks of its
// delivery.
func hEnvelope(e events.Event) string {
	return fmt.Sprint(e.ID(), e.Seq(), e.Name(), e.Source(), e.Time(), e.Data(), e.Headers(), e.CorrelationID(), e.Chain(), e.Size())
}

// hRequireOptionError asserts that err is about an option of this name.
func hRequireOptionError(t *testing.T, err error, option string) events.OptionError {
	t.Helper()
	bad, ok := errors.AsType[*events.OptionError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, option, bad.Option)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	return *bad
}
