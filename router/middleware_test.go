package router_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// use adds a middleware.
func use(t testing.TB, r *router.Router, name string, m router.Middleware, options ...router.UseOption) {
	t.Helper()
	require.NoError(t, r.Use(name, m, options...))
}

// through returns a middleware made of what it does with each message.
func through(f func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error)) router.Middleware {
	return func(next router.Deliver) router.Deliver {
		return func(ctx context.Context, d *router.Draft) (router.Response, error) { return f(ctx, d, next) }
	}
}

// rewrite returns a middleware that changes each message.
func rewrite(change func(*router.Draft)) router.Middleware {
	return through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
		change(d)
		return next(ctx, d)
	})
}

var kinds = []router.Kind{router.KindSend, router.KindPost, router.KindStream, router.KindPublish}

// act sends "data" in some way: to "clerk", of type "do", or "do.it" for a stream,
// and on the topic "news".
func act(ctx context.Context, c *router.Client, kind router.Kind, options ...router.SendOption) (receipt router.Receipt, err error) {
	switch kind {
	case router.KindSend:
		_, err = c.Send(ctx, "clerk", "do", "data", options...)
	case router.KindPost:
		err = c.Post(ctx, "clerk", "do", "data", options...)
	case router.KindStream:
		for _, err = range c.Stream(ctx, "clerk", "do.it", "data", options...) {
			if err != nil {
				break
			}
		}
	case router.KindPublish:
		return c.Publish(ctx, "news", "data", options...)
	}
	return receipt, err
}

// clerk joins the plugin that act sends to, and returns what it gets.
func clerk(t testing.TB, r *router.Router) *diary {
	t.Helper()
	c, got := join(t, r, "clerk"), &diary{}
	handle(t, c, "do", got.write)
	_, err := c.HandleStream("do.it", func(ctx context.Context, m router.Message, yield func(any) bool) error {
		_, _ = got.write(ctx, m)
		yield("chunk")
		return nil
	})
	require.NoError(t, err)
	_, err = c.HandleTopic("news", func(ctx context.Context, m router.Message) error {
		_, _ = got.write(ctx, m)
		return nil
	})
	require.NoError(t, err)
	return got
}

// none returns a deliver that cannot be called.
func none() router.Deliver { return nil }

// scopes are the middlewares for all, and those for the clerk.
var scopes = [][]router.UseOption{nil, {router.ForTarget("clerk")}}

// TestR2BrokenMiddleware shows that a message which a middleware does not let
// through is refused, with the reason, and counted once; and that a middleware
// which breaks does no other harm.
func TestR2BrokenMiddleware(t *testing.T) {
	errOwn := errors.New("not today")
	for _, test := range []struct {
		does  string
		cause string
		f     func(context.Context, *router.Draft, router.Deliver) (router.Response, error)
	}{
		{"return nothing", `the middleware "odd" returned neither an error nor what next returned`, func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, nil
		}},
		{"return an error", `the middleware "odd": not today`, func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, errOwn
		}},
		{"return a refusal of its own making", `may not`, func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, &plugbus.DeniedError{}
		}},
		{"panic", `the middleware "odd" panicked: boom`, func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			panic("boom")
		}},
		{"panic with nil", `the middleware "odd" panicked: panic called with nil argument`, func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			panic(nil) //nolint:govet // That is the test.
		}},
		{"call next with nothing", `the middleware "odd": the middleware "odd" called next with no message`, func(ctx context.Context, _ *router.Draft, next router.Deliver) (router.Response, error) {
			return next(ctx, nil)
		}},
		{"call a nil deliver", `panicked: runtime error: invalid memory address`, func(ctx context.Context, d *router.Draft, _ router.Deliver) (router.Response, error) {
			return none()(ctx, d)
		}},
	} {
		for _, kind := range kinds {
			for _, scope := range scopes {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("%s, %v, %d", test.does, kind, len(scope))
					r, law := newRouter(t, router.Options{}), newRules()
					got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
					use(t, r, "odd", through(test.f), scope...)
					receipt, err := act(t.Context(), c, kind)
					synctest.Wait()
					require.Empty(t, got.read(), what)
					if kind == router.KindPublish && scope != nil {
						require.NoError(t, err, what)
						require.Equal(t, []string{"clerk"}, receipt.Refused, what)
						require.Equal(t, 1, receipt.Matched, what)
						require.Zero(t, receipt.Accepted, what)
					} else {
						denied := denial(t, err)
						require.Equal(t, plugbus.ReasonMiddleware, denied.Reason, what)
						require.ErrorContains(t, denied.Cause, test.cause, what)
						require.Equal(t, test.does == "return an error", errors.Is(err, errOwn), what)
					}
					require.Len(t, law.refusals(), 1, what)
					require.ErrorContains(t, law.refusals()[0].Cause, test.cause, what)
					require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger(), what)

					require.True(t, r.Unuse("odd"))
					_, err = act(t.Context(), c, kind)
					require.NoError(t, err, what)
					synctest.Wait()
					require.Len(t, got.read(), 1, what)
				})
			}
		}
	}
}

// TestR2SpoiltAnswer shows what a sender hears when a middleware breaks after it
// has passed on the message, which has its own outcome already.
func TestR2SpoiltAnswer(t *testing.T) {
	for _, test := range []struct {
		does  string
		cause string
		after func() (router.Response, error)
	}{
		{"return nothing", `returned neither`, func() (router.Response, error) { return router.Response{}, nil }},
		{"panic", `panicked: boom`, func() (router.Response, error) { panic("boom") }},
	} {
		for _, kind := range kinds {
			for _, scope := range scopes {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("%s, %v, %d", test.does, kind, len(scope))
					r, law := newRouter(t, router.Options{}), newRules()
					got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
					use(t, r, "odd", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
						_, err := next(ctx, d)
						require.NoError(t, err)
						synctest.Wait()
						return test.after()
					}), scope...)
					receipt, err := act(t.Context(), c, kind)
					synctest.Wait()
					require.Len(t, got.read(), 1, what)
					if kind == router.KindPublish {
						require.Equal(t, 1, receipt.Accepted, what)
						require.Empty(t, receipt.Refused, what)
					}
					if kind != router.KindPublish || scope == nil {
						denied := denial(t, err)
						require.Equal(t, plugbus.ReasonMiddleware, denied.Reason, what)
						require.ErrorContains(t, denied.Cause, test.cause, what)
						require.Contains(t, denied.Hint, "had left", what)
					}
					require.Len(t, law.refusals(), 1, what)
					l := r.Ledger()
					require.NoError(t, l.Check())
					require.EqualValues(t, 1, l.Offered, what)
					require.EqualValues(t, 1, l.Accepted, what)
					require.Zero(t, mailboxOf(t, r, "a").Refused, what)
				})
			}
		}
	}
}

// TestR2NoReplyWithoutTheDoor shows that a middleware cannot answer a message
// that no door has let through with the reply to another.
func TestR2NoReplyWithoutTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		b, c, poor := join(t, r, "b"), join(t, r, "c"), join(t, r, "poor", law.guard("poor"))
		handle(t, b, "echo", echo)
		law.deny(plugbus.VerbSend, "b")
		var cached router.Response
		use(t, r, "cache", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			response, err := next(ctx, d)
			if err == nil {
				cached = response
			}
			return cached, nil
		}))
		reply, err := c.Send(t.Context(), "b", "echo", "secret")
		require.NoError(t, err)
		require.Equal(t, "secret", reply.Data())
		reply, err = poor.Send(t.Context(), "b", "echo", "mine")
		require.Equal(t, plugbus.ReasonMiddleware, denial(t, err).Reason)
		require.Zero(t, reply)
		l := r.Ledger()
		require.EqualValues(t, 2, l.Offered)
		require.EqualValues(t, 1, l.Refused, "the door has counted it, once")
	})
}

// TestR2ErrorsOfNextPass shows that a middleware's error is the sender's once it
// has called next, as are those that next returned.
func TestR2ErrorsOfNextPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "c")
		handle(t, b, "echo", echo)
		handle(t, b, "fail", func(context.Context, router.Message) (any, error) {
			return nil, &plugbus.RemoteError{Code: plugbus.CodeConflict, Message: "taken"}
		})
		errPicky := errors.New("the reply is too short")
		use(t, r, "plain", rewrite(func(*router.Draft) {}))
		use(t, r, "picky", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			response, err := next(ctx, d)
			if err == nil && response.Data() == "x" {
				err = errPicky
			}
			return response, err
		}))
		_, err := c.Send(t.Context(), "b", "fail", nil)
		require.Equal(t, plugbus.CodeConflict, remote(t, err).Code)
		_, err = c.Send(t.Context(), "b", "nothing", nil)
		require.ErrorIs(t, err, router.ErrNoHandler)
		_, err = c.Send(t.Context(), "nobody", "echo", nil)
		require.ErrorIs(t, err, router.ErrUnknownTarget)
		reply, err := c.Send(t.Context(), "b", "echo", "x")
		require.Equal(t, errPicky, err)
		require.Equal(t, "x", reply.Data(), "whatever the middleware returned")
		l := r.Ledger()
		require.EqualValues(t, 4, l.Offered)
		require.EqualValues(t, 2, l.Refused)
	})
}

// TestR2NextTwice shows that each call of next is a message of its own.
func TestR2NextTwice(t *testing.T) {
	for _, kind := range kinds {
		for _, scope := range scopes {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				got, c := clerk(t, r), join(t, r, "a")
				use(t, r, "twice", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
					_, err := next(ctx, d.Clone())
					require.NoError(t, err)
					synctest.Wait()
					d.Data = "again"
					return next(ctx, d)
				}), scope...)
				receipt, err := act(t.Context(), c, kind)
				require.NoError(t, err)
				require.NoError(t, r.Idle(t.Context()))
				require.Equal(t, []any{"data", "again"}, got.data(), "%v", kind)
				m := got.read()
				one := kind == router.KindPublish && scope != nil // One publication, with two deliveries to one handler.
				require.Equal(t, one, m[0].ID() == m[1].ID(), "%v", kind)
				if kind == router.KindPublish {
					require.Equal(t, 1, receipt.Matched)
					require.Equal(t, 1, receipt.Accepted)
				}
				l := r.Ledger()
				require.NoError(t, l.Check())
				require.EqualValues(t, 2, l.Handled, "%v", kind)
			})
		}
	}
}

// TestR2NextTooLate shows that a middleware which keeps next cannot use it when
// the sender has its answer.
func TestR2NextTooLate(t *testing.T) {
	for _, kind := range kinds {
		for _, scope := range scopes {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				got, c := clerk(t, r), join(t, r, "a")
				var late sync.WaitGroup
				var errs []error
				use(t, r, "late", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
					late.Go(func() {
						<-time.After(time.Second)
						_, err := next(ctx, d)
						errs = append(errs, err)
					})
					return router.Response{}, nil
				}), scope...)
				_, _ = act(t.Context(), c, kind)
				late.Wait()
				require.Len(t, errs, 1)
				require.ErrorIs(t, errs[0], router.ErrClosed)
				require.ErrorContains(t, errs[0], `the middleware "late" called next after it had returned`)
				require.NoError(t, r.Idle(t.Context()))
				require.Empty(t, got.read())
				require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger())
			})
		}
	}
}

// TestR2NextMeanwhile lets a middleware return while next is under way on another
// goroutine, and calls it there at the same time as here: every message that
// passes the door has its outcome, and no stream stays open.
func TestR2NextMeanwhile(t *testing.T) {
	for _, kind := range kinds {
		for _, scope := range scopes {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				_, c := clerk(t, r), join(t, r, "a")
				slow := make(chan bool)
				var late sync.WaitGroup
				var accepted atomic.Uint64
				use(t, r, "a.early", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
					for range 4 {
						late.Go(func() {
							if _, err := next(ctx, d.Clone()); err == nil {
								accepted.Add(1)
							} else {
								require.ErrorIs(t, err, router.ErrClosed)
							}
						})
					}
					if d.CorrelationID == "stay" {
						return next(ctx, d)
					}
					synctest.Wait() // They are on their way.
					return router.Response{}, errors.New("enough")
				}), scope...)
				use(t, r, "b.slow", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
					if d.CorrelationID == "" {
						<-slow
					}
					return next(ctx, d)
				}), scope...)
				_, _ = act(t.Context(), c, kind)
				close(slow)
				late.Wait()
				require.NoError(t, r.Idle(t.Context()))
				l := r.Ledger()
				require.EqualValues(t, 4, l.Accepted, "%v", kind)
				require.EqualValues(t, 4, l.Handled+l.Cancelled, "%v", kind)
				_, err := act(t.Context(), c, kind, router.CorrelationID("stay"))
				require.NoError(t, err)
				late.Wait()
				require.NoError(t, r.Idle(t.Context()))
				l = r.Ledger()
				require.NoError(t, l.Check())
				require.Equal(t, accepted.Load()+1, l.Accepted, "%v", kind)
				require.Equal(t, l.Accepted, l.Handled+l.Cancelled, "%v", kind)
			})
		}
	}
}

// TestR2Goexit shows that a middleware which ends its sender's goroutine harms
// nothing but that, and that what ends it further on is not laid at its door.
func TestR2Goexit(t *testing.T) {
	for _, kind := range kinds {
		for _, called := range []bool{false, true} {
			for _, scope := range scopes {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("%v, %v, %d", kind, called, len(scope))
					r, law := newRouter(t, router.Options{}), newRules()
					_, c := clerk(t, r), join(t, r, "a", law.guard("a"))
					use(t, r, "outer", rewrite(func(*router.Draft) {}), scope...)
					use(t, r, "fatal", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
						if called {
							_, _ = next(ctx, d)
						}
						runtime.Goexit()
						return router.Response{}, nil
					}), scope...)
					var wg sync.WaitGroup
					wg.Go(func() {
						_, _ = act(t.Context(), c, kind)
						t.Error("the goroutine goes on")
					})
					wg.Wait()
					require.NoError(t, r.Idle(t.Context()))
					require.Len(t, law.refusals(), 1, what)
					require.EqualError(t, law.refusals()[0].Cause, `the middleware "fatal" ended its goroutine (runtime.Goexit)`, what)
					require.EqualValues(t, 1, r.Ledger().Offered, what)
					require.NoError(t, r.Ledger().Check(), what)
					require.True(t, r.Unuse("fatal"))
					_, err := act(t.Context(), c, kind)
					require.NoError(t, err, what)
					require.NoError(t, r.Idle(t.Context()))
				})
			}
		}
	}
	synctest.Test(t, func(t *testing.T) { // The handler does, inline.
		r, law := newRouter(t, router.Options{}), newRules()
		b, c := join(t, r, "b"), join(t, r, "a", law.guard("a"))
		law.change(func() { law.inline["b"] = true })
		handle(t, b, "die", func(context.Context, router.Message) (any, error) {
			runtime.Goexit()
			return nil, nil
		})
		use(t, r, "one", rewrite(func(*router.Draft) {}))
		use(t, r, "two", rewrite(func(*router.Draft) {}))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Send(t.Context(), "b", "die", nil) })
		wg.Wait()
		require.Empty(t, law.refusals())
		require.Equal(t, plugbus.Ledger{Offered: 1, Accepted: 1, Failed: 1}, r.Ledger())
	})
}

// TestR2CircleOfRedirects shows that middlewares which send a message round are
// stopped, and that a few redirects are not.
func TestR2CircleOfRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		c := join(t, r, "sender", law.guard("sender"))
		const hops = 10
		id := func(n int) string { return fmt.Sprintf("p%d", n%hops) }
		for n := range hops {
			handle(t, join(t, r, id(n)), "do", func(context.Context, router.Message) (any, error) { return n, nil })
			use(t, r, id(n), rewrite(func(d *router.Draft) { d.To = id(n + 1) }), router.ForTarget(id(n)))
		}
		_, err := c.Send(t.Context(), "p3", "do", nil)
		denied := denial(t, err)
		require.Equal(t, plugbus.ReasonMiddleware, denied.Reason)
		require.ErrorContains(t, denied.Cause, "in a circle")
		require.Equal(t, "p3", denied.Object, "the sender learns nothing of where it was sent")
		require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger())

		require.True(t, r.Unuse("p9"))
		for from, refused := range map[int]bool{9: false, 8: false, 1: false, 0: true} { // 8 redirects are allowed.
			reply, err := c.Send(t.Context(), id(from), "do", nil)
			require.Equal(t, refused, err != nil, "from %d: %v", from, err)
			if !refused {
				require.Equal(t, 9, reply.Data())
			}
		}
	})
}
