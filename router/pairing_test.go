package router_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

func number(n int) string { return strconv.Itoa(n) }

// A pairing is a router, and beside it an office that does with slices what the
// router should do.
type pairing struct {
	*office
	r       *router.Router
	law     *rules
	clients map[string]*router.Client
	all     []*mail
	next    int

	mu      sync.Mutex               // guards below
	begun   map[string][]string      // by plugin
	hung    map[string]chan struct{} // handlers that have not returned, by their place
	heard   map[*mail]string         // what callers heard
	free    bool                     // nobody hangs any more
	pending map[*mail]context.CancelFunc
}

var (
	modelSenders   = []string{"s1", "s2", "s3"}
	modelReceivers = []string{"a", "b"}
)

func newPairing(t *rapid.T) *pairing {
	o := router.Options{
		MailboxMessages: rapid.SampledFrom([]int{1, 4, 12, 80}).Draw(t, "messages"), MailboxBytes: rapid.SampledFrom([]int64{200, 2000}).Draw(t, "bytes"),
		DeadLetters: rapid.SampledFrom([]int{4, 1000}).Draw(t, "letters"), WaitLimit: 7 * time.Second,
	}
	r, err := router.New(o)
	require.NoError(t, err)
	p := &pairing{
		office: &office{
			most: o.MailboxMessages, bytes: o.MailboxBytes, letterMost: o.DeadLetters, raise: true,
			boxes: map[string]*naiveBox{}, denied: map[string]bool{}, started: map[string][]string{}, answers: map[*mail]string{},
		},
		r: r, law: newRules(), clients: map[string]*router.Client{}, begun: map[string][]string{},
		hung: map[string]chan struct{}{}, heard: map[*mail]string{}, pending: map[*mail]context.CancelFunc{},
	}
	require.NoError(t, r.Use("retry", router.Retry(router.RetryOptions{Attempts: 2, Base: 1001 * time.Millisecond, Jitter: -1}), router.ForTarget("c")))
	t.Cleanup(func() {
		for _, cancel := range p.pending {
			cancel()
		}
		p.mu.Lock()
		p.free = true
		for _, gate := range p.hung {
			close(gate)
		}
		p.mu.Unlock()
		_ = r.Close(canceledContext())
		synctest.Wait()
	})
	for _, id := range modelSenders {
		p.clients[id] = p.client(t, id, false)
	}
	for _, id := range []string{"a", "b", "c"} {
		p.clients[id] = p.client(t, id, false)
		p.boxes[id] = newNaiveBox(id)
	}
	return p
}

func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// client joins, and sets the handlers of its id. Each call hangs until it is let go.
func (p *pairing) client(t *rapid.T, id string, held bool) *router.Client {
	c, err := p.r.Client(id, router.ClientOptions{Guard: p.law.guard(id), Held: held})
	require.NoError(t, err)
	b := newNaiveBox(id)
	if slices.Contains(modelSenders, id) {
		return c
	}
	hang := func(fails error) router.Handler {
		return func(_ context.Context, m router.Message) (any, error) {
			n, _, _ := strings.Cut(m.Data().(string), ":")
			key, gate := strings.Join([]string{n, m.Type(), m.Pattern()}, " "), make(chan struct{})
			p.mu.Lock()
			if p.free {
				close(gate)
			}
			p.hung[place(id, key, p.begun[id])] = gate
			p.begun[id] = append(p.begun[id], key)
			p.mu.Unlock()
			<-gate
			return n, fails
		}
	}
	for _, typ := range slices.Sorted(maps.Keys(b.types)) {
		var options []router.HandleOption
		var fails error
		switch typ {
		case "slow":
			options = append(options, router.Timeout(3*time.Second))
		case "aside":
			options = append(options, router.Concurrent(2))
		case "fail":
			fails = errors.New("it fails")
		}
		_, err := c.Handle(typ, hang(fails), options...)
		require.NoError(t, err)
	}
	for _, pattern := range b.patterns {
		h := hang(nil)
		_, err := c.HandleTopic(pattern, func(ctx context.Context, m router.Message) error {
			_, err := h(ctx, m)
			return err
		}, router.Narrow()) // What it may not consume, it may when it joins.
		require.NoError(t, err)
	}
	return c
}

// draw draws a message.
func (p *pairing) draw(t *rapid.T, to string) (*mail, string, []router.SendOption) {
	p.next++
	m := &mail{
		n: p.next, from: rapid.SampledFrom(modelSenders).Draw(t, "from"), to: to,
		priority: rapid.SampledFrom([]plugbus.Priority{plugbus.PriorityLow, plugbus.PriorityNormal, plugbus.PriorityNormal, plugbus.PriorityHigh}).Draw(t, "priority"),
	}
	data := number(m.n) + ":" + strings.Repeat("x", rapid.SampledFrom([]int{0, 0, 0, 40, 300}).Draw(t, "size"))
	m.size = len(data)
	p.all = append(p.all, m)
	return m, data, []router.SendOption{router.Priority(m.priority)}
}

// told is what an error says of how a message ended.
func told(err error) string {
	var undelivered *router.DeliveryError
	var remote *plugbus.RemoteError
	switch {
	case err == nil:
		return plugbus.Handled.String()
	case errors.As(err, &remote):
		return plugbus.Failed.String()
	case errors.As(err, &undelivered) && undelivered.Outcome == 0:
		return "gone"
	case errors.As(err, &undelivered):
		return undelivered.Outcome.String()
	case errors.Is(err, router.ErrQueueFull):
		return plugbus.Full.String()
	case errors.Is(err, plugbus.ErrDenied), errors.Is(err, router.ErrUnknownTarget), errors.Is(err, router.ErrNoHandler):
		return plugbus.Refused.String()
	}
	return err.Error()
}

func (p *pairing) requireTold(t *rapid.T, want string, err error) {
	synctest.Wait()
	if want == "" {
		want = plugbus.Handled.String() // Which a nil error says here.
	}
	require.Equal(t, want, told(err), "%v", err)
}

// wait does something that may wait, and notes what it was told.
func (p *pairing) wait(m *mail, do func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p.pending[m] = cancel
	go func() { // Ends with do, which the cleanup cancels at the latest.
		err := do(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard[m] = told(err)
	}()
	synctest.Wait()
}

func (p *pairing) release(t *rapid.T, m *mail) {
	p.mu.Lock()
	gate := p.hung[m.place]
	delete(p.hung, m.place)
	p.mu.Unlock()
	require.NotNil(t, gate, "%q does not handle %q", m.to, m.key())
	p.finish(m, time.Now())
	close(gate)
	synctest.Wait()
}

func (p *pairing) second() {
	<-time.After(time.Second)
	synctest.Wait()
	p.pass(p.all, time.Now())
}

func (p *pairing) requireLedger(t *rapid.T) {
	synctest.Wait()
	require.NoError(t, p.r.Ledger().Check())
	require.Equal(t, p.ledger, p.r.Ledger())
}

// require compares the two.
func (p *pairing) require(t *rapid.T) {
	p.requireLedger(t)
	p.mu.Lock()
	heard, begun := maps.Clone(p.heard), maps.Clone(p.begun)
	p.mu.Unlock()
	require.Equal(t, p.answers, heard)
	for _, id := range []string{"a", "b", "c"} {
		want, got := p.started[id], begun[id]
		if id == "b" { // Its concurrent handler runs beside the other.
			want, got = split(want), split(got)
		}
		require.True(t, slices.Equal(want, got), "%s began with %q, want %q", id, got, want)
	}
	stats := p.r.Stats()
	for _, box := range stats.Mailboxes {
		b, bytes := p.boxes[box.ID], int64(0)
		if b == nil || box.Draining && !b.closing { // It has a handler that was abandoned, and nothing else.
			require.Zero(t, box.Waiting)
			continue
		}
		for _, m := range b.waiting() {
			bytes += int64(m.size)
		}
		require.Equal(t, len(b.waiting()), box.Waiting)
		require.Equal(t, bytes, box.Bytes)
		for _, from := range modelSenders {
			if room := p.r.Room(from, box.ID, "note"); !b.closing {
				require.Equal(t, p.room(from, 0, b), room == "", room)
			}
		}
	}
	require.Len(t, p.r.Leaks(), len(p.abandoned))
	require.Equal(t, p.evicted, stats.Evicted)
	letters := p.r.DeadLetters()
	require.Len(t, letters, len(p.letters))
	for i, l := range letters {
		want := p.letters[i]
		require.Equal(t, []any{want.mail.n, want.number, want.outcome, want.mail.from, want.mail.to, want.mail.typ, want.mail.pattern, want.mail.priority},
			[]any{want.mail.n, l.Number, l.Outcome, l.From(), l.To(), l.Type(), l.Pattern(), l.Priority()})
		require.True(t, strings.HasPrefix(l.Data().(string), number(want.mail.n)+":"))
	}
	require.LessOrEqual(t, p.worst[1], 17, "the first normal one waits for so many others at most")
	require.LessOrEqual(t, p.worst[2], 12, "the first one of low priority waits for so many others at most")
}

// split puts the concurrent messages apart.
func split(keys []string) []string {
	aside := func(key string) bool { return strings.Contains(key, " aside ") }
	worker := slices.DeleteFunc(slices.Clone(keys), aside)
	beside := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !aside(key) })
	return append(worker, beside...)
}
