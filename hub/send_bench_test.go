package hub_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// sendPolicy has every guard on, as benchPolicy has for events. The plugins
// "near" and "caller" name each other for delivery on the sender's stack.
const sendPolicy = `{"version": 1, "plugins": {
	"caller": {
		"trust": "basic", "send": {"allow": ["callee", "near"]}, "inline": ["near"],
		"rates": {"messages": {"limit": 1000000000000, "burst": 1000000000}}
	},
	"callee": {"trust": "basic", "receive": {"allow": ["caller"]}},
	"near": {"trust": "basic", "receive": {"allow": ["caller"]}, "inline": ["caller"]}
}}`

// correspondents returns a caller in a hub with two plugins that send back what they
// get.
func correspondents(tb testing.TB) (caller *hub.Session) {
	tb.Helper()
	policy, err := security.Parse([]byte(sendPolicy), "bench.json")
	require.NoError(tb, err)
	h, err := hub.New(hub.Options{Policy: policy})
	require.NoError(tb, err)
	echo := func(_ context.Context, s *hub.Session) error {
		_, err := s.Handle("echo", func(_ context.Context, m router.Message) (any, error) { return m.Data(), nil })
		return err
	}
	require.NoError(tb, h.Register(tb.Context(),
		hub.Func(hub.Manifest{ID: "caller"}, func(_ context.Context, s *hub.Session) error {
			caller = s
			return nil
		}),
		hub.Func(hub.Manifest{ID: "callee"}, echo),
		hub.Func(hub.Manifest{ID: "near"}, echo),
	))
	tb.Cleanup(func() {
		require.NoError(tb, h.Ledger().Check())
		_, err := h.Close(context.Background())
		require.NoError(tb, err)
	})
	return caller
}

// BenchmarkGuardedSend measures a request and its reply with all guards on, beside
// a round trip through two channels in the same run. The reply must be what was
// sent.
func BenchmarkGuardedSend(b *testing.B) {
	caller := correspondents(b)
	var data any = reading{N: 1}
	for _, ctx := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // It is the case.
	}{{"background", context.Background()}, {"cancellable", b.Context()}} {
		for _, to := range []string{"callee", "near"} {
			b.Run("to="+to+"/ctx="+ctx.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					reply, err := caller.Send(ctx.ctx, to, "echo", data)
					if err != nil || reply.Data() != data {
						b.Fatal(reply.Data(), err)
					}
				}
			})
		}
	}
	b.Run("post", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := caller.Post(b.Context(), "callee", "echo", data, router.WaitForRoom()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("channels", func(b *testing.B) {
		there, back := make(chan any), make(chan any)
		go func() { // Ends when there is closed.
			for v := range there {
				back <- v
			}
		}()
		for b.Loop() {
			there <- data
			if <-back != data {
				b.Fatal("lost")
			}
		}
		close(there)
	})
}
