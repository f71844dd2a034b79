package hub_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
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

// TestClose shows that a hub handles what waits, stops its plugins in the
// reverse order of their start, takes nothing more, and flushes the audit log.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written []string
		h := open(t, hub.Options{Audit: audit.Options{Sinks: []audit.SinkOptions{{Name: "list", Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
			written = append(written, e.Event)
			return nil
		})}}}})
		var d diary
		a, b := d.of(caps("a", "", "x"), nil), d.of(caps("b", "x", ""), nil)
		require.NoError(t, h.Register(t.Context(), a, b, d.of(caps("c", "", ""), nil)))
		for _, s := range []*hub.Session{h.Host(), a.session, b.session} {
			_, err := s.Subscribe("job.*", func(ctx context.Context, _ events.Event) error {
				<-time.After(time.Second)
				d.note("handled by " + s.ID())
				_, err := s.Emit(ctx, "word.last", 1)
				require.ErrorIs(t, err, plugbus.ErrClosed, "nothing is accepted any more")
				return nil
			})
			require.NoError(t, err)
		}
		emit(t, h.Host(), "job.new", 1)
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean(), "%+v", report)
		require.EqualValues(t, 3, report.Ledger.Handled)
		require.NoError(t, report.Ledger.Check())
		require.Equal(t, []string{"start b", "start a", "start c"}, d.lines[:3])
		var stops, handled int
		for _, line := range d.lines[3:] {
			if strings.HasPrefix(line, "stop") {
				require.Equal(t, []string{"stop c", "stop a", "stop b"}[stops], line)
				stops++
			} else {
				handled++
			}
		}
		require.Equal(t, []int{3, 3}, []int{stops, handled})
		require.Contains(t, written, "hub.closed")

		again, err := h.Close(canceled())
		require.NoError(t, err)
		require.Equal(t, report, again, "a later call returns the same")
		for _, act := range acts {
			require.ErrorIs(t, act.do(t.Context(), h.Host(), "word.said", 1), plugbus.ErrClosed, act.name)
		}
		require.Empty(t, h.Plugins())
		require.Empty(t, h.Health(t.Context()))
		require.NoError(t, h.Idle(t.Context()))
		require.Len(t, h.Inspect().Plugins, 1)
	})
}

// TestH16CloseReports shows that the report of a close that ran out of time is
// exact: what was cancelled, what was abandoned, what went wrong with which
// plugin, and what still runs.
func TestH16CloseReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		h := open(t, hub.Options{Logger: log.logger()})
		release := make(chan struct{})
		hung, stubborn := join(t, h, "hung"), join(t, h, "stubborn")
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("rude"), stop: func(context.Context) error { return errPlugin }}))
		_, err := hung.Subscribe("job.*", func(context.Context, events.Event) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, stubborn.Go("forever", func(context.Context) { <-release }))
		for range 4 {
			emit(t, h.Host(), "job.new", 1)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		start := time.Now()
		report, err := h.Close(ctx)
		require.NoError(t, err, "the context is not done")
		require.Equal(t, 30*time.Second+hub.CloseGrace/2, time.Since(start), "one wait limit for all plugins together, and a grace for functions of Go")
		require.False(t, report.Clean())
		require.EqualValues(t, 3, report.Cancelled)
		require.EqualValues(t, 1, report.Abandoned)
		var plugins []string
		for _, p := range report.Problems {
			plugins = append(plugins, p.Plugin)
		}
		require.Equal(t, []string{"rude", "stubborn", "hung"}, plugins)
		require.Equal(t, []int{3, 1}, []int{report.Problems[2].Cancelled, report.Problems[2].Abandoned})
		require.ErrorIs(t, report.Problems[0].Err, errPlugin)
		require.ErrorContains(t, report.Problems[1].Err, `functions of Session.Go have not returned: ["forever"]`)
		require.ErrorContains(t, report.Problems[2].Err, "events cancelled: 3, handlers abandoned: 1")
		require.Len(t, report.Leaks, 2)
		require.Equal(t, hub.Leak{Plugin: "hung", Kind: "handler", Name: "job.*", Site: report.Leaks[0].Site}, report.Leaks[0])
		require.Equal(t, hub.Leak{Plugin: "stubborn", Kind: "goroutine", Name: "forever"}, report.Leaks[1])
		require.NoError(t, report.Ledger.Check())
		require.Contains(t, log.String(), "not everything was done")
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}

// TestCloseConcurrently shows that all who close get the one report, and that
// who does not want to wait need not.
func TestCloseConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		stops := 0
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), stop: func(context.Context) error {
			stops++
			<-time.After(time.Second)
			return errPlugin
		}}))
		var wait sync.WaitGroup
		reports := make([]hub.Report, 5)
		for i := range reports {
			wait.Go(func() {
				var err error
				reports[i], err = h.Close(context.Background())
				require.NoError(t, err)
			})
		}
		wait.Go(func() { _ = h.Unregister(context.Background(), "a") })
		synctest.Wait()
		_, err := h.Close(canceled())
		require.ErrorIs(t, err, context.Canceled)
		wait.Wait()
		require.Equal(t, 1, stops)
		for _, report := range reports {
			require.Equal(t, reports[0], report)
		}
	})
}

// TestCloseDuringUnregister shows that a plugin that leaves already is waited
// for, and not stopped twice.
func TestCloseDuringUnregister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		stops := 0
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), stop: func(context.Context) error {
			stops++
			<-time.After(time.Second)
			return nil
		}}))
		done := make(chan error)
		go func() { done <- h.Unregister(context.Background(), "a") }()
		synctest.Wait()
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean())
		require.NoError(t, <-done)
		require.Equal(t, 1, stops)
	})
}

// TestCloseDuringRegister shows that a close does not lose plugins that are
// joining: those that had started are stopped once, those that had not are never
// called, and Register says why.
func TestCloseDuringRegister(t *testing.T) {
	for _, more := range [][]hub.Plugin{nil, {hub.Func(hub.Manifest{ID: "c"}, func(context.Context, *hub.Session) error { panic("called") })}} {
		closeDuringRegister(t, more)
	}
}

func closeDuringRegister(t *testing.T, more []hub.Plugin) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var d diary
		b := d.of(caps("b", "", ""), nil)
		b.start = func(context.Context, *hub.Session) error {
			d.note("start b")
			<-time.After(10 * time.Second)
			return nil
		}
		registered := make(chan error)
		go func() {
			registered <- h.Register(context.Background(), append([]hub.Plugin{d.of(caps("a", "", ""), nil), b}, more...)...)
		}()
		synctest.Wait()
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean(), "%+v", report)
		err = <-registered
		require.ErrorIs(t, err, hub.ErrClosed)
		require.Equal(t, []string{"start a", "start b"}, d.lines[:2])
		require.ElementsMatch(t, []string{"stop a", "stop b"}, d.lines[2:])
		require.Empty(t, h.Plugins())
		require.Empty(t, h.Leaks())
	})
}

// TestCloseFromAHandler shows that a handler can close the hub: its own plugin
// is not waited for, and the others leave in order, with the audit log flushed,
// although the handler's context ends on the way.
func TestCloseFromAHandler(t *testing.T) {
	for _, who := range []string{"host", "first", "last"} {
		for _, limited := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var written []string
				h := open(t, hub.Options{Audit: audit.Options{Sinks: []audit.SinkOptions{{Name: "list", Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
					written = append(written, e.Event)
					return nil
				})}}}})
				var d diary
				first, last := d.of(caps("first", "", ""), nil), d.of(caps("last", "", ""), nil)
				require.NoError(t, h.Register(t.Context(), first, d.of(caps("other", "", ""), nil), last))
				s := map[string]*hub.Session{"host": h.Host(), "first": first.session, "last": last.session}[who]
				var report hub.Report
				var err error
				var took time.Duration
				_, subErr := s.Subscribe("app.quit", func(ctx context.Context, _ events.Event) error {
					if limited {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, time.Minute)
						defer cancel()
					}
					start := time.Now()
					report, err = h.Close(ctx)
					took = time.Since(start)
					return nil
				})
				require.NoError(t, subErr)
				emit(t, h.Host(), "app.quit", 1)
				synctest.Wait()
				require.NoError(t, err)
				require.Zero(t, took)
				require.Len(t, report.Problems, 1)
				require.Equal(t, who, report.Problems[0].Plugin)
				require.EqualValues(t, 1, report.Abandoned)
				want := []string{"start first", "start other", "start last", "stop last", "stop other", "stop first"}
				if i := map[string]int{"host": -1, "last": 3, "first": 5}[who]; i > 0 {
					want = append(want[:i:i], want[i+1:]...)
				}
				require.Equal(t, want, d.lines)
				require.Contains(t, written, "hub.closed")
				require.Empty(t, h.Leaks(), "the handler has returned")
			})
		}
	}
}

// TestCloseFromStop shows that a plugin that closes the hub while it is stopped
// does not wait for itself for ever.
func TestCloseFromStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), stop: func(ctx context.Context) error {
			_, err := h.Close(ctx)
			return err
		}}))
		start := time.Now()
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.Len(t, report.Problems, 1)
		require.ErrorContains(t, report.Problems[0].Err, "may wait for this very call")
		require.Empty(t, report.Leaks)
	})
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), stop: func(ctx context.Context) error {
			_, err := h.Close(ctx)
			return err
		}}))
		start := time.Now()
		require.ErrorContains(t, h.Unregister(t.Context(), "a"), "Stop has not returned", "the hub has closed before it did")
		require.Zero(t, time.Since(start), "nor for its own worker")
	})
}

// TestCloseFromStart shows that a plugin that closes the hub while it starts
// does not wait for itself either.
func TestCloseFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		start := time.Now()
		var took time.Duration
		err := h.Register(t.Context(), &plug{manifest: named("a"), start: func(ctx context.Context, _ *hub.Session) error {
			_, err := h.Close(ctx)
			took = time.Since(start)
			return err
		}})
		require.ErrorContains(t, err, `register plugin "a": start: `)
		synctest.Wait()
		require.Zero(t, took)
		require.Empty(t, h.Leaks())
	})
}

// TestForgottenHub shows that a hub that is dropped without Close says so in the
// log, and that one that was closed does not.
func TestForgottenHub(t *testing.T) {
	told := make(chan string, 10)
	logger := lineLogger(func(line string) { told <- line })
	forget := func(end bool) {
		h, err := hub.New(hub.Options{Logger: logger, Policy: policyOf(t, `"a": {}`)})
		require.NoError(t, err)
		if end {
			_, err := h.Close(t.Context())
			require.NoError(t, err)
		}
	}
	forget(true)
	forget(false)
	for {
		runtime.GC()
		select {
		case line := <-told:
			require.Contains(t, line, "a hub was dropped without Close")
			runtime.GC()
			require.Empty(t, told, "the other was closed")
			return
		case <-t.Context().Done():
			return
		default:
			runtime.Gosched()
		}
	}
}

// TestCloseErrors shows whose errors Close returns.
func TestCloseErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := audit.SinkFunc(func(ctx context.Context, _ audit.Entry) error {
			<-ctx.Done()
			return ctx.Err()
		})
		h := open(t, hub.Options{Audit: audit.Options{Sinks: []audit.SinkOptions{{Name: "file", Sink: hung}}}})
		join(t, h, "a")
		start := time.Now()
		report, err := h.Close(t.Context())
		require.ErrorIs(t, err, audit.ErrUnavailable)
		require.Equal(t, 30*time.Second, time.Since(start))
		require.True(t, report.Clean())
	})
	h := open(t, hub.Options{Policy: security.AllowAll()})
	join(t, h, "a")
	_, err := h.Close(canceled())
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, h.Plugins(), "it is closed all the same")
}

// TestCloseNamesWhatRuns shows that the report names a call that has not returned, also
// when whoever made the call has not noticed yet that the session has ended.
func TestCloseNamesWhatRuns(t *testing.T) {
	for range 50 {
		h := open(t, hub.Options{})
		entered, release := make(chan struct{}), make(chan struct{})
		require.NoError(t, h.Register(t.Context(), &plug{manifest: named("a"), health: func(context.Context) error {
			close(entered)
			<-release
			return nil
		}}))
		var wait sync.WaitGroup
		wait.Go(func() { h.Health(context.Background()) })
		<-entered
		report, err := h.Close(canceled())
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, []hub.Leak{{Plugin: "a", Kind: "call", Name: "Health"}}, report.Leaks)
		close(release)
		wait.Wait()
	}
}

// TestCloseReleasesRegister shows that who waits for a Manifest that hangs does not wait
// for it in a hub that closes.
func TestCloseReleasesRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		release, registered := make(chan struct{}), make(chan error, 1)
		go func() {
			registered <- h.Register(context.Background(), &plug{manifest: func() hub.Manifest { <-release; return hub.Manifest{ID: "a"} }})
		}()
		synctest.Wait()
		start := time.Now()
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, <-registered, hub.ErrClosed)
		require.Zero(t, time.Since(start))
		require.Len(t, report.Leaks, 1)
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}
