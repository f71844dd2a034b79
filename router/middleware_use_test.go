package router_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR3Use shows how middlewares are added, named, ordered, listed and removed.
func TestR3Use(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		got, c := clerk(t, r), join(t, r, "a")
		note := func(name string) router.Middleware {
			return rewrite(func(d *router.Draft) { d.Data = d.Data.(string) + " " + name })
		}
		use(t, r, "t1", note("t1"), router.ForTarget("clerk"))
		use(t, r, "g1", note("g1"))
		use(t, r, "other", note("other"), router.ForTarget("b"))
		use(t, r, "t2", note("t2"), router.ForTarget("clerk"))
		use(t, r, "g2", note("g2"))
		require.Equal(t, []router.MiddlewareInfo{{"t1", "clerk"}, {"g1", ""}, {"other", "b"}, {"t2", "clerk"}, {"g2", ""}}, r.Middleware())
		require.Equal(t, r.Middleware(), r.Stats().Middleware)
		for _, kind := range kinds {
			_, err := act(t.Context(), c, kind)
			require.NoError(t, err)
		}
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, slices.Repeat([]any{"data g1 g2 t1 t2"}, 4), got.data())

		require.ErrorIs(t, r.Use("g1", note("x")), plugbus.ErrInvalid)
		require.True(t, r.Unuse("g1"))
		require.False(t, r.Unuse("g1"))
		use(t, r, "g1", note("g1"))
		post(t, c, "clerk", "do", "data")
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, "data g2 g1 t1 t2", got.data()[4])
		for _, m := range r.Middleware() {
			require.True(t, r.Unuse(m.Name))
		}
		require.Empty(t, r.Middleware())
		post(t, c, "clerk", "do", "data")
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, "data", got.data()[5])
	})
}

func TestR3BadUse(t *testing.T) {
	r := newRouter(t, router.Options{})
	fine := rewrite(func(*router.Draft) {})
	for _, test := range []struct {
		name    string
		m       router.Middleware
		options []router.UseOption
		says    []string
	}{
		{"", fine, nil, []string{`use middleware ""`}},
		{"a b", fine, nil, []string{`use middleware "a b"`}},
		{"x", nil, nil, []string{`use middleware "x": it is nil`}},
		{"x", fine, []router.UseOption{nil}, []string{"option UseOption is <nil>; expected an option of package router"}},
		{"x", fine, []router.UseOption{router.ForTarget("")}, []string{`use middleware "x"`}},
		{"a..b", nil, []router.UseOption{router.ForTarget("a b"), nil}, []string{`"a..b"`, "it is nil", `"a b"`, "UseOption"}},
	} {
		err := r.Use(test.name, test.m, test.options...)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		for _, says := range test.says {
			require.ErrorContains(t, err, says, "all that is wrong at once")
		}
	}
	require.Empty(t, r.Middleware())
	for n := range 256 {
		use(t, r, fmt.Sprintf("m%d", n), fine)
	}
	require.ErrorContains(t, r.Use("more", fine), "there are 256 already")
	require.Len(t, r.Middleware(), 256)
}

// TestR3ChangeUnderWay adds and removes middleware while messages go through it: a
// message goes through those that were in use when it was sent.
func TestR3ChangeUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		got, c := clerk(t, r), join(t, r, "a")
		for _, kind := range kinds {
			wait := make(chan bool)
			use(t, r, "slow", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
				<-wait
				return next(ctx, d)
			}))
			use(t, r, "old", rewrite(func(d *router.Draft) { d.Data = "old" }), router.ForTarget("clerk"))
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := act(t.Context(), c, kind)
				require.NoError(t, err)
			})
			synctest.Wait()
			require.True(t, r.Unuse("slow"))
			require.True(t, r.Unuse("old"))
			use(t, r, "new", rewrite(func(d *router.Draft) { d.Data = "new" }), router.ForTarget("clerk"))
			close(wait)
			wg.Wait()
			require.NoError(t, r.Idle(t.Context()))
			require.True(t, r.Unuse("new"))
		}
		require.Equal(t, slices.Repeat([]any{"old"}, 4), got.data())
	})
}

// TestR3ChangeWildly changes the middlewares as fast as it can while plugins send.
func TestR3ChangeWildly(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 1_000_000})
	got, c := clerk(t, r), join(t, r, "a")
	stop := make(chan bool)
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			name := fmt.Sprintf("m%d", n)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				require.NoError(t, r.Use(name, rewrite(func(*router.Draft) {}), scopes[i%2]...))
				require.True(t, r.Unuse(name))
			}
		})
	}
	var senders sync.WaitGroup
	for _, kind := range kinds {
		senders.Go(func() {
			for range 200 {
				if _, err := act(t.Context(), c, kind); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	close(stop)
	wg.Wait()
	require.NoError(t, r.Idle(t.Context()))
	require.Len(t, got.read(), 800)
}

// TestMiddlewareAfterTheEnd shows that a client that has left hears ErrClosed,
// whatever the middleware would say.
func TestMiddlewareAfterTheEnd(t *testing.T) {
	for _, kind := range kinds {
		r := newRouter(t, router.Options{})
		_, c := clerk(t, r), join(t, r, "a")
		use(t, r, "no", through(func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			t.Error("it is called")
			return router.Response{}, nil
		}))
		require.NoError(t, c.Close(t.Context()))
		_, err := act(t.Context(), c, kind)
		require.ErrorIs(t, err, router.ErrClosed)
		require.ErrorIs(t, err, plugbus.ErrClosed)
		c = join(t, r, "a")
		r.CloseIntake()
		_, err = act(t.Context(), c, kind)
		require.ErrorIs(t, err, router.ErrClosed)
		require.Zero(t, r.Ledger())
	}
}
