package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/plugbus/plugbus/internal/actor"
)

// tasks run on the plugin's worker, beside its handlers: Start, Stop and
// health checks.
type tasks struct {
	actor  *actor.Actor
	source int

	mu      sync.Mutex // guards below
	queue   []*task
	running string // the name of the one that runs, or ""
	held    bool   // none begins
	closed  bool
}

type task struct {
	name  string
	run   func() error
	fail  func(what string, err error) // hears if run does not return by itself
	done  chan error                   // gets one result
	begun bool                         // under tasks.mu
}

func newTasks(a *actor.Actor) *tasks {
	t := &tasks{actor: a}
	t.source = a.Attach(t)
	return t
}

// Work implements actor.Source.
func (t *tasks) Work() (more bool) {
	t.mu.Lock()
	if len(t.queue) == 0 || t.held {
		t.mu.Unlock()
		return false
	}
	next := t.queue[0]
	t.queue = t.queue[1:]
	more = len(t.queue) > 0
	next.begun = true
	t.running = next.name
	t.mu.Unlock()
	orderly := false
	defer func() {
		if !orderly {
			err := failure(next.name, recover())
			next.fail(next.name, err)
			t.ended(next, err)
		}
	}()
	err := next.run()
	orderly = true
	t.ended(next, err)
	return more
}

// ended notes that a task has returned, before anybody who waits for it hears so.
func (t *tasks) ended(is *task, err error) {
	t.mu.Lock()
	t.running = ""
	t.mu.Unlock()
	is.done <- err
}

// runs returns the name of the task that runs, or "".
func (t *tasks) runs() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// hold lets no task begin until settle.
func (t *tasks) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = true
}

// settle ends hold.
func (t *tasks) settle() {
	t.mu.Lock()
	t.held = false
	t.mu.Unlock()
	if t.actor.Signal(t.source) {
		t.actor.Wake()
	}
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
// begun and not returned, hung gets its result. If it does not return by itself, fail
// hears of that first, on the worker.
func (t *tasks) do(ctx context.Context, name string, fail func(what string, err error), f func() error) (hung <-chan error, err error) {
	next := &task{name: name, run: f, fail: fail, done: make(chan error, 1)}
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
