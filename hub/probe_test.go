package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// fails has a plugin fail once, in a way that counts.
func fails(t testing.TB, s *hub.Session) {
	t.Helper()
	require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
	synctest.Wait()
}

// A checked plugin answers its health checks by ask, and notes when it was asked.
type checked struct {
	plug
	began time.Time
	asked []time.Duration // since it joined
}

// check registers a checked plugin "a". A nil ask is always well.
func check(t testing.TB, h *hub.Hub, ask func(ctx context.Context, n int) error) *checked {
	t.Helper()
	c := &checked{began: time.Now()}
	c.manifest = named("a")
	c.health = func(ctx context.Context) error {
		c.asked = append(c.asked, time.Since(c.began))
		if ask == nil {
			return nil
		}
		return ask(ctx, len(c.asked))
	}
	require.NoError(t, h.Register(t.Context(), c))
	return c
}

// stay returns how it stands with the quarantine of a plugin.
func stay(t testing.TB, h *hub.Hub, id string) hub.Quarantine {
	t.Helper()
	p, ok := snapshotOf(h, id)
	require.True(t, ok)
	return p.Quarantine
}

// results returns the results of the probes in the audit log.
func results(t testing.TB, h *hub.Hub) (found []string) {
	t.Helper()
	for _, e := range entries(t, h, audit.Query{Event: "plugin.probed"}) {
		require.Equal(t, "hub", e.Actor)
		require.True(t, e.Admin)
		found = append(found, slices.Repeat([]string{detail(e, "result")}, int(e.Count))...)
	}
	return found
}

// TestProbes shows when a plugin in quarantine is probed: after the first wait, and then
// after waits that double up to the limit, until it is well; that a probe counts as no
// failure; and that there is one alert, however many probes fail.
func TestProbes(t *testing.T) {
	for _, test := range []struct {
		options hub.Options
		ill     int // probes before the plugin is well
		want    []time.Duration
	}{
		{hub.Options{}, 0, []time.Duration{30 * time.Second}},
		{hub.Options{}, 3, []time.Duration{30 * time.Second, 90 * time.Second, 210 * time.Second, 450 * time.Second}},
		{hub.Options{ProbeAfter: time.Second, ProbeMax: 3 * time.Second}, 4, []time.Duration{1e9, 3e9, 6e9, 9e9, 12e9}},
		{hub.Options{ProbeAfter: time.Second, ProbeMax: time.Second}, 2, []time.Duration{1e9, 2e9, 3e9}},
		{hub.Options{ProbeAfter: time.Hour}, 1, []time.Duration{time.Hour, 2 * time.Hour}},
		{hub.Options{ProbeAfter: 16 * time.Minute}, 2, []time.Duration{16 * time.Minute, 46 * time.Minute, 76 * time.Minute}},
		{hub.Options{ProbeAfter: -1}, 0, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Logf("%v %v %d", test.options.ProbeAfter, test.options.ProbeMax, test.ill)
			alerts := 0
			test.options.OnAlert = func(a security.Alert) {
				if a.Kind == security.PluginQuarantined {
					alerts++
				}
			}
			h := open(t, test.options)
			back := listen(t, h.Host(), "plugin:restored")
			p := check(t, h, func(_ context.Context, n int) error {
				if n <= test.ill {
					return errPlugin
				}
				return nil
			})
			quarantine(t, h, p.session)
			<-time.After(100 * time.Hour)
			require.Equal(t, test.want, p.asked)
			info := must(snapshotOf(h, "a"))
			require.EqualValues(t, 6, info.Failures)
			require.Equal(t, 1, alerts)
			if test.want == nil {
				require.Equal(t, hub.Quarantined, info.State)
				require.Empty(t, results(t, h))
				return
			}
			require.Equal(t, hub.Ready, info.State)
			require.Equal(t, append(slices.Repeat([]string{errPlugin.Error()}, test.ill), "well"), results(t, h))
			require.Len(t, back.events, 1)
			require.Equal(t, "probe", back.events[0].Data().(hub.Notice).Reason)
			found := entries(t, h, audit.Query{Event: "plugin.restored"})
			require.Len(t, found, 1)
			require.Equal(t, [2]string{"hub", "probe"}, [2]string{found[0].Actor, detail(found[0], "why")})
		})
	}
}

// TestProbation shows that within a minute of a restoration by a probe one failure sends
// a plugin back, for twice as long; that one which does not count does not; and that
// later it takes as many as ever, and the waits begin anew.
func TestProbation(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		back  bool
	}{{0, true}, {hub.Probation - 1, true}, {hub.Probation, false}, {time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			var alerts []security.Alert
			h := open(t, hub.Options{OnAlert: func(a security.Alert) {
				if a.Kind == security.PluginQuarantined {
					alerts = append(alerts, a)
				}
			}})
			p := check(t, h, nil)
			quarantine(t, h, p.session)
			<-time.After(30 * time.Second)
			synctest.Wait()
			require.Equal(t, hub.Ready, state(h, "a"))
			require.Equal(t, time.Now().Add(time.Minute), stay(t, h, "a").Probation.Round(0))
			emit(t, p.session, "word.said", 1)
			<-time.After(test.after)

			listenAndFail(t, h, p.session)
			require.Equal(t, hub.Ready, state(h, "a"), "an error is no failure of the budget")
			fails(t, p.session)
			require.Equal(t, test.back, state(h, "a") == hub.Quarantined, "after %v", test.after)
			require.Zero(t, stay(t, h, "a").Probation)
			wait := 30 * time.Second
			if test.back {
				wait = time.Minute
				require.Equal(t, "a failure on probation", stay(t, h, "a").Reason)
				require.Len(t, alerts, 2)
				require.Equal(t, [2]uint64{1, 0}, [2]uint64{alerts[1].Count, alerts[1].Threshold})
			} else {
				for range 5 {
					fails(t, p.session)
				}
				require.Equal(t, hub.Quarantined, state(h, "a"))
			}
			require.Equal(t, time.Now().Add(wait), stay(t, h, "a").NextProbe.Round(0))
			<-time.After(wait)
			synctest.Wait()
			require.Equal(t, hub.Ready, state(h, "a"))
			require.Len(t, p.asked, 2)
		})
	}
}

// listenAndFail has a handler of the plugin return an error once, at once.
func listenAndFail(t testing.TB, h *hub.Hub, s *hub.Session) {
	t.Helper()
	sub, err := s.Subscribe("error.*", func(context.Context, events.Event) error { return errPlugin })
	require.NoError(t, err)
	emit(t, h.Host(), "error.wanted", 1)
	synctest.Wait()
	sub.Unsubscribe()
}

// TestNoRetryStorm shows that a plugin which passes every probe and fails at once when it
// is let go on has ever longer waits, so that a day of it takes few probes.
func TestNoRetryStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		p := check(t, h, nil)
		_, err := h.Host().Subscribe("plugin:restored", func(context.Context, events.Event) error {
			return p.session.Go("panics", func(context.Context) { panic("boo") })
		})
		require.NoError(t, err)
		quarantine(t, h, p.session)
		<-time.After(24 * time.Hour)
		require.Less(t, len(p.asked), 60)
		require.EqualValues(t, len(p.asked)+1, stay(t, h, "a").Times)
		last := len(p.asked) - 1
		require.Equal(t, 30*time.Minute, p.asked[last]-p.asked[last-1])
	})
}

// TestProbesThatFail shows the ways in which a probe does not find a plugin well, each of
// which leaves it in quarantine, counts no further, and leads to another probe after
// twice the wait.
func TestProbesThatFail(t *testing.T) {
	for _, test := range []struct {
		name string
		ask  func(ctx context.Context, n int) error
		says string
		took time.Duration
	}{
		{"returns an error", func(context.Context, int) error { return errPlugin }, errPlugin.Error(), 0},
		{"panics", func(context.Context, int) error { panic("boo") }, "Health panicked: boo", 0},
		{"ends its goroutine", func(context.Context, int) error { runtime.Goexit(); return nil }, events.ErrGoexit.Error(), 0},
		{"returns what cannot be read", func(context.Context, int) error { return awkward{} }, "whose text cannot be had", 0},
		{"returns too late", func(ctx context.Context, _ int) error { <-ctx.Done(); <-time.After(1); return nil }, "Health has not returned", 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(test.name)
			h := open(t, hub.Options{FailureBudget: 1})
			p := check(t, h, test.ask)
			fails(t, p.session)
			fails(t, p.session)
			since := time.Now()
			for n, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
				require.Equal(t, time.Now().Add(wait).Round(time.Second), stay(t, h, "a").NextProbe.Round(time.Second))
				require.Contains(t, h.Explain("a", plugbus.VerbEmit, "x").Layers[0].Detail, "the next probe is in "+wait.String())
				<-time.After(wait)
				synctest.Wait()
				if test.took > 0 {
					require.True(t, stay(t, h, "a").Probing)
					require.Contains(t, h.Explain("a", plugbus.VerbEmit, "x").Layers[0].Detail, "a probe runs now")
					<-time.After(test.took + 2)
					synctest.Wait()
				}
				q := stay(t, h, "a")
				require.Len(t, p.asked, n+1)
				require.EqualValues(t, n+1, q.Probes)
				require.Contains(t, q.ProbeError, test.says)
				require.Equal(t, since, q.Since.Round(0), "it is the same quarantine")
				require.EqualValues(t, 1, q.Times)
				require.False(t, q.Probing)
				require.ErrorIs(t, h.Health(t.Context())[0].Err, hub.ErrQuarantined)
				require.ErrorContains(t, h.Health(t.Context())[0].Err, "the last probe says "+q.ProbeError)
			}
			info := must(snapshotOf(h, "a"))
			require.EqualValues(t, 2, info.Failures)
			require.Contains(t, info.LastError, "boo")
			require.Empty(t, h.Leaks())
		})
	}
}

// TestHungProbe shows that a probe that does not return is named by Leaks until it does,
// and that there is no other meanwhile, also after the host has restored the plugin and
// it is in quarantine again.
func TestHungProbe(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			release := make(chan struct{})
			p := check(t, h, func(context.Context, int) error { <-release; return nil })
			quarantine(t, h, p.session)
			<-time.After(30 * time.Second)
			synctest.Wait()
			require.Empty(t, h.Leaks(), "it has its time")
			wait := time.Minute
			if again { // The host does not wait for the answer.
				require.NoError(t, h.Restore("a"))
				quarantine(t, h, p.session)
				require.Empty(t, results(t, h), "nobody asks for the answer any more")
				wait = 30 * time.Second
			} else {
				<-time.After(30 * time.Second)
				synctest.Wait()
				require.Len(t, results(t, h), 1)
			}
			synctest.Wait()
			require.Equal(t, []hub.Leak{{Plugin: "a", Kind: "call", Name: "Health"}}, h.Leaks())
			q := stay(t, h, "a")
			require.True(t, q.Probing)
			require.Zero(t, q.NextProbe)
			require.ErrorContains(t, h.Health(t.Context())[0].Err, "the last probe has not returned")
			<-time.After(48 * time.Hour)
			require.Len(t, p.asked, 1)

			close(release)
			synctest.Wait()
			require.Empty(t, h.Leaks())
			require.Equal(t, hub.Quarantined, state(h, "a"), "what comes too late is thrown away")
			require.Equal(t, time.Now().Add(wait), stay(t, h, "a").NextProbe.Round(0))
			<-time.After(wait)
			synctest.Wait()
			require.Len(t, p.asked, 2)
			require.Equal(t, hub.Ready, state(h, "a"))
		})
	}
}

// TestProbeOfTheWorker shows that a plugin without a health check is well when its
// worker is free: one whose handler hangs is not.
func TestProbeOfTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var s *hub.Session
		require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "a"}, func(_ context.Context, session *hub.Session) error {
			s = session
			return nil
		})))
		release := make(chan struct{})
		box := &inbox{}
		_, err := s.Subscribe("word.*", func(ctx context.Context, e events.Event) error {
			<-release
			return box.handle(ctx, e)
		})
		require.NoError(t, err)
		emit(t, h.Host(), "word.said", 1)
		quarantine(t, h, s)
		<-time.After(2*time.Minute + 30*time.Second) // 30 s, and 60 s after the first ended, each of which took 30 s.
		synctest.Wait()
		q := stay(t, h, "a")
		require.EqualValues(t, 2, q.Probes)
		require.Contains(t, q.ProbeError, "worker was busy")
		require.Empty(t, h.Leaks(), "no probe has begun")
		close(release)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, hub.Ready, state(h, "a"))
		require.Equal(t, []string{"word.said"}, box.names())
	})
}

// TestProbeIsAnAct shows that a probe runs in quarantine: what it does with its session is
// refused, and that counts against nobody.
func TestProbeIsAnAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var p *checked
		p = check(t, h, func(ctx context.Context, _ int) error {
			for range 500 {
				_, err := p.session.Emit(ctx, "word.said", 1)
				denied(t, err, plugbus.ReasonQuarantined)
			}
			_, limited := ctx.Deadline()
			require.True(t, limited)
			return nil
		})
		quarantine(t, h, p.session)
		<-time.After(30 * time.Second)
		synctest.Wait()
		require.Equal(t, hub.Ready, state(h, "a"))
		require.EqualValues(t, 6, must(snapshotOf(h, "a")).Failures)
	})
}

// TestNoProbeOfTheLeaving shows that a plugin that leaves, is replaced or kept by the
// host, or whose hub closes, is not probed any more, whether the probe was to come or
// ran already: then its context ends, and nothing is said of it.
func TestNoProbeOfTheLeaving(t *testing.T) {
	for how, act := range map[string]func(t *testing.T, h *hub.Hub){
		"Unregister": func(t *testing.T, h *hub.Hub) { require.NoError(t, h.Unregister(t.Context(), "a")) },
		"Replace": func(t *testing.T, h *hub.Hub) {
			require.NoError(t, h.Replace(t.Context(), &plug{manifest: named("a")}))
		},
		"Close":      func(t *testing.T, h *hub.Hub) { _, err := h.Close(t.Context()); require.NoError(t, err) },
		"Restore":    func(t *testing.T, h *hub.Hub) { require.NoError(t, h.Restore("a")) },
		"Quarantine": func(t *testing.T, h *hub.Hub) { require.NoError(t, h.Quarantine("a", "enough")) },
	} {
		for _, running := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{})
				var ended time.Duration
				var p *checked
				p = check(t, h, func(ctx context.Context, _ int) error {
					<-ctx.Done()
					ended = time.Since(p.began)
					return nil
				})
				quarantine(t, h, p.session)
				when := 30*time.Second - 1
				if running {
					when = 45 * time.Second
				}
				<-time.After(when)
				act(t, h)
				<-time.After(48 * time.Hour)
				synctest.Wait()
				require.Empty(t, results(t, h), how)
				if running {
					require.Len(t, p.asked, 1)
					require.Equal(t, when, ended, "%s ends the probe", how)
				} else {
					require.Empty(t, p.asked, how)
				}
				require.Empty(t, h.Leaks())
			})
		}
	}
}

// TestLeaveDuringAHungProbe shows that a plugin whose probe hangs can leave, as with any
// other call that hangs; and that its successor of the same id has nothing of it.
func TestLeaveDuringAHungProbe(t *testing.T) {
	for _, leave := range []func(t *testing.T, h *hub.Hub){
		func(t *testing.T, h *hub.Hub) { _ = h.Unregister(t.Context(), "a"); join(t, h, "a") },
		func(t *testing.T, h *hub.Hub) {
			require.NoError(t, h.Replace(t.Context(), &plug{manifest: named("a")}))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{WaitLimit: time.Second})
			release := make(chan struct{})
			p := check(t, h, func(context.Context, int) error { <-release; panic("boo") })
			quarantine(t, h, p.session)
			<-time.After(time.Minute)
			leave(t, h)
			require.Equal(t, hub.Ready, state(h, "a"))
			leaks := h.Leaks()
			require.Contains(t, leaks, hub.Leak{Plugin: "a", Kind: "call", Name: "Health"})
			close(release)
			synctest.Wait()
			<-time.After(time.Hour)
			require.Empty(t, h.Leaks())
			info := must(snapshotOf(h, "a"))
			require.Zero(t, info.Quarantine)
			require.Zero(t, info.Failures)
			require.Len(t, results(t, h), 1)
		})
	}
}

// TestProbeOptions shows which waits are none.
func TestProbeOptions(t *testing.T) {
	for _, test := range []struct {
		after, most time.Duration
		ok          bool
	}{
		{0, 0, true},
		{-1, 0, true},
		{time.Hour, 0, true},
		{time.Second, time.Second, true},
		{-1, time.Nanosecond, true},
		{0, 29 * time.Second, false},
		{time.Second, time.Second - 1, false},
		{0, -1, false},
		{-1, -1, false},
	} {
		h, err := hub.New(hub.Options{ProbeAfter: test.after, ProbeMax: test.most})
		if !test.ok {
			require.ErrorIs(t, err, plugbus.ErrInvalid, fmt.Sprint(test))
			require.ErrorContains(t, err, "Options.ProbeMax is ")
			continue
		}
		require.NoError(t, err, fmt.Sprint(test))
		_, err = h.Close(t.Context())
		require.NoError(t, err)
	}
}
