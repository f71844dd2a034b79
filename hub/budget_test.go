package hub_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// Ways to fail. Each fails once.
var ways = map[string]func(t testing.TB, h *hub.Hub, s *hub.Session){
	"handler panics": func(t testing.TB, h *hub.Hub, s *hub.Session) { handleOnce(t, h, s, func() error { panic("boo") }) },
	"handler ends its goroutine": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, func() error { runtime.Goexit(); return nil })
	},
	"filter panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, nil, events.Filter(func(events.Event) bool { panic("boo") }))
	},
	"concurrent handler panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, func() error { panic("boo") }, events.Concurrent(2))
	},
	"handler exceeds its time": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, func() error { <-time.After(2 * time.Millisecond); return nil }, events.Timeout(time.Millisecond))
	},
	"function of Go panics": func(t testing.TB, _ *hub.Hub, s *hub.Session) {
		require.NoError(t, s.Go("f", func(context.Context) { panic("boo") }))
	},
	"function of Go ends its goroutine": func(t testing.TB, _ *hub.Hub, s *hub.Session) {
		require.NoError(t, s.Go("f", func(context.Context) { runtime.Goexit() }))
	},
	"handler of messages panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { panic("boo") })
	},
	"handler of messages ends its goroutine": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { runtime.Goexit(); return nil })
	},
	"concurrent handler of messages panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { panic("boo") }, router.Concurrent(2))
	},
	"handler of messages exceeds its time": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, untilDone, router.Timeout(time.Millisecond))
	},
	"handler of messages exceeds the hub's time": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { <-time.After(31 * time.Millisecond); return nil })
	},
	"handler of posts panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		route := serve(t, s, "job", func(context.Context, router.Message) (any, error) { panic("boo") })
		require.NoError(t, h.Host().Post(t.Context(), s.ID(), "job", 1))
		synctest.Wait()
		route.Remove()
	},
	"handler of a topic panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		route, err := s.HandleTopic("job", func(context.Context, router.Message) error { panic("boo") })
		require.NoError(t, err)
		_, err = h.Host().Publish(t.Context(), "job", 1)
		require.NoError(t, err)
		synctest.Wait()
		route.Remove()
	},
	"handler of a stream panics": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		route, err := s.HandleStream("job", func(context.Context, router.Message, func(any) bool) error { panic("boo") })
		require.NoError(t, err)
		err = readAll(t.Context(), h.Host(), s.ID(), "job", 1)
		require.Error(t, err)
		route.Remove()
	},
	"flood is refused": func(t testing.TB, _ *hub.Hub, s *hub.Session) {
		for i := range 200 {
			_, err := s.Emit(t.Context(), fmt.Sprintf("plugin:%d", i), 1)
			denied(t, err, plugbus.ReasonReservedName)
		}
	},
}

// harmless are the ways that are no failures of the budget.
var harmless = map[string]func(t testing.TB, h *hub.Hub, s *hub.Session){
	"handler returns an error": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, func() error { return errPlugin })
	},
	"handler returns an error like ours": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		handleOnce(t, h, s, func() error { return fmt.Errorf("from elsewhere: %w", events.ErrTimedOut) })
	},
	"handler of messages returns an error": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { return errPlugin })
	},
	"handler of messages returns an error like ours": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		serveOnce(t, h, s, func(context.Context) error { return fmt.Errorf("from elsewhere: %w", router.ErrTimedOut) })
	},
	"sender chose the deadline": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		route := serve(t, s, "job", func(context.Context, router.Message) (any, error) { <-time.After(time.Second); return nil, nil })
		_, err := h.Host().Send(t.Context(), s.ID(), "job", 1, router.Timeout(1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		_, err = h.Host().Send(ctx, s.ID(), "job", 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		err = readAll(ctx, h.Host(), s.ID(), "job", 1)
		require.Error(t, err)
		<-time.After(3 * time.Second)
		route.Remove()
	},
	"sender does not read": func(t testing.TB, h *hub.Hub, s *hub.Session) {
		var last error
		route, err := s.HandleStream("job", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			for yield(1) { // Until the reader is too slow.
			}
			return nil
		})
		require.NoError(t, err)
		for _, err := range h.Host().Stream(t.Context(), s.ID(), "job", 1) {
			<-time.After(time.Minute)
			last = err
		}
		require.ErrorIs(t, last, router.ErrIdle)
		route.Remove()
	},
	"some acts are refused": func(t testing.TB, _ *hub.Hub, s *hub.Session) {
		for range 30 {
			_, err := s.Emit(t.Context(), "plugin:x", 1)
			denied(t, err, plugbus.ReasonReservedName)
		}
	},
}

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	<-time.After(time.Millisecond)
	return ctx.Err()
}

// serveOnce has a handler of messages called once.
func serveOnce(t testing.TB, h *hub.Hub, s *hub.Session, f func(ctx context.Context) error, options ...router.HandleOption) {
	t.Helper()
	route := serve(t, s, "job", func(ctx context.Context, _ router.Message) (any, error) { return nil, f(ctx) }, options...)
	_, err := h.Host().Send(t.Context(), s.ID(), "job", 1)
	require.Error(t, err)
	<-time.After(5 * time.Millisecond)
	synctest.Wait()
	route.Remove()
}

// handleOnce has a handler of the plugin called once.
func handleOnce(t testing.TB, h *hub.Hub, s *hub.Session, f func() error, options ...events.SubscribeOption) {
	t.Helper()
	sub, err := s.Subscribe("job.*", func(context.Context, events.Event) error { return f() }, options...)
	require.NoError(t, err)
	emit(t, h.Host(), "job.new", 1)
	synctest.Wait()
	<-time.After(5 * time.Millisecond)
	sub.Unsubscribe()
}

// TestQuarantine shows that the failures of the budget do not quarantine a
// plugin, and one more within the minute does, in whatever way it fails; and
// that this can be seen: as state, event, audit entry, alert and log line, which
// name the failure.
func TestQuarantine(t *testing.T) {
	for way, fail := range ways {
		synctest.Test(t, func(t *testing.T) {
			var log lines
			var alerts []security.Alert
			h := open(t, hub.Options{Router: router.Options{RequestTimeout: 30 * time.Millisecond}, Logger: log.logger(), OnAlert: func(a security.Alert) {
				if a.Kind == security.PluginQuarantined {
					alerts = append(alerts, a)
				}
			}})
			box := listen(t, h.Host(), "plugin:quarantined")
			s := join(t, h, "a")
			for range 5 {
				fail(t, h, s)
			}
			synctest.Wait()
			require.Equal(t, hub.Ready, state(h, "a"), way)
			fail(t, h, s)
			synctest.Wait()
			require.Equal(t, hub.Quarantined, state(h, "a"), way)

			require.Equal(t, []string{"plugin:quarantined"}, box.names())
			notice, ok := box.events[0].Data().(hub.Notice)
			require.True(t, ok)
			require.Equal(t, "a", notice.Plugin)
			require.Equal(t, "more than 5 failures a minute", notice.Reason)
			found := entries(t, h, audit.Query{Event: "plugin.quarantined", Target: "a"})
			require.Len(t, found, 1)
			require.True(t, found[0].Admin)
			require.Equal(t, h.Inspect().Plugins[0].LastError, found[0].Details[1].Value)
			require.Len(t, alerts, 1)
			require.Equal(t, security.Alert{
				Kind: security.PluginQuarantined, Severity: security.High, Plugin: "a",
				Count: 6, Threshold: 5, Time: alerts[0].Time, Record: found[0].Seq,
			}, alerts[0])
			require.Contains(t, log.String(), `msg="the plugin is quarantined`)
			require.EqualValues(t, 6, h.Inspect().Plugins[0].Failures)
			require.False(t, h.Health(t.Context())[0].Well())
		})
	}
}

// TestHarmlessFailures shows what the budget does not count.
func TestHarmlessFailures(t *testing.T) {
	for way, fail := range harmless {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			s := join(t, h, "a")
			for range 6 {
				fail(t, h, s)
			}
			synctest.Wait()
			require.Equal(t, hub.Ready, state(h, "a"), way)
		})
	}
}

// TestFailureBudget shows what the option does.
func TestFailureBudget(t *testing.T) {
	for _, test := range []struct {
		budget, failures int
		want             hub.State
	}{
		{1, 1, hub.Ready},
		{1, 2, hub.Quarantined},
		{0, 5, hub.Ready},
		{0, 6, hub.Quarantined},
		{20, 20, hub.Ready},
		{-1, 100, hub.Ready},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{FailureBudget: test.budget})
			s := join(t, h, "a")
			for range test.failures {
				require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
			}
			synctest.Wait()
			require.Equal(t, test.want, state(h, "a"), "budget %d", test.budget)
			require.EqualValues(t, test.failures, h.Inspect().Plugins[0].Failures)
		})
	}
}

// TestFailureBudgetSlides shows that failures count for a minute.
func TestFailureBudgetSlides(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		want  hub.State
	}{{12 * time.Second, hub.Quarantined}, {12*time.Second + 1, hub.Ready}} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{ProbeAfter: -1})
			s := join(t, h, "a")
			for range 20 {
				require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
				<-time.After(test.every)
			}
			require.Equal(t, test.want, state(h, "a"), "every %v", test.every)
		})
	}
}

// TestInQuarantine shows that a quarantined plugin may do nothing and gets
// nothing, also nothing that waited, and cannot flood the budget further; its
// subscriptions stay, and work after Restore.
func TestInQuarantine(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{nil, {events.Fair()}, {events.Concurrent(1)}, {events.Concurrent(2)}} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			asleep := false
			p := &receiver{plug: plug{manifest: named("a"), health: func(context.Context) error {
				require.False(t, asleep, "nobody asks who is quarantined")
				return nil
			}}}
			p.receive = func(context.Context, events.Event) error { return nil }
			require.NoError(t, h.Register(t.Context(), p))
			s := p.session
			var box inbox
			release := make(chan struct{})
			_, err := s.Subscribe("word.*", func(ctx context.Context, e events.Event) error {
				<-release
				return box.handle(ctx, e)
			}, options...)
			require.NoError(t, err)
			emit(t, s, "word.before", 1)
			for range 3 {
				emit(t, h.Host(), "word.waits", 1)
			}
			synctest.Wait()
			running := h.Ledger().Running
			quarantine(t, h, s)
			close(release)
			idle(t, h)
			require.Len(t, box.names(), int(running))
			require.EqualValues(t, 4-running, h.Ledger().Undeliverable)

			for _, act := range acts {
				for range 300 {
					denied(t, act.do(t.Context(), s, "word.said", 1), plugbus.ReasonQuarantined)
				}
			}
			receipt, err := h.Host().Emit(t.Context(), "word.lost", 1)
			require.NoError(t, err)
			require.Equal(t, 1, receipt.Matched)
			receipt, err = h.Host().Broadcast(t.Context(), "word.lost", 1, events.Audience{})
			require.NoError(t, err)
			require.Zero(t, receipt.Accepted)
			idle(t, h)
			require.Len(t, box.names(), int(running))
			asleep = true
			require.False(t, h.Health(t.Context())[0].Well())
			asleep = false
			info := h.Inspect().Plugins[0]
			require.EqualValues(t, 6, info.Failures)
			e := h.Explain("a", plugbus.VerbEmit, "word.said")
			require.False(t, e.Allowed)
			require.Equal(t, plugbus.ReasonQuarantined, e.Reason)
			require.Contains(t, e.Remedy, `Hub.Restore("a")`)
			require.Equal(t, "quarantine", e.Layers[0].Name)

			back := listen(t, h.Host(), "plugin:restored")
			require.NoError(t, h.Restore("a"))
			require.True(t, h.Explain("a", plugbus.VerbEmit, "word.said").Allowed)
			require.Equal(t, hub.Ready, state(h, "a"))
			emit(t, s, "word.again", 1)
			idle(t, h)
			require.Equal(t, "word.again", box.names()[running])
			require.Equal(t, []string{"plugin:restored"}, back.names())
			require.Len(t, entries(t, h, audit.Query{Event: "plugin.restored", Target: "a"}), 1)
			require.True(t, h.Health(t.Context())[0].Well())
			require.ErrorIs(t, h.Restore("a"), plugbus.ErrInvalid)
			require.ErrorContains(t, h.Restore("a"), "the plugin is ready; expected one that is quarantined")

			for range 5 {
				require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
			}
			synctest.Wait()
			require.Equal(t, hub.Ready, state(h, "a"), "the budget is full again")
			quarantine(t, h, s) // What was cached in the first quarantine is no harm.
			denied(t, acts[0].do(t.Context(), s, "word.again", 1), plugbus.ReasonQuarantined)
			require.NoError(t, h.Unregister(t.Context(), "a"), "who is quarantined can leave")
			box.events = nil
			emit(t, join(t, h, "a"), "word.new", 1)
		})
	}
}

// TestHostIsNeverQuarantined shows that the host's own failures are logged and
// counted, and no more.
func TestHostIsNeverQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		for range 50 {
			require.NoError(t, h.Host().Go("panics", func(context.Context) { panic("boo") }))
		}
		for range 5000 {
			_, err := h.Host().Emit(t.Context(), "hub:x", 1)
			denied(t, err, plugbus.ReasonReservedName)
		}
		synctest.Wait()
		require.Equal(t, hub.Ready, state(h, "host"))
		require.ErrorIs(t, h.Restore("host"), plugbus.ErrInvalid)
	})
}

// TestFailuresAreRecorded shows that a delivery that fails is recorded with the
// plugin, the subscription and its site, and logged with a stack.
func TestFailuresAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		h := open(t, hub.Options{Logger: log.logger()})
		s := join(t, h, "a")
		_, err := s.Subscribe("job.*", func(context.Context, events.Event) error { panic(errors.New("boo")) })
		require.NoError(t, err)
		emit(t, h.Host(), "job.new", 1)
		synctest.Wait()
		found := entries(t, h, audit.Query{Event: "delivery.failed", Actor: "a"})
		require.Len(t, found, 1)
		require.Equal(t, plugbus.Failed, found[0].Outcome)
		require.Equal(t, "job.new", found[0].Target)
		details := map[string]string{}
		for _, d := range found[0].Details {
			details[d.Key] = d.Value
		}
		require.Equal(t, "host", details["source"])
		require.Equal(t, "job.*", details["pattern"])
		require.Contains(t, details["site"], "budget_test.go:")
		require.Equal(t, "events: the handler panicked: boo", details["error"])
		require.Contains(t, log.String(), "stack=")
	})
}
