package hub_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	EventBus "github.com/asaskevich/EventBus"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// TestNoticeBoard shows that a host's EventBus gets the notices of the hub, in
// order and one at a time.
func TestNoticeBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := EventBus.New()
		var got []string
		for _, event := range []string{hub.EventRegistered, hub.EventUnregistered, hub.EventQuarantined, hub.EventRestored, hub.EventAlert} {
			require.NoError(t, board.Subscribe(event, func(n hub.Notice) {
				require.Equal(t, event, n.Event)
				require.Equal(t, "a", n.Plugin)
				require.Equal(t, time.Now(), n.Time)
				got = append(got, event)
			}))
		}
		h := open(t, hub.Options{NoticeBoard: board})
		s := join(t, h, "a")
		quarantine(t, h, s)
		require.NoError(t, h.Restore("a"))
		require.NoError(t, h.Unregister(t.Context(), "a"))
		synctest.Wait()
		require.Equal(t, []string{hub.EventRegistered, hub.EventQuarantined, hub.EventAlert, hub.EventRestored, hub.EventUnregistered}, got)
		require.Equal(t, hub.DeskStats{}, h.Inspect().Desk)
	})
}

// TestNoticeBoardMishaps shows that a notice handler that panics, has the wrong
// form or ends its goroutine keeps neither the hub nor the next notice.
func TestNoticeBoardMishaps(t *testing.T) {
	for _, bad := range []any{
		func(hub.Notice) { panic("boo") },
		func(hub.Notice) { runtime.Goexit() },
		func() {},
		func(string) {},
		func(hub.Notice, int) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log lines
			board := EventBus.New()
			got := 0
			require.NoError(t, board.Subscribe(hub.EventRegistered, bad))
			require.NoError(t, board.Subscribe(hub.EventUnregistered, func(hub.Notice) { got++ }))
			h := open(t, hub.Options{NoticeBoard: board, Logger: log.logger()})
			for range 3 {
				join(t, h, "a")
				require.NoError(t, h.Unregister(t.Context(), "a"))
			}
			synctest.Wait()
			require.Equal(t, 3, got, "%T", bad)
			require.EqualValues(t, 3, h.Inspect().Desk.Panics, "%T", bad)
			require.Contains(t, log.String(), "func(hub.Notice)")
			_, err := h.Close(t.Context())
			require.NoError(t, err)
		})
	}
}

// TestNoticeBoardThatBlocks shows that a notice handler that never returns
// delays nothing but the notices, of which those that find no room are counted,
// and that Close says so, with the audit log flushed all the same.
func TestNoticeBoardThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		board := EventBus.New()
		require.NoError(t, board.Subscribe(hub.EventRegistered, func(hub.Notice) { <-release }))
		var written []string
		h := open(t, hub.Options{NoticeBoard: board, Audit: audit.Options{Sinks: []audit.SinkOptions{{Name: "list", Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
			written = append(written, e.Event)
			return nil
		})}}}})
		box := listen(t, h.Host(), "plugin:*")
		start := time.Now()
		for range 600 {
			join(t, h, "a")
			require.NoError(t, h.Unregister(t.Context(), "a"))
			synctest.Wait() // For the sink.
		}
		idle(t, h)
		require.Zero(t, time.Since(start))
		require.Len(t, box.names(), 1200)
		require.Equal(t, hub.DeskStats{Waiting: 1024, Dropped: 1200 - 1024 - 1}, h.Inspect().Desk)

		report, err := h.Close(t.Context())
		require.ErrorContains(t, err, "a callback of the host (NoticeBoard or OnAlert) has not returned")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 30*time.Second, time.Since(start))
		require.Empty(t, report.Problems, "the plugins have nothing to do with it")
		require.Equal(t, []hub.Leak{{Plugin: "host", Kind: "callback", Name: "NoticeBoard or OnAlert"}}, report.Leaks)
		require.EqualValues(t, 1200-1, h.Inspect().Desk.Dropped, "nothing is told after Close")
		require.Contains(t, written, "hub.closed")
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
		require.Zero(t, h.Inspect().Desk.Waiting)
	})
}

// A reentrant notice handler publishes on the board that calls it, which that
// board does not bear: it waits for its own lock.
type reentrant struct {
	board   EventBus.Bus
	entered chan struct{}
}

func (r *reentrant) publishAgain() {
	close(r.entered)
	r.board.Publish("anything")
}

// TestNoticeBoardReentry shows that a handler that locks up the host's EventBus
// locks up nothing else.
func TestNoticeBoardReentry(t *testing.T) {
	board := EventBus.New()
	again := &reentrant{board, make(chan struct{})}
	require.NoError(t, board.Subscribe(hub.EventRegistered, func(hub.Notice) { again.publishAgain() }))
	h := open(t, hub.Options{NoticeBoard: board, WaitLimit: 50 * time.Millisecond})
	s := join(t, h, "a")
	<-again.entered
	box := listen(t, h.Host(), "word.*")
	emit(t, s, "word.said", 1)
	idle(t, h)
	require.Len(t, box.names(), 1)
	require.NoError(t, h.Unregister(t.Context(), "a"))
	report, err := h.Close(t.Context())
	require.ErrorContains(t, err, "has not returned")
	require.Empty(t, report.Problems)
	require.Equal(t, []hub.Leak{{Plugin: "host", Kind: "callback", Name: "NoticeBoard or OnAlert"}}, report.Leaks)
}

// TestNoticesToPlugins shows that a plugin hears of the hub's own events only if
// it names them and the policy does too; no leading wildcard reaches them.
func TestNoticesToPlugins(t *testing.T) {
	for _, test := range []struct {
		grant, pattern string
		refused        plugbus.Reason
		want           bool
	}{
		{`true`, "**", "", false},
		{`{"allow": ["**"]}`, "**", "", false},
		{`{"allow": ["**"]}`, "plugin:registered", plugbus.ReasonInsufficientPermissions, false},
		{`true`, "plugin:*", plugbus.ReasonInsufficientPermissions, false},
		{`{"allow": ["plugin:*"]}`, "plugin:*", "", true},
		{`{"allow": ["plugin:registered"]}`, "plugin:registered", "", true},
		{`{"allow": ["plugin:registered"]}`, "plugin:*", plugbus.ReasonPatternTooWide, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{Policy: policyOf(t, `"a": {"subscribe": `+test.grant+`}, "b": {}`)})
			a := join(t, h, "a")
			idle(t, h)
			var box inbox
			_, err := a.Subscribe(test.pattern, box.handle)
			if test.refused != "" {
				denied(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			join(t, h, "b")
			idle(t, h)
			require.Equal(t, test.want, slices.Contains(box.names(), hub.EventRegistered), "%s %s", test.grant, test.pattern)
		})
	}
}

// TestL11Alerts shows that an alert of the authority is pushed: to OnAlert, as an
// event, on the notice board and into the log, once.
func TestL11Alerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		var alerts []security.Alert
		board := EventBus.New()
		noticed := 0
		require.NoError(t, board.Subscribe(hub.EventAlert, func(hub.Notice) { noticed++ }))
		h := open(t, hub.Options{
			Logger: log.logger(), NoticeBoard: board, Policy: policyOf(t, `"a": {}`),
			OnAlert: func(a security.Alert) { alerts = append(alerts, a) },
		})
		box := listen(t, h.Host(), hub.EventAlert)
		a := join(t, h, "a")
		for range 25 {
			_, err := a.Emit(t.Context(), "word.said", 1)
			denied(t, err, plugbus.ReasonInsufficientPermissions)
		}
		synctest.Wait()
		require.Len(t, alerts, 1)
		require.Equal(t, security.ManyRefusals, alerts[0].Kind)
		require.Len(t, box.events, 1)
		require.Equal(t, alerts[0].String(), box.events[0].Data().(hub.Notice).Reason)
		require.Equal(t, 1, noticed)
		require.Contains(t, log.String(), `msg="security alert"`)
		entry, ok := h.Audit().Get(alerts[0].Record)
		require.True(t, ok)
		require.Equal(t, "alert.many_refusals", entry.Event)
	})
}

// TestOnAlertMishaps shows that a callback that panics, or acts on the hub, does
// no harm: it holds no lock of the hub's.
func TestOnAlertMishaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *hub.Hub
		restored := make(chan error, 1)
		h = open(t, hub.Options{OnAlert: func(a security.Alert) {
			restored <- h.Restore(a.Plugin)
			_, _ = h.Host().Emit(context.Background(), "word.said", 1)
			panic("boo")
		}})
		box := listen(t, h.Host(), "word.*")
		s := join(t, h, "a")
		for range 6 {
			require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
		}
		synctest.Wait()
		require.NoError(t, <-restored)
		require.Equal(t, hub.Ready, state(h, "a"))
		require.Len(t, box.names(), 1)
		require.EqualValues(t, 1, h.Inspect().Desk.Panics)
		_, err := s.Emit(t.Context(), "word.said", 1, events.NoHistory())
		require.NoError(t, err)
	})
}

// TestAlertsHaveRoom shows that a plugin which provides and withdraws for ever, and so
// makes as many notices as it likes, does not keep from a slow host the alert about
// itself.
func TestAlertsHaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, gate := EventBus.New(), make(chan struct{})
		lost, alerts := 0, 0
		require.NoError(t, board.Subscribe(hub.EventRequirementLost, func(hub.Notice) { <-gate; lost++ }))
		h := open(t, hub.Options{NoticeBoard: board, OnAlert: func(security.Alert) { alerts++ }})
		a := join(t, h, "a")
		provide(t, a, hub.Capability{Name: "count"}, echo)
		needs := &plug{manifest: func() hub.Manifest { return hub.Manifest{ID: "b", Requires: []string{"count"}} }}
		require.NoError(t, h.Register(t.Context(), needs))
		for range 2000 {
			require.NoError(t, a.Withdraw("count"))
			provide(t, a, hub.Capability{Name: "count"}, echo)
		}
		quarantine(t, h, a)
		close(gate)
		synctest.Wait()
		require.Equal(t, 1, alerts)
		require.Less(t, lost, 1000)
		require.Equal(t, 2000, lost+int(h.Inspect().Desk.Dropped))
	})
}
