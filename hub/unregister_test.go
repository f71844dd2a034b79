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

// TestStates shows what a plugin is about, from its start to its end.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var seen []hub.State
		look := func() { seen = append(seen, state(h, "a")) }
		p := &plug{manifest: named("a")}
		p.start = func(context.Context, *hub.Session) error { look(); return nil }
		p.stop = func(context.Context) error { look(); return nil }
		require.NoError(t, h.Register(t.Context(), p))
		look()
		quarantine(t, h, p.session)
		look()
		require.NoError(t, h.Restore("a"))
		look()
		require.NoError(t, h.Unregister(t.Context(), "a"))
		look()
		require.Equal(t, []hub.State{hub.Starting, hub.Ready, hub.Quarantined, hub.Ready, hub.Draining, 0}, seen)

		var texts []string
		for s := hub.State(0); s <= hub.Quarantined+1; s++ {
			text, err := s.MarshalText()
			require.NoError(t, err)
			texts = append(texts, string(text))
		}
		require.Equal(t, []string{"State(0)", "starting", "ready", "draining", "stopped", "failed", "quarantined", "State(7)"}, texts)
	})
}

// TestH4Unregister shows the order in which a plugin leaves: what waits is
// handled, nothing new comes, Stop is called with a session that works, and then
// the plugin is fenced and announced; nothing of it remains.
func TestH4Unregister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var d diary
		_, err := h.Host().Subscribe("**", func(_ context.Context, e events.Event) error {
			d.note("host got " + e.Name())
			return nil
		})
		require.NoError(t, err)
		_, err = h.Host().Subscribe("plugin:unregistered", func(_ context.Context, e events.Event) error {
			d.note(e.Name())
			return nil
		})
		require.NoError(t, err)
		release := make(chan struct{})
		p := &plug{manifest: func() hub.Manifest { return caps("a", "x", "") }}
		p.start = func(_ context.Context, s *hub.Session) error {
			require.NoError(t, s.Go("loop", func(ctx context.Context) {
				<-ctx.Done()
				d.note("loop ends")
			}))
			_, err := s.Subscribe("job.*", func(context.Context, events.Event) error {
				<-release
				d.note("a handles a job")
				return nil
			})
			return err
		}
		p.stop = func(ctx context.Context) error {
			d.note("a stops")
			_, err := p.session.Emit(ctx, "word.last", 1)
			require.NoError(t, err)
			return p.session.Go("last", func(context.Context) { d.note("a goes") })
		}
		require.NoError(t, h.Register(t.Context(), p))
		for range 2 {
			_, err := h.Host().Broadcast(t.Context(), "job.new", 1, events.Audience{})
			require.NoError(t, err)
		}
		done := make(chan error)
		go func() { done <- h.Unregister(context.Background(), "a") }()
		synctest.Wait()
		require.ErrorIs(t, h.Unregister(t.Context(), "a"), hub.ErrUnknownPlugin, "it leaves already")
		receipt, err := h.Host().Emit(t.Context(), "job.late", 1)
		require.NoError(t, err)
		require.Equal(t, 1, receipt.Matched, "only the host")
		close(release)
		require.NoError(t, <-done)
		idle(t, h)
		require.Contains(t, d.lines, "a goes")
		var order []string
		for _, line := range d.lines {
			if line != "a goes" && line != "host got job.late" && line != "host got word.last" {
				order = append(order, line)
			}
		}
		require.Equal(t, []string{"a handles a job", "a handles a job", "a stops", "loop ends", "plugin:unregistered"}, order)
		require.Contains(t, d.lines, "host got word.last")
		require.Empty(t, h.Plugins())
		require.Empty(t, h.Leaks())
		require.Equal(t, []string{"host"}, h.Security().Subjects())
		found := entries(t, h, audit.Query{Event: "plugin.unregistered", Target: "a"})
		require.Len(t, found, 1)
		require.Equal(t, audit.Detail{Key: "problem", Value: "none"}, found[0].Details[1])
	})
}

// TestUnregisterWaitsForGo shows that a function of Session.Go that obeys its
// context is waited for, however long it takes within the limit.
func TestUnregisterWaitsForGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "a")
		ended := false
		require.NoError(t, s.Go("tidy", func(ctx context.Context) {
			<-ctx.Done()
			<-time.After(10 * time.Second)
			ended = true
		}))
		require.NoError(t, h.Unregister(t.Context(), "a"))
		require.True(t, ended)
	})
}

// TestUnregisterOfAHungHandler shows that a handler that hangs holds its plugin
// no longer than the context or the wait limit; that it is abandoned, named by
// Leaks until it returns, fenced, and that the id can join again meanwhile with
// nothing inherited.
func TestUnregisterOfAHungHandler(t *testing.T) {
	for _, patience := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			stopped := false
			p := &plug{manifest: named("a"), stop: func(context.Context) error {
				stopped = true
				return nil
			}}
			require.NoError(t, h.Register(t.Context(), p))
			release := make(chan struct{})
			var late error
			_, err := p.session.Subscribe("job.*", func(ctx context.Context, _ events.Event) error {
				<-release
				require.ErrorIs(t, ctx.Err(), context.Canceled)
				_, late = p.session.Emit(context.Background(), "word.late", 1) //nolint:contextcheck // The handler's own is done.
				return errPlugin
			})
			require.NoError(t, err)
			for range 3 {
				emit(t, h.Host(), "job.new", 1)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			start := time.Now()
			err = h.Unregister(ctx, "a")
			require.Equal(t, min(patience, 30*time.Second), time.Since(start))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, `events cancelled: 2, handlers abandoned: 1`)
			require.ErrorContains(t, err, "stop was not called")
			require.False(t, stopped)
			ledger := h.Ledger()
			require.Equal(t, [3]uint64{2, 1, 0}, [3]uint64{ledger.Cancelled, ledger.Abandoned, ledger.Running})
			leaks := h.Leaks()
			require.Len(t, leaks, 1)
			require.Equal(t, "job.*", leaks[0].Name)
			require.Equal(t, "handler", leaks[0].Kind)
			require.Contains(t, leaks[0].Site, "unregister_test.go:")

			again := join(t, h, "a")
			box := listen(t, again, "job.*")
			emit(t, h.Host(), "job.new", 1)
			idle(t, h)
			require.Len(t, box.names(), 1)
			require.Len(t, h.Leaks(), 1)
			infos := h.Inspect().Plugins
			require.Len(t, infos, 3, "the one that left is shown until it is gone")
			for _, info := range infos[:2] {
				require.Equal(t, "a", info.ID)
				require.Len(t, info.Subscriptions, 1)
				abandoned := uint64(0)
				if info.State == hub.Stopped {
					abandoned = 1
				}
				require.Equal(t, abandoned, info.Subscriptions[0].Ledger.Abandoned, "%v", info.State)
				require.Equal(t, 1-abandoned, info.Subscriptions[0].Ledger.Handled, "%v", info.State)
				require.Equal(t, abandoned, info.Failures, "%v", info.State)
			}

			close(release)
			synctest.Wait()
			require.ErrorIs(t, late, plugbus.ErrClosed, "fenced")
			require.Empty(t, h.Leaks())
			require.Len(t, h.Inspect().Plugins, 2)
			for _, info := range h.Inspect().Plugins {
				require.Zero(t, info.Failures, "%s is not to blame", info.ID)
			}
			require.Equal(t, ledger.Abandoned, h.Ledger().Abandoned, "what it returned is thrown away")
			require.Zero(t, h.Ledger().Failed)
		})
	}
}

// TestUnregisterFromItsOwnHandler shows that a handler can let its own plugin
// go: with its own context at once, with another when the wait limit is over.
func TestUnregisterFromItsOwnHandler(t *testing.T) {
	for _, test := range []struct {
		own  bool
		want time.Duration
	}{{true, 0}, {false, 30 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			s := join(t, h, "a")
			var err error
			release := make(chan struct{})
			_, subErr := s.Subscribe("job.*", func(ctx context.Context, _ events.Event) error { //nolint:contextcheck // It is about a handler that does not pass on its own.
				<-release
				if !test.own {
					ctx = context.Background()
				}
				err = h.Unregister(ctx, "a")
				return nil
			})
			require.NoError(t, subErr)
			start := time.Now()
			emit(t, h.Host(), "job.new", 1)
			emit(t, h.Host(), "job.new", 1)
			close(release)
			idle(t, h)
			synctest.Wait()
			require.Equal(t, test.want, time.Since(start))
			require.ErrorContains(t, err, "events cancelled: 1, handlers abandoned: 1", "it says that it did not wait")
			require.Empty(t, h.Plugins())
			require.Empty(t, h.Leaks())
			join(t, h, "a")
		})
	}
}

// TestNoCallAfterUnregister shows that a call that was waiting for its turn does
// not start once the plugin has left.
func TestNoCallAfterUnregister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		release := make(chan struct{})
		p := &plug{manifest: named("a"), health: func(context.Context) error { panic("called") }}
		require.NoError(t, h.Register(t.Context(), p))
		_, err := p.session.Subscribe("job.*", func(context.Context, events.Event) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		emit(t, h.Host(), "job.new", 1)
		synctest.Wait()
		well := make(chan []hub.PluginHealth)
		go func() { well <- h.Health(context.Background()) }()
		synctest.Wait()
		require.Error(t, h.Unregister(canceled(), "a"))
		require.ErrorIs(t, (<-well)[0].Err, hub.ErrClosed)
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}
