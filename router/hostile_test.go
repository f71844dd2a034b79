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

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestErrorsLikeOurs shows that a handler which returns an error of ours, or a nil
// pointer of its type, has failed like any other: it neither escapes the blame nor
// harms anybody by it.
func TestErrorsLikeOurs(t *testing.T) {
	for _, bad := range []error{(*router.PanicError)(nil), &router.PanicError{}, router.ErrIdle, router.ErrGoexit, router.ErrTimedOut} {
		synctest.Test(t, func(t *testing.T) {
			var failures []router.Failure
			var served []router.Served
			r := newRouter(t, router.Options{
				OnFailure: func(f router.Failure) { failures = append(failures, f) },
				OnServed:  func(s router.Served) { served = append(served, s) },
			})
			a, b := join(t, r, "a"), join(t, r, "b")
			handle(t, b, "job", func(context.Context, router.Message) (any, error) { return nil, bad }, router.Measured())
			_, err := b.HandleStream("stream", func(context.Context, router.Message, func(any) bool) error { return bad }, router.Measured())
			require.NoError(t, err)

			_, err = a.Send(t.Context(), "b", "job", 1)
			require.Equal(t, "b", remote(t, err).Plugin)
			for _, err := range a.Stream(t.Context(), "b", "stream", 1) {
				require.Equal(t, "b", remote(t, err).Plugin)
			}
			post(t, a, "b", "job", 1)
			synctest.Wait()
			require.Len(t, r.DeadLetters(), 1)
			require.Len(t, failures, 3)
			for _, f := range failures {
				require.False(t, f.Blameless, "%T %v", bad, f.Kind)
			}
			require.Len(t, served, 2)
			for _, s := range served {
				require.False(t, s.OK)
			}
		})
	}
}

// A trapdoor ends the goroutine that makes it text.
type trapdoor struct{}

func (trapdoor) Error() string {
	runtime.Goexit()
	return ""
}

// TestPanicThatEndsTheGoroutine shows that a delivery has its outcome even if the
// handler panics with a value that ends the goroutine which asks for its text.
func TestPanicThatEndsTheGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		bang := func(context.Context, router.Message) (any, error) { panic(trapdoor{}) }
		handle(t, b, "job", bang)
		handle(t, b, "beside", bang, router.Concurrent(1))
		for _, typ := range []string{"job", "beside", "job"} {
			_, err := a.Send(t.Context(), "b", typ, 1)
			require.Equal(t, plugbus.CodeInternal, remote(t, err).Code)
		}
	})
}

// A quiet context hides its deadline, and ends with it all the same.
type quiet struct{ context.Context } //nolint:containedctx // It is a context.

func (quiet) Deadline() (time.Time, bool) { return time.Time{}, false }

// TestDeadlineThatIsHidden shows that whoever hides the deadline that it chose
// cannot blame the handler for it.
func TestDeadlineThatIsHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []router.Failure
		var served []router.Served
		r := newRouter(t, router.Options{
			OnFailure: func(f router.Failure) { failures = append(failures, f) },
			OnServed:  func(s router.Served) { served = append(served, s) },
		})
		a, b := join(t, r, "a"), join(t, r, "b")
		slow := func() { <-time.After(time.Second) }
		handle(t, b, "job", func(context.Context, router.Message) (any, error) { slow(); return nil, nil }, router.Measured())
		_, err := b.HandleStream("stream", func(context.Context, router.Message, func(any) bool) error { slow(); return nil }, router.Measured())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		_, err = a.Send(quiet{ctx}, "b", "job", 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		pass(time.Minute)
		ctx, cancel = context.WithTimeout(t.Context(), 1)
		defer cancel()
		for _, err := range a.Stream(quiet{ctx}, "b", "stream", 1) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		pass(time.Minute)
		require.Len(t, failures, 2)
		for _, f := range failures {
			require.Equal(t, plugbus.Abandoned, f.Outcome)
			require.True(t, f.Blameless, "%v", f.Kind)
		}
		require.Empty(t, served)
	})
}

// TestCallerThatLeaves shows that a handler which fails after its caller has left
// is not measured by that.
func TestCallerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served []router.Served
		r := newRouter(t, router.Options{OnServed: func(s router.Served) { served = append(served, s) }})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "job", func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			return nil, errors.New("interrupted")
		}, router.Measured())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := a.Send(ctx, "b", "job", 1)
		require.ErrorIs(t, err, context.Canceled)
		pass(time.Minute)
		require.Empty(t, served)
	})
}

// TestReaderThatIsSlow shows that the time which a reader takes is not counted as
// that of the stream's handler.
func TestReaderThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served []router.Served
		r := newRouter(t, router.Options{OnServed: func(s router.Served) { served = append(served, s) }})
		a, b := join(t, r, "a"), join(t, r, "b")
		_, err := b.HandleStream("stream", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			<-time.After(time.Second)
			for i := range 100 {
				if !yield(i) {
					return nil
				}
			}
			return nil
		}, router.Measured())
		require.NoError(t, err)
		for _, err := range a.Stream(t.Context(), "b", "stream", 1) {
			require.NoError(t, err)
			<-time.After(20 * time.Second)
		}
		synctest.Wait()
		require.Len(t, served, 1)
		require.True(t, served[0].OK)
		require.Equal(t, time.Second, served[0].Took)
	})
}

// TestStreamAfterTheRightIsGone shows that the rights which a stream needs are
// asked for again for each chunk.
func TestStreamAfterTheRightIsGone(t *testing.T) {
	for _, verb := range []plugbus.Verb{plugbus.VerbSend, plugbus.VerbReceive} {
		synctest.Test(t, func(t *testing.T) {
			var failures []router.Failure
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
			give, take := newRules(), newRules()
			a, b := join(t, r, "a", give.guard("a")), join(t, r, "b", take.guard("b"))
			_, err := b.HandleStream("stream", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
				for yield(1) {
					<-time.After(time.Second)
				}
				require.ErrorIs(t, ctx.Err(), context.Canceled)
				return nil
			})
			require.NoError(t, err)
			chunks := 0
			for _, err := range a.Stream(t.Context(), "b", "stream", 1) {
				if chunks++; chunks == 3 {
					give.deny(verb, "b")
					take.deny(verb, "a")
				}
				if chunks <= 3 {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, plugbus.ErrDenied)
				require.Equal(t, plugbus.Undeliverable, undelivered(t, err).Outcome)
				require.True(t, undelivered(t, err).Started)
			}
			require.Equal(t, 4, chunks)
			synctest.Wait()
			require.Len(t, failures, 1)
			require.True(t, failures[0].Blameless)
		})
	}
}

// TestHandlerWithoutTime shows that a handler is not blamed if its message waited
// so long that it had little of the time that there is by default.
func TestHandlerWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []router.Failure
		r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "job", func(context.Context, router.Message) (any, error) {
			<-time.After(4 * time.Second)
			return nil, nil
		})
		for range 100 { // More than the plugin can do.
			go func() { _, _ = a.Send(context.Background(), "b", "job", 1) }()
			pass(3 * time.Second)
		}
		pass(time.Hour)
		require.NotEmpty(t, failures)
		for _, f := range failures {
			require.Equal(t, plugbus.Abandoned, f.Outcome)
			require.True(t, f.Blameless)
		}
	})
}

// TestWhoTookTheTime shows that of the handlers of which each waits for the next, the
// one is blamed that took the time, and not those that waited for it; nor the one to
// which no time was left.
func TestWhoTookTheTime(t *testing.T) {
	for _, test := range []struct {
		before time.Duration // the second handler sends
		blamed []string
	}{
		{0, []string{"c"}},
		{29 * time.Second, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var blamed []string
			var failures []router.Failure
			var mu sync.Mutex
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, f)
				if !f.Blameless {
					blamed = append(blamed, f.Plugin)
				}
			}})
			a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
			handle(t, b, "job", func(ctx context.Context, _ router.Message) (any, error) {
				<-time.After(test.before)
				_, err := b.Send(ctx, "c", "job", 1)
				<-time.After(time.Second) // It is late.
				return nil, err
			})
			handle(t, c, "job", func(context.Context, router.Message) (any, error) {
				<-time.After(time.Hour)
				return nil, nil
			})
			_, err := a.Send(t.Context(), "b", "job", 1)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			pass(2 * time.Hour)
			require.Len(t, failures, 2)
			require.Equal(t, test.blamed, blamed)
		})
	}
}
