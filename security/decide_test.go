package security_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/security"
)

// policy parses the plugins of a policy.
func policy(t testing.TB, plugins string) *security.Policy {
	t.Helper()
	p, err := security.Parse([]byte(`{"version":1,"plugins":`+plugins+`}`), "p.json")
	require.NoError(t, err)
	return p
}

// authority returns an authority without an audit log.
func authority(t testing.TB, p *security.Policy) *security.Authority {
	t.Helper()
	a, err := security.New(security.Options{Policy: p})
	require.NoError(t, err)
	return a
}

func join(t testing.TB, a *security.Authority, id string) *security.Subject {
	t.Helper()
	s, err := a.Join(id)
	require.NoError(t, err)
	return s
}

// TestVerbs shows for each verb with names that absent and false allow nothing,
// true allows everything but the hub's own names, and deny beats allow (S7).
func TestVerbs(t *testing.T) {
	for _, verb := range []plugbus.Verb{
		plugbus.VerbEmit, plugbus.VerbBroadcast, plugbus.VerbSubscribe, plugbus.VerbPublish,
		plugbus.VerbConsume, plugbus.VerbProvide, plugbus.VerbDiscover,
	} {
		for _, test := range []struct {
			rule, object string
			want         plugbus.Reason
		}{
			{`{}`, "a", plugbus.ReasonInsufficientPermissions},
			{`{"%s":false}`, "a", plugbus.ReasonInsufficientPermissions},
			{`{"%s":{"allow":[]}}`, "a", plugbus.ReasonInsufficientPermissions},
			{`{"%s":true}`, "a", ""},
			{`{"%s":true}`, "a.b:c/d", ""},
			{`{"%s":{"allow":["**"]}}`, "a.b", ""},
			{`{"%s":{"allow":["a","b"]}}`, "b", ""},
			{`{"%s":{"allow":["a","b"]}}`, "c", plugbus.ReasonInsufficientPermissions},
			{`{"%s":{"allow":["a.*"]}}`, "a.b.c", plugbus.ReasonInsufficientPermissions},
			{`{"%s":{"allow":["a.**"],"deny":["a.x.*"]}}`, "a.b", ""},
			{`{"%s":{"allow":["a.**"],"deny":["a.x.*"]}}`, "a.x.b", plugbus.ReasonDeniedByRule},
			{`{"%s":{"allow":["a.x.b"],"deny":["a.**"]}}`, "a.x.b", plugbus.ReasonDeniedByRule}, // however exact the allow is
			{`{"%s":{"allow":["a"],"deny":["b"]}}`, "b", plugbus.ReasonDeniedByRule},
			{`{"%s":true}`, "a b", plugbus.ReasonInvalidName},
			{`{"%s":true}`, "a.*", plugbus.ReasonInvalidName},
			{`{"%s":true}`, "", plugbus.ReasonInvalidName},
		} {
			rule := strings.ReplaceAll(test.rule, "%s", verb.String())
			s := join(t, authority(t, policy(t, `{"p":`+rule+`}`)), "p")
			require.Equal(t, test.want, s.Permit(verb, test.object).Reason, "%s: %s %q", rule, verb, test.object)
			for _, other := range plugbus.Verbs() {
				if other != verb && test.want == "" {
					require.False(t, s.Permit(other, test.object).Allowed(), "%s: %s %q", rule, other, test.object)
				}
			}
		}
	}
}

// TestReservedNames shows that the hub's own names can be listened to only by
// name, and never be used by a plugin or by the host's session (H7).
func TestReservedNames(t *testing.T) {
	all := `{"emit":true,"broadcast":true,"subscribe":%s,"publish":true,"consume":%[1]s,"provide":true,"discover":%[1]s,
		"dataAccess":{"**":{"read":true,"write":true,"create":true}}}`
	for _, name := range []string{"plugin:registered", "hub:x", "store:index", "security:alert"} {
		wide := join(t, authority(t, policy(t, `{"p":`+fmt.Sprintf(all, "true")+`}`)), "p")
		named := join(t, authority(t, policy(t, `{"p":`+fmt.Sprintf(all, `{"allow":["plugin:*","hub:*","store:*","security:*"]}`)+`}`)), "p")
		a := authority(t, security.AllowAll())
		for _, verb := range []plugbus.Verb{
			plugbus.VerbEmit, plugbus.VerbBroadcast, plugbus.VerbPublish, plugbus.VerbProvide, plugbus.VerbCreate,
		} {
			for _, s := range []*security.Subject{wide, named, join(t, a, "p"), a.JoinHost()} {
				require.Equal(t, plugbus.ReasonReservedName, s.Permit(verb, name).Reason, "%s %s %s", s.ID(), verb, name)
				require.Equal(t, plugbus.ReasonReservedName, s.PermitPattern(verb, name, true).Reason)
			}
		}
		for _, verb := range []plugbus.Verb{plugbus.VerbSubscribe, plugbus.VerbConsume, plugbus.VerbDiscover} {
			require.Equal(t, plugbus.ReasonInsufficientPermissions, wide.Permit(verb, name).Reason)
			require.True(t, named.Permit(verb, name).Allowed())
			require.True(t, a.JoinHost().Permit(verb, name).Allowed())
			require.Equal(t, plugbus.ReasonInsufficientPermissions, wide.PermitPattern(verb, name, true).Reason)
			require.True(t, named.PermitPattern(verb, name, false).Allowed())
		}
	}
}

// TestMessages shows the layers of a message: the sender's right, the peer,
// trust, and the recipient's right.
func TestMessages(t *testing.T) {
	for _, test := range []struct {
		from, to string
		want     plugbus.Reason // of send
		receive  plugbus.Reason // of receive, asked of the recipient
	}{
		{`{"canSendMessages":true}`, `{"canReceiveMessages":true}`, "", ""},
		{`{"send":true}`, `{"receive":true}`, "", ""},
		{`{"send":{"allow":["b"]}}`, `{"receive":{"allow":["a"]}}`, "", ""},
		{`{"send":{"allow":["*"]}}`, `{"receive":{"allow":["**"]}}`, "", ""},
		{`{"canSendMessages":true,"send":{"deny":["c"]}}`, `{"canReceiveMessages":true,"receive":{"deny":["c"]}}`, "", ""},

		{`{}`, `{"receive":true}`, plugbus.ReasonNoSendPermission, ""},
		{`{"canSendMessages":false}`, `{"receive":true}`, plugbus.ReasonNoSendPermission, ""},
		{`{"canSendMessages":true,"send":{"allow":["c"]}}`, `{"receive":true}`, plugbus.ReasonNoSendPermission, ""}, // a list narrows
		{`{"canSendMessages":true,"send":{"deny":["b"]}}`, `{"receive":true}`, plugbus.ReasonDeniedByRule, ""},
		{`{"send":{"allow":["b"],"deny":["*"]}}`, `{"receive":true}`, plugbus.ReasonDeniedByRule, ""},

		{`{"send":true}`, `{}`, plugbus.ReasonRecipientCannotReceive, plugbus.ReasonRecipientCannotReceive},
		{`{"send":true}`, `{"canReceiveMessages":false}`, plugbus.ReasonRecipientCannotReceive, plugbus.ReasonRecipientCannotReceive},
		{`{"send":true}`, `{"receive":{"allow":["c"]}}`, plugbus.ReasonRecipientCannotReceive, plugbus.ReasonRecipientCannotReceive},
		{`{"send":true}`, `{"receive":{"allow":["a"],"deny":["a"]}}`, plugbus.ReasonRecipientCannotReceive, plugbus.ReasonDeniedByRule},
		{`{"send":true}`, `{"trust":"trusted"}`, plugbus.ReasonTrustLevelMismatch, plugbus.ReasonRecipientCannotReceive}, // trust before the recipient's right
	} {
		a := authority(t, policy(t, `{"a":`+test.from+`,"b":`+test.to+`,"c":{}}`))
		require.Equal(t, test.want, join(t, a, "a").Permit(plugbus.VerbSend, "b").Reason, "%s → %s", test.from, test.to)
		require.Equal(t, test.receive, join(t, a, "b").Permit(plugbus.VerbReceive, "a").Reason, "%s → %s", test.from, test.to)
	}
}

// TestUnknownPeer shows that unknown is not untrusted (S6).
func TestUnknownPeer(t *testing.T) {
	a := authority(t, policy(t, `{"a":{"send":true,"receive":true}}`))
	require.Equal(t, plugbus.ReasonUnknownPlugin, join(t, a, "a").Permit(plugbus.VerbSend, "ghost").Reason)
	require.Equal(t, plugbus.ReasonUnknownPlugin, join(t, a, "a").Permit(plugbus.VerbReceive, "ghost").Reason)
	require.Equal(t, plugbus.ReasonUnknownPlugin, a.JoinHost().Permit(plugbus.VerbSend, "ghost").Reason)
	require.Equal(t, plugbus.ReasonInvalidName, join(t, a, "a").Permit(plugbus.VerbSend, "a.b").Reason)
	require.Equal(t, plugbus.ReasonInvalidName, join(t, a, "a").Permit(plugbus.VerbSend, "*").Reason)
}

// TestTrustTable shows the rule for every pair of levels: untrusted plugins may
// not message trusted and verified ones, and all others may (S5).
func TestTrustTable(t *testing.T) {
	levels := []plugbus.Trust{plugbus.Untrusted, plugbus.Basic, plugbus.Trusted, plugbus.Verified}
	for _, from := range levels {
		for _, to := range levels {
			a := authority(t, policy(t, fmt.Sprintf(
				`{"a":{"trust":%q,"send":true},"b":{"trust":%q,"receive":true}}`, from, to)))
			var want plugbus.Reason
			if from == plugbus.Untrusted && to >= plugbus.Trusted {
				want = plugbus.ReasonTrustLevelMismatch
			}
			require.Equal(t, want, join(t, a, "a").Permit(plugbus.VerbSend, "b").Reason, "%s → %s", from, to)
			require.Equal(t, want, join(t, a, "b").Permit(plugbus.VerbReceive, "a").Reason, "%s → %s", from, to)
		}
	}
}

// TestRelay shows that a plugin that acts for a less trusted one has no more
// trust than that one, if the router asks so (S5).
func TestRelay(t *testing.T) {
	a := authority(t, policy(t, `{
		"low":{"send":true}, "mid":{"trust":"basic","send":true,"dataAccess":{"s":{"read":true}}},
		"top":{"trust":"verified","send":true,"receive":true,"dataAccess":{"s":{"read":true,"requiresTrust":true}}}}`))
	mid, top := join(t, a, "mid"), join(t, a, "top")
	of := func(ids ...string) (c plugbus.Chain) {
		for _, id := range ids {
			c = c.Then(id)
		}
		return c
	}
	require.True(t, mid.Permit(plugbus.VerbSend, "top").Allowed())
	for _, test := range []struct {
		chain plugbus.Chain
		want  plugbus.Reason
	}{
		{chain.Chain{}, ""},
		{of("mid"), ""},
		{of("top", "mid"), ""},
		{of(security.HostID, "mid"), ""},
		{of("low", "mid"), plugbus.ReasonTrustLevelMismatch},
		{of("top", "low", "mid"), plugbus.ReasonTrustLevelMismatch},
		{of("ghost", "mid"), plugbus.ReasonTrustLevelMismatch}, // whoever left the policy
	} {
		require.Equal(t, test.want, mid.PermitVia(test.chain, plugbus.VerbSend, "top").Reason, "%v", test.chain)
	}
	require.True(t, top.PermitVia(of("top"), plugbus.VerbRead, "s").Allowed())
	require.Equal(t, plugbus.ReasonInsufficientTrustLevel, top.PermitVia(of("mid", "top"), plugbus.VerbRead, "s").Reason)
	require.True(t, top.Permit(plugbus.VerbRead, "s").Allowed(), "a chain does not spoil the plugin's own answers")
}

// TestDataAccess shows how the patterns of stores speak together.
func TestDataAccess(t *testing.T) {
	const r, w, c = plugbus.VerbRead, plugbus.VerbWrite, plugbus.VerbCreate
	for _, test := range []struct {
		trust, rules string
		verb         plugbus.Verb
		store        string
		want         plugbus.Reason
	}{
		{"basic", `{}`, r, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"s":{}}`, r, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"s":{"read":true}}`, r, "s", ""},
		{"basic", `{"s":{"read":true}}`, w, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"s":{"read":true}}`, c, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"s":{"write":true}}`, w, "s", ""},
		{"basic", `{"s":{"create":true}}`, c, "s", ""},
		{"basic", `{"s":{"read":true}}`, r, "t", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"s":{"read":true,"write":false}}`, w, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"a.*":{"read":true},"*.b":{"write":true}}`, r, "a.b", ""},
		{"basic", `{"a.*":{"read":true},"*.b":{"write":true}}`, w, "a.b", ""},
		{"basic", `{"a.*":{"read":true},"a.b":{"read":false}}`, r, "a.b", plugbus.ReasonDeniedByRule},
		{"basic", `{"a.*":{"read":false},"a.b":{"read":true}}`, r, "a.b", plugbus.ReasonDeniedByRule}, // however exact
		{"basic", `{"a.*":{"read":true},"a.b":{"write":false}}`, r, "a.b", ""},

		{"untrusted", `{"s":{"read":true,"requiresTrust":true}}`, r, "s", plugbus.ReasonInsufficientTrustLevel},
		{"basic", `{"s":{"read":true,"requiresTrust":true}}`, r, "s", plugbus.ReasonInsufficientTrustLevel},
		{"trusted", `{"s":{"read":true,"requiresTrust":true}}`, r, "s", ""},
		{"verified", `{"s":{"read":true,"requiresTrust":true}}`, r, "s", ""},
		{"basic", `{"s":{"read":true,"requiresTrust":true}}`, w, "s", plugbus.ReasonInsufficientPermissions},
		{"basic", `{"**":{"read":true},"secrets":{"requiresTrust":true}}`, r, "secrets", plugbus.ReasonInsufficientTrustLevel},
		{"basic", `{"**":{"read":true},"secrets":{"requiresTrust":true}}`, r, "other", ""},
	} {
		a := authority(t, policy(t, `{"p":{"trust":"`+test.trust+`","dataAccess":`+test.rules+`}}`))
		require.Equal(t, test.want, join(t, a, "p").Permit(test.verb, test.store).Reason, "%s %s: %s %s", test.trust, test.rules, test.verb, test.store)
	}
}

// TestPatterns shows that a pattern wider than the grant is refused, or
// narrowed if that is asked for, and that denies inside it filter (E11).
func TestPatterns(t *testing.T) {
	const tooWide, denied, none = plugbus.ReasonPatternTooWide, plugbus.ReasonDeniedByRule, plugbus.ReasonInsufficientPermissions
	for _, test := range []struct {
		rule, pattern string
		want, narrow  plugbus.Reason
	}{
		{`{"allow":["a.*"]}`, "a.*", "", ""},
		{`{"allow":["a.*"]}`, "a.b", "", ""},
		{`{"allow":["a.*"]}`, "a.**", tooWide, ""},
		{`{"allow":["a.*"]}`, "**", tooWide, ""},
		{`{"allow":["a.*"]}`, "b.*", none, none},
		{`{"allow":["a","b"]}`, "*", tooWide, ""},
		{`{"allow":["a.*","a.**"]}`, "a.**", "", ""},
		{`{"allow":["a.*","b.*"]}`, "*.c", tooWide, ""},
		{`{"allow":["a.**"],"deny":["a.x.**"]}`, "a.**", "", ""},
		{`{"allow":["a.**"],"deny":["a.x.**"]}`, "a.x.*", denied, denied},
		{`{"allow":["a.**"],"deny":["a.x.**"]}`, "a.x.y", denied, denied},
		{`{"allow":["a.**"],"deny":["**"]}`, "a.b", denied, denied},
		{`true`, "**", "", ""},
		{`true`, "plugin:*", none, none},
		{`false`, "a", none, none},
		{`{"allow":["plugin:*"]}`, "**", none, none}, // a leading wildcard never reaches the hub's names
		{`true`, "a..b", plugbus.ReasonInvalidName, plugbus.ReasonInvalidName},
		{`true`, "*.*.*.*.*.*.*.*", "", ""},
		{`true`, "*.*.*.*.*.*.*.*.*", plugbus.ReasonQuotaExceeded, plugbus.ReasonQuotaExceeded},
	} {
		s := join(t, authority(t, policy(t, `{"p":{"subscribe":`+test.rule+`}}`)), "p")
		require.Equal(t, test.want, s.PermitPattern(plugbus.VerbSubscribe, test.pattern, false).Reason, "%s: %s", test.rule, test.pattern)
		require.Equal(t, test.narrow, s.PermitPattern(plugbus.VerbSubscribe, test.pattern, true).Reason, "%s: %s, narrow", test.rule, test.pattern)
	}

	s := join(t, authority(t, policy(t, `{"p":{"send":{"allow":["q"]},"receive":{"allow":["q"]},
		"dataAccess":{"a.*":{"read":true},"a.x":{"read":false},"t.*":{"read":true,"requiresTrust":true}}}}`)), "p")
	require.Equal(t, plugbus.ReasonNoSendPermission, s.PermitPattern(plugbus.VerbSend, "r", true).Reason)
	require.Equal(t, plugbus.ReasonRecipientCannotReceive, s.PermitPattern(plugbus.VerbReceive, "r", true).Reason)
	require.True(t, s.PermitPattern(plugbus.VerbSend, "*", true).Allowed())
	require.True(t, s.PermitPattern(plugbus.VerbRead, "a.*", false).Allowed())
	require.Equal(t, denied, s.PermitPattern(plugbus.VerbRead, "a.x", false).Reason)
	require.Equal(t, plugbus.ReasonInsufficientTrustLevel, s.PermitPattern(plugbus.VerbRead, "t.*", false).Reason)
	require.Equal(t, none, s.PermitPattern(plugbus.VerbWrite, "a.b", false).Reason)
}

// TestPatternLaw compares the answers for patterns and for names: a pattern
// that is not narrowed reaches only names that are allowed, or refused by a
// deny or by trust, and the permit is partial then; and where narrowing finds
// nothing, no name is allowed.
func TestPatternLaw(t *testing.T) {
	filtered := []plugbus.Reason{
		plugbus.ReasonDeniedByRule, plugbus.ReasonInsufficientTrustLevel,
		plugbus.ReasonUnknownPlugin, plugbus.ReasonTrustLevelMismatch,
	}
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		p, err := doc.Policy()
		require.NoError(t, err)
		a, err := security.New(security.Options{Policy: p})
		require.NoError(t, err)
		id := rapid.SampledFrom(p.Plugins()).Draw(t, "id")
		s, err := a.Join(id)
		require.NoError(t, err)
		verb := rapid.SampledFrom(plugbus.Verbs()).Draw(t, "verb")
		pattern := drawPattern(verb).Draw(t, "pattern")
		whole := s.PermitPattern(verb, pattern, false)
		narrow := s.PermitPattern(verb, pattern, true)
		require.True(t, narrow.Allowed() || !whole.Allowed(), "what is allowed stays so when narrowed")
		for _, name := range namesFor(verb) {
			if !matches(pattern, name) || verb == plugbus.VerbReceive && name == security.HostID { // the host needs no right
				continue
			}
			got := s.Permit(verb, name).Reason
			for _, p := range []*plugbus.Permit{whole, narrow} {
				require.True(t, got == "" || p.Partial || !p.Allowed(), "%s %q is within %q: %s", verb, name, pattern, got)
			}
			if slices.Contains(filtered, got) || got == plugbus.ReasonRecipientCannotReceive && verb == plugbus.VerbSend {
				continue // one by one
			}
			if got == "" {
				require.True(t, narrow.Allowed(), "%s %q is allowed, so %q overlaps: %s", verb, name, pattern, narrow.Reason)
			} else {
				require.False(t, whole.Allowed(), "%s %q is within %q: %s", verb, name, pattern, got)
			}
		}
	})
}

// TestPartial shows which permits of patterns leave names to be asked for one by
// one, so that denies inside an allowed pattern filter every delivery.
func TestPartial(t *testing.T) {
	for _, test := range []struct {
		rules   string
		verb    plugbus.Verb
		pattern string
		want    bool
	}{
		{`{"subscribe":true}`, plugbus.VerbSubscribe, "**", false},
		{`{"subscribe":{"allow":["a.**"],"deny":["b.**"]}}`, plugbus.VerbSubscribe, "a.*", false},
		{`{"subscribe":{"allow":["a.**"],"deny":["a.x.**"]}}`, plugbus.VerbSubscribe, "a.*", false}, // too short for the deny
		{`{"subscribe":{"allow":["a.**"],"deny":["a.x"]}}`, plugbus.VerbSubscribe, "a.*", true},
		{`{"subscribe":{"allow":["a.**"],"deny":["*.x"]}}`, plugbus.VerbSubscribe, "a.*", true},
		{`{"subscribe":{"allow":["a.b"]}}`, plugbus.VerbSubscribe, "a.*", true}, // narrowed
		{`{"dataAccess":{"**":{"read":true}}}`, plugbus.VerbRead, "**", false},
		{`{"dataAccess":{"**":{"read":true},"a":{"read":false}}}`, plugbus.VerbRead, "**", true},
		{`{"dataAccess":{"**":{"read":true},"a":{"write":false}}}`, plugbus.VerbRead, "**", false},
		{`{"dataAccess":{"**":{"read":true},"a":{"requiresTrust":true}}}`, plugbus.VerbRead, "**", true},
		{`{"trust":"trusted","dataAccess":{"**":{"read":true},"a":{"requiresTrust":true}}}`, plugbus.VerbRead, "**", false},
		{`{"send":true}`, plugbus.VerbSend, "*", true}, // the peers have a say
	} {
		a := authority(t, policy(t, `{"p":`+test.rules+`}`))
		permit := join(t, a, "p").PermitPattern(test.verb, test.pattern, true)
		require.True(t, permit.Allowed(), "%s: %s", test.rules, test.pattern)
		require.Equal(t, test.want, permit.Partial, "%s: %s", test.rules, test.pattern)
		require.Equal(t, test.verb == plugbus.VerbSend, a.JoinHost().PermitPattern(test.verb, test.pattern, true).Partial)
	}
}

// TestBothSides shows that what the sender may send, the recipient may receive:
// the right that is checked again at delivery is the one that was checked
// before.
func TestBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := drawDocument(t).Policy()
		require.NoError(t, err)
		a, err := security.New(security.Options{Policy: p})
		require.NoError(t, err)
		subjects := []*security.Subject{a.JoinHost()}
		for _, id := range p.Plugins() {
			s, err := a.Join(id)
			require.NoError(t, err)
			subjects = append(subjects, s)
		}
		for _, from := range subjects {
			for _, to := range subjects {
				send, receive := from.Permit(plugbus.VerbSend, to.ID()), to.Permit(plugbus.VerbReceive, from.ID())
				require.True(t, receive.Allowed() || !send.Allowed(), "%s → %s: %s", from.ID(), to.ID(), receive.Reason)
				if send.Reason == plugbus.ReasonRecipientCannotReceive {
					require.False(t, receive.Allowed(), "%s → %s", from.ID(), to.ID())
				}
			}
		}
	})
}

// TestNobody shows that nothing is allowed by no policy.
func TestNobody(t *testing.T) {
	for _, p := range []*security.Policy{nil, {}, policy(t, `{}`)} {
		a := authority(t, p)
		_, err := a.Join("p")
		require.ErrorIs(t, err, plugbus.ErrDenied)
		for _, verb := range plugbus.Verbs() {
			require.False(t, p.Explain("p", verb, "x").Allowed)
			require.Equal(t, plugbus.ReasonUnknownPlugin, a.Explain("p", verb, "x").Reason)
		}
		require.True(t, a.JoinHost().Permit(plugbus.VerbEmit, "x").Allowed(), "the host is no plugin")
		require.False(t, p.Permissive())
		require.Empty(t, p.Plugins())
	}
}

// TestAllowAll shows what is allowed for trying things out.
func TestAllowAll(t *testing.T) {
	p := security.AllowAll()
	require.True(t, p.Permissive())
	a := authority(t, p)
	s := join(t, a, "p")
	for _, verb := range plugbus.Verbs() {
		permit := s.Permit(verb, "x")
		require.True(t, permit.Allowed(), "%s: %s", verb, permit.Reason)
		require.Nil(t, permit.Acts)
		require.Nil(t, permit.Bytes)
		require.Equal(t, plugbus.CheckAll, permit.Payload.Content)
		require.True(t, permit.Payload.Shared)
		require.True(t, s.PermitPattern(verb, "*", false).Allowed())
	}
	require.Equal(t, plugbus.Trusted, s.Grant().Trust)
	require.True(t, s.Knows("anybody"))
	for _, id := range []string{"host", "hub", "a.b", ""} {
		_, err := a.Join(id)
		require.Error(t, err, id)
	}

	require.NoError(t, a.SetTrust("admin", "p", plugbus.Untrusted))
	require.Equal(t, plugbus.ReasonTrustLevelMismatch, s.Permit(plugbus.VerbSend, "q").Reason)
	require.True(t, join(t, a, "q").Permit(plugbus.VerbSend, "p").Allowed())
}

// TestHost shows that the host's session may do everything, without rates.
func TestHost(t *testing.T) {
	a := authority(t, policy(t, `{"mute":{"trust":"basic"},"low":{"send":true},"mid":{"trust":"basic","send":true}}`))
	host := a.JoinHost()
	require.Equal(t, security.HostID, host.ID())
	for _, verb := range plugbus.Verbs() {
		permit := host.Permit(verb, "mute")
		require.True(t, permit.Allowed(), "%s: %s", verb, permit.Reason)
		require.Nil(t, permit.Acts)
		require.Nil(t, permit.Bytes)
		require.True(t, host.PermitPattern(verb, "**", false).Allowed())
	}
	require.True(t, host.Permit(plugbus.VerbSubscribe, "plugin:registered").Allowed())
	require.True(t, host.PermitPattern(plugbus.VerbSubscribe, "*"+strings.Repeat(".*", 31), false).Allowed())
	require.True(t, join(t, a, "mute").Permit(plugbus.VerbReceive, security.HostID).Allowed())
	require.True(t, host.Knows("mute"))
	require.True(t, host.Knows("ghost"))

	// To plugins, the host is a verified plugin that receives from everybody.
	require.True(t, join(t, a, "mid").Permit(plugbus.VerbSend, security.HostID).Allowed())
	require.Equal(t, plugbus.ReasonTrustLevelMismatch, join(t, a, "low").Permit(plugbus.VerbSend, security.HostID).Reason)
}

// TestPayload shows the rules that come with a permit: limits, content checks
// and shared values, by name (S16).
func TestPayload(t *testing.T) {
	a := authority(t, policy(t, `{"p":{"emit":true,
		"limits":{"messageBytes":10,"payloadNodes":20,"payloadDepth":30},
		"content":{"scheme":false,"except":["raw.**"]},
		"shared":["frames.*"]},"q":{"emit":true}}`))
	p, q := join(t, a, "p"), join(t, a, "q")
	require.Equal(t, plugbus.PayloadRules{
		MaxBytes: 10, MaxNodes: 20, MaxDepth: 30, Content: plugbus.CheckScript | plugbus.CheckAttribute,
	}, p.Permit(plugbus.VerbEmit, "x").Payload)
	require.Zero(t, p.Permit(plugbus.VerbEmit, "raw.x").Payload.Content)
	require.False(t, p.Permit(plugbus.VerbEmit, "raw.x").Payload.Shared)
	require.True(t, p.Permit(plugbus.VerbEmit, "frames.x").Payload.Shared)
	require.Equal(t, plugbus.PayloadRules{
		MaxBytes: 1 << 20, MaxNodes: 100_000, MaxDepth: 64, Content: plugbus.CheckAll,
	}, q.Permit(plugbus.VerbEmit, "x").Payload)
}

// TestMeters shows which verb is metered as what (L12).
func TestMeters(t *testing.T) {
	a := authority(t, policy(t, `{"p":{"send":true,"receive":true,"emit":true,"broadcast":true,"subscribe":true,"publish":true,
		"consume":true,"provide":true,"discover":true,"dataAccess":{"**":{"read":true,"write":true,"create":true}},
		"rates":{"bytes":{"limit":1000}}}}`))
	s := join(t, a, "p")
	meters := map[plugbus.Meter]string{nil: ""}
	meters[s.Permit(plugbus.VerbSend, "p").Acts] = "messages"
	meters[s.Permit(plugbus.VerbEmit, "x").Acts] = "events"
	meters[s.Permit(plugbus.VerbRead, "x").Acts] = "data_access"
	meters[s.Permit(plugbus.VerbEmit, "x").Bytes] = "bytes"
	require.Len(t, meters, 5)
	for verb, want := range map[plugbus.Verb][2]string{
		plugbus.VerbSend: {"messages", "bytes"}, plugbus.VerbPublish: {"messages", "bytes"},
		plugbus.VerbEmit: {"events", "bytes"}, plugbus.VerbBroadcast: {"events", "bytes"}, plugbus.VerbSubscribe: {"events", ""},
		plugbus.VerbRead: {"data_access", ""}, plugbus.VerbWrite: {"data_access", "bytes"}, plugbus.VerbCreate: {"data_access", ""},
		plugbus.VerbReceive: {"", "bytes"}, plugbus.VerbConsume: {}, plugbus.VerbProvide: {}, plugbus.VerbDiscover: {},
	} {
		permit := s.Permit(verb, "p")
		require.True(t, permit.Allowed())
		require.Equal(t, want, [2]string{meters[permit.Acts], meters[permit.Bytes]}, verb)
	}
}

// TestCheckFails shows that a check that fails refuses, and does not panic (S11).
func TestCheckFails(t *testing.T) {
	s := join(t, authority(t, security.Broken()), "p")
	require.Equal(t, plugbus.ReasonCheckFailed, s.Permit(plugbus.VerbSend, "q").Reason)
	require.Equal(t, plugbus.ReasonCheckFailed, s.Permit(plugbus.Verb(0), "q").Reason)
	require.Equal(t, plugbus.ReasonCheckFailed, s.Permit(plugbus.Verb(200), "q").Reason)
	require.Equal(t, plugbus.ReasonCheckFailed, s.PermitPattern(plugbus.Verb(200), "q", true).Reason)
}
