package router_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/router"
)

// inHandler runs f in a handler that somebody waits for, on the worker, beside it
// and on the sender's stack. End ends the context of the handler by the sender's.
func inHandler(t *testing.T, f func(t *testing.T, ctx context.Context, end context.CancelFunc)) {
	t.Helper()
	for _, where := range []string{"worker", "beside", "inline"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			rules := newRules()
			rules.inline["to"] = where == "inline"
			from, to := join(t, r, "from", rules.guard("from")), join(t, r, "to")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var options []router.HandleOption
			if where == "beside" {
				options = append(options, router.Concurrent(1))
			}
			handle(t, to, "f", func(ctx context.Context, _ router.Message) (any, error) {
				f(t, ctx, cancel)
				return nil, nil
			}, options...)
			_, err := from.Send(ctx, "to", "f", nil)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := r.Idle(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHandlersContext shows the contract of package context.
func TestHandlersContext(t *testing.T) {
	inHandler(t, func(t *testing.T, ctx context.Context, end context.CancelFunc) {
		if deadline, limited := ctx.Deadline(); !limited || time.Until(deadline) != 30*time.Second {
			t.Error(deadline)
		}
		if done := ctx.Done(); ctx.Err() != nil || ctx.Done() != done || ctx.Value("key") != nil {
			t.Error("an error, two channels, or a value")
		}
		select {
		case <-ctx.Done():
			t.Error("done")
		default:
		}
		end()
		done := ctx.Done()
		<-done
		if ctx.Err() != context.Canceled || context.Cause(ctx) != context.Canceled { //nolint:errorlint // The contract of contexts.
			t.Error(ctx.Err())
		}
		if ctx.Done() != done {
			t.Error("two channels")
		}
	})
}

// TestHandlersContextAfter shows the contexts and functions that depend on a
// handler's context.
func TestHandlersContextAfter(t *testing.T) {
	inHandler(t, func(t *testing.T, ctx context.Context, end context.CancelFunc) {
		var mu sync.Mutex
		var ran []string
		note := func(what string) func() {
			return func() {
				mu.Lock()
				defer mu.Unlock()
				ran = append(ran, what)
			}
		}
		context.AfterFunc(ctx, note("one"))
		stop := context.AfterFunc(ctx, note("two"))
		if !stop() || stop() {
			t.Error("stop says whether it stopped")
		}
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		short, cancelShort := context.WithTimeout(ctx, time.Second)
		defer cancelShort()
		left, leave := context.WithCancel(ctx)
		leave() // It is let go of.
		<-short.Done()
		if short.Err() != context.DeadlineExceeded || child.Err() != nil || left.Err() != context.Canceled {
			t.Error(short.Err(), child.Err(), left.Err())
		}
		end()
		<-child.Done()
		synctest.Wait()
		late := context.AfterFunc(ctx, note("three"))
		born, cancelBorn := context.WithCancel(ctx)
		defer cancelBorn()
		synctest.Wait()
		if late() || born.Err() != context.Canceled {
			t.Error("late")
		}
		mu.Lock()
		defer mu.Unlock()
		if len(ran) != 2 || ran[0] != "one" || ran[1] != "three" {
			t.Error(ran)
		}
	})
}

// TestHandlersContextStop shows the method by which the context package makes
// contexts depend on a handler's: what was stopped is let go of, and never runs.
func TestHandlersContextStop(t *testing.T) {
	inHandler(t, func(t *testing.T, ctx context.Context, end context.CancelFunc) {
		after, ok := ctx.(interface {
			AfterFunc(f func()) (stop func() bool)
		})
		if !ok {
			t.Error("it has no AfterFunc")
			return
		}
		stop := after.AfterFunc(func() { t.Error("it was stopped") })
		ran := make(chan struct{})
		late := after.AfterFunc(func() { close(ran) })
		if !stop() || stop() {
			t.Error("stop says whether it stopped")
		}
		end()
		<-ran
		if late() {
			t.Error("it ran already")
		}
	})
}

// TestHandlersContextEndsWithTheCall shows that what depends on a handler's
// context does not outlive the call.
func TestHandlersContextEndsWithTheCall(t *testing.T) {
	for _, asks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			from, to := join(t, r, "from"), join(t, r, "to")
			var kept, child context.Context
			handle(t, to, "keep", func(ctx context.Context, _ router.Message) (any, error) {
				kept = ctx //nolint:fatcontext // There is one call.
				if asks {
					var cancel context.CancelFunc
					child, cancel = context.WithTimeout(ctx, time.Hour)
					t.Cleanup(cancel) // Later than needed: it ends with ctx.
				}
				return nil, nil
			})
			_, err := from.Send(t.Context(), "to", "keep", nil)
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, context.Canceled, kept.Err())
			<-kept.Done()
			if asks {
				require.Equal(t, context.Canceled, child.Err())
			}
		})
	}
}

// TestHandlersContextTakesNoGoroutine shows that contexts derived from a
// handler's take none.
func TestHandlersContextTakesNoGoroutine(t *testing.T) {
	r := newRouter(t, router.Options{})
	from, to := join(t, r, "from"), join(t, r, "to")
	var before, after int
	handle(t, to, "derive", func(ctx context.Context, _ router.Message) (any, error) {
		before = runtime.NumGoroutine()
		for range 100 {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			grandchild, cancel := context.WithTimeout(child, time.Hour)
			defer cancel()
			defer context.AfterFunc(grandchild, func() {})()
		}
		after = runtime.NumGoroutine()
		return nil, nil
	})
	_, err := from.Send(t.Context(), "to", "derive", nil)
	require.NoError(t, err)
	require.Less(t, after, before+50)
}

// TestHandlersContextFromManyGoroutines has many use a handler's context while it
// ends. The race detector looks.
func TestHandlersContextFromManyGoroutines(t *testing.T) {
	r := newRouter(t, router.Options{})
	rules := newRules()
	rules.inline["to"] = true
	for _, from := range []*router.Client{join(t, r, "from"), join(t, r, "inliner", rules.guard("inliner"))} {
		to := join(t, r, "to")
		handle(t, to, "f", func(ctx context.Context, _ router.Message) (any, error) {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					switch i % 4 {
					case 0:
						<-ctx.Done()
					case 1:
						for ctx.Err() == nil {
							runtime.Gosched()
						}
						<-ctx.Done()
					case 2:
						child, cancel := context.WithCancel(ctx)
						defer cancel()
						<-child.Done()
					case 3:
						ended := make(chan struct{})
						context.AfterFunc(ctx, func() { close(ended) })
						<-ended
					}
					if ctx.Err() != context.Canceled {
						t.Error(ctx.Err())
					}
				})
			}
			all.Wait()
			return nil, nil
		})
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			_, _ = from.Send(ctx, "to", "f", nil)
			cancel()
		}
		require.NoError(t, to.Close(t.Context()))
	}
}
