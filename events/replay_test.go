package events_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

// hEmitMany emits n events and returns their Seqs.
func hEmitMany(t *testing.T, c *events.Client, name string, n int) (seqs []uint64) {
	t.Helper()
	for range n {
		seqs = append(seqs, hEmit(t, c, name))
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
func hRequireDenied(t *testing.T, err error, reason plugbus.Reason) *plugbus.DeniedError {
	t.Helper()
	denied, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, denied.Reason)
	require.ErrorIs(t, err, plugbus.ErrDenied)
	return denied
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

// TestStartAtSeam is E19 with goroutines that run at will: whatever the
// subscription, it gets each event once, and in order unless it is concurrent.
func TestStartAtSeam(t *testing.T) {
	for _, test := range []struct {
		option  events.SubscribeOption
		ordered bool
	}{
		{events.OnOverflow(events.DropOldest), true},
		{events.OnOverflow(events.DropNewest), true},
		{events.OnOverflow(events.RefuseToEmitter), true},
		{events.Fair(), true},
		{events.Concurrent(4), false},
	} {
		t.Run(fmt.Sprintf("%#v", test.option), func(t *testing.T) {
			const emitters, each, readers = 3, 1500, 6
			bus := hBus(t, events.Options{HistoryEvents: 2 * emitters * each})
			var wg sync.WaitGroup
			for i := range emitters {
				c := hClient(t, bus, fmt.Sprint("emitter", i))
				wg.Go(func() {
					for n := range each {
						_, err := c.Emit(t.Context(), "x.a", n)
						require.NoError(t, err)
						if n%16 == 0 {
							runtime.Gosched()
						}
					}
				})
			}
			got := make([]hRecorder, readers)
			begin := make([]uint64, readers)
			for i := range readers {
				c := hClient(t, bus, fmt.Sprint("reader", i))
				wg.Go(func() {
					from := events.All()
					if i%2 == 1 { // Go on where another reader stopped.
						for e, err := range c.Replay(t.Context(), "**", events.Last(1)) {
							require.NoError(t, err)
							begin[i] = e.Seq()
						}
						from = events.After(begin[i])
					}
					_, err := c.Subscribe("x.*", got[i].handle, test.option, events.Buffer(events.MaxBuffer), events.StartAt(from))
					require.NoError(t, err)
				})
			}
			wg.Wait()
			require.NoError(t, bus.Idle(t.Context()))
			for i := range got {
				var want []uint64
				for seq := begin[i] + 1; seq <= emitters*each; seq++ {
					want = append(want, seq)
				}
				seqs := got[i].seqs()
				if !test.ordered {
					slices.Sort(seqs)
				}
				require.Equal(t, want, seqs, "reader %d", i)
			}
			require.NoError(t, bus.Ledger().Check())
		})
	}
}

// hSeamReader is one subscription of TestStartAtSeamModel, and what it is to
// get.
type hSeamReader struct {
	*hGate
	want       []uint64
	concurrent bool
}

// TestStartAtSeamModel is E19 against a plain list: emitters of every kind act
// while subscribers stand somewhere in the history.
func TestStartAtSeamModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ act, who, n int }
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, 9).Draw(rt, "act"), rapid.IntRange(0, 5).Draw(rt, "who"), rapid.IntRange(0, 99).Draw(rt, "n")}
		}), 1, 60).Draw(rt, "plan")
		var readers []*hSeamReader
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitters := []*events.Client{hClient(t, bus, "e0"), hClient(t, bus, "e1")}
			var past []uint64 // in the history
			for _, step := range plan {
				emitter := emitters[step.who%2]
				switch step.act {
				case 0: // Another reader.
					options := []events.SubscribeOption{
						events.OnOverflow(events.Overflow(step.who % 3)), events.Buffer(1000),
					}
					r := &hSeamReader{hGate: newHGate(), concurrent: step.who == 4}
					if r.concurrent {
						options = append(options, events.Concurrent(3))
					}
					if step.who == 3 {
						options = append(options, events.Fair())
					}
					seq, n := uint64(0), 1+step.n/4
					if len(past) > 0 {
						seq = past[step.n%len(past)]
					}
					switch step.n % 4 {
					case 0:
						options = append(options, events.StartAt(events.All()))
						r.want = slices.Clone(past)
					case 1:
						options = append(options, events.StartAt(events.After(seq)))
						r.want = slices.DeleteFunc(slices.Clone(past), func(s uint64) bool { return s <= seq })
					case 2:
						options = append(options, events.StartAt(events.Last(n)))
						r.want = slices.Clone(past[max(0, len(past)-n):])
					case 3: // None.
					}
					hSubscribe(t, hClient(t, bus, fmt.Sprint("r", len(readers))), "x", r.handle, options...)
					readers = append(readers, r)
				case 1, 2, 3: // A reader goes on.
					if len(readers) > 0 {
						r := readers[step.who%len(readers)]
						for range min(step.n, len(r.want)) {
							select {
							case r.leave <- struct{}{}:
								synctest.Wait()
							default:
							}
						}
					}
				case 4, 5, 6: // Events of every kind.
					var options []events.EmitOption
					if step.act == 5 {
						options = append(options, events.NoHistory())
					}
					for range 1 + step.n/2 {
						var receipt events.Receipt
						var err error
						if step.act == 6 {
							receipt, err = emitter.Broadcast(t.Context(), "x", nil, events.Audience{}, options...)
						} else {
							receipt, err = emitter.Emit(t.Context(), "x", nil, options...)
						}
						require.NoError(t, err)
						for _, r := range readers {
							r.want = append(r.want, receipt.Seq)
						}
						// A broadcast is for those who are there, so a later
						// reader does not see it.
						if step.act == 4 {
							past = append(past, receipt.Seq)
						}
					}
				default:
					synctest.Wait()
				}
			}
			for _, r := range readers {
				r.open()
			}
			require.NoError(t, bus.Idle(t.Context()))
		})
		for i, r := range readers {
			got := r.seqs()
			if r.concurrent {
				slices.Sort(got)
			}
			if !slices.Equal(r.want, got) {
				rt.Fatalf("reader %d: got %v, want %v", i, got, r.want)
			}
		}
	})
}

// TestNoHistoryDuringReplay shows that events which are not in the history come
// too, once and in their place, while a subscriber still reads it (E19).
func TestNoHistoryDuringReplay(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		{},
		{events.OnOverflow(events.DropNewest)},
		{events.OnOverflow(events.RefuseToEmitter)},
		{events.Fair()},
		{events.Concurrent(1)},
		{events.Concurrent(3)},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			want := hEmitMany(t, emitter, "x", 200)
			got := newHGate()
			s := hSubscribe(t, reader, "x", got.handle, append(options, events.StartAt(events.All()))...)
			synctest.Wait()
			require.True(t, s.Stats().Reading)
			want = append(want, hEmit(t, emitter, "x", events.NoHistory()))
			got.let(50)
			want = append(want, hEmitMany(t, emitter, "x", 150)...) // more than one page
			want = append(want, hEmit(t, emitter, "x", events.NoHistory()))
			got.let(30)
			want = append(want, hEmit(t, emitter, "x"))
			got.open()
			require.NoError(t, bus.Idle(t.Context()))
			require.False(t, s.Stats().Reading)
			seqs := got.seqs()
			slices.Sort(seqs)
			require.Equal(t, want, seqs, "%T", options)
			if len(options) == 0 {
				require.Equal(t, want, got.seqs(), "in order")
			}
			require.EqualValues(t, len(want), s.Stats().Ledger.Handled)
		})
	}
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

// TestReplayIsForTheAskingSubscription is E15: no other subscription gets the
// events of a replay, of whatever plugin and under whatever name.
func TestReplayIsForTheAskingSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter, reader, other := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), hClient(t, bus, "other")
		hEmitMany(t, emitter, "x", 3)
		var mine, others hRecorder
		for _, c := range []*events.Client{emitter, reader, other} {
			hSubscribe(t, c, "x", others.handle)
			hSubscribe(t, c, "**", others.handle)
			hSubscribe(t, c, "replay:*", others.handle)
		}
		hSubscribe(t, reader, "x", mine.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3}, mine.seqs())
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		synctest.Wait()
		require.Empty(t, others.events())
	})
}

// TestReplayAsksForThePermissionOfNow is E18.
func TestReplayAsksForThePermissionOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		for range 40 {
			hEmit(t, emitter, "x.a")
			hEmit(t, emitter, "x.b")
		}
		guard.deny(plugbus.VerbSubscribe, "x.b")
		for _, e := range hReplayedEvents(t, reader, "x.*", events.All()) {
			require.Equal(t, "x.a", e.Name())
		}
		require.Equal(t, []uint64{75, 77, 79}, hReplayed(t, reader, "x.*", events.Last(3)), "the last that it may have")
		require.Equal(t, []uint64{79}, hReplayed(t, reader, "x.*", events.LatestPerName()))

		// The policy changes under a subscription that has read a page, and
		// under a replay.
		guard.deny(plugbus.VerbSubscribe)
		got := newHGate()
		s := hSubscribe(t, reader, "x.*", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		guard.deny(plugbus.VerbSubscribe, "x.a")
		got.open()
		require.Equal(t, "x.a", got.events()[0].Name())
		require.Len(t, got.events(), 41)
		for _, e := range got.events()[1:] {
			require.Equal(t, "x.b", e.Name())
		}
		require.EqualValues(t, 31, s.Stats().Ledger.Undeliverable, "what the page held; the next one held none")

		seqs := []uint64{}
		for e, err := range reader.Replay(t.Context(), "x.*", events.All()) {
			require.NoError(t, err)
			if len(seqs) == 0 {
				guard.deny(plugbus.VerbSubscribe, "x.b")
			}
			seqs = append(seqs, e.Seq())
		}
		require.Equal(t, []uint64{2, 65, 67, 69, 71, 73, 75, 77, 79}, seqs)

		guard.deny(plugbus.VerbSubscribe, "x.a", "x.b")
		require.Empty(t, hReplayed(t, reader, "x.*", events.All()))
	})
}

func hReplayedEvents(t *testing.T, c *events.Client, pattern string, from events.From) []events.Event {
	t.Helper()
	got, errs := hReplay(c, pattern, from)
	require.Empty(t, errs)
	return got
}

// TestReplayNeedsRightOfThen is E18 where the host asks for both rights.
func TestReplayNeedsRightOfThen(t *testing.T) {
	for _, test := range []struct {
		needed    bool
		forgotten uint64
		want      []uint64
	}{
		{false, 0, []uint64{1, 2, 3}},
		{true, 0, []uint64{2, 3}},
		{true, 1, []uint64{2, 3}},
		{true, 2, []uint64{3}}, // what is no longer known is not allowed
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{ReplayNeedsRightOfThen: test.needed})
			guard := &hGuard{plugin: "both"}
			emitter, reader := hGuarded(t, bus, "emitter", guard), hGuarded(t, bus, "reader", guard)
			guard.deny(plugbus.VerbSubscribe, "x")
			hEmit(t, emitter, "x")
			guard.deny(plugbus.VerbSubscribe, "y")
			hEmit(t, emitter, "x")
			guard.deny(plugbus.VerbSubscribe)
			hEmit(t, emitter, "x")
			guard.forgotten = test.forgotten
			require.Equal(t, test.want, hReplayed(t, reader, "x", events.All()), "%+v", test)
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
			synctest.Wait()
			require.Equal(t, test.want, got.seqs(), "%+v", test)
		})
	}
}

// TestTruncated shows that what the history no longer holds is reported to
// those who asked for it (E21), and to nobody else.
func TestTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 5})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		guard.deny(plugbus.VerbSubscribe, "x.secret")
		var at []time.Time
		for _, name := range []string{"y", "x.a", "x.b", "x.secret", "x.c", "x.a", "x.a", "x.c", "z"} {
			hAdvance(time.Second)
			at = append(at, time.Now())
			hEmit(t, emitter, name) // The last five are left, from 5 on.
		}
		for _, test := range []struct {
			pattern string
			from    events.From
			want    *events.TruncatedError
		}{
			{"x.*", events.All(), &events.TruncatedError{Lost: 3}}, // 4 is a secret
			{"x.*", events.After(0), &events.TruncatedError{Lost: 3}},
			{"x.*", events.After(2), &events.TruncatedError{After: 2, Lost: 3}},
			{"x.*", events.After(3), nil},
			{"x.*", events.Since(at[0]), &events.TruncatedError{Lost: 3}},
			{"x.*", events.Since(at[2]), &events.TruncatedError{Lost: 3}},
			{"x.*", events.Since(at[2].Add(1)), nil},
			{"x.*", events.Last(4), nil},
			{"x.*", events.Last(5), &events.TruncatedError{Lost: 3}},
			{"x.*", events.LatestPerName(), &events.TruncatedError{Lost: 3}}, // of x.b
			{"x.*", events.From{}, nil},

			{"x.a", events.All(), &events.TruncatedError{Lost: 2}},
			{"x.a", events.LatestPerName(), nil},
			{"x.b", events.Last(1), &events.TruncatedError{Lost: 3}},
			{"x.c", events.All(), nil}, // only strangers were lost
			{"z", events.All(), nil},
			{"x.secret", events.All(), nil},
		} {
			events, errs := hReplay(reader, test.pattern, test.from)
			for _, e := range events {
				require.False(t, e.Truncated())
			}
			if test.want == nil {
				require.Empty(t, errs, "%+v", test)
			} else {
				require.Equal(t, []error{test.want}, errs, "%+v", test)
			}
			hRequireTruncated(t, emitter, reader, test.pattern, test.from, test.want != nil)
		}
	})
}

// hRequireTruncated asserts that a subscription says once whether events are
// gone, and at once if it has an order.
func hRequireTruncated(t *testing.T, emitter, reader *events.Client, pattern string, from events.From, want bool) {
	t.Helper()
	for _, option := range []events.SubscribeOption{
		events.OnOverflow(events.DropOldest), events.OnOverflow(events.DropNewest), events.Concurrent(3),
	} {
		var got hRecorder
		s := hSubscribe(t, reader, pattern, got.handle, option, events.Narrow(), events.StartAt(from))
		synctest.Wait()
		hEmit(t, emitter, "x.secret", events.NoHistory())
		hEmit(t, emitter, "x.a", events.NoHistory())
		synctest.Wait()
		s.Unsubscribe()
		if len(got.events()) == 0 {
			continue
		}
		marks := []bool{}
		for _, e := range got.events() {
			marks = append(marks, e.Truncated())
		}
		if option == events.Concurrent(3) {
			require.Equal(t, want, slices.Contains(marks, true), "%q from %+v", pattern, from)
			continue
		}
		require.Equal(t, want, marks[0], "%q from %+v with %#v", pattern, from, option)
		require.NotContains(t, marks[1:], true)
	}
}

// TestTruncatedWhileReading shows that what the history loses before a slow
// reader gets there is reported too: nothing is skipped in silence (E21).
func TestTruncatedWhileReading(t *testing.T) {
	for _, from := range []events.From{events.All(), events.After(0), events.Last(100), events.Since(time.Time{}), events.LatestPerName()} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{HistoryEvents: 100})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			hEmitMany(t, emitter, "x", 100)
			got := newHGate()
			hSubscribe(t, reader, "x", got.handle, events.StartAt(from))
			synctest.Wait()
			hEmitMany(t, emitter, "x", 250)
			got.open()
			require.NoError(t, bus.Idle(t.Context()))
			var after []uint64
			before := uint64(0)
			for _, e := range got.events() {
				if e.Truncated() {
					after = append(after, before)
				} else if before > 0 {
					require.Equal(t, before+1, e.Seq(), "%+v: a gap, and no word of it", from)
				}
				before = e.Seq()
			}
			require.Len(t, after, 1, "%+v", from)
			require.EqualValues(t, 350, before)

			var errs []error
			before = 250
			for e, err := range reader.Replay(t.Context(), "x", events.After(250)) {
				if err != nil {
					require.Equal(t, &events.TruncatedError{After: 314, Lost: 400}, err)
					errs = append(errs, err)
					before = 400
					continue
				}
				if e.Seq() == 260 {
					hEmitMany(t, emitter, "x", 150)
				}
				require.Equal(t, before+1, e.Seq())
				before++
			}
			require.Len(t, errs, 1)
			require.EqualValues(t, 500, before)
		})
	}
}

// TestTruncatedIsToldOnce shows that a reader hears once of what was gone before
// it came, although what is left begins before that and takes it several pages.
func TestTruncatedIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 300})
		quiet, flood, reader := hClient(t, bus, "quiet"), hClient(t, bus, "flood"), hClient(t, bus, "reader")
		hEmitMany(t, quiet, "x", 140)
		hEmitMany(t, flood, "x", 1000)
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Len(t, got.events(), 300)
		for i, e := range got.events() {
			require.Equal(t, i == 0, e.Truncated(), "%d", i)
		}
		_, errs := hReplay(reader, "x", events.After(10))
		require.Equal(t, []error{&events.TruncatedError{After: 10, Lost: 980}}, errs)
	})
}

// TestTruncatedSurvivesFilter shows that the word of a gap waits for the handler.
func TestTruncatedSurvivesFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: 3})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmitMany(t, emitter, "x", 5)
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()),
			events.Filter(func(e events.Event) bool { return e.Seq() == 5 }))
		synctest.Wait()
		require.Equal(t, []uint64{5}, got.seqs())
		require.True(t, got.events()[0].Truncated())
	})
}

// TestReplayWithoutHistory shows a bus that keeps none: all of it is gone, and
// what comes still comes.
func TestReplayWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryEvents: -1})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmitMany(t, emitter, "x", 2)
		got, errs := hReplay(reader, "x", events.All())
		require.Empty(t, got)
		require.Equal(t, []error{&events.TruncatedError{Lost: 2}}, errs)
		var live hRecorder
		hSubscribe(t, reader, "x", live.handle, events.StartAt(events.All()))
		synctest.Wait()
		hEmitMany(t, emitter, "x", 2)
		synctest.Wait()
		require.Equal(t, []uint64{3, 4}, live.seqs())
		require.True(t, live.events()[0].Truncated())
		require.Zero(t, bus.History().Events)
	})
}

// TestReplaySkipsExpired shows that no replay shows an event after its time, nor
// one that is older than the history keeps.
func TestReplaySkipsExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{HistoryAge: time.Hour})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		hEmit(t, emitter, "x")
		hEmit(t, emitter, "x", events.MaxAge(time.Minute))
		hEmit(t, emitter, "x", events.MaxAge(math.MaxInt64))
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		hAdvance(time.Minute - 1)
		require.Equal(t, []uint64{1, 2, 3}, hReplayed(t, reader, "x", events.All()))
		hAdvance(1)
		require.Equal(t, []uint64{1, 3}, hReplayed(t, reader, "x", events.All()))
		var got hRecorder
		s := hSubscribe(t, reader, "x", got.handle, events.StartAt(events.All()))
		synctest.Wait()
		require.Equal(t, []uint64{1, 3}, got.seqs())
		require.Zero(t, s.Stats().Ledger.Expired, "it was never offered")

		// One expires while it waits in the page of a reader.
		hEmit(t, emitter, "y")
		hEmit(t, emitter, "y", events.MaxAge(time.Minute))
		slow := newHGate()
		s = hSubscribe(t, reader, "y", slow.handle, events.StartAt(events.All()))
		synctest.Wait()
		hAdvance(time.Minute)
		slow.open()
		require.Equal(t, []uint64{4}, slow.seqs())
		require.EqualValues(t, 1, s.Stats().Ledger.Expired)

		hAdvance(time.Hour)
		require.Empty(t, hTruncated(t, reader, "**"))
	})
}

// hTruncated replays all of a pattern that has lost events.
func hTruncated(t *testing.T, c *events.Client, pattern string) []events.Event {
	t.Helper()
	got, errs := hReplay(c, pattern, events.All())
	require.Len(t, errs, 1)
	var truncated *events.TruncatedError
	require.ErrorAs(t, errs[0], &truncated)
	return got
}

// TestReplayIterator shows how a replay ends, by either side.
func TestReplayIterator(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "reader"}
	emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
	hEmitMany(t, emitter, "x", 200)

	t.Run("break", func(t *testing.T) {
		var got []uint64
		for e, err := range reader.Replay(t.Context(), "x", events.All()) {
			require.NoError(t, err)
			if got = append(got, e.Seq()); len(got) == 70 {
				break
			}
		}
		require.Len(t, got, 70)
	})
	t.Run("break at an error", func(t *testing.T) {
		for _, err := range reader.Replay(t.Context(), "x", events.Last(0)) {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
			break
		}
	})
	t.Run("range again", func(t *testing.T) {
		replay := reader.Replay(t.Context(), "x", events.Last(2))
		for range 2 { // A sequence can be used twice; each time it reads anew.
			var got []uint64
			for e, err := range replay {
				require.NoError(t, err)
				got = append(got, e.Seq())
			}
			require.Equal(t, []uint64{199, 200}, got)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for _, err := range reader.Replay(ctx, "x", events.All()) {
			if last = err; err == nil {
				n++
			}
			if n == 3 {
				cancel() // In the middle of a page.
			}
		}
		require.Equal(t, 3, n)
		require.ErrorIs(t, last, context.Canceled)
		require.ErrorContains(t, last, `replay "x"`)
		require.Equal(t, 1, hErrors(reader.Replay(ctx, "x", events.All())), "an error and nothing else")
	})
	t.Run("emit inside", func(t *testing.T) {
		var got []uint64
		for e, err := range reader.Replay(t.Context(), "x", events.All()) {
			require.NoError(t, err)
			if got = append(got, e.Seq()); len(got) <= 100 {
				hEmit(t, emitter, "x") // The end is where it is when the reader gets there.
			}
		}
		require.Len(t, got, 300)
		require.True(t, slices.IsSorted(got))
	})
	for _, test := range []struct {
		pattern string
		from    events.From
	}{
		{"", events.All()},
		{"a..b", events.All()},
		{"a*", events.All()},
		{"**.a", events.All()},
		{"x", events.Last(0)},
		{"x", events.Last(-1)},
	} {
		got, errs := hReplay(reader, test.pattern, test.from)
		require.Empty(t, got)
		require.Len(t, errs, 1, "%+v", test)
		require.ErrorIs(t, errs[0], plugbus.ErrInvalid, "%+v", test)
	}
	t.Run("right", func(t *testing.T) {
		guard.deny(plugbus.VerbSubscribe, "x.*")
		_, err := reader.Subscribe("x.*", (&hRecorder{}).handle)
		hRequireDenied(t, err, plugbus.ReasonDeniedByRule)
		require.Empty(t, hReplayed(t, reader, "x.*", events.All()), "a replay is narrowed to what the grant covers")
	})
}

func hErrors(replay iter.Seq2[events.Event, error]) (n int) {
	for _, err := range replay {
		if err != nil {
			n++
		}
	}
	return n
}

// TestReplayPageIsAnAct is E20: the rate can refuse a replay, also in the middle,
// and what it read until then stays good.
func TestReplayPageIsAnAct(t *testing.T) {
	for _, test := range []struct{ acts, want int }{{0, 0}, {1, 64}, {2, 128}, {3, 192}, {4, 200}} {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "reader"}
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		hEmitMany(t, emitter, "x", 200)
		meter := &hMeter{}
		meter.left.Store(int64(test.acts))
		guard.acts = meter
		got, errs := hReplay(reader, "x", events.All())
		require.Len(t, got, test.want)
		if test.want == 200 {
			require.Empty(t, errs)
			continue
		}
		require.Len(t, errs, 1)
		denied := hRequireDenied(t, errs[0], plugbus.ReasonRateLimitExceeded)
		require.Equal(t, time.Minute, denied.RetryAfter)
		require.Equal(t, plugbus.VerbSubscribe, denied.Verb)
		require.Len(t, guard.refusals(), 1)
	}
}

// TestReplayAfterTheEnd shows that a replay ends with its client, and with the
// bus.
func TestReplayAfterTheEnd(t *testing.T) {
	bus := hBus(t, events.Options{})
	emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
	hEmitMany(t, emitter, "x", 10)
	n := 0
	var last error
	for _, err := range reader.Replay(t.Context(), "x", events.All()) {
		if last = err; err == nil {
			n++
		}
		if n == 3 {
			require.NoError(t, reader.Close(t.Context()))
		}
	}
	require.Equal(t, 3, n, "a client that has left gets nothing more")
	require.ErrorIs(t, last, events.ErrClosed)
	_, errs := hReplay(reader, "x", events.All())
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], plugbus.ErrClosed)

	bus.CloseIntake()
	_, errs = hReplay(emitter, "x", events.All())
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], events.ErrClosed)
}

// TestStartAtEnds shows the ends of a subscription that still reads the history:
// what it has is handled or cancelled, and nothing else comes.
func TestStartAtEnds(t *testing.T) {
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		time.AfterFunc(time.Minute, cancel)
		return ctx
	}
	for _, test := range []struct {
		act       string
		end       func(t *testing.T, bus *events.Bus, c *events.Client, s *events.Subscription)
		handled   uint64 // of a page of 64 and an event beside the history, when the first call is released
		cancelled uint64
		abandoned uint64
	}{
		{"unsubscribe", func(_ *testing.T, _ *events.Bus, _ *events.Client, s *events.Subscription) { s.Unsubscribe() }, 1, 64, 0},
		{"drain", func(_ *testing.T, _ *events.Bus, c *events.Client, _ *events.Subscription) { c.BeginDrain() }, 65, 0, 0},
		{"close the client", func(t *testing.T, _ *events.Bus, c *events.Client, _ *events.Subscription) {
			require.ErrorIs(t, c.Close(short()), context.DeadlineExceeded)
		}, 0, 64, 1},
		{"close the bus", func(t *testing.T, bus *events.Bus, _ *events.Client, _ *events.Subscription) {
			require.ErrorIs(t, bus.Close(short()), context.DeadlineExceeded)
		}, 0, 64, 1},
	} {
		for _, option := range []events.SubscribeOption{
			events.OnOverflow(events.DropOldest), events.OnOverflow(events.RefuseToEmitter), events.Concurrent(2),
		} {
			synctest.Test(t, func(t *testing.T) {
				bus := hBus(t, events.Options{})
				emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
				hEmitMany(t, emitter, "x", 200)
				got := newHGate()
				s := hSubscribe(t, reader, "x", got.handle, option, events.StartAt(events.All()))
				synctest.Wait()
				hEmit(t, emitter, "x", events.NoHistory())
				running := uint64(len(got.events()))

				test.end(t, bus, reader, s)
				require.NoError(t, bus.Ledger().Check())
				got.open()
				require.NoError(t, reader.Close(t.Context()))
				require.NoError(t, s.Wait(t.Context()))
				l := bus.Ledger()
				require.NoError(t, l.Check())
				require.Zero(t, l.Waiting+l.Running, test.act)
				want := plugbus.Ledger{Handled: test.handled, Cancelled: test.cancelled, Abandoned: test.abandoned}
				if extra := running - 1; test.cancelled > 0 { // A concurrent one has more calls that run.
					want.Cancelled -= extra
					if test.abandoned > 0 {
						want.Abandoned += extra
					} else {
						want.Handled += extra
					}
				}
				require.Equal(t, want, plugbus.Ledger{Handled: l.Handled, Cancelled: l.Cancelled, Abandoned: l.Abandoned}, "%s with %#v", test.act, option)
				require.EqualValues(t, 65, l.Accepted)
			})
		}
	}
}

// TestStartAtEndsUnread shows that an event which came beside the history is
// handled, although the subscription was drained before it read any.
func TestStartAtEndsUnread(t *testing.T) {
	for _, option := range []events.SubscribeOption{
		events.OnOverflow(events.DropOldest), events.OnOverflow(events.RefuseToEmitter), events.Concurrent(2),
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader, busy := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), newHGate()
			hSubscribe(t, reader, "busy", busy.handle)
			hEmit(t, emitter, "busy")
			synctest.Wait()
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, option, events.StartAt(events.All()))
			want := []uint64{hEmit(t, emitter, "x", events.NoHistory())}
			reader.BeginDrain()
			busy.open()
			require.Equal(t, want, got.seqs(), "%#v", option)
			require.NoError(t, reader.Close(t.Context()))
			require.Zero(t, bus.Ledger().Cancelled)
		})
	}
}

// TestStartAtBeyondTheEnd shows that a place which the bus has not reached is the
// end of the history: what comes after the subscription is not skipped, however
// late its plugin gets to it.
func TestStartAtBeyondTheEnd(t *testing.T) {
	for _, from := range []events.From{events.After(1 << 60), events.Since(time.Now().AddDate(1000, 0, 0)), events.Last(9)} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader, busy := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), newHGate()
			hSubscribe(t, reader, "busy", busy.handle)
			hEmit(t, emitter, "busy")
			synctest.Wait()
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, events.StartAt(from))
			want := hEmitMany(t, emitter, "x", 3)
			busy.open()
			require.Equal(t, want, got.seqs(), "%+v", from)
		})
	}
}

// TestStartAtWithOptions shows that the other options hold for the history as
// they do for what follows it.
func TestStartAtWithOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []events.Failure
		bus := hBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
		emitter := hClient(t, bus, "emitter")
		hEmitMany(t, emitter, "x", 150)
		fromAll := events.StartAt(events.All())

		var once hRecorder
		s := hSubscribe(t, hClient(t, bus, "once"), "x", once.handle, fromAll, events.Once())
		synctest.Wait()
		require.Equal(t, []uint64{1}, once.seqs())
		require.NoError(t, s.Wait(t.Context()))

		once = hRecorder{}
		s = hSubscribe(t, hClient(t, bus, "once-filtered"), "x", once.handle, fromAll, events.Once(), events.Concurrent(4),
			events.Filter(func(e events.Event) bool { return e.Seq() >= 100 }))
		synctest.Wait()
		require.Len(t, once.seqs(), 1)
		require.GreaterOrEqual(t, once.seqs()[0], uint64(100))
		require.NoError(t, s.Wait(t.Context()))

		var filtered hRecorder
		s = hSubscribe(t, hClient(t, bus, "filter"), "x", filtered.handle, fromAll, events.Filter(func(e events.Event) bool {
			return e.Replayed() && e.Seq()%50 == 0
		}))
		synctest.Wait()
		hEmitMany(t, emitter, "x", 50)
		synctest.Wait()
		require.Equal(t, []uint64{50, 100, 150}, filtered.seqs())
		require.EqualValues(t, 200, s.Stats().Ledger.Handled)

		// A time-out ends one call, and the next event follows when it returns.
		var late hRecorder
		s = hSubscribe(t, hClient(t, bus, "late"), "x", func(ctx context.Context, e events.Event) error {
			_ = late.handle(ctx, e)
			if e.Seq() == 70 {
				hAdvance(2 * time.Second)
			}
			return nil
		}, fromAll, events.Timeout(time.Second))
		hAdvance(3 * time.Second)
		require.Len(t, late.seqs(), 200)
		require.True(t, slices.IsSorted(late.seqs()))
		require.EqualValues(t, 1, s.Stats().Ledger.Abandoned)
		require.EqualValues(t, 199, s.Stats().Ledger.Handled)
		require.ErrorIs(t, failures[0].Err, events.ErrTimedOut)

		// A subscription that expires does so in the history too.
		expiring := newHGate()
		s = hSubscribe(t, hClient(t, bus, "expiring"), "x", expiring.handle, fromAll, events.Expires(time.Second))
		hAdvance(time.Second)
		synctest.Wait()
		expiring.open()
		require.Equal(t, []uint64{1}, expiring.seqs())
		require.NoError(t, s.Wait(t.Context()))

		// Of two handlers of one plugin for one event the one with the higher
		// priority comes first, and both follow the order.
		var both hRecorder
		plugin, busy := hClient(t, bus, "priority"), newHGate()
		hSubscribe(t, plugin, "busy", busy.handle)
		hEmit(t, emitter, "busy", events.NoHistory())
		synctest.Wait()
		for p := range 2 {
			hSubscribe(t, plugin, "x", func(ctx context.Context, e events.Event) error {
				_ = both.handle(ctx, e)
				if len(both.events())%2 != p {
					return errors.New("not the turn of this one")
				}
				return nil
			}, events.StartAt(events.Last(3)), events.Priority(p))
		}
		failures = nil
		busy.open()
		require.Equal(t, []uint64{198, 198, 199, 199, 200, 200}, both.seqs())
		require.Empty(t, failures)
	})
}

// TestStartAtKeepsTheBuffer shows that the queue of a subscription that reads the
// history is bounded, and what its overflow rule does.
func TestStartAtKeepsTheBuffer(t *testing.T) {
	for _, test := range []struct {
		option  events.SubscribeOption
		missing []uint64 // of the events beside the history, 66 to 70
		full    int
		dropped uint64
	}{
		{events.OnOverflow(events.DropOldest), []uint64{66, 67, 68}, 0, 3},
		{events.OnOverflow(events.DropNewest), []uint64{68, 69, 70}, 0, 3},
		{events.OnOverflow(events.RefuseToEmitter), []uint64{68, 69, 70}, 3, 0},
		{events.Fair(), []uint64{66, 67, 68}, 0, 3},
		{events.Concurrent(2), []uint64{66, 67, 68}, 0, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			want := hEmitMany(t, emitter, "x", 65)
			got := newHGate()
			s := hSubscribe(t, reader, "x", got.handle, test.option, events.Buffer(2), events.StartAt(events.All()))
			synctest.Wait()
			full := 0
			for range 5 {
				receipt, err := emitter.Emit(t.Context(), "x", nil, events.NoHistory())
				require.NoError(t, err)
				require.Equal(t, 1, receipt.Matched)
				full += receipt.Full
				if !slices.Contains(test.missing, receipt.Seq) {
					want = append(want, receipt.Seq)
				}
			}
			require.Equal(t, test.full, full)

			// An emitter that waits for room waits for this queue too.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := emitter.Emit(ctx, "x", nil, events.NoHistory(), events.WaitForRoom())
			require.ErrorIs(t, err, events.ErrNoRoom)

			got.open()
			seqs := got.seqs()
			slices.Sort(seqs)
			require.Equal(t, want, seqs, "%#v", test.option)
			require.Equal(t, test.dropped, s.Stats().Ledger.Dropped)
			if test.dropped > 0 {
				require.Equal(t, map[string]uint64{"emitter": test.dropped}, s.Stats().Lost)
			}
		})
	}
}

// TestStartAtLetsOthersPass is E20: while one plugin takes its time over the
// history, live events reach all others, and emitters do not wait.
func TestStartAtLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter := hClient(t, bus, "emitter")
		hEmitMany(t, emitter, "x", 500)
		slow := newHGate()
		hSubscribe(t, hClient(t, bus, "slow"), "x", slow.handle, events.StartAt(events.All()))
		var live hRecorder
		hSubscribe(t, hClient(t, bus, "live"), "x", live.handle)
		synctest.Wait()
		require.Equal(t, []uint64{501}, hEmitMany(t, emitter, "x", 1))
		synctest.Wait()
		require.Equal(t, []uint64{501}, live.seqs())
		require.Equal(t, []uint64{1}, slow.seqs())
		slow.open()
		require.Len(t, slow.seqs(), 501)
	})
}

// TestHistoryHoldsNoRefusedEvent is E14.
func TestHistoryHoldsNoRefusedEvent(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "emitter", acts: &hMeter{}}
	guard.deny(plugbus.VerbEmit, "x.denied")
	emitter, reader := hGuarded(t, bus, "emitter", guard), hClient(t, bus, "reader")
	for _, test := range []struct {
		name   string
		data   any
		reason plugbus.Reason
	}{
		{"x.denied", nil, plugbus.ReasonDeniedByRule},
		{"x.*", nil, plugbus.ReasonInvalidName},
		{"", nil, plugbus.ReasonInvalidName},
		{"x.rate", nil, plugbus.ReasonRateLimitExceeded},
	} {
		_, err := emitter.Emit(t.Context(), test.name, test.data)
		hRequireDenied(t, err, test.reason)
		_, err = emitter.Broadcast(t.Context(), test.name, test.data, events.Audience{})
		if test.name != "x.denied" {
			hRequireDenied(t, err, test.reason)
		}
	}
	require.Empty(t, hReplayed(t, reader, "**", events.All()))
	require.Zero(t, bus.History().Events)
}

// hRequireOptionError asserts that err is about an option of this name.
func hRequireOptionError(t *testing.T, err error, option string) *events.OptionError {
	t.Helper()
	bad, ok := errors.AsType[*events.OptionError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, option, bad.Option)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	return bad
}
