package hub_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestS5RelayOfSeveral shows that an untrusted plugin gains nothing by a plugin that
// serves others at the same time, however deep their chains are: neither with the
// context of its own request, nor with none, nor with one that the relay has kept.
func TestS5RelayOfSeveral(t *testing.T) {
	const policy = `
		"low": {"send": true},
		"one": {"trust": "trusted", "send": true, "receive": true},
		"two": {"trust": "trusted", "send": true, "receive": true},
		"relay": {"trust": "basic", "send": true, "receive": true, "emit": true},
		"watcher": {"trust": "trusted", "send": true, "subscribe": true},
		"noble": {"trust": "trusted", "receive": true}`
	for _, beside := range []bool{true, false} {
		for _, what := range []string{"own", "none", "kept"} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{Policy: policyOf(t, policy)})
				low, one, two, relay, watcher := join(t, h, "low"), join(t, h, "one"), join(t, h, "two"), join(t, h, "relay"), join(t, h, "watcher")
				serve(t, join(t, h, "noble"), "do.it", echo)
				var kept context.Context
				gate := make(chan struct{})
				options := []router.HandleOption{}
				if beside {
					options = append(options, router.Concurrent(4))
				}
				serve(t, relay, "wait", func(ctx context.Context, _ router.Message) (any, error) {
					kept = ctx //nolint:fatcontext // Another handler uses it.
					if beside {
						<-gate
					}
					return nil, relay.Post(ctx, "noble", "do.it", 1)
				}, router.Concurrent(2))
				var err error
				serve(t, relay, "relay", func(ctx context.Context, _ router.Message) (any, error) { //nolint:contextcheck // That is the test.
					switch what {
					case "none":
						ctx = context.Background()
					case "kept":
						ctx = context.WithoutCancel(kept)
					}
					_, e := relay.Emit(ctx, "relayed", 1)
					require.NoError(t, e)
					err = relay.Post(ctx, "noble", "do.it", 1)
					return nil, nil
				}, options...)
				var later []error
				_, e := watcher.Subscribe("relayed", func(ctx context.Context, _ events.Event) error {
					later = append(later, watcher.Post(ctx, "noble", "do.it", 1))
					return nil
				})
				require.NoError(t, e)
				serve(t, two, "go", func(ctx context.Context, _ router.Message) (any, error) {
					_, err := two.Send(ctx, "relay", "wait", 1)
					return nil, err
				})
				done := make(chan error, 1)
				serve(t, one, "go", func(ctx context.Context, _ router.Message) (any, error) {
					_, err := one.Send(ctx, "two", "go", 1)
					return nil, err
				})
				go func() {
					_, err := h.Host().Send(context.Background(), "one", "go", 1)
					done <- err
				}()
				synctest.Wait()
				_, e = low.Send(t.Context(), "relay", "relay", 1)
				require.NoError(t, e)
				synctest.Wait()
				if what == "kept" && beside {
					require.NoError(t, err, "the relay does what it still serves")
				} else {
					denied(t, err, plugbus.ReasonTrustLevelMismatch)
					for _, err := range later {
						denied(t, err, plugbus.ReasonTrustLevelMismatch)
					}
				}
				require.Len(t, later, 1)
				close(gate)
				require.NoError(t, <-done, "those of trust are not held back")
			})
		}
	}
}
