package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// TestInspect shows what a snapshot of a live hub says of each plugin and of the
// whole.
func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `
			"a": {"trust": "trusted", "emit": {"allow": ["word.*"]}, "subscribe": {"allow": ["word.*"]}, "provide": true},
			"b": {"trust": "basic"}`)})
		since := time.Now()
		require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "b", Version: "2"}, nil)))
		<-time.After(time.Second)
		p := &plug{manifest: func() hub.Manifest { return caps("a", "x", "") }}
		require.NoError(t, h.Register(t.Context(), p))
		release := make(chan struct{})
		_, err := p.session.Subscribe("word.*", func(context.Context, events.Event) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, p.session.Go("loop", func(ctx context.Context) { <-ctx.Done() }))
		for range 3 {
			emit(t, p.session, "word.said", "hello")
		}
		_, err = p.session.Emit(t.Context(), "other", 1)
		denied(t, err, plugbus.ReasonInsufficientPermissions)
		synctest.Wait()

		s := h.Inspect()
		require.Equal(t, []string{"a", "b", "host"}, []string{s.Plugins[0].ID, s.Plugins[1].ID, s.Plugins[2].ID})
		require.Equal(t, []string{"a", "b"}, h.Plugins())
		a, b, host := s.Plugins[0], s.Plugins[1], s.Plugins[2]
		require.Equal(t, plugbus.Trusted, a.Trust)
		require.Equal(t, plugbus.Basic, b.Trust)
		require.Equal(t, plugbus.Verified, host.Trust)
		require.Equal(t, "2", b.Version)
		require.Equal(t, "x", a.Provides[0].Name)
		require.Equal(t, []uint64{3, 1}, []uint64{a.Emitted, a.Refused})
		require.Equal(t, []string{"loop"}, a.Goroutines)
		require.True(t, since.Equal(b.Since))
		require.True(t, since.Add(time.Second).Equal(a.Since))
		require.Len(t, a.Subscriptions, 1)
		require.Equal(t, "word.*", a.Subscriptions[0].Pattern)
		require.EqualValues(t, 2, a.Subscriptions[0].Ledger.Waiting)
		require.EqualValues(t, 1, s.Ledger.Running)
		require.NoError(t, s.Ledger.Check())
		require.Equal(t, s.Ledger, h.Ledger())
		require.Equal(t, map[string]int{"a": 3, "hub": 2}, s.History.Sources)
		require.EqualValues(t, len(entries(t, h, audit.Query{})), s.Audit.Recorded)
		require.EqualValues(t, 1, s.Policy)
		swap(t, h, policyOf(t, `"a": {}`))
		require.EqualValues(t, 2, h.Inspect().Policy)
		require.Equal(t, plugbus.Untrusted, h.Inspect().Plugins[0].Trust)
		close(release)
	})
}

// TestIdle shows that Idle waits for what waits and runs, and no longer than its
// context.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		release := make(chan struct{})
		_, err := h.Host().Subscribe("word.*", func(context.Context, events.Event) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, h.Idle(canceled()))
		emit(t, h.Host(), "word.said", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, h.Idle(ctx), context.DeadlineExceeded)
		close(release)
		require.NoError(t, h.Idle(t.Context()))
	})
}

// TestHealth shows what the hub knows of its plugins' health: those that are
// asked answer beside each other, and who is busy or failing is not well.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		slow := func(context.Context) error {
			<-time.After(time.Second)
			return nil
		}
		busy := &plug{manifest: named("busy")}
		require.NoError(t, h.Register(t.Context(),
			&plug{manifest: named("ill"), health: func(context.Context) error { return errPlugin }},
			&plug{manifest: named("slow1"), health: slow}, &plug{manifest: named("slow2"), health: slow},
			busy, hub.Func(hub.Manifest{ID: "mute"}, nil)))
		release := make(chan struct{})
		_, err := busy.session.Subscribe("word.*", func(context.Context, events.Event) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		emit(t, h.Host(), "word.said", 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		all := h.Health(ctx)
		require.Equal(t, 2*time.Second, time.Since(start), "not longer, for all together")
		well := map[string]bool{}
		for _, p := range all {
			well[p.Plugin] = p.Well()
		}
		require.Equal(t, map[string]bool{"ill": false, "slow1": true, "slow2": true, "busy": false, "mute": true}, well)
		require.Equal(t, "busy", all[0].Plugin)
		require.ErrorIs(t, all[0].Err, hub.ErrBusy)
		require.ErrorIs(t, all[0].Err, context.DeadlineExceeded)
		require.ErrorIs(t, all[1].Err, errPlugin)
		require.Empty(t, h.Leaks(), "a check that did not begin is no leak")
		close(release)
	})
}

// TestSlow shows that a handler that runs long is counted and logged, with its
// site.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		h := open(t, hub.Options{Logger: log.logger()})
		_, err := join(t, h, "a").Subscribe("word.*", func(context.Context, events.Event) error {
			<-time.After(25 * time.Second)
			return nil
		})
		require.NoError(t, err)
		emit(t, h.Host(), "word.said", 1)
		idle(t, h)
		require.EqualValues(t, 1, h.Inspect().Plugins[0].Slow)
		require.Contains(t, log.String(), "a handler has not returned")
		require.Contains(t, log.String(), "inspect_test.go:")
	})
}

// TestExplain shows that the explanation is of now, and of those who are not
// there too.
func TestExplain(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"a": {"emit": {"allow": ["word.*"]}}`)})
	for _, test := range []struct {
		id, object string
		want       plugbus.Reason
	}{
		{"a", "word.said", ""},
		{"a", "other", plugbus.ReasonInsufficientPermissions},
		{"b", "word.said", plugbus.ReasonUnknownPlugin},
		{"host", "word.said", ""},
		{"host", "hub:x", plugbus.ReasonReservedName},
	} {
		e := h.Explain(test.id, plugbus.VerbEmit, test.object)
		require.Equal(t, test.want, e.Reason, "%s %s", test.id, test.object)
		require.Equal(t, test.want == "", e.Allowed)
	}
	swap(t, h, nil)
	require.False(t, h.Explain("a", plugbus.VerbEmit, "word.said").Allowed)
}

// TestSnapshotOfAPlugin shows that a snapshot can be asked for one plugin, and
// sums up its deliveries.
func TestSnapshotOfAPlugin(t *testing.T) {
	s := hub.Snapshot{Plugins: []hub.PluginInfo{{
		Manifest: hub.Manifest{ID: "a"},
		Subscriptions: []events.SubscriptionStats{
			{Ledger: plugbus.Ledger{Accepted: 2, Handled: 1, Failed: 1}}, {Ledger: plugbus.Ledger{Accepted: 3, Handled: 3}},
		},
	}}}
	info, ok := s.Plugin("a")
	require.True(t, ok)
	require.Equal(t, plugbus.Ledger{Accepted: 5, Handled: 4, Failed: 1}, info.Ledger())
	_, ok = s.Plugin("b")
	require.False(t, ok)
}
