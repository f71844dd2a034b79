package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
)

// The defaults and limits of [Options] and [SinkOptions].
const (
	DefaultCapacity       = 10_000
	DefaultAdminCapacity  = 1_000
	DefaultCoalesceWithin = time.Second
	DefaultSinkQueue      = 1_024

	MaxCapacity  = 10_000_000
	MaxSinkQueue = 1_000_000
)

var (
	// ErrUnavailable matches the error of Record while a required sink cannot
	// take entries, and the error of Close if a sink did not write everything.
	ErrUnavailable = errors.New("a sink of the audit log is unavailable")

	errClosed = fmt.Errorf("audit log: %w", plugbus.ErrClosed)
)

// Options configure a [Log]. The zero value is ready to use.
type Options struct {
	// Capacity is how many entries of plugins are kept, at most 10,000,000. If
	// zero, it is 10,000.
	Capacity int

	// AdminCapacity is how many admin entries are kept besides, at most
	// 10,000,000. If zero, it is 1,000.
	AdminCapacity int

	// CoalesceWithin is how long after an entry its repeats join it. If zero, it
	// is one second; if negative, every entry stands for itself.
	CoalesceWithin time.Duration

	// Sinks get every entry.
	Sinks []SinkOptions

	// Logger is told when a sink fails or its queue overflows, at most once in
	// ten seconds for each sink, from a goroutine of its own. If nil, nothing
	// is logged, and Stats tells.
	Logger *slog.Logger
}

// A Log is a bounded log of entries. It is safe for use by many goroutines.
type Log struct {
	within time.Duration
	feeds  []*feed
	giveUp context.CancelFunc // ends what the sinks still do
	timers sync.WaitGroup     // the timer of windows, while it is set

	mu        sync.Mutex // guards below; no code of others runs under it
	closed    bool
	seq       uint64 // of the last entry
	coalesced uint64
	order     list[*slot]      // by Seq
	bySeq     map[uint64]*slot // the same
	plugins   pool
	admins    pool
	windows   windows
}

// New returns a log. It reports all mistakes in the options at once, in an
// error that matches plugbus.ErrInvalid.
func New(o Options) (*Log, error) {
	var errs []error
	bound := func(what string, n *int, standard, limit int) {
		if *n < 0 || *n > limit {
			errs = append(errs, fmt.Errorf("%s is %d; expected 0 for the default of %d, or up to %d", what, *n, standard, limit))
		}
		if *n == 0 {
			*n = standard
		}
	}
	bound("Capacity", &o.Capacity, DefaultCapacity, MaxCapacity)
	bound("AdminCapacity", &o.AdminCapacity, DefaultAdminCapacity, MaxCapacity)
	if o.CoalesceWithin == 0 {
		o.CoalesceWithin = DefaultCoalesceWithin
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	life, giveUp := context.WithCancel(context.Background())
	l := &Log{
		within:  o.CoalesceWithin,
		giveUp:  giveUp,
		bySeq:   map[uint64]*slot{},
		plugins: newPool(o.Capacity),
		admins:  newPool(o.AdminCapacity),
		windows: windows{byKey: map[key]*slot{}},
	}
	names := map[string]bool{}
	for i, s := range o.Sinks {
		at := fmt.Sprintf("Sinks[%d] %q", i, s.Name)
		bound(at+": Queue", &s.Queue, DefaultSinkQueue, MaxSinkQueue)
		f, isFunc := s.Sink.(SinkFunc)
		switch {
		case s.Name == "":
			errs = append(errs, fmt.Errorf("%s has no name; name it for Stats and errors", at))
		case names[s.Name]:
			errs = append(errs, fmt.Errorf("%s: another sink has that name", at))
		}
		if s.Sink == nil || isFunc && f == nil {
			errs = append(errs, fmt.Errorf("%s is nil; expected a Sink", at))
		}
		names[s.Name] = true
		if len(errs) == 0 {
			l.feeds = append(l.feeds, newFeed(life, s, o.Logger))
		}
	}
	if len(errs) > 0 {
		giveUp()
		return nil, fmt.Errorf("audit: %w: %w", plugbus.ErrInvalid, errors.Join(errs...))
	}
	return l, nil
}

// Record adds an entry, or joins it to the one that it repeats, and returns the
// Seq of that entry. It does not block. The entry's strings and details may be
// changed afterwards.
//
// It returns plugbus.ErrClosed after Close. It returns an error that matches
// [ErrUnavailable], and the Seq all the same, if a required sink is
// unavailable: the log then keeps the entry as [Entry.Unconfirmed], and the
// caller must not do the act that the entry announces.
func (l *Log) Record(e Entry) (seq uint64, err error) {
	e.stamp()
	if !e.Admin { // an admin entry is compared in full
		if seq, done, err := l.record(&e, false); done {
			return seq, err
		}
	}
	e.own()
	seq, _, err = l.record(&e, true)
	return seq, err
}

// record joins e to the entry that it repeats, or adds it if it may. It
// reports whether it did one of them, or never will.
func (l *Log) record(e *Entry, add bool) (seq uint64, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, true, errClosed
	}
	for _, f := range l.feeds {
		if err = f.available(e); err != nil {
			break
		}
	}
	e.Unconfirmed = err != nil
	if s := l.windows.find(e, l.within); s != nil {
		l.join(s, e)
		return s.entry.Seq, true, err
	}
	if !add {
		return 0, false, nil
	}
	l.add(e)
	return e.Seq, true, err
}

// add stamps and keeps an entry, and gives it to the sinks.
func (l *Log) add(e *Entry) {
	pool := l.poolOf(e)
	s := pool.evict(e.Actor)
	if s != nil {
		l.closeWindow(s)
		l.order.remove(&s.order)
		delete(l.bySeq, s.entry.Seq)
	} else {
		s = newSlot()
	}
	l.seq++
	e.Seq = l.seq
	s.entry = *e
	pool.add(s)
	l.order.push(&s.order)
	l.bySeq[e.Seq] = s
	if l.within > 0 {
		l.openWindow(s)
	}
	l.tell(s)
}

func (l *Log) poolOf(e *Entry) *pool {
	if e.Admin {
		return &l.admins
	}
	return &l.plugins
}

// tell queues the entry of s, as it is now, for the sinks. It is called with
// the mutex held, so that sinks get entries in order.
func (l *Log) tell(s *slot) {
	if len(l.feeds) == 0 {
		return
	}
	e := s.entry
	for _, f := range l.feeds {
		f.push(&e)
	}
}

// Close refuses further records, and waits until the sinks have written what
// is queued, or until ctx ends. Then it gives up: the context of every write
// ends, and what is queued is dropped. It returns nil if everything was
// written, and otherwise an error that matches [ErrUnavailable] and names each
// sink with what it did not write.
//
// Close may be called again, and then waits for what is still running. A sink
// must not call it.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		for n := l.windows.open.first; n != nil; n = l.windows.open.first {
			l.closeWindow(n.value)
		}
		if l.windows.timer != nil && l.windows.timer.Stop() {
			l.timers.Done()
		}
		for _, f := range l.feeds {
			f.close()
		}
	}
	l.mu.Unlock()
	l.timers.Wait()

	var errs []error
	for _, f := range l.feeds {
		if err := f.wait(ctx); err != nil {
			l.giveUp()
			errs = append(errs, err)
		}
	}
	l.giveUp()
	if len(errs) > 0 {
		return fmt.Errorf("audit: close: %w", errors.Join(errs...))
	}
	return nil
}
