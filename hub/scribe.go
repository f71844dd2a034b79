package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus/internal/notice"
	"github.com/plugbus/plugbus/internal/panics"
)

// logPatience is how long whoever logs waits for the host's handler.
const logPatience = time.Second

// A scribe hands what is logged to the host's handler, which may do anything, as may the
// values that a plugin logs: it runs on a goroutine of its own, for which whoever logs
// waits a while, so that what was logged is written when the call returns. While one call
// has not returned in its time, nothing more is handed in at the same desk.
type scribe struct {
	desk    *logDesk
	handler func() slog.Handler // the host's, with the attributes and groups so far
}

// A logDesk is where the hub, or one plugin, has its records written: what one plugin
// logs cannot keep the others, nor the hub, from it.
type logDesk struct {
	*logRoom
	stuck  atomic.Int64  // calls that have not returned in their time
	unsaid atomic.Uint64 // records that were dropped, of which the log does not know yet
}

// A logRoom is what all desks of a hub share.
type logRoom struct {
	host     slog.Handler
	dropped  atomic.Uint64
	failed   atomic.Uint64
	hung     atomic.Int64  // calls that are stuck at any desk
	returned notice.Notice // that one did after all
}

// LoggerStats say how the handler of Options.Logger fares.
type LoggerStats struct {
	Dropped uint64 // records, because an earlier one of the same plugin, or of the hub, was stuck
	Failed  uint64 // calls that panicked or ended their goroutine
	Stuck   int    // calls that have not returned within a second, and not since
}

// newLogRoom returns the room of a host's logger, which may be nil.
func newLogRoom(l *slog.Logger) *logRoom {
	if l == nil {
		return &logRoom{host: slog.DiscardHandler}
	}
	return &logRoom{host: l.Handler()}
}

// desk returns a new desk, and the logger whose records are written there.
func (r *logRoom) desk() (*logDesk, *slog.Logger) {
	d := &logDesk{logRoom: r}
	return d, slog.New(&scribe{d, func() slog.Handler { return r.host }})
}

func (r *logRoom) stats() LoggerStats {
	return LoggerStats{r.dropped.Load(), r.failed.Load(), int(r.hung.Load())}
}

// stick notes that a call has not returned in its time, or with -1 that it has after all.
func (d *logDesk) stick(n int64) {
	d.stuck.Add(n)
	d.hung.Add(n)
	d.returned.Tell()
}

// sticks reports whether a call is stuck.
func (d *logDesk) sticks() bool { return d.stuck.Load() > 0 }

// quiet waits until no call is stuck, or ctx is done.
func (d *logDesk) quiet(ctx context.Context) error {
	if err := d.returned.Until(ctx, func() bool { return !d.sticks() }); err != nil {
		return fmt.Errorf("hub: the handler of Options.Logger has not returned: %w", err)
	}
	return nil
}

// Enabled implements [slog.Handler]. It is asked for each record, where that is logged.
func (s *scribe) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() {
		if recover() != nil {
			enabled = true // Handle will tell.
		}
	}()
	return s.desk.host.Enabled(ctx, level)
}

var errLogged = errors.New("hub: the handler of the logger did not return")

// Handle implements [slog.Handler].
func (s *scribe) Handle(ctx context.Context, r slog.Record) error {
	d := s.desk
	if d.host == slog.DiscardHandler {
		return nil
	}
	if d.sticks() {
		d.dropped.Add(1)
		d.unsaid.Add(1)
		return errLogged
	}
	done := make(chan error, 1)
	var over atomic.Bool // it has returned, or was given up
	go func() {          // Ends with the host's handler; Close waits for those of the hub that are stuck, and Leaks names those of plugins.
		err := errLogged
		defer func() {
			if err == errLogged { //nolint:errorlint // It is ours.
				_ = recover() // There is nowhere to report what a logger does, but in the figures.
				d.failed.Add(1)
			}
			done <- err
			if over.Swap(true) {
				d.stick(-1)
			}
		}()
		err = s.write(ctx, r)
	}()
	clock := time.NewTimer(logPatience)
	defer clock.Stop()
	select {
	case err := <-done:
		return err
	case <-clock.C:
	}
	d.stick(1)
	if over.Swap(true) { // It has returned at the same time.
		d.stick(-1)
	}
	return errLogged
}

// write calls the host's handler, and tells it before how much it has missed.
func (s *scribe) write(ctx context.Context, r slog.Record) error {
	if n := s.desk.unsaid.Swap(0); n > 0 {
		missed := slog.NewRecord(r.Time, slog.LevelWarn, "records of the log were dropped, since the handler of the logger had not returned from an earlier one", 0)
		missed.AddAttrs(slog.Uint64("records", n))
		if err := s.handler().Handle(ctx, missed); err != nil {
			return panics.Returned(err)
		}
	}
	return panics.Returned(s.handler().Handle(ctx, r))
}

// WithAttrs implements [slog.Handler]. The host's handler is told when something is
// logged, and not here, where we may hold locks.
func (s *scribe) WithAttrs(attrs []slog.Attr) slog.Handler {
	return s.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (s *scribe) WithGroup(name string) slog.Handler {
	return s.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (s *scribe) with(more func(slog.Handler) slog.Handler) slog.Handler {
	return &scribe{s.desk, sync.OnceValue(func() slog.Handler { return more(s.handler()) })}
}
