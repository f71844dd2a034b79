package router_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestStreamEndsEarly ends the reader's loop in each way in which a loop can end.
func TestStreamEndsEarly(t *testing.T) {
	for _, how := range []string{"break", "panic", "goexit", "cancel", "close"} {
		for _, waits := range []bool{false, true} { // The handler waits for its context, or in yield.
			t.Run(fmt.Sprint(how, " ", waits), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(t, router.Options{})
					a, b := join(t, r, "a"), join(t, r, "b")
					var why error
					handleStream(t, b, "many", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
						for i := 0; yield(i); i++ {
							if waits && i == 0 {
								<-ctx.Done()
							}
						}
						why = ctx.Err()
						require.False(t, yield("more"))
						return ctx.Err()
					})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var last error
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { _ = recover() }()
						for _, err := range a.Stream(ctx, "b", "many", nil) { //nolint:contextcheck // Some readers cancel theirs.
							if last = err; err != nil {
								continue
							}
							synctest.Wait()
							switch how {
							case "break":
								return
							case "panic":
								panic("the reader's own")
							case "goexit":
								runtime.Goexit()
							case "cancel":
								cancel()
								synctest.Wait()
								require.ErrorIs(t, why, context.Canceled, "at once, not when the reader has done with the chunk")
							case "close":
								require.NoError(t, a.Close(t.Context()))
							}
						}
					}()
					<-done
					require.NoError(t, r.Idle(t.Context()))
					require.ErrorIs(t, why, context.Canceled)
					switch how {
					case "cancel":
						require.ErrorIs(t, undelivered(t, last), context.Canceled)
					case "close":
						require.ErrorIs(t, undelivered(t, last), router.ErrClosed)
					default:
						require.NoError(t, last)
					}
					require.Equal(t, plugbus.Ledger{Offered: 1, Accepted: 1, Failed: 1}, r.Ledger(), "the handler's result is the outcome")
				})
			})
		}
	}
}

// TestStreamDeadline ends streams by their time: that of the context and that of
// the option, while the reader waits and while it is busy.
func TestStreamDeadline(t *testing.T) {
	for _, option := range []bool{false, true} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprint(option, " ", busy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(t, router.Options{})
					a, b := join(t, r, "a"), join(t, r, "b")
					start := time.Now()
					var ended time.Duration
					handleStream(t, b, "one", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
						deadline, ok := ctx.Deadline()
						require.True(t, ok)
						require.Equal(t, start.Add(10*time.Second), deadline)
						yield(1)
						<-ctx.Done()
						require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
						ended = time.Since(start)
						return nil
					})
					ctx, options := t.Context(), []router.SendOption{router.Timeout(10 * time.Second)}
					if !option {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
						defer cancel()
						options = nil
					}
					var last error
					for _, err := range a.Stream(ctx, "b", "one", nil, options...) {
						if last = err; err == nil && busy {
							pass(time.Minute)
						}
					}
					synctest.Wait()
					e := undelivered(t, last)
					require.ErrorIs(t, e, context.DeadlineExceeded)
					require.Equal(t, plugbus.Abandoned, e.Outcome)
					require.Equal(t, 10*time.Second, ended)
					require.EqualValues(t, 1, r.Ledger().Abandoned)
				})
			})
		}
	}
}

// TestStreamExpires ends a stream whose handler never started.
func TestStreamExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		handleStream(t, b, "count", count)
		post(t, a, "b", "wait", nil)
		_, err := drain(t, a.Stream(t.Context(), "b", "count", 1))
		e := undelivered(t, err)
		require.ErrorIs(t, e, router.ErrIdle)
		require.False(t, e.Started)
		require.Equal(t, plugbus.Expired, e.Outcome)
		require.EqualValues(t, 1, r.Ledger().Expired)
		g.open()
		require.NoError(t, r.Idle(t.Context()))
	})
}

// TestStreamErrors looks at the last element when the handler fails, and when a
// chunk cannot be sent.
func TestStreamErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		last func(yield func(any) bool) error
		code plugbus.Code
		says string
	}{
		{"error", func(func(any) bool) error { return errors.New("sorry") }, plugbus.CodeUnknown, "sorry"},
		{"panic", func(func(any) bool) error { panic("no") }, plugbus.CodeInternal, "the handler panicked"},
		{"goexit", func(func(any) bool) error { runtime.Goexit(); return nil }, plugbus.CodeInternal, "the handler ended its goroutine"},
		{"channel", func(yield func(any) bool) error { require.False(t, yield(make(chan int))); return nil }, plugbus.CodeInternal, "the reply was refused"},
		{"NaN", func(yield func(any) bool) error { yield(math.NaN()); yield(2); return errors.New("mine") }, plugbus.CodeInternal, "the reply was refused"},
		{"large", func(yield func(any) bool) error { yield(make([]byte, 101)); return nil }, plugbus.CodeExhausted, "the reply was refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			law.payload.MaxBytes = 100
			a, b := join(t, r, "a"), join(t, r, "b", law.guard("b"))
			ended := make(chan error, 1)
			handleStream(t, b, "bad", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
				defer func() { ended <- ctx.Err() }()
				require.True(t, yield(0))
				require.True(t, yield(1))
				return test.last(yield)
			})
			chunks, err := drain(t, a.Stream(t.Context(), "b", "bad", nil))
			require.Equal(t, []any{0, 1}, chunks, "what came before is not lost")
			e := remote(t, err)
			require.Equal(t, test.code, e.Code)
			require.Equal(t, test.says, e.Message)
			if why := <-ended; test.says == "the reply was refused" {
				require.ErrorIs(t, why, context.Canceled)
				require.Len(t, law.refusals(), 1)
				require.Equal(t, "a", law.refusals()[0].Object)
			}
			require.NoError(t, r.Idle(t.Context()))
			require.EqualValues(t, 1, r.Ledger().Failed)
		})
	}
}
