package security_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/security"
)

// audited returns an authority with an audit log.
func audited(t testing.TB, o security.Options) (*security.Authority, *audit.Log) {
	t.Helper()
	log, err := audit.New(audit.Options{CoalesceWithin: -1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close(context.Background())) })
	o.Audit = log
	a, err := security.New(o)
	require.NoError(t, err)
	return a, log
}

// entries returns the audit entries, oldest first, without what the log stamps.
func entries(t testing.TB, log *audit.Log) []audit.Entry {
	t.Helper()
	recent, err := log.Recent(1000)
	require.NoError(t, err)
	all := make([]audit.Entry, len(recent))
	for i, e := range recent {
		e.Seq, e.Time, e.Last, e.Count = 0, time.Time{}, time.Time{}, 0
		all[len(recent)-1-i] = e
	}
	return all
}

// details returns the details of an entry.
func details(e audit.Entry) map[string]string {
	m := map[string]string{}
	for _, d := range e.Details {
		m[d.Key] = d.Value
	}
	return m
}

func TestOptions(t *testing.T) {
	_, err := security.New(security.Options{AlertRatio: -1, AlertRefusals: 2_000_000, Keep: -5})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, want := range []string{"AlertRatio is -1", "AlertRefusals is 2000000", "Keep is -5"} {
		require.ErrorContains(t, err, want)
	}
	_, err = security.New(security.Options{})
	require.NoError(t, err)
}

// TestJoin shows who may join, and what the others are told (H1, H3, S6).
func TestJoin(t *testing.T) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(t, err)
	a, log := audited(t, security.Options{Policy: p})
	for _, test := range []struct {
		id     string
		reason plugbus.Reason
		want   string
	}{
		{"indxer", plugbus.ReasonUnknownPlugin, `plugin "indxer" may not join: unknown_plugin: policy testdata/indexer.json for 3 plugins does not have it; add "indxer" under "plugins", or did you mean "indexer"?`},
		{"ghost", plugbus.ReasonUnknownPlugin, `add "ghost" under "plugins" (audit record 2)`},
		{"host", plugbus.ReasonReservedName, "the id belongs to the hub; choose another"},
		{"a.b", plugbus.ReasonInvalidName, `invalid plugin id "a.b"`},
		{"", plugbus.ReasonInvalidName, `invalid plugin id ""`},
		{strings.Repeat("x", 1<<20), plugbus.ReasonInvalidName, "longer than"},
	} {
		_, err := a.Join(test.id)
		require.ErrorIs(t, err, plugbus.ErrDenied)
		require.Equal(t, test.reason == plugbus.ReasonInvalidName, errors.Is(err, plugbus.ErrInvalid))
		require.ErrorContains(t, err, test.want)
		require.Less(t, len(err.Error()), 4000)
		e, ok := errors.AsType[*security.JoinError](err)
		require.True(t, ok)
		entry, ok := log.Get(e.Record)
		require.True(t, ok)
		require.Equal(t, "join.refused", entry.Event)
		require.Equal(t, test.reason, entry.Reason)
	}
	require.Empty(t, a.Subjects())

	s := join(t, a, "indexer")
	require.Equal(t, "indexer", s.ID())
	require.Equal(t, plugbus.Trusted, s.Grant().Trust)
	a.JoinHost()
	require.Equal(t, []string{"host", "indexer"}, a.Subjects())
	s.Leave()
	s.Leave()
	require.Equal(t, []string{"host"}, a.Subjects())
}

// TestSwap shows that a policy is replaced as a whole, at once, and with a
// record of who did it and of what was before and is after (S1).
func TestSwap(t *testing.T) {
	before := policy(t, `{"a":{"emit":true},"b":{},"c":{}}`)
	after := policy(t, `{"a":{"emit":{"allow":["x"]}},"c":{},"d":{}}`)
	a, log := audited(t, security.Options{Policy: before})
	s := join(t, a, "a")
	require.Equal(t, uint64(1), s.Version())
	require.True(t, s.Permit(plugbus.VerbEmit, "y").Allowed())

	version, err := a.Swap("admin", after)
	require.NoError(t, err)
	require.Equal(t, uint64(2), version)
	require.Equal(t, version, a.Version())
	require.Equal(t, version, s.Version())
	require.Same(t, after, a.Policy())
	require.False(t, s.Permit(plugbus.VerbEmit, "y").Allowed())
	require.Equal(t, version, s.Permit(plugbus.VerbEmit, "y").Version)

	got := entries(t, log)
	require.Len(t, got, 1)
	require.Equal(t, audit.Entry{
		Event: "policy.swapped", Actor: "admin", Outcome: plugbus.Handled, Admin: true,
		Details: []audit.Detail{
			{Key: "before", Value: "policy p.json for 3 plugins, digest " + before.Digest()},
			{Key: "after", Value: "policy p.json for 3 plugins, digest " + after.Digest()},
			{Key: "added", Value: "1: d"},
			{Key: "removed", Value: "1: b"},
			{Key: "changed", Value: "1: a"},
			{Key: "version", Value: "2"},
		},
	}, got[0])

	_, err = a.Swap("admin", nil)
	require.NoError(t, err)
	require.Equal(t, plugbus.ReasonUnknownPlugin, s.Permit(plugbus.VerbEmit, "x").Reason)
	require.Zero(t, s.Grant())
}

// TestSetTrust shows that a level is changed with a record of who did it and of
// what it was, that it decides at once, and that a new policy has its own (S1).
func TestSetTrust(t *testing.T) {
	p := policy(t, `{"a":{"send":true,"rates":{"events":{"limit":1}}},"b":{"trust":"trusted","receive":true}}`)
	a, log := audited(t, security.Options{Policy: p})
	s := join(t, a, "a")
	require.Equal(t, plugbus.ReasonTrustLevelMismatch, s.Permit(plugbus.VerbSend, "b").Reason)
	require.NoError(t, a.SetTrust("admin", "a", plugbus.Basic))
	require.True(t, s.Permit(plugbus.VerbSend, "b").Allowed())
	require.Equal(t, uint64(2), a.Version())
	require.Equal(t, plugbus.Basic, s.Grant().Trust)
	g, _ := p.Grant("a")
	require.Equal(t, plugbus.Untrusted, g.Trust, "the policy that was loaded is immutable")
	require.NotEqual(t, p.Digest(), a.Policy().Digest())
	require.Equal(t, audit.Entry{
		Event: "trust.changed", Actor: "admin", Target: "a", Outcome: plugbus.Handled, Admin: true,
		Details: []audit.Detail{
			{Key: "before", Value: "untrusted"},
			{Key: "after", Value: "basic"},
			{Key: "version", Value: "2"},
		},
	}, entries(t, log)[0])

	for _, test := range []struct {
		id    string
		level plugbus.Trust
		want  string
	}{
		{"ghost", plugbus.Basic, `add "ghost" under "plugins"`},
		{"a", plugbus.Trust(4), "no trust level has the number 4"},
		{"host", plugbus.Basic, "the host is always verified"},
	} {
		err := a.SetTrust("admin", test.id, test.level)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.ErrorContains(t, err, test.want)
	}
	require.Equal(t, uint64(2), a.Version())

	_, err := a.Swap("admin", p)
	require.NoError(t, err)
	require.Equal(t, plugbus.Untrusted, s.Grant().Trust)
}

// TestLevels shows that rates and limits follow the trust level where the
// plugin says nothing itself, also when the level changes (S21).
func TestLevels(t *testing.T) {
	p, err := security.Parse([]byte(`{"version":1,
		"levels":{"basic":{"rates":{"messages":{"limit":7}},"limits":{"subscriptions":3,"wildcards":2}}},
		"plugins":{"a":{"limits":{"wildcards":1}}}}`), "")
	require.NoError(t, err)
	a := authority(t, p)
	s := join(t, a, "a")
	rate := func() int64 {
		u, ok := a.Usage("a")
		require.True(t, ok)
		require.Equal(t, security.Messages, u.Operations[0].Operation)
		return u.Operations[0].Rate.Limit
	}
	require.Equal(t, int64(100), rate())
	require.Equal(t, 1000, s.Grant().Limits.Subscriptions)
	require.NoError(t, a.SetTrust("admin", "a", plugbus.Basic))
	require.Equal(t, int64(7), rate())
	require.Equal(t, 3, s.Grant().Limits.Subscriptions)
	require.Equal(t, 1, s.Grant().Limits.Wildcards)
}

// TestUnrecordedChange shows that what cannot be recorded is not done.
func TestUnrecordedChange(t *testing.T) {
	log, err := audit.New(audit.Options{})
	require.NoError(t, err)
	p := policy(t, `{"a":{}}`)
	a, err := security.New(security.Options{Policy: p, Audit: log})
	require.NoError(t, err)
	require.NoError(t, log.Close(context.Background()))

	version, err := a.Swap("admin", nil)
	require.ErrorIs(t, err, plugbus.ErrClosed)
	require.Equal(t, uint64(1), version)
	require.ErrorIs(t, a.SetTrust("admin", "a", plugbus.Basic), plugbus.ErrClosed)
	require.Equal(t, uint64(1), a.Version())
	require.Same(t, p, a.Policy())

	// A refusal stays one.
	err = join(t, a, "a").Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: "x", Reason: plugbus.ReasonDeniedByRule})
	require.ErrorIs(t, err, plugbus.ErrDenied)
}

// TestSwapIsAtomic shows that every decision is made by one policy, whole, and
// that what begins after Swap returned is made by the new one (S2, S3, R13).
func TestSwapIsAtomic(t *testing.T) {
	// Each policy allows the event of its own parity, and the pair of a message.
	policies := [2]*security.Policy{
		policy(t, `{"a":{"emit":{"allow":["even"]},"send":true,"trust":"basic"},"b":{"receive":false}}`),
		policy(t, `{"a":{"emit":{"allow":["odd"]},"send":false,"trust":"basic"},"b":{"receive":true}}`),
	}
	a := authority(t, policies[1]) // version 1
	s := join(t, a, "a")
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				floor := s.Version()
				permit := s.Permit(plugbus.VerbEmit, "even")
				if permit.Version < floor || permit.Allowed() != (permit.Version%2 == 0) {
					t.Errorf("version %d (at least %d) allows even: %t", permit.Version, floor, permit.Allowed())
				}
				// The sender's right of one policy and the recipient's of the
				// other would allow this.
				if permit := s.Permit(plugbus.VerbSend, "b"); permit.Allowed() {
					t.Errorf("version %d allows the message", permit.Version)
				}
			}
		})
	}
	for i := range 2000 {
		version, err := a.Swap("admin", policies[i%2])
		require.NoError(t, err)
		permit := s.Permit(plugbus.VerbEmit, "even")
		require.Equal(t, version, permit.Version)
		require.Equal(t, i%2 == 0, permit.Allowed())
	}
	close(done)
	wg.Wait()
}

// TestPermitAt shows that the rules of earlier versions still answer, as many
// as are kept (E18).
func TestPermitAt(t *testing.T) {
	a, err := security.New(security.Options{Keep: 3, Policy: policy(t, `{"a":{"subscribe":{"allow":["v1"]}}}`)})
	require.NoError(t, err)
	s := join(t, a, "a")
	for v := 2; v <= 5; v++ {
		_, err := a.Swap("admin", policy(t, fmt.Sprintf(`{"a":{"subscribe":{"allow":["v%d"]}}}`, v)))
		require.NoError(t, err)
	}
	for v := range uint64(7) {
		for object := uint64(1); object <= 5; object++ {
			permit := s.PermitAt(v, plugbus.VerbSubscribe, fmt.Sprintf("v%d", object))
			require.Equal(t, v, permit.Version)
			switch {
			case v < 2 || v > 5:
				require.Equal(t, plugbus.ReasonPolicyUnavailable, permit.Reason, "version %d", v)
			default:
				require.Equal(t, v == object, permit.Allowed(), "version %d, object %d", v, object)
			}
		}
	}
}

// TestRatesChangeAtOnce shows that a new policy changes the rates of plugins
// that have joined, and gives nothing again (L3).
func TestRatesChangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		emit := func(limit string) *security.Policy {
			return policy(t, `{"a":{"emit":true,"rates":{"events":`+limit+`}}}`)
		}
		a := authority(t, emit(`{"limit":60,"burst":100}`))
		s := join(t, a, "a")
		take := func() (n int) {
			for s.Permit(plugbus.VerbEmit, "x").Acts.Take(time.Now(), 1) == 0 {
				n++
			}
			return n
		}
		swap := func(p *security.Policy) {
			_, err := a.Swap("admin", p)
			require.NoError(t, err)
		}
		require.Equal(t, 100, take())
		swap(emit(`{"limit":6000,"burst":500}`))
		require.Zero(t, take(), "a larger burst is not given at once")
		<-time.After(time.Second)
		require.Equal(t, 100, take(), "the new rate holds")
		<-time.After(time.Second)
		swap(emit(`{"limit":60,"burst":10}`))
		require.Equal(t, 10, take(), "no more than the new burst is left")
		<-time.After(2 * time.Second)
		require.Equal(t, 2, take())
		swap(emit(`{"limit":0}`))
		<-time.After(time.Hour)
		require.Zero(t, take())
		swap(policy(t, `{"a":{"emit":true}}`))
		require.Zero(t, take(), "what was 0 fills at the new rate")
		<-time.After(time.Second)
		require.Equal(t, 100, take())
	})
}

// TestRejoinRefillsNothing shows that to leave and to come back, or to have two
// sessions, gives no new quota (L6).
func TestRejoinRefillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, policy(t, `{"a":{"emit":true,"rates":{"events":{"limit":60,"burst":40}}}}`))
		take := func(s *security.Subject) (n int) {
			for s.Permit(plugbus.VerbEmit, "x").Acts.Take(time.Now(), 1) == 0 {
				n++
			}
			return n
		}
		s := join(t, a, "a")
		require.Zero(t, s.Permit(plugbus.VerbEmit, "x").Acts.Take(time.Now(), 30))
		second := join(t, a, "a")
		require.Equal(t, 10, take(second))
		require.Zero(t, take(s))
		s.Leave()
		u, ok := a.Usage("a")
		require.True(t, ok)
		require.Equal(t, 1, u.Sessions)
		second.Leave()
		u, ok = a.Usage("a")
		require.True(t, ok)
		require.Zero(t, u.Sessions)
		s = join(t, a, "a")
		require.Zero(t, take(s))
		<-time.After(3 * time.Second)
		require.Equal(t, 3, take(s))

		// A policy that comes between holds when the plugin is back.
		s.Leave()
		_, err := a.Swap("admin", policy(t, `{"a":{"emit":true,"rates":{"events":{"limit":6000,"burst":40}}}}`))
		require.NoError(t, err)
		s = join(t, a, "a")
		require.Zero(t, take(s))
		<-time.After(100 * time.Millisecond)
		require.Equal(t, 10, take(s))
	})
}

// TestStockLapses shows that a session that ended leaves no acts in stock.
func TestStockLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, policy(t, `{"a":{"emit":true,"rates":{"events":{"limit":1,"per":"24h","burst":80}}}}`))
		s := join(t, a, "a")
		acts := s.Permit(plugbus.VerbEmit, "x").Acts
		require.Zero(t, acts.Take(time.Now(), 1)) // and ten in stock
		s.Leave()
		n := 0
		for acts.Take(time.Now(), 1) == 0 {
			n++
		}
		require.Equal(t, 69, n)
	})
}

// TestAccountsAreBounded shows that the counters of plugins that have left are
// freed in the end (L6).
func TestAccountsAreBounded(t *testing.T) {
	a := authority(t, security.AllowAll())
	for i := range 5000 {
		join(t, a, fmt.Sprintf("p%d", i)).Leave()
	}
	kept := 0
	for i := range 5000 {
		if _, ok := a.Usage(fmt.Sprintf("p%d", i)); ok {
			kept++
		}
	}
	require.Equal(t, 4096, kept)
	require.Empty(t, a.Subjects())
}

// TestSubjectYieldsNothing shows that neither the authority nor a policy can be
// reached through what a subject exports (S1).
func TestSubjectYieldsNothing(t *testing.T) {
	forbidden := map[reflect.Type]bool{
		reflect.TypeFor[security.Authority](): true, reflect.TypeFor[security.Policy](): true,
		reflect.TypeFor[security.Document](): true, reflect.TypeFor[security.PluginRules](): true,
		reflect.TypeFor[audit.Log](): true,
	}
	seen := map[reflect.Type]bool{}
	var visit func(path string, typ reflect.Type)
	visit = func(path string, typ reflect.Type) {
		require.False(t, forbidden[typ], "%s yields a %s", path, typ)
		if seen[typ] {
			return
		}
		seen[typ] = true
		for method := range typ.Methods() {
			for out := range method.Type.Outs() {
				visit(path+"."+method.Name+"()", out)
			}
		}
		switch kind := typ.Kind(); {
		case slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Chan}, kind):
			visit(path, typ.Elem())
		case kind == reflect.Struct:
			for field := range typ.Fields() {
				if field.IsExported() {
					visit(path+"."+field.Name, field.Type)
				}
			}
		}
	}
	visit("Subject", reflect.TypeFor[*security.Subject]())
	require.True(t, seen[reflect.TypeFor[plugbus.Permit]()], "the walk goes somewhere")
}

// TestAnswersAreKept shows that a permit is the same value until the policy
// changes, and that there is no end of names.
func TestAnswersAreKept(t *testing.T) {
	p := policy(t, `{"a":{"emit":true}}`)
	a := authority(t, p)
	s := join(t, a, "a")
	first := s.Permit(plugbus.VerbEmit, "x")
	require.Same(t, first, s.Permit(plugbus.VerbEmit, "x"))
	for i := range 5000 {
		require.True(t, s.Permit(plugbus.VerbEmit, fmt.Sprintf("n%d", i)).Allowed())
	}
	require.NotSame(t, first, s.Permit(plugbus.VerbEmit, "x"))
	require.NotSame(t, s.Permit(plugbus.VerbEmit, "no name"), s.Permit(plugbus.VerbEmit, "no name"), "junk may be large")
	first = s.Permit(plugbus.VerbEmit, "x")
	_, err := a.Swap("admin", p)
	require.NoError(t, err)
	require.NotSame(t, first, s.Permit(plugbus.VerbEmit, "x"))
}

// TestAllocations shows that a permit that is known and a take cost no garbage.
func TestAllocations(t *testing.T) {
	s := join(t, authority(t, policy(t, `{"a":{"emit":true,"rates":{"events":{"limit":1000000000}}}}`)), "a")
	now := time.Now()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		permit := s.Permit(plugbus.VerbEmit, "some.name")
		permit.Acts.Take(now, 1)
		permit.Acts.Take(now, 5)
	}))
}

// TestChanged shows that a host hears of each change when it is in force, and before the
// call returns, with no lock held; and of none that was not made.
func TestChanged(t *testing.T) {
	var a *security.Authority
	var seen []uint64
	a, err := security.New(security.Options{Changed: func() {
		require.Equal(t, plugbus.Trusted, grantOf(a, "p"))
		require.Empty(t, a.Subjects()) // Which takes the lock.
		seen = append(seen, a.Version())
	}})
	require.NoError(t, err)
	_, err = a.Swap(security.HostID, policy(t, `{"p":{"trust":"trusted"}}`))
	require.NoError(t, err)
	require.NoError(t, a.SetTrust(security.HostID, "p", plugbus.Trusted))
	require.Error(t, a.SetTrust(security.HostID, "stranger", plugbus.Trusted))
	require.Equal(t, []uint64{2, 3}, seen)
}

func grantOf(a *security.Authority, id string) plugbus.Trust {
	g, _ := a.Policy().Grant(id)
	return g.Trust
}
