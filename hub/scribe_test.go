package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestLoggerIsAHandler shows that what a plugin logs reaches the host's handler as the
// contract of log/slog has it.
func TestLoggerIsAHandler(t *testing.T) {
	var out bytes.Buffer
	s := join(t, open(t, hub.Options{Logger: slog.New(slog.NewJSONHandler(&out, nil))}), "a")
	out.Reset()
	require.NoError(t, slogtest.TestHandler(s.Logger().Handler(), func() (results []map[string]any) {
		for line := range strings.Lines(out.String()) {
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			require.Equal(t, "a", m["plugin"])
			results = append(results, m)
		}
		return results
	}))
	require.False(t, s.Logger().Enabled(t.Context(), slog.LevelDebug))
}

// A gated handler does something for records with a message.
type gated struct {
	slog.Handler
	on map[string]func()
}

func (g gated) Handle(ctx context.Context, r slog.Record) error {
	if f := g.on[r.Message]; f != nil {
		f()
	}
	return g.Handler.Handle(ctx, r)
}

func (g gated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return gated{g.Handler.WithAttrs(attrs), g.on}
}

// TestLoggerThatHangs shows that a handler of the host's logger that hangs holds up
// whoever logs for a second, once; that what else is logged there is dropped, counted and
// told later; that this keeps no other plugin, nor the hub, from logging; that the plugin
// that logged it is named; and that those that do not return are counted.
func TestLoggerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		gate := make(chan struct{})
		h := open(t, hub.Options{Logger: slog.New(gated{log.logger().Handler(), map[string]func(){
			"hang": func() { <-gate }, "panic": func() { panic("boo") }, "goexit": runtime.Goexit,
		}})})
		a, b := join(t, h, "a"), join(t, h, "b")
		for _, text := range []string{"panic", "goexit", "well"} {
			a.Logger().Info(text)
		}
		require.Contains(t, log.String(), "msg=well plugin=a")
		require.Equal(t, hub.LoggerStats{Failed: 2}, h.Inspect().Logger)
		start := time.Now()
		a.Logger().Info("hang")
		require.Equal(t, time.Second, time.Since(start))
		for range 3 {
			a.Logger().Info("lost")
		}
		b.Logger().Info("kept")
		join(t, h, "c")
		require.Equal(t, time.Second, time.Since(start))
		require.Contains(t, log.String(), "msg=kept plugin=b")
		require.Contains(t, log.String(), `msg="the plugin has joined" plugin=c`)
		require.Equal(t, hub.LoggerStats{Dropped: 3, Failed: 2, Stuck: 1}, h.Inspect().Logger)
		require.Equal(t, []hub.Leak{{Plugin: "a", Kind: "call", Name: "Session.Logger"}}, h.Leaks())
		require.NoError(t, h.Unregister(t.Context(), "a"))
		require.Len(t, h.Leaks(), 1, "it has left, and its record is not written")
		close(gate)
		synctest.Wait()
		require.Empty(t, h.Leaks())
		a.Logger().Info("again")
		require.NotContains(t, log.String(), "msg=lost")
		require.Contains(t, log.String(), "records of the log were dropped, since the handler of the logger had not returned from an earlier one\" plugin=a records=3")
		require.Contains(t, log.String(), "msg=again plugin=a")
	})
}

// TestLoggerThatHangsAtTheEnd shows that Close says that the host's handler hangs for a
// record of the hub's.
func TestLoggerThatHangsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		h := open(t, hub.Options{WaitLimit: time.Second, Logger: slog.New(gated{slog.NewTextHandler(&lines{}, nil), map[string]func(){
			"the plugin has joined": func() { <-gate },
		}})})
		s := join(t, h, "a")
		serve(t, s, "job", func(ctx context.Context, m router.Message) (any, error) {
			s.Logger().InfoContext(ctx, "hello")
			return nil, nil
		})
		_, err := h.Host().Send(t.Context(), "a", "job", nil)
		require.NoError(t, err)
		_, err = h.Close(t.Context())
		require.ErrorContains(t, err, "the handler of Options.Logger has not returned")
		require.Equal(t, 1, h.Inspect().Logger.Stuck)
		close(gate)
		synctest.Wait()
		require.Zero(t, h.Inspect().Logger.Stuck)
	})
}

// TestCloseWithASlowLogger shows that a handler of the host's logger that is slow, and not
// stuck, makes Close no more than a second longer, however much there is to log: what it
// has not taken by then is dropped and counted.
func TestCloseWithASlowLogger(t *testing.T) {
	const hung = 64
	for name, hang := range map[string]func(t *testing.T, h *hub.Hub, s *hub.Session, gate chan struct{}){
		"events": func(t *testing.T, h *hub.Hub, s *hub.Session, gate chan struct{}) {
			t.Helper()
			_, err := s.Subscribe("word.*", func(context.Context, events.Event) error { <-gate; return nil }, events.Concurrent(hung))
			require.NoError(t, err)
			for range hung {
				emit(t, h.Host(), "word.said", 1)
			}
		},
		"messages": func(t *testing.T, h *hub.Hub, s *hub.Session, gate chan struct{}) {
			t.Helper()
			serve(t, s, "job", func(context.Context, router.Message) (any, error) { <-gate; return nil, nil }, router.Concurrent(hung))
			for range hung {
				require.NoError(t, h.Host().Post(t.Context(), "a", "job", 1))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nap := func() { <-time.After(300 * time.Millisecond) }
				h := open(t, hub.Options{Logger: slog.New(gated{slog.NewTextHandler(&lines{}, nil), map[string]func(){"the plugin failed": nap}})})
				gate := make(chan struct{})
				hang(t, h, join(t, h, "a"), gate)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				report, err := h.Close(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.LessOrEqual(t, time.Since(start), 5*time.Second+hub.CloseGrace+time.Second)
				close(gate)
				require.Equal(t, hung, report.Abandoned)
				require.GreaterOrEqual(t, h.Inspect().Logger.Dropped, uint64(hung-4))
				<-time.After(time.Second)
				require.Empty(t, h.Leaks())
			})
		})
	}
}

// TestLogCallsAreBounded shows that one plugin has no more than so many records written at
// a time, however many of its goroutines log, and that this is for a while only.
func TestLogCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nap := func() { <-time.After(100 * time.Millisecond) }
		h := open(t, hub.Options{Logger: slog.New(gated{slog.NewTextHandler(&lines{}, nil), map[string]func(){"nap": nap}})})
		a, b := join(t, h, "a"), join(t, h, "b")
		for range hub.MaxLogCalls + 10 {
			go a.Logger().Info("nap")
		}
		synctest.Wait()
		b.Logger().Info("nap")
		require.Equal(t, hub.LoggerStats{Dropped: 10}, h.Inspect().Logger)
		synctest.Wait()
		a.Logger().Info("nap")
		require.EqualValues(t, 10, h.Inspect().Logger.Dropped)
	})
}
