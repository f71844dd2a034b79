package events_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestE10Overflow blocks a handler with event 1 and lets others wait: the queue
// is bounded, its rule decides, and what is lost is announced and counted by
// source. The letters are the sources of events 2 and following.
func TestE10Overflow(t *testing.T) {
	fair := events.Fair()
	rule := events.OnOverflow
	for _, test := range []struct {
		options []events.SubscribeOption
		emits   string
		seqs    []int
		missed  []int
		lost    map[string]uint64
		full    int
	}{
		{nil, "aaaa", []int{1, 2, 3, 4, 5}, []int{0, 0, 0, 0, 0}, nil, 0},
		{nil, "aabaabb", []int{1, 5, 6, 7, 8}, []int{0, 3, 0, 0, 0}, map[string]uint64{"a": 2, "b": 1}, 0},
		{[]events.SubscribeOption{rule(events.DropOldest)}, "bbbbb", []int{1, 3, 4, 5, 6}, []int{0, 1, 0, 0, 0}, map[string]uint64{"b": 1}, 0},
		{[]events.SubscribeOption{rule(events.DropNewest)}, "aabaabb", []int{1, 2, 3, 4, 5}, []int{0, 3, 0, 0, 0}, map[string]uint64{"a": 1, "b": 2}, 0},
		{[]events.SubscribeOption{rule(events.RefuseToEmitter)}, "aabaabb", []int{1, 2, 3, 4, 5}, []int{0, 0, 0, 0, 0}, nil, 3},

		// The source that has most loses the oldest.
		{[]events.SubscribeOption{fair}, "aaaab", []int{1, 3, 4, 5, 6}, []int{0, 1, 0, 0, 0}, map[string]uint64{"a": 1}, 0},
		{[]events.SubscribeOption{fair}, "baaaaaa", []int{1, 2, 6, 7, 8}, []int{0, 3, 0, 0, 0}, map[string]uint64{"a": 3}, 0},
		{[]events.SubscribeOption{fair}, "aabbc", []int{1, 3, 4, 5, 6}, []int{0, 1, 0, 0, 0}, map[string]uint64{"a": 1}, 0}, // Of equals the first by name.
		{[]events.SubscribeOption{fair}, "aabbb", []int{1, 2, 3, 5, 6}, []int{0, 1, 0, 0, 0}, map[string]uint64{"b": 1}, 0}, // The newcomer's own.

		// The source that has most loses the newest, which may be the newcomer.
		{[]events.SubscribeOption{fair, rule(events.DropNewest)}, "aaaab", []int{1, 2, 3, 4, 6}, []int{0, 1, 0, 0, 0}, map[string]uint64{"a": 1}, 0},
		{[]events.SubscribeOption{fair, rule(events.DropNewest)}, "baaaaaa", []int{1, 2, 3, 4, 5}, []int{0, 3, 0, 0, 0}, map[string]uint64{"a": 3}, 0},
		{[]events.SubscribeOption{fair, rule(events.DropNewest)}, "aabbbcc", []int{1, 2, 4, 7, 8}, []int{0, 3, 0, 0, 0}, map[string]uint64{"a": 1, "b": 2}, 0},
	} {
		what := fmt.Sprint(test.options, " ", test.emits)
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			g, d := closedGate(t), &diary{}
			s := listen(t, joinBus(t, bus, "plugin"), "e", g.then(d.write), append(test.options, events.Buffer(4))...)
			clients := map[rune]*events.Client{}
			for _, id := range "abc" {
				clients[id] = joinBus(t, bus, string(id))
			}
			tell(t, clients['a'], "e", nil)
			synctest.Wait()
			full := 0
			for _, id := range test.emits {
				r := tell(t, clients[id], "e", nil)
				require.Equal(t, 1, r.Matched, what)
				require.Equal(t, 1, r.Accepted+r.Full, what)
				full += r.Full
			}
			require.Equal(t, test.full, full, what)

			lost := uint64(0)
			for _, n := range test.lost {
				lost += n
			}
			l := bus.Ledger()
			require.NoError(t, l.Check(), what)
			require.Equal(t, lost, l.Dropped, "%s: what is dropped counts at once", what)
			require.EqualValues(t, 4, l.Waiting, what)
			require.EqualValues(t, test.full, l.Full, what)
			g.open()
			synctest.Wait()
			require.Equal(t, test.seqs, d.seqs(), what)
			require.Equal(t, test.missed, d.missed(), what)
			stats := s.Stats()
			require.Equal(t, test.lost, stats.Lost, what)
			require.Equal(t, lost, stats.Ledger.Dropped, what)
			require.EqualValues(t, test.full, stats.Ledger.Full, what)
			require.NoError(t, stats.Ledger.Check(), what)
		})
	}
}

// TestBytesAreBounded fills queues with payloads of 10 bytes.
func TestBytesAreBounded(t *testing.T) {
	ten := strings.Repeat("x", 10)
	for _, test := range []struct {
		rule   events.Overflow
		bytes  int64
		sizes  []int // of the events that follow the first, which runs
		seqs   []int
		losses uint64
	}{
		{events.DropNewest, 35, []int{10, 10, 10, 10, 10}, []int{1, 2, 3, 4}, 2},
		{events.DropNewest, 30, []int{10, 10, 10, 10}, []int{1, 2, 3, 4}, 1},
		{events.DropNewest, 35, []int{10, 10, 10, 5}, []int{1, 2, 3, 4, 5}, 0},
		{events.DropNewest, 5, []int{10, 10}, []int{1, 2}, 1}, // An empty queue takes any event.
		{events.RefuseToEmitter, 25, []int{10, 10, 10}, []int{1, 2, 3}, 0},
		{events.DropOldest, 25, []int{10, 10, 10}, []int{1, 3, 4}, 1},
		{events.DropOldest, 25, []int{5, 5, 10, 10}, []int{1, 3, 4, 5}, 1},
		{events.DropOldest, 25, []int{5, 5, 10, 30}, []int{1, 5}, 3},
	} {
		what := fmt.Sprint(test)
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{QueueBytes: test.bytes})
			c := joinBus(t, bus, "plugin")
			g, d := closedGate(t), &diary{}
			// Fair makes no difference to one source, but gives DropOldest a queue
			// of its own, whose bound is exact.
			options := []events.SubscribeOption{events.OnOverflow(test.rule)}
			if test.rule == events.DropOldest {
				options = append(options, events.Fair())
			}
			s := listen(t, c, "e", g.then(d.write), options...)
			tell(t, c, "e", ten)
			synctest.Wait()
			for _, size := range test.sizes {
				tell(t, c, "e", strings.Repeat("x", size))
			}
			require.NoError(t, bus.Ledger().Check(), what)
			g.open()
			synctest.Wait()
			require.Equal(t, test.seqs, d.seqs(), what)
			require.Equal(t, test.losses, s.Stats().Ledger.Dropped, what)
		})
	}
}

// TestBytesOfALogAreBounded shows the bound of a subscription that follows a
// log: the bytes, 64 KiB and one event more.
func TestBytesOfALogAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, limit = 10_000, 200_000
		bus := openBus(t, events.Options{QueueBytes: limit, HistoryEvents: -1})
		c := joinBus(t, bus, "plugin")
		g, d := closedGate(t), &diary{}
		s := listen(t, c, "e", g.then(d.write))
		const n = 500
		for range n {
			tell(t, c, "e", strings.Repeat("x", size))
		}
		synctest.Wait()
		g.open()
		synctest.Wait()
		kept := len(d.read())
		require.Greater(t, kept, limit/size-64<<10/size-2)
		require.LessOrEqual(t, kept, 1+(limit+64<<10)/size+64<<10/size+2)
		require.Equal(t, n, d.seqs()[kept-1], "the latest are kept")
		missed := 0
		for _, m := range d.missed() {
			missed += m
		}
		require.Equal(t, n, kept+missed)
		require.Equal(t, map[string]uint64{"plugin": uint64(missed)}, s.Stats().Lost)
	})
}

// TestMissedSurvivesAFilter has the filter turn away the events that would have
// said how many are missing: the next one says it, to the handler.
func TestMissedSurvivesAFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c := joinBus(t, bus, "plugin")
		g, d := closedGate(t), &diary{}
		listen(t, c, "e", g.then(d.write), events.Buffer(4),
			events.Filter(func(e events.Event) bool { return e.Data() != "no" }))
		for _, data := range []string{"yes", "lost", "lost", "lost", "no", "no", "no", "yes"} {
			tell(t, c, "e", data)
			synctest.Wait()
		}
		g.open()
		synctest.Wait()
		require.Equal(t, []int{1, 8}, d.seqs())
		require.Equal(t, []int{0, 3}, d.missed())
	})
}

// TestLosses floods slow subscriptions from several sources, with chunks of
// the log coming and going: whatever was lost is announced, and counted by
// source, to the event.
func TestLosses(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		{events.Buffer(1)},
		{events.Buffer(7)},
		{events.Buffer(100)},
		{events.Buffer(1000)},
		{events.Buffer(7), events.Fair()},
		{events.Buffer(7), events.OnOverflow(events.DropNewest)},
		{events.Buffer(7), events.OnOverflow(events.DropNewest), events.Fair()},
		{events.Buffer(7), events.Concurrent(3)},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{QueueBytes: 64 << 10, HistoryEvents: -1})
			random := rand.New(rand.NewPCG(1, uint64(len(options))))
			g := closedGate(t)
			var mu sync.Mutex
			sent, got := map[string]uint64{}, map[string]uint64{}
			announced := 0
			s := listen(t, joinBus(t, bus, "plugin"), "e", g.then(func(_ context.Context, e events.Event) error {
				mu.Lock()
				defer mu.Unlock()
				got[e.Source()]++
				announced += e.Missed()
				return nil
			}), options...)
			// Another follower of the same log lags in its own way.
			other := closedGate(t)
			listen(t, joinBus(t, bus, "other"), "e", other.then(nil), events.Buffer(50))
			clients := []*events.Client{joinBus(t, bus, "a"), joinBus(t, bus, "b"), joinBus(t, bus, "c")}
			for range 200 {
				for range random.IntN(60) {
					c := clients[min(random.IntN(4), 2)]
					tell(t, c, "e", strings.Repeat("x", random.IntN(3000)))
					sent[c.ID()]++
				}
				require.NoError(t, bus.Ledger().Check())
				for _, g := range []*gate{g, other} {
					if random.IntN(4) == 0 {
						g.open()
						synctest.Wait()
						g.close()
					}
				}
			}
			g.open()
			synctest.Wait()
			tell(t, clients[0], "e", nil) // To announce the last losses.
			sent["a"]++
			synctest.Wait()
			other.open()
			stats := s.Stats()
			dropped := uint64(0)
			for source, n := range sent {
				require.Equal(t, n, got[source]+stats.Lost[source], "source %s: %v %v", source, got, stats.Lost)
				dropped += stats.Lost[source]
			}
			require.NotZero(t, dropped)
			require.Equal(t, dropped, stats.Ledger.Dropped)
			require.EqualValues(t, dropped, announced)
		})
	}
}

// TestDrainKeepsWhatWaits takes a follower with a full queue, of which its
// worker has claimed a part already, out of its log.
func TestDrainKeepsWhatWaits(t *testing.T) {
	for _, buffer := range []int{1, 8, 16, 64, 200} {
		for _, more := range []int{0, 5, 1000} {
			synctest.Test(t, func(t *testing.T) {
				bus := openBus(t, events.Options{HistoryEvents: -1})
				c, a, b := joinBus(t, bus, "plugin"), joinBus(t, bus, "a"), joinBus(t, bus, "b")
				g, d := closedGate(t), &diary{}
				var s *events.Subscription
				first := &gate{}
				first.close()
				// The worker finds a batch to claim when it is let go.
				s = listen(t, c, "*", func(ctx context.Context, e events.Event) error {
					if e.Name() == "first" {
						first.pass()
						return nil
					}
					return g.then(d.write)(ctx, e)
				}, events.Buffer(buffer))
				tell(t, a, "first", nil)
				synctest.Wait()
				for range buffer {
					tell(t, a, "e", nil)
				}
				first.open()
				synctest.Wait()
				for i := range buffer/8 + more {
					tell(t, []*events.Client{a, b}[i%2], "e", nil)
				}
				before := s.Stats()
				c.BeginDrain()
				after := s.Stats()
				require.Equal(t, before.Ledger, after.Ledger, "buffer %d, %d more: a drain drops nothing", buffer, more)
				require.NoError(t, bus.Ledger().Check())
				g.open()
				require.NoError(t, c.Close(t.Context()))
				lost := uint64(0)
				for _, n := range after.Lost {
					lost += n
				}
				require.Equal(t, after.Ledger.Dropped, lost, "buffer %d, %d more: lost by source", buffer, more)
				require.EqualValues(t, after.Ledger.Waiting+after.Ledger.Running, len(d.read()))
			})
		}
	}
}

// TestLogRunsAway floods a log that keeps next to nothing, since each event
// fills a chunk: the chunks that a follower is about to read go while it looks.
func TestLogRunsAway(t *testing.T) {
	bus := openBus(t, events.Options{QueueBytes: 1, HistoryEvents: -1})
	large := strings.Repeat("x", 64<<10)
	var got, missed atomic.Int64
	for i := range 3 {
		listen(t, joinBus(t, bus, fmt.Sprint("plugin", i)), "e", func(_ context.Context, e events.Event) error {
			got.Add(1)
			missed.Add(int64(e.Missed()))
			return nil
		}, events.Buffer(8<<i))
	}
	const emitters, each = 2, 10_000
	var wg sync.WaitGroup
	for i := range emitters {
		c := joinBus(t, bus, fmt.Sprint("e", i))
		wg.Go(func() {
			for range each {
				if _, err := c.Emit(context.Background(), "e", large); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, bus.Idle(t.Context()))
	l := bus.Ledger()
	require.NoError(t, l.Check())
	require.EqualValues(t, 3*emitters*each, got.Load()+missed.Load())
	require.EqualValues(t, missed.Load(), l.Dropped)
}
