package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// typesOfMessages are what plugins handle, and send; the last has no handler but
// the default one.
var typesOfMessages = []string{"do", "count", beside, "other"}

const (
	beside     = "beside" // its handler is concurrent, and takes some time
	streamType = "flow"
	capability = "cap.one"
)

var topics = []string{"t.a", "t.b", "u"}

// serve sets handlers.
func (l *life) serve(r *rand.Rand) {
	s := l.session.Load()
	set := func(err error) { _ = err } // The policy may not allow it, and the session may have ended.
	handles := func(typ string, err error) {
		if err == nil {
			l.world.mu.Lock()
			defer l.world.mu.Unlock()
			l.types = append(l.types, typ)
		}
	}
	for _, typ := range typesOfMessages[:3] {
		if chance(r, 900) {
			serial := typ != beside
			var options []router.HandleOption
			if !serial {
				options = append(options, router.Concurrent(mostBeside))
			}
			limit := time.Duration(0)
			if chance(r, 150) {
				limit = time.Duration(1 + r.Int64N(int64(time.Second)))
				options = append(options, router.Timeout(limit))
			}
			_, err := s.Handle(typ, l.handler(typ, serial, limit), options...)
			handles(typ, err)
		}
	}
	if chance(r, 500) {
		_, err := s.HandleDefault(l.handler("default", true, 0))
		handles("", err)
	}
	if chance(r, 700) {
		_, err := s.HandleStream(streamType, l.streamer())
		set(err)
	}
	for range r.IntN(3) {
		handle := l.handler("topic", true, 0)
		_, err := s.HandleTopic(pick(r, "t.*", "t.a", "**", "u"), func(ctx context.Context, m router.Message) error {
			_, err := handle(ctx, m)
			return err
		}, router.Narrow())
		set(err)
	}
	if chance(r, 500) {
		l.provide(discovery.Capability{Name: capability, Idempotent: chance(r, 500)}, l.handler(capability, true, 0))
	}
}

// take notes that a message has come, and returns its number.
func (l *life) take(m router.Message, c *call, route int) (note, bool) {
	w := l.world
	n, err := read(m.Data())
	if err != nil {
		w.wrong("%s: message %q of %q: %v", l.name(), m.Type(), m.From(), err)
		return n, false
	}
	w.mu.Lock()
	sent := w.messages[n.N]
	if sent != nil {
		sent.handled = append(sent.handled, handling{c.since, time.Now(), l, route, c.serial})
	}
	w.mu.Unlock()
	switch {
	case sent == nil:
		w.wrong("%s got a message that nobody sent: %d", l.name(), n.N)
	case sent.from != m.From():
		w.wrong("%s got message %d of %q from %q", l.name(), n.N, sent.from, m.From())
	case m.To() != l.id || sent.to != "" && sent.to != l.id:
		w.wrong("%s got message %d, for %q, by a handler for %q", l.name(), n.N, sent.to, m.To())
	default:
		return n, true
	}
	return n, false
}

// mostBeside is how many calls of a handler beside the worker may run.
const mostBeside = 3

// handler returns a handler of messages, which replies with what it got.
func (l *life) handler(place string, serial bool, limit time.Duration) router.Handler {
	route := int(l.places.Add(1))
	return func(ctx context.Context, m router.Message) (any, error) {
		c := l.enter("handler of "+place, serial)
		defer l.leave(c)
		if !serial {
			l.crowd(c, route, mostBeside)
		}
		n, ok := l.take(m, c, route)
		if !ok {
			return nil, errHandler
		}
		well := false
		defer func() { l.handled(ctx, c, n.N, limit, well) }()
		if d := dice(l.world.plan.Seed, n.N, l.id, "time"); !serial && chance(d, 300) {
			<-time.After(time.Duration(d.Int64N(int64(200 * time.Millisecond))))
		}
		if err := l.behave(ctx, place, n.N, n.Depth); err != nil {
			return nil, err
		}
		well = true
		return newParcel(n.N, n.Depth).data, nil
	}
}

// handled looks at what a call had, when it ends.
func (l *life) handled(ctx context.Context, c *call, n uint64, limit time.Duration, well bool) {
	w := l.world
	l.deadline(ctx, c, limit)
	w.mu.Lock()
	sent := w.messages[n]
	gone := sent.kind != "post" && sent.kind != "publish" && sent.end != 0 && sent.span.to.Before(time.Now())
	if !well && (sent.kind == "post" || sent.kind == "publish") {
		w.unserved++
	}
	w.mu.Unlock()
	if gone && ctx.Err() == nil {
		w.wrong("%s handles message %d, whose sender left at %v, and its context is not done", l.name(), n, sent.span.to.Sub(w.born))
	}
}

// streamer returns a handler of streams, which replies some times with what it got.
func (l *life) streamer() router.StreamHandler {
	route := int(l.places.Add(1))
	return func(ctx context.Context, m router.Message, yield func(any) bool) error {
		c := l.enter("handler of a stream", true)
		defer l.leave(c)
		n, ok := l.take(m, c, route)
		if !ok {
			return errHandler
		}
		defer func() { l.handled(ctx, c, n.N, 0, true) }()
		r := dice(l.world.plan.Seed, n.N, l.id, "stream")
		for range r.IntN(100) {
			if !yield(newParcel(n.N, n.Depth).data) {
				return nil
			}
		}
		return l.behave(ctx, "stream", n.N, n.Depth)
	}
}

// message sends a message of some kind.
func (l *life) message(ctx context.Context, r *rand.Rand, n uint64, depth int) {
	if s := l.session.Load(); s != nil {
		l.world.message(ctx, s, r, n, depth)
	}
}

func (w *World) message(ctx context.Context, s *hub.Session, r *rand.Rand, n uint64, depth int) {
	m := &message{n: n, from: s.ID(), to: pick(r, w.plan.Plugins...), kind: pick(r, "send", "send", "post", "post", "stream", "call", "publish")}
	if chance(r, 100) {
		m.to = pick(r, witness, bystander, bystander, "nobody")
	}
	if m.kind == "call" || m.kind == "publish" {
		m.to = ""
	}
	if m.kind == "publish" {
		m.topic = pick(r, topics...)
	}
	m.priority = pick(r, plugbus.PriorityNormal, plugbus.PriorityNormal, plugbus.PriorityLow, plugbus.PriorityHigh)
	w.send(ctx, s, r, m, depth)
}

// flood posts many messages to one plugin at once, most of one priority.
func (l *life) flood(a act) {
	s, r := l.session.Load(), a.dice
	to := pick(r, l.world.plan.Plugins...)
	most, few := plugbus.PriorityHigh, plugbus.PriorityLow
	if chance(r, 500) {
		most, few = few, most
	}
	typ := ""
	if chance(r, 300) {
		typ = beside
	}
	for i := range 20 + r.IntN(60) {
		m := &message{n: a.n + uint64(i), from: s.ID(), to: to, kind: "post", typ: typ, priority: most} //nolint:gosec // It is small.
		if chance(r, 100) {
			m.priority = few
		}
		l.world.send(context.Background(), s, r, m, maxDepth)
	}
}

// send sends a message.
func (w *World) send(ctx context.Context, s *hub.Session, r *rand.Rand, m *message, depth int) {
	n := m.n
	var options []router.SendOption
	if m.kind == "call" {
		m.priority = plugbus.PriorityNormal // The caller has no say in it.
	}
	if m.priority != plugbus.PriorityNormal {
		options = append(options, router.Priority(m.priority))
	}
	limit := requestLimit
	switch m.kind {
	case "send", "stream":
		if chance(r, 300) {
			limit = time.Duration(1 + r.Int64N(int64(requestLimit)))
			options = append(options, router.Timeout(limit))
		}
		if chance(r, 100) {
			options = append(options, router.WaitForRoom())
		}
	case "post":
		if limit = 0; chance(r, 100) {
			limit = waitLimit
			options = append(options, router.WaitForRoom())
		}
	case "publish":
		limit = 0
	}
	if m.kind != "call" && chance(r, 100) {
		m.maxAge = time.Duration(1 + r.Int64N(int64(time.Second)))
		options = append(options, router.MaxAge(m.maxAge))
	}
	limit += w.retrying(m)
	if m.kind == "stream" && limit == requestLimit {
		limit = time.Minute // A stream that flows goes on.
	}
	w.mu.Lock()
	if w.messages[n] != nil {
		w.mu.Unlock()
		return
	}
	w.messages[n] = m
	w.mu.Unlock()
	p := newParcel(n, depth)
	still := func() bool { return false }
	if to := w.slots[m.to]; to != nil {
		still = to.still()
	}
	if typ := pick(r, typesOfMessages[0], typesOfMessages[0], typesOfMessages[1], typesOfMessages[2], typesOfMessages[3]); m.typ == "" {
		m.typ = typ
	}
	if m.to == bystander && m.kind == "send" {
		limit = dozes / 2
		m.typ = "doze" // A deadline that is too short is no fault of who handles.
		options = append(options, router.Timeout(dozes/2))
	}
	sp := w.begin()
	var err error
	replied := false
	accepted, full := 0, 0
	what := s.ID() + ": " + m.kind + " to " + m.to
	w.in(limit, what, func() {
		switch m.kind {
		case "send":
			var reply router.Response
			reply, err = s.Send(ctx, m.to, m.typ, p.data, options...)
			replied = w.compareReply(what, n, depth, m.to, reply, err)
		case "call":
			var reply router.Response
			reply, err = s.Call(ctx, capability, p.data)
			replied = w.compareReply(what, n, depth, "", reply, err)
		case "post":
			err = s.Post(ctx, m.to, m.typ, p.data, options...)
		case "publish":
			var receipt router.Receipt
			receipt, err = s.Publish(ctx, m.topic, p.data, options...)
			accepted, full = receipt.Accepted, len(receipt.Full)
		case "stream":
			stop, next := r.IntN(120), 0
			for reply, chunkErr := range s.Stream(ctx, m.to, streamType, p.data, options...) {
				if err = chunkErr; err != nil {
					break
				}
				if !w.compareReply(what, n, depth, m.to, reply, nil) {
					break
				}
				if reply.Index() != next {
					w.wrong("%s: the chunk %d comes where %d should be", what, reply.Index(), next)
				}
				if next++; reply.Index() == stop {
					break
				}
			}
		}
	})
	w.finish(&sp)
	p.spoil()
	sure := still()
	w.mu.Lock()
	defer w.mu.Unlock()
	m.sure = sure
	m.span, m.err, m.replied, m.accepted, m.full = sp, err, replied, accepted, full
}

// compareReply compares a reply with what was asked.
func (w *World) compareReply(what string, n uint64, depth int, to string, reply router.Response, err error) bool {
	if err != nil {
		if errors.Is(err, plugbus.ErrInvalid) {
			w.wrong("%s: an error that only mistakes have: %v", what, err)
		}
		return false
	}
	got, bad := read(reply.Data())
	if bad != nil || got != newNote(n, depth) || to != "" && reply.From() != to {
		w.wrong("%s: the reply is %+v of %q (%v), want that to %d", what, got, reply.From(), bad, n)
		return false
	}
	return true
}
