package events_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestE9OneOrder has several emitters at work: whoever hears everything hears
// the same order, with no gap, and others hear a part of it.
func TestE9OneOrder(t *testing.T) {
	bus := openBus(t, events.Options{Buffer: 4096})
	const emitters, each = 4, 200
	all := map[string][]events.SubscribeOption{
		"follower": nil,
		"queue":    {events.OnOverflow(events.DropNewest)},
		"fair":     {events.Fair()},
		"refusing": {events.OnOverflow(events.RefuseToEmitter)},
		"timed":    {events.Timeout(time.Minute)},
		"filtered": {events.Filter(func(events.Event) bool { return true })},
	}
	diaries := map[string]*diary{}
	for id, options := range all {
		diaries[id] = &diary{}
		listen(t, joinBus(t, bus, id), "**", diaries[id].write, options...)
	}
	part := &diary{}
	listen(t, joinBus(t, bus, "part"), "from.e1", part.write)
	var wg sync.WaitGroup
	for i := range emitters {
		c := joinBus(t, bus, fmt.Sprintf("e%d", i))
		wg.Go(func() {
			for n := range each {
				if _, err := c.Emit(t.Context(), "from."+c.ID(), n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, bus.Idle(t.Context()))
	for id, d := range diaries {
		last := map[string]int{}
		for i, e := range d.read() {
			require.EqualValues(t, i+1, e.Seq(), id)
			require.Equal(t, last[e.Source()], e.Data(), "%s: the events of one emitter stay in its order", id)
			last[e.Source()]++
		}
		require.Len(t, d.read(), emitters*each, id)
	}
	require.Len(t, part.read(), each)
	require.True(t, slices.IsSorted(part.seqs()))
}

// TestHandlersOneAtATime gives one plugin a subscription of every kind. The
// handlers share what they write without a lock, which the race detector
// watches; they run in the order of events, and by priority for each.
func TestHandlersOneAtATime(t *testing.T) {
	bus := openBus(t, events.Options{Buffer: 1 << 14})
	c := joinBus(t, bus, "plugin")
	type entry struct {
		seq      uint64
		priority int
	}
	var heard []entry
	hear := func(priority int) events.Handler {
		return func(_ context.Context, e events.Event) error {
			heard = append(heard, entry{e.Seq(), priority})
			return nil
		}
	}
	kinds := [][]events.SubscribeOption{
		nil,
		{events.OnOverflow(events.DropNewest)},
		{events.Fair()},
		{events.OnOverflow(events.RefuseToEmitter)},
		{events.Timeout(time.Minute)},
		{events.Concurrent(1)},
		{events.StartAt(events.All())},
	}
	for i, options := range kinds {
		for k, pattern := range []string{"a.*", "**"} {
			p := 2*i + k
			listen(t, c, pattern, hear(p), append(options, events.Priority(p))...)
		}
	}
	_, err := c.Receive(hear(-1))
	require.NoError(t, err)
	const emitters, each = 3, 150
	var wg sync.WaitGroup
	for i := range emitters {
		emitter := joinBus(t, bus, fmt.Sprintf("e%d", i))
		wg.Go(func() {
			for n := range each {
				name := []string{"a.b", "c.d"}[n%2]
				var err error
				if n%5 == 0 {
					_, err = emitter.Broadcast(t.Context(), name, n, events.Audience{})
				} else {
					_, err = emitter.Emit(t.Context(), name, n)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, bus.Idle(t.Context()))
	want := 0
	for n := range each {
		want += len(kinds) // "**"
		if n%2 == 0 {
			want += len(kinds) // "a.*"
		}
		if n%5 == 0 {
			want++ // Receive
		}
	}
	require.Len(t, heard, emitters*want)
	require.True(t, slices.IsSortedFunc(heard, func(a, b entry) int {
		if a.seq != b.seq {
			return int(a.seq) - int(b.seq)
		}
		return b.priority - a.priority
	}), "%v", heard)
}

// TestE5Priority orders the handlers that one plugin has for the same event;
// of equal ones the older subscription is first.
func TestE5Priority(t *testing.T) {
	for _, test := range []struct {
		priorities []int
		want       []int // places in priorities
	}{
		{[]int{0, 0, 0}, []int{0, 1, 2}},
		{[]int{1, 2, 3}, []int{2, 1, 0}},
		{[]int{-5, 0, 7, 0, 7}, []int{2, 4, 1, 3, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			var got []int
			for i, p := range test.priorities {
				options := []events.SubscribeOption{events.Priority(p)}
				if i%2 == 1 {
					options = append(options, events.Fair()) // It has a queue of its own.
				}
				listen(t, c, "a", func(context.Context, events.Event) error {
					got = append(got, i)
					return nil
				}, options...)
			}
			for range 3 {
				tell(t, c, "a", nil)
				synctest.Wait()
				require.Equal(t, test.want, got, "%v", test.priorities)
				got = nil
			}
		})
	}
}

// TestOrderHoldsForANewSubscription subscribes while the plugin's only other
// handler runs: what comes then is handled in the order of events, and by
// priority, although the worker knew of one subscription only when it began.
func TestOrderHoldsForANewSubscription(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		nil, {events.Fair()}, {events.OnOverflow(events.DropNewest)}, {events.StartAt(events.All())},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g := closedGate(t)
			var got []string
			note := func(who string) events.Handler {
				return func(_ context.Context, e events.Event) error {
					got = append(got, fmt.Sprint(who, e.Seq()))
					return nil
				}
			}
			listen(t, c, "old", g.then(note("old")), options...)
			tell(t, emitter, "old", nil)
			synctest.Wait()
			listen(t, c, "*", note("new"), events.Priority(1))
			tell(t, emitter, "other", nil)
			tell(t, emitter, "old", nil)
			tell(t, emitter, "other", nil)
			tell(t, emitter, "old", nil)
			g.open()
			synctest.Wait()
			require.Equal(t, []string{"old1", "new2", "new3", "old3", "new4", "new5", "old5"}, got)
		})
	}
}

// TestE8EmitFromHandler shows that an event from a handler neither runs on its
// stack nor overtakes what was emitted before.
func TestE8EmitFromHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c := joinBus(t, bus, "plugin")
		var got []string
		inside := false
		listen(t, c, "**", func(ctx context.Context, e events.Event) error {
			require.False(t, inside)
			inside = true
			got = append(got, e.Name())
			if e.Name() == "first" {
				_, err := c.Emit(ctx, "third", nil)
				require.NoError(t, err)
			}
			inside = false
			return nil
		})
		g := closedGate(t)
		listen(t, c, "first", g.then(nil), events.Priority(1))
		tell(t, c, "first", nil)
		tell(t, c, "second", nil)
		g.open()
		synctest.Wait()
		require.Equal(t, []string{"first", "second", "third"}, got)
	})
}

// TestE10NobodyWaitsForAStranger hangs a plugin: neither the emitter nor
// another plugin waits for it, by whatever rule its queue goes.
func TestE10NobodyWaitsForAStranger(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		nil,
		{events.OnOverflow(events.DropNewest)},
		{events.OnOverflow(events.RefuseToEmitter)},
		{events.Fair()},
		{events.Concurrent(3)},
		{events.Filter(func(events.Event) bool { return true })},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{Buffer: 16})
			g := closedGate(t)
			listen(t, joinBus(t, bus, "hung"), "**", g.then(nil), options...)
			d := &diary{}
			listen(t, joinBus(t, bus, "lively"), "**", d.write)
			emitter := joinBus(t, bus, "emitter")
			start := time.Now()
			for n := range 100 {
				tell(t, emitter, "a", n)
				synctest.Wait()
				require.Len(t, d.read(), n+1)
			}
			require.Zero(t, time.Since(start))
			require.NoError(t, bus.Ledger().Check())
			require.EqualValues(t, 100, d.read()[99].Seq())
		})
	}
}

// TestCutOffBeforeItBegins shows that a call of a concurrent handler that has not begun
// when its client is cut off never does, and that its event is cancelled: not abandoned,
// which says that a handler runs.
func TestCutOffBeforeItBegins(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // So that what is spawned does not run at once.
	const rounds = 200
	late := 0
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			var left atomic.Bool
			calls := 0
			listen(t, c, "a", func(context.Context, events.Event) error {
				calls++
				if left.Load() {
					late++
				}
				return nil
			}, events.Concurrent(2))
			tell(t, emitter, "a", nil)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = c.Close(ctx) // Whether it has handled it is left to chance.
			left.Store(true)
			synctest.Wait()
			l := bus.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 1, l.Ended())
			require.EqualValues(t, calls, l.Handled+l.Abandoned)
		})
	}
	require.Less(t, late, rounds/10, "but for one that began in the midst of the end")
}

// TestConcurrent shows that n calls run at a time and never more, beside the
// plugin's other handlers, which do not wait for them.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c := joinBus(t, bus, "plugin")
		g := closedGate(t)
		var running, most atomic.Int32
		d, beside := &diary{}, &diary{}
		listen(t, c, "a", func(ctx context.Context, e events.Event) error {
			most.Store(max(most.Load(), running.Add(1)))
			g.pass()
			running.Add(-1)
			return d.write(ctx, e)
		}, events.Concurrent(3))
		listen(t, c, "a", beside.write)
		for range 10 {
			tell(t, c, "a", nil)
		}
		synctest.Wait()
		require.EqualValues(t, 3, running.Load())
		require.Len(t, beside.read(), 10, "the plugin's own worker is free")
		l := bus.Ledger()
		require.EqualValues(t, 3, l.Running)
		require.EqualValues(t, 7, l.Waiting)
		g.open()
		synctest.Wait()
		require.EqualValues(t, 3, most.Load())
		seqs := d.seqs()
		slices.Sort(seqs)
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, seqs)
	})
}

// TestConcurrentIsOutOfTheOrder lets a later event overtake one that takes
// long.
func TestConcurrentIsOutOfTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c := joinBus(t, bus, "plugin")
		d := &diary{}
		listen(t, c, "a", func(ctx context.Context, e events.Event) error {
			if e.Seq() == 1 {
				<-time.After(time.Second)
			}
			return d.write(ctx, e)
		}, events.Concurrent(2))
		for range 3 {
			tell(t, c, "a", nil)
		}
		pass(time.Second)
		require.Equal(t, []int{2, 3, 1}, d.seqs())
	})
}

// TestConcurrentReadsOn gives a concurrent subscription more history than one
// page, and an event that is not in it: everything comes, and the drain ends.
func TestConcurrentReadsOn(t *testing.T) {
	for _, drain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			for n := range 150 {
				tell(t, emitter, "a", n)
			}
			g := closedGate(t)
			d := &diary{}
			listen(t, c, "a", g.then(d.write), events.Concurrent(2), events.StartAt(events.All()))
			synctest.Wait()
			tell(t, emitter, "a", 150, events.NoHistory())
			if drain {
				c.BeginDrain()
			}
			g.open()
			if drain {
				require.NoError(t, c.Close(t.Context()))
			}
			require.NoError(t, bus.Idle(t.Context()))
			seqs := d.seqs()
			slices.Sort(seqs)
			require.Equal(t, 151, seqs[len(seqs)-1], "the live event came")
			require.Len(t, slices.Compact(seqs), len(seqs), "none came twice")
			if !drain {
				require.Len(t, seqs, 151)
			}
		})
	}
}

// TestOrderHoldsWhenAnotherSubscriptionComes has a handler subscribe while the
// events that its own subscription has next came by two ways: the ones of the
// log do not overtake the broadcast between them.
func TestOrderHoldsWhenAnotherSubscriptionComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
		g := closedGate(t)
		var got []uint64
		listen(t, c, "e", func(_ context.Context, e events.Event) error {
			g.pass()
			if got = append(got, e.Seq()); len(got) == 2 {
				listen(t, c, "other", nothing)
			}
			return nil
		})
		tell(t, emitter, "e", nil)
		synctest.Wait()
		tell(t, emitter, "e", nil)
		_, err := emitter.Broadcast(t.Context(), "e", nil, events.Audience{})
		require.NoError(t, err)
		tell(t, emitter, "e", nil)
		g.open()
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3, 4}, got)
	})
}
