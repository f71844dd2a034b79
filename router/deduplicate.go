package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// DeduplicateOptions configure [Deduplicate]. Values out of range count as the
// nearest that is in it.
type DeduplicateOptions struct {
	// Window is how long a message is remembered. If zero, it is 5 minutes.
	Window time.Duration

	// Size bounds the messages of one sender that are remembered; the oldest
	// make way, so no sender can make others' messages forgotten. If zero, it is
	// 1,024. At most 1 million.
	Size int
}

// maxRemembered bounds the senders whose messages are remembered.
const maxRemembered = 1024

// Deduplicate drops a message with a [ClientID] that the same sender has used
// within the window for a message of the same kind to the same plugin or topic. The
// error is a [*plugbus.DeniedError] that matches [ErrDuplicate]. Messages without a
// ClientID pass.
//
// A message that was not accepted, whose handler had not started when it ended, or
// whose handler said that it may be tried again, is forgotten, so that it can be.
// Of publications those count as accepted that one mailbox has taken.
func Deduplicate(o DeduplicateOptions) Middleware {
	s := newSeen(o)
	return func(next Deliver) Deliver {
		return func(ctx context.Context, m *Draft) (Response, error) {
			if m.ClientID == "" {
				return next(ctx, m)
			}
			mark, first := s.mark(m)
			if !first {
				return Response{}, fmt.Errorf("%w: %q", ErrDuplicate, m.ClientID)
			}
			_, before := m.trip.arrived()
			var err error
			defer func() { // Whatever comes after this may end the goroutine.
				if _, accepted := m.trip.arrived(); accepted == before || repeatable(err) {
					s.forget(mark)
				}
			}()
			var response Response
			response, err = next(ctx, m)
			return response, err
		}
	}
}

// repeatable reports whether the error of an accepted message says that its
// handler did nothing, or may be called again.
func repeatable(err error) bool {
	if lost, ok := errors.AsType[*DeliveryError](err); ok {
		return !lost.Started
	}
	_, again := retryable(err)
	return again
}

// seen remembers messages. The expirable cache of golang-lru would forget them in
// time by itself, but has a goroutine that nobody can stop, so the time is in the
// entries of a plain one.
type seen struct {
	window time.Duration
	size   int

	mu      sync.Mutex // guards below
	senders *simplelru.LRU[string, *simplelru.LRU[identity, *mark]]
}

// An identity tells the messages of one sender apart.
type identity struct {
	kind     Kind
	object   string // the recipient, or the topic
	route    *Route // of a publication's way to one handler
	clientID string
}

// A mark is one message that is remembered.
type mark struct {
	from string
	what identity
	end  time.Time
}

func newSeen(o DeduplicateOptions) *seen {
	s := &seen{
		window: max(cmp.Or(o.Window, 5*time.Minute), 1),
		size:   min(max(cmp.Or(o.Size, 1024), 1), 1_000_000),
	}
	s.senders, _ = simplelru.NewLRU[string, *simplelru.LRU[identity, *mark]](maxRemembered, nil) // It fails only for sizes below 1.
	return s
}

// mark remembers a message, unless it is remembered already.
func (s *seen) mark(m *Draft) (fresh *mark, first bool) {
	now := m.trip.client.router.clock.Now()
	fresh = &mark{m.From(), identity{m.Kind(), m.To, m.trip.route, m.ClientID}, now.Add(s.window)}
	if m.Kind() == KindPublish {
		fresh.what.object = m.Type
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own, ok := s.senders.Get(fresh.from)
	if !ok {
		own, _ = simplelru.NewLRU[identity, *mark](s.size, nil) // The same.
		s.senders.Add(fresh.from, own)
	}
	for _, oldest, ok := own.GetOldest(); ok && !now.Before(oldest.end); _, oldest, ok = own.GetOldest() {
		own.RemoveOldest()
	}
	if own.Contains(fresh.what) { // Which leaves the order as it is: that of time.
		return nil, false
	}
	own.Add(fresh.what, fresh)
	return fresh, true
}

// forget forgets a message, unless another one has taken its place.
func (s *seen) forget(m *mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, ok := s.senders.Peek(m.from)
	if !ok {
		return
	}
	if now, ok := own.Peek(m.what); ok && now == m {
		own.Remove(m.what)
	}
}
