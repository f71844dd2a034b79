package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// A handler that publishes on the EventBus that calls it waits for itself for
// ever; TestNoticeBoardReentry leaves one behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/plugbus/plugbus/hub_test.(*reentrant).publishAgain"))
}

var errPlugin = errors.New("the plugin's own error")

// policyOf returns the policy with these plugins, in JSON.
func policyOf(t testing.TB, plugins string) *security.Policy {
	t.Helper()
	policy, err := security.Parse(fmt.Appendf(nil, `{"version": 1, "plugins": {%s}}`, plugins), "test.json")
	require.NoError(t, err)
	return policy
}

// open returns a hub that allows everything unless o has a policy. When the test
// ends it is closed, and its books balance.
func open(t testing.TB, o hub.Options) *hub.Hub {
	t.Helper()
	if o.Policy == nil {
		o.Policy = security.AllowAll()
	}
	h, err := hub.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = h.Close(context.Background())
		require.NoError(t, h.Ledger().Check())
	})
	return h
}

// A plug is a plugin of functions, all of which may be nil.
type plug struct {
	manifest func() hub.Manifest
	start    func(ctx context.Context, s *hub.Session) error
	stop     func(ctx context.Context) error
	health   func(ctx context.Context) error

	session *hub.Session
}

func (p *plug) Manifest() hub.Manifest { return p.manifest() }

func (p *plug) Start(ctx context.Context, s *hub.Session) error {
	p.session = s
	if p.start == nil {
		return nil
	}
	return p.start(ctx, s)
}

func (p *plug) Stop(ctx context.Context) error {
	if p.stop == nil {
		return nil
	}
	return p.stop(ctx)
}

func (p *plug) Health(ctx context.Context) error {
	if p.health == nil {
		return nil
	}
	return p.health(ctx)
}

// A receiver is a plug that gets broadcasts too.
type receiver struct {
	plug
	receive events.Handler
}

func (r *receiver) ReceiveEvent(ctx context.Context, e events.Event) error { return r.receive(ctx, e) }

func named(id string) func() hub.Manifest {
	return func() hub.Manifest { return hub.Manifest{ID: id} }
}

// join registers a plugin that does nothing by itself, and returns its session.
func join(t testing.TB, h *hub.Hub, id string) *hub.Session {
	t.Helper()
	p := &plug{manifest: named(id)}
	require.NoError(t, h.Register(t.Context(), p))
	return p.session
}

// An inbox keeps what a handler gets.
type inbox struct {
	mu     sync.Mutex
	events []events.Event
}

func (i *inbox) handle(_ context.Context, e events.Event) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, e)
	return nil
}

// names returns the names of the events.
func (i *inbox) names() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var names []string
	for _, e := range i.events {
		names = append(names, e.Name())
	}
	return names
}

// listen subscribes, and returns what comes.
func listen(t testing.TB, s *hub.Session, pattern string, options ...events.SubscribeOption) *inbox {
	t.Helper()
	box := &inbox{}
	_, err := s.Subscribe(pattern, box.handle, options...)
	require.NoError(t, err)
	return box
}

func emit(t testing.TB, s *hub.Session, name string, data any) {
	t.Helper()
	_, err := s.Emit(t.Context(), name, data)
	require.NoError(t, err)
}

// idle waits until everything has been handled.
func idle(t testing.TB, h *hub.Hub) {
	t.Helper()
	require.NoError(t, h.Idle(t.Context()))
}

// state returns the state of a plugin, 0 if it is not there.
func state(h *hub.Hub, id string) hub.State {
	for _, p := range h.Inspect().Plugins {
		if p.ID == id {
			return p.State
		}
	}
	return 0
}

// entries returns the entries of the audit log, oldest first.
func entries(t testing.TB, h *hub.Hub, q audit.Query) []audit.Entry {
	t.Helper()
	q.Order, q.Limit = audit.OldestFirst, 1000
	page, err := h.Audit().Search(q)
	require.NoError(t, err)
	return page.Entries
}

// denied requires that err is a refusal for a reason.
func denied(t testing.TB, err error, reason plugbus.Reason) {
	t.Helper()
	_ = refusalOf(t, err, reason)
}

// refusalOf returns the refusal that err is, for a reason.
func refusalOf(t testing.TB, err error, reason plugbus.Reason) *plugbus.DeniedError {
	t.Helper()
	require.ErrorIs(t, err, plugbus.ErrDenied)
	d, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok, "%T", err)
	require.Equal(t, reason, d.Reason)
	return d
}

// canceled returns a context that is done.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
