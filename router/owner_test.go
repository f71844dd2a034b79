package router_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestOwner shows that what the host hears of a client has the Owner of that very client,
// also when another one has its id, and that of the sender's.
func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []any
		hear := func(what ...any) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, what...)
		}
		r := newRouter(t, router.Options{
			SlowAfter: time.Second,
			OnFailure: func(f router.Failure) { hear(f.Outcome, f.Owner, f.Sender) },
			OnSlow:    func(s router.Slow) { hear("slow", s.Owner) },
		})
		sender, err := r.Client("sender", router.ClientOptions{Owner: "the sender"})
		require.NoError(t, err)
		release := make(chan struct{})
		old, err := r.Client("a", router.ClientOptions{Owner: "the old"})
		require.NoError(t, err)
		handle(t, old, "x", func(context.Context, router.Message) (any, error) { <-release; return nil, nil })
		require.NoError(t, sender.Post(t.Context(), "a", "x", 1))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, old.Close(ctx))
		next, err := r.Client("a", router.ClientOptions{Owner: "the new"})
		require.NoError(t, err)
		handle(t, next, "x", func(context.Context, router.Message) (any, error) { panic("boo") })
		<-time.After(3 * time.Second)
		require.NoError(t, sender.Post(t.Context(), "a", "x", 1))
		synctest.Wait()
		close(release)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []any{plugbus.Abandoned, "the old", "the sender", "slow", "the old", plugbus.Failed, "the new", "the sender"}, heard)
	})
}

// TestMiddlewareAtFault shows that a refusal says whether a middleware was at fault, or
// had something against the message.
func TestMiddlewareAtFault(t *testing.T) {
	for _, test := range []struct {
		name  string
		m     func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error)
		fault bool
	}{
		{"says no", func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, errSorry
		}, false},
		{"panics", func(context.Context, *router.Draft, router.Deliver) (router.Response, error) { panic("boo") }, true},
		{"panics afterwards", func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			_, _ = next(ctx, d)
			panic("boo")
		}, true},
		{"forgets", func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, nil
		}, true},
		{"makes nonsense", func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			d.Priority = 99
			return next(ctx, d)
		}, true},
	} {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "x", echo)
		require.NoError(t, r.Use("m", func(next router.Deliver) router.Deliver {
			return func(ctx context.Context, d *router.Draft) (router.Response, error) { return test.m(ctx, d, next) }
		}))
		_, err := a.Send(t.Context(), "b", "x", 1)
		require.Error(t, err, test.name)
		_, fault := errors.AsType[*router.MiddlewareError](err)
		require.Equal(t, test.fault, fault, "%s: %v", test.name, err)
	}
}
