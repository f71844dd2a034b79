package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// A stage is a DB on which plugins watch and validate, with what its host hears of that.
type stage struct {
	*store.DB

	onFailure func() // called for each failure before it is noted; may be nil

	mu       sync.Mutex // guards below
	clients  map[string]*store.Client
	failures []store.Failure
	slow     []store.Slow
}

// newStage returns a stage. When the test ends it is closed, and nothing of it remains.
func newStage(t testing.TB, o store.Options) *stage {
	t.Helper()
	st := &stage{clients: map[string]*store.Client{}}
	o.OnFailure = func(f store.Failure) {
		if st.onFailure != nil {
			st.onFailure()
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		st.failures = append(st.failures, f)
	}
	o.OnSlow = func(s store.Slow) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.slow = append(st.slow, s)
	}
	db, err := store.Open(o)
	require.NoError(t, err)
	st.DB = db
	t.Cleanup(func() {
		require.NoError(t, db.Close(context.Background()))
		require.Empty(t, db.Leaks())
	})
	return st
}

// join returns the client of a plugin that may do everything that the lists allow, or
// what the options say.
func (st *stage) join(t testing.TB, id string, options ...store.ClientOptions) *store.Client {
	t.Helper()
	o := store.ClientOptions{}
	for _, given := range options {
		o = given
	}
	c, err := st.Client(id, o)
	require.NoError(t, err)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.clients[id] = c
	return c
}

// failed returns the failures as texts.
func (st *stage) failed() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	all := []string{}
	for _, f := range st.failures {
		abandoned := ""
		if f.Abandoned {
			abandoned = "abandoned: "
		}
		all = append(all, fmt.Sprintf("%s: %s of %s for %s %q: %s%v", f.Plugin, f.What, f.Store, f.Writer, f.Key, abandoned, f.Err))
	}
	return all
}

// slows returns the calls that the host was told run long.
func (st *stage) slows() []store.Slow {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.slow)
}

// rest waits until nothing is left to do.
func (st *stage) rest(t testing.TB) {
	t.Helper()
	require.NoError(t, st.Idle(t.Context()))
}

// pause lets time pass in a bubble, and what happens in it.
func pause(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func create(t testing.TB, c *store.Client, name string, config store.Config) *store.View {
	t.Helper()
	v, err := c.Create(t.Context(), name, config)
	require.NoError(t, err)
	return v
}

func view(t testing.TB, c *store.Client, name string) *store.View {
	t.Helper()
	v, err := c.Open(t.Context(), name)
	require.NoError(t, err)
	return v
}

func set(t testing.TB, v *store.View, key, value string, options ...store.SetOption) {
	t.Helper()
	_, err := v.Set(t.Context(), key, []byte(value), options...)
	require.NoError(t, err)
}

func remove(t testing.TB, v *store.View, key string) {
	t.Helper()
	require.NoError(t, v.Delete(t.Context(), key))
}

// watch opens a watch of all keys.
func watch(t testing.TB, v *store.View, watcher store.Watcher, options ...store.WatchOption) *store.Watch {
	t.Helper()
	w, err := v.Watch(t.Context(), "**", watcher, options...)
	require.NoError(t, err)
	return w
}

// content returns what a store has.
func content(t testing.TB, v *store.View) map[string]string {
	t.Helper()
	all := map[string]string{}
	for e, err := range v.Entries(t.Context(), store.All()) {
		require.NoError(t, err)
		all[e.Key()] = e.Text()
	}
	return all
}

// denied returns the refusal in err.
func denied(t testing.TB, err error) *plugbus.DeniedError {
	t.Helper()
	d, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok, "%v", err)
	return d
}

// watched returns the figures of the only watch of the store "s".
func watched(t testing.TB, st *stage) store.WatchStats {
	t.Helper()
	stores := st.Stats().Stores
	at := slices.IndexFunc(stores, func(s store.StoreStats) bool { return s.Name == "s" })
	require.GreaterOrEqual(t, at, 0)
	require.Len(t, stores[at].Watches, 1)
	return stores[at].Watches[0]
}

// A diary notes what its watcher is told.
type diary struct {
	before func(store.Change) // called first; may be nil

	mu      sync.Mutex // guards below
	changes []store.Change
}

func (d *diary) watcher(_ context.Context, c store.Change) error {
	if d.before != nil {
		d.before(c)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = append(d.changes, c)
	return nil
}

func (d *diary) read() []store.Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.changes)
}

// lines returns what was told, as "kind key=value was old @revision -lost".
func (d *diary) lines() []string {
	lines := []string{}
	for _, c := range d.read() {
		var b strings.Builder
		b.WriteString(c.Kind().String())
		if c.Key() != "" {
			b.WriteString(" " + c.Key())
		}
		if c.Entry().Exists() {
			b.WriteString("=" + c.Entry().Text())
		}
		if c.Old().Exists() {
			b.WriteString(" was " + c.Old().Text())
		}
		fmt.Fprintf(&b, " @%d", c.Revision())
		if c.Lost() != 0 {
			fmt.Fprintf(&b, " -%d", c.Lost())
		}
		lines = append(lines, b.String())
	}
	return lines
}

// freeze holds up the worker of a plugin, by a watch of a store of its own, until thaw.
func (st *stage) freeze(t testing.TB, id string) (thaw func()) {
	t.Helper()
	st.mu.Lock()
	c := st.clients[id]
	st.mu.Unlock()
	v, err := c.Create(t.Context(), "frozen."+c.ID(), store.Config{})
	if errors.Is(err, store.ErrExists) {
		v = view(t, c, "frozen."+c.ID())
	}
	begun, hold := make(chan struct{}), make(chan struct{})
	w := watch(t, v, func(context.Context, store.Change) error {
		close(begun)
		<-hold
		return nil
	})
	set(t, v, "k", "")
	<-begun
	w.Stop()
	thaw = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(thaw)
	return thaw
}

// A statute is the policy of one plugin, which remembers what it said before.
type statute struct {
	id string

	mu      sync.Mutex // guards below
	eras    []map[string]bool
	forgets uint64 // eras before this one
	hook    func() // called once, by the next question, after its answer is made up
	refused []plugbus.Refusal
}

func newStatute(id string) *statute {
	return &statute{id: id, eras: []map[string]bool{{}}}
}

// set begins an era in which a verb is denied for all stores, or is not.
func (s *statute) set(verb plugbus.Verb, deny bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(s.eras[len(s.eras)-1])
	next[verb.String()] = deny
	s.eras = append(s.eras, next)
}

func (s *statute) deny(verb plugbus.Verb)  { s.set(verb, true) }
func (s *statute) allow(verb plugbus.Verb) { s.set(verb, false) }

// forget lets go of all eras but the present one.
func (s *statute) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgets = uint64(len(s.eras) - 1)
}

// then has f called at the next question, between it and the answer.
func (s *statute) then(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

func (s *statute) Version() uint64 {
	s.mu.Lock()
	version, hook := uint64(len(s.eras)-1), s.hook
	s.hook = nil
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return version
}

func (s *statute) Permit(verb plugbus.Verb, name string) *plugbus.Permit {
	s.mu.Lock()
	version, hook := uint64(len(s.eras)-1), s.hook
	s.hook = nil
	s.mu.Unlock()
	p := s.PermitAt(version, verb, name)
	if hook != nil {
		hook()
	}
	return p
}

func (s *statute) PermitVia(_ plugbus.Chain, verb plugbus.Verb, name string) *plugbus.Permit {
	return s.Permit(verb, name)
}

func (s *statute) PermitPattern(verb plugbus.Verb, pattern string, _ bool) *plugbus.Permit {
	return s.Permit(verb, pattern)
}

func (s *statute) PermitAt(version uint64, verb plugbus.Verb, _ string) *plugbus.Permit {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &plugbus.Permit{Version: version}
	switch {
	case version < s.forgets:
		p.Reason = plugbus.ReasonPolicyUnavailable
	case s.eras[version][verb.String()]:
		p.Reason = plugbus.ReasonDeniedByRule
	}
	return p
}

func (s *statute) Knows(string) bool { return true }

func (s *statute) Refuse(r plugbus.Refusal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, r)
	return &plugbus.DeniedError{Plugin: s.id, Verb: r.Verb, Object: r.Object, Reason: r.Reason, Hint: r.Hint, Chain: r.Chain, Cause: r.Cause}
}

func (s *statute) refusals() []plugbus.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

// A bystander is a plugin under a statute of somebody else: it may do everything.
type bystander struct{ law *statute }

func (b bystander) Version() uint64 {
	b.law.mu.Lock()
	defer b.law.mu.Unlock()
	return uint64(len(b.law.eras) - 1)
}

func (b bystander) Permit(plugbus.Verb, string) *plugbus.Permit {
	return &plugbus.Permit{Version: b.Version()}
}

func (b bystander) PermitVia(_ plugbus.Chain, verb plugbus.Verb, name string) *plugbus.Permit {
	return b.Permit(verb, name)
}

func (b bystander) PermitPattern(verb plugbus.Verb, name string, _ bool) *plugbus.Permit {
	return b.Permit(verb, name)
}

func (b bystander) PermitAt(_ uint64, verb plugbus.Verb, name string) *plugbus.Permit {
	return b.Permit(verb, name)
}

func (b bystander) Knows(string) bool { return true }

func (b bystander) Refuse(r plugbus.Refusal) error {
	return &plugbus.DeniedError{Verb: r.Verb, Object: r.Object, Reason: r.Reason, Cause: r.Cause}
}
