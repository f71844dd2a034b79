package security_test

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
	"github.com/plugbus/plugbus/security"
)

// Small alphabets, so that what is drawn meets often.
var (
	ids      = []string{"p", "q", "r", "s~t"}
	names    = []string{"a", "b", "a.a", "a.b", "b.a", "a.a.b", "a:b", "plugin:a"}
	patterns = append([]string{"*", "**", "a.*", "a.**", "*.b", "*.*", "plugin:*"}, names...)
)

func forPeers(v plugbus.Verb) bool { return v == plugbus.VerbSend || v == plugbus.VerbReceive }

// namesFor returns the objects that a verb may meet.
func namesFor(v plugbus.Verb) []string {
	if forPeers(v) {
		return append([]string{"ghost", security.HostID}, ids...)
	}
	return names
}

func drawPattern(v plugbus.Verb) *rapid.Generator[string] {
	if forPeers(v) {
		return rapid.SampledFrom(append([]string{"*", "**"}, ids...))
	}
	return rapid.SampledFrom(patterns)
}

func matches(pattern, name string) bool { return topic.MustParse(pattern).Match(name) }

// drawDocument draws a document that is a policy.
func drawDocument(t *rapid.T) security.Document {
	doc := security.Document{Version: 1, Plugins: map[string]security.PluginRules{}}
	for _, id := range ids[:rapid.IntRange(1, len(ids)).Draw(t, "plugins")] {
		doc.Plugins[id] = drawRules(t)
	}
	return doc
}

func drawRules(t *rapid.T) security.PluginRules {
	r := security.PluginRules{Trust: plugbus.Trust(rapid.IntRange(0, 3).Draw(t, "trust"))}
	r.CanSendMessages, r.Send = drawConsent(t, plugbus.VerbSend)
	r.CanReceiveMessages, r.Receive = drawConsent(t, plugbus.VerbReceive)
	for verb, rule := range rulesOf(&r) {
		*rule = drawRule(t, verb)
	}
	stores := rapid.SliceOfN(rapid.SampledFrom(patterns), 0, 3).Draw(t, "stores")
	for _, pattern := range stores {
		if r.DataAccess == nil {
			r.DataAccess = map[string]security.AccessRules{}
		}
		a := security.AccessRules{
			Read: drawBool(t), Write: drawBool(t), RequiresTrust: rapid.IntRange(0, 3).Draw(t, "requiresTrust") == 0,
		}
		if !topic.Reserved(pattern) {
			a.Create = drawBool(t)
		}
		r.DataAccess[pattern] = a
	}
	return r
}

// rulesOf returns the rules of the verbs with names.
func rulesOf(r *security.PluginRules) map[plugbus.Verb]**security.Rule {
	return map[plugbus.Verb]**security.Rule{
		plugbus.VerbEmit: &r.Emit, plugbus.VerbBroadcast: &r.Broadcast, plugbus.VerbSubscribe: &r.Subscribe,
		plugbus.VerbPublish: &r.Publish, plugbus.VerbConsume: &r.Consume,
		plugbus.VerbProvide: &r.Provide, plugbus.VerbDiscover: &r.Discover,
	}
}

func drawBool(t *rapid.T) *bool {
	return rapid.SampledFrom([]*bool{nil, new(true), new(true), new(false)}).Draw(t, "bool")
}

func drawRule(t *rapid.T, v plugbus.Verb) *security.Rule {
	switch rapid.IntRange(0, 4).Draw(t, v.String()) {
	case 0:
		return nil
	case 1:
		return &security.Rule{}
	case 2:
		return &security.Rule{All: true}
	}
	r := &security.Rule{
		Allow: rapid.SliceOfN(drawPattern(v), 0, 3).Draw(t, "allow"),
		Deny:  rapid.SliceOfN(drawPattern(v), 0, 2).Draw(t, "deny"),
	}
	if slices.Contains([]plugbus.Verb{plugbus.VerbEmit, plugbus.VerbBroadcast, plugbus.VerbPublish, plugbus.VerbProvide}, v) {
		r.Allow = slices.DeleteFunc(r.Allow, topic.Reserved)
	}
	return r
}

// drawConsent draws a boolean and a rule that may stand beside it.
func drawConsent(t *rapid.T, v plugbus.Verb) (can *bool, r *security.Rule) {
	can, r = drawBool(t), drawRule(t, v)
	switch {
	case can == nil || r == nil:
	case *can && !r.All && r.Allow == nil && r.Deny == nil:
		return nil, r
	case *can && r.Allow != nil && rapid.Bool().Draw(t, "deny only"):
		r.Allow = nil
	case !*can && (r.All || r.Allow != nil || r.Deny != nil):
		return nil, r
	}
	return can, r
}
