// This is a test of package main itself, since nobody can import a command. The
// tests of a plugin in a package of its own look the same.
package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The command does what its comment says.
func TestRun(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Contains(t, out.String(), "the mailer gets invoice 1 for Ada")
	require.Contains(t, out.String(), `remedy  remove "orders.refunded" from plugins.shop.emit.deny`)
}

// The policy lets the plugin do its work.
func TestInvoices(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	h.Add(&Invoices{})
	shop, mailer := h.Join("shop"), h.Join("mailer")
	got := hubtest.Record(t, mailer, "invoices.*")

	order := Order{ID: "A17", Customer: "Ada", Cents: 4200}
	for _, name := range []string{"orders.placed", "orders.cancelled"} {
		_, err := shop.Emit(t.Context(), name, order)
		hubtest.RequireAllowed(t, err)
	}
	h.Settle()
	invoice := Invoice{Number: 1, Order: "A17", Customer: "Ada", Cents: 4200}
	require.Equal(t, []string{"invoices.created", "invoices.cancelled"}, got.Names())
	require.Equal(t, []any{invoice, invoice}, got.Data())
}

// Each plugin may do what it is for, and nothing else.
func TestDecisions(t *testing.T) {
	const allowed = plugbus.Reason("")
	policy := hubtest.PolicyFile(t, "policy.json")
	for _, test := range []struct {
		plugin string
		verb   plugbus.Verb
		object string
		want   plugbus.Reason
	}{
		{"shop", plugbus.VerbEmit, "orders.placed", allowed},
		{"shop", plugbus.VerbEmit, "orders.refunded", plugbus.ReasonDeniedByRule}, // Deny beats allow.
		{"shop", plugbus.VerbEmit, "invoices.created", plugbus.ReasonInsufficientPermissions},

		{"invoices", plugbus.VerbSubscribe, "orders.placed", allowed},
		{"invoices", plugbus.VerbEmit, "orders.placed", plugbus.ReasonInsufficientPermissions},
		{"invoices", plugbus.VerbEmit, "plugin:registered", plugbus.ReasonReservedName}, // Nobody speaks for the hub.

		{"mailer", plugbus.VerbSubscribe, "invoices.created", allowed},
		{"mailer", plugbus.VerbSubscribe, "orders.placed", plugbus.ReasonInsufficientPermissions},

		{"stranger", plugbus.VerbEmit, "orders.placed", plugbus.ReasonUnknownPlugin},
	} {
		hubtest.RequireDecision(t, policy, test.plugin, test.verb, test.object, test.want)
	}
}

// The table of who may do what changes only when its golden file does, so a
// review of the policy sees what the change means. PLUGBUS_UPDATE=1 writes it.
func TestPermissions(t *testing.T) {
	permissions(hubtest.PolicyFile(t, "policy.json")).Golden(t, "testdata/permissions.golden")
}

// A shop that forges an invoice gets a reason, nobody gets the invoice, and the
// host finds the attempt in its audit log.
func TestForgery(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	shop, mailer := h.Join("shop"), h.Join("mailer")
	got := hubtest.Record(t, mailer, "invoices.*")

	_, err := shop.Emit(t.Context(), "invoices.created", Invoice{Customer: "Bob", Cents: 99_900})
	denied := hubtest.RequireDenied(t, err, plugbus.ReasonInsufficientPermissions,
		h.Explain("shop", plugbus.VerbEmit, "invoices.created"))
	h.Settle()
	require.Empty(t, got.Events())

	entry, ok := h.Audit().Get(denied.Record)
	require.True(t, ok)
	require.Equal(t, "shop", entry.Actor)
	require.Equal(t, "invoices.created", entry.Target)
}

// A subscription cannot reach further than the policy does.
func TestPatternTooWide(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	everything := func(context.Context, events.Event) error { return nil }
	_, err := h.Join("mailer").Subscribe("**", everything)
	hubtest.RequireDenied(t, err, plugbus.ReasonPatternTooWide)
}

// A plugin that the policy does not know cannot join.
func TestStranger(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	err := h.Register(t.Context(), hub.Func(hub.Manifest{ID: "stranger"}, nil))
	hubtest.RequireDenied(t, err, plugbus.ReasonUnknownPlugin)
}

// The plugin may make three invoices at once, and then one each second. In a
// bubble the seconds take no time.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
		invoices := h.Join("invoices")
		for range 3 {
			_, err := invoices.Emit(t.Context(), "invoices.created", Invoice{})
			hubtest.RequireAllowed(t, err)
		}
		_, err := invoices.Emit(t.Context(), "invoices.created", Invoice{})
		denied := hubtest.RequireDenied(t, err, plugbus.ReasonRateLimitExceeded)
		require.Equal(t, time.Second, denied.RetryAfter.Round(time.Millisecond))

		<-time.After(denied.RetryAfter)
		_, err = invoices.Emit(t.Context(), "invoices.created", Invoice{})
		hubtest.RequireAllowed(t, err)
	})
}

// What looks like a script does not pass, wherever it is in a payload. The
// refusal says where.
func TestContent(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	shop := h.Join("shop")
	_, err := shop.Emit(t.Context(), "orders.placed", Order{Customer: "<script>steal()</script>"})
	denied := hubtest.RequireDenied(t, err, plugbus.ReasonInvalidContent)
	require.ErrorContains(t, denied.Cause, "Customer")

	_, err = shop.Emit(t.Context(), "orders.placed", Order{Customer: "Ada, 3 < 4 & once = 1"})
	hubtest.RequireAllowed(t, err)
}

// A plugin that loses a permission gets nothing more, although it subscribed
// when it had it.
func TestRevoked(t *testing.T) {
	h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
	invoices := h.Join("invoices")
	got := hubtest.Record(t, h.Join("mailer"), "invoices.*")
	emit := func() {
		_, err := invoices.Emit(t.Context(), "invoices.created", Invoice{})
		hubtest.RequireAllowed(t, err)
		h.Settle()
	}
	emit()
	require.Len(t, got.Events(), 1)

	_, err := h.Security().Swap("admin", hubtest.Policy(t, `{
		"version": 1,
		"plugins": {
			"invoices": { "emit": { "allow": ["invoices.created"] } },
			"mailer": {}
		}
	}`))
	require.NoError(t, err)
	emit()
	require.Len(t, got.Events(), 1)
	require.EqualValues(t, 1, h.Ledger().Undeliverable)
}
