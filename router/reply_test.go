package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR5Envelope shows what travels with a message, and that the reply names the
// message that it answers and who answered (H9).
func TestR5Envelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from := join(t, r, "from")
		d := &diary{}
		handle(t, join(t, r, "to"), "note", func(ctx context.Context, m router.Message) (any, error) {
			_, _ = d.write(ctx, m)
			return nil, nil
		})
		headers := map[string]string{"k": "v"}
		pass(time.Minute)
		reply, err := from.Send(t.Context(), "to", "note", []int{1}, router.Headers(headers), router.CorrelationID("c-1"), router.ClientID("mine"), router.Priority(plugbus.PriorityLow))
		require.NoError(t, err)
		headers["k"] = "changed"
		m := d.read()[0]
		require.Equal(t, []string{"from", "to", "note", "send", "c-1", "mine", "v", ""}, []string{m.From(), m.To(), m.Type(), m.Kind().String(), m.CorrelationID(), m.ClientID(), m.Header("k"), m.Header("other")})
		require.Equal(t, map[string]string{"k": "v"}, m.Headers())
		require.Equal(t, []string{"from"}, m.Chain().Plugins())
		require.Equal(t, plugbus.PriorityLow, m.Priority())
		require.Equal(t, 1, m.Delivery())
		require.Empty(t, m.Pattern())
		require.Equal(t, m.ID(), reply.MessageID())
		require.Equal(t, "to", reply.From())
		require.Nil(t, reply.Data(), "a reply of nil is one")

		var none router.Message
		require.Zero(t, none.From()+none.To()+none.Type()+none.Pattern()+none.ClientID()+none.CorrelationID()+none.Header("k"))
		require.Equal(t, "unknown", none.Kind().String())
		require.Nil(t, none.Headers())
		require.Zero(t, none.ID())
		require.Zero(t, none.Chain())
	})
}

// TestR19Stamps shows that the router stamps ids and times: unique ids that sort
// by time, and no way to give one.
func TestR19Stamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		d := &diary{}
		handle(t, join(t, r, "to"), "note", d.write)
		from := join(t, r, "from")
		seen := map[plugbus.ID]bool{}
		for range 50 {
			before := time.Now()
			post(t, from, "to", "note", nil, router.ClientID("same"))
			synctest.Wait()
			m := d.read()[len(d.read())-1]
			require.True(t, m.Time().Equal(before), "%v, %v", m.Time(), before)
			require.False(t, seen[m.ID()])
			seen[m.ID()] = true
			require.Equal(t, "same", m.ClientID())
			pass(time.Millisecond)
		}
		all := d.read()
		for i := range all[1:] {
			require.Less(t, all[i].ID().String(), all[i+1].ID().String())
		}
	})
}

// TestPayloadsAreCopies shows that neither side sees what the other does to a
// payload.
func TestPayloadsAreCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from := join(t, r, "from")
		kept := []int{10, 20}
		handle(t, join(t, r, "to"), "note", func(_ context.Context, m router.Message) (any, error) {
			m.Data().([]int)[0] = 99
			if m.Data().([]int)[0] != 1 {
				t.Error("a copy was shared")
			}
			return kept, nil
		})
		sent := []int{1, 2}
		reply, err := from.Send(t.Context(), "to", "note", sent)
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, sent)
		kept[0] = 0
		reply.Data().([]int)[1] = 0
		require.Equal(t, []int{10, 20}, reply.Data())
		require.Equal(t, 16, reply.Size())
	})
}

// TestR14Reply shows that serving a request is all the right that a reply needs,
// and that the right is for one reply.
func TestR14Reply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		rules := newRules()
		rules.deny(plugbus.VerbSend, "from")
		from, to := join(t, r, "from"), join(t, r, "to", rules.guard("to"))
		d := &diary{}
		handle(t, from, "note", d.write)
		var tries []error
		handle(t, to, "note", func(ctx context.Context, m router.Message) (any, error) {
			tries = append(tries, to.Post(ctx, "from", "note", nil), to.Post(ctx, "from", "note", nil, router.CorrelationID(m.ID().String())))
			return "reply", nil
		})
		reply, err := from.Send(t.Context(), "to", "note", nil)
		require.NoError(t, err)
		require.Equal(t, "reply", reply.Data())
		for _, err := range tries {
			require.Equal(t, plugbus.ReasonDeniedByRule, denial(t, err).Reason)
		}
		synctest.Wait()
		require.Empty(t, d.read())
	})
}

// TestRepliesAreChecked shows the door for replies, which uses the recipient's own
// bounds, and what each side hears of a refusal (R14).
func TestRepliesAreChecked(t *testing.T) {
	for _, test := range []struct {
		reply  any
		rules  func(r *rules)
		reason plugbus.Reason // "" if it is admitted
		code   plugbus.Code
	}{
		{"ok", func(*rules) {}, "", ""},
		{plugbus.Shared(1), func(r *rules) { r.payload.Shared = true }, "", ""},
		{"toolong", func(r *rules) { r.payload.MaxBytes = 3 }, plugbus.ReasonTooLarge, plugbus.CodeExhausted},
		{[]any{1, "2", 3}, func(r *rules) { r.payload.MaxNodes = 2 }, plugbus.ReasonTooLarge, plugbus.CodeExhausted},
		{"<script>", func(r *rules) { r.payload.Content = plugbus.CheckAll }, plugbus.ReasonInvalidContent, plugbus.CodeInternal},
		{"four", func(r *rules) { r.bytes = newMeter(3, time.Second) }, plugbus.ReasonByteRateExceeded, plugbus.CodeExhausted},
		{make(chan int), func(*rules) {}, plugbus.ReasonInvalidPayload, plugbus.CodeInternal},
		{func() {}, func(*rules) {}, plugbus.ReasonInvalidPayload, plugbus.CodeInternal},
		{plugbus.Shared(1), func(*rules) {}, plugbus.ReasonSharedNotGranted, plugbus.CodeInternal},
	} {
		synctest.Test(t, func(t *testing.T) {
			var failures []router.Failure
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
			rules := newRules()
			test.rules(rules)
			from, to := join(t, r, "from"), join(t, r, "to", rules.guard("to"))
			handle(t, to, "note", func(context.Context, router.Message) (any, error) { return test.reply, nil })
			_, err := from.Send(t.Context(), "to", "note", nil)
			synctest.Wait()
			if test.reason == "" {
				require.NoError(t, err)
				return
			}
			e := remote(t, err)
			require.Equal(t, plugbus.RemoteError{Plugin: "to", Code: test.code, Message: "the reply was refused"}, *e, "%v", test.reply)
			require.Len(t, rules.refusals(), 1)
			refusal := rules.refusals()[0]
			require.Equal(t, test.reason, refusal.Reason)
			require.Equal(t, "from", refusal.Object)
			require.Contains(t, refusal.Hint, `type "note"`)
			require.Len(t, failures, 1)
			require.ErrorIs(t, failures[0].Err, plugbus.ErrDenied)
			require.EqualValues(t, 1, r.Ledger().Failed)

			post(t, from, "to", "note", nil) // What a post returns is nobody's business.
			synctest.Wait()
			require.EqualValues(t, 1, r.Ledger().Handled)
			require.Len(t, rules.refusals(), 1)
		})
	}
}

// TestR5RepliesBelongToTheirRequests has many ask for many things at a time,
// some of whom give up: each reply is the one that was asked for. The race
// detector looks whether a delivery is used after it went back to the pool.
func TestR5RepliesBelongToTheirRequests(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 1000})
	rules := newRules()
	for n := range 3 {
		rules.inline[fmt.Sprintf("to%d", n)] = n == 2
		to := join(t, r, fmt.Sprintf("to%d", n))
		var options []router.HandleOption
		if n == 1 {
			options = append(options, router.Concurrent(4))
		}
		handle(t, to, "same", echo, options...)
		handle(t, to, "slow", func(ctx context.Context, m router.Message) (any, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(m.Data().(int) % 7 * 100_000)):
			}
			return m.Data(), nil
		}, options...)
	}
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	var all sync.WaitGroup
	for n := range 8 {
		from := join(t, r, fmt.Sprintf("from%d", n), rules.guard(fmt.Sprintf("from%d", n)))
		all.Go(func() {
			for i := range rounds {
				want, to := n*1_000_000+i, fmt.Sprintf("to%d", (n+i)%3)
				typ, limit := "same", time.Minute
				if i%5 == 0 {
					typ, limit = "slow", time.Duration(i%9+1)*100*time.Microsecond
				}
				reply, err := from.Send(context.Background(), to, typ, want, router.Timeout(limit))
				if err == nil && (reply.Data() != want || reply.From() != to) {
					t.Errorf("reply %v from %v, want %v from %v", reply.Data(), reply.From(), want, to)
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if i%3 == 0 {
					if err := from.Post(context.Background(), to, "same", want); err != nil && !errors.Is(err, router.ErrQueueFull) {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, r.Idle(t.Context()))
}

type wrapped struct{ err error }

func (w wrapped) Error() string { return "wrapped: " + w.err.Error() }
func (w wrapped) Unwrap() error { return w.err }

// TestR11Errors shows how the error of a handler arrives: as a code, text and
// whether a later try may do, and never as itself.
func TestR11Errors(t *testing.T) {
	long := strings.Repeat("ä", plugbus.MaxTextBytes)
	for _, test := range []struct {
		err       error
		code      plugbus.Code
		retryable bool
		message   string
	}{
		{errors.New("no"), plugbus.CodeUnknown, false, "no"},
		{errors.New(""), plugbus.CodeUnknown, false, ""},
		{errors.New("half \xff"), plugbus.CodeUnknown, false, "half \uFFFD"},
		{errors.New(long), plugbus.CodeUnknown, false, plugbus.CutText(long)},
		{&plugbus.RemoteError{Plugin: "forged", Code: plugbus.CodeConflict, Message: "twice", Retryable: true}, plugbus.CodeConflict, true, "twice"},
		{&plugbus.RemoteError{Code: "made-up", Message: long}, plugbus.CodeUnknown, false, plugbus.CutText(long)},
		{&plugbus.RemoteError{}, plugbus.CodeUnknown, false, ""},
		{wrapped{&plugbus.RemoteError{Plugin: "p", Code: plugbus.CodeNotFound, Message: "gone"}}, plugbus.CodeNotFound, false, `wrapped: plugin "p": not_found: gone`},
		{context.DeadlineExceeded, plugbus.CodeDeadline, true, "context deadline exceeded"},
		{wrapped{context.Canceled}, plugbus.CodeCancelled, false, "wrapped: context canceled"},
		{router.ErrQueueFull, plugbus.CodeExhausted, true, router.ErrQueueFull.Error()},
		{router.ErrUnknownTarget, plugbus.CodeUnavailable, true, router.ErrUnknownTarget.Error()},
		{router.ErrNoHandler, plugbus.CodeUnavailable, false, router.ErrNoHandler.Error()},
		{router.ErrTargetLeft, plugbus.CodeUnavailable, true, router.ErrTargetLeft.Error()},
		{router.ErrClosed, plugbus.CodeUnavailable, false, router.ErrClosed.Error()},
		{plugbus.ErrInvalid, plugbus.CodeInvalid, false, "invalid argument"},
		{plugbus.ErrDenied, plugbus.CodeDenied, false, "denied"},
		{&plugbus.DeniedError{Plugin: "p", Verb: plugbus.VerbSend, Object: "o", Reason: plugbus.ReasonRateLimitExceeded, RetryAfter: time.Second}, plugbus.CodeExhausted, true, ""},
		{&plugbus.TypeError{What: "it", Got: "int", Want: "string"}, plugbus.CodeInvalid, false, "it carries a int, but a string was asked for"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			from := join(t, r, "from")
			handle(t, join(t, r, "to"), "fail", func(context.Context, router.Message) (any, error) { return "thrown away", test.err })
			reply, err := from.Send(t.Context(), "to", "fail", nil)
			require.Zero(t, reply)
			e := remote(t, err)
			if test.message == "" {
				e.Message = ""
			}
			require.Equal(t, plugbus.RemoteError{Plugin: "to", Code: test.code, Message: test.message, Retryable: test.retryable}, *e, "%v", test.err)
			require.NotErrorIs(t, err, test.err, "the cause does not cross")
			require.NotErrorIs(t, err, plugbus.ErrClosed)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.EqualValues(t, 1, r.Ledger().Failed)
		})
	}
}

// A hostile error does what it likes in its methods.
type hostile struct{ text, is, as, unwrap func() }

func run(f func()) {
	if f != nil {
		f()
	}
}

func (h *hostile) Error() string   { run(h.text); return "hostile" }
func (h *hostile) Is(error) bool   { run(h.is); return false }
func (h *hostile) As(any) bool     { run(h.as); return false }
func (h *hostile) Unwrap() []error { run(h.unwrap); return []error{nil} }

// TestR11HostileErrors shows that the methods of an error that a handler returns
// can hurt nobody but its own plugin, whoever waits.
func TestR11HostileErrors(t *testing.T) {
	var none *plugbus.RemoteError
	var nobody *hostile
	oops := func() { panic("oops") }
	for i, test := range []struct {
		err     error
		message string
	}{
		{&hostile{}, "hostile"},
		{&hostile{text: oops}, "an error of type *router_test.hostile that cannot be read"},
		{&hostile{is: oops}, "an error of type *router_test.hostile that cannot be read"},
		{&hostile{as: oops}, "an error of type *router_test.hostile that cannot be read"},
		{&hostile{unwrap: oops}, "an error of type *router_test.hostile that cannot be read"},
		{&hostile{text: runtime.Goexit}, "the handler ended its goroutine"},
		{&hostile{is: runtime.Goexit}, "the handler ended its goroutine"},
		{&hostile{as: runtime.Goexit}, "the handler ended its goroutine"},
		{&hostile{unwrap: runtime.Goexit}, "the handler ended its goroutine"},
		{none, "an error of type *plugbus.RemoteError that cannot be read"},
		{nobody, "an error of type *router_test.hostile that cannot be read"},
		{&hostile{text: func() { panic(errors.New("an error")) }}, "an error of type *router_test.hostile that cannot be read"},
	} {
		for _, concurrent := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{OnServed: func(router.Served) {}})
				from, to := join(t, r, "from"), join(t, r, "to")
				options := []router.HandleOption{router.Measured()}
				if concurrent {
					options = append(options, router.Concurrent(1))
				}
				handle(t, to, "fail", func(context.Context, router.Message) (any, error) { return nil, test.err }, options...)
				handle(t, to, "note", echo)
				_, err := to.HandleStream("flow", func(context.Context, router.Message, func(any) bool) error { return test.err }, options...)
				require.NoError(t, err)
				start := time.Now()
				_, err = from.Send(t.Context(), "to", "fail", nil)
				require.Equal(t, test.message, remote(t, err).Message, i)
				for _, err = range from.Stream(t.Context(), "to", "flow", nil) {
				}
				require.Equal(t, test.message, remote(t, err).Message, i)
				post(t, from, "to", "fail", nil)
				_, err = from.Send(t.Context(), "to", "note", nil)
				require.NoError(t, err)
				require.NoError(t, r.Idle(t.Context()))
				require.Zero(t, time.Since(start))
				require.Equal(t, plugbus.Ledger{Offered: 4, Accepted: 4, Handled: 1, Failed: 3}, r.Ledger())
				require.Len(t, r.DeadLetters(), 1)
			})
		}
	}
}

// TestHandlersThatDoNotReturn shows what a panic and a Goexit come to.
func TestHandlersThatDoNotReturn(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var failures []router.Failure
			r := newRouter(t, router.Options{OnFailure: func(f router.Failure) {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, f)
			}})
			from, to := join(t, r, "from"), join(t, r, "to")
			var options []router.HandleOption
			if concurrent {
				options = append(options, router.Concurrent(1))
			}
			handle(t, to, "panic", func(context.Context, router.Message) (any, error) { panic("secret") }, options...)
			handle(t, to, "exit", func(context.Context, router.Message) (any, error) { runtime.Goexit(); return nil, nil }, options...)
			for range 3 { // Those that wait are handled none the less.
				post(t, from, "to", "exit", nil)
				post(t, from, "to", "panic", nil)
			}
			_, err := from.Send(t.Context(), "to", "panic", nil)
			require.Equal(t, plugbus.RemoteError{Plugin: "to", Code: plugbus.CodeInternal, Message: "the handler panicked"}, *remote(t, err))
			_, err = from.Send(t.Context(), "to", "exit", nil)
			require.Equal(t, plugbus.RemoteError{Plugin: "to", Code: plugbus.CodeInternal, Message: "the handler ended its goroutine"}, *remote(t, err))
			require.NoError(t, r.Idle(t.Context()))
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, failures, 8)
			exits := 0
			for _, f := range failures {
				require.Equal(t, plugbus.Failed, f.Outcome)
				if f.Err == router.ErrGoexit { //nolint:errorlint // It is never wrapped.
					exits++
					continue
				}
				panicked, ok := errors.AsType[*router.PanicError](f.Err)
				require.True(t, ok)
				require.Equal(t, "secret", panicked.Value)
				require.Contains(t, panicked.Stack, "TestHandlersThatDoNotReturn")
			}
			require.Equal(t, 4, exits)
			require.Equal(t, plugbus.Ledger{Offered: 8, Accepted: 8, Failed: 8}, r.Ledger())
		})
	}
}

// TestTypedEdge shows requests and replies with types of their own, strictly
// decoded.
func TestTypedEdge(t *testing.T) {
	type in struct{ N int }
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, to := join(t, r, "from"), join(t, r, "to")
		_, err := router.Handle(to, "double", func(_ context.Context, request in) (in, error) { return in{request.N * 2}, nil })
		require.NoError(t, err)
		_, err = router.Handle[in, in](to, "nil", nil)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		for _, request := range []any{in{21}, json.RawMessage(`{"N":21}`)} {
			reply, err := router.Send[in](t.Context(), from, "to", "double", request)
			require.NoError(t, err)
			require.Equal(t, in{42}, reply)
		}
		for _, request := range []any{"21", json.RawMessage(`{"N":21,"M":1}`), json.RawMessage(`{"N":21} x`)} {
			_, err := router.Send[in](t.Context(), from, "to", "double", request)
			require.Equal(t, plugbus.CodeInvalid, remote(t, err).Code)
		}
		_, err = router.Send[string](t.Context(), from, "to", "double", in{21})
		_, ok := errors.AsType[*plugbus.TypeError](err)
		require.True(t, ok, "%v", err)
	})
}

// TestReplyIsPassedOn shows that a handler may return the reply, or give the chunk,
// that it got from another plugin: its payload goes on, in its own name.
func TestReplyIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
		handle(t, c, "ask", func(context.Context, router.Message) (any, error) { return []int{1, 2}, nil })
		handle(t, b, "ask", func(ctx context.Context, m router.Message) (any, error) { return b.Send(ctx, "c", "ask", m.Data()) })
		_, err := b.HandleStream("asks", func(ctx context.Context, m router.Message, yield func(any) bool) error {
			reply, err := b.Send(ctx, "c", "ask", m.Data())
			_ = yield(reply)
			return err
		})
		require.NoError(t, err)
		reply, err := a.Send(t.Context(), "b", "ask", nil)
		require.NoError(t, err)
		require.Equal(t, []any{[]int{1, 2}, "b"}, []any{reply.Data(), reply.From()})
		for chunk, err := range a.Stream(t.Context(), "b", "asks", nil) {
			require.NoError(t, err)
			require.Equal(t, []any{[]int{1, 2}, "b"}, []any{chunk.Data(), chunk.From()})
		}
	})
}
