package router_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR19Deduplicate drops the second message with one client id, of every kind,
// and for as long as the window.
func TestR19Deduplicate(t *testing.T) {
	for _, kind := range kinds {
		for _, scope := range scopes {
			synctest.Test(t, func(t *testing.T) {
				what := fmt.Sprintf("%v, %d", kind, len(scope))
				r, law := newRouter(t, router.Options{}), newRules()
				got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
				use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{Window: time.Minute}), scope...)
				one := kind == router.KindPublish && scope != nil
				send := func(id string) bool {
					var options []router.SendOption
					if id != "" {
						options = append(options, router.ClientID(id))
					}
					receipt, err := act(t.Context(), c, kind, options...)
					synctest.Wait()
					if one {
						require.NoError(t, err)
						return receipt.Accepted == 1
					}
					if err != nil {
						denied := denial(t, err)
						require.Equal(t, plugbus.ReasonMiddleware, denied.Reason)
						require.ErrorIs(t, err, router.ErrDuplicate)
						require.ErrorContains(t, err, fmt.Sprintf("%q", id))
					}
					return err == nil
				}
				require.True(t, send("1"), what)
				require.False(t, send("1"), what)
				require.True(t, send("2"), what)
				require.True(t, send(""), what)
				require.True(t, send(""), "without an id there are no duplicates")
				pass(time.Minute - 1)
				require.False(t, send("1"), what)
				require.False(t, send("2"), "asking does not renew it")
				pass(1)
				require.True(t, send("1"), what)
				require.True(t, send("2"), what)
				require.Len(t, got.read(), 6, what)
				require.Len(t, law.refusals(), 3, what)
				require.ErrorIs(t, law.refusals()[0].Cause, router.ErrDuplicate)
				require.EqualValues(t, 3, r.Ledger().Refused, what)
			})
		}
	}
}

// TestR19DuplicateOfWhat shows what makes two messages the same: sender, recipient
// or topic, kind, and the id.
func TestR19DuplicateOfWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		got := clerk(t, r)
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "do", got.write)
		handle(t, b, "do.other", got.write)
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{}))
		id := router.ClientID("1")
		for _, c := range []*router.Client{a, b} {
			for _, kind := range kinds {
				_, err := act(t.Context(), c, kind, id)
				require.NoError(t, err, "%v", kind)
				_, err = act(t.Context(), c, kind, id)
				require.ErrorIs(t, err, router.ErrDuplicate, "%v", kind)
			}
		}
		post(t, a, "b", "do", nil, id)
		require.ErrorIs(t, a.Post(t.Context(), "b", "do.other", nil, id), router.ErrDuplicate)
		_, err := a.Publish(t.Context(), "other", nil, id)
		require.NoError(t, err)
		require.NoError(t, r.Idle(t.Context()))
		require.Len(t, got.read(), 9)
	})
}

// TestR19DeduplicateHandlersApart shows that a plugin with two handlers of a topic
// gets one delivery for each, through its own middleware too.
func TestR19DeduplicateHandlersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		for _, pattern := range []string{"news.*", "news.sport"} {
			_, err := b.HandleTopic(pattern, func(context.Context, router.Message) error { return nil })
			require.NoError(t, err)
		}
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{}), router.ForTarget("b"))
		for _, accepted := range []int{2, 0} {
			receipt, err := a.Publish(t.Context(), "news.sport", nil, router.ClientID("1"))
			require.NoError(t, err)
			require.Equal(t, accepted, receipt.Accepted)
		}
	})
}

// TestR19Forgotten shows that a message can be tried again that was not accepted,
// whose handler did nothing, or that its handler lets be tried again; and no other.
func TestR19Forgotten(t *testing.T) {
	for _, test := range []struct {
		happens   string
		forgotten bool
		first     func(t *testing.T, law *rules, c *router.Client, g *gate) error
	}{
		{"denied", true, func(t *testing.T, law *rules, c *router.Client, _ *gate) error {
			law.deny(plugbus.VerbSend, "b")
			defer law.allow(plugbus.VerbSend, "b")
			_, err := c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			return err
		}},
		{"no handler", true, func(t *testing.T, _ *rules, c *router.Client, _ *gate) error {
			_, err := c.Send(t.Context(), "b", "other", "ok", router.ClientID("1"))
			return err
		}},
		{"full", true, func(t *testing.T, _ *rules, c *router.Client, g *gate) error {
			for range 2 {
				post(t, c, "b", "wait", nil)
				synctest.Wait()
			}
			_, err := c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			g.open()
			synctest.Wait()
			return err
		}},
		{"the time is over before it starts", true, func(t *testing.T, _ *rules, c *router.Client, g *gate) error {
			post(t, c, "b", "wait", nil)
			synctest.Wait()
			_, err := c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			g.open()
			synctest.Wait()
			return err
		}},
		{"retryable", true, func(t *testing.T, _ *rules, c *router.Client, _ *gate) error {
			_, err := c.Send(t.Context(), "b", "do", "later", router.ClientID("1"))
			return err
		}},
		{"failed", false, func(t *testing.T, _ *rules, c *router.Client, _ *gate) error {
			_, err := c.Send(t.Context(), "b", "do", "never", router.ClientID("1"))
			return err
		}},
		{"the time is over after it started", false, func(t *testing.T, _ *rules, c *router.Client, g *gate) error {
			_, err := c.Send(t.Context(), "b", "wait", nil, router.ClientID("1"))
			g.open()
			synctest.Wait()
			return err
		}},
		{"handled", false, func(t *testing.T, _ *rules, c *router.Client, _ *gate) error {
			_, err := c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			require.NoError(t, err)
			return context.Canceled
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, law := newRouter(t, router.Options{MailboxMessages: 1}), newRules()
			b, c := join(t, r, "b"), join(t, r, "a", law.guard("a"))
			g := closedGate(t)
			handle(t, b, "wait", g.then(echo))
			handle(t, b, "do", func(_ context.Context, m router.Message) (any, error) {
				switch m.Data() {
				case "later":
					return nil, &plugbus.RemoteError{Retryable: true}
				case "never":
					return nil, &plugbus.RemoteError{}
				}
				return nil, nil
			})
			use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{}))
			require.Error(t, test.first(t, law, c, g), test.happens)
			_, err := c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			if test.forgotten {
				require.NoError(t, err, test.happens)
				_, err = c.Send(t.Context(), "b", "do", "ok", router.ClientID("1"))
			}
			require.ErrorIs(t, err, router.ErrDuplicate, test.happens)
		})
	}
}

// TestR19ForgottenPublication shows that a publication that no mailbox took can be
// tried again, and that one which the sender does not hear of counts.
func TestR19ForgottenPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		b, c := join(t, r, "hidden"), join(t, r, "a", law.guard("a"))
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{}))
		publish := func() error {
			receipt, err := c.Publish(t.Context(), "news", nil, router.ClientID("1"))
			require.Zero(t, receipt.Matched)
			return err
		}
		require.NoError(t, publish())
		require.NoError(t, publish(), "nobody got it")
		law.change(func() { law.unknown["hidden"] = true })
		_, err := b.HandleTopic("news", func(context.Context, router.Message) error { return nil })
		require.NoError(t, err)
		require.NoError(t, publish())
		require.ErrorIs(t, publish(), router.ErrDuplicate)
	})
}

// TestR19RetryAndDeduplicate shows that the two go together in either order.
func TestR19RetryAndDeduplicate(t *testing.T) {
	for _, names := range [][]string{{"retry", "dedup"}, {"dedup", "retry"}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			b, c := join(t, r, "b"), join(t, r, "a")
			calls := 0
			handle(t, b, "do", func(context.Context, router.Message) (any, error) {
				if calls++; calls < 3 {
					return nil, &plugbus.RemoteError{Retryable: true}
				}
				return "done", nil
			})
			for _, name := range names {
				use(t, r, name, map[string]router.Middleware{
					"retry": router.Retry(exact), "dedup": router.Deduplicate(router.DeduplicateOptions{}),
				}[name])
			}
			reply, err := c.Send(t.Context(), "b", "do", nil, router.ClientID("1"))
			require.NoError(t, err)
			require.Equal(t, "done", reply.Data())
			_, err = c.Send(t.Context(), "b", "do", nil, router.ClientID("1"))
			require.ErrorIs(t, err, router.ErrDuplicate)
			require.Equal(t, 3, calls)
		})
	}
}

// TestR19Share shows that a sender cannot make the router forget the messages of
// others, and that its own make way, the oldest first.
func TestR19Share(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 1_000_000})
		clerk(t, r)
		good, bad := join(t, r, "good"), join(t, r, "bad")
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{Size: 3}))
		first := func(c *router.Client, id int) bool {
			return c.Post(t.Context(), "clerk", "do", nil, router.ClientID(fmt.Sprint(id))) == nil
		}
		require.True(t, first(good, 1))
		for id := range 2000 {
			require.True(t, first(bad, id))
		}
		require.False(t, first(good, 1))
		for id := 1997; id < 2000; id++ {
			require.False(t, first(bad, id))
		}
		require.True(t, first(bad, 1996), "it was forgotten")
		require.True(t, first(bad, 1997), "it made way for that")
		require.False(t, first(bad, 1999))
		require.True(t, first(bad, 7))
		require.True(t, first(bad, 1999), "asking has not made it younger")
		require.False(t, first(good, 1))
		require.NoError(t, r.Idle(t.Context()))
	})
}

// TestR19AtOnce sends one message many times at once: one comes through.
func TestR19AtOnce(t *testing.T) {
	for _, kind := range kinds {
		r := newRouter(t, router.Options{})
		got, c := clerk(t, r), join(t, r, "a")
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{}))
		var wg sync.WaitGroup
		var accepted atomic.Int32
		for range 20 {
			wg.Go(func() {
				if _, err := act(t.Context(), c, kind, router.ClientID("1")); err == nil {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 1, accepted.Load())
		require.Len(t, got.read(), 1)
	}
}

// TestR19ForgetsItsOwn shows that a message which is forgotten late does not take
// the mark of a later one with it.
func TestR19ForgetsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		handle(t, b, "do", echo)
		hold := make(chan bool)
		use(t, r, "dedup", router.Deduplicate(router.DeduplicateOptions{Window: time.Second}))
		use(t, r, "hold", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			if d.Data == "slow" {
				<-hold
				return router.Response{}, context.Canceled
			}
			return next(ctx, d)
		}))
		send := func(data string) error {
			_, err := c.Send(t.Context(), "b", "do", data, router.ClientID("1"))
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() { require.ErrorIs(t, send("slow"), context.Canceled) })
		pass(time.Second)
		require.NoError(t, send("fast"))
		close(hold)
		wg.Wait()
		require.ErrorIs(t, send("fast"), router.ErrDuplicate)
	})
}
