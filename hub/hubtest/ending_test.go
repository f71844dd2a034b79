package hubtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/stretchr/testify/require"
)

// A test of plugins that behave passes, inside and outside of bubbles.
func TestWellBehaved(t *testing.T) {
	test := func(t *testing.T) {
		f := try(t, func(tb testing.TB) {
			h := newShop(tb)
			mailer := h.Plugin("mailer", func(_ context.Context, s *hub.Session) error {
				return s.Go("poll", func(ctx context.Context) { <-ctx.Done() })
			})
			got := hubtest.Record(tb, mailer, "orders.placed")
			placeOrder(tb, h.Join("shop"))
			h.Settle()
			require.Equal(t, []string{"orders.placed"}, got.Names())
		})
		f.requirePass(t)
	}
	test(t)
	synctest.Test(t, test)
}

// A handler that ignores its context fails the test in which it hangs, by the
// name of its plugin, its pattern and its line.
func TestLeakedHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hang := func(tb testing.TB, options ...hubtest.Option) {
			h := newShop(tb, options...)
			_, err := h.Join("mailer").Subscribe("orders.placed", func(context.Context, events.Event) error {
				<-release
				return nil
			})
			require.NoError(t, err)
			placeOrder(tb, h.Join("shop"))
		}
		f := try(t, func(tb testing.TB) { hang(tb) })
		f.requireFailure(t, "something leaks", `plugin "mailer"`, `the handler of "orders.placed"`, "ending_test.go:", "handlers abandoned: 1")

		f = try(t, func(tb testing.TB) { hang(tb, hubtest.AllowLeaks("the driver cannot be interrupted")) })
		f.requirePass(t, "which is allowed, since the driver cannot be interrupted", `plugin "mailer"`)

		f = try(t, func(tb testing.TB) { hang(tb, hubtest.AllowProblems("a leak is none of these")) })
		f.requireFailure(t, "something leaks")
		close(release)
	})
}

// A handler that returns only when its session ends leaks no more then, but its
// plugin could not leave in order.
func TestLingeringHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		linger := func(tb testing.TB, options ...hubtest.Option) {
			h := newShop(tb, options...)
			h.Add(slowToStop{}) // It leaves last, when the handler has returned.
			_, err := h.Join("mailer").Subscribe("orders.placed", func(ctx context.Context, _ events.Event) error {
				<-ctx.Done()
				return nil
			})
			require.NoError(t, err)
			placeOrder(tb, h.Join("shop"))
		}
		f := try(t, func(tb testing.TB) { linger(tb) })
		f.requireFailure(t, "something leaks", `plugin "mailer"`, "handlers abandoned: 1")
		require.NotContains(t, f.failures[0], "has not returned")

		f = try(t, func(tb testing.TB) { linger(tb, hubtest.AllowLeaks("it polls")) })
		f.requirePass(t, "it polls")
	})
}

type slowToStop struct{}

func (slowToStop) Manifest() hub.Manifest                    { return hub.Manifest{ID: "invoices"} }
func (slowToStop) Start(context.Context, *hub.Session) error { return nil }
func (slowToStop) Stop(context.Context) error {
	<-time.After(time.Second)
	return nil
}

// A function of Session.Go that ignores its context is a leak too.
func TestLeakedGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := try(t, func(tb testing.TB) {
			newShop(tb).Plugin("mailer", func(_ context.Context, s *hub.Session) error {
				return s.Go("poll", func(context.Context) { <-release })
			})
		})
		f.requireFailure(t, `plugin "mailer": the goroutine "poll" has not returned`)
		close(release)
	})
}

// A panic fails the test, although the hub survives it.
func TestPanic(t *testing.T) {
	panics := func(tb testing.TB, options ...hubtest.Option) {
		h := newShop(tb, options...)
		_, err := h.Join("mailer").Subscribe("orders.placed", func(context.Context, events.Event) error { panic("no stamps") })
		require.NoError(t, err)
		placeOrder(tb, h.Join("shop"))
	}
	f := try(t, func(tb testing.TB) { panics(tb) })
	f.requireFailure(t, `plugin "mailer"`, `the handler of "orders.placed"`, "no stamps", "TestPanic")

	f = try(t, func(tb testing.TB) { panics(tb, hubtest.AllowProblems("this is about panics")) })
	f.requirePass(t, "this is about panics", "no stamps")

	f = try(t, func(tb testing.TB) {
		newShop(tb).Plugin("mailer", func(_ context.Context, s *hub.Session) error {
			return s.Go("poll", func(context.Context) { panic("no post office") })
		})
	})
	f.requireFailure(t, `plugin "mailer"`, "goroutine poll", "no post office")
}

type stubborn struct{}

func (stubborn) Manifest() hub.Manifest                    { return hub.Manifest{ID: "mailer"} }
func (stubborn) Start(context.Context, *hub.Session) error { return nil }
func (stubborn) Stop(context.Context) error                { return errors.New("the door is locked") }

// A plugin that cannot stop fails the test.
func TestStopFails(t *testing.T) {
	add := func(tb testing.TB, options ...hubtest.Option) { newShop(tb, options...).Add(stubborn{}) }
	f := try(t, func(tb testing.TB) { add(tb) })
	f.requireFailure(t, "the hub did not end well", `plugin "mailer"`, "the door is locked")

	f = try(t, func(tb testing.TB) { add(tb, hubtest.AllowLeaks("it is not a leak")) })
	f.requireFailure(t, "the door is locked")

	f = try(t, func(tb testing.TB) { add(tb, hubtest.AllowProblems("it never stops")) })
	f.requirePass(t, "it never stops")
}

// A test may close its hub itself.
func TestClosedByTheTest(t *testing.T) {
	f := try(t, func(tb testing.TB) {
		h := newShop(tb)
		h.Join("shop")
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean())
	})
	f.requirePass(t)
}

// What the hub logs goes to the test's log, until the test ends: then package
// testing takes no more.
func TestLog(t *testing.T) {
	var late *hub.Session
	f := try(t, func(tb testing.TB) {
		late = newShop(tb).Join("shop")
		late.Logger().Info("one order", "id", 17)
	})
	late.Logger().Info("too late")
	require.Contains(t, f.output.String(), "level=INFO msg=\"one order\" plugin=shop id=17\n")
	require.NotContains(t, f.output.String(), "too late")
	f.requirePass(t)
}

func placeOrder(tb testing.TB, shop *hub.Session) {
	tb.Helper()
	_, err := shop.Emit(context.Background(), "orders.placed", nil)
	hubtest.RequireAllowed(tb, err)
}
