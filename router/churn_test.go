package router_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/router"
)

// A churner is a plugin of TestChurn, through all its clients.
type churner struct {
	r  *router.Router
	id string
	n  int

	last    atomic.Int64 // of the numbers that came, which only grow
	early   atomic.Int64 // messages that overtook others
	busy    atomic.Int32 // handlers of the worker that run
	overlap atomic.Int64
}

// open sets the handlers of a new client, which passes on what it is asked, so that
// requests meet in circles.
func (p *churner) open(t *testing.T, c *router.Client) (asked *router.Route) {
	t.Helper()
	alone := func(h router.Handler) router.Handler {
		return func(ctx context.Context, m router.Message) (any, error) {
			if p.busy.Add(1) != 1 {
				p.overlap.Add(1)
			}
			defer p.busy.Add(-1)
			return h(ctx, m)
		}
	}
	pass := func(ctx context.Context, m router.Message) (any, error) {
		left, _ := m.Data().(int)
		if left == 0 {
			return nil, nil
		}
		reply, err := c.Send(ctx, fmt.Sprintf("p%d", (p.n+left)%churners), "ask", left-1)
		return reply.Data(), err
	}
	asked = handle(t, c, "ask", alone(pass))
	handle(t, c, "beside", pass, router.Concurrent(2))
	handle(t, c, "number", alone(func(_ context.Context, m router.Message) (any, error) {
		if n := int64(m.Data().(int)); p.last.Swap(n) >= n {
			p.early.Add(1)
		}
		return nil, nil
	}))
	_, err := c.HandleTopic("news.*", func(ctx context.Context, m router.Message) error {
		_, err := alone(echo)(ctx, m)
		return err
	})
	require.NoError(t, err)
	return asked
}

// live lets clients of the plugin come and go.
func (p *churner) live(t *testing.T, stop <-chan struct{}) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(p.n), 2)) //nolint:gosec // No secret.
	c := join(t, p.r, p.id)
	asked := p.open(t, c)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(3000)) * time.Microsecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rnd.IntN(3))*time.Millisecond)
		next := (*router.Client)(nil)
		switch rnd.IntN(6) {
		case 0: // It leaves.
			_ = c.Close(ctx)
		case 1: // Its handler does.
			asked.Remove()
			asked = handle(t, c, "ask", echo)
			cancel()
			continue
		case 2: // It is replaced, and its successor leaves before it has settled.
			next = joinHeld(t, p.r, p.id)
			p.open(t, next)
			require.NoError(t, next.Succeed(c))
			_ = next.Close(ctx)
			_ = c.Close(ctx)
			next = nil
		case 3: // Somebody is to replace it, and does not.
			held := joinHeld(t, p.r, p.id)
			p.open(t, held)
			_ = held.Close(ctx)
			_ = c.Close(ctx)
		default:
			next = joinHeld(t, p.r, p.id)
			asked = p.open(t, next)
			require.NoError(t, next.Succeed(c))
			_ = c.Drained(ctx)
			_ = c.Close(ctx)
		}
		cancel()
		// What was abandoned may run beside the next client's handlers, and begin to do
		// so when the client has ended already.
		for slices.ContainsFunc(p.r.Leaks(), func(l router.Leak) bool { return l.Plugin == p.id }) {
			<-time.After(10 * time.Microsecond)
		}
		if c = next; c != nil {
			c.Settle()
			continue
		}
		c = join(t, p.r, p.id)
		asked = p.open(t, c)
	}
}

const churners = 4

// TestChurn has plugins that ask each other in circles come, go, hand over and change
// their handlers under load, whatever waits. Everything ends: each request, each
// wait for rest, and the router; and whatever comes, comes in order and alone.
func TestChurn(t *testing.T) {
	r := newRouter(t, router.Options{MailboxMessages: 64, OnFailure: func(router.Failure) {}, OnSlow: func(router.Slow) {}, SlowAfter: time.Millisecond})
	rules := newRules()
	rules.inline["p0"] = true
	stop := make(chan struct{})
	var senders, others sync.WaitGroup
	plugins := make([]*churner, churners)
	for n := range plugins {
		plugins[n] = &churner{r: r, id: fmt.Sprintf("p%d", n), n: n}
		others.Go(func() { plugins[n].live(t, stop) })
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_ = r.Idle(ctx)
			cancel()
		}
	})
	rounds := 800
	if testing.Short() {
		rounds = 200
	}
	for n := range plugins {
		id := fmt.Sprintf("from%d", n)
		c := join(t, r, id, rules.guard(id))
		senders.Go(func() {
			for i := range rounds {
				to := plugins[i%churners].id
				_, _ = c.Send(context.Background(), to, "ask", i%5, router.Timeout(time.Duration(i%7+1)*time.Millisecond))
				_, _ = c.Send(context.Background(), to, "beside", i%3, router.Timeout(time.Millisecond))
				_, _ = c.Publish(context.Background(), "news.local", i)
				_ = c.Post(context.Background(), plugins[n].id, "number", i+1)
			}
		})
	}
	senders.Wait()
	close(stop)
	others.Wait()
	rest, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.Idle(rest))
	require.NoError(t, r.Close(rest))
	for _, p := range plugins {
		require.Zero(t, p.early.Load(), "messages that overtook others")
		require.Zero(t, p.overlap.Load(), "handlers that overlapped")
	}
	t.Log(r.Ledger())
}
