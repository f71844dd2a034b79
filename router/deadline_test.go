package router_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR9Deadline shows how long a request waits, that its handler learns the same
// deadline, and what becomes of a handler that does not keep it: it is abandoned
// and named, keeps its worker, and its late reply is thrown away and counted.
func TestR9Deadline(t *testing.T) {
	for _, test := range []struct {
		context, timeout time.Duration // of the caller; 0 for none
		want             time.Duration
	}{
		{0, 0, 30 * time.Second},
		{time.Second, 0, time.Second},
		{time.Hour, 0, time.Hour},
		{0, time.Minute, time.Minute},
		{time.Second, time.Minute, time.Second},
		{time.Minute, time.Second, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var failures []router.Failure
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
			g := closedGate(t)
			from, to := join(t, r, "from"), join(t, r, "to")
			start := time.Now()
			var atEnd error
			handle(t, to, "hang", func(ctx context.Context, _ router.Message) (any, error) {
				deadline, limited := ctx.Deadline()
				if !limited || deadline.Sub(start) != test.want {
					t.Errorf("deadline %v, want %v", deadline.Sub(start), test.want)
				}
				<-ctx.Done()
				if time.Since(start) != test.want {
					t.Errorf("ended after %v, want %v", time.Since(start), test.want)
				}
				atEnd = ctx.Err()
				g.pass()
				return "late", nil
			})
			handle(t, to, "note", echo)
			ctx := t.Context()
			if test.context > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.context)
				defer cancel()
			}
			var options []router.SendOption
			if test.timeout > 0 {
				options = append(options, router.Timeout(test.timeout))
			}
			reply, err := from.Send(ctx, "to", "hang", nil, options...)
			require.Equal(t, test.want, time.Since(start))
			require.Zero(t, reply)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			lost := undelivered(t, err)
			require.Equal(t, plugbus.Abandoned, lost.Outcome)
			require.True(t, lost.Started)
			require.Equal(t, test.want, lost.After)
			require.Equal(t, []string{"from", "to", "hang"}, []string{lost.From, lost.To, lost.Type})
			synctest.Wait()
			require.Equal(t, context.DeadlineExceeded, atEnd)

			leaks := r.Leaks()
			require.Len(t, leaks, 1)
			require.Equal(t, []string{"to", "hang"}, []string{leaks[0].Plugin, leaks[0].Type})
			require.Contains(t, leaks[0].Site, "router_test/world_test.go:")
			require.Len(t, failures, 1)
			require.Equal(t, plugbus.Abandoned, failures[0].Outcome)
			require.Equal(t, context.DeadlineExceeded, failures[0].Err)
			require.Equal(t, test.context+test.timeout > 0, failures[0].Blameless, "who chose the deadline is to blame")
			l := r.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 1, l.Abandoned)
			require.Zero(t, l.Running)

			post(t, from, "to", "note", nil) // The worker is taken until the handler returns.
			synctest.Wait()
			require.Equal(t, 1, mailboxOf(t, r, "to").Waiting)
			require.Zero(t, r.Stats().Late)
			g.open()
			synctest.Wait()
			require.Zero(t, mailboxOf(t, r, "to").Waiting)
			require.EqualValues(t, 1, r.Stats().Late)
			require.Empty(t, r.Leaks())
			require.Equal(t, plugbus.Ledger{Offered: 2, Accepted: 2, Handled: 1, Abandoned: 1}, r.Ledger())
			require.Len(t, failures, 1)
		})
	}
}

// TestR9WaitingRequestExpires shows that a request whose handler has not started
// leaves the mailbox with its sender.
func TestR9WaitingRequestExpires(t *testing.T) {
	for _, test := range []struct {
		name    string
		leave   func(cancel context.CancelFunc, from *router.Client)
		outcome plugbus.Outcome
		want    error
	}{
		{"deadline", func(context.CancelFunc, *router.Client) {}, plugbus.Expired, context.DeadlineExceeded},
		{"cancel", func(cancel context.CancelFunc, _ *router.Client) { cancel() }, plugbus.Cancelled, context.Canceled},
		{"close", func(_ context.CancelFunc, from *router.Client) { _ = from.Close(context.Background()) }, plugbus.Cancelled, router.ErrClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			d := &diary{}
			g := stuck(t, r, "to", d)
			from := join(t, r, "from")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := from.Send(ctx, "to", "note", "x", router.Timeout(time.Minute))
				done <- err
			}()
			synctest.Wait()
			require.Equal(t, 1, mailboxOf(t, r, "to").Waiting)
			test.leave(cancel, from)
			err := <-done
			require.ErrorIs(t, err, test.want)
			require.False(t, undelivered(t, err).Started)
			require.Equal(t, test.outcome, undelivered(t, err).Outcome)
			box := mailboxOf(t, r, "to")
			require.Zero(t, box.Waiting)
			require.Zero(t, box.Bytes)
			g.open()
			synctest.Wait()
			require.Len(t, d.read(), 1)
			l := r.Ledger()
			require.EqualValues(t, 1, l.Expired+l.Cancelled)
		})
	}
}

// TestCallerGoesAway shows that the result of a handler that runs is the outcome,
// whatever becomes of the caller, and that the handler hears of it (R9).
func TestCallerGoesAway(t *testing.T) {
	for _, test := range []struct {
		name   string
		obeys  bool // the handler, its context
		leaves bool // the caller's plugin, instead of giving up
		want   plugbus.Ledger
	}{
		{"returns its error", true, false, plugbus.Ledger{Offered: 1, Accepted: 1, Failed: 1}},
		{"goes on", false, false, plugbus.Ledger{Offered: 1, Accepted: 1, Handled: 1}},
		{"the plugin leaves", true, true, plugbus.Ledger{Offered: 1, Accepted: 1, Failed: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			from, to := join(t, r, "from"), join(t, r, "to")
			g := closedGate(t)
			var seen error
			handle(t, to, "work", func(ctx context.Context, _ router.Message) (any, error) {
				if test.obeys {
					<-ctx.Done()
					seen = ctx.Err()
					return nil, ctx.Err()
				}
				g.pass()
				return "done", nil
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := from.Send(ctx, "to", "work", nil)
				done <- err
			}()
			synctest.Wait()
			if test.leaves {
				require.NoError(t, from.Close(t.Context()))
				require.ErrorIs(t, <-done, router.ErrClosed)
			} else {
				cancel()
				err := <-done
				require.ErrorIs(t, err, context.Canceled)
				require.Zero(t, undelivered(t, err).Outcome, "that is not known yet")
				require.True(t, undelivered(t, err).Started)
			}
			cancel()
			synctest.Wait()
			if test.obeys {
				require.Equal(t, context.Canceled, seen, "a context ends with an error of package context")
			}
			require.NoError(t, r.Ledger().Check())
			require.Empty(t, r.Leaks())
			g.open()
			synctest.Wait()
			require.Equal(t, test.want, r.Ledger())
			require.EqualValues(t, 1, r.Stats().Late)
		})
	}
}

// TestDeadContext shows that nothing is sent with a context that has ended.
func TestDeadContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from := join(t, r, "from")
		handle(t, join(t, r, "to"), "note", echo)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := from.Send(ctx, "to", "note", nil)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, from.Post(ctx, "to", "note", nil), context.Canceled)
		require.Zero(t, r.Ledger())
	})
}

// TestHandlerTimeout bounds one call of a handler, whoever waits for it (R9).
func TestHandlerTimeout(t *testing.T) {
	for _, test := range []struct {
		post       bool
		concurrent bool
		sender     time.Duration // 0 for none
		want       time.Duration
		err        error
	}{
		{true, false, 0, time.Second, router.ErrTimedOut},
		{true, true, 0, time.Second, router.ErrTimedOut},
		{false, false, 0, time.Second, router.ErrTimedOut},
		{false, true, 0, time.Second, router.ErrTimedOut},
		{false, false, time.Minute, time.Second, router.ErrTimedOut},
		{false, false, time.Millisecond, time.Millisecond, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var failures []router.Failure
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, f)
			}})
			from, to := join(t, r, "from"), join(t, r, "to")
			g := closedGate(t)
			start := time.Now()
			options := []router.HandleOption{router.Timeout(time.Second)}
			if test.concurrent {
				options = append(options, router.Concurrent(2))
			}
			handle(t, to, "hang", func(ctx context.Context, _ router.Message) (any, error) {
				deadline, _ := ctx.Deadline()
				if deadline.Sub(start) != test.want {
					t.Errorf("deadline %v", deadline.Sub(start))
				}
				<-ctx.Done()
				if ctx.Err() != context.DeadlineExceeded {
					t.Error(ctx.Err())
				}
				g.pass()
				return nil, nil
			}, options...)
			if test.post {
				post(t, from, "to", "hang", nil)
				pass(test.want)
			} else {
				var sendOptions []router.SendOption
				if test.sender > 0 {
					sendOptions = append(sendOptions, router.Timeout(test.sender))
				}
				_, err := from.Send(t.Context(), "to", "hang", nil, sendOptions...)
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.want, time.Since(start))
				require.Equal(t, plugbus.Abandoned, undelivered(t, err).Outcome)
			}
			synctest.Wait() // The host hears after the sender.
			require.Len(t, r.Leaks(), 1)
			mu.Lock()
			heard := slices.Clone(failures)
			mu.Unlock()
			require.Len(t, heard, 1)
			require.Equal(t, test.err, heard[0].Err)
			require.EqualValues(t, 1, r.Ledger().Abandoned)
			require.Len(t, r.DeadLetters(), map[bool]int{true: 1, false: 0}[test.post])
			pass(time.Hour) // There is one outcome.
			require.EqualValues(t, 1, r.Ledger().Abandoned)
			g.open()
			synctest.Wait()
			require.Equal(t, plugbus.Ledger{Offered: 1, Accepted: 1, Abandoned: 1}, r.Ledger())
		})
	}
}

// TestHandlerTimeoutEndsWithTheCall shows that a handler which returns in time is
// not abandoned later, and that its limit keeps nothing of it.
func TestHandlerTimeoutEndsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, to := join(t, r, "from"), join(t, r, "to")
		handle(t, to, "note", echo, router.Timeout(time.Second))
		handle(t, to, "exit", func(context.Context, router.Message) (any, error) { runtime.Goexit(); return nil, nil }, router.Timeout(time.Second))
		for range 3 {
			_, err := from.Send(t.Context(), "to", "note", nil)
			require.NoError(t, err)
			_, err = from.Send(t.Context(), "to", "exit", nil)
			require.Error(t, err)
			post(t, from, "to", "note", nil)
		}
		pass(time.Minute)
		require.Equal(t, plugbus.Ledger{Offered: 9, Accepted: 9, Handled: 6, Failed: 3}, r.Ledger())
	})
}

// TestMaxAge lets messages expire whose handler has not started in time.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		d := &diary{}
		g := stuck(t, r, "to", d)
		from := []*router.Client{join(t, r, "a"), join(t, r, "b"), join(t, r, "c")}
		post(t, from[0], "to", "note", "short", router.MaxAge(time.Second))
		post(t, from[1], "to", "note", "long", router.MaxAge(time.Minute))
		post(t, from[1], "to", "note", "for ever", router.MaxAge(1<<63-1))
		done := make(chan error, 1)
		go func() {
			_, err := from[2].Send(t.Context(), "to", "note", "asked", router.MaxAge(time.Second))
			done <- err
		}()
		pass(time.Second)
		g.open()
		err := <-done
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, plugbus.Expired, undelivered(t, err).Outcome)
		require.False(t, undelivered(t, err).Started)
		synctest.Wait()
		require.Equal(t, []any{"stuck", "long", "for ever"}, d.data())
		require.EqualValues(t, 2, r.Ledger().Expired)
		require.Len(t, r.DeadLetters(), 1)
		require.Equal(t, plugbus.Expired, r.DeadLetters()[0].Outcome)
	})
}

// TestMeasured shows which requests the host hears of, and whether they speak for
// the handler.
func TestMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var served []router.Served
		r := newRouter(t, router.Options{RequestTimeout: time.Minute, OnServed: func(s router.Served) {
			mu.Lock()
			defer mu.Unlock()
			served = append(served, s)
		}})
		from, to := join(t, r, "from"), join(t, r, "to")
		hang := func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
		fails := func(err error) router.Handler {
			return func(context.Context, router.Message) (any, error) { return nil, err }
		}
		for name, h := range map[string]router.Handler{
			"ok": func(context.Context, router.Message) (any, error) { <-time.After(time.Second); return nil, nil }, "hang": hang,
			"panic": func(context.Context, router.Message) (any, error) { panic("oops") }, "bad": func(context.Context, router.Message) (any, error) { return make(chan int), nil },
			"invalid": fails(plugbus.ErrInvalid), "broken": fails(context.DeadlineExceeded), "none": fails(&plugbus.RemoteError{Code: plugbus.CodeNotFound}),
		} {
			handle(t, to, name, h, router.Measured())
		}
		handle(t, to, "own", hang, router.Measured(), router.Timeout(time.Second))
		handle(t, to, "plain", echo)
		for _, test := range []struct {
			typ    string
			chosen time.Duration
			want   []router.Served
		}{
			{"ok", 0, []router.Served{{OK: true, Took: time.Second}}},
			{"ok", time.Millisecond, nil}, // The sender chose too short a time.
			{"hang", 0, []router.Served{{Took: time.Minute}}},
			{"own", 0, []router.Served{{Took: time.Second}}},
			{"own", time.Minute, []router.Served{{Took: time.Second}}},
			{"panic", 0, []router.Served{{}}},
			{"bad", 0, []router.Served{{}}},
			{"broken", 0, []router.Served{{}}},
			{"invalid", 0, nil},
			{"none", 0, nil},
			{"plain", 0, nil},
		} {
			var options []router.SendOption
			if test.chosen > 0 {
				options = append(options, router.Timeout(test.chosen))
			}
			_, _ = from.Send(t.Context(), "to", test.typ, nil, options...)
			require.NoError(t, r.Idle(t.Context()))
			pass(time.Second)
			for i := range test.want {
				test.want[i].Plugin, test.want[i].From, test.want[i].Type = "to", "from", test.typ
			}
			mu.Lock()
			require.Equal(t, test.want, served, test.typ)
			served = nil
			mu.Unlock()
		}
		post(t, from, "to", "ok", nil) // No request.
		pass(time.Minute)
		require.Empty(t, served)
	})
}
