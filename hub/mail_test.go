package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestH4OpenRequests shows what becomes of the requests to and of a plugin that
// leaves: those that wait are handled while there is time, and then get a typed
// error at once, as those do that the plugin itself waits for; nothing is left.
func TestH4OpenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		asker, p, other := join(t, h, "asker"), join(t, h, "p"), join(t, h, "other")
		gate := make(chan struct{})
		hang := func(context.Context, router.Message) (any, error) { <-gate; return nil, nil }
		serve(t, p, "ask", hang)
		serve(t, other, "ask", func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
		_, err := p.HandleStream("all", (&letterbox{}).stream)
		require.NoError(t, err)
		var mu sync.Mutex
		errs := map[string]error{}
		ask := func(name string, f func() error) {
			go func() {
				err := f()
				mu.Lock()
				defer mu.Unlock()
				errs[name] = err
			}()
			synctest.Wait()
		}
		send := func(s *hub.Session, to string) func() error {
			return func() error { _, err := s.Send(context.Background(), to, "ask", 1); return err }
		}
		ask("runs", send(asker, "p"))
		ask("waits", send(asker, "p"))
		ask("stream", func() error { return readAll(context.Background(), asker, "p", "all", 1) })
		ask("own", send(p, "other"))
		require.NoError(t, asker.Post(t.Context(), "p", "ask", 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err = h.Unregister(ctx, "p")
		synctest.Wait()
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for name, started := range map[string]bool{"runs": true, "waits": false, "stream": false} {
			lost := undelivered(t, errs[name])
			require.ErrorIs(t, lost, router.ErrTargetLeft, name)
			require.Equal(t, started, lost.Started, name)
		}
		require.ErrorIs(t, errs["own"], plugbus.ErrClosed)
		_, err = asker.Send(t.Context(), "p", "ask", 1)
		require.ErrorIs(t, err, router.ErrUnknownTarget)
		require.Len(t, h.DeadLetters(), 1)
		require.Equal(t, "p", h.Leaks()[0].Plugin)
		require.Equal(t, "ask", h.Leaks()[0].Name)
		close(gate)
		idle(t, h)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}

// TestR10Silence shows that a plugin that does not exist, one that handles nothing
// and one that it may not send to look alike to a plugin that may not know of them;
// and that one which may is told.
func TestR10Silence(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"spy": {"send": {"allow": ["friend", "ghost"]}}, "friend": {"receive": true}, "stranger": {"receive": true}, "ghost": {}`)})
	spy := join(t, h, "spy")
	join(t, h, "friend")
	join(t, h, "stranger")
	var texts []string
	for _, to := range []string{"stranger", "nobody"} {
		_, err := spy.Send(t.Context(), to, "ask", 1)
		refused := refusalOf(t, err, plugbus.ReasonNoSendPermission)
		refused.Record = 0
		texts = append(texts, strings.ReplaceAll(refused.Error(), to, "X"))
	}
	require.Equal(t, texts[0], texts[1])
	_, err := spy.Send(t.Context(), "friend", "ask", 1)
	require.ErrorIs(t, err, router.ErrNoHandler)
	receipt, err := h.Host().Publish(t.Context(), "said.it", 1)
	require.NoError(t, err)
	require.Zero(t, receipt.Matched)
}

// TestH16CloseDrainsMessages shows that a hub that closes takes nothing new,
// handles what waits, and reports exactly what it did not.
func TestH16CloseDrainsMessages(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			asker, p, box, gate := join(t, h, "asker"), join(t, h, "p"), &letterbox{}, make(chan struct{})
			serve(t, p, "job", func(ctx context.Context, m router.Message) (any, error) { <-gate; return box.handle(ctx, m) })
			for i := range 4 {
				require.NoError(t, asker.Post(t.Context(), "p", "job", i))
			}
			var asked error
			go func() { _, asked = asker.Send(context.Background(), "p", "job", 4) }()
			synctest.Wait()
			go func() {
				<-time.After(time.Second)
				require.ErrorIs(t, asker.Post(context.Background(), "p", "job", 5), plugbus.ErrClosed)
				_, err := asker.Publish(context.Background(), "job", 5)
				require.ErrorIs(t, err, plugbus.ErrClosed)
				if !hangs {
					close(gate)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			report, err := h.Close(ctx)
			synctest.Wait()
			require.NoError(t, report.Ledger.Check())
			require.Zero(t, report.Ledger.Waiting+report.Ledger.Running)
			if !hangs {
				require.NoError(t, errors.Join(err, asked))
				require.True(t, report.Clean(), "%+v", report)
				require.Len(t, box.messages, 5)
				return
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, asked, plugbus.ErrClosed, "the asker is the last to stop, and does not wait for what hangs")
			require.Equal(t, [2]int{4, 1}, [2]int{report.Cancelled, report.Abandoned})
			require.EqualValues(t, 4, report.Ledger.Cancelled)
			require.Equal(t, []hub.Leak{{Plugin: "p", Kind: "handler", Name: "job", Site: report.Leaks[0].Site}}, report.Leaks)
			require.Len(t, h.DeadLetters(), 4)
			close(gate)
			synctest.Wait()
			require.Empty(t, h.Leaks())
		})
	}
}

// TestIdleOfBoth shows that Idle does not return in the moment in which an event
// has become a message, or a message an event: plugins tell each other a number of
// times, by turns, and when Idle returns the last has been told.
func TestIdleOfBoth(t *testing.T) {
	h := open(t, hub.Options{})
	a, b := join(t, h, "a"), join(t, h, "b")
	var count, wanted atomic.Int64
	_, err := a.Subscribe("ping", func(context.Context, events.Event) error {
		if count.Add(1) < wanted.Load() {
			return a.Post(context.Background(), "b", "pong", 1) //nolint:contextcheck // The chain would be too deep.
		}
		return nil
	})
	require.NoError(t, err)
	serve(t, b, "pong", func(context.Context, router.Message) (any, error) {
		if count.Add(1) < wanted.Load() {
			_, err := b.Emit(context.Background(), "ping", 1) //nolint:contextcheck // The same.
			return nil, err
		}
		return nil, nil
	})
	for range 2000 {
		wanted.Store(count.Load() + 20)
		emit(t, h.Host(), "ping", 1)
		idle(t, h)
		require.Equal(t, wanted.Load(), count.Load())
	}
}

// TestBooksOfBoth has plugins send, publish and emit at the same time, while
// handlers fail: at every poll the books balance, those of each plugin and the sum.
func TestBooksOfBoth(t *testing.T) {
	h := open(t, hub.Options{FailureBudget: -1, Router: router.Options{MailboxMessages: 16}})
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		s := join(t, h, id)
		listen(t, s, "word.*")
		n := 0
		handler := func(context.Context, router.Message) error { //nolint:unparam // It is a handler.
			if n++; n%5 == 0 {
				panic("boo")
			}
			return nil
		}
		serve(t, s, "ask", func(ctx context.Context, m router.Message) (any, error) { return nil, handler(ctx, m) })
		serve(t, s, "ask.beside", echo, router.Concurrent(2))
		_, err := s.HandleTopic("word.*", handler)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	var wait sync.WaitGroup
	for _, to := range ids {
		wait.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_ = h.Host().Post(context.Background(), to, "ask", i)                                                           //nolint:contextcheck // ctx only ends the loop.
				_, _ = h.Host().Publish(context.Background(), "word.said", i)                                                   //nolint:contextcheck // The same.
				_, _ = h.Host().Emit(context.Background(), "word.said", i)                                                      //nolint:contextcheck // The same.
				_, _ = h.Host().Send(context.Background(), to, "ask.beside", i)                                                 //nolint:contextcheck // The same.
				_, _ = h.Host().Send(context.Background(), to, "ask", i, router.Timeout(time.Duration(i%3)*time.Microsecond+1)) //nolint:contextcheck // The same.
			}
		})
	}
	wait.Go(func() {
		for ctx.Err() == nil {
			s := h.Inspect()
			require.NoError(t, s.Ledger.Check())
			require.NoError(t, h.Ledger().Check())
			for _, p := range s.Plugins {
				l := p.Ledger()
				require.NoError(t, l.Check())
				require.NoError(t, p.Mailbox.Ledger.Check())
			}
		}
	})
	wait.Wait()
	idle(t, h)
	l := h.Ledger()
	require.Zero(t, l.Waiting+l.Running)
	require.NotZero(t, l.Failed)
	s := h.Inspect()
	require.Equal(t, l, s.Ledger)
	sum := plugbus.Ledger{}
	for _, p := range s.Plugins {
		sum.Add(p.Ledger())
	}
	require.Equal(t, l.Accepted, sum.Accepted)
}

// TestR1Middleware shows that middleware is the host's, is recorded, sees messages
// before the check, so that what it makes of one is checked (R1), and is gone when
// it is removed.
func TestR1Middleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `"a": {"send": {"allow": ["b"]}}, "b": {"receive": true}, "c": {"receive": true}`)})
		a, b, c, box := join(t, h, "a"), join(t, h, "b"), join(t, h, "c"), &letterbox{}
		serve(t, b, "ask", box.handle)
		serve(t, c, "ask", box.handle)
		change := func(change func(*router.Draft)) router.Middleware {
			return func(next router.Deliver) router.Deliver {
				return func(ctx context.Context, m *router.Draft) (router.Response, error) {
					change(m)
					return next(ctx, m)
				}
			}
		}
		for reason, m := range map[plugbus.Reason]router.Middleware{
			plugbus.ReasonNoSendPermission: change(func(m *router.Draft) { m.To = "c" }),
			plugbus.ReasonInvalidContent:   change(func(m *router.Draft) { m.Data = "<script src=x>" }),
			plugbus.ReasonMiddleware: func(router.Deliver) router.Deliver {
				return func(context.Context, *router.Draft) (router.Response, error) { return router.Response{}, nil }
			},
		} {
			require.NoError(t, h.Use("test", m))
			require.ErrorIs(t, h.Use("test", m), plugbus.ErrInvalid)
			before := h.Ledger()
			_, err := a.Send(t.Context(), "b", "ask", 1)
			denied(t, err, reason)
			require.Equal(t, before.Refused+1, h.Ledger().Refused)
			require.True(t, h.Unuse("test"))
			require.False(t, h.Unuse("test"))
		}
		require.Empty(t, box.types())
		require.Len(t, entries(t, h, audit.Query{Actor: "a", Outcome: plugbus.Refused}), 3)
		_, err := a.Send(t.Context(), "b", "ask", 1)
		require.NoError(t, err)
		for _, event := range []string{"middleware.added", "middleware.removed"} {
			for _, e := range entries(t, h, audit.Query{Event: event}) {
				require.True(t, e.Admin)
				require.Equal(t, "test", e.Target)
			}
			require.NotEmpty(t, entries(t, h, audit.Query{Event: event}))
		}
	})
}

// TestDeadLettersOfAHub shows that what was accepted and not handled can be sent
// again or discarded by the host, that both are recorded, and that a letter passes
// its sender's door again.
func TestDeadLettersOfAHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const policy = `"a": {"send": true}, "b": {"receive": true}`
		h := open(t, hub.Options{Policy: policyOf(t, policy)})
		a, b, box := join(t, h, "a"), join(t, h, "b"), &letterbox{}
		fails := serve(t, b, "job", func(context.Context, router.Message) (any, error) { return nil, errPlugin })
		for i := range 2 {
			require.NoError(t, a.Post(t.Context(), "b", "job", i))
		}
		idle(t, h)
		letters := h.DeadLetters()
		require.Len(t, letters, 2)
		require.Equal(t, []any{"a", "b", "job", 0, plugbus.Failed},
			[]any{letters[0].From(), letters[0].To(), letters[0].Type(), letters[0].Data(), letters[0].Outcome})
		fails.Remove()
		serve(t, b, "job", box.handle)
		swap(t, h, policyOf(t, `"a": {}, "b": {"receive": true}`))
		denied(t, h.Resend(t.Context(), letters[0].Number), plugbus.ReasonNoSendPermission)
		swap(t, h, policyOf(t, policy))
		require.NoError(t, h.Resend(t.Context(), letters[0].Number))
		require.NoError(t, h.Discard(letters[1].Number))
		idle(t, h)
		require.Empty(t, h.DeadLetters())
		require.Len(t, box.messages, 1)
		require.Equal(t, "a", box.messages[0].From())
		require.NotEqual(t, letters[0].ID(), box.messages[0].ID(), "it is a new message")
		require.ErrorIs(t, h.Resend(t.Context(), letters[0].Number), router.ErrNoLetter)
		require.ErrorIs(t, h.Discard(letters[1].Number), router.ErrNoLetter)
		resent := entries(t, h, audit.Query{Event: "dead-letter.*"})
		require.Len(t, resent, 5)
		for _, e := range resent {
			require.True(t, e.Admin)
			require.Contains(t, []string{fmt.Sprint(letters[0].Number), fmt.Sprint(letters[1].Number)}, e.Target)
		}
		found := entries(t, h, audit.Query{Event: "delivery.failed", Actor: "b"})
		require.Len(t, found, 1)
		require.EqualValues(t, 2, found[0].Count)
	})
}
