package events_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestE2NoCallAfterUnsubscribe ends subscriptions while events come in. The calls
// that had started may still run, and none after them.
func TestE2NoCallAfterUnsubscribe(t *testing.T) {
	for i, options := range kinds {
		bus := openBus(t, events.Options{HistoryEvents: 10})
		c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
		var emitting sync.WaitGroup
		var done atomic.Bool
		emitting.Go(func() {
			for !done.Load() {
				if _, err := emitter.Emit(context.Background(), "e", nil); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
			}
		})
		started := int32(1)
		if i >= 7 {
			started = 2
		}
		for range 100 {
			var calls atomic.Int32
			first := make(chan struct{})
			s := listen(t, c, "e", func(context.Context, events.Event) error {
				if calls.Add(1) == 1 {
					close(first)
				}
				return nil
			}, options...)
			<-first
			s.Unsubscribe()
			before := calls.Load()
			require.NoError(t, s.Wait(t.Context()))
			after := calls.Load()
			require.LessOrEqual(t, after-before, started, "kind %d", i)
			s.Unsubscribe()
			require.NoError(t, bus.Idle(t.Context()))
			require.Equal(t, after, calls.Load(), "kind %d", i)
		}
		done.Store(true)
		emitting.Wait()
	}
}

// TestUnsubscribeWhileTheFilterRuns does not call the handler after it.
func TestUnsubscribeWhileTheFilterRuns(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			g, d := closedGate(t), &diary{}
			s := listen(t, c, "e", d.write, append(options, events.Filter(func(events.Event) bool {
				g.pass()
				return true
			}))...)
			tell(t, c, "e", nil)
			synctest.Wait()
			s.Unsubscribe()
			g.open()
			require.NoError(t, s.Wait(t.Context()))
			require.Empty(t, d.read())
			require.EqualValues(t, 1, bus.Ledger().Cancelled)
		})
	}
}

// TestWait ends when the last call has returned; from a handler of the same
// plugin it is a cycle, from another plugin's it is not.
func TestWait(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, other := joinBus(t, bus, "plugin"), joinBus(t, bus, "other")
			g := closedGate(t)
			var own, foreign error
			var s *events.Subscription
			s = listen(t, c, "e", func(ctx context.Context, _ events.Event) error {
				own = s.Wait(ctx)
				g.pass()
				return nil
			}, options...)
			listen(t, other, "e", func(ctx context.Context, _ events.Event) error {
				foreign = s.Wait(ctx)
				return nil
			})
			tell(t, c, "e", nil)
			synctest.Wait()
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			require.ErrorIs(t, s.Wait(limited), context.DeadlineExceeded)
			s.Unsubscribe()
			done := make(chan error, 1)
			go func() { done <- s.Wait(context.Background()) }()
			synctest.Wait()
			require.Empty(t, done, "the call still runs")
			g.open()
			require.NoError(t, <-done)
			synctest.Wait()
			denied := &plugbus.DeniedError{}
			require.ErrorAs(t, own, &denied)
			require.Equal(t, plugbus.ReasonCycle, denied.Reason)
			require.NoError(t, foreign)
		})
	}
}

// TestExpires ends a subscription by itself.
func TestExpires(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, d := joinBus(t, bus, "plugin"), &diary{}
			s := listen(t, c, "e", d.write, append(options, events.Expires(time.Minute))...)
			kept := listen(t, c, "e", nothing, append(options, events.Expires(time.Minute))...)
			kept.Unsubscribe()
			pass(time.Minute - 1)
			tell(t, c, "e", nil)
			pass(1)
			require.NoError(t, s.Wait(t.Context()))
			require.Zero(t, tell(t, c, "e", nil).Matched)
			require.Equal(t, []int{1}, d.seqs())
		})
	}
}

// TestDrain handles what waits, and takes no more.
func TestDrain(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g, d := closedGate(t), &diary{}
			listen(t, c, "e", g.then(d.write), options...)
			synctest.Wait()
			for n := range 10 {
				if n == 7 {
					_, err := emitter.Broadcast(t.Context(), "e", nil, events.Audience{})
					require.NoError(t, err)
				} else {
					tell(t, emitter, "e", nil)
				}
			}
			c.BeginDrain()
			c.BeginDrain()
			require.Zero(t, tell(t, emitter, "e", nil).Matched)
			_, err := c.Subscribe("e", nothing)
			require.ErrorIs(t, err, events.ErrClosed)
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			require.ErrorIs(t, c.Drained(limited), context.DeadlineExceeded)
			tell(t, c, "out", nil) // It may still emit.

			closed := make(chan error)
			go func() { closed <- c.Close(context.Background()) }()
			synctest.Wait()
			g.open()
			require.NoError(t, <-closed)
			require.NoError(t, c.Drained(t.Context()))
			require.True(t, c.Ended())
			require.Len(t, d.read(), 10, "kind %d", i)
			if i < 7 {
				require.IsIncreasing(t, d.seqs())
			}
			require.Zero(t, bus.Ledger().Cancelled)
		})
	}
}

// TestFence ends a client that hangs: what waits is cancelled, the handler is
// abandoned and named, every call returns ErrClosed, and the id is free.
func TestFence(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			var failures []events.Failure
			bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g := closedGate(t)
			running := 1
			if i >= 7 {
				running = 2
			}
			late := make(chan error, 2)
			s := listen(t, c, "e", func(ctx context.Context, _ events.Event) error {
				<-ctx.Done()
				g.pass()
				_, err := c.Emit(context.Background(), "e", nil) //nolint:contextcheck // That of the handler has ended.
				late <- err
				return nil
			}, options...)
			for range 10 {
				tell(t, emitter, "e", nil)
				synctest.Wait()
			}
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			err := c.Close(limited)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, fmt.Sprintf("events cancelled: %d, handlers abandoned: %d", 10-running, running))
			l := bus.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 10-running, l.Cancelled)
			require.EqualValues(t, running, l.Abandoned)
			require.Zero(t, l.Running)
			leak := events.Leak{Plugin: "plugin", Pattern: "e", Site: s.Stats().Site}
			require.Equal(t, []events.Leak{leak, leak}[:running], bus.Leaks())
			require.Len(t, failures, running)
			require.ErrorIs(t, failures[0].Err, plugbus.ErrClosed)
			require.False(t, c.Ended())

			require.NoError(t, c.Close(t.Context()), "once more does no harm")
			again := joinBus(t, bus, "plugin")
			require.Zero(t, tell(t, again, "e", nil).Matched)
			g.open()
			synctest.Wait()
			require.ErrorIs(t, <-late, plugbus.ErrClosed)
			require.Empty(t, bus.Leaks())
			require.True(t, c.Ended())
			require.NoError(t, s.Wait(t.Context()))
		})
	}
}

// TestFenceOfASubscriptionThatEndedBefore abandons a handler whose subscription
// has ended already, by Once or by Unsubscribe.
func TestFenceOfASubscriptionThatEndedBefore(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			g := closedGate(t)
			listen(t, c, "e", g.then(nil), append(options, events.Once())...)
			tell(t, c, "e", nil)
			synctest.Wait()
			limited, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			require.ErrorIs(t, c.Close(limited), context.DeadlineExceeded)
			require.EqualValues(t, 1, bus.Ledger().Abandoned)
			require.Len(t, bus.Leaks(), 1)
		})
	}
}

// TestCloseSaysWhatWasNotHandled also when it is the client's parent context
// that ends first.
func TestCloseSaysWhatWasNotHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		parent, end := context.WithCancel(t.Context())
		c, err := bus.Client("plugin", events.ClientOptions{Context: parent})
		require.NoError(t, err)
		g := closedGate(t)
		listen(t, c, "e", g.then(nil))
		tell(t, c, "e", nil)
		tell(t, c, "e", nil)
		synctest.Wait()
		end()
		err = c.Close(context.Background())
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "events cancelled: 1, handlers abandoned: 1")
	})
}

// TestBusClose delivers what waits, everywhere, and leaves no goroutine.
func TestBusClose(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			g := closedGate(t)
			d := &diary{}
			for n := range 5 {
				listen(t, joinBus(t, bus, fmt.Sprint("plugin", n)), "e", g.then(d.write), options...)
			}
			emitter := joinBus(t, bus, "emitter")
			synctest.Wait()
			for range 4 {
				tell(t, emitter, "e", nil)
			}
			bus.CloseIntake()
			_, err := emitter.Emit(t.Context(), "e", nil)
			require.ErrorIs(t, err, events.ErrClosed)
			closed := make(chan error)
			go func() { closed <- bus.Close(context.Background()) }()
			pass(time.Minute)
			g.open()
			require.NoError(t, <-closed)
			require.Len(t, d.read(), 20, "kind %d", i)
			require.NoError(t, bus.Close(context.Background()))

			for what, call := range map[string]func() error{
				"Client":    func() error { _, err := bus.Client("new", events.ClientOptions{}); return err },
				"Emit":      func() error { _, err := emitter.Emit(t.Context(), "e", nil); return err },
				"Emit, bad": func() error { _, err := emitter.Emit(t.Context(), "a..b", nil); return err },
				"Wait": func() error {
					_, err := emitter.Emit(t.Context(), "e", nil, events.WaitForRoom())
					return err
				},
				"Broadcast": func() error {
					_, err := emitter.Broadcast(t.Context(), "e", nil, events.Audience{})
					return err
				},
				"Subscribe": func() error { _, err := emitter.Subscribe("e", nothing); return err },
				"Receive":   func() error { _, err := emitter.Receive(nothing); return err },
				"Replay": func() error {
					for _, err := range emitter.Replay(t.Context(), "**", events.All()) {
						return err
					}
					return nil
				},
			} {
				require.ErrorIs(t, call(), plugbus.ErrClosed, what)
			}
			require.Zero(t, bus.Ledger().Refused, "what comes too late is not offered")
		})
	}
}

// TestBusCloseInTime cuts short what takes too long.
func TestBusCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		g := closedGate(t)
		d := &diary{}
		listen(t, joinBus(t, bus, "hung"), "e", g.then(nil))
		listen(t, joinBus(t, bus, "lively"), "e", d.write)
		emitter := joinBus(t, bus, "emitter")
		for range 3 {
			tell(t, emitter, "e", nil)
		}
		limited, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, bus.Close(limited), context.DeadlineExceeded)
		require.Len(t, d.read(), 3)
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.EqualValues(t, 1, l.Abandoned)
		require.EqualValues(t, 2, l.Cancelled)
		require.Len(t, bus.Leaks(), 1)
	})
}

// TestIdle waits for what waits and runs, and not for what was abandoned.
func TestIdle(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c := joinBus(t, bus, "plugin")
			g := closedGate(t)
			listen(t, c, "e", func(context.Context, events.Event) error {
				<-time.After(time.Second)
				return nil
			}, options...)
			listen(t, c, "hang", g.then(nil), events.Timeout(time.Hour), events.Concurrent(2))
			require.NoError(t, bus.Idle(t.Context()))
			tell(t, c, "e", nil)
			limited, stop := context.WithTimeout(t.Context(), time.Second/2)
			defer stop()
			require.ErrorIs(t, bus.Idle(limited), context.DeadlineExceeded)
			start := time.Now()
			require.NoError(t, bus.Idle(t.Context()))
			require.Equal(t, time.Second/2, time.Since(start))

			tell(t, c, "hang", nil)
			start = time.Now()
			require.NoError(t, bus.Idle(t.Context()))
			require.Equal(t, time.Hour, time.Since(start), "an abandoned handler does not count")
		})
	}
}

// TestE10SlowHandlersAreNamed tells the host of a handler that runs long, once,
// also when other calls beside it are short.
func TestE10SlowHandlersAreNamed(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var slow []events.Slow
			var heard time.Time
			bus := openBus(t, events.Options{SlowAfter: time.Second, OnSlow: func(s events.Slow) {
				mu.Lock()
				defer mu.Unlock()
				slow = append(slow, s)
				heard = time.Now()
			}})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			g := closedGate(t)
			s := listen(t, c, "**", func(_ context.Context, e events.Event) error {
				if e.Name() == "hang" {
					g.pass()
				}
				return nil
			}, options...)
			begin := time.Now()
			tell(t, emitter, "hang", nil)
			for range 50 {
				pass(100 * time.Millisecond)
				tell(t, emitter, "e", nil)
			}
			synctest.Wait()
			require.Len(t, slow, 1, "kind %d", i)
			require.Equal(t, events.Slow{Plugin: "plugin", Pattern: "**", Site: s.Stats().Site, For: time.Second}, slow[0])
			require.GreaterOrEqual(t, heard.Sub(begin), time.Second)
			require.Less(t, heard.Sub(begin), 2*time.Second+1)
			require.NoError(t, bus.Ledger().Check())
		})
	}
}

// TestWorkersEnd shows that a bus at rest has no goroutine: the bubble would not
// end without Close if it had.
func TestWorkersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := events.New(events.Options{})
		require.NoError(t, err)
		for i, options := range kinds {
			listen(t, joinBus(t, bus, fmt.Sprint("plugin", i)), "e", nothing, options...)
		}
		tell(t, joinBus(t, bus, "emitter"), "e", nil)
		synctest.Wait()
		require.EqualValues(t, len(kinds), bus.Ledger().Handled)
		pass(40 * time.Millisecond)
	})
}
