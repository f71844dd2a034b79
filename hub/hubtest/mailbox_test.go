package hubtest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/stretchr/testify/require"
)

func price(context.Context, router.Message) (any, error) { return 4200, nil }

// A mailbox keeps the messages in their order, whoever the plugin asks and
// however, and replies.
func TestMailbox(t *testing.T) {
	h := hubtest.New(t, security.AllowAll())
	shop, stock, bank := h.Join("shop"), h.Join("stock"), h.Join("bank")
	asked := hubtest.Answer(t, stock, "price", price)
	told := hubtest.Answer(t, stock, "sold", nil)
	paid := hubtest.Provide(t, bank, hub.Capability{Name: "pay"}, price)
	news := hubtest.Consume(t, bank, "orders.*")

	cents, err := router.Send[int](t.Context(), shop, "stock", "price", "book")
	hubtest.RequireAllowed(t, err)
	require.Equal(t, 4200, cents)
	hubtest.RequireAllowed(t, shop.Post(t.Context(), "stock", "sold", "book"))
	_, err = discovery.Call[int](t.Context(), shop, "pay", cents)
	hubtest.RequireAllowed(t, err)
	_, err = shop.Publish(t.Context(), "orders.placed", "book")
	hubtest.RequireAllowed(t, err)
	h.Settle()
	require.Equal(t, []any{"book"}, asked.Data())
	require.Equal(t, "shop", asked.Messages()[0].From())
	require.Equal(t, []string{"sold"}, told.Types())
	require.Equal(t, []any{4200}, paid.Data())
	require.Equal(t, []string{"orders.placed"}, news.Types())
}

// Wait waits for what a plugin's own goroutine sends, and fails the test if that
// does not come.
func TestMailboxWait(t *testing.T) {
	h := hubtest.New(t, security.AllowAll())
	got := hubtest.Answer(t, h.Join("stock"), "sold", nil)
	h.Plugin("shop", func(_ context.Context, s *hub.Session) error {
		return s.Go("sell", func(ctx context.Context) { _ = s.Post(ctx, "stock", "sold", nil) })
	})
	require.Len(t, got.Wait(1), 1)
	synctest.Test(t, func(t *testing.T) {
		f := try(t, func(tb testing.TB) {
			h := hubtest.New(tb, security.AllowAll())
			hubtest.Answer(tb, h.Join("stock"), "sold", nil).Wait(1)
		})
		f.requireFailure(t, `got 0 messages of type "sold" within 10s`, "want 1")
	})
}

// What a plugin may not do fails the test, with the rule.
func TestMailboxDenied(t *testing.T) {
	policy := hubtest.Policy(t, `{"version": 1, "plugins": {"shop": {}}}`)
	for want, set := range map[string]func(tb testing.TB, s *hub.Session){
		"plugins.shop.consume": func(tb testing.TB, s *hub.Session) { hubtest.Consume(tb, s, "orders.placed") },
		"plugins.shop.provide": func(tb testing.TB, s *hub.Session) { hubtest.Provide(tb, s, hub.Capability{Name: "pay"}, price) },
		"grammar":              func(tb testing.TB, s *hub.Session) { hubtest.Answer(tb, s, "not..a.type", price) },
	} {
		f := try(t, func(tb testing.TB) { set(tb, hubtest.New(tb, policy).Join("shop")) })
		if want == "grammar" {
			want = "not..a.type"
		}
		f.requireFailure(t, want)
	}
}

// A test that does not settle because of a message says whose.
func TestSettleNamesMailboxes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := try(t, func(tb testing.TB) {
			h := hubtest.New(tb, security.AllowAll(), hubtest.AllowProblems("it hangs"), hubtest.AllowLeaks("it hangs"))
			gate := make(chan struct{})
			hubtest.Answer(tb, h.Join("stock"), "sold", func(context.Context, router.Message) (any, error) { <-gate; return nil, nil })
			for range 2 {
				hubtest.RequireAllowed(tb, h.Host().Post(tb.Context(), "stock", "sold", nil))
			}
			defer close(gate)
			h.Settle()
		})
		f.requireFailure(t, `plugin "stock": the handlers of messages: 1 running, 1 waiting`)
	})
}
