package router_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

func (p *pairing) post(t *rapid.T) {
	to := rapid.SampledFrom(modelReceivers).Draw(t, "to")
	m, data, options := p.draw(t, to)
	m.typ = rapid.SampledFrom([]string{"note", "note", "note", "fail", "aside", "slow", "none"}).Draw(t, "type")
	if rapid.IntRange(0, 3).Draw(t, "age") == 0 {
		m.expires = time.Now().Add(2 * time.Second)
		options = append(options, router.MaxAge(2*time.Second))
	}
	want := p.offer(m, time.Now())
	err := p.clients[m.from].Post(context.Background(), to, m.typ, data, options...)
	p.requireTold(t, want, err)
}

// send has a caller wait for a reply.
func (p *pairing) send(t *rapid.T) {
	to := rapid.SampledFrom(modelReceivers).Draw(t, "to")
	m, data, options := p.draw(t, to)
	m.typ, m.awaited = rapid.SampledFrom([]string{"note", "fail"}).Draw(t, "type"), true
	timeout := time.Duration(rapid.IntRange(1, 6).Draw(t, "timeout")) * time.Second
	m.deadline = time.Now().Add(timeout)
	if why := p.offer(m, time.Now()); why != "" {
		p.answers[m], m.gone, m.ended = why, true, true
	}
	p.wait(m, func(ctx context.Context) error {
		reply, err := p.clients[m.from].Send(ctx, to, m.typ, data, append(options, router.Timeout(timeout))...)
		if err == nil && reply.Data() != number(m.n) {
			return fmt.Errorf("it replied %v to %d", reply.Data(), m.n)
		}
		return err
	})
}

func (p *pairing) publish(t *rapid.T) {
	first, data, options := p.draw(t, "")
	first.typ = "news.x"
	receipt, err := p.clients[first.from].Publish(context.Background(), first.typ, data, options...)
	synctest.Wait()
	if p.denied["publish news.x"] || first.priority == plugbus.PriorityHigh && !p.raise {
		p.count(plugbus.Refused)
		p.requireTold(t, plugbus.Refused.String(), err)
		return
	}
	require.NoError(t, err)
	want := router.Receipt{ID: receipt.ID}
	for _, id := range modelReceivers {
		b := p.boxes[id]
		for i := 0; b != nil && i < len(b.patterns); i++ {
			m := *first
			m.to, m.pattern = id, b.patterns[i]
			p.all = append(p.all, &m)
			switch {
			case p.denied["consume news.x"]:
				p.count(plugbus.Refused)
				want.Matched++
				want.Refused = append(want.Refused, id)
				continue
			case b.closing:
				p.count(plugbus.Refused)
				continue
			}
			want.Matched++
			if !slices.Contains(receipt.Full, id) { // A worker that is awake may have begun with the one before.
				p.serve(b, time.Now())
			}
			if p.put(&m, b, time.Now()) == "" {
				want.Accepted++
			} else {
				want.Full = append(want.Full, id)
			}
		}
		if b != nil { // Its handlers hear of it when all have it.
			p.serve(b, time.Now())
		}
	}
	slices.Sort(receipt.Refused)
	slices.Sort(receipt.Full)
	require.Equal(t, want, receipt)
}

// letGo lets a handler return.
func (p *pairing) letGo(t *rapid.T) {
	running := p.running()
	if len(running) == 0 {
		return
	}
	p.release(t, rapid.SampledFrom(running).Draw(t, "handler"))
}

// flood fills a mailbox with small messages of all priorities, most of them urgent, and
// lets its plugin handle as many: so whole rounds are seen.
func (p *pairing) flood(t *rapid.T) {
	b := p.boxes[rapid.SampledFrom(modelReceivers).Draw(t, "to")]
	for i := range rapid.IntRange(5, 40).Draw(t, "n") {
		p.next++
		m := &mail{n: p.next, from: modelSenders[i%3], to: b.id, typ: "note", priority: plugbus.PriorityHigh}
		if i%7 > 3 {
			m.priority = plugbus.PriorityNormal - plugbus.Priority(i%2)
		}
		data := number(m.n) + ":"
		m.size = len(data)
		p.all = append(p.all, m)
		why := p.offer(m, time.Now())
		p.requireTold(t, why, p.clients[m.from].Post(context.Background(), b.id, "note", data, router.Priority(m.priority)))
	}
	for range rapid.IntRange(0, 40).Draw(t, "handled") {
		if b.current == nil {
			return
		}
		p.release(t, b.current)
	}
}

// giveUp has a caller go away.
func (p *pairing) giveUp(t *rapid.T) {
	waiting := slices.DeleteFunc(slices.Clone(p.all), func(m *mail) bool { return !m.awaited || m.gone })
	if len(waiting) == 0 {
		return
	}
	m := rapid.SampledFrom(waiting).Draw(t, "caller")
	if slices.Contains(p.running(), m) {
		m.gone = true
		p.answers[m] = "gone"
	} else {
		p.drop(m, plugbus.Cancelled, time.Now())
	}
	p.pending[m]()
	synctest.Wait()
}

func (p *pairing) later(t *rapid.T) {
	for range rapid.IntRange(1, 3).Draw(t, "seconds") {
		p.second()
	}
}

// toC posts to a plugin that is never away, by way of Retry or of WaitForRoom.
func (p *pairing) toC(t *rapid.T) {
	m, data, options := p.draw(t, "c")
	m.typ = "note"
	from := p.clients[m.from]
	if rapid.Bool().Draw(t, "wait") {
		if p.denied["receive "+m.from] || m.priority == plugbus.PriorityHigh && !p.raise {
			return
		}
		fits := p.room(m.from, m.size, p.boxes["c"])
		p.wait(m, func(ctx context.Context) error {
			return from.Post(ctx, "c", "note", data, append(options, router.WaitForRoom())...)
		})
		for _, frees := range p.running() { // Until there is room, which may need all that waits to go.
			if fits || frees.to != "c" {
				continue
			}
			require.NotContains(t, p.heard, m)
			p.release(t, frees)
			fits = p.room(m.from, m.size, p.boxes["c"])
		}
		if !fits { // It gives up.
			p.pending[m]()
			synctest.Wait()
			p.answers[m] = p.count(plugbus.Full)
			return
		}
		require.Empty(t, p.put(m, p.boxes["c"], time.Now()))
		p.serve(p.boxes["c"], time.Now())
		p.answers[m] = plugbus.Handled.String()
		return
	}
	err := make(chan error, 1)
	go func() { err <- from.Post(context.Background(), "c", "note", data, options...) }() // Ends after its second try.
	synctest.Wait()
	why := p.offer(m, time.Now())
	if why == plugbus.Full.String() {
		require.Empty(t, err)
		p.second()
		<-time.After(time.Millisecond)
		synctest.Wait()
		if why = p.offer(m, time.Now()); why != "" {
			why = plugbus.Full.String()
		}
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		p.pass(p.all, time.Now())
	}
	require.NotEmpty(t, err)
	p.requireTold(t, why, <-err)
}

// leave has a plugin leave, with or without time to drain, and come back.
func (p *pairing) leave(t *rapid.T) {
	id := rapid.SampledFrom(modelReceivers).Draw(t, "who")
	b, c := p.boxes[id], p.clients[id]
	drains := rapid.Bool().Draw(t, "drains")
	done := make(chan error, 1)
	ctx := canceledContext()
	if drains {
		ctx = context.Background()
		b.closing = true
	} else {
		for len(b.active) > 0 { // So that only one is abandoned, and the order of the letters is certain.
			p.release(t, b.active[0])
		}
	}
	go func() { done <- c.Close(ctx) }() // Ends when all is handled.
	synctest.Wait()
	for drains && p.busy(b) {
		require.Empty(t, done)
		p.post(t) // Who drains takes nothing new.
		p.release(t, append(slices.Clone(b.active), b.current)[0])
	}
	if !drains {
		b.closing = true
		cut := b.waiting()
		if b.current != nil && !b.current.ended {
			p.abandon(b.current, time.Now())
		}
		for _, m := range cut {
			p.drop(m, plugbus.Cancelled, time.Now())
		}
	}
	p.requireLedger(t)
	require.NotEmpty(t, done, "%s has left", id)
	p.boxes[id] = nil
	p.require(t)
	p.post(t)
	p.publish(t)
	p.clients[id] = p.client(t, id, false)
	p.boxes[id] = newNaiveBox(id)
}

// replace puts another client in the place of a: it gets what waits.
func (p *pairing) replace(t *rapid.T) {
	b, old := p.boxes["a"], p.clients["a"]
	next := p.client(t, "a", true)
	p.post(t)
	require.NoError(t, next.Succeed(old))
	b.held = true
	for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
		p.post(t)
		p.publish(t)
	}
	if b.current != nil && rapid.Bool().Draw(t, "patient") {
		p.release(t, b.current)
	}
	if m := b.current; m != nil {
		if !m.ended {
			p.abandon(m, time.Now())
		}
		b.current = nil // The next one has a worker of its own.
	}
	_ = old.Close(canceledContext())
	synctest.Wait()
	p.require(t)
	next.Settle()
	b.held = false
	p.clients["a"] = next
	p.serve(b, time.Now())
	synctest.Wait()
}

func (p *pairing) right(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "which") == 0 {
		p.raise = !p.raise
		p.law.change(func() {
			p.law.priority = plugbus.PriorityNormal
			if p.raise {
				p.law.priority = plugbus.PriorityHigh
			}
		})
		return
	}
	verb, name := plugbus.VerbReceive, rapid.SampledFrom(modelSenders).Draw(t, "name")
	switch rapid.IntRange(0, 3).Draw(t, "verb") {
	case 0:
		verb, name = plugbus.VerbSend, rapid.SampledFrom(modelReceivers).Draw(t, "to")
	case 1:
		verb, name = plugbus.VerbPublish, "news.x"
	case 2:
		verb, name = plugbus.VerbConsume, "news.x"
	}
	rule := verb.String() + " " + name
	if p.denied[rule] = !p.denied[rule]; p.denied[rule] {
		p.law.deny(verb, name)
	} else {
		p.law.allow(verb, name)
	}
}

// resend sends a dead letter again, or takes it away.
func (p *pairing) resend(t *rapid.T) {
	if len(p.letters) == 0 {
		require.ErrorIs(t, p.r.Resend(context.Background(), p.buried+1), router.ErrNoLetter)
		return
	}
	i := rapid.IntRange(0, len(p.letters)-1).Draw(t, "letter")
	l := p.letters[i]
	p.letters = slices.Delete(p.letters, i, i+1)
	if rapid.IntRange(0, 3).Draw(t, "discard") == 0 {
		require.NoError(t, p.r.Discard(l.number))
		return
	}
	m := &mail{n: l.mail.n, from: l.mail.from, to: l.mail.to, typ: l.mail.typ, pattern: l.mail.pattern, size: l.mail.size, priority: l.mail.priority}
	p.all = append(p.all, m)
	b, now := p.boxes[m.to], time.Now()
	var why string
	switch high := m.priority == plugbus.PriorityHigh && !p.raise; {
	case m.pattern == "":
		why = p.offer(m, now)
	case p.denied["publish news.x"], high, b == nil, p.denied["consume news.x"]:
		why = p.count(plugbus.Refused)
	default:
		why = p.put(m, b, now)
		p.serve(b, now)
	}
	err := p.r.Resend(context.Background(), l.number)
	p.requireTold(t, why, err)
	if why != "" { // It is back in its place.
		p.letters = slices.Insert(p.letters, i, l)
	}
}

// TestMailboxModel has plugins send, publish, call, give up, hang, fail, leave, come
// back and be replaced in any order, under a policy that changes, and compares the
// router with an office of slices after each step: who began with what in which order,
// what became of every message and what its sender heard, what waits and how much room
// there is, the ledger, and the dead letters (R6, R7, R8, R9, R13, R18).
func TestMailboxModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(t *rapid.T) {
			p := newPairing(t)
			t.Repeat(map[string]func(*rapid.T){
				"post": p.post,
				"post much": func(t *rapid.T) {
					for range rapid.IntRange(1, 20).Draw(t, "n") {
						p.post(t)
					}
				},
				"send":    p.send,
				"publish": p.publish,
				"let go":  p.letGo,
				"let many go": func(t *rapid.T) {
					for range rapid.IntRange(1, 20).Draw(t, "n") {
						p.letGo(t)
					}
				},
				"flood":   p.flood,
				"give up": p.giveUp,
				"later":   p.later,
				"to c":    p.toC,
				"leave":   p.leave,
				"replace": p.replace,
				"right":   p.right,
				"resend":  p.resend,
				"":        p.require,
			})
			for len(p.running()) > 0 {
				p.release(t, p.running()[0])
			}
			p.require(t)
			require.Empty(t, slices.DeleteFunc(slices.Collect(maps.Keys(p.pending)), func(m *mail) bool { return p.heard[m] != "" }), "who still waits")
		})
	})
}
