package hubtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// WaitLimit bounds each wait of this package, and is the hub.Options.WaitLimit
// of a hub for which the test sets none.
const WaitLimit = 10 * time.Second

// A Hub is a hub that belongs to a test.
type Hub struct {
	*hub.Hub
	tb testing.TB
}

// New returns a hub with this policy, which may be nil to allow nothing. It
// closes the hub when the test ends, and fails the test if that shows a leak or a
// problem.
func New(tb testing.TB, policy *security.Policy, options ...Option) *Hub {
	tb.Helper()
	s := settings{explain: true}
	for _, option := range options {
		option.apply(&s)
	}
	if s.hub.Policy != nil || s.hub.ExplainToPlugins {
		tb.Fatalf("hubtest: With: Policy and ExplainToPlugins of the hub.Options are set; " +
			"the policy is an argument of New, and explanations are on but for Unexplained")
	}
	if s.leaks.given && s.leaks.reason == "" || s.problems.given && s.problems.reason == "" {
		tb.Fatalf("hubtest: AllowLeaks and AllowProblems need a reason, for whoever reads the test")
	}
	if s.persistent {
		if s.hub.StoreDir != "" || s.hub.Store.Backend != nil {
			tb.Fatalf("hubtest: Persistent and With: the hub.Options have a StoreDir or a Backend already")
		}
		s.hub.StoreDir = tb.TempDir()
	}
	s.hub.Policy, s.hub.ExplainToPlugins = policy, s.explain
	if s.hub.WaitLimit == 0 {
		s.hub.WaitLimit = WaitLimit
	}
	log := newTestLog(tb.Output(), s.hub.Logger)
	s.hub.Logger = log.logger()
	inner, err := hub.New(s.hub)
	if err != nil {
		tb.Fatalf("hubtest: make a hub: %v", err)
	}
	tb.Cleanup(func() {
		tb.Helper()
		e := ending{}
		e.report, e.err = inner.Close(context.Background()) // The wait limit bounds it.
		e.leaks, e.panics = inner.Leaks(), log.end()
		e.judge(tb, s.leaks, s.problems)
	})
	return &Hub{inner, tb}
}

// Add registers plugins, all or none.
func (h *Hub) Add(plugins ...hub.Plugin) {
	h.tb.Helper()
	if err := h.Register(context.Background(), plugins...); err != nil { // The wait limit bounds it.
		h.tb.Fatalf("hubtest: %v", err)
	}
}

// Plugin registers a plugin that is made of its Start function, and returns its
// session. Start may be nil.
func (h *Hub) Plugin(id string, start func(ctx context.Context, s *hub.Session) error) *hub.Session {
	h.tb.Helper()
	var session *hub.Session
	h.Add(hub.Func(hub.Manifest{ID: id}, func(ctx context.Context, s *hub.Session) error {
		session = s
		if start == nil {
			return nil
		}
		return start(ctx, s)
	}))
	return session
}

// Join registers a plugin that does nothing by itself, and returns its session,
// by which the test acts as this plugin.
func (h *Hub) Join(id string) *hub.Session {
	h.tb.Helper()
	return h.Plugin(id, nil)
}

// Settle waits until every event and message has been handled and every watch of a store
// has been told of the changes, those included that handlers send and write meanwhile, and
// every [hub.Dependant] has heard of its losses. It does not wait for functions of
// Session.Go: see [Recorder.Wait], [Mailbox.Wait] and [Changes.Wait].
func (h *Hub) Settle() {
	h.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), WaitLimit)
	defer cancel()
	if err := h.Idle(ctx); err != nil {
		h.tb.Fatalf("hubtest: the hub did not settle within %v:%s", WaitLimit, busy(h.Inspect()))
	}
}

// busy lists the subscriptions, mailboxes and stores that have something to do.
func busy(snapshot hub.Snapshot) string {
	var b strings.Builder
	for _, plugin := range snapshot.Plugins {
		for _, s := range plugin.Subscriptions {
			if l := s.Ledger; l.Waiting+l.Running > 0 || s.Reading {
				fmt.Fprintf(&b, "\n- plugin %q: the handler of %q, subscribed at %s: %d running, %d waiting",
					s.Plugin, s.Pattern, s.Site, l.Running, l.Waiting)
			}
		}
	}
	for _, plugin := range snapshot.Plugins {
		if l := plugin.Mailbox.Ledger; l.Waiting+l.Running > 0 {
			fmt.Fprintf(&b, "\n- plugin %q: the handlers of messages: %d running, %d waiting", plugin.ID, l.Running, l.Waiting)
		}
	}
	for _, c := range snapshot.Stores.Clients {
		if c.Running != "" {
			fmt.Fprintf(&b, "\n- plugin %q: the %s: running, %d writes wait for its validators", c.ID, c.Running, c.Waiting)
		}
	}
	if n := snapshot.Stores.Waiting; n > 0 {
		fmt.Fprintf(&b, "\n- %d writes wait for the disk", n)
	}
	if b.Len() == 0 {
		return " now it has"
	}
	return b.String()
}
