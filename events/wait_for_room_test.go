package events_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

func TestWaitForRoom(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		nil,
		{events.OnOverflow(events.DropNewest)},
		{events.OnOverflow(events.RefuseToEmitter)},
		{events.Fair()},
		{events.Concurrent(2)},
		{events.Timeout(time.Hour)},
	} {
		what := fmt.Sprint(options)
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{WaitLimit: time.Minute})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g, d := closedGate(t), &diary{}
			listen(t, c, "e", g.then(d.write), append(options, events.Buffer(3))...)
			n := 0
			for ; bus.Ledger().Waiting < 3; n++ {
				tell(t, emitter, "e", nil)
				synctest.Wait()
			}

			start := time.Now()
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			r, err := emitter.Emit(limited, "e", "too late", events.WaitForRoom())
			require.ErrorIs(t, err, events.ErrNoRoom, what)
			require.ErrorIs(t, err, context.DeadlineExceeded, what)
			require.Zero(t, r, what)
			require.Equal(t, time.Second, time.Since(start), what)

			_, err = emitter.Emit(t.Context(), "e", "too late", events.WaitForRoom())
			require.ErrorIs(t, err, events.ErrNoRoom, what)
			require.Equal(t, 61*time.Second, time.Since(start), "%s: the bus's own limit", what)

			done := make(chan error)
			go func() {
				for range 20 {
					if _, err := emitter.Emit(context.Background(), "e", nil, events.WaitForRoom()); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			synctest.Wait()
			require.EqualValues(t, n, bus.Ledger().Accepted, "%s: it waits", what)
			g.open()
			require.NoError(t, <-done, what)
			require.Equal(t, 61*time.Second, time.Since(start), "%s: it waits no longer than it has to", what)
			synctest.Wait()
			require.Len(t, d.read(), n+20, what)
			require.Zero(t, bus.Ledger().Dropped, what)
			require.Zero(t, bus.Ledger().Full, what)
		})
	}
}

// TestWaitForRoomEndsWithTheStart gives room by starting a handler that then
// hangs: the emitter need not wait for it to return.
func TestWaitForRoomEndsWithTheStart(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		{events.OnOverflow(events.DropNewest)}, {events.Fair()},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			var gates [5]gate // by Seq
			for i := range gates {
				gates[i].close()
				t.Cleanup(gates[i].open)
			}
			hang := func(_ context.Context, e events.Event) error {
				gates[e.Seq()].pass()
				return nil
			}
			listen(t, c, "a", hang, append(options, events.Buffer(1))...)
			listen(t, c, "b", hang)
			tell(t, c, "a", nil)
			synctest.Wait()
			tell(t, c, "b", nil)
			tell(t, c, "a", nil)
			done := make(chan error, 1)
			go func() {
				_, err := c.Emit(context.Background(), "a", nil, events.WaitForRoom())
				done <- err
			}()
			synctest.Wait()
			gates[1].open()
			synctest.Wait()
			require.Empty(t, done, "event 3 still waits")
			gates[2].open()
			synctest.Wait()
			require.Len(t, done, 1, "event 3 runs, and so does not wait")
			require.NoError(t, <-done)
		})
	}
}

// TestWaitForRoomEndsWithTheSubscription makes room by taking away who was in
// the way.
func TestWaitForRoomEndsWithTheSubscription(t *testing.T) {
	type ending func(*events.Subscription, *events.Client)
	for i, end := range []ending{
		func(s *events.Subscription, _ *events.Client) { s.Unsubscribe() },
		func(_ *events.Subscription, c *events.Client) { c.BeginDrain() },
		func(_ *events.Subscription, c *events.Client) {
			ctx, stop := context.WithCancel(context.Background())
			stop()
			_ = c.Close(ctx)
		},
	} {
		for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}} {
			synctest.Test(t, func(t *testing.T) {
				bus := openBus(t, events.Options{})
				c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
				g := closedGate(t)
				s := listen(t, c, "e", g.then(nil), append(options, events.Buffer(1))...)
				for range 4 {
					tell(t, emitter, "e", nil)
					synctest.Wait()
				}
				start := time.Now()
				go func() {
					<-time.After(time.Second)
					end(s, c)
				}()
				r := tell(t, emitter, "e", nil, events.WaitForRoom())
				require.Zero(t, r.Matched)
				require.Equal(t, time.Second, time.Since(start), "ending %d, %v", i, options)
			})
		}
	}
}

// TestWaitForRoomOfMyOwn shows that a handler cannot wait for its own plugin,
// and that the emitter's end ends the wait.
func TestWaitForRoomOfMyOwn(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			var errs []error
			listen(t, c, "e", func(ctx context.Context, e events.Event) error {
				for e.Seq() == 1 && len(errs) < 3 {
					_, err := c.Emit(ctx, "e", nil, events.WaitForRoom())
					errs = append(errs, err)
				}
				return nil
			}, append(options, events.Buffer(2))...)
			tell(t, c, "e", nil)
			synctest.Wait()
			require.Len(t, errs, 3)
			require.NoError(t, errs[0])
			denied := &plugbus.DeniedError{}
			require.ErrorAs(t, errs[2], &denied)
			require.Equal(t, plugbus.ReasonCycle, denied.Reason)
		})
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g := closedGate(t)
			listen(t, c, "e", g.then(nil), append(options, events.Buffer(1))...)
			for range 3 {
				tell(t, emitter, "e", nil)
				synctest.Wait()
			}
			go func() {
				<-time.After(time.Second)
				_ = emitter.Close(context.Background())
			}()
			start := time.Now()
			_, err := emitter.Emit(t.Context(), "e", nil, events.WaitForRoom())
			require.ErrorIs(t, err, events.ErrClosed)
			require.Equal(t, time.Second, time.Since(start))
		})
	}
}

// TestWaitersAreNotForgotten lets emitters wait for the smallest queues of fast
// handlers. A wake-up that got lost would cost the limit of an hour.
func TestWaitersAreNotForgotten(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}} {
		bus := openBus(t, events.Options{WaitLimit: time.Hour})
		var handled atomic.Int64
		const pairs, each = 2, 3000
		var wg sync.WaitGroup
		for i := range pairs {
			c, name := joinBus(t, bus, fmt.Sprint("pair", i)), fmt.Sprint("to", i)
			listen(t, c, name, func(context.Context, events.Event) error {
				handled.Add(1)
				return nil
			}, append(options, events.Buffer(1))...)
			wg.Go(func() {
				for range each {
					if _, err := c.Emit(context.Background(), name, nil, events.WaitForRoom()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, bus.Idle(t.Context()))
		require.EqualValues(t, pairs*each, handled.Load(), "%v", options)
	}
}

// TestWaitForRoomThatADropMakes lets a large event make way for a small one: there is
// room then for an emitter that waits, although no handler has returned.
func TestWaitForRoomThatADropMakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{QueueBytes: 400})
		c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
		sized := func(n int) string { return strings.Repeat("x", n) }
		listen(t, c, "e", closedGate(t).then(nil), events.Fair(), events.Buffer(10))
		tell(t, emitter, "e", nil)
		synctest.Wait()
		tell(t, emitter, "e", sized(300))
		tell(t, emitter, "e", sized(50))
		done := make(chan error, 1)
		go func() {
			_, err := emitter.Emit(t.Context(), "e", sized(200), events.WaitForRoom())
			done <- err
		}()
		synctest.Wait()
		require.Empty(t, done)
		tell(t, emitter, "e", sized(100))
		synctest.Wait()
		require.Len(t, done, 1, "the event of 300 bytes was dropped")
		require.NoError(t, <-done)
		require.EqualValues(t, 1, bus.Ledger().Dropped)
	})
}
