package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// hooked returns a plugin one of whose methods does f.
func hooked(id, method string, f func()) *plug {
	p := &plug{manifest: named(id)}
	hook := func(context.Context) error {
		f()
		return nil
	}
	switch method {
	case "Manifest":
		p.manifest = func() hub.Manifest {
			f()
			return hub.Manifest{ID: id}
		}
	case "Start":
		p.start = func(context.Context, *hub.Session) error {
			f()
			return nil
		}
	case "Stop":
		p.stop = hook
	case "Health":
		p.health = hook
	}
	return p
}

// provoke has the hub call a method of a plugin, and returns what comes of it.
func provoke(ctx context.Context, t testing.TB, h *hub.Hub, p *plug, method string) error {
	t.Helper()
	if method == "Manifest" || method == "Start" {
		return h.Register(ctx, p)
	}
	require.NoError(t, h.Register(t.Context(), p)) //nolint:contextcheck // ctx is for the call that is provoked.
	if method == "Stop" {
		return h.Unregister(ctx, "a")
	}
	return h.Health(ctx)[0].Err
}

var methods = []string{"Manifest", "Start", "Stop", "Health"}

// TestMethodsThatPanic shows that a method that panics, or ends its goroutine,
// harms its own plugin and nobody else.
func TestMethodsThatPanic(t *testing.T) {
	for _, method := range methods {
		for _, test := range []struct {
			f    func()
			want string
		}{
			{func() { panic("boo") }, method + " panicked: boo"},
			{func() { panic(awkward{}) }, method + " panicked: "},
			{func() { panic(errPlugin) }, "panicked: the plugin's own error"},
			{func() { panic(strings.Repeat("x", 5000)) }, "xxx…"},
			{runtime.Goexit, "runtime.Goexit"},
		} {
			var log lines
			h := open(t, hub.Options{Logger: log.logger()})
			err := provoke(t.Context(), t, h, hooked("a", method, test.f), method)
			require.ErrorContains(t, err, test.want, method)
			if caught, ok := errors.AsType[*hub.PanicError](err); ok {
				require.Equal(t, method, caught.What)
				require.Contains(t, caught.Stack, "hostile_test.go")
				require.LessOrEqual(t, len(caught.Value), 1024)
			} else {
				require.ErrorIs(t, err, events.ErrGoexit)
			}
			require.Equal(t, method == "Health", len(h.Plugins()) == 1)
			if method != "Manifest" { // Of which nobody knows whose it was.
				require.Contains(t, log.String(), `msg="the plugin failed" plugin=a what=`+method)
			}
			require.Empty(t, h.Leaks())
			if method != "Health" {
				join(t, h, "a") // The id is free, and the hub well.
			}
			report, err := h.Close(t.Context())
			require.NoError(t, err)
			require.True(t, report.Clean(), "%+v", report)
		}
	}
}

// An awkward value panics when it is made text, compared or unwrapped.
type awkward struct{ _ []int }

func (awkward) Error() string      { panic("no text") }
func (awkward) String() string     { panic("no text") }
func (awkward) Unwrap() error      { panic("no cause") }
func (awkward) Is(error) bool      { panic("no kin") }
func (awkward) As(target any) bool { panic("no kin") }

// TestErrorsThatPanic shows that an error of a plugin cannot harm the hub by its
// methods: a nil pointer of an error type is one that happens.
func TestErrorsThatPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, bad := range []error{awkward{}, (*events.TruncatedError)(nil)} {
			h := open(t, hub.Options{Logger: slog.New(slog.DiscardHandler)})
			bang := func(context.Context) error { return bad }
			p := &plug{manifest: named("a"), health: bang, stop: bang}
			require.NoError(t, h.Register(t.Context(), p))
			_, err := p.session.Subscribe("word.*", func(context.Context, events.Event) error { return bad })
			require.NoError(t, err)
			emit(t, p.session, "word.said", 1)
			synctest.Wait()
			require.EqualValues(t, 1, h.Ledger().Failed)
			require.Contains(t, h.Inspect().Plugins[0].LastError, "whose text cannot be had")
			require.False(t, h.Health(t.Context())[0].Well())
			require.ErrorContains(t, h.Unregister(t.Context(), "a"), "stop: ")

			other := open(t, hub.Options{})
			require.NoError(t, other.Register(t.Context(), &plug{manifest: named("a"), stop: bang}))
			report, err := other.Close(t.Context())
			require.NoError(t, err)
			require.Len(t, report.Problems, 1)

			p.start = func(context.Context, *hub.Session) error { return bad }
			require.ErrorContains(t, h.Register(t.Context(), p), "start: ")
		}
	})
}

// An endless error has no end of text until it is released.
type endless struct{ release chan struct{} }

func (e endless) Error() string {
	<-e.release
	return "at last"
}

// TestErrorsThatBlock shows that the text of a plugin's error is had on the
// plugin's own worker, so that nobody waits for it for ever.
func TestErrorsThatBlock(t *testing.T) {
	for _, method := range []string{"Start", "Stop", "Health"} {
		synctest.Test(t, func(t *testing.T) {
			bad := endless{make(chan struct{})}
			h := open(t, hub.Options{})
			p := &plug{manifest: named("a")}
			bang := func(context.Context) error { return bad }
			switch method {
			case "Start":
				p.start = func(context.Context, *hub.Session) error { return bad }
			case "Stop":
				p.stop = bang
			case "Health":
				p.health = bang
			}
			start := time.Now()
			require.ErrorContains(t, provoke(t.Context(), t, h, p, method), method+" has not returned")
			require.Equal(t, 30*time.Second, time.Since(start))
			require.Equal(t, []hub.Leak{{Plugin: "a", Kind: "call", Name: method}}, h.Leaks())
			close(bad.release)
			synctest.Wait()
			require.Empty(t, h.Leaks())
		})
	}
}

// TestMethodsThatBlock shows that a method that does not return holds nobody
// longer than the caller's context and the hub's wait limit, and that Leaks
// names it until it returns.
func TestMethodsThatBlock(t *testing.T) {
	for _, method := range methods {
		for _, test := range []struct {
			patience time.Duration // 0 for no end
			want     time.Duration
		}{{time.Second, time.Second}, {0, 30 * time.Second}, {time.Hour, 30 * time.Second}} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{})
				ctx := t.Context()
				if test.patience > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.patience)
					defer cancel()
				}
				release := make(chan struct{})
				start := time.Now()
				err := provoke(ctx, t, h, hooked("a", method, func() { <-release }), method)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, method+" has not returned")
				require.Equal(t, test.want, time.Since(start), method)

				leak := hub.Leak{Plugin: "a", Kind: "call", Name: method}
				if method == "Manifest" {
					leak.Plugin, leak.Name = "host", "Manifest of *hub_test.plug"
				}
				require.Equal(t, []hub.Leak{leak}, h.Leaks())
				if method == "Health" {
					require.ErrorIs(t, h.Health(ctx)[0].Err, hub.ErrBusy, "it still answers the first question")
				} else {
					require.Empty(t, h.Plugins())
					join(t, h, "a")
				}
				close(release)
				synctest.Wait()
				require.Empty(t, h.Leaks())
				if method == "Health" {
					require.NoError(t, h.Health(t.Context())[0].Err)
				}
			})
		}
	}
}

// TestRegisterTooLate shows that a plugin whose Start returns after the time is
// over has not joined, whoever notices first.
func TestRegisterTooLate(t *testing.T) {
	h := open(t, hub.Options{})
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		err := h.Register(ctx, &plug{manifest: named("a"), start: func(ctx context.Context, _ *hub.Session) error {
			cancel()
			<-ctx.Done()
			return nil
		}})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, h.Plugins())
	}
}

// TestStartThatFails shows that no handler of a plugin that does not join ever
// runs, although events had come for it.
func TestStartThatFails(t *testing.T) {
	for _, test := range []struct {
		start func(ctx context.Context) error
		want  error
	}{
		{func(context.Context) error { return errPlugin }, errPlugin},
		{func(context.Context) error { runtime.Goexit(); return nil }, events.ErrGoexit},
		{func(ctx context.Context) error { <-ctx.Done(); return nil }, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{WaitLimit: time.Second})
			p := &receiver{plug: plug{manifest: named("a")}}
			p.receive = func(context.Context, events.Event) error { panic("called") }
			p.start = func(ctx context.Context, s *hub.Session) error {
				_, err := s.Subscribe("word.*", func(context.Context, events.Event) error { panic("called") })
				require.NoError(t, err)
				emit(t, h.Host(), "word.said", 1) //nolint:contextcheck // The host acts here, not the plugin.
				return test.start(ctx)
			}
			require.ErrorIs(t, h.Register(t.Context(), p), test.want)
			synctest.Wait()
			require.EqualValues(t, 1, h.Ledger().Cancelled, "%v", h.Ledger())
			require.Zero(t, h.Ledger().Failed)
			require.Empty(t, h.Leaks())
		})
	}
}
