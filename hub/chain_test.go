package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestH1ForgedSender shows that what a plugin claims in a message changes nothing
// in whose it is (H9, R5, R19).
func TestH1ForgedSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		mallory, bob, box := join(t, h, "mallory"), join(t, h, "bob"), &letterbox{}
		serve(t, bob, "say.it", box.handle)
		_, err := bob.HandleTopic("said.*", box.consume)
		require.NoError(t, err)
		lie := map[string]string{"from": "alice", "sender": "alice", "id": "1", "time": "0", "chain": "alice"}
		options := []router.SendOption{router.Headers(lie), router.ClientID("alice"), router.CorrelationID("alice")}
		reply, err := mallory.Send(t.Context(), "bob", "say.it", lie, options...)
		require.NoError(t, err)
		require.Equal(t, "bob", reply.From())
		require.NoError(t, mallory.Post(t.Context(), "bob", "say.it", lie, options...))
		_, err = mallory.Publish(t.Context(), "said.it", lie, options...)
		require.NoError(t, err)
		idle(t, h)
		require.Len(t, box.messages, 3)
		ids := map[plugbus.ID]bool{}
		for _, m := range box.messages {
			require.Equal(t, "mallory", m.From())
			require.Equal(t, []string{"mallory"}, m.Chain().Plugins())
			require.Equal(t, time.Now(), m.Time().Local(), "the bubble's clock stands")
			ids[m.ID()] = true
		}
		require.Len(t, ids, 3)
	})
}

// TestS5Relay shows that an untrusted plugin cannot act through a basic one on a
// trusted one, in whatever way one led to the other: the trust of a chain is that
// of its least trusted plugin. A basic plugin that acts by itself may.
func TestS5Relay(t *testing.T) {
	const policy = `
		"low": {"send": true, "emit": true, "publish": true, "discover": true},
		"relay": {"trust": "basic", "send": true, "receive": true, "subscribe": true, "consume": true, "discover": true, "emit": true},
		"noble": {"trust": "trusted", "receive": true, "provide": true}`
	acts := map[string]func(ctx context.Context, s *hub.Session) error{
		"Send": func(ctx context.Context, s *hub.Session) error {
			_, err := s.Send(ctx, "noble", "do.it", 1)
			return err
		},
		"Post": func(ctx context.Context, s *hub.Session) error { return s.Post(ctx, "noble", "do.it", 1) },
		"Stream": func(ctx context.Context, s *hub.Session) error {
			return readAll(ctx, s, "noble", "do.all", 1)
		},
		"Call": func(ctx context.Context, s *hub.Session) error { _, err := s.Call(ctx, "doing", 1); return err },
		"another context": func(_ context.Context, s *hub.Session) error {
			return s.Post(context.Background(), "noble", "do.it", 1) //nolint:contextcheck // That is the test.
		},
	}
	leads := map[string]func(ctx context.Context, low *hub.Session) error{
		"Send": func(ctx context.Context, low *hub.Session) error {
			_, err := low.Send(ctx, "relay", "relay", 1)
			return err
		},
		"Post": func(ctx context.Context, low *hub.Session) error { return low.Post(ctx, "relay", "relay", 1) },
		"Emit": func(ctx context.Context, low *hub.Session) error { _, err := low.Emit(ctx, "relay", 1); return err },
		"Publish": func(ctx context.Context, low *hub.Session) error {
			_, err := low.Publish(ctx, "relay", 1)
			return err
		},
	}
	for how, act := range acts {
		for what, lead := range leads {
			synctest.Test(t, func(t *testing.T) {
				t.Logf("%s leads to %s", what, how)
				h := open(t, hub.Options{Policy: policyOf(t, policy)})
				low, relay, noble, box := join(t, h, "low"), join(t, h, "relay"), join(t, h, "noble"), &letterbox{}
				serve(t, noble, "do.it", box.handle)
				_, err := noble.HandleStream("do.all", box.stream)
				require.NoError(t, err)
				require.NoError(t, noble.Provide(hub.Capability{Name: "doing"}, box.handle))
				var result error
				on := func(ctx context.Context, _ router.Message) error { result = act(ctx, relay); return nil } //nolint:unparam // It is a handler.
				serve(t, relay, "relay", func(ctx context.Context, m router.Message) (any, error) { return nil, on(ctx, m) })
				_, err = relay.HandleTopic("relay", on)
				require.NoError(t, err)
				_, err = relay.Subscribe("relay", func(ctx context.Context, _ events.Event) error { result = act(ctx, relay); return nil })
				require.NoError(t, err)

				require.NoError(t, lead(t.Context(), low))
				idle(t, h)
				refused := refusalOf(t, result, plugbus.ReasonTrustLevelMismatch)
				require.Equal(t, "relay", refused.Plugin)
				require.Empty(t, box.types())
				require.NotEmpty(t, entries(t, h, audit.Query{Actor: "relay", Outcome: plugbus.Refused}))

				require.NoError(t, act(t.Context(), relay), "by itself")
				idle(t, h)
				require.Len(t, box.types(), 1)
			})
		}
	}
}

// TestCyclesThroughSessions shows that a request that would wait for itself is
// refused at once with the chain (R12), whatever it went through: messages,
// capabilities, and Start. What waits for nobody is none: events, posts.
func TestCyclesThroughSessions(t *testing.T) {
	send := func(s *hub.Session, to string) router.Handler {
		return func(ctx context.Context, _ router.Message) (any, error) {
			reply, err := s.Send(ctx, to, "ask", 1)
			return reply.Data(), err
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, b, c := join(t, h, "a"), join(t, h, "b"), join(t, h, "c")
		var cycle error
		serve(t, a, "ask", send(a, "b"))
		serve(t, b, "ask", send(b, "c"))
		serve(t, c, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, cycle = c.Send(ctx, "a", "ask", 1)
			return nil, cycle
		})
		began := time.Now()
		_, err := a.Send(t.Context(), "b", "ask", 1)
		require.Error(t, err)
		require.Equal(t, began, time.Now(), "nobody waited")
		idle(t, h)
		_, err = h.Host().Send(t.Context(), "a", "ask", 1)
		require.Equal(t, plugbus.CodeDenied, remote(t, err).Code)
		refused := refusalOf(t, cycle, plugbus.ReasonCycle)
		require.Equal(t, []string{"host", "a", "b", "c"}, refused.Chain.Plugins())
		require.Contains(t, refused.Error(), `"a"`)
	})
	synctest.Test(t, func(t *testing.T) { // By a capability, and to oneself.
		h := open(t, hub.Options{})
		a, b := join(t, h, "a"), join(t, h, "b")
		var cycle, own error
		require.NoError(t, a.Provide(hub.Capability{Name: "doing"}, func(ctx context.Context, _ router.Message) (any, error) {
			_, own = a.Send(ctx, "a", "doing", 1)
			_, err := a.Send(ctx, "b", "ask", 1)
			return nil, err
		}))
		serve(t, b, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, cycle = b.Call(ctx, "doing", 1)
			return nil, nil
		})
		_, err := h.Host().Call(t.Context(), "doing", 1)
		require.NoError(t, err)
		denied(t, cycle, plugbus.ReasonCycle)
		denied(t, own, plugbus.ReasonCycle)
	})
}

// TestEventsThatSend shows that the handler of an event may send to the emitter,
// which does not wait for it, that its chain is that of the event, and that the
// emitter's Send to a plugin which is told by an event is no cycle.
func TestEventsThatSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, b, box := join(t, h, "a"), join(t, h, "b"), &letterbox{}
		serve(t, a, "ask", box.handle)
		var err error
		_, e := b.Subscribe("said", func(ctx context.Context, _ events.Event) error {
			_, err = b.Send(ctx, "a", "ask", 1)
			return err
		})
		require.NoError(t, e)
		serve(t, b, "tell", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := b.Emit(ctx, "said", 1)
			return nil, err
		})
		emit(t, a, "said", 1)
		idle(t, h)
		require.NoError(t, err)
		_, e = a.Send(t.Context(), "b", "tell", 1)
		require.NoError(t, e)
		idle(t, h)
		require.NoError(t, err)
		require.Len(t, box.messages, 2)
		require.Equal(t, []string{"a", "b"}, box.messages[0].Chain().Plugins())
		require.Equal(t, []string{"a", "b", "b"}, box.messages[1].Chain().Plugins())
	})
}

// TestStartThatSends shows what a request from Start finds: a plugin of the same
// call that has started serves it; one that has not, and the plugin itself, do
// not, and say so at once.
func TestStartThatSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		first := &plug{manifest: named("first")}
		first.start = func(_ context.Context, s *hub.Session) error { _, err := s.Handle("ask", pong(s)); return err }
		last := &plug{manifest: named("last")}
		last.start = first.start
		errs := map[string]error{}
		middle := &plug{manifest: named("middle")}
		middle.start = func(ctx context.Context, s *hub.Session) error {
			_, err := s.Handle("ask", echo)
			require.NoError(t, err)
			for _, to := range []string{"first", "middle", "last", "nobody"} {
				_, errs[to] = s.Send(ctx, to, "ask", 1)
			}
			return nil
		}
		began := time.Now()
		require.NoError(t, h.Register(t.Context(), first, middle, last))
		require.Equal(t, began, time.Now())
		require.NoError(t, errs["first"])
		denied(t, errs["middle"], plugbus.ReasonCycle)
		require.ErrorIs(t, errs["last"], router.ErrNoHandler)
		require.ErrorIs(t, errs["nobody"], router.ErrUnknownTarget)
	})
}

// TestGoThatSends shows that a function of Session.Go acts by itself when its
// plugin serves nothing, and under what it serves otherwise; and that one that
// waits for its own plugin gets its answer.
func TestGoThatSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, b, box := join(t, h, "a"), join(t, h, "b"), &letterbox{}
		serve(t, a, "ask", box.handle)
		var err error
		run := func() {
			require.NoError(t, a.Go("sender", func(ctx context.Context) { _, err = a.Send(ctx, "a", "ask", 1) }))
		}
		run()
		idle(t, h)
		synctest.Wait()
		require.NoError(t, err)
		serve(t, a, "start", func(context.Context, router.Message) (any, error) { run(); synctest.Wait(); return nil, nil })
		_, e := b.Send(t.Context(), "a", "start", 1)
		require.NoError(t, e)
		synctest.Wait()
		require.NoError(t, err)
		require.Len(t, box.messages, 2)
		require.Equal(t, []string{"a"}, box.messages[0].Chain().Plugins())
		require.Equal(t, []string{"b", "a"}, box.messages[1].Chain().Plugins())
	})
}
