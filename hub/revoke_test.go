package hub_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestR13Messages shows that both rights to a message are asked for again when
// its delivery starts (S3, S9): one that waits when either is taken away, or when
// either plugin is quarantined, is not delivered, and the audit log says why. What
// runs goes on, and what is sent later is refused.
func TestR13Messages(t *testing.T) {
	const policy = `"a": {"send": true, "publish": true}, "b": {"receive": true, "consume": true}`
	for _, test := range []struct {
		publish bool
		policy  string // that comes into force
		fails   string // or who is quarantined
		reason  plugbus.Reason
		later   plugbus.Reason // of the next message; "" if it is only not for b
	}{
		{false, `"a": {}, "b": {"receive": true}`, "", plugbus.ReasonNoSendPermission, plugbus.ReasonNoSendPermission},
		{false, `"a": {"send": true}, "b": {}`, "", plugbus.ReasonRecipientCannotReceive, plugbus.ReasonRecipientCannotReceive},
		{false, `"a": {"send": true}, "b": {"receive": true, "trust": "trusted"}`, "", plugbus.ReasonTrustLevelMismatch, plugbus.ReasonTrustLevelMismatch},
		{false, `"b": {"receive": true}`, "", plugbus.ReasonUnknownPlugin, plugbus.ReasonNoSendPermission},
		{false, policy, "a", plugbus.ReasonQuarantined, plugbus.ReasonQuarantined},
		{false, policy, "b", plugbus.ReasonQuarantined, plugbus.ReasonRecipientCannotReceive},
		{true, `"a": {}, "b": {"consume": true}`, "", plugbus.ReasonInsufficientPermissions, plugbus.ReasonInsufficientPermissions},
		{true, `"a": {"publish": true}, "b": {"consume": {"allow": ["**"], "deny": ["say.it"]}}`, "", plugbus.ReasonDeniedByRule, ""},
		{true, `"a": {"publish": true}, "b": {}`, "", plugbus.ReasonInsufficientPermissions, ""},
		{true, policy, "b", plugbus.ReasonQuarantined, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Logf("%s %q", test.policy, test.fails)
			h := open(t, hub.Options{Policy: policyOf(t, policy)})
			a, b, box, gate := join(t, h, "a"), join(t, h, "b"), &letterbox{}, make(chan struct{})
			slow := func(ctx context.Context, m router.Message) (any, error) { <-gate; return box.handle(ctx, m) }
			serve(t, b, "say.it", slow)
			_, err := b.HandleTopic("say.*", func(ctx context.Context, m router.Message) error { _, err := slow(ctx, m); return err })
			require.NoError(t, err)
			post := func() error {
				if test.publish {
					_, err := a.Publish(t.Context(), "say.it", 1)
					return err
				}
				return a.Post(t.Context(), "b", "say.it", 1)
			}
			var asked error
			for i := range 3 {
				require.NoError(t, post())
				if i == 1 && !test.publish {
					go func() { _, asked = a.Send(context.Background(), "b", "say.it", 1) }()
					synctest.Wait()
				}
			}
			synctest.Wait()
			waiting := h.Ledger().Waiting
			if test.fails != "" {
				quarantine(t, h, map[string]*hub.Session{"a": a, "b": b}[test.fails])
			}
			swap(t, h, policyOf(t, test.policy))
			close(gate)
			idle(t, h)
			synctest.Wait()
			require.Len(t, box.types(), 1, "the one that had started")
			require.Equal(t, waiting, h.Ledger().Undeliverable)
			found := entries(t, h, audit.Query{Event: "delivery.undeliverable"})
			require.Len(t, found, 1)
			require.Equal(t, test.reason, found[0].Reason)
			require.Equal(t, waiting, found[0].Count)
			want := [3]any{"b", "a", plugbus.VerbReceive}
			if test.publish {
				want = [3]any{"b", "say.it", plugbus.VerbConsume}
			}
			require.Equal(t, want, [3]any{found[0].Actor, found[0].Target, found[0].Verb})
			if !test.publish {
				lost := undelivered(t, asked)
				require.ErrorIs(t, lost, plugbus.ErrDenied)
				require.False(t, lost.Started)
				require.NotContains(t, asked.Error(), string(test.reason), "whose right is missing is not said")
			}
			require.Len(t, h.DeadLetters(), 2)
			if test.later == "" {
				require.NoError(t, post())
				idle(t, h)
			} else {
				denied(t, post(), test.later)
			}
			require.Len(t, box.types(), 1)
		})
	}
}
