package router_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/router"
)

// inlined returns a sender whose messages to "to" may be handled on its stack.
func inlined(t testing.TB, r *router.Router) (*router.Client, *rules) {
	t.Helper()
	rules := newRules()
	rules.inline["to"] = true
	return join(t, r, "from", rules.guard("from")), rules
}

// onStackOf reports whether the caller runs on a stack that has the function.
func onStackOf(function string) bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		frame, more := frames.Next()
		if frame.Function == function {
			return true
		}
		if !more {
			return false
		}
	}
}

// TestInlineOnlyWherePermitted shows whose handlers run on the sender's stack:
// those that the permit names, for a request, if the plugin has nothing else to do,
// and whose handler is not concurrent.
func TestInlineOnlyWherePermitted(t *testing.T) {
	for _, test := range []struct {
		typ    string
		permit bool
		kind   router.Kind
		busy   bool
		want   bool
	}{
		{"where", true, router.KindSend, false, true},
		{"where", false, router.KindSend, false, false},
		{"where", true, router.KindPost, false, false},
		{"flow", true, router.KindStream, false, false},
		{"beside", true, router.KindSend, false, false},
		{"where", true, router.KindSend, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			from, rules := inlined(t, r)
			rules.inline["to"] = test.permit
			to := join(t, r, "to")
			got := false
			where := func(context.Context, router.Message) (any, error) { //nolint:unparam // It is a handler.
				got = onStackOf("github.com/plugbus/plugbus/router.(*Client).Send")
				return nil, nil
			}
			handle(t, to, "where", where)
			handle(t, to, "beside", where, router.Concurrent(1))
			_, err := to.HandleStream("flow", func(ctx context.Context, m router.Message, _ func(any) bool) error {
				_, err := where(ctx, m)
				return err
			})
			require.NoError(t, err)
			handle(t, to, "busy", func(context.Context, router.Message) (any, error) { <-time.After(time.Second); return nil, nil })
			if test.busy {
				post(t, from, "to", "busy", nil)
			}
			switch test.kind {
			case router.KindPost:
				post(t, from, "to", test.typ, nil)
			case router.KindStream:
				for _, err := range from.Stream(t.Context(), "to", test.typ, nil) {
					require.NoError(t, err)
				}
			default:
				_, err := from.Send(t.Context(), "to", test.typ, nil)
				require.NoError(t, err)
			}
			synctest.Wait()
			require.Equal(t, test.want, got, "%+v", test)
		})
	}
}

// TestInlineIsOneAtATime shows that a handler on its sender's stack, those on the
// worker, and those of another source of the plugin exclude each other, and that
// nothing is forgotten.
func TestInlineIsOneAtATime(t *testing.T) {
	group := actor.NewGroup()
	r := newRouter(t, router.Options{Actors: group, MailboxMessages: 1 << 16})
	shared := group.New()
	other := newSource(shared)
	other.jobs = make(chan func(), 1<<16)
	to, err := r.Client("to", router.ClientOptions{Actor: shared})
	require.NoError(t, err)
	var inside atomic.Int32
	count := 0 // What being one at a time guards; the race detector looks.
	work := func() {
		if inside.Add(1) != 1 {
			t.Error("two at a time")
		}
		count++
		inside.Add(-1)
	}
	handle(t, to, "work", func(context.Context, router.Message) (any, error) {
		work()
		return nil, nil
	})
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	rules := newRules()
	rules.inline["to"] = true
	var all sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		from := join(t, r, id, rules.guard(id))
		all.Go(func() {
			for i := range rounds {
				if i%8 == 0 {
					if err := from.Post(t.Context(), "to", "work", nil); err != nil {
						t.Error(err)
					}
					continue
				}
				if _, err := from.Send(t.Context(), "to", "work", nil); err != nil {
					t.Error(err)
				}
				if i%64 == 0 {
					<-time.After(time.Microsecond)
				}
			}
		})
	}
	all.Go(func() {
		for range rounds {
			other.do(chain.Chain{}.Then("emitter"), func(context.Context) { work() })
			runtime.Gosched()
		}
	})
	all.Wait()
	require.NoError(t, r.Close(t.Context()))
	shared.Retire()
	require.NoError(t, group.Close(t.Context()))
	require.Equal(t, 3*rounds, count)
	require.Zero(t, group.Live())
}

// TestInlineHoldsTheWorker shows that while a handler runs on its sender's stack
// everything else of the plugin waits, and comes after it.
func TestInlineHoldsTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := actor.NewGroup()
		r := newRouter(t, router.Options{Actors: group})
		shared := group.New()
		other := newSource(shared)
		to, err := r.Client("to", router.ClientOptions{Actor: shared})
		require.NoError(t, err)
		from, rules := inlined(t, r)
		second := join(t, r, "second", rules.guard("second"))
		d, g := &diary{}, closedGate(t)
		handle(t, to, "hold", g.then(d.write))
		handle(t, to, "note", d.write)
		var all sync.WaitGroup
		send := func(c *router.Client, typ string) {
			all.Go(func() {
				if _, err := c.Send(t.Context(), "to", typ, typ); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		send(from, "hold")
		worked := false
		other.do(chain.Chain{}.Then("emitter"), func(context.Context) { worked = true })
		send(second, "note")
		require.False(t, worked)
		require.Empty(t, d.read())
		g.open()
		all.Wait()
		synctest.Wait()
		require.True(t, worked)
		require.Equal(t, []any{"hold", "note"}, d.data())
		require.NoError(t, r.Close(t.Context()))
		shared.Retire()
		require.NoError(t, group.Close(t.Context()))
	})
}

// TestInlineKeepsOrder shows that a message is not handled on the sender's stack
// before those that it sent earlier (R6).
func TestInlineKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, _ := inlined(t, r)
		d := &diary{}
		handle(t, join(t, r, "to"), "note", d.write)
		for i := range 300 {
			if i%3 != 0 {
				post(t, from, "to", "note", i)
				continue
			}
			_, err := from.Send(t.Context(), "to", "note", i)
			require.NoError(t, err)
		}
		synctest.Wait()
		for i, data := range d.data() {
			require.Equal(t, i, data)
		}
	})
}

// TestInlineFailures shows that a failure on the sender's stack is what it is on
// the worker. Only a Goexit takes the sender's goroutine, whose stack it is.
func TestInlineFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []router.Failure
		r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
		from, _ := inlined(t, r)
		to := join(t, r, "to")
		handle(t, to, "panic", func(context.Context, router.Message) (any, error) { panic("oops") })
		handle(t, to, "fail", func(context.Context, router.Message) (any, error) { return nil, errors.New("no") })
		handle(t, to, "hostile", func(context.Context, router.Message) (any, error) {
			return nil, &hostile{text: func() { panic("oops") }}
		})
		handle(t, to, "exit", func(context.Context, router.Message) (any, error) { runtime.Goexit(); return nil, nil })
		handle(t, to, "note", echo)
		for typ, want := range map[string]string{"panic": "the handler panicked", "fail": "no", "hostile": "an error of type *router_test.hostile that cannot be read"} {
			_, err := from.Send(t.Context(), "to", typ, nil)
			require.Equal(t, want, remote(t, err).Message)
		}
		exited := true
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = from.Send(t.Context(), "to", "exit", nil)
			exited = false
		}()
		<-done
		require.True(t, exited)
		require.Len(t, failures, 4)
		require.Equal(t, router.ErrGoexit, failures[3].Err)
		reply, err := from.Send(t.Context(), "to", "note", 7)
		require.NoError(t, err)
		require.Equal(t, 7, reply.Data())
		require.Equal(t, plugbus.Ledger{Offered: 5, Accepted: 5, Handled: 1, Failed: 4}, r.Ledger())
	})
}

// TestInlineContext shows that the context of a handler on its sender's stack ends
// with the sender's, at its deadline, and with its own session, to those who wait
// for Done and to those who only look at Err; and that its result is the outcome.
func TestInlineContext(t *testing.T) {
	for _, test := range []struct {
		name  string
		end   func(cancel context.CancelFunc, to *router.Client)
		after time.Duration
		want  error
	}{
		{"caller", func(cancel context.CancelFunc, _ *router.Client) { cancel() }, time.Second, context.Canceled},
		{"deadline", func(context.CancelFunc, *router.Client) {}, time.Minute, context.DeadlineExceeded},
		{"fenced", func(_ context.CancelFunc, to *router.Client) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = to.Close(ctx)
		}, time.Second, context.Canceled},
	} {
		for _, polls := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				from, _ := inlined(t, r)
				to := join(t, r, "to")
				start := time.Now()
				var seen error
				handle(t, to, "wait", func(ctx context.Context, _ router.Message) (any, error) {
					if !polls {
						<-ctx.Done()
					}
					for ctx.Err() == nil {
						<-time.After(time.Second)
					}
					select {
					case <-ctx.Done():
					default:
						t.Error("Err says what Done does not")
					}
					seen = ctx.Err()
					return "done", nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					<-time.After(time.Second - time.Millisecond)
					test.end(cancel, to)
				}()
				reply, err := from.Send(ctx, "to", "wait", nil, router.Timeout(time.Minute))
				require.Equal(t, test.want, seen, test.name)
				if test.name == "fenced" {
					require.ErrorIs(t, err, router.ErrTargetLeft)
				} else {
					require.NoError(t, err, test.name)
					require.Equal(t, "done", reply.Data())
				}
				require.LessOrEqual(t, time.Since(start), test.after)
				synctest.Wait()
			})
		}
	}
}

// TestInlineForeignContext shows that the context of a handler on its sender's
// stack obeys the contract of package context even if the sender's does not.
func TestInlineForeignContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, _ := inlined(t, r)
		var seen error
		handle(t, join(t, r, "to"), "wait", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			seen = ctx.Err()
			return nil, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := from.Send(fullContext{ctx}, "to", "wait", nil)
		require.NoError(t, err)
		require.Equal(t, context.Canceled, seen)
	})
}

// TestInlineTimeout abandons a handler on its sender's stack at its own time,
// though the sender hears of it only when the handler returns.
func TestInlineTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, _ := inlined(t, r)
		handle(t, join(t, r, "to"), "hang", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			require.Equal(t, context.DeadlineExceeded, ctx.Err())
			require.Len(t, r.Leaks(), 1)
			<-time.After(time.Second)
			return nil, nil
		}, router.Timeout(time.Second))
		start := time.Now()
		_, err := from.Send(t.Context(), "to", "hang", nil)
		require.ErrorIs(t, err, router.ErrTimedOut)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, plugbus.Ledger{Offered: 1, Accepted: 1, Abandoned: 1}, r.Ledger())
	})
}

// TestInlineIsWatched shows that those who wait for an idle router and those who
// hear of slow handlers learn of handlers on their senders' stacks.
func TestInlineIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow []router.Slow
		r := newRouter(t, router.Options{SlowAfter: time.Second, OnSlow: func(s router.Slow) { slow = append(slow, s) }})
		from, _ := inlined(t, r)
		handle(t, join(t, r, "to"), "slow", func(context.Context, router.Message) (any, error) { <-time.After(10 * time.Second); return nil, nil })
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := from.Send(t.Context(), "to", "slow", nil)
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, 10*time.Second, time.Since(start))
		<-done
		synctest.Wait()
		require.Len(t, slow, 1)
		require.Equal(t, []string{"to", "slow"}, []string{slow[0].Plugin, slow[0].Type})
	})
}

// TestInlineNested passes a request on, on one stack, and finds circles there too.
func TestInlineNested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		rules := newRules()
		rules.inline["a"], rules.inline["b"] = true, true
		a, b := join(t, r, "a", rules.guard("a")), join(t, r, "b", rules.guard("b"))
		from := join(t, r, "from", rules.guard("from"))
		var circle, end error
		handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := a.Send(ctx, "b", "ask", nil)
			return nil, err
		})
		handle(t, b, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, circle = b.Send(ctx, "a", "ask", nil)
			<-ctx.Done()
			end = ctx.Err()
			return nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = from.Send(ctx, "a", "ask", nil)
		require.Equal(t, plugbus.ReasonCycle, denial(t, circle).Reason)
		require.Equal(t, context.DeadlineExceeded, end)
		require.NoError(t, r.Ledger().Check())
	})
}

// TestInlineLeaving sends to a plugin that is leaving.
func TestInlineLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, _ := inlined(t, r)
		to := join(t, r, "to")
		handle(t, to, "note", echo)
		_, err := from.Send(t.Context(), "to", "note", nil)
		require.NoError(t, err)
		to.BeginDrain()
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.ErrorIs(t, err, router.ErrUnknownTarget)
		require.NoError(t, to.Close(t.Context()))
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.ErrorIs(t, err, router.ErrUnknownTarget)
	})
}
