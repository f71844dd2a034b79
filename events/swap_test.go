package events_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// joinHeld returns a client that is to take the place of the one with its id.
func joinHeld(t testing.TB, bus *events.Bus, id string) *events.Client { //nolint:unparam // It says whose it is.
	t.Helper()
	c, err := bus.Client(id, events.ClientOptions{Held: true})
	require.NoError(t, err)
	return c
}

// TestSucceed puts one client in the place of another: events up to that moment are the
// old one's, later ones the new one's, and no handler of the new one runs before it has
// settled. Nothing of the new one is noticed before.
func TestSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		a, old := joinBus(t, bus, "a"), joinBus(t, bus, "b")
		g := closedGate(t)
		was, is := &diary{}, &diary{}
		past, received, latest, aside := &diary{}, &diary{}, &diary{}, &diary{}
		listen(t, old, "x", g.then(was.write))
		listen(t, old, "told", was.write)
		tell(t, a, "x", nil)
		next := joinHeld(t, bus, "b")
		listen(t, next, "x", is.write)
		listen(t, next, "y", is.write)
		listen(t, next, "x", past.write, events.StartAt(events.All()))
		listen(t, next, "x", latest.write, events.StartAt(events.LatestPerName()), events.OnOverflow(events.DropNewest))
		listen(t, next, "x", aside.write, events.Concurrent(2))
		gone := listen(t, next, "x", func(context.Context, events.Event) error { panic("it has gone") })
		gone.Unsubscribe()
		_, err := next.Receive(received.write)
		require.NoError(t, err)
		require.Equal(t, 1, tell(t, next, "x", nil).Matched, "the held one acts, and counts for nothing")
		require.Zero(t, tell(t, a, "y", nil).Matched)
		own, err := next.Broadcast(t.Context(), "told", nil, events.Audience{})
		require.NoError(t, err)
		require.Zero(t, own.Matched, "of itself it gets nothing, whatever the version")
		_, err = a.Broadcast(t.Context(), "x", nil, events.Audience{IDs: []string{"b"}})
		require.NoError(t, err)
		synctest.Wait()

		require.NoError(t, next.Succeed(old))
		require.Equal(t, 2, tell(t, a, "x", nil).Matched, "but for those that still read the history")
		require.Equal(t, 1, tell(t, a, "y", nil).Matched)
		receipt, err := a.Broadcast(t.Context(), "x", nil, events.Audience{IDs: []string{"b"}})
		require.NoError(t, err)
		require.Equal(t, 3, receipt.Matched)
		receipt, err = next.Broadcast(t.Context(), "x", nil, events.Audience{IDs: []string{"b"}})
		require.NoError(t, err)
		require.Zero(t, receipt.Matched, "neither of itself nor of its predecessor")
		_, err = old.Subscribe("x", nothing)
		require.ErrorIs(t, err, events.ErrClosed)
		require.Equal(t, uint64(10), tell(t, old, "none", nil).Seq, "what drains acts still")
		synctest.Wait()
		for _, d := range []*diary{is, past, latest, aside, received} {
			require.Empty(t, d.read(), "not before it has settled")
		}
		require.NoError(t, bus.Ledger().Check())
		g.open()
		require.NoError(t, old.Drained(t.Context()))
		require.NoError(t, old.Close(t.Context()))
		require.Equal(t, []int{1, 2, 5}, was.seqs())
		synctest.Wait()
		require.Empty(t, is.read())
		next.Settle()
		next.Settle()
		require.NoError(t, bus.Idle(t.Context()))
		require.Equal(t, []int{6, 7, 8}, is.seqs())
		require.Equal(t, []int{1, 2, 6, 8}, past.seqs(), "the history, and then what came")
		require.Equal(t, []int{2, 6, 8}, latest.seqs())
		require.ElementsMatch(t, []int{6, 8}, aside.seqs())
		require.Equal(t, []int{8}, received.seqs())
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.Equal(t, l.Accepted, l.Handled)
		clients, _ := bus.Stats()
		require.Len(t, clients, 2)
	})
}

// TestSucceedExactlyOnce replaces a client again and again while others emit and
// broadcast: over all versions every subscription's pattern gets each event once, in
// order, and the ledger balances at every look.
func TestSucceedExactlyOnce(t *testing.T) {
	const emitters, each = 4, 400
	bus := openBus(t, events.Options{HistoryEvents: 1_000_000, HistoryBytes: 1 << 40})
	kinds := [][]events.SubscribeOption{
		{events.Buffer(events.MaxBuffer)},
		{events.Buffer(events.MaxBuffer), events.OnOverflow(events.DropNewest)},
		{events.Buffer(events.MaxBuffer), events.OnOverflow(events.RefuseToEmitter), events.Concurrent(3)},
		{events.Buffer(4096), events.Fair()},
	}
	var mu sync.Mutex
	seen := make([]map[uint64]int, len(kinds))
	last := make([]uint64, len(kinds))
	for i := range seen {
		seen[i] = map[uint64]int{}
	}
	var settled atomic.Int32 // the version whose handlers may run
	open := func(o events.ClientOptions, version int32) *events.Client {
		c, err := bus.Client("b", o)
		require.NoError(t, err)
		for kind, options := range kinds {
			for _, pattern := range []string{"all", "own." + fmt.Sprint(version%3), "other.*"} {
				if pattern != "all" && kind > 0 {
					continue // Patterns that come and go, so that logs do.
				}
				listen(t, c, pattern, func(_ context.Context, e events.Event) error {
					if settled.Load() != version {
						t.Errorf("version %d handles %d while %d does", version, e.Seq(), settled.Load())
					}
					if pattern != "all" {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					seen[kind][e.Seq()]++
					if kind != 2 && e.Seq() <= last[kind] {
						t.Errorf("%d after %d", e.Seq(), last[kind])
					}
					last[kind] = e.Seq()
					return nil
				}, options...)
			}
		}
		return c
	}
	b := open(events.ClientOptions{}, 0)
	var wg sync.WaitGroup
	for i := range emitters {
		from := joinBus(t, bus, fmt.Sprint("from", i))
		wg.Go(func() {
			for n := range each {
				var receipt events.Receipt
				var err error
				if n%5 == 0 {
					receipt, err = from.Broadcast(context.Background(), "all", n, events.Audience{IDs: []string{"b"}})
				} else {
					receipt, err = from.Emit(context.Background(), "all", n, events.WaitForRoom())
				}
				if err != nil || receipt.Matched != len(kinds) || receipt.Accepted != len(kinds) {
					t.Error(receipt, err)
				}
				_, _ = from.Emit(context.Background(), "own.1", n)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	swaps := int32(0)
	for running := true; running || swaps < 20; {
		select {
		case <-done:
			running = false
		default:
		}
		next := open(events.ClientOptions{Held: true}, swaps+1)
		require.NoError(t, next.Succeed(b))
		require.NoError(t, bus.Ledger().Check())
		require.NoError(t, b.Close(context.Background()))
		require.True(t, b.Ended())
		swaps++
		settled.Store(swaps)
		next.Settle()
		b = next
	}
	require.NoError(t, bus.Idle(context.Background()))
	for kind := range kinds {
		require.Len(t, seen[kind], emitters*each, "kind %d, after %d swaps", kind, swaps)
		for seq, n := range seen[kind] {
			require.Equal(t, 1, n, "kind %d, %d", kind, seq)
		}
	}
	l := bus.Ledger()
	require.Equal(t, l.Accepted, l.Handled, "%v", l)
	require.Empty(t, bus.Leaks())
}

// TestSucceedReadsOn shows that a subscription which still reads the history when its
// client is succeeded reads it to that moment, and no further (E19).
func TestSucceedReadsOn(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Concurrent(1)}} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			a, old := joinBus(t, bus, "a"), joinBus(t, bus, "b")
			const before, meanwhile = 300, 40
			for n := range before {
				tell(t, a, "x", n)
			}
			g, was, is := closedGate(t), &diary{}, &diary{}
			s := listen(t, old, "x", g.then(was.write), append(options, events.StartAt(events.All()))...)
			synctest.Wait()
			for n := range meanwhile {
				tell(t, a, "x", n)
			}
			tell(t, a, "x", nil, events.NoHistory())
			next := joinHeld(t, bus, "b")
			listen(t, next, "x", is.write)
			require.True(t, s.Stats().Reading)
			require.NoError(t, next.Succeed(old))
			tell(t, a, "x", nil)
			drained := make(chan error)
			go func() { drained <- old.Drained(context.Background()) }()
			synctest.Wait()
			require.Empty(t, drained)
			g.open()
			require.NoError(t, <-drained)
			require.NoError(t, old.Close(t.Context()))
			next.Settle()
			require.NoError(t, bus.Idle(t.Context()))
			require.Len(t, was.seqs(), before+meanwhile+1)
			for i, seq := range was.seqs() {
				require.Equal(t, i+1, seq)
			}
			require.Equal(t, []int{before + meanwhile + 2}, is.seqs())
		})
	}
}

// TestSucceedWaitsForReaders shows that a client which was succeeded has not drained
// while one of its subscriptions has not begun to read the history.
func TestSucceedWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		a, old := joinBus(t, bus, "a"), joinBus(t, bus, "b")
		g, late := closedGate(t), closedGate(t)
		for range 100 {
			tell(t, a, "x", nil)
		}
		listen(t, old, "block", g.then(nil))
		tell(t, a, "block", nil)
		synctest.Wait()
		was := &diary{}
		listen(t, old, "x", late.then(was.write), events.StartAt(events.All()))
		require.NoError(t, joinHeld(t, bus, "b").Succeed(old))
		drained := make(chan error)
		go func() { drained <- old.Drained(context.Background()) }()
		g.open()
		synctest.Wait()
		require.Empty(t, drained)
		late.open()
		require.NoError(t, <-drained)
		require.Len(t, was.read(), 100)
	})
}

// TestSucceedAmidBroadcast replaces a recipient between the choice of the audience and
// the order: the new one gets the event.
func TestSucceedAmidBroadcast(t *testing.T) {
	var amid func()
	bus := openBus(t, events.Options{InAudience: func(string, events.Audience, string) bool {
		if amid != nil {
			amid()
		}
		return true
	}})
	a, old := joinBus(t, bus, "a"), joinBus(t, bus, "b")
	was, is := &diary{}, &diary{}
	listen(t, old, "x", was.write)
	next := joinHeld(t, bus, "b")
	listen(t, next, "x", is.write)
	amid = func() {
		amid = nil
		require.NoError(t, next.Succeed(old))
		require.NoError(t, old.Close(t.Context()))
		next.Settle()
	}
	receipt, err := a.Broadcast(t.Context(), "x", nil, events.Audience{})
	require.NoError(t, err)
	require.Equal(t, 1, receipt.Matched)
	require.NoError(t, bus.Idle(t.Context()))
	require.Empty(t, was.read())
	require.Equal(t, []int{1}, is.seqs())
}

// TestSucceedDiscarded closes clients that were held and never took a place: nothing of
// them remains, and the others do not notice (H6).
func TestSucceedDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{MaxSubscriptions: 3})
		a, b := joinBus(t, bus, "a"), joinBus(t, bus, "b")
		was := &diary{}
		listen(t, b, "x", was.write)
		for range 5 {
			held := joinHeld(t, bus, "b")
			listen(t, held, "x", nothing, events.StartAt(events.All()))
			s := listen(t, held, "x", nothing, events.Concurrent(1))
			_, err := held.Subscribe("x", nothing)
			require.ErrorIs(t, err, plugbus.ErrDenied)
			held.Settle() // It has no place yet.
			tell(t, a, "x", nil)
			s.Unsubscribe()
			require.NoError(t, s.Wait(t.Context()))
			require.NoError(t, held.Close(t.Context()))
			require.True(t, held.Ended())
			require.ErrorIs(t, held.Succeed(b), events.ErrClosed)
		}
		require.NoError(t, bus.Idle(t.Context()))
		require.Len(t, was.read(), 5)
		clients, _ := bus.Stats()
		require.Len(t, clients, 2)
		l := bus.Ledger()
		require.Equal(t, plugbus.Ledger{Offered: 5, Accepted: 5, Handled: 5}, l)
	})
}

// TestSucceedRefused lists what cannot take a place: nothing changes.
func TestSucceedRefused(t *testing.T) {
	bus, other := openBus(t, events.Options{}), openBus(t, events.Options{})
	_, err := bus.Client("b", events.ClientOptions{Held: true})
	require.ErrorIs(t, err, plugbus.ErrInvalid, "nobody is there")
	a, b, far := joinBus(t, bus, "a"), joinBus(t, bus, "b"), joinBus(t, other, "b")
	one, two := joinHeld(t, bus, "b"), joinHeld(t, bus, "b")
	for _, wrong := range []*events.Client{nil, a, far, one, two} {
		require.ErrorIs(t, one.Succeed(wrong), plugbus.ErrInvalid)
	}
	require.ErrorIs(t, a.Succeed(b), plugbus.ErrInvalid, "it is not held")
	require.NoError(t, one.Succeed(b))
	require.ErrorIs(t, one.Succeed(b), plugbus.ErrInvalid, "it has its place")
	require.ErrorIs(t, two.Succeed(b), events.ErrClosed, "that one has been succeeded")
	require.NoError(t, b.Close(t.Context()))
	one.BeginDrain()
	require.ErrorIs(t, two.Succeed(one), events.ErrClosed)
}

// TestSucceedClosed ends clients that were held when they have a place and have not
// settled, each by itself and by the bus: what waits is cancelled when the time is over.
func TestSucceedClosed(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			a, old := joinBus(t, bus, "a"), joinBus(t, bus, "b")
			g := closedGate(t)
			listen(t, old, "x", g.then(nothing))
			tell(t, a, "x", nil)
			next := joinHeld(t, bus, "b")
			listen(t, next, "x", func(context.Context, events.Event) error { t.Error("called"); return nil })
			listen(t, next, "x", func(context.Context, events.Event) error { t.Error("called"); return nil }, events.Concurrent(2))
			require.NoError(t, next.Succeed(old))
			tell(t, a, "x", nil)
			synctest.Wait()
			if whole {
				require.ErrorIs(t, bus.Close(canceled()), context.Canceled)
			} else {
				require.ErrorIs(t, next.Close(canceled()), context.Canceled)
				require.ErrorIs(t, old.Close(canceled()), context.Canceled)
			}
			next.Settle()
			require.Len(t, bus.Leaks(), 1)
			g.open()
			synctest.Wait()
			require.Empty(t, bus.Leaks())
			l := bus.Ledger()
			require.Equal(t, plugbus.Ledger{Offered: 3, Accepted: 3, Cancelled: 2, Abandoned: 1}, l)
			require.True(t, next.Ended())
			require.True(t, old.Ended())
		})
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
