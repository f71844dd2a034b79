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

// TestSucceed replaces a plugin: what waits is for the successor, in its order, and those
// who wait get their replies from it. What runs is not interrupted, and nothing of the
// successor is noticed before it has the place, or called before it settles.
func TestSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, old := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		was, is := &diary{}, &diary{}
		handle(t, old, "note", g.then(was.write))
		handle(t, old, "aside", g.then(was.write), router.Concurrent(1))
		handleTopic(t, old, "news", was.write)
		handleTopic(t, old, "gone", was.write)
		next := joinHeld(t, r, "b")
		handle(t, next, "note", is.write)
		handle(t, next, "aside", is.write, router.Concurrent(2))
		handle(t, next, "who", func(context.Context, router.Message) (any, error) { return "the next", nil })
		handleTopic(t, next, "news", is.write)
		handleTopic(t, next, "fresh", is.write)
		require.ErrorIs(t, a.Post(t.Context(), "b", "who", nil), router.ErrNoHandler)
		require.Zero(t, publish(t, a, "fresh", nil).Matched)
		_, err := next.Send(t.Context(), "b", "who", nil)
		require.ErrorIs(t, err, router.ErrNoHandler, "the held one acts, and reaches the other")
		for n := range 3 {
			post(t, a, "b", "note", n)
			post(t, a, "b", "aside", fmt.Sprint("aside", n))
			synctest.Wait()
		}
		require.Equal(t, 1, publish(t, a, "news", "early").Accepted)
		require.Equal(t, 1, publish(t, a, "gone", "too late").Accepted)
		require.Len(t, mailboxOf(t, r, "b").Handlers, 4)

		require.NoError(t, next.Succeed(old))
		require.True(t, mailboxOf(t, r, "b").Held)
		require.Len(t, mailboxOf(t, r, "b").Handlers, 5)
		post(t, a, "b", "note", 3)
		require.Equal(t, 1, publish(t, a, "news", "held").Accepted)
		require.Equal(t, 1, publish(t, a, "fresh", "held").Accepted)
		require.Zero(t, publish(t, a, "gone", nil).Matched)
		require.ErrorIs(t, a.Post(t.Context(), "b", "other", nil), router.ErrNoHandler, "its handlers are known")
		require.Equal(t, "no handler", r.Room("a", "b", "other"))
		require.Empty(t, r.Room("a", "b", "who"))
		_, err = old.Handle("late", echo)
		require.ErrorIs(t, err, router.ErrClosed)
		_, err = old.Send(t.Context(), "b", "other", nil)
		require.ErrorIs(t, err, router.ErrNoHandler, "what drains acts still")
		done := make(chan error)
		go func() { done <- old.Close(context.Background()) }()
		replies := make(chan any, 2)
		go func() {
			reply, err := a.Send(context.Background(), "b", "who", nil)
			replies <- reply.Data()
			replies <- err
		}()
		synctest.Wait()
		require.False(t, old.Ended(), "it waits for what runs")
		require.Empty(t, is.read())
		g.open()
		require.NoError(t, <-done)
		requireEnded(t, old)
		synctest.Wait()
		require.ElementsMatch(t, []any{0, "aside0"}, was.data(), "but for nothing else")
		require.Empty(t, is.read(), "not before it has settled")
		next.Settle()
		next.Settle()
		require.Equal(t, "the next", <-replies)
		require.Nil(t, <-replies)
		require.NoError(t, r.Idle(t.Context()))
		var order []any
		for _, m := range is.read() {
			if m.Type() != "aside" {
				order = append(order, m.Data())
			}
		}
		require.Equal(t, []any{1, 2, "early", 3, "held", "held"}, order)
		require.Len(t, is.read(), len(order)+2)
		require.Equal(t, []any{"too late"}, payloads(r), "for a handler that has no successor")
		l := r.Ledger()
		require.NoError(t, l.Check())
		require.EqualValues(t, 11, l.Handled)
		require.EqualValues(t, 1, l.Undeliverable)
		require.False(t, mailboxOf(t, r, "b").Held)
	})
}

// TestSucceedNoHandler leaves mail to a successor that does not handle it: it is
// undeliverable, and nobody waits for ever.
func TestSucceedNoHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, old := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, old, "block", g.then(echo))
		handle(t, old, "note", echo)
		handle(t, old, "picky", echo)
		_, err := old.HandleStream("stream", func(context.Context, router.Message, func(any) bool) error { return nil })
		require.NoError(t, err)
		handleTopic(t, old, "news", echo)
		handleTopic(t, old, "news", echo)
		post(t, a, "b", "block", nil)
		results := make(chan error, 2)
		go func() {
			_, err := a.Send(context.Background(), "b", "note", nil)
			results <- err
		}()
		go func() {
			_, err := drain(t, a.Stream(context.Background(), "b", "stream", nil))
			results <- err
		}()
		post(t, a, "b", "picky", "a post")
		require.Equal(t, 2, publish(t, a, "news", "news").Accepted)
		synctest.Wait()
		next := joinHeld(t, r, "b")
		got := &diary{}
		handle(t, next, "stream", echo) // Which is no stream.
		handle(t, next, "picky", echo, router.Senders([]string{"c"}, nil))
		handleTopic(t, next, "news", got.write) // There were two.
		require.NoError(t, next.Succeed(old))
		require.Equal(t, 1, publish(t, a, "news", "more").Accepted)
		g.open()
		require.NoError(t, old.Close(t.Context()))
		next.Settle()
		for range 2 {
			e := undelivered(t, <-results)
			require.ErrorIs(t, e, router.ErrNoHandler)
			require.Equal(t, plugbus.Undeliverable, e.Outcome)
		}
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{"news", "more"}, got.data(), "each delivery is for one handler")
		require.Equal(t, []any{"a post", "news"}, payloads(r))
	})
}

// TestSucceedSamePattern hands several handlers of one pattern over: each of the
// successor's gets what was for the one in its place, over several successors.
func TestSucceedSamePattern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, c := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, c, "block", g.then(echo))
		handleTopic(t, c, "news", echo)
		handleTopic(t, c, "news", echo)
		post(t, a, "b", "block", nil)
		synctest.Wait()
		var got []*diary
		for n := range 3 { // A successor may itself be replaced before it settles.
			require.Equal(t, 2, publish(t, a, "news", n).Accepted)
			next := joinHeld(t, r, "b")
			got = []*diary{{}, {}}
			for _, notes := range got {
				handleTopic(t, next, "news", notes.write)
			}
			require.NoError(t, next.Succeed(c))
			if n > 0 {
				require.NoError(t, c.Close(t.Context()))
			}
			c = next
		}
		g.open()
		synctest.Wait()
		c.Settle()
		require.NoError(t, r.Idle(t.Context()))
		for i, notes := range got {
			require.Equal(t, []any{0, 1, 2}, notes.data())
			for _, m := range notes.read() {
				require.Equal(t, i+1, m.Delivery())
			}
		}
	})
}

// TestSucceedAbandons succeeds although a handler does not return in time.
func TestSucceedAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, old := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, old, "hang", g.then(echo))
		results := make(chan error, 2)
		ask := func() {
			_, err := a.Send(context.Background(), "b", "hang", nil)
			results <- err
		}
		go ask()
		synctest.Wait()
		go ask()
		synctest.Wait()
		next := joinHeld(t, r, "b")
		handle(t, next, "hang", echo)
		require.NoError(t, next.Succeed(old))
		require.Equal(t, &router.CloseError{Client: "b", Abandoned: 1, Err: context.Canceled}, old.Close(dead()))
		require.ErrorIs(t, undelivered(t, <-results), router.ErrTargetLeft)
		require.Len(t, r.Leaks(), 1)
		next.Settle()
		require.NoError(t, <-results, "the other one waited, and has its reply")
		require.False(t, old.Ended())
		g.open()
		synctest.Wait()
		require.True(t, old.Ended())
		require.False(t, next.Ended())
		require.Equal(t, plugbus.Ledger{Offered: 2, Accepted: 2, Handled: 1, Abandoned: 1}, r.Ledger())
	})
}

// TestSucceedForgetsTheOld shows that what senders knew of the old client does not hold
// for the new one; and that one which was held, and leaves, takes nothing along.
func TestSucceedForgetsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, was := newRouter(t, router.Options{}), newRules()
		a, old := join(t, r, "a"), join(t, r, "b", was.guard("b"))
		g, got := closedGate(t), &diary{}
		handle(t, old, "x", g.then(got.write))
		post(t, a, "b", "x", 1)
		synctest.Wait()
		held := joinHeld(t, r, "b")
		handle(t, held, "x", echo)
		require.NoError(t, held.Close(dead()))
		require.Empty(t, r.Leaks(), "what runs is not of the held one")
		was.deny(plugbus.VerbReceive, "a")
		require.ErrorIs(t, a.Post(t.Context(), "b", "x", 2), plugbus.ErrDenied)
		next := joinHeld(t, r, "b", newRules().guard("b"))
		handle(t, next, "x", got.write)
		require.NoError(t, next.Succeed(old))
		post(t, a, "b", "x", 3)
		g.open()
		require.NoError(t, old.Close(t.Context()))
		next.Settle()
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{1, 3}, got.data())
	})
}

// TestSucceedRefused lists what cannot take a place, and closes clients that were held:
// nothing changes (H6).
func TestSucceedRefused(t *testing.T) {
	r, other := newRouter(t, router.Options{}), newRouter(t, router.Options{})
	_, err := r.Client("b", router.ClientOptions{Held: true})
	require.ErrorIs(t, err, plugbus.ErrInvalid, "nobody is there")
	a, b, far := join(t, r, "a"), join(t, r, "b"), join(t, other, "b")
	handle(t, b, "x", echo)
	one, two, gone := joinHeld(t, r, "b"), joinHeld(t, r, "b"), joinHeld(t, r, "b")
	handleTopic(t, gone, "x", echo)
	handle(t, gone, "x", echo).Remove()
	handle(t, gone, "x", echo)
	_, err = gone.Handle("x", echo)
	require.ErrorIs(t, err, router.ErrHandlerExists)
	require.NoError(t, gone.Close(t.Context()))
	requireEnded(t, gone)
	for _, wrong := range []*router.Client{nil, a, far, one, two} {
		require.ErrorIs(t, one.Succeed(wrong), plugbus.ErrInvalid)
	}
	require.ErrorIs(t, a.Succeed(b), plugbus.ErrInvalid, "it is not held")
	require.ErrorIs(t, gone.Succeed(b), router.ErrClosed)
	one.Settle() // It has no place yet.
	require.False(t, mailboxOf(t, r, "b").Held)
	_, err = a.Send(t.Context(), "b", "x", nil)
	require.NoError(t, err)
	require.Zero(t, publish(t, a, "x", nil).Matched)
	require.NoError(t, one.Succeed(b))
	require.ErrorIs(t, one.Succeed(b), plugbus.ErrInvalid, "it has its place")
	require.ErrorIs(t, two.Succeed(b), router.ErrClosed, "that one has been succeeded")
	require.NoError(t, b.Close(t.Context()))
	one.BeginDrain()
	require.ErrorIs(t, two.Succeed(one), router.ErrClosed)
	require.NoError(t, one.Close(t.Context()))
	require.Len(t, r.Stats().Mailboxes, 1)
	require.ErrorIs(t, two.Succeed(one), router.ErrClosed)
}

// TestSucceedAsksTheSuccessor publishes to a plugin that is being replaced: what the one
// that has left may have does not matter.
func TestSucceedAsksTheSuccessor(t *testing.T) {
	for _, may := range []bool{true, false} {
		r, was, is := newRouter(t, router.Options{}), newRules(), newRules()
		a, b := join(t, r, "a"), join(t, r, "b", was.guard("b"))
		handleTopic(t, b, "news", echo)
		next, got := joinHeld(t, r, "b", is.guard("b")), &diary{}
		handleTopic(t, next, "news", got.write)
		require.NoError(t, next.Succeed(b))
		require.NoError(t, b.Close(t.Context()))
		was.deny(plugbus.VerbConsume, "news")
		require.Equal(t, 1, publish(t, a, "news", 1).Accepted)
		if !may {
			is.deny(plugbus.VerbConsume, "news")
		}
		next.Settle()
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, may, len(got.read()) == 1)
	}
}

// A hook is a meter that does something when it is asked.
type hook func()

func (h hook) Take(time.Time, int) time.Duration {
	h()
	return 0
}

// TestR13SucceedAtTheDoor replaces the recipient while a message is at the door: what
// the old one was allowed says nothing of the new one, even if the versions of their
// guards are the same; and a publication finds the handler in the place of the one that
// it was for.
func TestR13SucceedAtTheDoor(t *testing.T) {
	for _, publication := range []bool{false, true} {
		r, law, is := newRouter(t, router.Options{}), newRules(), newRules()
		a, b := join(t, r, "a", law.guard("a")), join(t, r, "b", newRules().guard("b"))
		handle(t, b, "x", echo)
		handleTopic(t, b, "x", echo)
		got := &diary{}
		is.denied["receive a"] = plugbus.ReasonDeniedByRule
		law.acts = hook(func() {
			next := joinHeld(t, r, "b", is.guard("b"))
			handle(t, next, "x", echo)
			handleTopic(t, next, "x", got.write)
			require.NoError(t, next.Succeed(b))
			require.NoError(t, b.Close(t.Context()))
			next.Settle()
		})
		if publication {
			require.Equal(t, 1, publish(t, a, "x", nil).Accepted)
			require.NoError(t, r.Idle(t.Context()))
			require.Len(t, got.read(), 1)
			continue
		}
		_, err := a.Send(t.Context(), "b", "x", nil)
		require.ErrorIs(t, undelivered(t, err), plugbus.ErrDenied)
	}
}

// TestSucceedBounds keeps the bounds of a mailbox while it is held, and releases those
// who wait for room or for a reply when their time is over.
func TestSucceedBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 4})
		a, b := join(t, r, "a"), join(t, r, "b")
		next, got := joinHeld(t, r, "b"), &diary{}
		handle(t, next, "x", got.write)
		handle(t, next, "aside", got.write, router.Concurrent(1))
		require.NoError(t, next.Succeed(b))
		require.NoError(t, b.Close(t.Context()))
		_, err := a.Send(t.Context(), "b", "aside", nil, router.Timeout(time.Second))
		require.ErrorIs(t, undelivered(t, err), context.DeadlineExceeded)
		post(t, a, "b", "x", 1)
		require.ErrorIs(t, a.Post(t.Context(), "b", "x", 2), router.ErrQueueFull)
		require.Equal(t, "full", r.Room("a", "b", "x"))
		require.Empty(t, r.Room("other", "b", "x"))
		result := make(chan error)
		go func() { result <- a.Post(context.Background(), "b", "x", 3, router.WaitForRoom()) }()
		synctest.Wait()
		require.Error(t, r.Idle(dead()), "something waits")
		next.Settle()
		require.NoError(t, <-result)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{1, 3}, got.data())
	})
}

// TestSucceedUnderLoad replaces a plugin again and again while others send and publish
// to it: nothing is lost, nothing comes twice, everybody is answered, the order of each
// sender holds, but for the concurrent handler, and no two versions run at a time.
func TestSucceedUnderLoad(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 1_000_000, MailboxBytes: 1 << 40})
	const senders, each = 3, 100
	type place struct{ from, typ string }
	var mu sync.Mutex
	next := map[place]int{}
	var aside, settled atomic.Int32
	open := func(o router.ClientOptions, version int32) *router.Client {
		c, err := r.Client("b", o)
		require.NoError(t, err)
		alone := func() {
			if settled.Load() != version {
				t.Errorf("version %d runs when %d has the place", version, settled.Load())
			}
		}
		inOrder := func(_ context.Context, m router.Message) (any, error) {
			alone()
			mu.Lock()
			defer mu.Unlock()
			at := place{m.From(), m.Type()}
			if m.Data() != next[at] {
				t.Errorf("%v: got %v, want %d", at, m.Data(), next[at])
			}
			next[at]++
			return m.Data(), nil
		}
		handle(t, c, "post", inOrder)
		handle(t, c, "send", inOrder)
		handle(t, c, "aside", func(context.Context, router.Message) (any, error) { alone(); aside.Add(1); return nil, nil }, router.Concurrent(2))
		handleTopic(t, c, "news", inOrder)
		return c
	}
	b := open(router.ClientOptions{}, 0)
	var wg sync.WaitGroup
	for i := range senders {
		from := join(t, r, fmt.Sprint("from", i))
		wg.Go(func() {
			for n := range each {
				for _, typ := range []string{"post", "aside"} {
					if err := from.Post(context.Background(), "b", typ, n); err != nil {
						t.Error(err)
					}
				}
				if receipt, err := from.Publish(context.Background(), "news", n); err != nil || receipt.Accepted != 1 {
					t.Error(receipt, err)
				}
				if reply, err := from.Send(context.Background(), "b", "send", n); err != nil || reply.Data() != n {
					t.Error(reply.Data(), err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	swaps := int32(0)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		following := open(router.ClientOptions{Held: true}, swaps+1)
		require.NoError(t, following.Succeed(b))
		require.NoError(t, r.Ledger().Check())
		require.NoError(t, b.Close(context.Background()))
		swaps++
		settled.Store(swaps)
		b = following
		b.Settle()
	}
	require.NoError(t, r.Idle(context.Background()))
	require.Greater(t, swaps, int32(1))
	require.Len(t, next, 3*senders)
	for at, n := range next {
		require.Equal(t, each, n, "%v", at)
	}
	require.EqualValues(t, senders*each, aside.Load())
	require.EqualValues(t, 4*senders*each, r.Ledger().Handled)
	require.Empty(t, r.DeadLetters())
}
