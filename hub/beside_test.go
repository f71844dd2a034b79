package hub_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// TestValidatorsOfConcurrentHandlers shows that a validator runs on its plugin's worker
// also for writes by a concurrent handler of the same plugin, which is beside it.
func TestValidatorsOfConcurrentHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "owner")
		var inside atomic.Int32
		alone := func() {
			require.EqualValues(t, 1, inside.Add(1), "two calls at a time")
			<-time.After(time.Millisecond)
			inside.Add(-1)
		}
		view, err := s.CreateStore(t.Context(), "store", store.Config{Validator: func(context.Context, *store.Proposal) error { alone(); return nil }})
		require.NoError(t, err)
		write := func(ctx context.Context, key string) error {
			_, err := view.Set(ctx, key, []byte("x"))
			return err
		}
		_, err = s.Subscribe("written", func(ctx context.Context, e events.Event) error { return write(ctx, "by an event") }, events.Concurrent(4))
		require.NoError(t, err)
		_, err = s.Handle("write", func(ctx context.Context, _ router.Message) (any, error) { return nil, write(ctx, "by a message") }, router.Concurrent(4))
		require.NoError(t, err)
		_, err = s.Subscribe("written", func(context.Context, events.Event) error { alone(); return nil })
		require.NoError(t, err)
		for range 3 {
			emit(t, h.Host(), "written", 1)
			require.NoError(t, h.Host().Post(t.Context(), "owner", "write", 1))
		}
		idle(t, h)
		require.Zero(t, h.Ledger().Failed)
		require.EqualValues(t, 9, h.Ledger().Handled)
	})
}

// TestRequestsOfConcurrentHandlers shows that a request by a concurrent handler that
// comes back to its plugin is no circle: the worker is free to answer.
func TestRequestsOfConcurrentHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, b := join(t, h, "a"), join(t, h, "b")
		serve(t, a, "back", func(context.Context, router.Message) (any, error) { return "from a", nil })
		serve(t, b, "there", func(ctx context.Context, _ router.Message) (any, error) {
			reply, err := b.Send(ctx, "a", "back", 1)
			return reply.Data(), err
		})
		got := make(chan any, 1)
		_, err := a.Subscribe("go", func(ctx context.Context, _ events.Event) error {
			reply, err := a.Send(ctx, "b", "there", 1)
			got <- reply.Data()
			return err
		}, events.Concurrent(2))
		require.NoError(t, err)
		emit(t, h.Host(), "go", 1)
		idle(t, h)
		require.Equal(t, "from a", <-got)
		require.Zero(t, h.Ledger().Failed)
	})
}
