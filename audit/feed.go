package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plugbus/plugbus/internal/panics"
)

const (
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 5 * time.Second
	reportEvery = 10 * time.Second
)

// A feed gives entries to one sink. Its worker exists while there is something
// to write.
type feed struct {
	SinkOptions
	life   context.Context //nolint:containedctx // it is the feed's own, and ends when Close gives up.
	logger *slog.Logger
	queue  chan *Entry   // whoever sends holds the mutex of the log
	done   chan struct{} // closed when the feed is closed and its goroutines are gone
	noRoom error

	mu         sync.Mutex // guards below
	perActor   map[string]int
	current    *Entry        // what the worker writes
	retry      time.Duration // how long the worker waits before it tries again
	failing    error         // the sink is required, and did not accept current
	running    bool          // there is a worker
	reporting  bool          // there is a goroutine that logs
	closed     bool          // nothing more will be pushed
	stats      SinkStats
	unwritten  uint64 // dropped because Close gave up
	lastReport time.Time
}

func newFeed(life context.Context, o SinkOptions, logger *slog.Logger) *feed {
	return &feed{
		SinkOptions: o,
		life:        life,
		logger:      logger,
		queue:       make(chan *Entry, o.Queue),
		done:        make(chan struct{}),
		noRoom:      fmt.Errorf("audit: %w: the queue of the required sink %q has no room", ErrUnavailable, o.Name),
		perActor:    map[string]int{},
	}
}

// available returns nil unless the sink is required and cannot take e.
func (f *feed) available(e *Entry) error {
	if !f.Required {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing != nil {
		return f.failing
	}
	if !f.hasRoom(e) {
		return f.noRoom
	}
	return nil
}

func (f *feed) hasRoom(e *Entry) bool {
	return len(f.queue) < cap(f.queue) && (e.Admin || f.perActor[e.Actor] < (f.Queue+1)/2)
}

// push queues e, or drops it. It does not block.
func (f *feed) push(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.hasRoom(e) {
		f.stats.Dropped++
		f.report("an entry was dropped", "the queue has no room")
		return
	}
	if !e.Admin {
		f.perActor[e.Actor]++
	}
	f.queue <- e // does not block: there is room, and nobody else sends
	if !f.running {
		f.running = true
		go f.run() // ends when the queue is empty; Close waits for it
	}
}

// pop returns the entry that waits longest, or nil.
func (f *feed) pop() *Entry {
	select {
	case e := <-f.queue:
		if !e.Admin {
			if f.perActor[e.Actor]--; f.perActor[e.Actor] == 0 {
				delete(f.perActor, e.Actor)
			}
		}
		return e
	default:
		return nil
	}
}

// run writes until nothing is left.
func (f *feed) run() {
	ended := false
	defer func() {
		if !ended { // the sink ended this goroutine by runtime.Goexit
			f.wrote(errors.New("the sink ended its goroutine"))
			go f.run() // takes the place of this one
		}
	}()
	for e := f.next(); e != nil; e = f.next() {
		f.wrote(f.write(e))
	}
	ended = true
}

// next returns what to write now, or nil if nothing is left and the worker is
// no more.
func (f *feed) next() *Entry {
	if f.retry > 0 { // only the worker changes it
		t := time.NewTimer(f.retry)
		defer t.Stop()
		select {
		case <-t.C:
		case <-f.life.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life.Err() != nil {
		n := uint64(f.waiting())
		f.stats.Dropped += n
		f.unwritten += n
		f.current = nil
		for f.pop() != nil {
		}
	}
	if f.current == nil {
		f.current = f.pop()
	}
	if f.current == nil {
		f.running = false
		f.settle()
	}
	return f.current
}

// write calls the sink with a copy of e, and makes a panic an error.
func (f *feed) write(e *Entry) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New("panic: " + panics.Text(v))
		}
	}()
	return f.Sink.Write(f.life, e.clone())
}

// wrote notes how the write of the current entry ended.
func (f *feed) wrote(err error) {
	why := ""
	if err != nil {
		why = escape(panics.ErrorText(err)) // without the mutex
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.stats.Written++
		f.current, f.failing, f.retry = nil, nil, 0
		return
	case f.Required:
		f.failing = fmt.Errorf("audit: %w: the required sink %q fails: %s", ErrUnavailable, f.Name, why)
		f.retry = min(max(2*f.retry, firstRetry), lastRetry)
	default:
		f.current = nil
	}
	f.stats.Failed++
	f.report("a write failed", why)
}

// report logs a trouble, unless it did so a short time ago, on a goroutine of
// its own since the logger is code of others.
func (f *feed) report(what, why string) {
	now := time.Now()
	if f.reporting || !f.lastReport.IsZero() && now.Sub(f.lastReport) < reportEvery {
		return
	}
	f.reporting, f.lastReport = true, now
	failed, dropped := f.stats.Failed, f.stats.Dropped
	go func() { // ends when the logger returns; Close waits for it
		defer func() {
			_ = recover() // there is nowhere to report what a logger does
			f.mu.Lock()
			defer f.mu.Unlock()
			f.reporting = false
			f.settle()
		}()
		f.logger.LogAttrs(f.life, slog.LevelError, "audit sink: "+what,
			slog.String("sink", f.Name), slog.String("why", why),
			slog.Uint64("failed", failed), slog.Uint64("dropped", dropped))
	}()
}

// close says that nothing more will be pushed.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.settle()
}

// settle closes done when the feed is closed and its goroutines are gone. It is
// called when one of these becomes true; when all are, nothing starts again, so
// done is closed once.
func (f *feed) settle() {
	if f.closed && !f.running && !f.reporting {
		close(f.done)
	}
}

// wait waits until the feed has settled or ctx ends, and returns an error if
// something was not written.
func (f *feed) wait(ctx context.Context) error {
	var late error
	select {
	case <-f.done:
	default:
		select {
		case <-f.done:
		case <-ctx.Done():
			late = context.Cause(ctx)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.unwritten + uint64(f.waiting())
	switch {
	case late != nil && n == 0:
		return fmt.Errorf("%w: the logger that was told about sink %q has not returned: %w", ErrUnavailable, f.Name, late)
	case late != nil:
		return fmt.Errorf("%w: sink %q did not write %d entries in time: %w", ErrUnavailable, f.Name, n, late)
	case n > 0:
		return fmt.Errorf("%w: sink %q did not write %d entries", ErrUnavailable, f.Name, n)
	}
	return nil
}

// waiting returns how many entries are queued or being written.
func (f *feed) waiting() int {
	n := len(f.queue)
	if f.current != nil {
		n++
	}
	return n
}

func (f *feed) figures() SinkStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.stats
	st.Name, st.Required, st.Queue, st.Waiting = f.Name, f.Required, f.Queue, f.waiting()
	if f.failing != nil {
		st.Err = f.failing.Error()
	}
	return st
}
