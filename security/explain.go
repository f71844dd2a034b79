package security

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// An Explanation says why a plugin may, or may not, do something. It is for
// the host: it quotes the policy.
type Explanation struct {
	Plugin  string         `json:"plugin"`
	Verb    plugbus.Verb   `json:"verb"`
	Object  string         `json:"object"`
	Allowed bool           `json:"allowed"` // as far as a name decides; rates and payloads may still refuse an act
	Reason  plugbus.Reason `json:"reason,omitempty"`

	// Rule is the rule that decided, with its place in the file where known.
	Rule string `json:"rule"`

	// Layers says what each layer found, in order. The layers behind the first
	// that refused are judged as if it had passed.
	Layers []Layer `json:"layers"`

	// Remedy is the smallest change of the policy that would allow the act. It
	// is empty if the act is allowed, and where no policy could allow it.
	Remedy string `json:"remedy,omitempty"`

	// Version is that of the rules, 0 for a policy that is not in force.
	Version uint64 `json:"version,omitempty"`
}

// A Layer is one step of a decision.
type Layer struct {
	Name   string         `json:"name"`
	Passed bool           `json:"passed"`
	Reason plugbus.Reason `json:"reason,omitempty"` // why it did not pass
	Detail string         `json:"detail,omitempty"`
}

// String tells the story in a few lines.
func (e Explanation) String() string {
	var b strings.Builder
	if e.Allowed {
		fmt.Fprintf(&b, "%q may %s %q", e.Plugin, e.Verb.Phrase(), e.Object)
	} else {
		fmt.Fprintf(&b, "%q may not %s %q: %s", e.Plugin, e.Verb.Phrase(), e.Object, e.Reason)
	}
	if e.Version != 0 {
		fmt.Fprintf(&b, " (version %d of the policy)", e.Version)
	}
	for _, l := range e.Layers {
		verdict := "yes"
		if !l.Passed {
			verdict = "no"
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("\n  %-9s  %-3s  %s", l.Name, verdict, l.Detail), " "))
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, "\n  to allow it: %s", e.Remedy)
	}
	return b.String()
}

// Explain answers as [Subject.Permit] would for a plugin under this policy, and
// says why. It runs the same code. Where the verb takes patterns, which are
// subscribe and consume, and the object has a wildcard, it answers as
// [Subject.PermitPattern] would.
func (p *Policy) Explain(id string, verb plugbus.Verb, object string) Explanation {
	q := query{id, verb, object, plugbus.Verified}
	if verb == plugbus.VerbSubscribe || verb == plugbus.VerbConsume {
		if pattern, err := topic.Parse(object); err == nil && pattern.Wildcards() > 0 {
			return p.explainPattern(q)
		}
	}
	return p.explain(q)
}

// explainPattern says why a plugin may, or may not, do something to all that a
// pattern matches.
func (p *Policy) explainPattern(q query) Explanation {
	found := p.decidePattern(q.id, q.verb, q.object, false)
	l := Layer{Name: layerPattern, Passed: found.reason == "", Reason: found.reason, Detail: plugbus.CutText(found.rule)}
	switch {
	case l.Passed && found.partial:
		l.Detail = "all of it is allowed but for what is denied by name, delivery by delivery"
	case found.reason == plugbus.ReasonUnknownPlugin:
		l.Detail = plugbus.CutText(fmt.Sprintf("%q is not under \"plugins\" of %v", q.id, p))
		found.fix = fix{do: fixAdd, value: q.id}
	}
	return p.withRates(q, Explanation{
		Allowed: l.Passed, Reason: l.Reason, Rule: l.Detail, Layers: []Layer{l}, Remedy: plugbus.CutText(found.fix.text(p)),
	})
}

func (p *Policy) explain(q query) Explanation {
	t := &trace{query: q, policy: p}
	reason := p.decide(q, t)
	return p.withRates(q, Explanation{
		Allowed: reason == "", Reason: reason, Rule: t.rule, Layers: t.layers, Remedy: strings.Join(t.fixes, "; "),
	})
}

// withRates adds to an explanation what it is about, and the rates of that.
func (p *Policy) withRates(q query, e Explanation) Explanation {
	e.Plugin, e.Verb, e.Object = plugbus.CutText(q.id), q.verb, plugbus.CutText(q.object)
	if g, use := p.lookup(q.id), useOf(q.verb); g != nil && use.metered {
		e.Layers = append(e.Layers, rateLayer(use.op, g.rates[use.op]))
		if use.carries && g.rates[Bytes] != nil {
			e.Layers = append(e.Layers, rateLayer(Bytes, g.rates[Bytes]))
		}
	}
	return e
}

// rateLayer returns a layer for a rate, which no name decides.
func rateLayer(op Operation, r *Rate) Layer {
	return Layer{Name: "rate", Passed: r == nil || r.Limit > 0, Detail: rateText(op, r)}
}

// A trace writes down what decide does.
type trace struct {
	query  query
	policy *Policy
	layers []Layer
	rule   string // of the first layer that refused, else of the last that named a pattern
	failed bool
	fixes  []string
}

func (t *trace) add(name string, says plugbus.Reason, by *entry, fix fix) {
	l := Layer{Name: name, Passed: says == "", Reason: says, Detail: plugbus.CutText(t.detail(name, says, by, fix))}
	t.layers = append(t.layers, l)
	switch {
	case says != "" && !t.failed:
		t.rule, t.failed = l.Detail, true
	case by != nil && !t.failed:
		t.rule = l.Detail
	}
	if text := plugbus.CutText(fix.text(t.policy)); says != "" && text != "" && !slices.Contains(t.fixes, text) {
		t.fixes = append(t.fixes, text)
	}
}

// detail says in words what a layer found.
func (t *trace) detail(name string, says plugbus.Reason, by *entry, fix fix) string {
	switch {
	case by != nil && name == layerTrust:
		return fmt.Sprintf("requiresTrust of %v; %s", by, t.trustOf(t.query.id)) + t.behalf(fix)
	case by != nil:
		return by.String()
	case says == plugbus.ReasonCheckFailed:
		return "there is no such verb"
	case says == plugbus.ReasonInvalidName:
		return "the object is outside the grammar, whatever the policy says; a pattern is not a name"
	case says == plugbus.ReasonReservedName:
		return "the name belongs to the hub, whatever the policy says"
	case says == plugbus.ReasonUnknownPlugin:
		return fmt.Sprintf("%q is not under \"plugins\" of %v", fix.value, t.policy)
	case name == layerTrust:
		return t.trustOf(t.query.id) + ", " + t.trustOf(t.query.object) + t.behalf(fix)
	case fix.do == fixAllow:
		return fmt.Sprintf("nothing in %s.%s allows %q", join("plugins", fix.plugin), fix.verb, fix.value)
	case fix.do == fixAccess:
		return fmt.Sprintf("no pattern in %s.dataAccess gives %s on it", join("plugins", fix.plugin), fix.verb)
	case name == layerAllow || name == layerRecipient:
		return "the host may do everything"
	}
	return ""
}

func (t *trace) trustOf(id string) string {
	g, ok := t.policy.Grant(id)
	if !ok {
		return fmt.Sprintf("%q is unknown", id)
	}
	return fmt.Sprintf("%q is %s", id, g.Trust)
}

// behalf says that the trust of those on the chain is what does not suffice.
func (t *trace) behalf(fix fix) string {
	if fix.do != fixTrust || fix.plugin != "" {
		return ""
	}
	return fmt.Sprintf(", on behalf of one that is %s", t.query.least)
}

// A fix is the smallest change that makes one layer pass.
type fix struct {
	do     fixKind
	value  string
	plugin string
	field  string
	verb   plugbus.Verb
}

type fixKind uint8

const (
	fixNone   fixKind = iota
	fixAdd            // the plugin
	fixAllow          // the value, for the verb
	fixAccess         // the verb, for the store named value
	fixRemove         // the value from the field
	fixTrust          // the plugin up to the value; without one, all who led to the act
	fixRaise          // the number in the field
)

// text says what to do.
func (f fix) text(p *Policy) string {
	plugin := join("plugins", f.plugin)
	switch f.do {
	case fixNone:
	case fixAdd:
		return fmt.Sprintf("add %q under \"plugins\"", f.value)
	case fixAllow:
		if field := p.refusedByBoolean(f.plugin, f.verb); field != "" {
			return fmt.Sprintf("set %s.%s to true", plugin, field)
		}
		return fmt.Sprintf("add %q to %s.%s.allow", f.value, plugin, f.verb)
	case fixAccess:
		return fmt.Sprintf("set %s.%s to true", join(plugin+".dataAccess", f.value), f.verb)
	case fixRemove:
		return fmt.Sprintf("remove %q from %s", f.value, f.field)
	case fixTrust:
		if f.plugin == "" {
			return fmt.Sprintf("raise the trust of each plugin on the chain to %q", f.value)
		}
		return fmt.Sprintf("set %s.trust to %q", plugin, f.value)
	case fixRaise:
		return fmt.Sprintf("raise %s.%s", plugin, f.field)
	}
	return ""
}

// refusedByBoolean returns the field that says false to send or receive, which
// may not stand beside a list, or "".
func (p *Policy) refusedByBoolean(id string, verb plugbus.Verb) string {
	if p == nil || p.doc == nil {
		return ""
	}
	rules := p.doc.Plugins[id]
	switch {
	case verb == plugbus.VerbSend && rules.CanSendMessages != nil && !*rules.CanSendMessages:
		return "canSendMessages"
	case verb == plugbus.VerbReceive && rules.CanReceiveMessages != nil && !*rules.CanReceiveMessages:
		return "canReceiveMessages"
	}
	return ""
}
