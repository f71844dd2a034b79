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
var typesOfMessages = []string{"do", "count", "beside", "other"}

const (
	streamType = "flow"
	capability = "cap.one"
)

var topics = []string{"t.a", "t.b", "u"}

// serve sets handlers.
func (l *life) serve(r *rand.Rand) {
	s := l.session.Load()
	set := func(err error) { _ = err } // The policy may not allow it, and the session may have ended.
	for _, typ := range typesOfMessages[:3] {
		if chance(r, 900) {
			serial := typ != "beside"
			var options []router.HandleOption
			if !serial {
				options = append(options, router.Concurrent(3))
			}
			_, err := s.Handle(typ, l.handler(typ, serial), options...)
			set(err)
		}
	}
	if chance(r, 500) {
		_, err := s.HandleDefault(l.handler("default", true))
		set(err)
	}
	if chance(r, 700) {
		_, err := s.HandleStream(streamType, l.streamer())
		set(err)
	}
	for range r.IntN(3) {
		handle := l.handler("topic", true)
		_, err := s.HandleTopic(pick(r, "t.*", "t.a", "**", "u"), func(ctx context.Context, m router.Message) error {
			_, err := handle(ctx, m)
			return err
		}, router.Narrow())
		set(err)
	}
	if chance(r, 500) {
		set(s.Provide(discovery.Capability{Name: capability, Idempotent: chance(r, 500)}, l.handler(capability, true)))
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

// handler returns a handler of messages, which replies with what it got.
func (l *life) handler(place string, serial bool) router.Handler {
	route := int(l.places.Add(1))
	return func(ctx context.Context, m router.Message) (any, error) {
		c := l.enter("handler of "+place, serial)
		defer l.leave(c)
		n, ok := l.take(m, c, route)
		if !ok {
			return nil, errHandler
		}
		if err := l.behave(ctx, place, n.N, n.Depth); err != nil {
			return nil, err
		}
		return newParcel(n.N, n.Depth).data, nil
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
		m.to = pick(r, witness, bystander, "nobody")
	}
	if m.kind == "call" || m.kind == "publish" {
		m.to = ""
	}
	var options []router.SendOption
	m.priority = pick(r, plugbus.PriorityNormal, plugbus.PriorityNormal, plugbus.PriorityLow, plugbus.PriorityHigh)
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
	typ := pick(r, typesOfMessages[0], typesOfMessages[0], typesOfMessages[1], typesOfMessages[2], typesOfMessages[3])
	sp := w.begin()
	var err error
	replied := false
	accepted := 0
	what := s.ID() + ": " + m.kind + " to " + m.to
	w.in(limit, what, func() {
		switch m.kind {
		case "send":
			var reply router.Response
			reply, err = s.Send(ctx, m.to, typ, p.data, options...)
			replied = w.compareReply(what, n, depth, m.to, reply, err)
		case "call":
			var reply router.Response
			reply, err = s.Call(ctx, capability, p.data)
			replied = w.compareReply(what, n, depth, "", reply, err)
		case "post":
			err = s.Post(ctx, m.to, typ, p.data, options...)
		case "publish":
			var receipt router.Receipt
			receipt, err = s.Publish(ctx, pick(r, topics...), p.data, options...)
			accepted = receipt.Accepted
		case "stream":
			stop := r.IntN(120)
			for reply, chunkErr := range s.Stream(ctx, m.to, streamType, p.data, options...) {
				if err = chunkErr; err != nil {
					break
				}
				if !w.compareReply(what, n, depth, m.to, reply, nil) {
					break
				}
				if reply.Index() == stop {
					break
				}
			}
		}
	})
	w.finish(&sp)
	p.spoil()
	w.mu.Lock()
	defer w.mu.Unlock()
	m.span, m.err, m.replied, m.accepted = sp, err, replied, accepted
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
