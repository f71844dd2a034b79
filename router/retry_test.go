package router_test

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
	"github.com/plugbus/plugbus/router"
)

// exact waits 1 s, 2 s, 4 s and so on.
var exact = router.RetryOptions{Attempts: 5, Base: time.Second, Max: time.Minute, Jitter: -1}

// TestRetryWhat shows which errors are worth another try: those that say so.
func TestRetryWhat(t *testing.T) {
	for _, test := range []struct {
		err   error // of the handler
		tries int
	}{
		{nil, 1},
		{errors.New("no"), 1},
		{&plugbus.RemoteError{Code: plugbus.CodeUnavailable}, 1},
		{&plugbus.RemoteError{Code: plugbus.CodeUnavailable, Retryable: true}, 5},
		{&plugbus.RemoteError{Code: plugbus.CodeInvalid, Retryable: true}, 5},
		{fmt.Errorf("later: %w", &plugbus.RemoteError{Code: plugbus.CodeInvalid, Retryable: true}), 5},
		{router.ErrQueueFull, 5},
		{&plugbus.DeniedError{RetryAfter: time.Second}, 5},
		{&plugbus.DeniedError{}, 1},
		{plugbus.ErrInvalid, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			b, c := join(t, r, "b"), join(t, r, "a")
			ids := map[plugbus.ID]bool{}
			handle(t, b, "do", func(_ context.Context, m router.Message) (any, error) {
				ids[m.ID()] = true
				return nil, test.err
			})
			use(t, r, "retry", router.Retry(exact))
			start := time.Now()
			_, err := c.Send(t.Context(), "b", "do", nil)
			require.Equal(t, test.err == nil, err == nil)
			require.Len(t, ids, test.tries, "each try is a new message: %v", test.err)
			require.Equal(t, time.Duration(1<<(test.tries-1)-1)*time.Second, time.Since(start))
			if test.tries > 1 {
				require.ErrorContains(t, err, "after 5 tries: ")
				require.Equal(t, "b", remote(t, err).Plugin)
			}
		})
	}
}

// TestRetryNot shows what is not tried again, whatever the error matches: what
// could never be accepted, and an accepted message whose handler may have started.
func TestRetryNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		b, c := join(t, r, "b"), join(t, r, "a", law.guard("a"))
		var calls atomic.Int64 // Of handlers that are abandoned, too.
		hang := func(ctx context.Context, _ router.Message) (any, error) {
			calls.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		handle(t, b, "slow", hang, router.Timeout(time.Second))
		handle(t, b, "hang", hang)
		handle(t, b, "panic", func(context.Context, router.Message) (any, error) {
			calls.Add(1)
			panic("boom")
		})
		law.deny(plugbus.VerbSend, "vault")
		use(t, r, "retry", router.Retry(exact))
		offered := uint64(0)
		for _, test := range []struct {
			to, typ string
			calls   int64
			takes   time.Duration
		}{
			{"b", "slow", 1, time.Second},
			{"b", "hang", 1, 30 * time.Second},
			{"b", "panic", 1, 0},
			{"b", "nothing", 0, 0},
			{"nobody", "slow", 0, 0},
			{"vault", "slow", 0, 0},
			{"a b", "slow", 0, 0},
		} {
			start := time.Now()
			calls.Store(0)
			_, err := c.Send(t.Context(), test.to, test.typ, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "tries")
			require.Equal(t, test.calls, calls.Load(), "%v", err)
			require.Equal(t, test.takes, time.Since(start), "%v", err)
			offered++
			require.Equal(t, offered, r.Ledger().Offered, "%v", err)
		}
	})
}

// A fullContext ends with an error that only the router should have.
type fullContext struct{ context.Context } //nolint:containedctx // It is one.

func (c fullContext) Err() error {
	if c.Context.Err() != nil {
		return router.ErrQueueFull
	}
	return nil
}

// TestRetryNotAccepted shows that a message which was accepted is not tried again,
// whatever the sender's context says why it ended.
func TestRetryNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		handle(t, b, "do", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			return nil, nil
		})
		use(t, r, "retry", router.Retry(exact))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Send(fullContext{ctx}, "b", "do", nil)
		require.ErrorIs(t, err, router.ErrQueueFull)
		require.True(t, undelivered(t, err).Started)
		require.NotContains(t, err.Error(), "tries")
		require.NoError(t, r.Idle(t.Context()))
	})
}

// TestRetryFull waits for room in a mailbox by trying again, for all kinds that go
// to one plugin. Each try passes the door, and is charged.
func TestRetryFull(t *testing.T) {
	for _, kind := range kinds[:3] {
		synctest.Test(t, func(t *testing.T) {
			r, law := newRouter(t, router.Options{MailboxMessages: 1}), newRules()
			acts := newMeter(100, 0)
			law.change(func() { law.acts = acts })
			b, c := join(t, r, "clerk"), join(t, r, "a", law.guard("a"))
			g, got := closedGate(t), &diary{}
			handle(t, b, "do", g.then(got.write))
			_, err := b.HandleStream("do.it", func(ctx context.Context, m router.Message, _ func(any) bool) error {
				_, err := g.then(got.write)(ctx, m)
				return err
			})
			require.NoError(t, err)
			for range 2 { // One runs, and one waits.
				post(t, c, "clerk", "do", "first")
				synctest.Wait()
			}
			use(t, r, "retry", router.Retry(exact))
			acts.left.Store(100)
			var wg sync.WaitGroup
			wg.Go(func() {
				pass(6 * time.Second)
				g.open()
			})
			start := time.Now()
			_, err = act(t.Context(), c, kind)
			require.NoError(t, err)
			require.Equal(t, 7*time.Second, time.Since(start), "after 1 s, 2 s and 4 s")
			require.EqualValues(t, 96, acts.left.Load())
			require.NoError(t, r.Idle(t.Context()))
			require.Len(t, got.read(), 3)
			l := r.Ledger()
			require.EqualValues(t, 3, l.Full)
			require.EqualValues(t, 3, l.Handled)
			wg.Wait()
		})
	}
}

// TestRetryAfter shows that a refusal for a rate is tried again after the time that
// it names and no sooner, and not at all if that is too late.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		after time.Duration // of the meter
		limit time.Duration // of the context; 0 for none
		tries int64
		takes time.Duration
		says  string
	}{
		{time.Nanosecond, 0, 3, 3 * time.Second, "after 3 tries: "},
		{1500 * time.Millisecond, 0, 3, 3500 * time.Millisecond, "after 3 tries: "},
		{10 * time.Second, 0, 3, 20 * time.Second, "after 3 tries: "},
		{10 * time.Second, 15 * time.Second, 2, 10 * time.Second, "after 2 tries, and with no time for another: "},
		{29 * time.Second, 0, 2, 29 * time.Second, "after 2 tries, and with no time for another: "},
		{30 * time.Second, 0, 1, 0, "after 1 tries, and with no time for another: "},
		{30 * time.Second, time.Hour, 3, time.Minute, "after 3 tries: "},
		{0, 0, 1, 0, ""},
	} {
		for _, kind := range kinds {
			if kind != router.KindSend && test.limit == 0 && test.after == 29*time.Second {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				r, law := newRouter(t, router.Options{}), newRules()
				_, c := clerk(t, r), join(t, r, "a", law.guard("a"))
				law.change(func() { law.acts = newMeter(0, test.after) })
				if test.after == 0 {
					law.change(func() { law.acts = newMeter(0, -1) })
				}
				use(t, r, "retry", router.Retry(router.RetryOptions{Base: time.Second, Jitter: -1}))
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if test.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.limit)
				}
				defer cancel()
				start := time.Now()
				_, err := act(ctx, c, kind)
				require.ErrorContains(t, err, test.says, "%+v", test)
				require.Equal(t, plugbus.ReasonRateLimitExceeded, denial(t, err).Reason)
				require.Equal(t, test.takes, time.Since(start), "%+v %v", test, kind)
				require.EqualValues(t, test.tries, r.Ledger().Refused, "%+v", test)
			})
		}
	}
}

// TestRetryHonoursItsContext shows that the wait between two tries ends with the
// context and with the sender.
func TestRetryHonoursItsContext(t *testing.T) {
	for _, test := range []struct {
		end  func(cancel context.CancelFunc, c *router.Client)
		want error
	}{
		{func(cancel context.CancelFunc, _ *router.Client) { cancel() }, context.Canceled},
		{func(_ context.CancelFunc, c *router.Client) { _ = c.Close(context.Background()) }, router.ErrClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			join(t, r, "b")
			c := join(t, r, "a", law.guard("a"))
			law.change(func() { law.acts = newMeter(0, time.Second) })
			use(t, r, "retry", router.Retry(exact))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				pass(1500 * time.Millisecond)
				test.end(cancel, c)
			})
			start := time.Now()
			_, err := c.Send(ctx, "b", "do", nil)
			require.ErrorIs(t, err, test.want)
			require.ErrorIs(t, err, plugbus.ErrDenied, "why it was tried again is not lost")
			require.Equal(t, 1500*time.Millisecond, time.Since(start))
			wg.Wait()
			cancel()
		})
	}
}

// TestRetryTotal shows that all tries together have the time of one, and that a
// handler which took all of it is to blame as without a Retry.
func TestRetryTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []router.Failure
		r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
		b, c := join(t, r, "b"), join(t, r, "a")
		calls := 0
		handle(t, b, "do", func(ctx context.Context, _ router.Message) (any, error) {
			if calls++; calls < 4 {
				return nil, &plugbus.RemoteError{Code: plugbus.CodeUnavailable, Retryable: true}
			}
			limit, _ := ctx.Deadline()
			require.Equal(t, 23*time.Second, time.Until(limit))
			<-ctx.Done()
			return nil, ctx.Err()
		})
		use(t, r, "retry", router.Retry(exact))
		start := time.Now()
		_, err := c.Send(t.Context(), "b", "do", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, undelivered(t, err).Started)
		require.Equal(t, 30*time.Second, time.Since(start))
		require.NoError(t, r.Idle(t.Context()))
		last := failures[len(failures)-1]
		require.Equal(t, plugbus.Abandoned, last.Outcome)
		require.False(t, last.Blameless, "nobody but the router chose the deadline")
	})
}

// TestRetryTimeout shows that the time of one is also that which the sender chose.
func TestRetryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		handle(t, b, "do", func(context.Context, router.Message) (any, error) {
			return nil, &plugbus.RemoteError{Retryable: true}
		})
		use(t, r, "retry", router.Retry(exact))
		start := time.Now()
		_, err := c.Send(t.Context(), "b", "do", nil, router.Timeout(10*time.Second))
		require.ErrorContains(t, err, "after 4 tries, and with no time for another: ")
		require.Equal(t, 7*time.Second, time.Since(start))
	})
}

// TestRetryOnePublication tries again for one recipient that is full.
func TestRetryOnePublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 1})
		c := join(t, r, "a")
		g, got := closedGate(t), &diary{}
		for _, id := range []string{"b", "c"} {
			_, err := join(t, r, id).HandleTopic("news", func(ctx context.Context, m router.Message) error {
				_, err := g.then(got.write)(ctx, m)
				return err
			})
			require.NoError(t, err)
		}
		for range 2 {
			_, err := c.Publish(t.Context(), "news", "first")
			require.NoError(t, err)
			synctest.Wait()
		}
		use(t, r, "retry", router.Retry(exact), router.ForTarget("c"))
		var wg sync.WaitGroup
		wg.Go(func() {
			pass(2 * time.Second)
			g.open()
		})
		receipt, err := c.Publish(t.Context(), "news", "second")
		require.NoError(t, err)
		require.Equal(t, router.Receipt{ID: receipt.ID, Matched: 2, Accepted: 1, Full: []string{"b"}}, receipt)
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 3, r.Ledger().Full)
		wg.Wait()
	})
}

// TestRetryKeepsTheDraft shows that what later middleware does to one try is not
// in the next.
func TestRetryKeepsTheDraft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		got := &diary{}
		handle(t, b, "do", func(ctx context.Context, m router.Message) (any, error) {
			_, _ = got.write(ctx, m)
			return nil, &plugbus.RemoteError{Retryable: true}
		})
		use(t, r, "retry", router.Retry(exact))
		use(t, r, "wrap", rewrite(func(d *router.Draft) {
			d.Data = "(" + d.Data.(string) + ")"
			require.NotContains(t, d.Headers, "wrapped")
			d.Headers["wrapped"] = "yes"
		}))
		_, err := c.Send(t.Context(), "b", "do", "x", router.Headers(map[string]string{"k": "v"}))
		require.Error(t, err)
		require.Equal(t, []any{"(x)", "(x)", "(x)", "(x)", "(x)"}, got.data())
	})
}

// TestRetryOptions shows the defaults, the bounds and the jitter.
func TestRetryOptions(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		o        router.RetryOptions
		tries    uint64
		min, max time.Duration // of all waits
	}{
		{router.RetryOptions{}, 3, 75 * ms, 150 * ms},
		{router.RetryOptions{Jitter: -1}, 3, 150 * ms, 150 * ms},
		{router.RetryOptions{Jitter: 9}, 3, 0, 150 * ms},
		{router.RetryOptions{Attempts: -3}, 1, 0, 0},
		{router.RetryOptions{Attempts: 10, Jitter: -1}, 10, 16350 * ms, 16350 * ms}, // 50 … 3200, 5000, 5000
		{router.RetryOptions{Attempts: 1000, Base: ms, Max: 4 * ms, Jitter: -1}, 100, 391 * ms, 391 * ms},
		{router.RetryOptions{Base: -1, Max: -1, Jitter: -1}, 3, 2, 2},
		{router.RetryOptions{Base: 10 * ms, Max: ms, Jitter: -1}, 3, 20 * ms, 20 * ms},
		{router.RetryOptions{Base: time.Duration(1) << 62, Max: 1<<63 - 1, Jitter: -1}, 1, 0, 0},
	} {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				r, law := newRouter(t, router.Options{}), newRules()
				join(t, r, "b")
				c := join(t, r, "a", law.guard("a"))
				law.change(func() { law.acts = newMeter(0, 1) })
				use(t, r, "retry", router.Retry(test.o))
				start := time.Now()
				require.ErrorIs(t, c.Post(t.Context(), "b", "do", nil), plugbus.ErrDenied)
				require.Equal(t, test.tries, r.Ledger().Refused, "%+v", test.o)
				took := time.Since(start)
				require.GreaterOrEqual(t, took, test.min, "%+v", test.o)
				require.LessOrEqual(t, took, test.max, "%+v", test.o)
			})
		}
	}
	waits := map[time.Duration]bool{}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			join(t, r, "b")
			c := join(t, r, "a", law.guard("a"))
			law.change(func() { law.acts = newMeter(0, 1) })
			use(t, r, "retry", router.Retry(router.RetryOptions{}))
			start := time.Now()
			require.Error(t, c.Post(t.Context(), "b", "do", nil))
			waits[time.Since(start)] = true
		})
	}
	require.Greater(t, len(waits), 15, "senders that failed together do not try again together")
}

// TestTimeLimit bounds a message, and never extends its time.
func TestTimeLimit(t *testing.T) {
	for _, test := range []struct{ limit, ctx, want time.Duration }{
		{time.Second, 0, time.Second},
		{time.Second, 500 * time.Millisecond, 500 * time.Millisecond},
		{time.Second, time.Hour, time.Second},
		{time.Minute, 0, 30 * time.Second},
		{time.Minute, 2 * time.Minute, time.Minute},
		{0, 0, 0},
		{-1, 0, 0},
	} {
		for _, kind := range kinds[:3] {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{MailboxMessages: 1, StreamIdle: time.Hour, WaitLimit: time.Hour})
				b, c := join(t, r, "clerk"), join(t, r, "a")
				g := closedGate(t)
				handle(t, b, "do", g.then(echo), router.Concurrent(2))
				_, err := b.HandleStream("do.it", func(ctx context.Context, _ router.Message, _ func(any) bool) error {
					<-ctx.Done()
					return ctx.Err()
				})
				require.NoError(t, err)
				if kind == router.KindPost {
					for range 3 {
						post(t, c, "clerk", "do", nil)
					}
				}
				use(t, r, "limit", router.TimeLimit(test.limit))
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if test.ctx > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.ctx)
				}
				defer cancel()
				start := time.Now()
				if kind == router.KindPost {
					err = c.Post(ctx, "clerk", "do", nil, router.WaitForRoom())
				} else {
					_, err = act(ctx, c, kind)
				}
				require.ErrorIs(t, err, context.DeadlineExceeded, "%+v %v", test, kind)
				if test.ctx == 0 && kind != router.KindSend { // Which alone has a default.
					test.want = max(test.limit, 0)
				}
				require.Equal(t, test.want, time.Since(start), "%+v %v", test, kind)
				g.open()
				require.NoError(t, r.Idle(t.Context()))
			})
		}
	}
}
