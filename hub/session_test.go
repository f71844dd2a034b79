package hub_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
)

// TestGo shows that a function of Session.Go runs until the session ends, is
// seen while it does, and may panic or end its goroutine without harm.
func TestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		h := open(t, hub.Options{Logger: log.logger()})
		s := join(t, h, "a")
		require.Equal(t, "a", s.ID())
		ran := false
		require.NoError(t, s.Go("loop", func(ctx context.Context) {
			require.NoError(t, ctx.Err())
			<-ctx.Done()
			ran = true
		}))
		for name, f := range map[string]func(context.Context){
			"panics":                   func(context.Context) { panic("boo") },
			"exits":                    func(context.Context) { runtime.Goexit() },
			strings.Repeat("x", 10000): func(context.Context) { panic(awkward{}) },
		} {
			require.NoError(t, s.Go(name, f))
		}
		synctest.Wait()
		info := h.Inspect().Plugins[0]
		require.Equal(t, []string{"loop"}, info.Goroutines)
		require.EqualValues(t, 3, info.Failures)
		require.LessOrEqual(t, len(info.LastError), plugbus.MaxTextBytes)
		require.Contains(t, log.String(), `what="goroutine panics" error="the function of Go panicked: boo"`)
		require.Contains(t, log.String(), "stack=")
		require.Empty(t, h.Leaks())
		require.ErrorIs(t, s.Go("nil", nil), plugbus.ErrInvalid)
		s.Logger().Info("hello")
		require.Contains(t, log.String(), `msg=hello plugin=a`)

		require.NoError(t, h.Unregister(t.Context(), "a"))
		require.True(t, ran)
		require.ErrorIs(t, s.Go("late", func(context.Context) {}), hub.ErrClosed)
	})
}

// TestGoQuota shows that the functions of a session are bounded, and those that
// ended do not count.
func TestGoQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "a")
		for range hub.MaxGoroutines {
			require.NoError(t, s.Go("short", func(context.Context) {}))
		}
		synctest.Wait()
		release := make(chan struct{})
		for range hub.MaxGoroutines {
			require.NoError(t, s.Go("long", func(context.Context) { <-release }))
		}
		denied(t, s.Go("more", func(context.Context) { panic("called") }), plugbus.ReasonQuotaExceeded)
		require.Len(t, entries(t, h, audit.Query{Actor: "a", Reason: plugbus.ReasonQuotaExceeded}), 1, "a refusal is on record")
		require.NoError(t, join(t, h, "b").Go("others", func(context.Context) {}))
		close(release)
		synctest.Wait()
		require.NoError(t, s.Go("again", func(context.Context) {}))
	})
}

// TestGoThatIgnoresItsContext shows that Leaks names a function that goes on
// after its session has ended, until it returns.
func TestGoThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		release := make(chan struct{})
		s := join(t, h, "a")
		require.NoError(t, s.Go("deaf", func(context.Context) { <-release }))
		require.ErrorContains(t, h.Unregister(t.Context(), "a"), `functions of Session.Go have not returned: ["deaf"]`)
		require.Equal(t, []hub.Leak{{Plugin: "a", Kind: "goroutine", Name: "deaf"}}, h.Leaks())
		require.Empty(t, h.Plugins())
		join(t, h, "a")
		require.Len(t, h.Leaks(), 1)
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}
