package hub_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A counter is a plugin whose methods and handlers all write to one plain
// number: the race detector sees two that overlap, and so does inside.
type counter struct {
	plug
	n, overlaps int
	inside      bool
}

func (c *counter) step(context.Context) error {
	if c.inside {
		c.overlaps++
	}
	c.inside = true
	c.n++
	for range 100 {
		_ = hub.Starting.String()
	}
	c.inside = false
	return nil
}

func (c *counter) ReceiveEvent(ctx context.Context, _ events.Event) error { return c.step(ctx) }

// TestActor shows that Start, the handlers of subscriptions and broadcasts,
// health checks and Stop of one plugin never overlap, so that they need no
// locks.
func TestActor(t *testing.T) {
	h := open(t, hub.Options{})
	c := &counter{}
	c.manifest, c.stop, c.health = named("a"), c.step, c.step
	c.start = func(ctx context.Context, s *hub.Session) error {
		for _, pattern := range []string{"word.*", "word.**", "**"} {
			_, err := s.Subscribe(pattern, c.ReceiveEvent)
			require.NoError(t, err)
		}
		_, err := s.Subscribe("word.said", c.ReceiveEvent, events.Fair())
		require.NoError(t, err)
		return c.step(ctx)
	}
	var wait sync.WaitGroup
	const rounds = 200
	wait.Go(func() {
		for range rounds {
			_, err := h.Host().Emit(context.Background(), "word.said", 1)
			require.NoError(t, err)
			_, err = h.Host().Broadcast(context.Background(), "word.said", 1, events.Audience{})
			require.NoError(t, err)
		}
	})
	require.NoError(t, h.Register(t.Context(), c))
	wait.Go(func() {
		for range rounds {
			for _, p := range h.Health(context.Background()) {
				require.True(t, p.Well())
			}
		}
	})
	wait.Wait()
	idle(t, h)
	require.NoError(t, h.Unregister(t.Context(), "a"))
	require.Zero(t, c.overlaps)
	require.Greater(t, c.n, rounds)
}

// TestNoWaitInsideOfStart shows that Start is refused what would wait for its own
// worker, as a handler is, and so does not suffer it until its time is over.
func TestNoWaitInsideOfStart(t *testing.T) {
	h := open(t, hub.Options{})
	require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), start: func(ctx context.Context, s *hub.Session) error {
		sub, err := s.Subscribe("word.*", func(context.Context, events.Event) error { return nil }, events.Buffer(1))
		require.NoError(t, err)
		denied(t, sub.Wait(ctx), plugbus.ReasonCycle)
		_, err = s.Emit(ctx, "word.said", 1)
		require.NoError(t, err)
		_, err = s.Emit(ctx, "word.said", 2, events.WaitForRoom())
		denied(t, err, plugbus.ReasonCycle)
		require.ErrorIs(t, h.Idle(ctx), plugbus.ErrInvalid)
		_, limited := ctx.Deadline()
		require.True(t, limited)
		return nil
	}}))
	idle(t, h)
}

// TestEventsDuringStart shows that events which arrive while Start runs are
// handled after it, in their order.
func TestEventsDuringStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var d diary
		p := &receiver{plug: plug{manifest: named("a")}}
		p.receive = func(_ context.Context, e events.Event) error {
			d.note("received " + e.Name())
			return nil
		}
		p.start = func(ctx context.Context, s *hub.Session) error {
			_, err := s.Subscribe("word.*", func(_ context.Context, e events.Event) error {
				d.note("handled " + e.Name())
				return nil
			})
			require.NoError(t, err)
			emit(t, h.Host(), "word.one", 1) //nolint:contextcheck // The host acts here, not the plugin.
			_, err = h.Host().Broadcast(ctx, "other.two", 1, events.Audience{})
			require.NoError(t, err)
			_, err = s.Emit(ctx, "word.three", 1)
			require.NoError(t, err)
			d.note("started")
			return nil
		}
		require.NoError(t, h.Register(t.Context(), p))
		idle(t, h)
		require.Equal(t, []string{"started", "handled word.one", "received other.two", "handled word.three"}, d.lines)
	})
}
