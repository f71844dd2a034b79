package hubtest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/stretchr/testify/require"
)

// A recorder keeps the events in their order, with what options say.
func TestRecord(t *testing.T) {
	h := newShop(t)
	shop, invoices := h.Join("shop"), h.Join("invoices")
	placeOrder(t, shop)
	all := hubtest.Record(t, invoices, "orders.*", events.StartAt(events.All()))
	later := hubtest.Record(t, invoices, "orders.paid")
	_, err := shop.Emit(t.Context(), "orders.paid", 4200)
	hubtest.RequireAllowed(t, err)
	h.Settle()
	require.Equal(t, []string{"orders.placed", "orders.paid"}, all.Names())
	require.Equal(t, []any{nil, 4200}, all.Data())
	require.Equal(t, []string{"orders.paid"}, later.Names())
	require.Equal(t, "shop", later.Events()[0].Source())
}

// Wait waits for what a plugin's own goroutine does.
func TestWait(t *testing.T) {
	h := newShop(t)
	got := hubtest.Record(t, h.Join("mailer"), "orders.placed")
	h.Plugin("shop", func(_ context.Context, s *hub.Session) error {
		return s.Go("sell", func(ctx context.Context) {
			for range 3 {
				_, _ = s.Emit(ctx, "orders.placed", nil)
			}
		})
	})
	require.Len(t, got.Wait(3), 3)
}

// A test whose events do not come fails, and says what came.
func TestWaitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := try(t, func(tb testing.TB) {
			h := newShop(tb)
			got := hubtest.Record(tb, h.Join("mailer"), "orders.placed")
			placeOrder(tb, h.Join("shop"))
			got.Wait(2)
			t.Error("Wait returned")
		})
		f.requireFailure(t, `got 1 events of "orders.placed" within 10s: ["orders.placed"]`, "want 2")
	})
}

// A pattern that a plugin may not have fails the test, with the rule.
func TestRecordDenied(t *testing.T) {
	f := try(t, func(tb testing.TB) { hubtest.Record(tb, newShop(tb).Join("mailer"), "orders.*") })
	f.requireFailure(t, string(plugbus.ReasonPatternTooWide), "plugins.mailer.subscribe.allow")
}
