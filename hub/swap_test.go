package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// TestReplaceMayAct shows that a plugin which starts in the place of another acts as the
// id: others see its events and messages as the plugin's, it reads and writes its stores,
// whose validator is still the old one's; and it cannot get twice the rate (L6).
func TestReplaceMayAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `
			"p": {"emit": true, "send": true, "receive": true, "subscribe": true, "dataAccess": {"own": {"read": true, "write": true, "create": true}},
				"rates": {"events": {"limit": 3, "per": "1h", "burst": 3}}},
			"asker": {"subscribe": true, "receive": true, "send": true}`)})
		asker := join(t, h, "asker")
		heard, box := listen(t, asker, "said.*"), &letterbox{}
		_, err := asker.Handle("hello", box.handle)
		require.NoError(t, err)
		judge := func(by string) store.Config {
			return store.Config{Validator: func(context.Context, *store.Proposal) error { return errors.New(by) }}
		}
		first := &plug{manifest: named("p"), start: func(ctx context.Context, s *hub.Session) error {
			_, err := s.EnsureStore(ctx, "own", judge("old"))
			return err
		}}
		require.NoError(t, h.Register(t.Context(), first))
		emit(t, first.session, "said.one", 1)
		second := &plug{manifest: named("p")}
		second.start = func(ctx context.Context, s *hub.Session) error {
			_, err := s.Emit(ctx, "said.two", 2)
			require.NoError(t, err)
			_, err = s.Send(ctx, "asker", "hello", nil)
			require.NoError(t, err)
			own, err := s.EnsureStore(ctx, "own", judge("new"))
			require.NoError(t, err)
			_, err = own.Set(ctx, "key", nil)
			require.ErrorContains(t, err, "old", "and not refused as a circle")
			_, err = s.Broadcast(ctx, "said.other", nil, events.Audience{})
			require.ErrorIs(t, err, plugbus.ErrDenied, "by the same grant")
			return nil
		}
		require.NoError(t, h.Replace(t.Context(), second))
		emit(t, second.session, "said.three", 3)
		_, err = second.session.Emit(t.Context(), "said.four", 4)
		denied(t, err, plugbus.ReasonRateLimitExceeded)
		_, err = second.session.EnsureStore(t.Context(), "own", judge("newer"))
		require.NoError(t, err)
		_, err = view(t, second.session, "own").Set(t.Context(), "key", nil)
		require.ErrorContains(t, err, "newer")
		idle(t, h)
		require.Equal(t, []string{"said.one", "said.two", "said.three"}, heard.names())
		for _, e := range heard.events {
			require.Equal(t, "p", e.Source())
		}
		require.Equal(t, "p", box.messages[0].From())
	})
}

// TestReplaceSeam shows what a new version gets of the history and of broadcasts: a
// subscription with the history begins with what was there at the step, and goes on
// without a gap (E19).
func TestReplaceSeam(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		asker := join(t, h, "asker")
		gate, was := make(chan struct{}), &inbox{}
		first := &plug{manifest: named("p"), start: func(_ context.Context, s *hub.Session) error {
			_, err := s.Subscribe("said.*", func(ctx context.Context, e events.Event) error { <-gate; return was.handle(ctx, e) })
			return err
		}}
		require.NoError(t, h.Register(t.Context(), first))
		emit(t, asker, "said.1", 1)
		emit(t, asker, "said.2", 2)
		is, all := &inbox{}, &inbox{}
		second := &plug{manifest: named("p"), start: func(_ context.Context, s *hub.Session) error {
			_, err := s.Subscribe("said.*", is.handle)
			_, e := s.Subscribe("said.*", all.handle, events.StartAt(events.All()))
			emit(t, asker, "said.3", 3) //nolint:contextcheck // It has a context of its own.
			return errors.Join(err, e)
		}}
		done := make(chan error)
		go func() { done <- h.Replace(context.Background(), second) }()
		synctest.Wait()
		emit(t, asker, "said.4", 4)
		synctest.Wait()
		require.Empty(t, append(is.names(), all.names()...), "the old one has not ended")
		close(gate)
		require.NoError(t, <-done)
		emit(t, asker, "said.5", 5)
		idle(t, h)
		require.Equal(t, []string{"said.1", "said.2", "said.3"}, was.names())
		require.Equal(t, []string{"said.4", "said.5"}, is.names())
		require.Equal(t, []string{"said.1", "said.2", "said.3", "said.4", "said.5"}, all.names())
	})
}

// TestReplaceOneOrder shows that nothing of the new version is called while the old one
// handles what it has: no handler, concurrent ones included, and no health check.
func TestReplaceOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		gate := make(chan struct{})
		var mu sync.Mutex
		var calls []string
		note := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, what)
		}
		version := func(name string, gate <-chan struct{}) *plug {
			p := &plug{manifest: named("p")}
			p.start = func(_ context.Context, s *hub.Session) error {
				note(name + " start")
				_, one := s.Subscribe("said", func(context.Context, events.Event) error { <-gate; note(name); return nil })
				_, two := s.Subscribe("said", func(context.Context, events.Event) error { <-gate; note(name); return nil }, events.Concurrent(2))
				_, three := s.Handle("ask", func(context.Context, router.Message) (any, error) { <-gate; note(name); return nil, nil }, router.Concurrent(2))
				return errors.Join(one, two, three)
			}
			p.health = func(context.Context) error { note(name + " health"); return nil }
			p.stop = func(context.Context) error { note(name + " stop"); return nil }
			return p
		}
		require.NoError(t, h.Register(t.Context(), version("old", gate)))
		both := func() {
			emit(t, h.Host(), "said", nil)
			require.NoError(t, h.Host().Post(t.Context(), "p", "ask", nil))
		}
		both()
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.Replace(context.Background(), version("new", opened())) }()
		synctest.Wait()
		both()
		health := make(chan []hub.PluginHealth)
		go func() { health <- h.Health(context.Background()) }()
		synctest.Wait()
		require.Equal(t, []string{"old start", "new start"}, calls)
		close(gate)
		require.NoError(t, <-done)
		require.True(t, (<-health)[0].Well())
		idle(t, h)
		require.Equal(t, []string{"old start", "new start", "old", "old", "old", "old stop"}, calls[:6])
		require.ElementsMatch(t, []string{"new", "new", "new", "new health"}, calls[6:])
	})
}

// TestReplaceCutShort ends the wait for the old version in every way: its handler, which
// hangs, is abandoned and named, what waited for it is cancelled, and the new one serves.
func TestReplaceCutShort(t *testing.T) {
	for name, test := range map[string]struct {
		cut  func(h *hub.Hub, cancel context.CancelFunc) error // while Replace waits
		took time.Duration
		gone bool // the new one too
	}{
		"context":    {cut: func(_ *hub.Hub, cancel context.CancelFunc) error { cancel(); return nil }},
		"wait limit": {cut: func(*hub.Hub, context.CancelFunc) error { return nil }, took: 10 * time.Second},
		"unregister": {cut: func(h *hub.Hub, _ context.CancelFunc) error { return h.Unregister(canceled(), "p") }, gone: true},
		"close":      {cut: func(h *hub.Hub, _ context.CancelFunc) error { _, _ = h.Close(canceled()); return nil }, took: hub.CloseGrace / 10, gone: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := open(t, hub.Options{WaitLimit: 10 * time.Second})
			gate, box := make(chan struct{}), &letterbox{}
			stopped := false
			first := &plug{manifest: named("p"), stop: func(context.Context) error { stopped = true; return nil }}
			first.start = func(_ context.Context, s *hub.Session) error {
				_, err := s.Subscribe("said", func(context.Context, events.Event) error { <-gate; return nil })
				return err
			}
			require.NoError(t, h.Register(t.Context(), first))
			emit(t, h.Host(), "said", 1)
			emit(t, h.Host(), "said", 2)
			second := &plug{manifest: named("p"), start: func(_ context.Context, s *hub.Session) error {
				_, err := s.Handle("ask", box.handle)
				return err
			}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error)
			began := time.Now()
			go func() { done <- h.Replace(ctx, second) }()
			synctest.Wait()
			require.ErrorIs(t, h.Replace(ctx, second), hub.ErrReplacing)
			require.ErrorIs(t, h.Restore("p"), plugbus.ErrInvalid, "the new one is ready")
			_ = test.cut(h, cancel)
			require.NoError(t, <-done, "it was replaced")
			require.Equal(t, test.took, time.Since(began))
			require.False(t, stopped)
			require.Equal(t, []hub.Leak{{Plugin: "p", Kind: "handler", Name: "said", Site: h.Leaks()[0].Site}}, h.Leaks())
			l := h.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 1, l.Abandoned)
			require.EqualValues(t, 1, l.Cancelled)
			if !test.gone {
				_, err := h.Host().Send(t.Context(), "p", "ask", nil)
				require.NoError(t, err)
			} else {
				require.NotContains(t, h.Plugins(), "p")
			}
			close(gate)
			synctest.Wait()
			require.Empty(t, h.Leaks())
		})
	}
}

// TestReplaceFromElsewhere shows that a handler of another plugin can have a plugin
// replaced, and that a context which is done when Replace is called changes nothing.
func TestReplaceFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var box letterbox
		require.NoError(t, h.Register(t.Context(), keeper("1", &box, opened())))
		err := h.Replace(canceled(), keeper("2", &box, opened()))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, []string{"1 ready"}, versions(h, "p"))
		other := join(t, h, "other")
		serve(t, other, "update", func(ctx context.Context, _ router.Message) (any, error) {
			return nil, h.Replace(ctx, keeper("3", &box, opened()))
		})
		_, err = h.Host().Send(t.Context(), "other", "update", nil)
		require.NoError(t, err)
		require.Equal(t, []string{"3 ready"}, versions(h, "p"))
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}

// TestReplaceTellsWhatIsMissing shows that a plugin hears of what it requires and nobody
// provides any more, if that went while it started in the place of another.
func TestReplaceTellsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		join(t, h, "p")
		require.NoError(t, h.Register(t.Context(), &plug{manifest: func() hub.Manifest { return caps("q", "x", "") }}))
		next := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("p", "", "x") }}}
		next.start = func(ctx context.Context, _ *hub.Session) error { return h.Unregister(ctx, "q") }
		require.NoError(t, h.Replace(t.Context(), next))
		idle(t, h)
		require.Equal(t, []string{"x"}, next.told())
	})
}
