package security_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// TestExplainAgrees shows that Explain and Permit give one answer, for whatever
// is asked of whatever policy.
func TestExplainAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := drawDocument(t).Policy()
		require.NoError(t, err)
		a, err := security.New(security.Options{Policy: p})
		require.NoError(t, err)
		for _, id := range p.Plugins() {
			s, err := a.Join(id)
			require.NoError(t, err)
			for _, verb := range append(plugbus.Verbs(), 0, 77) {
				for _, object := range append(namesFor(verb), "a b", "", "p.*") {
					permit, e := s.Permit(verb, object), a.Explain(id, verb, object)
					if object == "p.*" && (verb == plugbus.VerbSubscribe || verb == plugbus.VerbConsume) {
						permit = s.PermitPattern(verb, object, false)
					}
					require.Equal(t, permit.Reason, e.Reason, "%s %s %q\n%v", id, verb, object, e)
					require.Equal(t, permit.Allowed(), e.Allowed)
					require.Equal(t, permit.Version, e.Version)
					require.NotEmpty(t, e.Layers)
					first := slices.IndexFunc(e.Layers, func(l security.Layer) bool { return !l.Passed })
					if e.Allowed {
						require.Empty(t, e.Remedy)
						require.Equal(t, -1, first)
					} else {
						require.Equal(t, e.Reason, e.Layers[first].Reason)
						require.Equal(t, e.Layers[first].Detail, e.Rule)
						require.NotEmpty(t, e.Rule)
					}
				}
			}
		}
	})
}

// TestRemedyWorks shows that whoever does what the remedy says allows the act,
// and that nothing allows what has no remedy.
func TestRemedyWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		p, err := doc.Policy()
		require.NoError(t, err)
		id := rapid.SampledFrom(append([]string{"ghost"}, p.Plugins()...)).Draw(t, "id")
		verb := rapid.SampledFrom(plugbus.Verbs()).Draw(t, "verb")
		object := rapid.SampledFrom(namesFor(verb)).Draw(t, "object")
		e := p.Explain(id, verb, object)
		if e.Allowed {
			return
		}
		if e.Remedy == "" {
			require.Equal(t, plugbus.ReasonReservedName, e.Reason, "%v", e)
			return
		}
		for step := range strings.SplitSeq(e.Remedy, "; ") {
			apply(t, &doc, step)
		}
		p, err = doc.Policy()
		require.NoError(t, err, e.Remedy)
		require.True(t, p.Explain(id, verb, object).Allowed, "%v\n\nand after that\n%v", e, p.Explain(id, verb, object))
	})
}

var (
	addPlugin   = regexp.MustCompile(`^add "([^"]+)" under "plugins"$`)
	addPattern  = regexp.MustCompile(`^add "([^"]+)" to plugins\.([^.]+)\.(\w+)\.allow$`)
	setTrust    = regexp.MustCompile(`^set plugins\.([^.]+)\.trust to "(\w+)"$`)
	setBoolean  = regexp.MustCompile(`^set plugins\.([^.]+)\.(can\w+) to true$`)
	setAccess   = regexp.MustCompile(`^set plugins\.([^.]+)\.dataAccess(?:\.([\w~-]+)|\["([^"]+)"\])\.(\w+) to true$`)
	dropPattern = regexp.MustCompile(`^remove "([^"]+)" from plugins\.([^.]+)\.(\w+)\.deny\[\d+\]$`)
	dropAccess  = regexp.MustCompile(`^remove "(\w+)" from plugins\.([^.]+)\.dataAccess(?:\.([\w~-]+)|\["([^"]+)"\])$`)
)

// apply does what one step of a remedy says.
func apply(t *rapid.T, doc *security.Document, step string) {
	change := func(id string, do func(*security.PluginRules)) {
		rules := doc.Plugins[id]
		do(&rules)
		doc.Plugins[id] = rules
	}
	rule := func(r *security.PluginRules, verb string) **security.Rule {
		switch verb {
		case "send":
			return &r.Send
		case "receive":
			return &r.Receive
		}
		v, err := plugbus.ParseVerb(verb)
		require.NoError(t, err)
		return rulesOf(r)[v]
	}
	access := func(id, store, verb string, value *bool) {
		change(id, func(r *security.PluginRules) {
			stores := map[string]security.AccessRules{}
			maps.Copy(stores, r.DataAccess)
			s := stores[store]
			*map[string]**bool{"read": &s.Read, "write": &s.Write, "create": &s.Create}[verb] = value
			stores[store] = s
			r.DataAccess = stores
		})
	}
	if m := addPlugin.FindStringSubmatch(step); m != nil {
		doc.Plugins[m[1]] = security.PluginRules{}
	} else if m := addPattern.FindStringSubmatch(step); m != nil {
		change(m[2], func(r *security.PluginRules) {
			field := rule(r, m[3])
			next := security.Rule{}
			if *field != nil {
				next = security.Rule{Allow: slices.Clone((*field).Allow), Deny: (*field).Deny}
			}
			next.Allow = append(next.Allow, m[1])
			*field = &next
		})
	} else if m := setTrust.FindStringSubmatch(step); m != nil {
		level, err := plugbus.ParseTrust(m[2])
		require.NoError(t, err)
		change(m[1], func(r *security.PluginRules) { r.Trust = level })
	} else if m := setBoolean.FindStringSubmatch(step); m != nil {
		change(m[1], func(r *security.PluginRules) {
			if m[2] == "canSendMessages" {
				r.CanSendMessages, r.Send = new(true), nil
			} else {
				r.CanReceiveMessages, r.Receive = new(true), nil
			}
		})
	} else if m := setAccess.FindStringSubmatch(step); m != nil {
		access(m[1], m[2]+m[3], m[4], new(true))
	} else if m := dropPattern.FindStringSubmatch(step); m != nil {
		change(m[2], func(r *security.PluginRules) {
			field := rule(r, m[3])
			next := **field
			next.Deny = slices.DeleteFunc(slices.Clone(next.Deny), func(p string) bool { return p == m[1] })
			*field = &next
		})
	} else if m := dropAccess.FindStringSubmatch(step); m != nil {
		access(m[2], m[3]+m[4], m[1], nil)
	} else {
		t.Fatalf("a step that nobody can do: %s", step)
	}
}

// TestExplainRates shows that a rate of 0 is not kept from the host, though a
// name alone is allowed.
func TestExplainRates(t *testing.T) {
	p := policy(t, `{"p":{"emit":true,"broadcast":true,"rates":{"events":{"limit":0}}}}`)
	e := p.Explain("p", plugbus.VerbEmit, "x")
	require.True(t, e.Allowed)
	last := e.Layers[len(e.Layers)-1]
	require.Equal(t, security.Layer{Name: "rate", Passed: false, Detail: "events: 0 per 1m0s, burst 0"}, last)

	p = policy(t, `{"p":{"emit":true,"subscribe":true,"rates":{"bytes":{"limit":0}}}}`)
	layers := p.Explain("p", plugbus.VerbEmit, "x").Layers
	require.Equal(t, security.Layer{Name: "rate", Passed: false, Detail: "bytes: 0 per 1m0s, burst 0"}, layers[len(layers)-1])
	for _, l := range p.Explain("p", plugbus.VerbSubscribe, "x").Layers {
		require.True(t, l.Passed, "it carries no bytes: %v", l)
	}
}

// TestExplainIsBounded shows that an explanation is no larger than what it is
// about, whatever is asked.
func TestExplainIsBounded(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	require.Less(t, len(policy(t, `{}`).Explain(huge, plugbus.VerbEmit, huge).String()), 10*plugbus.MaxTextBytes)
	require.Less(t, len(policy(t, `{}`).Explain(huge, plugbus.VerbEmit, "x").String()), 10*plugbus.MaxTextBytes)
}

// Explain answers for the pattern of a subscription as PermitPattern does.
func TestExplainPatterns(t *testing.T) {
	p, err := security.Parse([]byte(`{"version": 1, "plugins": {"indexer": {
		"subscribe": {"allow": ["files.**"], "deny": ["files.secret.**"]}}}}`), "p.json")
	require.NoError(t, err)
	a, err := security.New(security.Options{Policy: p})
	require.NoError(t, err)
	s, err := a.Join("indexer")
	require.NoError(t, err)
	for _, test := range []struct{ pattern, rule, remedy string }{
		{"files.**", "but for what is denied", ""},
		{"files.new.*", "", ""},
		{"files.secret.*", `"files.secret.**"`, "remove"},
		{"mail.*", "no pattern in plugins.indexer.subscribe.allow covers it", `add "mail.*" to plugins.indexer.subscribe.allow`},
		{"*.new", "", `add "*.new"`},
	} {
		e := a.Explain("indexer", plugbus.VerbSubscribe, test.pattern)
		require.Equal(t, s.PermitPattern(plugbus.VerbSubscribe, test.pattern, false).Reason, e.Reason, test.pattern)
		require.Equal(t, e.Reason == "", e.Allowed, test.pattern)
		require.Contains(t, e.Rule, test.rule, test.pattern)
		require.Contains(t, e.Remedy, test.remedy, test.pattern)
	}
	require.Equal(t, plugbus.ReasonUnknownPlugin, a.Explain("stranger", plugbus.VerbSubscribe, "files.*").Reason)
	require.Contains(t, a.Explain("stranger", plugbus.VerbSubscribe, "files.*").Remedy, `add "stranger"`)
}
