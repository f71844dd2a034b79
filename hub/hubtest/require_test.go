package hubtest_test

import (
	"errors"
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/stretchr/testify/require"
)

func TestRequireDenied(t *testing.T) {
	h := newShop(t)
	shop := h.Join("shop")

	_, err := shop.Emit(t.Context(), "orders.internal.fraud", nil)
	denied := hubtest.RequireDenied(t, err, plugbus.ReasonDeniedByRule)
	require.Equal(t, "shop", denied.Plugin)
	require.Equal(t, "orders.internal.fraud", denied.Object)
	require.NotZero(t, denied.Record)

	err = h.Register(t.Context(), hub.Func(hub.Manifest{ID: "stranger"}, nil))
	denied = hubtest.RequireDenied(t, err, plugbus.ReasonUnknownPlugin)
	require.Equal(t, "stranger", denied.Plugin)
	require.NotZero(t, denied.Record)
}

// What was to be denied and was not fails the test, and says why it was not.
func TestRequireDeniedFails(t *testing.T) {
	h := newShop(t)
	shop := h.Join("shop")

	_, err := shop.Emit(t.Context(), "orders.placed", nil)
	f := try(t, func(tb testing.TB) {
		hubtest.RequireDenied(tb, err, plugbus.ReasonDeniedByRule, h.Explain("shop", plugbus.VerbEmit, "orders.placed"))
		t.Error("the test went on")
	})
	f.requireFailure(t, "the act was allowed", "want denied: denied_by_rule", "plugins.shop.emit.allow[0]")

	_, err = shop.Emit(t.Context(), "invoices.created", nil)
	f = try(t, func(tb testing.TB) { hubtest.RequireDenied(tb, err, plugbus.ReasonDeniedByRule) })
	f.requireFailure(t, "got denied: insufficient_permissions", "want denied: denied_by_rule", `add "invoices.created" to plugins.shop.emit.allow`)

	f = try(t, func(tb testing.TB) {
		hubtest.RequireDenied(tb, errors.New("disk on fire"), plugbus.ReasonDeniedByRule)
	})
	f.requireFailure(t, "got another error: disk on fire", "want denied: denied_by_rule")
}

func TestRequireAllowedFails(t *testing.T) {
	_, err := newShop(t).Join("shop").Emit(t.Context(), "invoices.created", nil)
	f := try(t, func(tb testing.TB) {
		hubtest.RequireAllowed(tb, err)
		t.Error("the test went on")
	})
	f.requireFailure(t, "got denied: insufficient_permissions", `add "invoices.created" to plugins.shop.emit.allow`, "want it allowed")

	f = try(t, func(tb testing.TB) { hubtest.RequireAllowed(tb, errors.New("disk on fire")) })
	f.requireFailure(t, "got another error: disk on fire")
}

func TestRequireDecision(t *testing.T) {
	policy := hubtest.Policy(t, shopPolicy)
	hubtest.RequireDecision(t, policy, "shop", plugbus.VerbEmit, "orders.placed", "")
	hubtest.RequireDecision(t, policy, "shop", plugbus.VerbEmit, "orders.internal.fraud", plugbus.ReasonDeniedByRule)
	hubtest.RequireDecision(t, newShop(t), "stranger", plugbus.VerbEmit, "orders.placed", plugbus.ReasonUnknownPlugin)

	f := try(t, func(tb testing.TB) {
		hubtest.RequireDecision(tb, policy, "shop", plugbus.VerbEmit, "orders.placed", plugbus.ReasonDeniedByRule)
		t.Error("the test went on")
	})
	f.requireFailure(t, "got  allowed\nwant denied: denied_by_rule\n", "plugins.shop.emit.allow[0]")

	f = try(t, func(tb testing.TB) {
		hubtest.RequireDecision(tb, policy, "mailer", plugbus.VerbEmit, "orders.placed", "")
	})
	f.requireFailure(t, "got  denied: insufficient_permissions\nwant allowed\n", `add "orders.placed" to plugins.mailer.emit.allow`)
}
