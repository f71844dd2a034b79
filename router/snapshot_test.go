package router_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestStats looks at a router with a bit of everything.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		a, b := join(t, r, "a", law.guard("a")), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		handleTopic(t, b, "news.*", echo)
		handleStream(t, b, "count", count, router.Concurrent(3))
		_, err := b.HandleDefault(fail)
		require.NoError(t, err)
		post(t, a, "b", "fail", nil)
		require.NoError(t, r.Idle(t.Context()))
		post(t, a, "b", "wait", "four")
		_, err = a.Send(t.Context(), "b", "wait", nil, router.Timeout(time.Second))
		require.Error(t, err)
		post(t, a, "b", "wait", "four")
		publish(t, a, "news.x", "three")
		require.Error(t, a.Post(t.Context(), "nobody", "x", nil))
		law.deny(plugbus.VerbSend, "b")
		require.Error(t, a.Post(t.Context(), "b", "x", nil))
		s := r.Stats()
		require.Len(t, s.Mailboxes, 2)
		require.Equal(t, router.MailboxStats{ID: "a", Sent: 5, Refused: 2}, s.Mailboxes[0])
		m := s.Mailboxes[1]
		require.Equal(t, plugbus.Ledger{Offered: 5, Accepted: 5, Failed: 1, Expired: 1, Waiting: 2, Running: 1}, m.Ledger)
		require.Equal(t, 2, m.Waiting)
		require.EqualValues(t, len("four")+len("three"), m.Bytes)
		require.Len(t, m.Handlers, 4)
		for i, want := range []router.RouteStats{
			{},
			{Type: "count", Stream: true, Concurrent: 3},
			{Type: "news.*", Topic: true},
			{Type: "wait"},
		} {
			require.Contains(t, m.Handlers[i].Site, "_test.go:")
			m.Handlers[i].Site = ""
			require.Equal(t, want, m.Handlers[i])
		}
		want := m.Ledger
		want.Count(plugbus.Refused, 2)
		require.Equal(t, want, s.Ledger)
		require.Equal(t, want, r.Ledger())
		require.Equal(t, 1, s.DeadLetters)
		law.allow(plugbus.VerbSend, "b")
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		ended := r.Ledger()
		require.NoError(t, b.Close(t.Context()))
		require.Equal(t, ended, r.Ledger(), "the figures of one that has left are not lost")
	})
}

// TestRefusedByOneThatLeft counts what comes too late for a mailbox in the
// router's ledger, which never goes back.
func TestRefusedByOneThatLeft(t *testing.T) {
	r, law := newRouter(t, router.Options{}), newRules()
	a := join(t, r, "a")
	guard := law.guard("b")
	b := join(t, r, "b", guard)
	handleTopic(t, b, "news", echo)
	guard.onPermit = func(verb plugbus.Verb, _ string) { // When the sender has looked up the handlers already.
		if verb == plugbus.VerbConsume {
			require.NoError(t, b.Close(t.Context()))
		}
	}
	require.Zero(t, publish(t, a, "news", nil).Matched)
	require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger())
}

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 4})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		handle(t, b, "picky", echo, router.Senders([]string{"c"}, nil))
		require.Equal(t, "not joined", r.Room("a", "nobody", "x"))
		require.Equal(t, "no handler", r.Room("a", "b", "x"))
		require.Equal(t, "not for this sender", r.Room("a", "b", "picky"))
		require.Empty(t, r.Room("a", "b", "wait"))
		post(t, a, "b", "wait", nil)
		synctest.Wait()
		post(t, a, "b", "wait", nil)
		require.Equal(t, "full", r.Room("a", "b", "wait"))
		require.Empty(t, r.Room("c", "b", "wait"), "there is a share for each")
		b.BeginDrain()
		require.Equal(t, "draining", r.Room("c", "b", "wait"))
	})
}

// TestWatch names handlers that run for long: once, on the worker, beside it and
// of a message that came while the worker was at work.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow []router.Slow
		start := time.Now()
		r := newRouter(t, router.Options{SlowAfter: time.Second, OnSlow: func(s router.Slow) {
			slow = append(slow, s)
			require.LessOrEqual(t, time.Since(start), 2*time.Second)
		}})
		a, b := join(t, r, "a"), join(t, r, "b")
		lasts := func(_ context.Context, m router.Message) (any, error) {
			<-time.After(m.Data().(time.Duration))
			return nil, nil
		}
		handle(t, b, "worker", lasts)
		handle(t, b, "beside", lasts, router.Concurrent(1))
		for _, typ := range []string{"worker", "beside"} {
			slow, start = nil, time.Now()
			post(t, a, "b", typ, 999*time.Millisecond)
			require.NoError(t, r.Idle(t.Context()))
			pass(time.Minute)
			require.Empty(t, slow)
			start = time.Now()
			post(t, a, "b", typ, time.Hour)
			require.NoError(t, r.Idle(t.Context()))
			require.Len(t, slow, 1)
			require.Equal(t, router.Slow{Plugin: "b", Type: typ, Site: slow[0].Site, For: time.Second}, slow[0])
			require.Contains(t, slow[0].Site, "_test.go:")
		}
		// A message that the worker finds when the watch has just seen nothing.
		pass(time.Minute) // The watch has ended, and begins anew with the handler.
		handle(t, b, "meanwhile", func(context.Context, router.Message) (any, error) {
			<-time.After(time.Second)
			start, slow = time.Now(), nil
			return nil, a.Post(context.Background(), "b", "worker", time.Hour) //nolint:contextcheck // Another plugin acts here.
		})
		post(t, a, "b", "meanwhile", nil)
		require.NoError(t, r.Idle(t.Context()))
		require.Len(t, slow, 1)
	})
}

// TestWatchEnds sets no timer when the router is closed, whatever still runs.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		r := newRouter(t, router.Options{SlowAfter: time.Second, OnSlow: func(router.Slow) { looks++ }})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "hang", g.then(echo))
		post(t, a, "b", "hang", nil)
		synctest.Wait()
		require.Error(t, r.Close(dead()))
		pass(time.Hour)
		require.Zero(t, looks)
		g.open()
		synctest.Wait()
	})
}

// TestLateReplies counts replies that come when nobody waits any more.
func TestLateReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		_, err := a.Send(t.Context(), "b", "wait", nil, router.Timeout(time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, r.Stats().Late)
		g.open()
		synctest.Wait()
		require.EqualValues(t, 1, r.Stats().Late)
		require.EqualValues(t, 1, mailboxOf(t, r, "b").Late)
		require.NoError(t, b.Close(t.Context()))
		require.EqualValues(t, 1, r.Stats().Late)
	})
}
