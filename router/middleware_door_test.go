package router_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR1TheDoorSeesWhatMiddlewareMade shows that middleware cannot bring anything
// past the door: the message as it left the last one is checked, not as the plugin
// gave it.
func TestR1TheDoorSeesWhatMiddlewareMade(t *testing.T) {
	for _, test := range []struct {
		makes  string
		change func(*router.Draft)
		reason plugbus.Reason
		kinds  []router.Kind // nil for all
		scopes int           // 0 for both; 1 for middlewares for all
	}{
		{"it bigger", func(d *router.Draft) { d.Data = strings.Repeat("x", 1000) }, plugbus.ReasonTooLarge, nil, 0},
		{"a script", func(d *router.Draft) { d.Data = []string{"<script>"} }, plugbus.ReasonInvalidContent, nil, 0},
		{"a script in a header", func(d *router.Draft) { d.Headers = map[string]string{"k": "<script>"} }, plugbus.ReasonInvalidContent, nil, 0},
		{"a script in an id", func(d *router.Draft) { d.CorrelationID = "<script>" }, plugbus.ReasonInvalidContent, nil, 0},
		{"what no message can carry", func(d *router.Draft) { d.Data = make(chan int) }, plugbus.ReasonInvalidPayload, nil, 0},
		{"it shared", func(d *router.Draft) { d.Data = plugbus.Shared(7) }, plugbus.ReasonSharedNotGranted, nil, 0},
		{"it urgent", func(d *router.Draft) { d.Priority = plugbus.PriorityHigh }, plugbus.ReasonPriorityNotGranted, nil, 0},
		{"a priority that is none", func(d *router.Draft) { d.Priority = 7 }, plugbus.ReasonMiddleware, nil, 0},
		{"an id that is too long", func(d *router.Draft) { d.ClientID = strings.Repeat("x", 257) }, plugbus.ReasonMiddleware, nil, 0},
		{"another target", func(d *router.Draft) { d.To = "vault" }, plugbus.ReasonDeniedByRule, kinds[:3], 0},
		{"a target that is none", func(d *router.Draft) { d.To = "a b" }, plugbus.ReasonInvalidName, kinds[:3], 0},
		{"no target", func(d *router.Draft) { d.To = "" }, plugbus.ReasonInvalidName, kinds[:3], 0},
		{"a type that is none", func(d *router.Draft) { d.Type = "a b" }, plugbus.ReasonInvalidName, kinds[:3], 0},
		{"a topic that is none", func(d *router.Draft) { d.Type = "a b" }, plugbus.ReasonInvalidName, kinds[3:], 1},
		{"another topic", func(d *router.Draft) { d.Type = "secret" }, plugbus.ReasonDeniedByRule, kinds[3:], 1},
		{"a message of a publication", func(d *router.Draft) { d.To = "clerk" }, plugbus.ReasonMiddleware, kinds[3:], 1},
		{"another recipient of a publication", func(d *router.Draft) { d.To = "vault" }, plugbus.ReasonMiddleware, kinds[3:], 0},
		{"another topic for one recipient", func(d *router.Draft) { d.Type = "other" }, plugbus.ReasonMiddleware, kinds[3:], 2},
	} {
		for _, kind := range kinds {
			if test.kinds != nil && test.kinds[0] != kind && (len(test.kinds) == 1 || kind == router.KindPublish) {
				continue
			}
			for i, scope := range scopes {
				if test.scopes != 0 && test.scopes != i+1 {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("makes %s, %v, %d", test.makes, kind, i)
					r, law := newRouter(t, router.Options{}), newRules()
					law.deny(plugbus.VerbSend, "vault")
					law.deny(plugbus.VerbPublish, "secret")
					law.change(func() {
						law.priority = plugbus.PriorityNormal
						law.payload = plugbus.PayloadRules{MaxBytes: 999, Content: plugbus.CheckAll}
					})
					got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
					vault := join(t, r, "vault")
					handle(t, vault, "do", got.write)
					_, err := vault.HandleTopic("secret", func(ctx context.Context, m router.Message) error {
						_, _ = got.write(ctx, m)
						return nil
					})
					require.NoError(t, err)
					use(t, r, "odd", rewrite(test.change), scope...)
					receipt, err := act(t.Context(), c, kind)
					if kind == router.KindPublish && i == 1 {
						require.NoError(t, err, what)
						require.Equal(t, []string{"clerk"}, receipt.Refused, what)
						require.Equal(t, 1, receipt.Matched, what)
					} else {
						require.Equal(t, test.reason, denial(t, err).Reason, "%s: %v", what, err)
					}
					require.NoError(t, r.Idle(t.Context()))
					require.Empty(t, got.read(), what)
					require.Len(t, law.refusals(), 1, what)
					require.Equal(t, test.reason, law.refusals()[0].Reason, "%s: %v", what, law.refusals()[0])
					require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger(), what)
				})
			}
		}
	}
}

// TestR1TheDoorSeesNothingElse shows that what the plugin gave may be what the door
// would refuse, if middleware mended it; and that nothing is charged for it.
func TestR1TheDoorSeesNothingElse(t *testing.T) {
	for _, kind := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			acts, bytes := newMeter(2, -1), newMeter(4, -1)
			law.change(func() { law.acts, law.bytes, law.payload = acts, bytes, plugbus.PayloadRules{MaxBytes: 2} })
			got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
			use(t, r, "mend", rewrite(func(d *router.Draft) { d.Data = "ok" }))
			_, err := act(t.Context(), c, kind)
			require.NoError(t, err)
			require.NoError(t, r.Idle(t.Context()))
			require.Equal(t, []any{"ok"}, got.data())
			require.EqualValues(t, 1, acts.left.Load())
			require.EqualValues(t, 2, bytes.left.Load())
		})
	}
}

// TestR1RedirectIsCheckedForItsTarget shows that a message which middleware sends
// elsewhere needs the rights for that place: those of both sides.
func TestR1RedirectIsCheckedForItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law, lawB := newRouter(t, router.Options{}), newRules(), newRules()
		got, c := clerk(t, r), join(t, r, "a", law.guard("a"))
		b := join(t, r, "b", lawB.guard("b"))
		handle(t, b, "do", got.write)
		use(t, r, "redirect", rewrite(func(d *router.Draft) { d.To = "b" }), router.ForTarget("clerk"))
		law.deny(plugbus.VerbSend, "clerk") // Which nobody asks for.
		_, err := c.Send(t.Context(), "clerk", "do", nil)
		require.NoError(t, err)
		require.Equal(t, "b", got.read()[0].To())
		lawB.deny(plugbus.VerbReceive, "a")
		_, err = c.Send(t.Context(), "clerk", "do", nil)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, denial(t, err).Reason)
		law.change(func() { law.unknown["b"] = true })
		require.NoError(t, b.Close(t.Context()))
		_, err = c.Send(t.Context(), "clerk", "do", nil)
		require.Equal(t, plugbus.ReasonUnknownPlugin, denial(t, err).Reason)
	})
}

// TestR4PublicationMiddleware shows that middleware for all runs once for a
// publication, whoever it reaches, and that of a recipient once for each of its
// handlers, after the recipients are known.
func TestR4PublicationMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		c := join(t, r, "a", law.guard("a"))
		bytes := newMeter(1000, -1)
		law.change(func() { law.bytes, law.acts = bytes, newMeter(1, -1) })
		got := &diary{}
		topic := func(ctx context.Context, m router.Message) error {
			_, _ = got.write(ctx, m)
			return nil
		}
		for _, id := range []string{"b", "c", "d"} {
			client := join(t, r, id)
			for _, pattern := range []string{"news.*", "news.sport"}[:1+len(id)%2] {
				_, err := client.HandleTopic(pattern, topic)
				require.NoError(t, err)
			}
		}
		ran := map[string]int{}
		use(t, r, "all", rewrite(func(d *router.Draft) {
			ran["all"]++
			require.Empty(t, d.To)
			require.Equal(t, "news.today", d.Type)
			d.Type = "news.sport"
			d.Headers = map[string]string{"by": "all"}
		}))
		use(t, r, "of.c", rewrite(func(d *router.Draft) {
			ran["of.c"]++
			require.Equal(t, "c", d.To)
			require.Equal(t, "news.sport", d.Type)
			require.Equal(t, "a", d.From())
			require.Equal(t, map[string]string{"by": "all"}, d.Headers, "what it did for another handler is not seen")
			d.Headers["by"] = fmt.Sprint("c", ran["of.c"])
			d.Data = "for c"
			d.Priority = plugbus.PriorityLow
		}), router.ForTarget("c"))
		use(t, r, "of.nobody", rewrite(func(*router.Draft) { ran["of.nobody"]++ }), router.ForTarget("nobody"))
		receipt, err := c.Publish(t.Context(), "news.today", "data")
		require.NoError(t, err)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, map[string]int{"all": 1, "of.c": 2}, ran)
		require.Equal(t, 6, receipt.Matched)
		require.Equal(t, 6, receipt.Accepted)
		seen := map[string]string{}
		for _, m := range got.read() {
			require.Equal(t, receipt.ID, m.ID())
			key := fmt.Sprint(m.To(), " ", m.Pattern(), " ", m.Delivery())
			seen[key] = fmt.Sprint(m.Data(), " ", m.Header("by"), " ", m.Priority(), " ", m.Size())
		}
		require.Equal(t, map[string]string{
			"b news.* 1": "data all normal 41", "b news.sport 2": "data all normal 41",
			"c news.* 1": "for c c1 low 41", "c news.sport 2": "for c c2 low 41",
			"d news.* 1": "data all normal 41", "d news.sport 2": "data all normal 41",
		}, seen)
		require.EqualValues(t, 1000-41, bytes.left.Load(), "it is charged once, whoever it reaches")
		require.EqualValues(t, 6, r.Ledger().Handled)
	})
}

// TestR4PublicationReceipt shows what a publication's receipt says where the
// middleware of one recipient has a word.
func TestR4PublicationReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{MailboxMessages: 4}), newRules()
		c := join(t, r, "a", law.guard("a"))
		g := closedGate(t)
		got := &diary{}
		topic := func(ctx context.Context, m router.Message) error {
			g.pass()
			_, _ = got.write(ctx, m)
			return nil
		}
		for _, id := range []string{"b", "full", "refuser", "hidden", "stopped", "greedy"} {
			guard := newRules()
			if id == "refuser" {
				guard.deny(plugbus.VerbConsume, "news")
			}
			_, err := join(t, r, id, guard.guard(id)).HandleTopic("news", topic, router.Narrow())
			require.NoError(t, err)
		}
		law.change(func() { law.unknown["hidden"] = true })
		var errs []error
		for _, id := range []string{"full", "refuser", "hidden"} {
			use(t, r, id, through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
				response, err := next(ctx, d)
				errs = append(errs, err)
				return response, err
			}), router.ForTarget(id))
		}
		use(t, r, "greedy", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			response, err := next(ctx, d)
			synctest.Wait()
			for range 2 { // The mailbox gets full.
				_, _ = next(ctx, d)
			}
			return response, err
		}), router.ForTarget("greedy"))
		use(t, r, "stop", through(func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
			return router.Response{}, nil
		}), router.ForTarget("stopped"))
		for n := range 2 { // One runs, and one has the sender's share.
			receipt, err := c.Publish(t.Context(), "news", 0)
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, "stopped", receipt.Refused[len(receipt.Refused)-1])
			require.Equal(t, n == 0, len(receipt.Full) == 0, "the first try was accepted, and that counts: %v", receipt)
		}
		errs = nil
		receipt, err := c.Publish(t.Context(), "news", 1)
		require.NoError(t, err)
		require.Equal(t, router.Receipt{
			ID: receipt.ID, Matched: 5, Refused: []string{"refuser", "stopped"}, Full: []string{"b", "full", "greedy"},
		}, receipt)
		require.Len(t, errs, 3)
		require.ErrorIs(t, errs[0], router.ErrQueueFull)
		require.ErrorIs(t, errs[1], plugbus.ErrDenied)
		require.ErrorIs(t, errs[2], router.ErrQueueFull)
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		require.NoError(t, r.Ledger().Check())
	})
}

// TestR4HandlerLeavesMeanwhile removes a topic handler while a middleware of its
// plugin has the publication.
func TestR4HandlerLeavesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		route, err := b.HandleTopic("news", func(context.Context, router.Message) error { return nil })
		require.NoError(t, err)
		use(t, r, "slow", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			route.Remove()
			response, err := next(ctx, d)
			require.ErrorIs(t, err, router.ErrNoHandler)
			return response, err
		}), router.ForTarget("b"))
		receipt, err := c.Publish(t.Context(), "news", nil)
		require.NoError(t, err)
		require.Equal(t, router.Receipt{ID: receipt.ID}, receipt)
	})
}

// TestStreamThroughMiddleware shows that a stream which middleware lets through is
// as good as another, and that one that nobody gets to read is ended.
func TestStreamThroughMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		ended := 0
		_, err := b.HandleStream("count", func(_ context.Context, m router.Message, yield func(any) bool) error {
			for i := range m.Data().(int) {
				if !yield(i) {
					ended++
					return nil
				}
			}
			return nil
		})
		require.NoError(t, err)
		use(t, r, "plain", rewrite(func(*router.Draft) {}))
		sum := func(n, most int) (sum int, err error) {
			for chunk, err := range c.Stream(t.Context(), "b", "count", n) {
				if err != nil {
					return sum, err
				}
				if sum += chunk.Data().(int); sum > most {
					break
				}
			}
			return sum, nil
		}
		got, err := sum(100, 1<<20)
		require.NoError(t, err)
		require.Equal(t, 4950, got)
		got, err = sum(100, 50)
		require.NoError(t, err)
		require.Equal(t, 55, got)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, 1, ended)

		use(t, r, "second.thoughts", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			response, err := next(ctx, d)
			require.NoError(t, err)
			require.Equal(t, "b", response.From())
			synctest.Wait() // Its handler waits for a reader.
			return response, context.Canceled
		}))
		got, err = sum(100, 50)
		require.Equal(t, context.Canceled, err)
		require.Zero(t, got)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, 2, ended, "the handler was told that nobody reads")

		require.True(t, r.Unuse("second.thoughts"))
		use(t, r, "stubborn", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			response, err := next(ctx, d.Clone())
			require.NoError(t, err)
			d.To = "nobody"
			_, other := next(ctx, d)
			require.ErrorIs(t, other, router.ErrUnknownTarget)
			return response, err
		}))
		got, err = sum(10, 50)
		require.NoError(t, err, "the one that was opened is read")
		require.Equal(t, 45, got)
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 4, r.Ledger().Handled)
	})
}

// TestNeedlessStreams shows that a stream which middleware has replaced by another,
// or opened when the sender had its answer, ends at once.
func TestNeedlessStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		_, err := b.HandleStream("wait", func(ctx context.Context, m router.Message, yield func(any) bool) error {
			if m.Data() == "quick" {
				yield("done")
				return nil
			}
			<-ctx.Done()
			return nil
		}, router.Concurrent(9))
		require.NoError(t, err)
		var late sync.WaitGroup
		slow := make(chan bool)
		use(t, r, "odd", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			_, err := next(ctx, d.Clone())
			require.NoError(t, err)
			late.Go(func() { _, _ = next(ctx, d.Clone()) })
			synctest.Wait() // It is on its way.
			d.Data = "quick"
			return next(ctx, d)
		}))
		use(t, r, "slow", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
			if d.Data != "quick" && r.Ledger().Accepted > 0 {
				<-slow
			}
			return next(ctx, d)
		}))
		start := time.Now()
		var got []any
		for chunk, err := range c.Stream(t.Context(), "b", "wait", "") {
			require.NoError(t, err)
			got = append(got, chunk.Data())
		}
		require.Equal(t, []any{"done"}, got)
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 2, r.Ledger().Handled)
		close(slow)
		late.Wait()
		require.NoError(t, r.Idle(t.Context()))
		require.EqualValues(t, 3, r.Ledger().Handled)
		require.Zero(t, time.Since(start))
	})
}

// TestNoMiddlewareNoCost shows that a router without middleware, or whose
// middlewares were removed, allocates nothing for it.
func TestNoMiddlewareNoCost(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 1_000_000})
	b, c := join(t, r, "b"), join(t, r, "a")
	handle(t, b, "do", func(context.Context, router.Message) (any, error) { return nil, nil })
	send := func() {
		if _, err := c.Send(context.Background(), "b", "do", nil); err != nil {
			t.Error(err)
		}
	}
	bare := testing.AllocsPerRun(200, send)
	use(t, r, "plain", rewrite(func(*router.Draft) {}))
	require.Greater(t, testing.AllocsPerRun(200, send), bare+3, "the test can tell")
	require.True(t, r.Unuse("plain"))
	require.InDelta(t, bare, testing.AllocsPerRun(200, send), 1)
}
