package hub_test

import (
	"context"
	"log/slog"
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
)

// TestPanicErrorsOfPlugins shows that a plugin which returns one of our errors about
// panics, as a nil pointer, harms nobody.
func TestPanicErrorsOfPlugins(t *testing.T) {
	for _, bad := range []error{(*router.PanicError)(nil), (*events.PanicError)(nil), (*hub.PanicError)(nil)} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{Logger: slog.New(slog.DiscardHandler)})
			s := join(t, h, "a")
			serve(t, s, "job", func(context.Context, router.Message) (any, error) { return nil, bad })
			_, err := s.Subscribe("job", func(context.Context, events.Event) error { return bad })
			require.NoError(t, err)
			_, err = h.Host().Send(t.Context(), "a", "job", 1)
			require.Error(t, err)
			require.NoError(t, h.Host().Post(t.Context(), "a", "job", 1))
			emit(t, h.Host(), "job", 1)
			synctest.Wait()
			require.EqualValues(t, 3, must(snapshotOf(h, "a")).Failures, "%T", bad)
		})
	}
}

// A trapdoor ends the goroutine that makes it text.
type trapdoor struct{}

func (trapdoor) Error() string {
	runtime.Goexit()
	return ""
}

// TestPanicThatEndsTheGoroutine shows that what a plugin panics with, or returns as
// its error, cannot keep the hub from seeing the end of the call, nor from recording
// it.
func TestPanicThatEndsTheGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{FailureBudget: -1})
		s := join(t, h, "a")
		require.NoError(t, s.Go("f", func(context.Context) { panic(trapdoor{}) }))
		serve(t, s, "panics", func(context.Context, router.Message) (any, error) { panic(trapdoor{}) })
		reads := 0
		serve(t, s, "returns", func(context.Context, router.Message) (any, error) {
			return nil, textual(func() string {
				if reads++; reads > 1 {
					runtime.Goexit()
				}
				return "once"
			})
		})
		_, err := s.Subscribe("job", func(context.Context, events.Event) error { return trapdoor{} })
		require.NoError(t, err)
		emit(t, h.Host(), "job", 1)
		for _, typ := range []string{"panics", "returns"} {
			_, err := h.Host().Send(t.Context(), "a", typ, 1)
			require.Error(t, err)
		}
		synctest.Wait()
		require.Empty(t, h.Inspect().Plugins[0].Goroutines)
		require.EqualValues(t, 4, must(snapshotOf(h, "a")).Failures)
		require.ErrorContains(t, h.Register(t.Context(), hooked("b", "Start", func() { panic(trapdoor{}) })), "Start panicked")
	})
}

// A textual error has the text that it returns.
type textual func() string

func (f textual) Error() string { return f() }

// TestManifestIsCopied shows that what a plugin keeps of its manifest is not that of
// the hub (V4): neither the access list nor anything else changes after the checks.
func TestManifestIsCopied(t *testing.T) {
	h := open(t, hub.Options{})
	friend, stranger := join(t, h, "friend"), join(t, h, "stranger")
	manifest := hub.Manifest{ID: "a", Provides: []hub.Capability{{
		Name: "x", Allowed: []string{"friend"}, Metadata: map[string]string{"k": "v"}, Input: []byte(`{"type":"integer"}`),
	}}}
	p := &plug{manifest: func() hub.Manifest { return manifest }}
	p.start = func(_ context.Context, s *hub.Session) error {
		manifest.Provides[0].Allowed[0] = "stranger"
		manifest.Provides[0].Metadata["k"] = "w"
		serve(t, s, "x", echo)
		return nil
	}
	require.NoError(t, h.Register(t.Context(), p))
	_, err := stranger.Send(t.Context(), "a", "x", 1)
	require.ErrorIs(t, err, plugbus.ErrDenied)
	_, err = friend.Send(t.Context(), "a", "x", 1)
	require.NoError(t, err)
	info := must(snapshotOf(h, "a"))
	require.Equal(t, "v", info.Provides[0].Metadata["k"])
	info.Provides[0].Metadata["k"] = "w"
	require.Equal(t, "v", must(snapshotOf(h, "a")).Provides[0].Metadata["k"])
}

// TestRequirementLostOften shows that a provider which comes and goes cannot
// pile up calls of a plugin that is slow to hear of it, and that this hears of the last
// loss all the same.
func TestRequirementLostOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{WaitLimit: time.Hour})
		p := join(t, h, "p")
		flap := func() {
			provide(t, p, hub.Capability{Name: "x"}, echo)
			require.NoError(t, p.Withdraw("x"))
		}
		provide(t, p, hub.Capability{Name: "x"}, echo)
		gate, calls := make(chan struct{}), 0
		require.NoError(t, h.Register(t.Context(), &loser{"d", func() { calls++; <-gate }}))
		before := runtime.NumGoroutine()
		for range 500 {
			flap()
		}
		synctest.Wait()
		require.Less(t, runtime.NumGoroutine(), before+20)
		require.Equal(t, 1, calls)
		require.Len(t, entries(t, h, audit.Query{Event: "plugin.requirement-lost"}), 1)
		close(gate)
		synctest.Wait()
		require.Equal(t, 2, calls, "it was lost again meanwhile")
		flap()
		synctest.Wait()
		require.Equal(t, 3, calls)
	})
}
