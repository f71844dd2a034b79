package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// TestReplaceAmidRollback tries to replace a plugin that leaves, since another of the same
// Register could not start: it is draining, and nobody starts in its place.
func TestReplaceAmidRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var state hub.State
		var err error
		started := false
		second := &plug{manifest: named("p"), start: func(context.Context, *hub.Session) error { started = true; return nil }}
		first := &plug{manifest: named("p"), stop: func(context.Context) error {
			snapshot := h.Inspect()
			info, _ := snapshot.Plugin("p")
			state, err = info.State, h.Replace(context.Background(), second) //nolint:contextcheck // It has a context of its own.
			return nil
		}}
		fails := &plug{manifest: named("q"), start: func(context.Context, *hub.Session) error { return errPlugin }}
		require.ErrorIs(t, h.Register(t.Context(), first, fails), errPlugin)
		require.Equal(t, hub.Draining, state)
		require.ErrorIs(t, err, hub.ErrUnknownPlugin)
		require.False(t, started)
	})
}

// TestReplaceTellsLossLate replaces a plugin that hangs until the wait limit by one of which
// a requirement has gone while it started: it hears of that when it can be called.
func TestReplaceTellsLossLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{WaitLimit: 10 * time.Second, Logger: slog.New(slowLog{slog.DiscardHandler})})
		gate := make(chan struct{})
		first := &plug{manifest: named("d"), start: func(_ context.Context, s *hub.Session) error {
			_, err := s.Subscribe("said", func(context.Context, events.Event) error { <-gate; return nil })
			return err
		}}
		require.NoError(t, h.Register(t.Context(), hub.Func(caps("p", "x", ""), nil), first))
		emit(t, h.Host(), "said", nil)
		second := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("d", "", "x") }}}
		second.start = func(context.Context, *hub.Session) error { return h.Unregister(context.Background(), "p") } //nolint:contextcheck // It has a context of its own.
		require.NoError(t, h.Replace(t.Context(), second))
		synctest.Wait()
		require.Equal(t, []string{"x"}, second.told())
		close(gate)
		idle(t, h)
	})
}

// A slowLog takes a while to write that a plugin has not left well.
type slowLog struct{ slog.Handler }

func (slowLog) Enabled(context.Context, slog.Level) bool { return true }
func (l slowLog) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (slowLog) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "the plugin has left") {
		<-time.After(500 * time.Millisecond)
	}
	return nil
}

// A busyBackend commits nothing until the gate is open.
type busyBackend struct {
	closable
	gate chan struct{}
}

func (b *busyBackend) Commit([]store.Op) error {
	<-b.gate
	return nil
}

// TestReplaceSetsValidatorsLate has the time of Replace end before the old version has
// left, while another plugin administers a store: the validator that the new version has
// set is in force all the same, a little later.
func TestReplaceSetsValidatorsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &busyBackend{gate: make(chan struct{})}
		h := open(t, hub.Options{Store: store.Options{Backend: backend}})
		hangs := make(chan struct{})
		first := &plug{manifest: named("p"), start: func(ctx context.Context, s *hub.Session) error {
			_, err := s.Subscribe("said", func(context.Context, events.Event) error { <-hangs; return nil })
			_, create := s.CreateStore(ctx, "own", store.Config{})
			return errors.Join(err, create)
		}}
		require.NoError(t, h.Register(t.Context(), first))
		emit(t, h.Host(), "said", nil)
		other := join(t, h, "other")
		created := make(chan error, 1)
		second := &plug{manifest: named("p"), start: func(ctx context.Context, s *hub.Session) error {
			err := view(t, s, "own").SetValidator(ctx, func(context.Context, *store.Proposal) error { return errPlugin }) //nolint:contextcheck // It has a context of its own.
			go func() {                                                                                                   //nolint:contextcheck // It has a context of its own.
				_, err := other.CreateStore(context.Background(), "busy", store.Config{Persistent: true})
				created <- err
			}()
			return err
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		time.AfterFunc(5500*time.Millisecond, func() { close(backend.gate) })
		require.NoError(t, h.Replace(ctx, second))
		require.NoError(t, <-created)
		_, err := view(t, h.Host(), "own").Set(t.Context(), "key", nil)
		require.ErrorContains(t, err, errPlugin.Error())
		close(hangs)
		idle(t, h)
	})
}

// TestReplaceFiguresOfOld has a request fail at the old version after the switch: it is no
// figure of the new one.
func TestReplaceFiguresOfOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Discovery: discovery.Options{MinSamples: 1}})
		asker, gate := join(t, h, "asker"), make(chan struct{})
		version := func(handler router.Handler) *plug {
			return &plug{manifest: named("p"), start: func(_ context.Context, s *hub.Session) error {
				return s.Provide(hub.Capability{Name: "x"}, handler)
			}}
		}
		require.NoError(t, h.Register(t.Context(), version(func(context.Context, router.Message) (any, error) {
			<-gate
			return nil, errPlugin
		})))
		called, replaced := make(chan error, 1), make(chan error, 1)
		go func() { _, err := asker.Call(context.Background(), "x", nil); called <- err }()
		synctest.Wait()
		go func() { replaced <- h.Replace(context.Background(), version(echo)) }()
		synctest.Wait()
		close(gate)
		require.NoError(t, errors.Join(<-replaced))
		require.Error(t, <-called)
		idle(t, h)
		figure := func() discovery.Figure[float64] {
			matches, err := asker.Providers("x")
			require.NoError(t, err)
			require.Len(t, matches, 1)
			return matches[0].Figures.Reliability
		}
		require.False(t, figure().Measured, "%+v", figure())
		_, err := asker.Call(t.Context(), "x", nil)
		require.NoError(t, err)
		idle(t, h)
		require.Equal(t, discovery.Figure[float64]{Value: 1, Known: true, Measured: true, Samples: 1}, figure())
	})
}
