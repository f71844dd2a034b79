package hub_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

func swap(t testing.TB, h *hub.Hub, p *security.Policy) {
	t.Helper()
	_, err := h.Security().Swap("tester", p)
	require.NoError(t, err)
}

// TestS3Revocation shows that a right that is taken away is gone for every act
// that begins, and every delivery that starts, after Swap returned (R13): routes
// that were cached do not survive, a waiting event is not delivered, and what is
// given back works again.
func TestS3Revocation(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}, {events.Timeout(time.Hour)}} {
		synctest.Test(t, func(t *testing.T) {
			with := policyOf(t, `"a": {"emit": {"allow": ["word.*"]}}, "b": {"subscribe": {"allow": ["word.*"]}}`)
			h := open(t, hub.Options{Policy: with})
			a, b := join(t, h, "a"), join(t, h, "b")
			var box inbox
			release := make(chan struct{})
			_, err := b.Subscribe("word.*", func(ctx context.Context, e events.Event) error {
				<-release
				return box.handle(ctx, e)
			}, options...)
			require.NoError(t, err)
			for range 10 {
				emit(t, a, "word.said", 1)
			}
			synctest.Wait()
			running := int(h.Ledger().Running)
			swap(t, h, policyOf(t, `"a": {"emit": {"allow": ["word.*"]}}, "b": {"subscribe": {"allow": ["word.*"], "deny": ["word.said"]}}`))
			close(release)
			synctest.Wait() // Idle is told before a failure is recorded.
			require.Len(t, box.names(), running, "what had started goes on, and nothing else")
			require.EqualValues(t, 10-running, h.Ledger().Undeliverable)
			found := entries(t, h, audit.Query{Event: "delivery.undeliverable", Actor: "b"})
			require.Len(t, found, 1)
			require.EqualValues(t, 10-running, found[0].Count)
			require.Equal(t, plugbus.ReasonDeniedByRule, found[0].Reason)
			require.Equal(t, "word.said", found[0].Target)
			require.Zero(t, h.Inspect().Plugins[1].Failures, "it is no failure of the plugin")
			emit(t, a, "word.other", 1)

			swap(t, h, policyOf(t, `"a": {}, "b": {"subscribe": {"allow": ["word.*"]}}`))
			_, err = a.Emit(t.Context(), "word.said", 1)
			denied(t, err, plugbus.ReasonInsufficientPermissions)
			swap(t, h, policyOf(t, `"b": {"subscribe": {"allow": ["word.*"]}}`))
			_, err = a.Emit(t.Context(), "word.said", 1)
			denied(t, err, plugbus.ReasonUnknownPlugin)

			swap(t, h, with)
			emit(t, a, "word.said", 1)
			idle(t, h)
			require.Len(t, box.names(), running+2)
			swap(t, h, nil)
			_, err = a.Emit(t.Context(), "word.said", 1)
			denied(t, err, plugbus.ReasonUnknownPlugin)
		})
	}
}

// TestRevocationUnderLoad has plugins emit while the policy moves: no event is
// handled by a plugin under a policy that denied it for the whole time of the
// call, that is, when the handler began and until now.
func TestRevocationUnderLoad(t *testing.T) {
	const on = `"a": {"emit": true, "rates": {"events": {"limit": 1000000000, "burst": 1000000000}}}, "b": {"subscribe": {"allow": ["word.*"]}}`
	const off = `"a": {"emit": true, "rates": {"events": {"limit": 1000000000, "burst": 1000000000}}}, "b": {}`
	h := open(t, hub.Options{Policy: policyOf(t, on)})
	a, b := join(t, h, "a"), join(t, h, "b")

	// Even epochs allow. An epoch is odd only after Swap to the denying policy
	// has returned, and until before the Swap back begins. Who handles an event
	// that was emitted in an odd epoch, in that same epoch, was not permitted.
	var epoch atomic.Uint64
	var wrong, handled atomic.Uint64
	handle := func(_ context.Context, e events.Event) error {
		emitted, _ := e.Data().(uint64)
		if now := epoch.Load(); now == emitted && now%2 == 1 {
			wrong.Add(1)
		}
		handled.Add(1)
		return nil
	}
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(2)}} {
		_, err := b.Subscribe("word.*", handle, options...)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			for ctx.Err() == nil {
				if _, err := a.Emit(context.Background(), fmt.Sprintf("word.%d", i), epoch.Load()); err != nil { //nolint:contextcheck // ctx only ends the loop.
					t.Error(err)
				}
			}
		})
	}
	policies := []*security.Policy{policyOf(t, off), policyOf(t, on)}
	for i := 0; ctx.Err() == nil; i++ {
		if i%2 == 1 {
			epoch.Add(1)
		}
		swap(t, h, policies[i%2])
		if i%2 == 0 {
			epoch.Add(1)
		}
		require.NoError(t, h.Ledger().Check())
	}
	wait.Wait()
	idle(t, h)
	require.Zero(t, wrong.Load())
	require.NotZero(t, handled.Load())
	require.NotZero(t, h.Ledger().Undeliverable)
}
