package router_test

import (
	"context"
	"errors"
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

// A healer is a handler that fails until it is well.
type healer struct {
	diary
	well atomic.Bool
}

func (h *healer) handle(ctx context.Context, m router.Message) (any, error) {
	if !h.well.Load() {
		return nil, errSorry
	}
	return h.write(ctx, m)
}

// TestResend sends a letter again: a new message with the same content, of which
// the letter is gone when it is accepted.
func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		a, b := join(t, r, "a", law.guard("a")), join(t, r, "b")
		h := &healer{}
		handle(t, b, "note", h.handle)
		post(t, a, "b", "note", []string{"x"}, router.Headers(map[string]string{"k": "v"}),
			router.CorrelationID("c"), router.ClientID("mine"), router.Priority(plugbus.PriorityHigh), router.MaxAge(time.Minute))
		require.NoError(t, r.Idle(t.Context()))
		old := r.DeadLetters()[0]
		pass(time.Hour)
		h.well.Store(true)
		require.NoError(t, r.Resend(t.Context(), old.Number))
		require.NoError(t, r.Idle(t.Context()))
		require.Empty(t, r.DeadLetters())
		require.Len(t, h.read(), 1)
		m := h.read()[0]
		require.NotEqual(t, old.ID(), m.ID())
		require.Equal(t, time.Hour, m.Time().Sub(old.Time()).Round(time.Minute))
		require.Equal(t, "a b note [x] v c mine high", fmt.Sprint(m.From(), " ", m.To(), " ", m.Type(), " ", m.Data(), " ", m.Header("k"), " ", m.CorrelationID(), " ", m.ClientID(), " ", m.Priority()))
		require.ErrorIs(t, r.Resend(t.Context(), old.Number), router.ErrNoLetter)
		require.Equal(t, plugbus.Ledger{Offered: 2, Accepted: 2, Failed: 1, Handled: 1}, r.Ledger(), "it is a new message")
	})
}

// TestResendThatFailsAgain makes a new letter of a message that was sent again.
func TestResendThatFailsAgain(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	handle(t, b, "fail", fail)
	post(t, a, "b", "fail", 7)
	for n := range uint64(3) {
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []uint64{n + 1}, numbers(r))
		require.Equal(t, 1, r.DeadLetters()[0].Chain().Depth(), "the chain does not grow")
		require.NoError(t, r.Resend(t.Context(), n+1))
	}
	require.NoError(t, r.Idle(t.Context()))
	require.Equal(t, []any{7}, payloads(r))
}

// TestResendAtItsChain sends a letter again at what was its chain, whatever its
// sender and the host are about meanwhile.
func TestResendAtItsChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MaxDepth: 4})
		h := &healer{}
		origin, a, b := join(t, r, "origin"), join(t, r, "a"), join(t, r, "b")
		handle(t, b, "note", h.handle)
		g := closedGate(t)
		handle(t, a, "relay", func(ctx context.Context, m router.Message) (any, error) {
			return nil, a.Post(ctx, "b", "note", m.Data())
		})
		handle(t, a, "busy", g.then(echo))
		handle(t, b, "busy", func(ctx context.Context, _ router.Message) (any, error) { return nil, b.Post(ctx, "a", "busy", nil) })
		handle(t, a, "begin", func(ctx context.Context, _ router.Message) (any, error) { return nil, a.Post(ctx, "b", "busy", nil) })
		post(t, origin, "a", "relay", 1)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, "origin → a", r.DeadLetters()[0].Chain().String())
		post(t, origin, "a", "begin", nil)
		synctest.Wait() // Now a serves what origin, a and b led to.
		h.well.Store(true)
		require.NoError(t, r.Resend(t.Context(), 1))
		synctest.Wait()
		require.Len(t, h.read(), 1)
		require.Equal(t, "origin → a", h.read()[0].Chain().String())
		g.open()
	})
}

// TestResendThroughTheDoor sends a letter again with the sender's rights of now,
// and keeps it when that does not do.
func TestResendThroughTheDoor(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, law *rules, a, b *router.Client)
		want   error
		left   bool // somebody has left, who does not come back
	}{
		{"right", func(_ *testing.T, law *rules, _, _ *router.Client) { law.deny(plugbus.VerbSend, "b") }, plugbus.ErrDenied, false},
		{"receive", func(_ *testing.T, law *rules, _, _ *router.Client) { law.deny(plugbus.VerbReceive, "a") }, plugbus.ErrDenied, false},
		{"rate", func(_ *testing.T, law *rules, _, _ *router.Client) {
			law.change(func() { law.acts = newMeter(0, time.Second) })
		}, plugbus.ErrDenied, false},
		{"size", func(_ *testing.T, law *rules, _, _ *router.Client) { law.change(func() { law.payload.MaxBytes = 1 }) }, plugbus.ErrDenied, false},
		{"priority", func(_ *testing.T, law *rules, _, _ *router.Client) {
			law.change(func() { law.priority = plugbus.PriorityLow })
		}, plugbus.ErrDenied, false},
		{"sender", func(t *testing.T, _ *rules, a, _ *router.Client) { require.NoError(t, a.Close(t.Context())) }, router.ErrUnknownTarget, true},
		{"recipient", func(t *testing.T, _ *rules, _, b *router.Client) { require.NoError(t, b.Close(t.Context())) }, router.ErrUnknownTarget, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			a, b := join(t, r, "a", law.guard("a")), join(t, r, "b", law.guard("b"))
			h := &healer{}
			handle(t, b, "note", h.handle)
			post(t, a, "b", "note", "x1")
			post(t, a, "b", "note", "x2")
			require.NoError(t, r.Idle(t.Context()))
			h.well.Store(true)
			before := r.DeadLetters()
			test.change(t, law, a, b)
			require.ErrorIs(t, r.Resend(t.Context(), 1), test.want)
			require.Equal(t, before, r.DeadLetters(), "it is where it was")
			require.Empty(t, h.read())
			if test.left {
				return
			}
			law.change(func() {
				clear(law.denied)
				law.acts, law.payload.MaxBytes, law.priority = nil, 0, plugbus.PriorityHigh
			})
			require.NoError(t, r.Resend(t.Context(), 1))
			require.NoError(t, r.Idle(t.Context()))
			require.Equal(t, []any{"x1"}, h.data())
		})
	}
}

// TestResendRestoresWithinBounds fails to send a letter again while others take
// its place: those that are kept are within the bounds all the same.
func TestResendRestoresWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{DeadLetters: 2}), newRules()
		guard := law.guard("a")
		a, b := join(t, r, "a", guard), join(t, r, "b")
		handle(t, b, "fail", fail)
		for n := range 2 {
			post(t, a, "b", "fail", n)
		}
		other := join(t, r, "other")
		require.NoError(t, r.Idle(t.Context()))
		law.deny(plugbus.VerbSend, "b")
		guard.onPermit = func(plugbus.Verb, string) { // While the first is on its way.
			post(t, other, "b", "fail", "other")
			synctest.Wait()
		}
		require.ErrorIs(t, r.Resend(t.Context(), 1), plugbus.ErrDenied)
		guard.onPermit = nil
		require.Equal(t, []any{1, "other"}, payloads(r))
	})
}

// TestResendPublication sends a publication again to the one handler that did not
// handle it: others do not get it twice.
func TestResendPublication(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			r, law := newRouter(t, router.Options{}), newRules()
			law.unknown["b"] = !known
			a, b, c := join(t, r, "a", law.guard("a")), join(t, r, "b"), join(t, r, "c")
			h, good := &healer{}, &diary{}
			handleTopic(t, b, "news.*", good.write)
			handleTopic(t, b, "news.sport", good.write)
			handleTopic(t, b, "news.sport", h.handle) // It and the one before have one pattern.
			handleTopic(t, c, "news.sport", good.write)
			receipt := publish(t, a, "news.sport", "x")
			require.NoError(t, r.Idle(t.Context()))
			require.Len(t, good.read(), 3)
			require.Len(t, r.DeadLetters(), 1)
			require.Equal(t, receipt.ID, r.DeadLetters()[0].ID())
			h.well.Store(true)
			require.NoError(t, r.Resend(t.Context(), 1))
			require.NoError(t, r.Idle(t.Context()))
			require.Empty(t, r.DeadLetters())
			require.Len(t, good.read(), 3)
			require.Equal(t, []string{"b news.sport 3"}, h.told())
			require.NotEqual(t, receipt.ID, h.read()[0].ID())
		})
	}
}

// TestResendPublicationNot keeps the letter of a publication that nobody takes.
func TestResendPublicationNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{MailboxMessages: 4}), newRules()
		a, b, c := join(t, r, "a"), join(t, r, "b", law.guard("b")), join(t, r, "c")
		got := &diary{}
		handleTopic(t, c, "news", got.write)
		route := handleTopic(t, b, "news", fail)
		handleTopic(t, b, "*", got.write) // Another handler of the recipient.
		publish(t, a, "news", "x")
		require.NoError(t, r.Idle(t.Context()))
		before := len(got.read())
		law.deny(plugbus.VerbConsume, "news")
		require.ErrorIs(t, r.Resend(t.Context(), 1), plugbus.ErrDenied)
		law.allow(plugbus.VerbConsume, "news")
		g := closedGate(t)
		handle(t, b, "wait", g.then(echo))
		post(t, a, "b", "wait", nil)
		synctest.Wait()
		post(t, a, "b", "wait", nil)
		require.ErrorIs(t, r.Resend(t.Context(), 1), router.ErrQueueFull)
		g.open()
		require.NoError(t, r.Idle(t.Context()))
		route.Remove()
		require.ErrorIs(t, r.Resend(t.Context(), 1), router.ErrNoHandler)
		require.Equal(t, []uint64{1}, numbers(r))
		require.Len(t, got.read(), before, "nobody else gets it")
	})
}

// TestResendShared keeps no payload that was passed by reference, and so cannot
// send it again. What merely looks like one can be.
func TestResendShared(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	handle(t, b, "fail", fail)
	secret := &struct{ Text string }{"kept by nobody"}
	post(t, a, "b", "fail", plugbus.Shared(secret), router.Headers(map[string]string{"k": "v"}))
	require.NoError(t, r.Idle(t.Context()))
	l := r.DeadLetters()[0]
	require.True(t, l.Shared())
	require.IsType(t, "", l.Data())
	require.Equal(t, "v", l.Header("k"))
	require.ErrorIs(t, r.Resend(t.Context(), l.Number), plugbus.ErrInvalid)
	require.Equal(t, []uint64{l.Number}, numbers(r))
	post(t, a, "b", "fail", l.Data())
	require.NoError(t, r.Idle(t.Context()))
	require.False(t, r.DeadLetters()[1].Shared())
	require.NoError(t, r.Resend(t.Context(), 2))
	require.NoError(t, r.Idle(t.Context()))
}

// TestResendAtOnce has many send one letter again: it is sent once.
func TestResendAtOnce(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	h := &healer{}
	handle(t, b, "note", h.handle)
	const letters, hosts = 50, 4
	for n := range letters {
		post(t, a, "b", "note", n)
	}
	require.NoError(t, r.Idle(t.Context()))
	h.well.Store(true)
	var sent, missing atomic.Int32
	var wg sync.WaitGroup
	for range hosts {
		wg.Go(func() {
			for n := range uint64(letters) {
				switch err := r.Resend(context.Background(), n+1); {
				case err == nil:
					sent.Add(1)
				case errors.Is(err, router.ErrNoLetter):
					missing.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.Idle(t.Context()))
	require.EqualValues(t, letters, sent.Load())
	require.EqualValues(t, letters*(hosts-1), missing.Load())
	require.Len(t, h.read(), letters)
	require.Empty(t, r.DeadLetters())
}
