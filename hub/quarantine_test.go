package hub_test

import (
	"context"
	"strings"
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

// TestQuarantineByHost shows that the host's own decision takes effect at once and lasts
// until Restore, without probes and without an alert; that it is recorded as the host's,
// with its reason; and that plugins hear of it and not of the reason.
func TestQuarantineByHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alerts := 0
		h := open(t, hub.Options{FailureBudget: -1, OnAlert: func(security.Alert) { alerts++ }})
		news := listen(t, h.Host(), "plugin:*")
		p := check(t, h, nil)
		box := listen(t, p.session, "word.*")
		require.NoError(t, h.Quarantine("a", "it is up to something"))
		_, err := p.session.Emit(t.Context(), "word.said", 1)
		refused := refusalOf(t, err, plugbus.ReasonQuarantined)
		require.Contains(t, refused.Hint, "the host has put the plugin in quarantine")
		require.NotContains(t, err.Error(), "up to something")
		require.Equal(t, hub.Quarantine{Since: stay(t, h, "a").Since, Reason: "it is up to something", ByHost: true, Times: 1}, stay(t, h, "a"))
		require.Equal(t, time.Now(), stay(t, h, "a").Since.Round(0))
		for _, said := range []string{h.Explain("a", plugbus.VerbEmit, "word.said").Layers[0].Detail, h.Health(t.Context())[0].Err.Error()} {
			require.Contains(t, said, "the host put the plugin there: it is up to something; there are no probes")
		}
		require.ErrorIs(t, h.Health(t.Context())[0].Err, hub.ErrQuarantined)

		<-time.After(100 * time.Hour)
		require.Equal(t, hub.Quarantined, state(h, "a"))
		require.Empty(t, p.asked)
		require.NoError(t, h.Restore("a"))
		emit(t, p.session, "word.said", 1)
		idle(t, h)
		require.Equal(t, []string{"word.said"}, box.names())
		var told []string
		for _, e := range news.events {
			n, ok := e.Data().(hub.Notice)
			require.True(t, ok)
			told = append(told, n.Event+" "+n.Reason)
		}
		require.Equal(t, []string{"plugin:registered ", "plugin:quarantined host", "plugin:restored host"}, told)
		for _, event := range []string{"plugin.quarantined", "plugin.restored"} {
			found := entries(t, h, audit.Query{Event: event})
			require.Len(t, found, 1)
			require.Equal(t, [2]string{"host", "a"}, [2]string{found[0].Actor, found[0].Target})
			require.True(t, found[0].Admin)
		}
		require.Equal(t, "it is up to something", detail(entries(t, h, audit.Query{Event: "plugin.quarantined"})[0], "why"))
		require.Zero(t, alerts)
	})
}

// TestHostKeepsQuarantine shows that the host can keep a plugin that the hub has put in
// quarantine: it is the same quarantine, and there are no more probes. On probation the
// host's decision counts as no failure of the plugin.
func TestHostKeepsQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		news := listen(t, h.Host(), "plugin:quarantined")
		p := check(t, h, nil)
		quarantine(t, h, p.session)
		before := stay(t, h, "a")
		<-time.After(time.Second)
		require.NoError(t, h.Quarantine("a", ""))
		want := before
		want.Reason, want.ByHost, want.NextProbe = "no reason was given", true, time.Time{}
		require.Equal(t, want, stay(t, h, "a"))
		_, err := p.session.Emit(t.Context(), "word.said", 1)
		require.Contains(t, refusalOf(t, err, plugbus.ReasonQuarantined).Hint, "the host has put the plugin in quarantine")
		require.ErrorIs(t, h.Quarantine("a", "again"), hub.ErrQuarantined)
		require.ErrorContains(t, h.Quarantine("a", "again"), "no reason was given")
		<-time.After(time.Hour)
		require.Empty(t, p.asked)
		require.Len(t, news.events, 2)

		require.NoError(t, h.Restore("a"))
		quarantine(t, h, p.session)
		<-time.After(30 * time.Second)
		synctest.Wait()
		require.NotZero(t, stay(t, h, "a").Probation)
		require.NoError(t, h.Quarantine("a", "to be sure"))
		require.Zero(t, stay(t, h, "a").Probation)
		require.NoError(t, h.Restore("a"))
		require.Zero(t, stay(t, h, "a").Probation, "the host trusts it")
		fails(t, p.session)
		require.Equal(t, hub.Ready, state(h, "a"))
	})
}

// TestQuarantineMistakes shows what can be neither quarantined nor restored.
func TestQuarantineMistakes(t *testing.T) {
	h := open(t, hub.Options{})
	s := join(t, h, "a")
	require.ErrorIs(t, h.Quarantine("nobody", ""), hub.ErrUnknownPlugin)
	require.ErrorIs(t, h.Restore("nobody"), hub.ErrUnknownPlugin)
	require.ErrorIs(t, h.Quarantine("host", ""), plugbus.ErrInvalid)
	require.ErrorIs(t, h.Restore("host"), plugbus.ErrInvalid)
	require.ErrorIs(t, h.Restore("a"), plugbus.ErrInvalid)
	require.ErrorContains(t, h.Restore("a"), "the plugin is ready; expected one that is quarantined")
	require.NoError(t, h.Register(t.Context(), &plug{manifest: named("starts"), start: func(context.Context, *hub.Session) error {
		require.ErrorIs(t, h.Quarantine("starts", ""), plugbus.ErrInvalid)
		require.ErrorContains(t, h.Quarantine("starts", ""), "the plugin is starting; expected one that is ready")
		return nil
	}, stop: func(context.Context) error {
		require.ErrorIs(t, h.Quarantine("starts", ""), plugbus.ErrInvalid)
		require.ErrorContains(t, h.Restore("starts"), "the plugin is draining; expected one that is quarantined")
		return nil
	}}))
	require.NoError(t, h.Unregister(t.Context(), "starts"))
	require.NoError(t, h.Quarantine("a", strings.Repeat("x", 5000)+"\n"))
	require.LessOrEqual(t, len(must(snapshotOf(h, "a")).Quarantine.Reason), plugbus.MaxTextBytes)
	require.NoError(t, h.Unregister(t.Context(), "a"))
	require.ErrorIs(t, h.Quarantine("a", ""), hub.ErrUnknownPlugin)
	_, err := s.Emit(t.Context(), "word.said", 1)
	require.ErrorIs(t, err, plugbus.ErrClosed)

	require.NoError(t, h.Register(t.Context(), &plug{manifest: named("last"), stop: func(context.Context) error {
		require.ErrorIs(t, h.Quarantine("last", ""), hub.ErrClosed)
		require.ErrorIs(t, h.Restore("last"), hub.ErrClosed)
		return nil
	}}))
	_, err = h.Close(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, h.Quarantine("last", ""), hub.ErrClosed)
	require.ErrorIs(t, h.Restore("last"), hub.ErrClosed)
}

// TestQuarantineCanBeSeen follows one plugin through its quarantines: at every moment
// Inspect says why it is there, how often it was, what the probes said, when the next is,
// and until when it is on probation.
func TestQuarantineCanBeSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		p := check(t, h, func(_ context.Context, n int) error {
			if n == 1 {
				return errPlugin
			}
			return nil
		})
		look := func(want hub.Quarantine) {
			t.Helper()
			got := stay(t, h, "a")
			for _, at := range []*time.Time{&got.Since, &got.LastProbe, &got.NextProbe, &got.Probation} {
				if !at.IsZero() {
					*at = at.Round(0)
				}
			}
			require.Equal(t, want, got)
		}
		look(hub.Quarantine{})
		quarantine(t, h, p.session)
		t0 := time.Now()
		want := hub.Quarantine{
			Since: t0, Reason: "more than 5 failures a minute", Failure: "goroutine panics: the function of Go panicked: boo",
			Times: 1, NextProbe: t0.Add(30 * time.Second),
		}
		look(want)
		<-time.After(30 * time.Second)
		synctest.Wait()
		want.Probes, want.LastProbe, want.ProbeError, want.NextProbe = 1, time.Now(), errPlugin.Error(), t0.Add(90*time.Second)
		look(want)
		<-time.After(time.Minute)
		synctest.Wait()
		want.Probes, want.LastProbe, want.ProbeError, want.NextProbe, want.Probation = 2, time.Now(), "", time.Time{}, t0.Add(150*time.Second)
		look(want)
		require.Equal(t, hub.Ready, state(h, "a"))
		<-time.After(time.Second)
		fails(t, p.session)
		want.Since, want.Reason, want.Times, want.Probation, want.NextProbe = time.Now(), "a failure on probation", 2, time.Time{}, time.Now().Add(2*time.Minute)
		look(want)
		require.NoError(t, h.Restore("a"))
		want.NextProbe = time.Time{}
		look(want)
		quarantine(t, h, p.session)
		want.Since, want.Reason, want.Times, want.NextProbe = time.Now(), "more than 5 failures a minute", 3, time.Now().Add(30*time.Second)
		look(want)
		require.Zero(t, stay(t, h, "host"))
	})
}

// TestQuarantineHints shows that a refusal in quarantine says how it ends, truly.
func TestQuarantineHints(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{0, "the plugin failed too often; it goes on when a probe of the hub finds it well, or the host calls Hub.Restore"},
		{-1, "the plugin failed too often; it goes on when the host calls Hub.Restore"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{ProbeAfter: test.after})
			s := join(t, h, "a")
			quarantine(t, h, s)
			for _, act := range acts {
				require.Equal(t, test.want, refusalOf(t, act.do(t.Context(), s, "word.said", 1), plugbus.ReasonQuarantined).Hint, act.name)
			}
			detail := h.Explain("a", plugbus.VerbEmit, "word.said").Layers[0].Detail
			require.Contains(t, detail, "the plugin failed too often: more than 5 failures a minute; the last was goroutine panics")
			if test.after < 0 {
				require.Contains(t, detail, "; there are no probes")
			} else {
				require.Contains(t, detail, "; the next probe is in 30s")
			}
		})
	}
}

// TestQuarantineFromEverywhere shows that the host can put a plugin in quarantine, and
// restore it, from a handler of that plugin and from its own notice of it, and waits for
// nobody.
func TestQuarantineFromEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s, gate := join(t, h, "a"), make(chan struct{})
		_, err := s.Subscribe("word.*", func(ctx context.Context, _ events.Event) error {
			require.NoError(t, h.Quarantine("a", "from within"))
			_, err := s.Emit(ctx, "other", 1)
			denied(t, err, plugbus.ReasonQuarantined)
			gate <- struct{}{}
			return nil
		})
		require.NoError(t, err)
		_, err = h.Host().Subscribe("plugin:quarantined", func(context.Context, events.Event) error { <-gate; return h.Restore("a") })
		require.NoError(t, err)
		for range 3 {
			emit(t, h.Host(), "word.said", 1)
			idle(t, h)
		}
		require.Equal(t, hub.Ready, state(h, "a"))
		require.EqualValues(t, 3, stay(t, h, "a").Times)
		require.EqualValues(t, 3, h.Inspect().Plugins[0].Subscriptions[0].Ledger.Handled)
	})
}
