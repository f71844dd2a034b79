package router_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestRouterClose closes a router that has work: that is done, and then every
// call says that the router is closed.
func TestRouterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		got := &diary{}
		handle(t, b, "slow", func(ctx context.Context, m router.Message) (any, error) {
			<-time.After(time.Second)
			return got.write(ctx, m)
		})
		for n := range 3 {
			post(t, a, "b", "slow", n)
		}
		start := time.Now()
		require.NoError(t, r.Close(t.Context()))
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, []any{0, 1, 2}, got.data())
		requireEnded(t, a)
		requireEnded(t, b)
		require.NoError(t, r.Close(t.Context()))
		require.Empty(t, r.Stats().Mailboxes)
		require.Equal(t, plugbus.Ledger{Offered: 3, Accepted: 3, Handled: 3}, r.Ledger(), "the figures stay")
	})
}

// TestRouterCloseInTime closes a router whose handlers do not return.
func TestRouterCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
		g := closedGate(t)
		for _, client := range []*router.Client{b, c} {
			handle(t, client, "hang", g.then(echo))
			post(t, a, client.ID(), "hang", nil)
			post(t, a, client.ID(), "hang", nil)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := r.Close(ctx)
		require.Equal(t, time.Second, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, `close client "b": messages cancelled: 1, handlers abandoned: 1`)
		require.ErrorContains(t, err, `close client "c": messages cancelled: 1, handlers abandoned: 1`)
		require.Len(t, r.Leaks(), 2)
		require.NoError(t, r.Ledger().Check())
		g.open()
		synctest.Wait()
		require.Empty(t, r.Leaks())
		require.Empty(t, r.Stats().Mailboxes)
		require.Equal(t, plugbus.Ledger{Offered: 4, Accepted: 4, Abandoned: 2, Cancelled: 2}, r.Ledger())
	})
}

// TestRouterCloseHeld closes a router while a plugin is being replaced, and nobody
// settles: whoever waits for the successor hears that it has left when the time is over.
func TestRouterCloseHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
		next := joinHeld(t, r, "b")
		handle(t, next, "x", echo)
		joinHeld(t, r, "b") // Which never takes the place.
		require.NoError(t, next.Succeed(b))
		var result error
		handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, result = a.Send(ctx, "b", "x", nil)
			return nil, nil
		})
		post(t, c, "a", "ask", nil)
		synctest.Wait()
		start := time.Now()
		require.ErrorIs(t, r.Close(dead()), context.Canceled)
		synctest.Wait()
		require.ErrorIs(t, undelivered(t, result), router.ErrTargetLeft)
		require.Equal(t, start, time.Now(), "at once")
		require.EqualValues(t, 1, r.Ledger().Cancelled)
		require.True(t, b.Ended())
		require.True(t, next.Ended())
	})
}

// TestCloseIntake refuses what is new, and goes on with what there is.
func TestCloseIntake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g, got := closedGate(t), &diary{}
		handle(t, b, "note", g.then(got.write))
		post(t, a, "b", "note", 1)
		post(t, a, "b", "note", 2)
		r.CloseIntake()
		_, err := a.Send(t.Context(), "b", "note", nil)
		require.ErrorIs(t, err, router.ErrClosed)
		require.ErrorIs(t, a.Post(t.Context(), "b", "note", nil), router.ErrClosed)
		_, err = a.Publish(t.Context(), "note", nil)
		require.ErrorIs(t, err, router.ErrClosed)
		_, err = drain(t, a.Stream(t.Context(), "b", "note", nil))
		require.ErrorIs(t, err, router.ErrClosed)
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{1, 2}, got.data())
	})
}

// TestIdle waits for messages of every kind, on the worker and beside it, and
// however their handlers end.
func TestIdle(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []router.HandleOption
		end     func()
	}{
		{"worker", nil, func() {}},
		{"concurrent", []router.HandleOption{router.Concurrent(2)}, func() {}},
		{"goexit", nil, runtime.Goexit},
		{"concurrent goexit", []router.HandleOption{router.Concurrent(1)}, runtime.Goexit},
		{"panic", nil, func() { panic("oh") }},
		{"timeout", []router.HandleOption{router.Timeout(time.Second)}, func() { <-time.After(time.Minute) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				a, b := join(t, r, "a"), join(t, r, "b")
				require.NoError(t, r.Idle(dead()), "it is")
				g := closedGate(t)
				handle(t, b, "wait", func(context.Context, router.Message) (any, error) {
					g.pass()
					test.end()
					return nil, nil
				}, test.options...)
				post(t, a, "b", "wait", nil)
				post(t, a, "b", "wait", nil)
				synctest.Wait()
				if test.name != "timeout" {
					require.ErrorIs(t, r.Idle(dead()), context.Canceled)
				}
				done := make(chan error)
				go func() { done <- r.Idle(context.Background()) }()
				synctest.Wait()
				g.open()
				require.NoError(t, <-done)
				l := r.Ledger()
				require.Zero(t, l.Waiting+l.Running)
				pass(2 * time.Minute)
			})
		})
	}
}

// TestRestIsHeardOf shows that neither the router is idle nor a client has drained
// before the host has heard of what failed: so an audit log has it by then.
func TestRestIsHeardOf(t *testing.T) {
	for _, wait := range []func(r *router.Router, b *router.Client) error{
		func(r *router.Router, _ *router.Client) error { return r.Idle(context.Background()) },
		func(_ *router.Router, b *router.Client) error { return b.Drained(context.Background()) },
		func(_ *router.Router, b *router.Client) error { return b.Close(context.Background()) },
	} {
		for _, options := range [][]router.HandleOption{nil, {router.Concurrent(1)}, {router.Timeout(time.Second)}} {
			synctest.Test(t, func(t *testing.T) {
				heard := 0
				r := newRouter(t, router.Options{OnFailure: func(router.Failure) { <-time.After(time.Second); heard++ }})
				a, b := join(t, r, "a"), join(t, r, "b")
				handle(t, b, "fail", func(ctx context.Context, _ router.Message) (any, error) {
					if _, limited := ctx.Deadline(); limited {
						<-ctx.Done()
					}
					panic("on purpose")
				}, options...)
				post(t, a, "b", "fail", nil)
				require.NoError(t, wait(r, b))
				require.Equal(t, 1, heard)
				require.NoError(t, b.Close(t.Context()))
				require.True(t, b.Ended())
			})
		}
	}
}
