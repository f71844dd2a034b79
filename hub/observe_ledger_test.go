package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// TestObserverAgreesWithLedger shows that the sums of what is observed are the ledger,
// exactly, whatever ends how: at rest in the middle, and when the hub has closed on what
// waits and runs.
func TestObserverAgreesWithLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, observedLedger)
	})
}

// A mess is a hub whose plugins do everything badly now and then.
type mess struct {
	h       *hub.Hub
	plugins []*hub.Session
	release chan struct{}
	let     func() // closes release
}

func observedLedger(r *rapid.T) {
	var book logbook
	h, err := hub.New(hub.Options{
		Policy: strictPolicy(r), Observer: &book, ObserverQueue: 1 << 16, FailureBudget: -1, WaitLimit: 10 * time.Second,
		Router: router.Options{MailboxMessages: 8, RequestTimeout: 3 * time.Second},
	})
	require.NoError(r, err)
	m := &mess{h: h, release: make(chan struct{})}
	m.let = sync.OnceFunc(func() { close(m.release) })
	defer func() {
		m.let()
		_, _ = h.Close(context.Background())
		synctest.Wait()
	}()
	for i := range 3 {
		m.join(r, fmt.Sprint("p", i))
	}
	var sum plugbus.Ledger
	add := func() {
		for _, o := range book.take() {
			sum.Observe(o)
		}
	}
	for range rapid.IntRange(1, 60).Draw(r, "acts") {
		m.act(r)
		if rapid.IntRange(0, 9).Draw(r, "rest") == 0 {
			<-time.After(time.Minute)
			synctest.Wait()
			add()
			ledger := h.Ledger()
			if ledger.Waiting+ledger.Running == 0 {
				require.Equal(r, ledger, sum)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rapid.IntRange(0, 20).Draw(r, "seconds"))*time.Second)
	defer cancel()
	report, _ := h.Close(ctx)
	add()
	require.NoError(r, report.Ledger.Check())
	require.Equal(r, report.Ledger, sum)
	require.Zero(r, h.Inspect().Observer.Dropped)
	m.let()
	<-time.After(time.Minute)
	require.Empty(r, book.take())
	require.Equal(r, report.Ledger, h.Ledger())
}

const messPolicy = `
	"p0": {"trust": "basic", "emit": true, "broadcast": true, "subscribe": {"allow": ["job.*"]}, "publish": true, "consume": true, "canSendMessages": true, "canReceiveMessages": true},
	"p1": {"trust": "basic", "emit": {"allow": ["job.*"], "deny": ["job.1"]}, "broadcast": true, "subscribe": {"allow": ["job.*"], "deny": ["job.2"]}, "publish": true,
		"consume": {"allow": ["job.*"], "deny": ["job.3"]}, "canSendMessages": true, "canReceiveMessages": true, "rates": {"events": {"limit": 10, "per": "1m", "burst": 3}}},
	"p2": {"trust": "basic", "subscribe": {"allow": ["job.*"]}, "consume": true, "canReceiveMessages": true}`

func strictPolicy(r *rapid.T) *security.Policy {
	policy, err := security.Parse(fmt.Appendf(nil, `{"version": 1, "plugins": {%s}}`, messPolicy), "mess.json")
	require.NoError(r, err)
	return policy
}

// join adds a plugin with some handlers.
func (m *mess) join(r *rapid.T, id string) {
	p := &plug{manifest: named(id)}
	require.NoError(r, m.h.Register(context.Background(), p))
	m.plugins = append(m.plugins, p.session)
	for range rapid.IntRange(0, 3).Draw(r, "subscriptions") {
		options := []events.SubscribeOption{events.Narrow(), events.Buffer(rapid.IntRange(1, 4).Draw(r, "buffer"))}
		options = append(options, events.OnOverflow(rapid.SampledFrom([]events.Overflow{events.DropOldest, events.DropNewest, events.RefuseToEmitter}).Draw(r, "rule")))
		if rapid.Bool().Draw(r, "timeout") {
			options = append(options, events.Timeout(2*time.Second))
		}
		if rapid.IntRange(0, 3).Draw(r, "concurrent") == 0 {
			options = append(options, events.Concurrent(2))
		}
		if rapid.IntRange(0, 3).Draw(r, "filter") == 0 {
			options = append(options, events.Filter(func(e events.Event) bool { return e.Seq()%2 == 0 }))
		}
		if rapid.IntRange(0, 5).Draw(r, "once") == 0 {
			options = append(options, events.Once())
		}
		if rapid.IntRange(0, 3).Draw(r, "history") == 0 {
			options = append(options, events.StartAt(events.All()))
		}
		_, err := p.session.Subscribe("job.*", func(ctx context.Context, e events.Event) error { return m.behave(ctx, e.Data()) }, options...)
		require.NoError(r, err)
	}
	reply := func(ctx context.Context, q router.Message) (any, error) { return 1, m.behave(ctx, q.Data()) }
	options := []router.HandleOption{router.Timeout(2 * time.Second)}
	if rapid.Bool().Draw(r, "concurrent handler") {
		options = append(options, router.Concurrent(2))
	}
	_, err := p.session.Handle("job", reply, options...)
	require.NoError(r, err)
	_, err = p.session.HandleStream("flow", func(ctx context.Context, q router.Message, yield func(any) bool) error {
		yield(1)
		return m.behave(ctx, q.Data())
	})
	require.NoError(r, err)
	_, err = p.session.HandleTopic("job.*", func(ctx context.Context, q router.Message) error { return m.behave(ctx, q.Data()) }, router.Narrow())
	require.NoError(r, err)
}

// behave does what a payload says.
func (m *mess) behave(ctx context.Context, data any) error {
	switch data {
	case "fails":
		return errPlugin
	case "panics":
		panic("ouch")
	case "exits":
		runtime.Goexit()
	case "is slow":
		<-time.After(1500 * time.Millisecond)
	case "waits":
		<-ctx.Done()
		return ctx.Err()
	case "hangs":
		select {
		case <-m.release:
		case <-time.After(5 * time.Second):
		}
	case "hangs for ever":
		<-m.release
	}
	return nil
}

// act has somebody do something.
func (m *mess) act(r *rapid.T) {
	h, ctx := m.h, context.Background()
	s := rapid.SampledFrom(append([]*hub.Session{h.Host()}, m.plugins...)).Draw(r, "who")
	name := fmt.Sprint("job.", rapid.IntRange(0, 3).Draw(r, "name"))
	data := rapid.SampledFrom([]any{"", "fails", "panics", "exits", "is slow", "waits", "hangs", "hangs for ever", make(chan int), "<script src=x>"}).Draw(r, "data")
	to := rapid.SampledFrom([]string{"p0", "p1", "p2", "nobody", "host"}).Draw(r, "to")
	switch rapid.IntRange(0, 12).Draw(r, "act") {
	case 0, 1, 2:
		for range rapid.IntRange(1, 12).Draw(r, "times") {
			_, _ = s.Emit(ctx, name, data)
		}
	case 3:
		_, _ = s.Emit(ctx, name, data, events.MaxAge(time.Second))
	case 4:
		go func() { _, _ = s.Emit(ctx, name, data, events.WaitForRoom()) }()
	case 5:
		_, _ = s.Broadcast(ctx, name, data, events.Audience{})
	case 6, 7:
		for range rapid.IntRange(1, 5).Draw(r, "times") {
			_ = s.Post(ctx, to, "job", data)
		}
	case 8:
		limited, cancel := context.WithTimeout(ctx, time.Duration(rapid.IntRange(1, 5000).Draw(r, "ms"))*time.Millisecond)
		go func() {
			defer cancel()
			_, _ = s.Send(limited, to, "job", data)
		}()
	case 9:
		go func() {
			for range s.Stream(ctx, to, "flow", data, router.Timeout(4*time.Second)) { //nolint:errcheck // The errors do not matter here.
				<-time.After(time.Second)
			}
		}()
	case 10:
		for range rapid.IntRange(1, 5).Draw(r, "times") {
			_, _ = s.Publish(ctx, name, data)
		}
	case 11:
		_ = s.Post(ctx, to, "job", data, router.WaitForRoom())
	case 12:
		switch rapid.IntRange(0, 3).Draw(r, "host") {
		case 0:
			policy := security.AllowAll()
			if rapid.Bool().Draw(r, "strict") {
				policy = strictPolicy(r)
			}
			_, _ = h.Security().Swap("host", policy)
		case 1:
			limited, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if len(m.plugins) > 1 {
				_ = h.Unregister(limited, m.plugins[0].ID())
				m.plugins = m.plugins[1:]
			}
		case 2:
			<-time.After(3 * time.Second)
		case 3:
			for _, l := range h.DeadLetters() {
				_ = h.Resend(ctx, l.Number)
			}
		}
	}
}
