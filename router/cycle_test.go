package router_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/router"
)

// TestR12Cycles passes a request from plugin to plugin along a path, and shows
// which step is refused, at once and with the chain in the error. A path is of
// plugins, each with the way in which the next is reached: "!" asks with the
// handler's context, and "." posts.
func TestR12Cycles(t *testing.T) {
	for _, test := range []struct {
		path  string
		chain string // of the refusal; "" if there is none
	}{
		{"a!b", ""},
		{"a!b!c!d", ""},
		{"a!a", ""}, // The first a is no handler.
		{"x!a!a", "x → a"},
		{"x!a!b!a", "x → a → b"},
		{"x!a!b!c!d!a", "x → a → b → c → d"},
		{"x!a!b!c!b", "x → a → b → c"},
		{"a!b!a", ""}, // Nor here.
		{"x.a!b!a", "x → a → b"},
		{"x!a.b!a", ""}, // a does not wait for b.
		{"x!a!b.a", ""}, // b does not wait for a.
		{"x.a.b.a", ""},
		{"x!a!b.c!a", ""},
		{"x!a!b.c!a!c", "x → a → b → c → a"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			clients := map[string]*router.Client{}
			for _, id := range []string{"a", "b", "c", "d", "x"} {
				clients[id] = join(t, r, id)
			}
			var refused *plugbus.DeniedError
			step := func(ctx context.Context, from, rest string) error {
				if rest == "" {
					return nil
				}
				to, rest := rest[1:2], rest[:1]+rest[2:]
				if rest[0] == '.' {
					return clients[from].Post(ctx, to, "go", rest[1:])
				}
				_, err := clients[from].Send(ctx, to, "go", rest[1:])
				return err
			}
			for id, c := range clients {
				handle(t, c, "go", func(ctx context.Context, m router.Message) (any, error) {
					err := step(ctx, id, m.Data().(string))
					if denied, ok := err.(*plugbus.DeniedError); ok { //nolint:errorlint // It is not wrapped.
						refused = denied
					}
					return nil, err
				})
			}
			start := time.Now()
			_ = step(t.Context(), test.path[:1], test.path[1:])
			require.NoError(t, r.Idle(t.Context()))
			require.Zero(t, time.Since(start), test.path)
			if test.chain == "" {
				require.Nil(t, refused, "%s: %v", test.path, refused)
				require.Zero(t, r.Ledger().Refused)
				return
			}
			require.NotNil(t, refused, test.path)
			require.Equal(t, plugbus.ReasonCycle, refused.Reason)
			require.Equal(t, test.chain, refused.Chain.String(), test.path)
			require.ErrorContains(t, refused, "the request would wait for itself: "+test.chain+" → "+test.path[len(test.path)-1:])
			require.EqualValues(t, 1, r.Ledger().Refused)
		})
	}
}

// TestR12Stream shows that the reader of a stream waits as whoever sends a
// request does.
func TestR12Stream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, a, "note", echo)
		_, err := b.HandleStream("flow", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
			_, err := b.Send(ctx, "a", "note", nil)
			yield(denial(t, err).Reason)
			return nil
		})
		require.NoError(t, err)
		handle(t, a, "read", func(ctx context.Context, _ router.Message) (any, error) {
			for chunk, err := range a.Stream(ctx, "b", "flow", nil) {
				return chunk.Data(), err
			}
			return nil, nil
		})
		reply, err := b.Send(t.Context(), "a", "read", nil)
		require.NoError(t, err)
		require.Equal(t, plugbus.ReasonCycle, reply.Data())
	})
}

// TestR12Derived shows that contexts derived from a handler's find a circle too,
// and that one without the handler's is bounded by the deadline and counted.
func TestR12Derived(t *testing.T) {
	for _, test := range []struct {
		derive func(ctx context.Context) (context.Context, context.CancelFunc)
		found  bool
	}{
		{context.WithCancel, true},
		{func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		}, true},
		{func(context.Context) (context.Context, context.CancelFunc) {
			return context.WithCancel(context.Background())
		}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			a := join(t, r, "a")
			handle(t, a, "note", echo)
			handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) {
				ctx, cancel := test.derive(ctx)
				defer cancel()
				start := time.Now()
				_, err := a.Send(ctx, "a", "note", nil, router.Timeout(time.Second))
				if test.found {
					require.Equal(t, plugbus.ReasonCycle, denial(t, err).Reason)
					require.Zero(t, time.Since(start))
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, time.Second, time.Since(start))
				}
				return nil, nil
			})
			_, err := join(t, r, "x").Send(t.Context(), "a", "ask", nil)
			require.NoError(t, err)
			require.EqualValues(t, map[bool]int{true: 0, false: 1}[test.found], r.Stats().Untraced)
		})
	}
}

// TestR12NotAHandler shows that a goroutine of a plugin that serves something may
// ask whom it likes: nobody waits for it.
func TestR12NotAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, a, "note", echo)
		handle(t, b, "hold", g.then(echo))
		handle(t, b, "note", echo)
		handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			reply, err := a.Send(ctx, "b", "hold", nil)
			return reply.Data(), err
		})
		asked := make(chan error, 1)
		go func() {
			_, err := b.Send(t.Context(), "a", "ask", nil)
			asked <- err
		}()
		synctest.Wait() // a's handler waits for b's.
		answers := make(chan error, 2)
		go func() { // A goroutine of b beside its handler: a is busy, and not for ever.
			_, err := b.Send(t.Context(), "a", "note", nil)
			answers <- err
		}()
		go func() { // Likewise of a.
			_, err := a.Send(t.Context(), "b", "note", nil)
			answers <- err
		}()
		synctest.Wait()
		require.Empty(t, answers)
		g.open()
		require.NoError(t, <-answers)
		require.NoError(t, <-answers)
		require.NoError(t, <-asked)
	})
}

// TestR12AfterTheHandler shows that a context which outlives its handler, whose
// caller waits no more, stands in nobody's way.
func TestR12AfterTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, a, "note", echo)
		kept := make(chan context.Context, 1)
		handle(t, b, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			kept <- context.WithoutCancel(ctx)
			return nil, nil
		})
		handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) { return a.Send(ctx, "b", "ask", nil) })
		_, _ = join(t, r, "x").Send(t.Context(), "a", "ask", nil)
		_, err := b.Send(<-kept, "a", "note", nil)
		require.NoError(t, err)
	})
}

// TestR12Concurrent lets a concurrent handler ask itself as deep as it has calls,
// and no deeper.
func TestR12Concurrent(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			a, b := join(t, r, "a"), join(t, r, "b")
			var refused *plugbus.DeniedError
			var depth atomic.Int64
			handle(t, a, "down", func(ctx context.Context, m router.Message) (any, error) {
				depth.Store(int64(m.Data().(int)))
				_, err := a.Send(ctx, "a", "down", m.Data().(int)+1)
				if denied, ok := err.(*plugbus.DeniedError); ok { //nolint:errorlint // It is not wrapped.
					refused = denied
				}
				return nil, nil
			}, router.Concurrent(n))
			start := time.Now()
			_, err := b.Send(t.Context(), "a", "down", 1)
			require.NoError(t, err)
			require.Zero(t, time.Since(start))
			require.EqualValues(t, n, depth.Load())
			require.Equal(t, plugbus.ReasonCycle, refused.Reason)
			require.Equal(t, "b"+strings.Repeat(" → a", n), refused.Chain.String())
		})
	}
}

// TestR12Beside shows that the worker and the concurrent handlers of a plugin may
// ask each other, once.
func TestR12Beside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a := join(t, r, "a")
		relay := func(next string) router.Handler {
			return func(ctx context.Context, m router.Message) (any, error) {
				if m.Data() == 0 {
					return "end", nil
				}
				reply, err := a.Send(ctx, "a", next, m.Data().(int)-1)
				return reply.Data(), err
			}
		}
		handle(t, a, "worker", relay("beside"))
		handle(t, a, "beside", relay("worker"), router.Concurrent(1))
		b := join(t, r, "b")
		for _, test := range []struct {
			typ  string
			hops int
			ok   bool
		}{{"worker", 0, true}, {"worker", 1, true}, {"worker", 2, false}, {"beside", 1, true}, {"beside", 2, false}} {
			start := time.Now()
			_, err := b.Send(t.Context(), "a", test.typ, test.hops)
			require.Zero(t, time.Since(start))
			if test.ok {
				require.NoError(t, err, "%+v", test)
			} else {
				require.Equal(t, plugbus.CodeDenied, remote(t, err).Code, "%+v", test)
				require.Contains(t, err.Error(), plugbus.ReasonCycle)
			}
		}
	})
}

// TestR12TwoAtATime has a plugin serve two requests at a time, one of a long chain:
// the handler of the other may ask a plugin that is on that chain, for it does not
// wait in it.
func TestR12TwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		p, x, y, z := join(t, r, "p"), join(t, r, "x"), join(t, r, "y"), join(t, r, "z")
		g := closedGate(t)
		handle(t, p, "hold", g.then(echo), router.Concurrent(2))
		handle(t, p, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := p.Send(ctx, "y", "back", nil)
			return nil, err
		})
		handle(t, y, "relay", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := y.Send(ctx, "p", "hold", nil)
			return nil, err
		})
		var back error
		handle(t, y, "back", func(ctx context.Context, _ router.Message) (any, error) {
			_, back = y.Send(ctx, "p", "note", nil) // A true circle: p's worker waits for y.
			return nil, nil
		})
		handle(t, p, "note", echo)
		handle(t, x, "relay", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := x.Send(ctx, "y", "relay", nil)
			return nil, err
		})
		done := make(chan error, 2)
		go func() {
			_, err := z.Send(t.Context(), "x", "relay", nil)
			done <- err
		}()
		synctest.Wait() // y waits for p's concurrent handler, which p's worker does not.
		go func() {
			_, err := join(t, r, "w").Send(t.Context(), "p", "ask", nil)
			done <- err
		}()
		synctest.Wait()
		require.Empty(t, done)
		g.open()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.Equal(t, plugbus.ReasonCycle, denial(t, back).Reason)
		require.Equal(t, []string{"w", "p", "y"}, denial(t, back).Chain.Plugins())
	})
}

// A source is another mechanism of a plugin's actor, such as its events.
type source struct {
	actor *actor.Actor
	slot  int
	jobs  chan func()
}

func newSource(a *actor.Actor) *source {
	s := &source{actor: a, jobs: make(chan func(), 100)}
	s.slot = a.Attach(s)
	return s
}

func (s *source) Work() (more bool) {
	select {
	case f := <-s.jobs:
		f()
	default:
		return false
	}
	return len(s.jobs) > 0
}

// do runs f on the actor's worker, as the handler of what led led to.
func (s *source) do(led chain.Chain, f func(ctx context.Context)) {
	s.jobs <- func() {
		s.actor.Serve(led)
		f(s.actor.NewContext(context.Background(), led))
	}
	if s.actor.Signal(s.slot) {
		s.actor.Wake()
	}
}

// TestR12OtherSources shows that a handler of another mechanism of the plugin,
// such as one of events, takes the same worker: a request that it waits for, and
// that comes back, is refused.
func TestR12OtherSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := actor.NewGroup()
		r := newRouter(t, router.Options{Actors: group})
		shared := group.New()
		other := newSource(shared)
		a, err := r.Client("a", router.ClientOptions{Actor: shared})
		require.NoError(t, err)
		b := join(t, r, "b")
		handle(t, a, "note", echo)
		var back error
		handle(t, b, "back", func(ctx context.Context, _ router.Message) (any, error) {
			_, back = b.Send(ctx, "a", "note", nil)
			return nil, nil
		})
		var self, out error
		other.do(chain.Chain{}.Then("emitter"), func(ctx context.Context) {
			_, self = a.Send(ctx, "a", "note", nil)
			_, out = a.Send(ctx, "b", "back", nil)
		})
		synctest.Wait()
		require.Equal(t, plugbus.ReasonCycle, denial(t, self).Reason)
		require.NoError(t, out)
		require.Equal(t, plugbus.ReasonCycle, denial(t, back).Reason)
		require.Equal(t, []string{"emitter", "a", "b"}, denial(t, back).Chain.Plugins())
		require.NoError(t, r.Close(t.Context()))
		shared.Retire()
		require.NoError(t, group.Close(t.Context()))
	})
}

// TestDepth bounds the chain of plugins, however they pass a message on.
func TestDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MaxDepth: 5})
		hops := 0
		var last error
		for i := range 2 {
			c := join(t, r, fmt.Sprintf("c%d", i))
			handle(t, c, "ping", func(context.Context, router.Message) (any, error) {
				hops++
				err := c.Post(context.Background(), fmt.Sprintf("c%d", 1-i), "ping", nil) //nolint:contextcheck // Its own chain is known.
				if err != nil {
					last = err
				}
				return nil, nil
			})
		}
		post(t, join(t, r, "x"), "c0", "ping", nil)
		synctest.Wait()
		require.Equal(t, 5, hops)
		require.Equal(t, plugbus.ReasonChainTooDeep, denial(t, last).Reason)
		require.True(t, slices.Equal([]string{"x", "c0", "c1", "c0", "c1"}, denial(t, last).Chain.Plugins()), "%v", denial(t, last).Chain)
	})
}
