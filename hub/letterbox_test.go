package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A letterbox keeps the messages that its handlers get.
type letterbox struct {
	mu       sync.Mutex
	messages []router.Message
}

// handle is a handler that replies with what it got.
func (l *letterbox) handle(_ context.Context, m router.Message) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, m)
	return m.Data(), nil
}

func (l *letterbox) consume(ctx context.Context, m router.Message) error {
	_, err := l.handle(ctx, m)
	return err
}

// stream is a handler that replies with what it got, twice.
func (l *letterbox) stream(ctx context.Context, m router.Message, yield func(any) bool) error {
	chunk, err := l.handle(ctx, m)
	for range 2 {
		_ = yield(chunk)
	}
	return err
}

// types returns the types of the messages.
func (l *letterbox) types() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var types []string
	for _, m := range l.messages {
		types = append(types, m.Type())
	}
	return types
}

// serve sets a handler, and fails the test if it cannot.
func serve(t testing.TB, s *hub.Session, typ string, handler router.Handler, options ...router.HandleOption) *router.Route {
	t.Helper()
	route, err := s.Handle(typ, handler, options...)
	require.NoError(t, err)
	return route
}

// readAll reads a stream, and returns its error.
func readAll(ctx context.Context, s *hub.Session, to, typ string, data any) error {
	for _, err := range s.Stream(ctx, to, typ, data) {
		if err != nil {
			return err
		}
	}
	return nil
}

// echo replies with what it got.
func echo(_ context.Context, m router.Message) (any, error) { return m.Data(), nil }

// pong is a handler that says who it is.
func pong(s *hub.Session) router.Handler {
	return func(context.Context, router.Message) (any, error) { return s.ID(), nil }
}

// remote returns the error of a handler in err.
func remote(t testing.TB, err error) *plugbus.RemoteError {
	t.Helper()
	e, ok := errors.AsType[*plugbus.RemoteError](err)
	require.True(t, ok, "%v", err)
	return e
}

// undelivered returns what became of an accepted message without a reply.
func undelivered(t testing.TB, err error) *router.DeliveryError {
	t.Helper()
	e, ok := errors.AsType[*router.DeliveryError](err)
	require.True(t, ok, "%v", err)
	return e
}
