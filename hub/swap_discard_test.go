package hub_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
)

// TestDiscardedIsSeen shows that a plugin which did not get the place of another is seen
// for as long as something of it runs: Leaks names what hangs from the moment on that
// nobody waits for it, and Inspect has both (H6).
func TestDiscardedIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("p")}))
		gate := make(chan struct{})
		second := &plug{manifest: named("p"), start: func(_ context.Context, s *hub.Session) error {
			require.NoError(t, s.Go("loop", func(context.Context) { <-gate }))
			<-gate
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- h.Replace(ctx, second) }()
		<-time.After(2 * time.Second)
		require.Empty(t, done, "it is waited for")
		want := []hub.Leak{{Plugin: "p", Kind: "call", Name: "Start"}, {Plugin: "p", Kind: "goroutine", Name: "loop"}}
		require.Equal(t, want, h.Leaks())
		p, _ := snapshotOf(h, "p")
		require.Equal(t, hub.Ready, p.State)
		require.Len(t, h.Inspect().Plugins, 3)
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
		require.Equal(t, want, h.Leaks())
		close(gate)
		synctest.Wait()
		require.Empty(t, h.Leaks())
		require.Len(t, h.Inspect().Plugins, 2)
	})
}

// TestCloseDuringDiscard shows that Close waits for a plugin that leaves since it did not
// get the place of another, no longer than it has, and reports what it did not do.
func TestCloseDuringDiscard(t *testing.T) {
	for _, took := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			require.NoError(t, h.Register(t.Context(), &plug{manifest: named("p")}))
			second := &plug{manifest: named("p")}
			second.start = func(context.Context, *hub.Session) error {
				swap(t, h, policyOf(t, `"other": {}`))
				return nil
			}
			stopped := false
			second.stop = func(context.Context) error { <-time.After(took); stopped = true; return nil }
			done := make(chan error, 1)
			go func() { done <- h.Replace(context.Background(), second) }()
			synctest.Wait()
			require.Empty(t, done, "its Stop runs")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			report, err := h.Close(ctx)
			require.ErrorIs(t, second.session.Go("late", func(context.Context) {}), plugbus.ErrClosed)
			require.ErrorIs(t, <-done, plugbus.ErrDenied)
			if took == time.Second {
				require.NoError(t, err)
				require.True(t, stopped)
				require.True(t, report.Clean())
				require.Equal(t, took, time.Since(start))
				return
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 10*time.Second+hub.CloseGrace/10, time.Since(start), "and a moment for what obeys its context")
			require.Equal(t, []hub.Leak{{Plugin: "p", Kind: "call", Name: "Stop"}}, report.Leaks)
			require.Len(t, report.Problems, 1)
			require.Equal(t, "p", report.Problems[0].Plugin)
			require.ErrorContains(t, report.Problems[0].Err, "Stop has not returned")
			<-time.After(took)
			require.Empty(t, h.Leaks())
		})
	}
}

// TestQuarantineDuringReplace shows that the host's quarantine holds for what starts in
// the plugin's place too: it may do nothing more from that moment on, and does not join;
// and that the host can then decide anew.
func TestQuarantineDuringReplace(t *testing.T) {
	for name, before := range map[string]bool{"ready": false, "in quarantine": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{})
				require.NoError(t, h.Register(t.Context(), &plug{manifest: named("p")}))
				if before {
					require.NoError(t, h.Quarantine("p", "one reason"))
				}
				begun, stopped := make(chan struct{}), 0
				second := &plug{manifest: named("p"), stop: func(context.Context) error { stopped++; return nil }}
				second.start = func(ctx context.Context, s *hub.Session) error {
					emit(t, s, "word.said", 1) //nolint:contextcheck // It has a context of its own.
					close(begun)
					<-ctx.Done()
					return nil
				}
				done := make(chan error)
				go func() { done <- h.Replace(context.Background(), second) }()
				<-begun
				for again := range 3 { // The first decides.
					err := h.Quarantine("p", "another reason")
					if before || again > 0 {
						require.ErrorIs(t, err, hub.ErrQuarantined)
					} else {
						require.NoError(t, err)
					}
				}
				_, err := second.session.Emit(t.Context(), "word.said", 2)
				if !errors.Is(err, plugbus.ErrClosed) { // It may have been fenced by now.
					refused := refusalOf(t, err, plugbus.ReasonQuarantined)
					require.Contains(t, refused.Hint, "the host has put the plugin in quarantine")
				}
				err = <-done
				synctest.Wait() // Its Start has heard of it at the same time.
				require.ErrorIs(t, err, hub.ErrQuarantined)
				require.ErrorContains(t, err, `plugin "p": start: `)
				require.Equal(t, hub.Quarantined, state(h, "p"))
				_, err = second.session.Emit(t.Context(), "word.said", 3)
				require.ErrorIs(t, err, plugbus.ErrClosed)
				require.Zero(t, stopped, "its Start did not return in time")
				require.Len(t, entries(t, h, audit.Query{Event: "plugin.failed", Actor: "p"}), 1)
				require.Empty(t, h.Leaks())

				require.NoError(t, h.Replace(t.Context(), &plug{manifest: named("p")}))
				require.Equal(t, hub.Ready, state(h, "p"))
			})
		})
	}
}
