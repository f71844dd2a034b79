package hubtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
)

// A testLog takes what a hub logs into the log of a test, until the test ends,
// and remembers panics.
type testLog struct {
	handler slog.Handler

	mu     sync.Mutex // guards below, and keeps the end of the test waiting for a write
	out    io.Writer
	ended  bool
	panics []string
}

// newTestLog returns a log that goes to instead, if that is set.
func newTestLog(out io.Writer, instead *slog.Logger) *testLog {
	l := &testLog{out: out}
	if instead != nil {
		l.handler = instead.Handler()
		return l
	}
	l.handler = slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // The order says it, and tests take no time.
			}
			return a
		},
	})
	return l
}

func (l *testLog) logger() *slog.Logger { return slog.New(&watch{Handler: l.handler, log: l}) }

// Write takes a line, unless the test has ended: then its log takes none.
func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return len(line), nil
	}
	return l.out.Write(line)
}

// end says that the test ends, and returns the panics until now.
func (l *testLog) end() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	return l.panics
}

func (l *testLog) note(panicked string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.panics = append(l.panics, panicked)
}

// A watch looks for panics in what passes it: the hub logs each with its stack.
type watch struct {
	slog.Handler
	log   *testLog
	attrs []slog.Attr
}

// failed is the message under which the hub logs that a plugin failed.
const failed = "the plugin failed"

func (w *watch) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == failed {
		found := map[string]slog.Value{}
		for _, a := range w.attrs {
			found[a.Key] = a.Value
		}
		r.Attrs(func(a slog.Attr) bool {
			found[a.Key] = a.Value
			return true
		})
		if stack, ok := found["stack"]; ok {
			w.log.note(fmt.Sprintf("plugin %q: %v: %v\n%v", found["plugin"], found["what"], found["error"], stack))
		}
	}
	return w.Handler.Handle(ctx, r)
}

func (w *watch) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &watch{w.Handler.WithAttrs(attrs), w.log, slices.Concat(w.attrs, attrs)}
}

func (w *watch) WithGroup(name string) slog.Handler {
	return &watch{w.Handler.WithGroup(name), w.log, w.attrs}
}
