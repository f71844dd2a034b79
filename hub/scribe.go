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

// logPatience is how long whoever logs waits for the host's handler. When the hub closes
// and has no more time for plugins, all who log at its desk have that together.
const logPatience = time.Second

// MaxLogCalls bounds the records that one plugin has written at a time.
const MaxLogCalls = MaxGoroutines

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

	most int // who may wait for the handler at a time; 0 for any number

	mu      sync.Mutex // guards below
	waiting int        // who waits for the handler
	since   time.Time  // since when somebody has, or the hurry
	hurries bool       // all who log from now on wait no longer than left together
	left    time.Duration
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
	// Dropped counts records: an earlier one of the same plugin, or of the hub, was stuck;
	// too many of the plugin were being written; or the hub closed, and had no more time.
	Dropped uint64

	Failed uint64 // calls that panicked or ended their goroutine
	Stuck  int    // calls that have not returned within a second, and not since
}

// newLogRoom returns the room of a host's logger, which may be nil.
func newLogRoom(l *slog.Logger) *logRoom {
	if l == nil {
		return &logRoom{host: slog.DiscardHandler}
	}
	return &logRoom{host: l.Handler()}
}

// desk returns a new desk, and the logger whose records are written there, of which at
// most so many are being written at a time; 0 for any number.
func (r *logRoom) desk(most int) (*logDesk, *slog.Logger) {
	d := &logDesk{logRoom: r, most: most}
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

// hurry has all who log from now on wait no longer together than one did before, so that
// a handler that is slow does not add up.
func (d *logDesk) hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.hurries {
		d.hurries, d.left, d.since = true, logPatience, time.Now()
	}
}

// wait returns how long the one who logs now waits for the handler. If that is not at
// all, there is no call; otherwise waited is called afterwards.
func (d *logDesk) wait() (patience time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.most > 0 && d.waiting >= d.most {
		return 0
	}
	patience = logPatience
	if d.hurries {
		now := time.Now()
		if d.waiting == 0 {
			d.since = now
		}
		patience = min(patience, d.left-now.Sub(d.since))
	}
	if patience > 0 {
		d.waiting++
	}
	return patience
}

func (d *logDesk) waited() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting--
	if d.waiting == 0 && d.hurries {
		d.left -= time.Since(d.since)
	}
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
	patience := time.Duration(0)
	if !d.sticks() {
		patience = d.wait()
	}
	if patience <= 0 {
		d.dropped.Add(1)
		d.unsaid.Add(1)
		return errLogged
	}
	defer d.waited()
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
	clock := time.NewTimer(patience)
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
