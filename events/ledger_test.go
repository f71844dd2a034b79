package events_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestEveryOutcome brings about each outcome, one by one, and reads the ledger
// after each.
func TestEveryOutcome(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			rules := newRules()
			c, err := bus.Client("plugin", events.ClientOptions{Guard: rules.guard("plugin")})
			require.NoError(t, err)
			emitter, err := bus.Client("emitter", events.ClientOptions{Guard: rules.guard("emitter")})
			require.NoError(t, err)
			var want plugbus.Ledger
			check := func(step string) {
				t.Helper()
				synctest.Wait()
				l := bus.Ledger()
				require.NoError(t, l.Check())
				require.Equal(t, want, l, step)
				clients, sum := bus.Stats()
				require.Equal(t, l, sum, step)
				require.Len(t, clients, 2)
			}
			check("nothing")

			tell(t, emitter, "nobody", nil)
			check("an event for nobody is offered to nobody")

			rules.deny(plugbus.VerbEmit, "secret")
			_, err = emitter.Emit(t.Context(), "secret", nil)
			require.ErrorIs(t, err, plugbus.ErrDenied)
			want.Offered, want.Refused = 1, 1
			check("refused")

			g := &gate{}
			s := listen(t, c, "e", g.then(func(_ context.Context, e events.Event) error {
				if e.Data() == "fail" {
					return errHandler
				}
				return nil
			}), append(options, events.Buffer(2), events.Concurrent(1))...)
			accept := func(n uint64) {
				want.Offered += n
				want.Accepted += n
			}
			tell(t, emitter, "e", nil)
			accept(1)
			want.Handled = 1
			check("handled")

			tell(t, emitter, "e", "fail")
			accept(1)
			want.Failed = 1
			check("failed")

			g.close()
			tell(t, emitter, "e", nil)
			accept(1)
			want.Running = 1
			check("running")

			tell(t, emitter, "e", nil, events.MaxAge(time.Second))
			accept(1)
			want.Waiting = 1
			check("waiting")

			pass(time.Second)
			g.open()
			want.Handled, want.Running, want.Waiting = 2, 0, 0
			want.Expired = 1
			check("expired")

			g.close()
			tell(t, emitter, "e", nil)
			tell(t, emitter, "e", nil)
			accept(2)
			want.Running, want.Waiting = 1, 1
			check("waiting again")

			rules.deny(plugbus.VerbSubscribe, "e")
			g.open()
			want.Running, want.Waiting = 0, 0
			want.Handled, want.Undeliverable = 3, 1
			check("undeliverable")
			rules.allow(plugbus.VerbSubscribe, "e")

			g.close()
			for range 4 {
				tell(t, emitter, "e", nil)
				synctest.Wait()
			}
			want.Running, want.Waiting = 1, 2
			want.Offered += 4
			if full := s.Stats().Ledger.Full; full > 0 {
				want.Full, want.Accepted = 1, want.Accepted+3
			} else {
				want.Dropped, want.Accepted = 1, want.Accepted+4
			}
			check("full or dropped")

			s.Unsubscribe()
			want.Waiting, want.Cancelled = 0, 2
			check("cancelled")

			ended, stop := context.WithCancel(t.Context())
			stop()
			require.ErrorIs(t, c.Close(ended), context.Canceled)
			want.Running, want.Abandoned = 0, 1
			l := bus.Ledger()
			require.Equal(t, want, l, "abandoned, although it had unsubscribed before")
			require.Len(t, bus.Leaks(), 1)
			g.open()
			synctest.Wait()
			require.Equal(t, want, bus.Ledger(), "what comes late is discarded")
			require.Empty(t, bus.Leaks())
		})
	}
}

// TestLedgerBalancesAtEveryMoment has emitters, subscriptions that come and go,
// slow, failing and hanging handlers at work, and reads the ledger all the
// while. Each subscription sees a part of the order, and each plugin's handlers
// run one at a time, in the order, and by priority.
func TestLedgerBalancesAtEveryMoment(t *testing.T) {
	bus := openBus(t, events.Options{Buffer: 64, HistoryEvents: 500, QueueBytes: 1 << 20})
	const emitters, plugins, each = 3, 6, 1500
	var done atomic.Bool
	var emitting, others sync.WaitGroup
	for i := range emitters {
		c := joinBus(t, bus, fmt.Sprint("emitter", i))
		emitting.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range each {
				name := []string{"a.x", "a.y", "b.x", "c"}[random.IntN(4)]
				var err error
				switch random.IntN(20) {
				case 0:
					_, err = c.Emit(context.Background(), name, n, events.MaxAge(time.Microsecond), events.NoHistory())
				case 1:
					_, err = c.Broadcast(context.Background(), name, n, events.Audience{})
				case 2:
					short, stop := context.WithTimeout(context.Background(), time.Millisecond)
					_, err = c.Emit(short, name, n, events.WaitForRoom())
					stop()
					if errors.Is(err, events.ErrNoRoom) {
						err = nil
					}
				default:
					_, err = c.Emit(context.Background(), name, n)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range plugins {
		others.Go(func() {
			for round := 0; !done.Load(); round++ {
				churn(t, bus, fmt.Sprint("plugin", i), rand.New(rand.NewPCG(uint64(round), uint64(i))), &done)
			}
		})
	}
	polls := 0
	others.Go(func() {
		for !done.Load() {
			if err := bus.Ledger().Check(); err != nil {
				t.Error(err)
				return
			}
			if polls++; polls%50 == 0 {
				clients, l := bus.Stats()
				if err := l.Check(); err != nil {
					t.Error(err)
				}
				for _, c := range clients {
					for _, s := range c.Subscriptions {
						if err := s.Ledger.Check(); err != nil {
							t.Error(err)
						}
					}
				}
				bus.Leaks()
			}
		}
	})
	emitting.Wait()
	done.Store(true)
	others.Wait()
	require.NoError(t, bus.Idle(t.Context()))
	require.NotZero(t, polls)
}

// churn lives the life of one plugin, some subscriptions of every kind.
func churn(t *testing.T, bus *events.Bus, id string, random *rand.Rand, done *atomic.Bool) {
	c, err := bus.Client(id, events.ClientOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	var inside atomic.Int32
	lastSeq, lastPriority := uint64(0), 0 // Of the plugin's worker.
	subscribe := func() *events.Subscription {
		kind := random.IntN(len(kinds))
		priority := random.IntN(3)
		concurrent := kind >= 7
		replays := kind == 6
		if replays {
			priority = 0
		}
		var last atomic.Uint64
		answer, bad := random.IntN(5) == 0, random.IntN(5) == 0
		options := append([]events.SubscribeOption{events.Priority(priority), events.Buffer(1 + random.IntN(40))}, kinds[kind]...)
		if random.IntN(8) == 0 {
			options = append(options, events.Once())
		}
		s, err := c.Subscribe([]string{"a.*", "a.x", "**", "*", "b.*"}[random.IntN(5)], func(ctx context.Context, e events.Event) error {
			if !concurrent {
				if inside.Add(1) != 1 {
					t.Error("two handlers of one plugin at a time")
				}
				defer inside.Add(-1)
				if before := last.Swap(e.Seq()); before >= e.Seq() {
					t.Errorf("%d after %d in one subscription", e.Seq(), before)
				}
				if !e.Replayed() {
					if e.Seq() < lastSeq || e.Seq() == lastSeq && priority > lastPriority {
						t.Errorf("%d with priority %d after %d with %d in one plugin", e.Seq(), priority, lastSeq, lastPriority)
					}
					lastSeq, lastPriority = e.Seq(), priority
				}
			}
			if answer && e.Seq()%50 == 0 {
				_, _ = c.Emit(ctx, "answer", nil)
			}
			if bad && e.Seq()%10 == 0 {
				return errHandler
			}
			return nil
		}, options...)
		if err != nil {
			t.Error(err)
		}
		return s
	}
	var subs []*events.Subscription
	for range 60 {
		if done.Load() {
			break
		}
		subs = append(subs, subscribe())
		if i := random.IntN(len(subs)); random.IntN(2) == 0 {
			subs[i].Unsubscribe()
			if err := subs[i].Wait(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	ctx := context.Background()
	if random.IntN(2) == 0 {
		ended, stop := context.WithCancel(ctx)
		stop()
		ctx = ended
	}
	_ = c.Close(ctx)
}
