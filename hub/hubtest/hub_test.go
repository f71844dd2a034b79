package hubtest_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
	"github.com/stretchr/testify/require"
)

// A hub that does not get idle fails the test, by the name of who is busy.
func TestSettleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := try(t, func(tb testing.TB) {
			defer time.AfterFunc(time.Minute, func() { close(release) }) // Long before the hub gives up.
			h := newShop(tb, hubtest.With(hub.Options{WaitLimit: time.Hour}))
			_, err := h.Join("mailer").Subscribe("orders.placed", func(context.Context, events.Event) error {
				<-release
				return nil
			})
			require.NoError(t, err)
			shop := h.Join("shop")
			placeOrder(tb, shop)
			placeOrder(tb, shop)
			h.Settle()
			t.Error("Settle returned")
		})
		f.requireFailure(t, "did not settle within 10s", `plugin "mailer"`, `"orders.placed"`, "hub_test.go:", "1 running, 1 waiting")
	})
}

// Settle waits for what handlers emit, too.
func TestSettleCascade(t *testing.T) {
	h := newShop(t)
	h.Plugin("invoices", func(_ context.Context, s *hub.Session) error {
		_, err := s.Subscribe("orders.*", func(ctx context.Context, _ events.Event) error {
			_, err := s.Emit(ctx, "invoices.created", nil)
			return err
		})
		return err
	})
	got := hubtest.Record(t, h.Join("mailer"), "invoices.*")
	shop := h.Join("shop")
	for range 100 {
		placeOrder(t, shop)
	}
	h.Settle()
	require.Len(t, got.Events(), 100)
}

// A plugin that cannot join fails the test, with what to do about it.
func TestJoinFails(t *testing.T) {
	for _, test := range []struct {
		add  func(h *hubtest.Hub)
		want string
	}{
		{func(h *hubtest.Hub) { h.Join("stranger") }, `add "stranger" under "plugins"`},
		{func(h *hubtest.Hub) { h.Join("shop"); h.Join("shop") }, "the id is in use"},
		{func(h *hubtest.Hub) { h.Add(nil) }, "the plugin is nil"},
		{func(h *hubtest.Hub) {
			h.Plugin("shop", func(context.Context, *hub.Session) error { return errors.New("no wares") })
		}, "no wares"},
	} {
		f := try(t, func(tb testing.TB) {
			test.add(newShop(tb))
			t.Error("the test went on")
		})
		f.requireFailure(t, test.want)
	}
}

func TestOptions(t *testing.T) {
	var log slogRecorder
	h := newShop(t, hubtest.With(hub.Options{MaxPlugins: 1, Logger: slog.New(&log)}))
	h.Join("shop").Logger().Info("hello")
	require.Contains(t, log.messages, "hello")
	require.ErrorContains(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "mailer"}, nil)), "MaxPlugins")

	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ given, want time.Duration }{
			{0, hubtest.WaitLimit},
			{time.Minute, time.Minute},
		} {
			newShop(t, hubtest.With(hub.Options{WaitLimit: test.given})).Plugin("shop", func(ctx context.Context, _ *hub.Session) error {
				deadline, _ := ctx.Deadline()
				require.Equal(t, test.want, time.Until(deadline))
				return nil
			})
		}
	})

	for _, test := range []struct {
		option hubtest.Option
		want   string
	}{
		{hubtest.With(hub.Options{MaxPlugins: -1}), "MaxPlugins"},
		{hubtest.With(hub.Options{Policy: security.AllowAll()}), "the policy is an argument of New"},
		{hubtest.With(hub.Options{ExplainToPlugins: true}), "explanations are on"},
		{hubtest.AllowLeaks(""), "need a reason"},
		{hubtest.AllowProblems(""), "need a reason"},
	} {
		f := try(t, func(tb testing.TB) { newShop(tb, test.option) })
		f.requireFailure(t, test.want)
	}
}

// Unexplained hides the rule, which the test sees otherwise.
func TestUnexplained(t *testing.T) {
	for _, test := range []struct {
		options []hubtest.Option
		want    bool
	}{
		{nil, true},
		{[]hubtest.Option{hubtest.Unexplained()}, false},
	} {
		_, err := newShop(t, test.options...).Join("shop").Emit(t.Context(), "orders.internal.fraud", nil)
		denied := hubtest.RequireDenied(t, err, plugbus.ReasonDeniedByRule)
		require.Equal(t, test.want, denied.Explanation != "", denied.Explanation)
	}
}

// A policy that is not valid fails the test with all its mistakes.
func TestPolicy(t *testing.T) {
	mistakes := `{ "version": 1, "plugins": { "shop": { "emmit": true, "trust": "blind" } } }`
	f := try(t, func(tb testing.TB) { hubtest.Policy(tb, mistakes) })
	f.requireFailure(t, `"emmit"`, `"blind"`)

	path := filepath.Join(t.TempDir(), "policy.json")
	f = try(t, func(tb testing.TB) { hubtest.PolicyFile(tb, path) })
	f.requireFailure(t, path)

	require.NoError(t, os.WriteFile(path, []byte(mistakes), 0o600))
	f = try(t, func(tb testing.TB) { hubtest.PolicyFile(tb, path) })
	f.requireFailure(t, path+":1:", `"emmit"`, `"blind"`)

	require.NoError(t, os.WriteFile(path, []byte(shopPolicy), 0o600))
	require.Equal(t, []string{"invoices", "mailer", "shop"}, hubtest.PolicyFile(t, path).Plugins())
}

type slogRecorder struct {
	slog.Handler
	messages []string
}

func (r *slogRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *slogRecorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *slogRecorder) Handle(_ context.Context, record slog.Record) error {
	r.messages = append(r.messages, record.Message)
	return nil
}
