package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// Rules are a policy, and the model of it.
type rules struct {
	grants map[string]grant
	policy *security.Policy
}

// A grant is what one plugin may do. A nil list allows nothing.
type grant struct {
	trust           plugbus.Trust
	subscribe, deny []string // patterns of events
	emit            []string // the same, to emit and to broadcast
	publish         []string // patterns of topics
	consume         []string
	send, receive   []string // ids, or "*" for everybody
	read, write     bool     // all stores
	provide         bool     // every capability
	discover        bool
	slow            bool // its rates are low
}

// matches says the same as internal/topic, in the plainest way, for the names and
// patterns that the worlds have.
func matches(pattern, name string) bool {
	if i := strings.IndexAny(pattern, ".:"); i >= 0 && pattern[:i] != "*" {
		j := strings.IndexAny(name, ".:")
		return j >= 0 && pattern[:i+1] == name[:j+1] && matches(pattern[i+1:], name[j+1:])
	} else if pattern == "**" {
		return true
	} else if i >= 0 {
		j := strings.IndexAny(name, ".:")
		return j >= 0 && pattern[i] == name[j] && matches(pattern[i+1:], name[j+1:])
	}
	return !strings.ContainsAny(name, ".:") && (pattern == "*" || pattern == name)
}

// own reports whether a name belongs to the hub, which wildcards leave out.
func own(name string) bool {
	return slices.ContainsFunc([]string{"plugin:", "hub:", "store:", "security:"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

func anyMatches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return matches(p, name) && (!own(name) || own(p))
	})
}

// maySubscribe reports whether the rules let a plugin have an event.
func (r *rules) maySubscribe(id, name string) bool {
	g, ok := r.grants[id]
	return ok && anyMatches(g.subscribe, name) && !anyMatches(g.deny, name)
}

// mayEmit reports whether the rules let a plugin emit an event.
func (r *rules) mayEmit(id, name string) bool {
	return id == host || anyMatches(r.grants[id].emit, name)
}

// mayPublish reports whether the rules let a plugin publish on a topic.
func (r *rules) mayPublish(id, topic string) bool {
	return id == host || anyMatches(r.grants[id].publish, topic)
}

// mayMessage reports whether the rules let a plugin message another.
func (r *rules) mayMessage(from, to string) bool {
	if from == host {
		return true
	}
	f, ok := r.grants[from]
	if !ok || !names(f.send, to) {
		return false
	}
	if to == host {
		return true
	}
	t, ok := r.grants[to]
	return ok && names(t.receive, from) && (f.trust > plugbus.Untrusted || t.trust < plugbus.Trusted)
}

// shies reports whether the trust of whoever led to a message may keep it from a plugin.
func (r *rules) shies(to string) bool {
	if r.grants[to].trust < plugbus.Trusted {
		return false
	}
	for _, g := range r.grants {
		if g.trust == plugbus.Untrusted {
			return true
		}
	}
	return false
}

func names(ids []string, id string) bool {
	return slices.Contains(ids, "*") || slices.Contains(ids, id)
}

// withTrust returns the rules with another trust level for one plugin.
func (r *rules) withTrust(id string, level plugbus.Trust) *rules {
	grants := make(map[string]grant, len(r.grants))
	for key, g := range r.grants {
		if key == id {
			g.trust = level
		}
		grants[key] = g
	}
	return &rules{grants: grants}
}

// newRules draws rules for the plugins. The first rules of a world are generous.
func newRules(r *rand.Rand, plugins []string, generous bool) (*rules, error) {
	made := &rules{grants: map[string]grant{}}
	for _, id := range plugins {
		g := grant{
			trust: plugbus.Trusted, subscribe: []string{"**", "plugin:**"}, emit: []string{"**"}, publish: []string{"**"}, consume: []string{"**"},
			send: []string{"*"}, receive: []string{"*"}, read: true, write: true, provide: true, discover: true,
		}
		if !generous {
			g.trust = pick(r, plugbus.Untrusted, plugbus.Basic, plugbus.Trusted, plugbus.Verified)
			g.subscribe = pick(r, []string{"**"}, []string{"**", "plugin:**"}, []string{"a.**", "b.**"}, []string{"a.*", "b.c"}, nil)
			g.deny = pick(r, nil, nil, []string{"a.b"}, []string{"b.**"})
			g.send = pick(r, []string{"*"}, []string{"*"}, []string{"*"}, []string{"*"}, subset(r, plugins), nil)
			g.receive = pick(r, []string{"*"}, []string{"*"}, []string{"*"}, []string{"*"}, subset(r, plugins), nil)
			g.read, g.write = chance(r, 800), chance(r, 800)
			g.emit = pick(r, g.emit, g.emit, g.emit, g.emit, []string{"a.**"}, []string{"a.*", "b.c", "c"}, nil)
			g.publish = pick(r, g.publish, g.publish, g.publish, []string{"t.*"}, nil)
			g.consume = pick(r, g.consume, g.consume, g.consume, []string{"t.*"}, nil)
			g.provide, g.discover = chance(r, 900), chance(r, 900)
			g.slow = chance(r, 150)
		}
		made.grants[id] = g
	}
	for _, id := range []string{witness, bystander, caller} {
		made.grants[id] = grant{
			trust: plugbus.Verified, subscribe: []string{"**", "plugin:**", "hub:**", "store:**", "security:**"}, emit: []string{"**"},
			send: []string{"*"}, receive: []string{"*"}, read: true, write: true, provide: true, discover: true,
		}
	}
	doc := security.Document{Version: 1, Plugins: map[string]security.PluginRules{}}
	for id, g := range made.grants {
		doc.Plugins[id] = g.document()
	}
	var err error
	if made.policy, err = doc.Policy(); err != nil {
		return nil, fmt.Errorf("draw a policy: %w", err)
	}
	return made, nil
}

func subset(r *rand.Rand, ids []string) []string {
	some := []string{witness}
	for _, id := range ids {
		if chance(r, 600) {
			some = append(some, id)
		}
	}
	return some
}

// The rates of a slow plugin, in acts a minute and at once.
const (
	slowRate  = 300
	slowBurst = 20
)

// document returns the grant as a policy has it.
func (g grant) document() security.PluginRules {
	all := &security.Rule{All: true}
	high, burst := int64(1_000_000), int64(1_000_000)
	if g.slow {
		high, burst = slowRate, slowBurst
	}
	rate := &security.RateRule{Limit: &high, Burst: &burst}
	most := int64(1_000)
	doc := security.PluginRules{
		Trust: g.trust, Emit: patternRule(g.emit), Broadcast: patternRule(g.emit), Publish: patternRule(g.publish), Consume: patternRule(g.consume),
		Priority: plugbus.PriorityHigh,
		Send:     idRule(g.send), Receive: idRule(g.receive),
		DataAccess: map[string]security.AccessRules{"**": {Read: &g.read, Write: &g.write, Create: &g.write}},
		Rates:      security.RateRules{Messages: rate, Events: rate, DataAccess: rate},
		Limits:     security.LimitRules{Subscriptions: &most, Watches: &most},
	}
	if g.provide {
		doc.Provide = all
	}
	if g.discover {
		doc.Discover = all
	}
	if len(g.subscribe) > 0 {
		doc.Subscribe = &security.Rule{Allow: g.subscribe, Deny: g.deny}
	}
	return doc
}

func patternRule(patterns []string) *security.Rule {
	if len(patterns) == 0 {
		return nil
	}
	return &security.Rule{Allow: patterns}
}

func idRule(ids []string) *security.Rule {
	switch {
	case len(ids) == 0:
		return nil
	case ids[0] == "*":
		return &security.Rule{All: true}
	}
	return &security.Rule{Allow: ids}
}

// A reign is a time in which rules were in force. The ends belong to it.
type reign struct {
	rules    *rules
	from, to time.Time // to is zero as long as they are
}

// during reports whether some of the time from one to another is of the reign.
func (r *reign) during(from, to time.Time) bool {
	return !r.from.After(to) && (r.to.IsZero() || !r.to.Before(from))
}

// ever reports whether at some moment from one time to another the rules allowed
// something.
func ever(reigns []reign, from, to time.Time, allows func(*rules) bool) bool {
	return slices.ContainsFunc(reigns, func(r reign) bool { return r.during(from, to) && allows(r.rules) })
}

// always reports whether at every moment from one time to another they did.
func always(reigns []reign, from, to time.Time, allows func(*rules) bool) bool {
	return !slices.ContainsFunc(reigns, func(r reign) bool { return r.during(from, to) && !allows(r.rules) })
}
