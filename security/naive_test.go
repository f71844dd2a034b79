package security_test

import (
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
	"github.com/plugbus/plugbus/security"
)

// This file decides as the package comment says, straight from the document: no
// policy is compiled, no answer kept, no trace written.

// lists are what a rule allows and denies.
type lists struct{ allow, deny []string }

func listsOf(r *security.Rule) lists {
	switch {
	case r == nil:
		return lists{}
	case r.All:
		return lists{allow: []string{"**"}}
	}
	return lists{r.Allow, r.Deny}
}

// withBoolean returns the lists of send or receive, for which there is a boolean too.
func withBoolean(can *bool, r *security.Rule) lists {
	l := listsOf(r)
	if can != nil && *can && l.allow == nil {
		l.allow = []string{"**"}
	}
	return l
}

func listsFor(r security.PluginRules, v plugbus.Verb) lists {
	switch v { //nolint:exhaustive // The others have no boolean.
	case plugbus.VerbSend:
		return withBoolean(r.CanSendMessages, r.Send)
	case plugbus.VerbReceive:
		return withBoolean(r.CanReceiveMessages, r.Receive)
	}
	rule, ok := rulesOf(&r)[v]
	if !ok {
		return lists{}
	}
	return listsOf(*rule)
}

func (l lists) denies(object string) bool {
	return slices.ContainsFunc(l.deny, func(p string) bool { return matches(p, object) })
}

func (l lists) allows(object string) bool {
	return !l.denies(object) && slices.ContainsFunc(l.allow, func(p string) bool { return matches(p, object) })
}

// naiveDecide returns why a plugin that nobody led may not do verb to object, or "".
func naiveDecide(doc security.Document, id string, v plugbus.Verb, object string) plugbus.Reason {
	owned := []plugbus.Verb{plugbus.VerbEmit, plugbus.VerbBroadcast, plugbus.VerbPublish, plugbus.VerbCreate, plugbus.VerbProvide}
	switch {
	case !slices.Contains(plugbus.Verbs(), v):
		return plugbus.ReasonCheckFailed
	case forPeers(v) && topic.CheckID(object) != nil, !forPeers(v) && topic.CheckName(object) != nil:
		return plugbus.ReasonInvalidName
	case slices.Contains(owned, v) && topic.Reserved(object):
		return plugbus.ReasonReservedName
	}
	me, known := doc.Plugins[id]
	if !known {
		return plugbus.ReasonUnknownPlugin
	}
	switch v { //nolint:exhaustive // The others have lists alone.
	case plugbus.VerbRead, plugbus.VerbWrite, plugbus.VerbCreate:
		return naiveStores(me, v, object)
	case plugbus.VerbSend, plugbus.VerbReceive:
		return naiveMessage(doc, id, v, object)
	}
	return naiveRule(listsFor(me, v), object, plugbus.ReasonInsufficientPermissions)
}

func naiveRule(l lists, object string, otherwise plugbus.Reason) plugbus.Reason {
	switch {
	case l.denies(object):
		return plugbus.ReasonDeniedByRule
	case !l.allows(object):
		return otherwise
	}
	return ""
}

func naiveStores(r security.PluginRules, v plugbus.Verb, object string) plugbus.Reason {
	yes, no, trust := false, false, false
	for pattern, rights := range r.DataAccess {
		if !matches(pattern, object) {
			continue
		}
		right := map[plugbus.Verb]*bool{plugbus.VerbRead: rights.Read, plugbus.VerbWrite: rights.Write, plugbus.VerbCreate: rights.Create}[v]
		yes, no = yes || right != nil && *right, no || right != nil && !*right
		trust = trust || rights.RequiresTrust
	}
	switch {
	case !yes:
		return plugbus.ReasonInsufficientPermissions
	case no:
		return plugbus.ReasonDeniedByRule
	case trust && r.Trust < plugbus.Trusted:
		return plugbus.ReasonInsufficientTrustLevel
	}
	return ""
}

// naiveMessage decides about a message between a plugin and its peer, either way.
func naiveMessage(doc security.Document, id string, v plugbus.Verb, peer string) plugbus.Reason {
	me := doc.Plugins[id]
	them, known := doc.Plugins[peer]
	if peer == security.HostID {
		them, known = security.PluginRules{Trust: plugbus.Verified, Receive: &security.Rule{All: true}}, true
	}
	otherwise, from, to := plugbus.ReasonNoSendPermission, me.Trust, them.Trust
	if v == plugbus.VerbReceive {
		otherwise, from, to = plugbus.ReasonRecipientCannotReceive, them.Trust, me.Trust
	}
	if v != plugbus.VerbReceive || peer != security.HostID { // What the host sends is received by everyone.
		if why := naiveRule(listsFor(me, v), peer, otherwise); why != "" {
			return why
		}
	}
	switch {
	case !known:
		return plugbus.ReasonUnknownPlugin
	case from == plugbus.Untrusted && to >= plugbus.Trusted:
		return plugbus.ReasonTrustLevelMismatch
	case v == plugbus.VerbSend && peer != security.HostID && !listsFor(them, plugbus.VerbReceive).allows(id):
		return plugbus.ReasonRecipientCannotReceive
	}
	return ""
}
