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
