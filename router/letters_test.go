package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

var errSorry = errors.New("sorry")

// fail is a handler that fails.
func fail(context.Context, router.Message) (any, error) { return nil, errSorry }

// numbers returns the numbers of the dead letters.
func numbers(r *router.Router) []uint64 {
	all := []uint64{}
	for _, l := range r.DeadLetters() {
		all = append(all, l.Number)
	}
	return all
}

// payloads returns the payloads of the dead letters.
func payloads(r *router.Router) []any {
	all := []any{}
	for _, l := range r.DeadLetters() {
		all = append(all, l.Data())
	}
	return all
}

// TestDeadLetters ends posts and publications in each way in which they are not
// handled: each becomes one letter, with the outcome and the reason. Requests never
// do.
func TestDeadLetters(t *testing.T) {
	for _, test := range []struct {
		outcome plugbus.Outcome
		reason  string
		handler router.Handler
		options []router.HandleOption
		behind  bool // it waits behind another while after runs
		after   func(t *testing.T, r *router.Router, b *router.Client, route *router.Route, law *rules)
	}{
		{outcome: plugbus.Failed, reason: "sorry", handler: fail},
		{outcome: plugbus.Failed, reason: "router: the handler panicked: oh", handler: func(context.Context, router.Message) (any, error) { panic("oh") }},
		{outcome: plugbus.Abandoned, reason: "router: the handler did not return in time", options: []router.HandleOption{router.Timeout(time.Second)}, handler: func(ctx context.Context, _ router.Message) (any, error) {
			<-ctx.Done()
			return nil, nil
		}},
		{outcome: plugbus.Expired, reason: "context deadline exceeded", handler: echo, behind: true, after: func(*testing.T, *router.Router, *router.Client, *router.Route, *rules) {
			pass(time.Minute)
		}},
		{outcome: plugbus.Cancelled, reason: "router: the plugin has no handler for this type", handler: echo, behind: true, after: func(_ *testing.T, _ *router.Router, _ *router.Client, route *router.Route, _ *rules) {
			route.Remove()
		}},
		{outcome: plugbus.Cancelled, reason: "router: the plugin has left", handler: echo, behind: true, after: func(t *testing.T, _ *router.Router, b *router.Client, _ *router.Route, _ *rules) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, b.Close(ctx), context.Canceled)
		}},
		{outcome: plugbus.Undeliverable, reason: `b may not`, handler: echo, behind: true, after: func(_ *testing.T, _ *router.Router, _ *router.Client, _ *router.Route, law *rules) {
			law.deny(plugbus.VerbReceive, "a")
			law.deny(plugbus.VerbConsume, "news")
		}},
	} {
		for _, topic := range []bool{false, true} {
			t.Run(fmt.Sprint(test.outcome, " ", test.reason, " ", topic), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, law := newRouter(t, router.Options{}), newRules()
					a, b := join(t, r, "a"), join(t, r, "b", law.guard("b"))
					g := closedGate(t)
					handle(t, b, "wait", g.then(echo))
					if test.behind {
						post(t, a, "b", "wait", nil, router.ClientID("first"))
						synctest.Wait()
					}
					var route *router.Route
					options := []router.SendOption{router.Headers(map[string]string{"k": "v"}), router.CorrelationID("c"), router.MaxAge(time.Minute)}
					if topic {
						route = handleTopic(t, b, "news", test.handler, test.options...)
						publish(t, a, "news", []int{7}, options...)
					} else {
						route = handle(t, b, "news", test.handler, test.options...)
						post(t, a, "b", "news", []int{7}, options...)
					}
					if test.after != nil {
						test.after(t, r, b, route, law)
					}
					g.open()
					pass(2 * time.Second)
					require.NoError(t, r.Idle(t.Context()))
					letters := r.DeadLetters()
					if len(letters) == 2 { // The first was abandoned when its plugin left.
						require.Equal(t, "first", letters[1].ClientID()+letters[0].ClientID())
						if letters[0].ClientID() == "first" {
							letters = letters[1:]
						}
					}
					l := letters[0]
					require.Equal(t, test.outcome, l.Outcome)
					if test.outcome == plugbus.Undeliverable {
						require.NotEmpty(t, l.Reason)
					} else {
						require.Equal(t, test.reason, l.Reason)
					}
					require.Equal(t, "a b news v c", fmt.Sprint(l.From(), " ", l.To(), " ", l.Type(), " ", l.Header("k"), " ", l.CorrelationID()))
					require.Equal(t, []int{7}, l.Data())
					require.False(t, l.Shared())
					require.False(t, l.Died.Before(l.Time()))
					require.Equal(t, topic, l.Kind() == router.KindPublish)
					if topic {
						require.Equal(t, "news", l.Pattern())
					}
				})
			})
		}
	}
}

// TestRequestsAreNoLetters fails requests and streams in the same ways.
func TestRequestsAreNoLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "fail", fail)
		handleStream(t, b, "stream", func(context.Context, router.Message, func(any) bool) error { return errSorry })
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		_, err := a.Send(t.Context(), "b", "fail", nil)
		require.Error(t, err)
		_, err = drain(t, a.Stream(t.Context(), "b", "stream", nil))
		require.Error(t, err)
		go func() { _, _ = a.Send(context.Background(), "b", "wait", nil) }()
		synctest.Wait()
		_, err = a.Send(t.Context(), "b", "wait", nil, router.Timeout(time.Second))
		require.Error(t, err)
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		require.Empty(t, r.DeadLetters())
	})
}

// TestLettersOfOneFlood shows that a flood of one sender does not flush the
// letters of others: in count and in bytes.
func TestLettersOfOneFlood(t *testing.T) {
	for _, o := range []router.Options{{DeadLetters: 10}, {DeadLetterBytes: 10 * 100}} {
		t.Run(fmt.Sprint(o.DeadLetters, o.DeadLetterBytes), func(t *testing.T) {
			r := newRouter(t, o)
			b := join(t, r, "b")
			handle(t, b, "fail", fail)
			say := func(c *router.Client, n int) {
				post(t, c, "b", "fail", strings.Repeat(fmt.Sprint(n%10), 100))
				require.NoError(t, r.Idle(t.Context()))
			}
			few, flood, half := join(t, r, "few"), join(t, r, "flood"), join(t, r, "half")
			for n := range 2 {
				say(few, n)
			}
			for n := range 4 {
				say(half, n)
			}
			for n := range 104 { // In the end as many as half has, so that neither is before the other.
				say(flood, n)
			}
			count := map[string]string{}
			for _, l := range r.DeadLetters() {
				count[l.From()] += l.Data().(string)[:1]
			}
			require.Equal(t, map[string]string{"few": "01", "half": "0123", "flood": "0123"}, count)
			require.EqualValues(t, 100, r.Stats().Evicted)
			require.Equal(t, 10, r.Stats().DeadLetters)
		})
	}
}

// TestLettersAge keeps no letter for longer than its time, for anybody who asks.
func TestLettersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{DeadLetterAge: time.Hour})
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "fail", fail)
		bury := func() {
			post(t, a, "b", "fail", nil)
			require.NoError(t, r.Idle(t.Context()))
		}
		bury()
		pass(time.Hour)
		require.Len(t, r.DeadLetters(), 1)
		pass(time.Nanosecond)
		require.Equal(t, 0, r.Stats().DeadLetters)
		bury()
		pass(time.Hour + 1)
		require.ErrorIs(t, r.Discard(2), router.ErrNoLetter)
		bury()
		pass(time.Hour + 1)
		require.ErrorIs(t, r.Resend(t.Context(), 3), router.ErrNoLetter)
		bury()
		pass(time.Hour + 1)
		require.Empty(t, r.DeadLetters())
		require.EqualValues(t, 4, r.Stats().Evicted)
	})
}

// TestLettersAgeFirst lets those that are too old make way before any other.
func TestLettersAgeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{DeadLetterAge: time.Hour, DeadLetters: 2})
		old, a, b := join(t, r, "old"), join(t, r, "a"), join(t, r, "b")
		handle(t, b, "fail", fail)
		post(t, old, "b", "fail", 0)
		require.NoError(t, r.Idle(t.Context()))
		pass(time.Hour + 1)
		post(t, a, "b", "fail", 1)
		post(t, a, "b", "fail", 2)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{1, 2}, payloads(r))
	})
}

// TestNoLetters keeps none where that is the option, and none that is larger than
// all of them may be.
func TestNoLetters(t *testing.T) {
	for _, o := range []router.Options{{DeadLetters: -1}, {DeadLetterBytes: 3}} {
		r := newRouter(t, o)
		a, b := join(t, r, "a"), join(t, r, "b")
		handle(t, b, "fail", fail)
		post(t, a, "b", "fail", "four")
		require.NoError(t, r.Idle(t.Context()))
		require.Empty(t, r.DeadLetters())
		require.Equal(t, o.DeadLetterBytes > 0, r.Stats().Evicted == 1)
	}
}

func TestDiscard(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	handle(t, b, "fail", fail)
	for n := range 3 {
		post(t, a, "b", "fail", n)
	}
	require.NoError(t, r.Idle(t.Context()))
	require.Equal(t, []uint64{1, 2, 3}, numbers(r))
	require.NoError(t, r.Discard(2))
	require.ErrorIs(t, r.Discard(2), router.ErrNoLetter)
	require.ErrorIs(t, r.Discard(0), router.ErrNoLetter)
	require.ErrorIs(t, r.Discard(4), router.ErrNoLetter)
	require.ErrorIs(t, r.Discard(1<<63+1), router.ErrNoLetter)
	require.Equal(t, []uint64{1, 3}, numbers(r))
	require.Zero(t, r.Stats().Evicted, "what the host took did not make way")
}

// TestLettersModel buries letters of several senders and sizes, and compares what
// is kept with a plain account of the rule: while there are too many, or too many
// bytes, the oldest letter of those that have the most goes.
func TestLettersModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most, bytes := rapid.IntRange(1, 8).Draw(t, "most"), rapid.IntRange(1, 40).Draw(t, "bytes")
		r, err := router.New(router.Options{DeadLetters: most, DeadLetterBytes: int64(bytes)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close(context.Background()) }()
		b, err := r.Client("b", router.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Handle("fail", fail); err != nil {
			t.Fatal(err)
		}
		senders := make([]*router.Client, 3)
		for i := range senders {
			if senders[i], err = r.Client(fmt.Sprint("s", i), router.ClientOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		type letter struct{ number, from, size int }
		var kept []letter
		evict := func(weigh func(letter) int) {
			has := map[int]int{}
			top := 0
			for _, l := range kept {
				has[l.from] += weigh(l)
				top = max(top, has[l.from])
			}
			for i, l := range kept {
				if has[l.from] == top {
					kept = append(kept[:i:i], kept[i+1:]...)
					return
				}
			}
		}
		for n := range rapid.IntRange(1, 40).Draw(t, "letters") {
			from, size := rapid.IntRange(0, 2).Draw(t, "from"), rapid.IntRange(0, 20).Draw(t, "size")
			if err := senders[from].Post(context.Background(), "b", "fail", strings.Repeat("x", size)); err != nil {
				t.Fatal(err)
			}
			if err := r.Idle(context.Background()); err != nil {
				t.Fatal(err)
			}
			kept = append(kept, letter{n + 1, from, size})
			for len(kept) > most {
				evict(func(letter) int { return 1 })
			}
			for {
				sum := 0
				for _, l := range kept {
					sum += l.size
				}
				if sum <= bytes {
					break
				}
				evict(func(l letter) int { return l.size })
			}
			want := []uint64{}
			for _, l := range kept {
				want = append(want, uint64(l.number))
			}
			if got := numbers(r); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("kept %v, want %v", got, want)
			}
		}
	})
}
