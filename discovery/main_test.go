package discovery_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/internal/door"
)

func newIndex(t testing.TB, o discovery.Options) *discovery.Index {
	t.Helper()
	x, err := discovery.New(o)
	require.NoError(t, err)
	return x
}

func newClient(t testing.TB, x *discovery.Index, id string, guard plugbus.Guard) *discovery.Client {
	t.Helper()
	c, err := x.Client(id, discovery.ClientOptions{Guard: guard})
	require.NoError(t, err)
	return c
}

func provide(t testing.TB, c *discovery.Client, capabilities ...discovery.Capability) {
	t.Helper()
	for _, capability := range capabilities {
		require.NoError(t, c.Provide(capability))
	}
}

// named returns capabilities that have nothing but names.
func named(names ...string) []discovery.Capability {
	all := make([]discovery.Capability, len(names))
	for i, name := range names {
		all[i].Name = name
	}
	return all
}

func find(t testing.TB, c *discovery.Client, k discovery.Criteria) []discovery.Match {
	t.Helper()
	matches, err := c.Find(k)
	require.NoError(t, err)
	return matches
}

// ids returns who matches, in order.
func ids(matches []discovery.Match) []string {
	all := make([]string, len(matches))
	for i, m := range matches {
		all[i] = m.Plugin
	}
	return all
}

// requiring returns criteria that require capabilities.
func requiring(names ...string) discovery.Criteria {
	return discovery.Criteria{Require: discovery.Terms{Capabilities: names}}
}

// rules are a guard that denies what is listed, and keeps what it was asked.
type rules struct {
	plugbus.Guard // an open one

	mu      sync.Mutex // guards below
	denied  map[string]bool
	asked   []string
	refused []plugbus.Refusal
	permit  plugbus.Permit // of what is allowed
}

func newRules(id string, denied ...string) *rules {
	r := &rules{Guard: door.Open(id), denied: map[string]bool{}}
	r.deny(denied...)
	return r
}

// deny denies acts such as "provide pdf".
func (r *rules) deny(acts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, act := range acts {
		r.denied[act] = true
	}
}

func (r *rules) allow(act string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.denied, act)
}

func (r *rules) Permit(verb plugbus.Verb, name string) *plugbus.Permit {
	r.mu.Lock()
	defer r.mu.Unlock()
	act := verb.String() + " " + name
	r.asked = append(r.asked, act)
	permit := r.permit
	if r.denied[act] {
		permit.Reason = plugbus.ReasonDeniedByRule
	}
	return &permit
}

func (r *rules) Refuse(refusal plugbus.Refusal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, refusal)
	return r.Guard.Refuse(refusal)
}

// requireDenied asserts that the guard refused an act, and why.
func requireDenied(t testing.TB, err error, reason plugbus.Reason) *plugbus.DeniedError {
	t.Helper()
	var denied *plugbus.DeniedError
	require.ErrorAs(t, err, &denied)
	require.ErrorIs(t, err, plugbus.ErrDenied)
	require.Equal(t, reason, denied.Reason)
	return denied
}

// A never is a meter that admits nothing for a minute.
type never struct{}

func (never) Take(time.Time, int) time.Duration { return time.Minute }
