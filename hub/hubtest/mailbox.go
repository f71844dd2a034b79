package hubtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A Mailbox keeps the messages that a plugin gets: a stand-in for whom the tested
// plugin talks to. Its methods but Wait may be called by several goroutines.
type Mailbox struct {
	tb       testing.TB
	what     string
	messages kept[router.Message]
}

// Answer handles messages of a type as the plugin of a session, or as a client of a
// router: it records them, and has handler reply, or replies with nothing if that
// is nil.
func Answer(tb testing.TB, plugin router.Registrar, typ string, handler router.Handler, options ...router.HandleOption) *Mailbox {
	tb.Helper()
	m := &Mailbox{tb: tb, what: fmt.Sprintf("messages of type %q", typ)}
	if _, err := plugin.Handle(typ, m.answer(handler), options...); err != nil {
		tb.Fatalf("hubtest: answer %q: %v", typ, err)
	}
	return m
}

// Provide provides a capability as the plugin of a session, and records the calls,
// as Answer does.
func Provide(tb testing.TB, plugin *hub.Session, capability hub.Capability, handler router.Handler, options ...router.HandleOption) *Mailbox {
	tb.Helper()
	m := &Mailbox{tb: tb, what: fmt.Sprintf("calls of %q", capability.Name)}
	if err := plugin.Provide(capability, m.answer(handler), options...); err != nil {
		tb.Fatalf("hubtest: provide %q: %v", capability.Name, err)
	}
	return m
}

// Consume handles the topics that match a pattern, and records what is published.
func Consume(tb testing.TB, plugin *hub.Session, pattern string, options ...router.HandleOption) *Mailbox {
	tb.Helper()
	m := &Mailbox{tb: tb, what: fmt.Sprintf("publications of %q", pattern)}
	record := func(_ context.Context, got router.Message) error {
		m.messages.add(got)
		return nil
	}
	if _, err := plugin.HandleTopic(pattern, record, options...); err != nil {
		tb.Fatalf("hubtest: consume %q: %v", pattern, err)
	}
	return m
}

// answer returns a handler that records what it gets, and replies as the given one
// does, or with nothing if that is nil.
func (m *Mailbox) answer(handler router.Handler) router.Handler {
	return func(ctx context.Context, got router.Message) (any, error) {
		m.messages.add(got)
		if handler == nil {
			return nil, nil //nolint:nilnil // A reply of nil is a reply.
		}
		return handler(ctx, got)
	}
}

// Messages returns the messages until now.
func (m *Mailbox) Messages() []router.Message { return m.messages.all() }

// Types returns the types of the messages until now, or their topics.
func (m *Mailbox) Types() []string {
	var types []string
	for _, got := range m.Messages() {
		types = append(types, got.Type())
	}
	return types
}

// Data returns the payloads of the messages until now.
func (m *Mailbox) Data() []any {
	var data []any
	for _, got := range m.Messages() {
		data = append(data, got.Data())
	}
	return data
}

// Wait waits until there are n messages, and returns all there are. It fails the
// test if they do not come. It is for what comes from goroutines of a plugin; for
// the rest [Hub.Settle] will do.
func (m *Mailbox) Wait(n int) []router.Message {
	m.tb.Helper()
	return m.messages.wait(m.tb, n, m.what, m.Types)
}
