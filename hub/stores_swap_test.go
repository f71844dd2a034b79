package hub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// TestD4SwapEndsWatches shows that the watches of a plugin that may no longer read a store
// end when the policy changes, and do not wait for the next change of the store (D4); and
// that those of others stay.
func TestD4SwapEndsWatches(t *testing.T) {
	const before = `"a": {"trust": "trusted", "dataAccess": {"**": {"read": true, "requiresTrust": true}}},
		"b": {"dataAccess": {"**": {"read": true}}}`
	for what, change := range map[string]func(h *hub.Hub) error{
		"swap": func(h *hub.Hub) error {
			_, err := h.Security().Swap(security.HostID, policyOf(t, `"a": {}, "b": {"dataAccess": {"**": {"read": true}}}`))
			return err
		},
		"trust": func(h *hub.Hub) error { return h.Security().SetTrust(security.HostID, "a", plugbus.Untrusted) },
	} {
		h := open(t, hub.Options{Policy: policyOf(t, before)})
		a, b := join(t, h, "a"), join(t, h, "b")
		create(t, h.Host(), "words", store.Config{Read: []string{"a", "b"}})
		ended, watch := follow(t, view(t, a, "words"), "**")
		stays, other := follow(t, view(t, b, "words"), "**")
		idle(t, h)
		require.NoError(t, change(h), what)
		idle(t, h)
		require.Equal(t, []string{"revoked"}, ended.texts(), what)
		require.ErrorIs(t, watch.Err(), plugbus.ErrDenied)
		require.NoError(t, other.Err())
		require.Empty(t, stays.texts())
		require.Len(t, entries(t, h, audit.Query{Event: "read.refused"}), 1)
	}
}
