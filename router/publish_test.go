package router_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

func handleTopic(t testing.TB, c *router.Client, pattern string, h router.Handler, options ...router.HandleOption) *router.Route {
	t.Helper()
	route, err := c.HandleTopic(pattern, func(ctx context.Context, m router.Message) error {
		_, err := h(ctx, m)
		return err
	}, options...)
	require.NoError(t, err)
	return route
}

func publish(t testing.TB, c *router.Client, topic string, data any, options ...router.SendOption) router.Receipt {
	t.Helper()
	receipt, err := c.Publish(t.Context(), topic, data, options...)
	require.NoError(t, err)
	return receipt
}

// told lists the deliveries of a diary: to whom, for which pattern, with which
// number.
func (d *diary) told() []string {
	var all []string
	for _, m := range d.read() {
		all = append(all, fmt.Sprint(m.To(), " ", m.Pattern(), " ", m.Delivery()))
	}
	return all
}

// TestR18TopicPatterns shows that topics have the patterns of events: a leading
// wildcard leaves out the hub's own names.
func TestR18TopicPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, topic string
		match          bool
	}{
		{"news.sport", "news.sport", true},
		{"news.sport", "news:sport", false},
		{"news.*", "news.sport", true},
		{"news.*", "news.sport.tennis", false},
		{"news.**", "news.sport.tennis", true},
		{"news.**", "news", false},
		{"*.sport", "news.sport", true},
		{"**", "news.sport", true},
		{"**", "plugin:registered", false},
		{"*:registered", "hub:registered", false},
		{"plugin:*", "plugin:registered", true},
		{"hub:**", "hub:any.thing", true},
	} {
		t.Run(test.pattern+" "+test.topic, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			a, b := join(t, r, "a"), join(t, r, "b")
			got := &diary{}
			route := handleTopic(t, b, test.pattern, got.write)
			require.Equal(t, test.pattern, route.Type())
			receipt := publish(t, a, test.topic, "x")
			require.NoError(t, r.Idle(t.Context()))
			if !test.match {
				require.Zero(t, receipt.Matched)
				require.Empty(t, got.read())
				require.Zero(t, r.Ledger(), "that nobody handles a topic is no failure")
				return
			}
			require.Equal(t, 1, receipt.Accepted)
			require.Len(t, got.read(), 1)
			m := got.read()[0]
			require.Equal(t, test.topic, m.Type())
			require.Equal(t, test.pattern, m.Pattern())
			require.Equal(t, router.KindPublish, m.Kind())
			require.Equal(t, "a", m.From())
		})
	}
}

// TestR17OneID publishes to handlers of several plugins: the id is one, the
// payload is each recipient's own, and two handlers of one plugin are two
// deliveries, each of which names its pattern (R18).
func TestR17OneID(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
	got := &diary{}
	handleTopic(t, c, "news.*", got.write)
	handleTopic(t, b, "news.sport", got.write)
	handleTopic(t, b, "news.**", got.write)
	handleTopic(t, b, "news.*", got.write)
	handleTopic(t, a, "**", got.write)
	receipt := publish(t, a, "news.sport", []string{"goal"}, router.CorrelationID("match"), router.Headers(map[string]string{"k": "v"}))
	require.NoError(t, r.Idle(t.Context()))
	require.Equal(t, router.Receipt{ID: receipt.ID, Matched: 5, Accepted: 5}, receipt)
	require.ElementsMatch(t, []string{"a ** 1", "b news.sport 1", "b news.** 2", "b news.* 3", "c news.* 1"}, got.told())
	for _, m := range got.read() {
		require.Equal(t, receipt.ID, m.ID())
		require.Equal(t, "match", m.CorrelationID())
		require.Equal(t, "v", m.Header("k"))
		require.Equal(t, []string{"goal"}, m.Data())
		m.Data().([]string)[0] = "changed by one recipient"
	}
	require.Equal(t, plugbus.Ledger{Offered: 5, Accepted: 5, Handled: 5}, r.Ledger())
}

// TestPublishOrder publishes from several plugins at a time: what one publishes
// arrives in its order, at every handler.
func TestPublishOrder(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 100_000})
	b, c := join(t, r, "b"), join(t, r, "c")
	got := map[*router.Client]*diary{b: {}, c: {}}
	for client, notes := range got {
		handleTopic(t, client, "n.*", notes.write)
	}
	const each = 500
	done := make(chan struct{})
	for i := range 3 {
		from := join(t, r, fmt.Sprint("from", i))
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range each {
				if _, err := from.Publish(context.Background(), fmt.Sprint("n.", n%2), n); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for range 3 {
		<-done
	}
	require.NoError(t, r.Idle(t.Context()))
	for _, notes := range got {
		next := map[string]int{}
		for _, m := range notes.read() {
			require.Equal(t, next[m.From()], m.Data())
			next[m.From()]++
		}
		require.Equal(t, map[string]int{"from0": each, "from1": each, "from2": each}, next)
	}
}

// TestR16Receipt publishes to recipients that take it, that may not have it, and
// that have no room. The sender hears of those that it may know of, and of the
// others nothing, not even a count.
func TestR16Receipt(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, law, strict := newRouter(t, router.Options{MailboxMessages: 4}), newRules(), newRules()
				a := join(t, r, "a", law.guard("a"))
				strict.deny(plugbus.VerbConsume, "news.sport")
				got := &diary{}
				clients := map[string]*router.Client{}
				for _, id := range []string{"full", "good", "picky", "refused"} {
					if id == "refused" {
						clients[id] = join(t, r, id, strict.guard(id))
					} else {
						clients[id] = join(t, r, id)
					}
				}
				g := closedGate(t)
				handle(t, clients["full"], "wait", g.then(echo))
				post(t, a, "full", "wait", nil)
				synctest.Wait()
				post(t, a, "full", "wait", nil) // Its share is one.
				handleTopic(t, clients["full"], "news.*", got.write)
				handleTopic(t, clients["full"], "news.sport", got.write)
				handleTopic(t, clients["good"], "news.*", got.write)
				handleTopic(t, clients["picky"], "news.*", got.write, router.Senders(nil, []string{"a"}))
				handleTopic(t, clients["refused"], "news.*", got.write, router.Narrow())
				if !known {
					law.change(func() {
						for id := range clients {
							law.unknown[id] = true
						}
					})
				}
				before := r.Ledger()
				receipt := publish(t, a, "news.sport", "x")
				after := r.Ledger()
				require.NoError(t, after.Check())
				require.EqualValues(t, 5, after.Offered-before.Offered)
				require.EqualValues(t, 2, after.Full-before.Full)
				require.EqualValues(t, 2, after.Refused-before.Refused)
				require.NotZero(t, receipt.ID)
				if known {
					require.Equal(t, router.Receipt{
						ID: receipt.ID, Matched: 5, Accepted: 1, Refused: []string{"picky", "refused"}, Full: []string{"full", "full"},
					}, receipt)
				} else {
					require.Equal(t, router.Receipt{ID: receipt.ID}, receipt)
				}
				g.open()
				require.NoError(t, r.Idle(t.Context()))
				require.Equal(t, []string{"good news.* 1"}, got.told())
				require.Len(t, law.refusals(), 2)
				for i, id := range []string{"picky", "refused"} { // For the record; the others are served.
					one := law.refusals()[i]
					require.Equal(t, plugbus.ReasonRecipientCannotReceive, one.Reason)
					require.Equal(t, plugbus.VerbPublish, one.Verb)
					require.ErrorContains(t, one.Cause, strconv.Quote(id))
				}
			})
		})
	}
}

// TestR15OneDoor has the door refuse publications: nobody gets anything.
func TestR15OneDoor(t *testing.T) {
	for _, test := range []struct {
		name    string
		law     func(*rules)
		data    any
		reason  plugbus.Reason
		options []router.SendOption
	}{
		{name: "right", law: func(l *rules) { l.deny(plugbus.VerbPublish, "news") }, reason: plugbus.ReasonDeniedByRule},
		{name: "rate", law: func(l *rules) { l.acts = newMeter(0, time.Second) }, reason: plugbus.ReasonRateLimitExceeded},
		{name: "bytes", law: func(l *rules) { l.bytes = newMeter(3, time.Second) }, data: "four", reason: plugbus.ReasonByteRateExceeded},
		{name: "size", law: func(l *rules) { l.payload.MaxBytes = 3 }, data: "four", reason: plugbus.ReasonTooLarge},
		{name: "payload", data: make(chan int), reason: plugbus.ReasonInvalidPayload},
		{name: "headers", law: func(l *rules) { l.payload.MaxBytes = 100 }, options: []router.SendOption{router.Headers(map[string]string{"k": strings.Repeat("v", 100)})}, reason: plugbus.ReasonTooLarge},
		{name: "content", law: func(l *rules) { l.payload.Content = plugbus.CheckAll }, data: []string{"<script>"}, reason: plugbus.ReasonInvalidContent},
		{name: "shared", data: plugbus.Shared(1), reason: plugbus.ReasonSharedNotGranted},
		{name: "priority", law: func(l *rules) { l.priority = plugbus.PriorityNormal }, options: []router.SendOption{router.Priority(plugbus.PriorityHigh)}, reason: plugbus.ReasonPriorityNotGranted},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			if test.law != nil {
				law.change(func() {})
				test.law(law)
			}
			a, b := join(t, r, "a", law.guard("a")), join(t, r, "b")
			got := &diary{}
			handleTopic(t, b, "news", got.write)
			handleTopic(t, b, "*", got.write)
			receipt, err := a.Publish(t.Context(), "news", test.data, test.options...)
			require.Equal(t, test.reason, denial(t, err).Reason)
			require.Zero(t, receipt)
			require.Len(t, law.refusals(), 1)
			require.Equal(t, plugbus.VerbPublish, law.refusals()[0].Verb)
			require.Equal(t, "news", law.refusals()[0].Object)
			require.NoError(t, r.Idle(t.Context()))
			require.Empty(t, got.read())
			require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger())
			require.EqualValues(t, 1, mailboxOf(t, r, "a").Refused)
		})
	}
}

// TestPublishBadTopics refuses topics that are none, and what is no option of
// Publish.
func TestPublishBadTopics(t *testing.T) {
	r := newRouter(t, router.Options{})
	a := join(t, r, "a")
	for _, name := range []string{"", "a..b", "a.*", "**", " a", strings.Repeat("x", 256)} {
		_, err := a.Publish(t.Context(), name, nil)
		require.Equal(t, plugbus.ReasonInvalidName, denial(t, err).Reason, "%q", name)
	}
	for _, option := range []router.SendOption{nil, router.Timeout(time.Second), router.WaitForRoom(), router.Idle(time.Second), router.MaxAge(0)} {
		_, err := a.Publish(t.Context(), "news", nil, option)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Publish(ctx, "news", nil)
	require.ErrorIs(t, err, context.Canceled)
}

// TestR13Publication takes a right away while a publication waits: that of the
// sender, or that of the recipient.
func TestR13Publication(t *testing.T) {
	for _, verb := range []plugbus.Verb{plugbus.VerbPublish, plugbus.VerbConsume} {
		t.Run(verb.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, law := newRouter(t, router.Options{}), newRules()
				a, b := join(t, r, "a", law.guard("a")), join(t, r, "b", law.guard("b"))
				g, got := closedGate(t), &diary{}
				handle(t, b, "wait", g.then(echo))
				handleTopic(t, b, "news", got.write)
				post(t, a, "b", "wait", nil)
				require.Equal(t, 1, publish(t, a, "news", 1).Accepted)
				law.deny(verb, "news")
				g.open()
				require.NoError(t, r.Idle(t.Context()))
				require.Empty(t, got.read())
				require.EqualValues(t, 1, r.Ledger().Undeliverable)
				require.Len(t, r.DeadLetters(), 1)
				require.Equal(t, plugbus.Undeliverable, r.DeadLetters()[0].Outcome)
			})
		})
	}
}

// TestNarrow handles a pattern that is wider than the grant.
func TestNarrow(t *testing.T) {
	r, law := newRouter(t, router.Options{}), newRules()
	law.deny(plugbus.VerbConsume, "news.secret")
	a, b := join(t, r, "a"), join(t, r, "b", law.guard("b"))
	got := &diary{}
	route, err := b.HandleTopic("news.*", func(context.Context, router.Message) error { return nil })
	require.Nil(t, route)
	require.Equal(t, plugbus.ReasonPatternTooWide, denial(t, err).Reason)
	require.EqualValues(t, 1, mailboxOf(t, r, "b").Refused)
	handleTopic(t, b, "news.*", got.write, router.Narrow())
	require.Equal(t, []string{"b"}, publish(t, a, "news.secret", 1).Refused)
	require.Equal(t, 1, publish(t, a, "news.sport", 2).Accepted)
	require.NoError(t, r.Idle(t.Context()))
	require.Equal(t, []any{2}, got.data())
}

// TestReachIsCached publishes while handlers come and go and the policy changes:
// what a client knows of a topic is never out of date.
func TestReachIsCached(t *testing.T) {
	r, law := newRouter(t, router.Options{}), newRules()
	a, b := join(t, r, "a", law.guard("a")), join(t, r, "b")
	got := &diary{}
	require.Zero(t, publish(t, a, "news", 0).Matched)
	route := handleTopic(t, b, "news", got.write)
	require.Equal(t, 1, publish(t, a, "news", 1).Matched)
	asked := law.asked.Load()
	require.Equal(t, 1, publish(t, a, "news", 2).Matched)
	require.Equal(t, asked, law.asked.Load(), "the right was asked for once")
	law.change(func() { law.unknown["b"] = true })
	require.Zero(t, publish(t, a, "news", 3).Matched)
	law.change(func() { delete(law.unknown, "b") })
	handleTopic(t, b, "*", got.write)
	require.Equal(t, 2, publish(t, a, "news", 4).Matched)
	require.NoError(t, r.Idle(t.Context()))
	route.Remove()
	require.Equal(t, 1, publish(t, a, "news", 5).Matched)
	require.NoError(t, r.Idle(t.Context()))
	law.deny(plugbus.VerbPublish, "news")
	_, err := a.Publish(t.Context(), "news", 6)
	require.Equal(t, plugbus.ReasonDeniedByRule, denial(t, err).Reason)
	require.NoError(t, r.Idle(t.Context()))
	require.Equal(t, []any{1, 2, 3, 4, 4, 5}, got.data())
	require.NoError(t, b.Close(t.Context()))
	law.allow(plugbus.VerbPublish, "news")
	require.Zero(t, publish(t, a, "news", 7).Matched)
}
