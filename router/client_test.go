package router_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// dead returns a context that has ended.
func dead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// requireEnded demands that every method of a client says that it has left.
func requireEnded(t testing.TB, c *router.Client) {
	t.Helper()
	_, err := c.Send(t.Context(), "b", "x", nil)
	require.ErrorIs(t, err, router.ErrClosed)
	require.ErrorIs(t, err, plugbus.ErrClosed)
	require.ErrorIs(t, c.Post(t.Context(), "b", "x", nil), router.ErrClosed)
	_, err = c.Publish(t.Context(), "x", nil)
	require.ErrorIs(t, err, router.ErrClosed)
	_, err = drain(t, c.Stream(t.Context(), "b", "x", nil))
	require.ErrorIs(t, err, router.ErrClosed)
	for _, set := range setters(c) {
		_, err = set("x")
		require.ErrorIs(t, err, router.ErrClosed)
	}
	require.NoError(t, c.Close(t.Context()), "again")
	require.NoError(t, c.Drained(t.Context()))
	require.Error(t, c.Succeed(nil))
	c.Settle()
}

func TestClientErrors(t *testing.T) {
	r := newRouter(t, router.Options{})
	for _, id := range []string{"", "a b", "ä", "a.b"} {
		_, err := r.Client(id, router.ClientOptions{})
		require.ErrorIs(t, err, plugbus.ErrInvalid, "%q", id)
	}
	a := join(t, r, "a")
	require.Equal(t, "a", a.ID())
	_, err := r.Client("a", router.ClientOptions{})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.NoError(t, a.Close(t.Context()))
	join(t, r, "a")
	require.NoError(t, r.Close(t.Context()))
	_, err = r.Client("b", router.ClientOptions{})
	require.ErrorIs(t, err, router.ErrClosed)
}

// TestBeginDrain shows that a client that drains takes nothing new, handles what
// it has, and still sends.
func TestBeginDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g, got := closedGate(t), &diary{}
		handle(t, a, "echo", echo)
		handle(t, b, "note", g.then(func(ctx context.Context, m router.Message) (any, error) {
			_, err := b.Send(ctx, "a", "echo", nil)
			require.NoError(t, err)
			return got.write(ctx, m)
		}))
		handleTopic(t, b, "news", got.write)
		for n := range 3 {
			post(t, a, "b", "note", n)
		}
		synctest.Wait()
		b.BeginDrain()
		require.True(t, mailboxOf(t, r, "b").Draining)
		require.ErrorIs(t, a.Post(t.Context(), "b", "note", 3), router.ErrUnknownTarget)
		require.Zero(t, publish(t, a, "news", 4).Matched)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.Drained(ctx), context.DeadlineExceeded)
		g.open()
		require.NoError(t, b.Drained(t.Context()))
		require.Equal(t, []any{0, 1, 2}, got.data())
		require.False(t, b.Ended())
		require.NoError(t, b.Close(t.Context()))
		require.True(t, b.Ended())
		require.EqualValues(t, 2, r.Ledger().Refused)
	})
}

// TestCloseWaits shows that Close returns when everything was handled, concurrent
// handlers included.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		var handled atomic.Int32
		slow := func(context.Context, router.Message) (any, error) {
			<-time.After(time.Second)
			handled.Add(1)
			return nil, nil
		}
		handle(t, b, "one", slow)
		handle(t, b, "many", slow, router.Concurrent(2))
		for range 3 {
			post(t, a, "b", "one", nil)
			post(t, a, "b", "many", nil)
		}
		start := time.Now()
		require.NoError(t, b.Close(t.Context()))
		require.EqualValues(t, 6, handled.Load())
		require.Equal(t, 3*time.Second, time.Since(start))
		requireEnded(t, b)
	})
}

// TestFence closes a client whose handlers do not return in time: those who wait
// for it hear of it at once, nothing of the client remains, and the handlers that
// still run are named.
func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []router.Failure
		r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		var ctxErr error
		route := handle(t, b, "hang", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			ctxErr = ctx.Err()
			g.pass()
			return "late", nil
		})
		handleTopic(t, b, "news", echo)
		results := make(chan error, 3)
		for range 2 {
			go func() {
				_, err := a.Send(context.Background(), "b", "hang", nil)
				results <- err
			}()
			synctest.Wait()
		}
		post(t, a, "b", "hang", "waits")
		go func() { results <- a.Post(context.Background(), "b", "hang", nil) }()
		synctest.Wait()
		require.NoError(t, <-results)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := b.Close(ctx)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		e := err.(*router.CloseError) //nolint:errorlint,forcetypeassert // Its documented type.
		require.Equal(t, router.CloseError{Client: "b", Cancelled: 3, Abandoned: 1, Err: context.DeadlineExceeded}, *e)
		states := map[plugbus.Outcome]bool{}
		for range 2 {
			e := undelivered(t, <-results)
			require.ErrorIs(t, e, router.ErrTargetLeft)
			states[e.Outcome] = e.Started
		}
		require.Equal(t, map[plugbus.Outcome]bool{plugbus.Cancelled: false, plugbus.Abandoned: true}, states)
		require.Equal(t, 5*time.Second, time.Since(start), "they heard of it at once")
		synctest.Wait()
		require.ErrorIs(t, ctxErr, context.Canceled)
		require.Equal(t, []any{"waits", nil}, payloads(r))
		require.Len(t, failures, 1)
		require.Equal(t, plugbus.Abandoned, failures[0].Outcome)
		require.ErrorIs(t, failures[0].Err, router.ErrTargetLeft)
		requireEnded(t, b)
		require.ErrorIs(t, a.Post(t.Context(), "b", "hang", nil), router.ErrUnknownTarget)
		require.Zero(t, publish(t, a, "news", nil).Matched)
		require.False(t, b.Ended())
		require.Len(t, r.Leaks(), 1)
		require.Equal(t, "b", r.Leaks()[0].Plugin)
		require.Equal(t, "hang", r.Leaks()[0].Type)
		require.Contains(t, r.Leaks()[0].Site, "_test.go:")
		require.NoError(t, r.Idle(t.Context()), "what was abandoned does not count")
		require.NoError(t, r.Ledger().Check())
		// A new client with the id has nothing to do with the old one.
		again := join(t, r, "b")
		_, err = a.Send(t.Context(), "b", "hang", nil)
		require.ErrorIs(t, err, router.ErrNoHandler)
		handle(t, again, "hang", echo)
		reply, err := a.Send(t.Context(), "b", "hang", 1)
		require.NoError(t, err)
		require.Equal(t, 1, reply.Data())
		route.Remove()
		before := r.Ledger()
		g.open()
		synctest.Wait()
		require.True(t, b.Ended())
		require.Empty(t, r.Leaks())
		require.Equal(t, before, r.Ledger(), "what the handler returned late is thrown away")
	})
}

// TestFenceEndsSends closes a client while it sends: it is released at once.
func TestFenceEndsSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 1})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		results := make(chan error, 2)
		go func() {
			_, err := a.Send(context.Background(), "b", "wait", nil)
			results <- err
		}()
		synctest.Wait()
		post(t, b, "b", "wait", nil)
		go func() { results <- a.Post(context.Background(), "b", "wait", nil, router.WaitForRoom()) }()
		synctest.Wait()
		require.NoError(t, a.Close(t.Context()))
		require.ErrorIs(t, <-results, router.ErrClosed)
		require.ErrorIs(t, <-results, router.ErrClosed)
		require.Empty(t, r.Leaks(), "the handler runs on, and its result is the outcome")
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 2, r.Ledger().Handled)
	})
}

// TestCloseFromItsHandler closes a client, or the whole router, from one of its
// own handlers, on the worker and beside it: it does not wait for itself.
func TestCloseFromItsHandler(t *testing.T) {
	for _, whole := range []bool{false, true} {
		for _, beside := range []bool{false, true} {
			t.Run(fmt.Sprint(whole, beside), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(t, router.Options{})
					a, b := join(t, r, "a"), join(t, r, "b")
					var options []router.HandleOption
					if beside {
						options = append(options, router.Concurrent(1))
					}
					var closing, after error
					handle(t, b, "close", func(ctx context.Context, _ router.Message) (any, error) {
						if whole {
							closing = r.Close(ctx)
						} else {
							closing = b.Close(ctx)
						}
						after = b.Post(context.Background(), "a", "x", nil) //nolint:contextcheck // The handler's own has ended.
						return nil, nil
					}, options...)
					start := time.Now()
					_, err := a.Send(t.Context(), "b", "close", nil)
					synctest.Wait()
					require.Equal(t, start, time.Now())
					require.NoError(t, closing)
					require.ErrorIs(t, after, router.ErrClosed)
					if !whole {
						require.ErrorIs(t, undelivered(t, err), router.ErrTargetLeft)
					} else {
						require.Error(t, err)
					}
					require.True(t, b.Ended())
					require.NoError(t, r.Ledger().Check())
				})
			})
		}
	}
}

// TestSessionEnds ends the context that the host gave: handlers' contexts end, and
// Close does not wait.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		session, end := context.WithCancel(t.Context())
		b, err := r.Client("b", router.ClientOptions{Context: session})
		require.NoError(t, err)
		a := join(t, r, "a")
		g := closedGate(t)
		var why error
		handle(t, b, "hang", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			why = ctx.Err()
			g.pass()
			return nil, nil
		})
		post(t, a, "b", "hang", nil)
		synctest.Wait()
		end()
		synctest.Wait()
		require.ErrorIs(t, why, context.Canceled)
		require.ErrorIs(t, b.Close(context.Background()), context.Canceled)
		require.Len(t, r.Leaks(), 1)
		g.open()
		synctest.Wait()
		require.True(t, b.Ended())
	})
}

// TestCancelMeetsDeadline cancels what waits at the moment at which its sender
// gives up: the sender gets an error, whichever comes first.
func TestCancelMeetsDeadline(t *testing.T) {
	for range 300 {
		r, err := router.New(router.Options{})
		require.NoError(t, err)
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		started := make(chan struct{})
		handle(t, b, "wait", func(context.Context, router.Message) (any, error) { close(started); g.pass(); return nil, nil })
		route := handle(t, b, "late", echo)
		post(t, a, "b", "wait", nil)
		<-started
		results := make(chan error, 32)
		ctx, cancel := context.WithCancel(context.Background())
		for range cap(results) {
			go func() {
				_, err := a.Send(ctx, "b", "late", nil)
				results <- err
			}()
		}
		for mailboxOf(t, r, "b").Waiting < cap(results) {
			continue
		}
		go cancel()
		route.Remove()
		for range cap(results) {
			require.Error(t, <-results)
		}
		g.open()
		require.NoError(t, r.Close(context.Background()))
		requireBalanced(t, r)
	}
}

// A nosy context looks at the router whenever it is asked something.
type nosy struct {
	context.Context //nolint:containedctx // It is a context.
	r               *router.Router
}

func (c nosy) Done() <-chan struct{} {
	_ = c.r.Stats()
	return c.Context.Done()
}

func (c nosy) Value(key any) any {
	_ = c.r.Ledger()
	return c.Context.Value(key)
}

// TestForeignContexts shows that no lock is held when a context is asked, of whatever
// type it is: that of a client, or that of an act.
func TestForeignContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		end, cancel := context.WithCancel(t.Context())
		ctx := nosy{end, r}
		rules := newRules()
		rules.inline["b"] = true
		a, err := r.Client("a", router.ClientOptions{Context: ctx, Guard: rules.guard("a")})
		require.NoError(t, err)
		_, err = r.Client("a", router.ClientOptions{Context: ctx})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		b, err := r.Client("b", router.ClientOptions{Context: ctx})
		require.NoError(t, err)
		handle(t, b, "wait", func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
		handle(t, b, "same", echo)
		_, err = a.Send(ctx, "b", "same", nil)
		require.NoError(t, err)
		for range 2 { // On the stack, and in the mailbox.
			go func() { _, _ = a.Send(ctx, "b", "wait", nil) }()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.NoError(t, r.Idle(ctx))
		require.NoError(t, b.Close(ctx))
		require.NoError(t, a.Close(ctx))
	})
}
