package security

import (
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A query asks whether a plugin may do verb to object.
type query struct {
	id     string
	verb   plugbus.Verb
	object string
	least  plugbus.Trust // the least trust on the chain that led here; Verified if nothing lowers the plugin's own
}

// decide answers a query, layer by layer: the name, the plugin, deny, allow,
// and for messages the peer, trust and the recipient's own right. The first
// layer that refuses gives the reason. This is the only place that decides
// about names: Permit calls it without a trace, and Explain with one, and then
// it goes on after a refusal, to find all that stands in the way.
func (p *Policy) decide(q query, t *trace) plugbus.Reason {
	d := decision{trace: t}
	p.run(&d, q)
	return d.reason
}

// A decision is what decide has found so far.
type decision struct {
	reason plugbus.Reason
	trace  *trace // nil unless somebody wants to know why
}

// layer records what one layer says, "" if it passes, and reports whether to
// go on.
func (d *decision) layer(name string, says plugbus.Reason, by *entry, fix fix) bool {
	if d.reason == "" {
		d.reason = says
	}
	if d.trace != nil {
		d.trace.add(name, says, by, fix)
		return true
	}
	return says == ""
}

// The names of the layers, in their order.
const (
	layerName      = "name"      // the object is well formed, and not the hub's own
	layerPlugin    = "plugin"    // the policy knows the plugin
	layerDeny      = "deny"      // no deny pattern matches
	layerAllow     = "allow"     // an allow pattern matches
	layerPeer      = "peer"      // the policy knows the other plugin
	layerTrust     = "trust"     // the trust of the two, or of the plugin, suffices
	layerRecipient = "recipient" // the recipient may receive from the sender
	layerPattern   = "pattern"   // for a pattern, all of these at once
)

func (p *Policy) run(d *decision, q query) {
	if reason := structure(q.verb, q.object); !d.layer(layerName, reason, nil, fix{}) || reason != "" {
		return
	}
	g := p.find(d, layerPlugin, q.id)
	if g == nil {
		return
	}
	switch {
	case ofStores(q.verb):
		g.access(d, q)
	case q.verb == plugbus.VerbSend:
		if g.right(d, q.verb, q.object, plugbus.ReasonNoSendPermission) {
			to := p.find(d, layerPeer, q.object)
			if to != nil && mayMessage(d, g, to, q.least) {
				to.receives(d, g.ID)
			}
		}
	case q.verb == plugbus.VerbReceive:
		if g.right(d, q.verb, q.object, plugbus.ReasonRecipientCannotReceive) {
			if from := p.find(d, layerPeer, q.object); from != nil {
				mayMessage(d, from, g, q.least)
			}
		}
	default:
		g.right(d, q.verb, q.object, plugbus.ReasonInsufficientPermissions)
	}
}

// structure says what no policy could allow.
func structure(verb plugbus.Verb, object string) plugbus.Reason {
	switch {
	case !known(verb):
		return plugbus.ReasonCheckFailed
	case ofPlugins(verb):
		if topic.CheckID(object) != nil {
			return plugbus.ReasonInvalidName
		}
	case topic.CheckName(object) != nil:
		return plugbus.ReasonInvalidName
	case useOf(verb).owned && topic.Reserved(object):
		return plugbus.ReasonReservedName
	}
	return ""
}

// find looks a plugin up. For a trace, an unknown one is like one without
// rights.
func (p *Policy) find(d *decision, layer, id string) *grant {
	g := p.lookup(id)
	var says plugbus.Reason
	if g == nil {
		says = plugbus.ReasonUnknownPlugin
	}
	if d.layer(layer, says, nil, fix{do: fixAdd, value: id, plugin: id}) && g == nil {
		g = &grant{Grant: Grant{ID: id}}
	}
	return g
}

// right applies the plugin's own rule for a verb. The host may do everything, so
// what it sends is received by everyone, before delivery and at it.
func (g *grant) right(d *decision, verb plugbus.Verb, object string, otherwise plugbus.Reason) bool {
	if g.all || verb == plugbus.VerbReceive && object == HostID {
		return d.layer(layerAllow, "", nil, fix{})
	}
	return g.rule(d, layerDeny, layerAllow, verb, object, plugbus.ReasonDeniedByRule, otherwise)
}

// receives applies the recipient's rule to a message for it.
func (g *grant) receives(d *decision, from string) bool {
	if g.all || from == HostID {
		return d.layer(layerRecipient, "", nil, fix{})
	}
	return g.rule(d, layerRecipient, layerRecipient, plugbus.VerbReceive, from,
		plugbus.ReasonRecipientCannotReceive, plugbus.ReasonRecipientCannotReceive)
}

// rule applies one rule: deny beats allow.
func (g *grant) rule(d *decision, deny, allow string, verb plugbus.Verb, object string, denied, otherwise plugbus.Reason) bool {
	r := &g.rules[verb]
	for i := range r.deny {
		e := &r.deny[i]
		if e.pattern.Match(object) && !d.layer(deny, denied, e, e.removal(verb)) {
			return false
		}
	}
	if e := match(r.allow, object); e != nil {
		return d.layer(allow, "", e, fix{})
	}
	return d.layer(allow, otherwise, nil, fix{do: fixAllow, value: object, plugin: g.ID, verb: verb})
}

// removal is what makes an entry no longer deny a verb.
func (e *entry) removal(verb plugbus.Verb) fix {
	if ofStores(verb) { // the entry is the pattern of all rights
		return fix{do: fixRemove, value: verb.String(), field: e.path}
	}
	return fix{do: fixRemove, value: e.pattern.String(), field: e.path}
}

// match returns the first pattern that matches, or nil.
func match(list []entry, object string) *entry {
	for i := range list {
		if list[i].pattern.Match(object) {
			return &list[i]
		}
	}
	return nil
}

// mayMessage applies the trust table, in which the sender counts as no more
// than the least trusted plugin that led to the message.
func mayMessage(d *decision, from, to *grant, least plugbus.Trust) bool {
	if trustTable[min(from.Trust, least)][to.Trust] {
		return d.layer(layerTrust, "", nil, fix{})
	}
	raise := fix{do: fixTrust, value: plugbus.Basic.String(), plugin: from.ID}
	if trustTable[from.Trust][to.Trust] {
		raise.plugin = "" // its own trust suffices
	}
	return d.layer(layerTrust, plugbus.ReasonTrustLevelMismatch, nil, raise)
}

// trustTable says who may message whom: trustTable[sender][recipient].
var trustTable = [plugbus.Verified + 1][plugbus.Verified + 1]bool{
	plugbus.Untrusted: {plugbus.Untrusted: true, plugbus.Basic: true},
	plugbus.Basic:     {plugbus.Untrusted: true, plugbus.Basic: true, plugbus.Trusted: true, plugbus.Verified: true},
	plugbus.Trusted:   {plugbus.Untrusted: true, plugbus.Basic: true, plugbus.Trusted: true, plugbus.Verified: true},
	plugbus.Verified:  {plugbus.Untrusted: true, plugbus.Basic: true, plugbus.Trusted: true, plugbus.Verified: true},
}

// access applies the rights to stores. Every pattern that matches speaks.
func (g *grant) access(d *decision, q query) bool {
	if g.all {
		return d.layer(layerAllow, "", nil, fix{})
	}
	var yes, trust *stores
	for i := range g.stores {
		s := &g.stores[i]
		if !s.pattern.Match(q.object) {
			continue
		}
		if right := s.rights[q.verb]; right != nil && *right {
			yes = s
		}
		if s.requireTrust {
			trust = s
		}
	}
	if yes == nil {
		if !d.layer(layerAllow, plugbus.ReasonInsufficientPermissions, nil,
			fix{do: fixAccess, value: q.object, plugin: g.ID, verb: q.verb}) {
			return false
		}
	} else {
		d.layer(layerAllow, "", &yes.entry, fix{})
	}
	for i := range g.stores {
		s := &g.stores[i]
		if right := s.rights[q.verb]; right != nil && !*right && s.pattern.Match(q.object) {
			change := s.removal(q.verb)
			if yes == nil && s.pattern.String() == q.object {
				change = fix{} // what makes it true makes it no longer false
			}
			if !d.layer(layerDeny, plugbus.ReasonDeniedByRule, &s.entry, change) {
				return false
			}
		}
	}
	if trust == nil {
		return true
	}
	if min(g.Trust, q.least) >= plugbus.Trusted {
		return d.layer(layerTrust, "", &trust.entry, fix{})
	}
	raise := fix{do: fixTrust, value: plugbus.Trusted.String(), plugin: g.ID}
	if g.Trust >= plugbus.Trusted {
		raise.plugin = "" // its own trust suffices
	}
	return d.layer(layerTrust, plugbus.ReasonInsufficientTrustLevel, &trust.entry, raise)
}

// A ruling is what decidePattern answers.
type ruling struct {
	reason  plugbus.Reason
	partial bool   // not every name is allowed
	rule    string // what refuses, for the host
	fix     fix
}

// decidePattern answers for all that a pattern matches. Denies inside an
// allowed pattern do not refuse it: they refuse the names, one by one. The
// answer is conservative: a pattern that only several allow patterns together
// cover is too wide.
func (p *Policy) decidePattern(id string, verb plugbus.Verb, pattern string, narrow bool) ruling {
	if !known(verb) {
		return ruling{reason: plugbus.ReasonCheckFailed}
	}
	asked, err := topic.Parse(pattern)
	if err != nil {
		return ruling{reason: plugbus.ReasonInvalidName}
	}
	if useOf(verb).owned && topic.Reserved(pattern) {
		return ruling{reason: plugbus.ReasonReservedName}
	}
	g := p.lookup(id)
	switch {
	case g == nil:
		return ruling{reason: plugbus.ReasonUnknownPlugin}
	case g.all:
		return ruling{partial: ofPlugins(verb)} // the peers have a say
	case asked.Wildcards() > g.Limits.Wildcards:
		return ruling{
			reason: plugbus.ReasonQuotaExceeded,
			rule:   fmt.Sprintf("patterns: %d wildcards", g.Limits.Wildcards),
			fix:    fix{do: fixRaise, plugin: id, field: "limits.wildcards"},
		}
	}
	allow, deny, trust := g.lists(verb)
	partial := ofPlugins(verb)
	for i := range deny {
		if topic.Subset(asked, deny[i].pattern) {
			return ruling{reason: plugbus.ReasonDeniedByRule, rule: deny[i].String(), fix: deny[i].removal(verb)}
		}
		partial = partial || topic.Overlap(asked, deny[i].pattern)
	}
	for i := range trust {
		if g.Trust >= plugbus.Trusted {
			break
		}
		if topic.Subset(asked, trust[i].pattern) {
			return ruling{
				reason: plugbus.ReasonInsufficientTrustLevel,
				rule:   fmt.Sprintf("requiresTrust of %v", &trust[i]),
				fix:    fix{do: fixTrust, value: plugbus.Trusted.String(), plugin: id},
			}
		}
		partial = partial || topic.Overlap(asked, trust[i].pattern)
	}
	overlap := false
	for i := range allow {
		if topic.Subset(asked, allow[i].pattern) {
			return ruling{partial: partial}
		}
		overlap = overlap || topic.Overlap(asked, allow[i].pattern)
	}
	if overlap && narrow {
		return ruling{partial: true}
	}
	refused := ruling{
		reason: plugbus.ReasonInsufficientPermissions,
		rule:   fmt.Sprintf("no pattern in %s.%v.allow covers it", join("plugins", id), verb),
		fix:    fix{do: fixAllow, value: pattern, plugin: id, verb: verb},
	}
	if ofStores(verb) {
		refused.rule = fmt.Sprintf("no pattern in %s.dataAccess gives %v on all of it", join("plugins", id), verb)
		refused.fix.do = fixAccess
	}
	switch {
	case overlap:
		refused.reason = plugbus.ReasonPatternTooWide
	case verb == plugbus.VerbSend:
		refused.reason = plugbus.ReasonNoSendPermission
	case verb == plugbus.VerbReceive:
		refused.reason = plugbus.ReasonRecipientCannotReceive
	}
	return refused
}

// lists returns the patterns that allow a verb, those that deny it, and those
// that require trust.
func (g *grant) lists(verb plugbus.Verb) (allow, deny, trust []entry) {
	if !ofStores(verb) {
		return g.rules[verb].allow, g.rules[verb].deny, nil
	}
	for _, s := range g.stores {
		switch right := s.rights[verb]; {
		case right == nil:
		case *right:
			allow = append(allow, s.entry)
		default:
			deny = append(deny, s.entry)
		}
		if s.requireTrust {
			trust = append(trust, s.entry)
		}
	}
	return allow, deny, trust
}

// knows reports whether a send right names other: an allow pattern matches it,
// and no deny pattern.
func (p *Policy) knows(id, other string) bool {
	g := p.lookup(id)
	switch {
	case id == other || g != nil && g.all:
		return true
	case g == nil:
		return false
	}
	send := &g.rules[plugbus.VerbSend]
	return match(send.deny, other) == nil && match(send.allow, other) != nil
}

// least returns the lowest trust on a chain. Who is unknown is not trusted.
func (p *Policy) least(c plugbus.Chain) plugbus.Trust {
	least := plugbus.Verified
	for _, id := range c.Led() {
		g, _ := p.Grant(id)
		least = min(least, g.Trust)
	}
	return least
}

// discovers reports whether a plugin may discover a capability.
func (p *Policy) discovers(id, capability string) bool {
	return p.decide(query{id, plugbus.VerbDiscover, capability, plugbus.Verified}, nil) == ""
}
