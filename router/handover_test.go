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

// TestHandover replaces a plugin: what waits is for the successor, in its order,
// and those who wait get their replies from it. What runs is not interrupted.
func TestHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, old := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		was, is := &diary{}, &diary{}
		handle(t, old, "note", g.then(was.write))
		handle(t, old, "aside", g.then(was.write), router.Concurrent(1))
		handleTopic(t, old, "news", was.write)
		for n := range 3 {
			post(t, a, "b", "note", n)
			post(t, a, "b", "aside", fmt.Sprint("aside", n))
			synctest.Wait()
		}
		require.Equal(t, 1, publish(t, a, "news", "early").Accepted)
		old.Hold()
		require.True(t, mailboxOf(t, r, "b").Held)
		post(t, a, "b", "note", 3)
		require.Equal(t, 1, publish(t, a, "news", "held").Accepted)
		done := make(chan error)
		go func() { done <- old.Handover(context.Background()) }()
		synctest.Wait()
		require.False(t, old.Ended(), "it waits for what runs")
		g.open()
		require.NoError(t, <-done)
		requireEnded(t, old)
		require.ElementsMatch(t, []any{0, "aside0"}, was.data(), "but for nothing else")
		post(t, a, "b", "note", 4)
		require.Equal(t, 1, publish(t, a, "news", "between").Accepted)
		require.NoError(t, r.Idle(t.Context()), "what waits for a successor does not count")
		replies := make(chan any, 2)
		ask := func(typ string) {
			reply, err := a.Send(context.Background(), "b", typ, nil)
			replies <- reply.Data()
			replies <- err
		}
		go ask("who")
		synctest.Wait()
		require.Empty(t, r.Room("a", "b", "anything"))

		next := join(t, r, "b")
		handle(t, next, "note", is.write)
		handle(t, next, "aside", is.write, router.Concurrent(2))
		handle(t, next, "who", func(context.Context, router.Message) (any, error) { return "the next", nil })
		handleTopic(t, next, "news", is.write)
		require.Equal(t, 1, publish(t, a, "news", "late").Accepted)
		post(t, a, "b", "note", 5)
		synctest.Wait()
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
		require.Equal(t, []any{1, 2, "early", 3, "held", 4, "between", "late", 5}, order)
		require.Len(t, is.read(), len(order)+2)
		l := r.Ledger()
		require.Equal(t, plugbus.Ledger{Offered: 14, Accepted: 14, Handled: 14}, l)
		require.Empty(t, r.DeadLetters())
		require.False(t, mailboxOf(t, r, "b").Held)
	})
}

// TestHandoverNoHandler leaves mail to a successor that does not handle it: it is
// undeliverable, and nobody waits for ever.
func TestHandoverNoHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, old := join(t, r, "a"), join(t, r, "b")
		handle(t, old, "note", echo)
		handleTopic(t, old, "news", echo)
		handleTopic(t, old, "news", echo)
		require.NoError(t, old.Handover(t.Context()))
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
		next := join(t, r, "b")
		got := &diary{}
		handle(t, next, "stream", echo) // Which is no stream.
		handle(t, next, "picky", echo, router.Senders([]string{"c"}, nil))
		handleTopic(t, next, "news", got.write) // There were two.
		require.Equal(t, 2, publish(t, a, "news", "more").Accepted, "the other one is still expected")
		next.Settle()
		for range 2 {
			e := undelivered(t, <-results)
			require.ErrorIs(t, e, router.ErrNoHandler)
			require.Equal(t, plugbus.Undeliverable, e.Outcome)
		}
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{"news", "more"}, got.data(), "each delivery is for one handler")
		require.Equal(t, []any{"a post", "news", "more"}, payloads(r))
		require.Equal(t, 1, publish(t, a, "news", "after").Accepted)
		require.NoError(t, r.Idle(t.Context()))
	})
}

// TestHandoverSamePattern hands several handlers of one pattern over: each of the
// successor's gets what was for the one in its place.
func TestHandoverSamePattern(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, c := join(t, r, "a"), join(t, r, "b")
	handleTopic(t, c, "news", echo)
	handleTopic(t, c, "news", echo)
	for n := range 3 { // A successor may itself be replaced before it settles.
		require.NoError(t, c.Handover(t.Context()))
		require.Equal(t, 2, publish(t, a, "news", n).Accepted)
		c = join(t, r, "b")
		if n == 1 {
			handleTopic(t, c, "news", echo)
			handleTopic(t, c, "news", echo)
		}
	}
	got := []*diary{{}, {}}
	for _, notes := range got {
		handleTopic(t, c, "news", notes.write)
	}
	c.Settle()
	require.NoError(t, r.Idle(t.Context()))
	for i, notes := range got {
		require.Equal(t, []any{0, 1, 2}, notes.data())
		for _, m := range notes.read() {
			require.Equal(t, i+1, m.Delivery())
		}
	}
}

// TestHandoverAbandons hands over although a handler does not return in time.
func TestHandoverAbandons(t *testing.T) {
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
		err := old.Handover(dead())
		require.Equal(t, &router.CloseError{Client: "b", Abandoned: 1, Err: context.Canceled}, err)
		require.ErrorIs(t, undelivered(t, <-results), router.ErrTargetLeft)
		require.Len(t, r.Leaks(), 1)
		next := join(t, r, "b")
		handle(t, next, "hang", echo)
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

// TestHoldAndGoOn settles the client that held its mail: nothing is stuck.
func TestHoldAndGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g, got := closedGate(t), &diary{}
		handle(t, b, "note", g.then(got.write))
		handle(t, b, "aside", g.then(got.write), router.Concurrent(1))
		handleTopic(t, b, "news", got.write, router.Concurrent(1))
		send := func() {
			for n := range 2 {
				post(t, a, "b", "note", n)
				post(t, a, "b", "aside", n)
				synctest.Wait()
			}
			publish(t, a, "news", "x")
		}
		send()
		publish(t, a, "news", "y")
		b.Hold()
		g.open()
		require.NoError(t, b.Drained(t.Context()))
		running := len(got.read())
		post(t, a, "b", "note", 2)
		synctest.Wait()
		require.Len(t, got.read(), running)
		b.Settle()
		require.NoError(t, r.Idle(t.Context()))
		require.Len(t, got.read(), 7)
		require.NoError(t, b.Close(t.Context()))
	})
}

// TestDrop cancels what nobody takes over: those who wait hear of it.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handleTopic(t, b, "news", echo)
		handle(t, b, "x", echo)
		r.Drop("nobody")
		r.Drop("b") // Somebody has it.
		require.Equal(t, 1, publish(t, a, "news", nil).Accepted)
		require.NoError(t, r.Idle(t.Context()))
		require.NoError(t, b.Handover(t.Context()))
		result := make(chan error)
		go func() {
			_, err := a.Send(context.Background(), "b", "x", nil)
			result <- err
		}()
		synctest.Wait()
		publish(t, a, "news", "letter")
		r.Drop("b")
		e := undelivered(t, <-result)
		require.ErrorIs(t, e, router.ErrTargetLeft)
		require.Equal(t, plugbus.Cancelled, e.Outcome)
		require.Equal(t, []any{"letter"}, payloads(r))
		require.Zero(t, publish(t, a, "news", nil).Matched)
		require.ErrorIs(t, a.Post(t.Context(), "b", "x", nil), router.ErrUnknownTarget)
		require.Len(t, r.Stats().Mailboxes, 1)
		require.EqualValues(t, 2, r.Ledger().Cancelled)
	})
}

// TestCloseHeld closes a client that holds its mail: it handles that itself.
func TestCloseHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g, got := closedGate(t), &diary{}
		handle(t, b, "note", g.then(got.write))
		handle(t, b, "aside", g.then(got.write), router.Concurrent(1))
		for n := range 3 {
			post(t, a, "b", "note", n)
			post(t, a, "b", "aside", n)
			synctest.Wait()
		}
		b.Hold()
		g.open()
		require.NoError(t, b.Drained(t.Context()))
		require.ElementsMatch(t, []any{0, 0}, got.data(), "while it holds, nothing starts, on the worker or beside it")
		require.NoError(t, b.Close(t.Context()))
		require.ElementsMatch(t, []any{0, 0, 1, 1, 2, 2}, got.data())
		require.EqualValues(t, 6, r.Ledger().Handled)
	})
}

// TestHandoverAsksTheSuccessor publishes to a plugin that is being replaced: what
// the one that has left may have does not matter.
func TestHandoverAsksTheSuccessor(t *testing.T) {
	for _, may := range []bool{true, false} {
		r, was, is := newRouter(t, router.Options{}), newRules(), newRules()
		a, b := join(t, r, "a"), join(t, r, "b", was.guard("b"))
		handleTopic(t, b, "news", echo)
		require.NoError(t, b.Handover(t.Context()))
		was.deny(plugbus.VerbConsume, "news")
		require.Equal(t, 1, publish(t, a, "news", 1).Accepted)
		next, got := join(t, r, "b", is.guard("b")), &diary{}
		handleTopic(t, next, "news", got.write)
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

// TestR13HandoverAtTheDoor replaces the recipient while a message is at the door:
// what the old one was allowed says nothing of the new one, even if the versions of
// their guards are the same.
func TestR13HandoverAtTheDoor(t *testing.T) {
	r, law, is := newRouter(t, router.Options{}), newRules(), newRules()
	a, b := join(t, r, "a", law.guard("a")), join(t, r, "b", newRules().guard("b"))
	handle(t, b, "x", echo)
	is.denied["receive a"] = plugbus.ReasonDeniedByRule
	law.acts = hook(func() {
		require.NoError(t, b.Handover(t.Context()))
		next := join(t, r, "b", is.guard("b"))
		handle(t, next, "x", echo)
		next.Settle()
	})
	_, err := a.Send(t.Context(), "b", "x", nil)
	require.ErrorIs(t, undelivered(t, err), plugbus.ErrDenied)
}

// TestHandoverBounds keeps the bounds of a mailbox while it is held, and releases
// those who wait for room or for a reply when their time is over.
func TestHandoverBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 4})
		a, b := join(t, r, "a"), join(t, r, "b")
		require.NoError(t, b.Handover(t.Context()))
		_, err := a.Send(t.Context(), "b", "x", nil, router.Timeout(time.Second))
		require.ErrorIs(t, undelivered(t, err), context.DeadlineExceeded)
		post(t, a, "b", "x", 1)
		require.ErrorIs(t, a.Post(t.Context(), "b", "x", 2), router.ErrQueueFull)
		require.Equal(t, "full", r.Room("a", "b", "x"))
		require.Empty(t, r.Room("other", "b", "x"))
		result := make(chan error)
		go func() { result <- a.Post(context.Background(), "b", "x", 3, router.WaitForRoom()) }()
		synctest.Wait()
		next, got := join(t, r, "b"), &diary{}
		handle(t, next, "x", got.write)
		next.Settle()
		require.NoError(t, <-result)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []any{1, 3}, got.data())
	})
}

// TestHandoverUnderLoad replaces a plugin again and again while others send and
// publish to it: nothing is lost, nothing comes twice, everybody is answered, and
// the order of each sender holds, but for the concurrent handler.
func TestHandoverUnderLoad(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 1_000_000, MailboxBytes: 1 << 40})
	const senders, each = 3, 100
	type place struct{ from, typ string }
	var mu sync.Mutex
	next := map[place]int{}
	var aside atomic.Int32
	inOrder := func(_ context.Context, m router.Message) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		at := place{m.From(), m.Type()}
		if m.Data() != next[at] {
			t.Errorf("%v: got %v, want %d", at, m.Data(), next[at])
		}
		next[at]++
		return m.Data(), nil
	}
	open := func() *router.Client {
		c, err := r.Client("b", router.ClientOptions{})
		require.NoError(t, err)
		handle(t, c, "post", inOrder)
		handle(t, c, "send", inOrder)
		handle(t, c, "aside", func(context.Context, router.Message) (any, error) { aside.Add(1); return nil, nil }, router.Concurrent(2))
		handleTopic(t, c, "news", inOrder)
		return c
	}
	b := open()
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
	swaps := 0
	for running := true; running; swaps++ {
		select {
		case <-done:
			running = false
		default:
		}
		b.Hold()
		require.NoError(t, b.Handover(context.Background()))
		b = open()
		b.Settle()
		require.NoError(t, r.Ledger().Check())
	}
	require.NoError(t, r.Idle(context.Background()))
	require.Greater(t, swaps, 1)
	require.Len(t, next, 3*senders)
	for at, n := range next {
		require.Equal(t, each, n, "%v", at)
	}
	require.EqualValues(t, senders*each, aside.Load())
	require.EqualValues(t, 4*senders*each, r.Ledger().Handled)
	require.Empty(t, r.DeadLetters())
}
