package router_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// A tally is what senders were told.
type tally struct{ refused, full, accepted atomic.Uint64 }

// count counts the result of one message.
func (n *tally) count(t testing.TB, err error) {
	_, delivered := errors.AsType[*router.DeliveryError](err)
	_, answered := errors.AsType[*plugbus.RemoteError](err)
	switch {
	case err == nil, delivered, answered:
		n.accepted.Add(1)
	case errors.Is(err, router.ErrQueueFull):
		n.full.Add(1)
	case errors.Is(err, plugbus.ErrDenied), errors.Is(err, router.ErrUnknownTarget), errors.Is(err, router.ErrNoHandler):
		n.refused.Add(1)
		<-time.After(50 * time.Microsecond) // Not to come to the end in vain.
	default:
		t.Error("a result of no kind:", err)
	}
}

// TestLedgerBalances has plugins send in every way to plugins that fail, hang,
// leave and join while the policy moves: at every look the ledger balances, and in
// the end its figures are what the senders were told.
func TestLedgerBalances(t *testing.T) {
	r, err := router.New(router.Options{MailboxMessages: 32, MailboxBytes: 4096, SlowAfter: time.Millisecond, OnSlow: func(router.Slow) {}})
	require.NoError(t, err)
	rounds := 1500
	if testing.Short() {
		rounds = 150
	}
	rules := newRules()
	rules.inline["to3"] = true
	open := func(n int) *router.Client {
		id := fmt.Sprintf("to%d", n)
		c, err := r.Client(id, router.ClientOptions{Guard: rules.guard(id)})
		if err != nil {
			t.Error(err)
			return nil
		}
		var options []router.HandleOption
		if n == 1 {
			options = append(options, router.Concurrent(3))
		}
		if n == 2 {
			options = append(options, router.Timeout(300*time.Microsecond))
		}
		for typ, h := range map[string]router.Handler{
			"echo":  echo,
			"fail":  func(context.Context, router.Message) (any, error) { return nil, errors.New("no") },
			"panic": func(context.Context, router.Message) (any, error) { panic("oops") },
			"bad":   func(context.Context, router.Message) (any, error) { return make(chan int), nil },
			"slow": func(context.Context, router.Message) (any, error) {
				<-time.After(500 * time.Microsecond)
				return nil, nil
			},
			"obey": func(ctx context.Context, _ router.Message) (any, error) {
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
				return nil, ctx.Err()
			},
			"pass": func(ctx context.Context, _ router.Message) (any, error) {
				_, err := c.Send(ctx, "to0", "echo", nil, router.Timeout(time.Millisecond))
				return nil, err
			},
		} {
			if typ == "pass" && n != 1 {
				continue // Others would count what the senders do not.
			}
			if _, err := c.Handle(typ, h, options...); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.HandleStream("flow", func(ctx context.Context, m router.Message, yield func(any) bool) error {
			for i := 0; i < m.Size()%30 && yield(i); i++ {
			}
			return ctx.Err()
		}, options...); err != nil {
			t.Error(err)
		}
		if n != 3 { // There, it would take its sender's goroutine.
			if _, err := c.Handle("exit", func(context.Context, router.Message) (any, error) { runtime.Goexit(); return nil, nil }, options...); err != nil {
				t.Error(err)
			}
		}
		return c
	}
	var told tally
	stop := make(chan struct{})
	var senders, others sync.WaitGroup
	for n := range 4 {
		c := open(n)
		if n == 0 {
			continue
		}
		others.Go(func() { // Leaves and joins.
			for range 2 + 30/n {
				select {
				case <-stop:
				case <-time.After(5 * time.Millisecond):
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				_ = c.Close(ctx)
				cancel()
				c = open(n)
			}
		})
	}
	types := []string{"echo", "echo", "echo", "fail", "panic", "exit", "bad", "slow", "obey", "none"}
	for n := range 6 {
		id := fmt.Sprintf("from%d", n)
		c := join(t, r, id, rules.guard(id))
		senders.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // No secret.
			for range rounds {
				to, typ := fmt.Sprintf("to%d", rnd.IntN(5)), types[rnd.IntN(len(types))]
				var options []router.SendOption
				if rnd.IntN(4) == 0 {
					options = append(options, router.WaitForRoom())
				}
				if rnd.IntN(4) == 0 {
					options = append(options, router.MaxAge(time.Duration(rnd.IntN(1000)+1)*time.Microsecond))
				}
				options = append(options, router.Priority(plugbus.Priority(rnd.IntN(3)-1)))
				ctx, cancel := context.WithCancel(context.Background())
				data := string(make([]byte, rnd.IntN(600)))
				switch rnd.IntN(5) {
				case 4:
					var last error
					for chunk, err := range c.Stream(ctx, to, "flow", data, append(options, router.Timeout(time.Duration(rnd.IntN(2000)+1)*time.Microsecond))...) {
						last = err
						if chunk.Index() == 20 {
							break
						}
					}
					told.count(t, last)
				case 0, 1:
					told.count(t, c.Post(ctx, to, typ, data, options...))
				case 2:
					_, err := c.Send(ctx, to, typ, data, append(options, router.Timeout(time.Duration(rnd.IntN(1000)+1)*time.Microsecond))...)
					told.count(t, err)
				default:
					time.AfterFunc(time.Duration(rnd.IntN(800))*time.Microsecond, cancel)
					_, err := c.Send(ctx, to, typ, data, options...)
					if errors.Is(err, context.Canceled) && ctx.Err() != nil {
						if _, sent := errors.AsType[*router.DeliveryError](err); !sent && !errors.Is(err, router.ErrQueueFull) {
							cancel()
							continue // It was not offered.
						}
					}
					told.count(t, err)
				}
				cancel()
			}
		})
	}
	others.Go(func() { // Moves the policy.
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			id := fmt.Sprintf("to%d", i%4)
			rules.deny(plugbus.VerbSend, id)
			rules.deny(plugbus.VerbReceive, fmt.Sprintf("from%d", i%6))
			<-time.After(200 * time.Microsecond)
			rules.allow(plugbus.VerbSend, id)
			rules.allow(plugbus.VerbReceive, fmt.Sprintf("from%d", i%6))
		}
	})
	others.Go(func() { // Looks.
		for {
			if err := r.Ledger().Check(); err != nil {
				t.Error(err)
			}
			s := r.Stats()
			if err := s.Ledger.Check(); err != nil {
				t.Error(err)
			}
			for _, box := range s.Mailboxes {
				if err := box.Ledger.Check(); err != nil || box.Waiting > 32 || box.Waiting != int(box.Ledger.Waiting) {
					t.Error(err, box)
				}
			}
			_ = r.Leaks()
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	})
	senders.Wait()
	close(stop)
	others.Wait()
	require.NoError(t, r.Close(context.Background()))
	requireBalanced(t, r)
	l := r.Ledger()
	require.Equal(t, [...]uint64{told.accepted.Load(), told.full.Load(), told.refused.Load()}, [...]uint64{l.Accepted, l.Full, l.Refused}, "%v", l)
	t.Log(l)
}
