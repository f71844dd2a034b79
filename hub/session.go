package hub

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
)

// A Session is a plugin's own door to the hub: its identity, what it may do, and
// everything that it opened. The hub makes it, and ends it with the plugin; then
// its methods return [plugbus.ErrClosed]. Its methods may be called by several
// goroutines.
type Session struct {
	id     string
	client *events.Client
	guard  *guard
	logger *slog.Logger
	tasks  *tasks
	ctx    context.Context //nolint:containedctx // The life of the session, which Go hands out.
	end    context.CancelFunc
	fail   func(what string, err error) // tells the hub of a failure

	mu         sync.Mutex // guards below
	goroutines map[*goroutine]struct{}
	ended      bool
	quiet      chan struct{} // closed when ended and without goroutines
}

type goroutine struct{ name string }

// MaxGoroutines bounds the functions that one session runs at a time by
// [Session.Go].
const MaxGoroutines = 256

// ID returns the id of the plugin.
func (s *Session) ID() string { return s.id }

// Logger returns a logger that names the plugin.
func (s *Session) Logger() *slog.Logger { return s.logger }

// Go runs f on a goroutine that belongs to the session. Its context ends with
// the session, and f must return then: the hub waits for it. A panic is recovered,
// logged, and counts as a failure of the plugin. The name is for logs and leaks.
//
// The error is [plugbus.ErrClosed], or a [*plugbus.DeniedError] if the session
// runs [MaxGoroutines] already.
func (s *Session) Go(name string, f func(ctx context.Context)) error {
	if f == nil {
		return fmt.Errorf("plugin %q: go %q: the function is nil: %w", s.id, plugbus.CutText(name), plugbus.ErrInvalid)
	}
	g := &goroutine{plugbus.CutText(name)}
	s.mu.Lock()
	switch {
	case s.ended:
		s.mu.Unlock()
		return fmt.Errorf("plugin %q: go %q: %w: the plugin has left", s.id, g.name, ErrClosed)
	case len(s.goroutines) >= MaxGoroutines:
		s.mu.Unlock()
		return s.guard.Refuse(plugbus.Refusal{
			Verb: plugbus.VerbCreate, Object: g.name, Reason: plugbus.ReasonQuotaExceeded,
			Hint: fmt.Sprintf("at most %d functions of a session run at a time", MaxGoroutines),
		})
	}
	s.goroutines[g] = struct{}{}
	s.mu.Unlock()
	go func() { // Ends with f; the hub waits for quiet.
		orderly := false
		defer func() {
			if !orderly {
				s.fail("goroutine "+g.name, failure("the function of Go", recover()))
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.goroutines, g)
			if s.ended && len(s.goroutines) == 0 {
				close(s.quiet)
			}
		}()
		f(s.ctx)
		orderly = true
	}()
	return nil
}

// failure returns the error of a call into a plugin that did not return, from
// what its deferred function recovered.
func failure(what string, recovered any) error {
	if recovered == nil {
		return events.ErrGoexit
	}
	return &PanicError{What: what, Value: panicText(recovered), Stack: string(debug.Stack())}
}

func panicText(recovered any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("a %T whose text panics too", recovered)
		}
	}()
	return plugbus.CutText(fmt.Sprint(recovered))
}

// close ends the session for everything but its events client: later calls of
// Go are refused, and the context of the running ones is done.
func (s *Session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	s.tasks.close()
	s.end()
	if len(s.goroutines) == 0 {
		close(s.quiet)
	}
}

// names returns the names of the functions that run.
func (s *Session) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for g := range s.goroutines {
		names = append(names, g.name)
	}
	return names
}

// Subscribe calls handler for every event whose name matches pattern and that
// the plugin may have. See [events.Client.Subscribe].
func (s *Session) Subscribe(pattern string, handler events.Handler, options ...events.SubscribeOption) (*events.Subscription, error) {
	return s.client.Subscribe(pattern, handler, options...)
}

// Emit tells an event to whoever subscribed to its name. See
// [events.Client.Emit].
func (s *Session) Emit(ctx context.Context, name string, data any, options ...events.EmitOption) (events.Receipt, error) {
	return s.client.Emit(ctx, name, data, options...)
}

// Broadcast tells an event to an audience, but not to the plugin itself. See
// [events.Client.Broadcast].
func (s *Session) Broadcast(ctx context.Context, name string, data any, to events.Audience, options ...events.EmitOption) (events.Receipt, error) {
	return s.client.Broadcast(ctx, name, data, to, options...)
}

// Replay returns events of the history that match the pattern and that the
// plugin may have. See [events.Client.Replay].
func (s *Session) Replay(ctx context.Context, pattern string, from events.From) iter.Seq2[events.Event, error] {
	return s.client.Replay(ctx, pattern, from)
}

// tasks run on the plugin's worker, beside its handlers: Start, Stop and
// health checks.
type tasks struct {
	actor  *actor.Actor
	source int
	fail   func(what string, err error)

	mu     sync.Mutex // guards below
	queue  []*task
	closed bool
}

type task struct {
	name  string
	run   func() error
	done  chan error // gets one result
	begun bool       // under tasks.mu
}

func newTasks(a *actor.Actor, fail func(what string, err error)) *tasks {
	t := &tasks{actor: a, fail: fail}
	t.source = a.Attach(t)
	return t
}

// Work implements actor.Source.
func (t *tasks) Work() (more bool) {
	t.mu.Lock()
	if len(t.queue) == 0 {
		t.mu.Unlock()
		return false
	}
	next := t.queue[0]
	t.queue = t.queue[1:]
	more = len(t.queue) > 0
	next.begun = true
	t.mu.Unlock()
	orderly := false
	defer func() {
		if !orderly {
			err := failure(next.name, recover())
			t.fail(next.name, err)
			next.done <- err
		}
	}()
	err := next.run()
	orderly = true
	next.done <- err
	return more
}

// close lets no more tasks begin.
func (t *tasks) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, next := range t.queue {
		next.done <- ErrClosed
	}
	t.queue = nil
}

// do runs f on the worker, and waits until it has returned or ctx is done. If f
// could not begin by then it will not, and the error matches ErrBusy. If it has
// begun and not returned, hung gets its result.
func (t *tasks) do(ctx context.Context, name string, f func() error) (hung <-chan error, err error) {
	next := &task{name: name, run: f, done: make(chan error, 1)}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	t.queue = append(t.queue, next)
	t.mu.Unlock()
	if t.actor.Signal(t.source) {
		t.actor.Wake()
	}
	select {
	case err := <-next.done:
		return nil, err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !next.begun {
		t.queue = slices.DeleteFunc(t.queue, func(other *task) bool { return other == next })
		return nil, fmt.Errorf("%w, so %s could not begin: %w", ErrBusy, name, ctx.Err())
	}
	select {
	case err := <-next.done:
		return nil, err
	default:
		return next.done, fmt.Errorf("%s has not returned: %w", name, ctx.Err())
	}
}
