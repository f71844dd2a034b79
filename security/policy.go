package security

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Policy says what each plugin may do. It is immutable. A nil *Policy and the
// zero Policy know no plugin and allow nothing.
type Policy struct {
	doc    *Document
	file   string
	grants map[string]*grant
	other  *grant // what ids get that are not in grants; only AllowAll has it
}

// AllowAll returns a policy in which every id may join, is trusted, and may do
// everything but what belongs to the hub, at any rate. The default limits and
// content checks hold. It is for trying things out.
func AllowAll() *Policy {
	everyone := rule{allow: []entry{{everything, "security.AllowAll", "", true}}}
	yes := true
	g := &grant{
		Grant:  Grant{Trust: plugbus.Trusted, Priority: plugbus.PriorityHigh},
		checks: plugbus.CheckAll,
		shared: everyone.allow,
		stores: []stores{{entry: everyone.allow[0]}},
	}
	for _, v := range plugbus.Verbs() {
		g.rules[v] = everyone
	}
	for v := range g.stores[0].rights {
		g.stores[0].rights[v] = &yes
	}
	doc := &Document{Version: 1}
	_, g.Limits = doc.resolve(PluginRules{})
	return &Policy{doc: doc, other: g}
}

// Permissive reports whether the policy is [AllowAll], which a host should not
// have in earnest.
func (p *Policy) Permissive() bool { return p != nil && p.other != nil }

// Plugins returns the ids that the policy names, sorted.
func (p *Policy) Plugins() []string {
	if p == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.grants))
}

// Grant returns what the policy says of a plugin, and whether it knows the id.
func (p *Policy) Grant(id string) (Grant, bool) {
	if g := p.lookup(id); g != nil {
		return g.Grant, true
	}
	return Grant{}, false
}

// Digest returns the SHA-256 of what the policy says, in hexadecimal. Policies
// that differ only in layout have the same digest.
func (p *Policy) Digest() string {
	var whole struct {
		AllowAll bool
		Document *Document
	}
	if p != nil {
		whole.AllowAll, whole.Document = p.Permissive(), p.doc
	}
	data, err := json.Marshal(whole)
	if err != nil {
		return "" // cannot be: it was read from JSON
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// grantRules returns what the policy says of one plugin, in a form that can be
// compared.
func (p *Policy) grantRules(id string) (string, bool) {
	if p == nil || p.doc == nil {
		return "", false
	}
	rules, ok := p.doc.Plugins[id]
	if !ok {
		return "", false
	}
	data, err := json.Marshal(rules)
	return string(data), err == nil
}

// String summarizes the policy in a line.
func (p *Policy) String() string {
	switch {
	case p == nil || p.doc == nil:
		return "a policy that denies everything"
	case p.Permissive():
		return "a policy that allows everything"
	case p.file != "":
		return fmt.Sprintf("policy %s for %d plugins", p.file, len(p.grants))
	}
	return fmt.Sprintf("a policy for %d plugins", len(p.grants))
}

// hostGrant is the grant of the host in every policy.
var hostGrant = &grant{
	all: true,
	Grant: Grant{
		ID: HostID, Trust: plugbus.Verified, Priority: plugbus.PriorityHigh,
		Limits: func() Limits { _, l := Document{}.resolve(PluginRules{}); return l }(),
	},
	checks: plugbus.CheckAll,
	shared: []entry{{pattern: everything}},
}

// lookup returns the grant of an id, or nil.
func (p *Policy) lookup(id string) *grant {
	if id == HostID {
		return hostGrant
	}
	if p == nil {
		return nil
	}
	if g := p.grants[id]; g != nil {
		return g
	}
	if p.other == nil || topic.CheckID(id) != nil || topic.ReservedID(id) {
		return nil
	}
	g := *p.other
	g.ID = id
	return &g
}

// withTrust returns a policy that differs in the trust of one plugin, which it
// knows.
func (p *Policy) withTrust(id string, trust plugbus.Trust) *Policy {
	rules := p.doc.Plugins[id]
	rules.Trust = trust
	doc := *p.doc
	doc.Plugins = maps.Clone(doc.Plugins)
	if doc.Plugins == nil {
		doc.Plugins = map[string]PluginRules{}
	}
	doc.Plugins[id] = rules

	g := *p.lookup(id)
	g.Trust = trust
	if !p.Permissive() {
		g.rates, g.Limits = doc.resolve(rules)
	}
	next := *p
	next.doc = &doc
	next.grants = maps.Clone(p.grants)
	if next.grants == nil {
		next.grants = map[string]*grant{}
	}
	next.grants[id] = &g
	return &next
}
