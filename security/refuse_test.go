package security_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/security"
)

// refuse asks for an act as a mechanism does, and refuses it if it must.
func refuse(t testing.TB, s *security.Subject, verb plugbus.Verb, object string) *plugbus.DeniedError {
	t.Helper()
	permit := s.Permit(verb, object)
	require.False(t, permit.Allowed(), "%s %q", verb, object)
	e, ok := errors.AsType[*plugbus.DeniedError](s.Refuse(plugbus.Refusal{Verb: verb, Object: object, Reason: permit.Reason}))
	require.True(t, ok)
	return e
}

// TestRefusalIsExplained shows what the plugin gets, and what the host finds
// under the number of the record (S4, S10, promise 12).
func TestRefusalIsExplained(t *testing.T) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(t, err)
	a, log := audited(t, security.Options{Policy: p})
	s := join(t, a, "indexer")
	e := refuse(t, s, plugbus.VerbEmit, "index.private.words")
	require.ErrorIs(t, e, plugbus.ErrDenied)
	require.EqualError(t, e, `plugin "indexer" may not emit "index.private.words": denied_by_rule (audit record 1)`)
	require.Empty(t, e.Explanation)

	entry, ok := log.Get(e.Record)
	require.True(t, ok)
	require.Equal(t, "emit.refused", entry.Event)
	require.Equal(t, "indexer", entry.Actor)
	require.Equal(t, "index.private.words", entry.Target)
	require.Equal(t, plugbus.VerbEmit, entry.Verb)
	require.Equal(t, plugbus.Refused, entry.Outcome)
	require.Equal(t, plugbus.ReasonDeniedByRule, entry.Reason)
	require.False(t, entry.Admin)
	require.Equal(t, []audit.Detail{
		{Key: "rule", Value: `"index.private.**" in plugins.indexer.emit.deny[0] (testdata/indexer.json:16:49)`},
		{Key: "remedy", Value: `remove "index.private.**" from plugins.indexer.emit.deny[0]`},
		{Key: "version", Value: "1"},
	}, entry.Details)
}

// TestRefusalOfTwo shows that what a mechanism has against an act stands beside what
// the policy has, for the host alone (D8).
func TestRefusalOfTwo(t *testing.T) {
	p := policy(t, `{"p":{"dataAccess":{"open":{"read":true}}}}`)
	for object, policySays := range map[string]string{"open": "", "secret": "no pattern in plugins.p.dataAccess gives read on it"} {
		a, log := audited(t, security.Options{Policy: p})
		err := join(t, a, "p").Refuse(plugbus.Refusal{
			Verb: plugbus.VerbRead, Object: object, Reason: plugbus.ReasonInsufficientPermissions,
			Rule: "the list lacks p", Remedy: "grant it",
		})
		e, ok := errors.AsType[*plugbus.DeniedError](err)
		require.True(t, ok)
		require.NotContains(t, e.Error(), "list")
		entry, _ := log.Get(e.Record)
		rule, remedy := entry.Details[0].Value, entry.Details[1].Value
		if policySays == "" {
			require.Equal(t, "the list lacks p", rule)
			require.Equal(t, "grant it", remedy)
			continue
		}
		require.Equal(t, policySays+"; and the list lacks p", rule)
		require.Contains(t, remedy, "; and grant it")
	}
}

// TestEveryRefusalIsRecorded shows that there is one entry with a reason for
// every kind of refusal, of plugins and of the host (S4, S10).
func TestEveryRefusalIsRecorded(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{"p":{}}`)})
	want := 0
	for _, s := range []*security.Subject{join(t, a, "p"), a.JoinHost()} {
		for _, verb := range append(plugbus.Verbs(), 0, 200) {
			for _, reason := range []plugbus.Reason{plugbus.ReasonInsufficientPermissions, plugbus.ReasonTooLarge, plugbus.ReasonCycle, ""} {
				e, ok := errors.AsType[*plugbus.DeniedError](s.Refuse(plugbus.Refusal{Verb: verb, Object: "x", Reason: reason}))
				require.True(t, ok)
				entry, ok := log.Get(e.Record)
				require.True(t, ok)
				require.NotEmpty(t, entry.Reason)
				require.True(t, strings.HasSuffix(entry.Event, ".refused"), entry.Event)
				require.Equal(t, s.ID(), entry.Actor)
				want++
			}
		}
	}
	got := 0
	for _, e := range entries(t, log) {
		if e.Outcome == plugbus.Refused {
			got++
		}
	}
	require.Equal(t, want, got)
}

// TestRefusalRemedies shows what the host reads about refusals that no name
// decides.
func TestRefusalRemedies(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{"p":{"emit":true,
		"subscribe":{"allow":["a.b","d.**"],"deny":["d.x.**"]},
		"dataAccess":{"t.*":{"read":true,"requiresTrust":true},"t.x":{"read":false}},
		"rates":{"bytes":{"limit":10,"burst":5}},"limits":{"wildcards":1}}}`)})
	s := join(t, a, "p")
	for _, test := range []struct {
		verb         plugbus.Verb
		object       string
		reason       plugbus.Reason
		rule, remedy string
	}{
		{plugbus.VerbEmit, "x", plugbus.ReasonRateLimitExceeded, "events: 6000 per 1m0s, burst 1000", "raise plugins.p.rates.events"},
		{plugbus.VerbEmit, "x", plugbus.ReasonByteRateExceeded, "bytes: 10 per 1m0s, burst 5", "raise plugins.p.rates.bytes"},
		{plugbus.VerbEmit, "x", plugbus.ReasonTooLarge, "payloads: 1048576 bytes, 100000 values, 64 levels", "raise messageBytes, payloadNodes or payloadDepth of plugins.p.limits"},
		{plugbus.VerbEmit, "x", plugbus.ReasonInvalidContent, "the content checks of plugins.p", `add "x" to plugins.p.content.except`},
		{plugbus.VerbEmit, "x", plugbus.ReasonSharedNotGranted, "nothing in plugins.p.shared matches", `add "x" to plugins.p.shared`},
		{plugbus.VerbSubscribe, "a.*", plugbus.ReasonPatternTooWide, "no pattern in plugins.p.subscribe.allow covers it", `add "a.*" to plugins.p.subscribe.allow`},
		{plugbus.VerbSubscribe, "c.*", plugbus.ReasonInsufficientPermissions, "no pattern in plugins.p.subscribe.allow covers it", `add "c.*" to plugins.p.subscribe.allow`},
		{plugbus.VerbSubscribe, "d.x.*", plugbus.ReasonDeniedByRule, `"d.x.**" in plugins.p.subscribe.deny[0] (p.json:2:47)`, `remove "d.x.**" from plugins.p.subscribe.deny[0]`},
		{plugbus.VerbSubscribe, "*.*", plugbus.ReasonQuotaExceeded, "patterns: 1 wildcards", "raise plugins.p.limits.wildcards"},
		{plugbus.VerbRead, "t.*", plugbus.ReasonInsufficientTrustLevel, `requiresTrust of "t.*" in plugins.p.dataAccess["t.*"] (p.json:3:17)`, `set plugins.p.trust to "trusted"`},
		{plugbus.VerbRead, "u.*", plugbus.ReasonInsufficientPermissions, "no pattern in plugins.p.dataAccess gives read on all of it", `set plugins.p.dataAccess["u.*"].read to true`},
		{plugbus.VerbSubscribe, "x", plugbus.ReasonInsufficientPermissions, `nothing in plugins.p.subscribe allows "x"`, `add "x" to plugins.p.subscribe.allow`},
		{plugbus.VerbEmit, "x", plugbus.ReasonCycle, "", ""},
	} {
		e, _ := errors.AsType[*plugbus.DeniedError](s.Refuse(plugbus.Refusal{Verb: test.verb, Object: test.object, Reason: test.reason}))
		entry, _ := log.Get(e.Record)
		require.Equal(t, test.rule, details(entry)["rule"], test.reason)
		require.Equal(t, test.remedy, details(entry)["remedy"], test.reason)
	}
}

// TestRefusalIsWhole shows that what the mechanism says arrives, at both.
func TestRefusalIsWhole(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{"p":{"emit":true}}`)})
	cause := errors.New("at .a[3]: a channel")
	err := join(t, a, "p").Refuse(plugbus.Refusal{
		Verb: plugbus.VerbEmit, Object: "x", Reason: plugbus.ReasonInvalidPayload,
		RetryAfter: 1500 * time.Millisecond, Hint: "send plain data", Chain: chain.Chain{}.Then("q").Then("p"), Cause: cause,
	})
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, `plugin "p" may not emit "x": invalid_payload: at .a[3]: a channel; try again in 1.5s; send plain data (audit record 1)`)
	entry, _ := log.Get(1)
	require.Equal(t, map[string]string{
		"version": "1", "cause": "at .a[3]: a channel", "retry_after": "1.5s", "hint": "send plain data", "chain": "q → p",
	}, details(entry))
}

// TestRelayIsExplained shows that the host reads who is in the way of a message
// that the sender alone might send (S5).
func TestRelayIsExplained(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{"low":{},"mid":{"trust":"basic","send":true},
		"top":{"trust":"verified","receive":true,"dataAccess":{"s":{"read":true,"requiresTrust":true}}}}`)})
	for _, test := range []struct {
		id           string
		verb         plugbus.Verb
		object       string
		rule, remedy string
	}{
		{
			"mid", plugbus.VerbSend, "top", `"mid" is basic, "top" is verified, on behalf of one that is untrusted`,
			`raise the trust of each plugin on the chain to "basic"`,
		},
		{
			"top", plugbus.VerbRead, "s", `requiresTrust of "s" in plugins.top.dataAccess.s (p.json:2:58); "top" is verified, on behalf of one that is untrusted`,
			`raise the trust of each plugin on the chain to "trusted"`,
		},
	} {
		s, via := join(t, a, test.id), chain.Chain{}.Then("low").Then(test.id)
		require.True(t, s.Permit(test.verb, test.object).Allowed())
		permit := s.PermitVia(via, test.verb, test.object)
		require.False(t, permit.Allowed())
		e, _ := errors.AsType[*plugbus.DeniedError](s.Refuse(plugbus.Refusal{
			Verb: test.verb, Object: test.object, Reason: permit.Reason, Chain: via,
		}))
		entry, _ := log.Get(e.Record)
		require.Equal(t, test.rule, details(entry)["rule"])
		require.Equal(t, test.remedy, details(entry)["remedy"])
	}
}

type hostileError struct{}

func (hostileError) Error() string { panic("no") }

// A fickleError has a text only once.
type fickleError struct{ asked bool }

func (e *fickleError) Error() string {
	if e.asked {
		panic("no")
	}
	e.asked = true
	return "once"
}

// TestRefusalIsBounded shows that neither names nor causes of plugins make
// errors and entries large, or panic (S11, A10).
func TestRefusalIsBounded(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{"p":{}}`)})
	s := join(t, a, "p")
	huge := strings.Repeat("x\n", 1<<20)
	cause := errors.New(huge)
	err := s.Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: huge, Reason: plugbus.ReasonInvalidName, Hint: huge, Cause: cause})
	require.ErrorIs(t, err, cause)
	require.Less(t, len(err.Error()), 6*plugbus.MaxTextBytes)
	entry, _ := log.Get(1)
	require.LessOrEqual(t, len(entry.Target), plugbus.MaxTextBytes)

	err = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: "x", Reason: plugbus.ReasonInvalidPayload, Cause: hostileError{}})
	require.ErrorContains(t, err, "an error of type security_test.hostileError whose text cannot be had")

	err = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: "x", Reason: plugbus.ReasonInvalidPayload, Cause: &fickleError{}})
	require.ErrorContains(t, err, "invalid_payload: once")
	require.ErrorContains(t, err, "invalid_payload: once", "its text is asked for once")
}

// TestSilence shows that a plugin cannot find out by messages whether another
// exists that it may not know of: the errors are the same, but for the name and
// the number of the record (promise 12).
func TestSilence(t *testing.T) {
	a, log := audited(t, security.Options{Policy: policy(t, `{
		"p":{"send":{"allow":["friend","ghost1","mute"],"deny":["enemy"]}},
		"friend":{"receive":true}, "enemy":{"receive":true}, "stranger":{"receive":true},
		"secret":{"trust":"verified"}, "mute":{}}`)})
	s := join(t, a, "p")
	for _, verb := range []plugbus.Verb{plugbus.VerbSend, plugbus.VerbReceive} {
		var same string
		for _, to := range []string{"ghost", "enemy", "stranger", "secret"} {
			require.False(t, s.Knows(to))
			e := refuse(t, s, verb, to)
			entry, ok := log.Get(e.Record)
			require.True(t, ok)
			require.Equal(t, s.Permit(verb, to).Reason, entry.Reason, "the host reads the truth")
			e.Object, e.Record = "", 0
			if same == "" {
				same = fmt.Sprintf("%+v", *e)
			}
			require.Equal(t, same, fmt.Sprintf("%+v", *e), "%s %s", verb, to)
		}
	}

	// Also where the mechanism knows more than the policy.
	e, _ := errors.AsType[*plugbus.DeniedError](s.Refuse(plugbus.Refusal{
		Verb: plugbus.VerbSend, Object: "stranger", Reason: plugbus.ReasonQuarantined,
		RetryAfter: time.Second, Hint: "it is ill", Cause: errors.New("it failed"),
	}))
	require.Equal(t, plugbus.ReasonNoSendPermission, e.Reason)
	require.Zero(t, e.RetryAfter)
	require.Empty(t, e.Hint)
	require.NoError(t, e.Cause)

	// Whoever may know is told.
	require.Equal(t, plugbus.ReasonUnknownPlugin, refuse(t, s, plugbus.VerbSend, "ghost1").Reason)
	require.Equal(t, plugbus.ReasonRecipientCannotReceive, refuse(t, s, plugbus.VerbSend, "mute").Reason)
	require.Equal(t, plugbus.ReasonInvalidName, refuse(t, s, plugbus.VerbSend, "no id").Reason)
}

// TestKnows shows who may know of whom.
func TestKnows(t *testing.T) {
	a, err := security.New(security.Options{
		Policy: policy(t, `{
			"p":{"send":{"allow":["friend"],"deny":["enemy"]},"discover":{"allow":["search.*"],"deny":["search.secret"]}},
			"all":{"canSendMessages":true,"send":{"deny":["enemy"]}},
			"friend":{}, "enemy":{}}`),
		Provides: func(id string) []string {
			switch id {
			case "finder":
				return []string{"other", "search.text"}
			case "hidden":
				return []string{"search.secret", "x"}
			case "broken":
				panic("no")
			}
			return nil
		},
	})
	require.NoError(t, err)
	for _, test := range []struct {
		who, whom string
		want      bool
	}{
		{"p", "p", true},
		{"p", "friend", true},
		{"p", "enemy", false},
		{"p", "all", false},
		{"p", "ghost", false},
		{"p", "finder", true},
		{"p", "hidden", false},
		{"p", "broken", false},
		{"all", "p", true},
		{"all", "ghost", true}, // it may know of everyone, and so that this one is not there
		{"all", "enemy", false},
		{"friend", "p", false},
		{"friend", "finder", false},
	} {
		require.Equal(t, test.want, join(t, a, test.who).Knows(test.whom), "%s of %s", test.who, test.whom)
	}
	require.True(t, a.JoinHost().Knows("hidden"))

	s := join(t, a, "p")
	_, err = a.Swap("admin", nil)
	require.NoError(t, err)
	require.False(t, s.Knows("finder"), "whoever left the policy knows nobody")
}

// TestExplainToPlugins shows that a host in development gives both to both.
func TestExplainToPlugins(t *testing.T) {
	a, err := security.New(security.Options{
		Policy:           policy(t, `{"p":{"send":{"allow":["x"],"deny":["q"]}},"q":{}}`),
		ExplainToPlugins: true,
	})
	require.NoError(t, err)
	e := refuse(t, join(t, a, "p"), plugbus.VerbSend, "q")
	require.Equal(t, plugbus.ReasonDeniedByRule, e.Reason)
	require.Equal(t, `"q" in plugins.p.send.deny[0] (p.json:1:60); to allow it: remove "q" from plugins.p.send.deny[0]; add "q" to plugins.p.send.allow; add "p" to plugins.q.receive.allow`, e.Explanation)
}
