package security

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A grant is what one plugin may do, ready to be asked. It is immutable.
type grant struct {
	Grant
	all    bool // the host: everything that is not the hub's own
	rules  [plugbus.VerbDiscover + 1]rule
	stores []stores
	rates  [operations]*Rate // nil means no limit
	checks plugbus.ContentChecks
	except []entry // names without checks
	shared []entry
}

// A rule is the compiled form of a [Rule]. The zero rule allows nothing.
type rule struct {
	allow, deny []entry
}

// An entry is one pattern of the policy.
type entry struct {
	pattern topic.Pattern
	path    string // such as plugins.indexer.emit.allow[0]
	at      string // such as policy.json:12:30, or ""
	yes     bool   // the file says true
}

// String returns what is said and where.
func (e *entry) String() string {
	text := strconv.Quote(e.pattern.String())
	if e.yes {
		text = "true"
	}
	if e.at == "" {
		return fmt.Sprintf("%s in %s", text, e.path)
	}
	return fmt.Sprintf("%s in %s (%s)", text, e.path, e.at)
}

// stores are the rights to the stores that a pattern matches: for each verb
// yes, no, or nothing.
type stores struct {
	entry
	rights       [plugbus.VerbCreate + 1]*bool
	requireTrust bool
}

// everything is what true stands for.
var everything = topic.MustParse("**")

// compile makes a policy of a document, and reports what is wrong to src; what
// it returns is of use only if nothing is.
func compile(doc *Document, src *source) *Policy {
	c := compiler{src}
	if doc.Version != 1 {
		c.fail("version", `expected "version": 1, the version of this format`)
	}
	for _, trust := range slices.Sorted(maps.Keys(doc.Levels)) {
		path := join("levels", trust.String())
		c.rates(path+".rates", doc.Levels[trust].Rates)
		c.limits(path+".limits", doc.Levels[trust].Limits)
	}
	p := &Policy{doc: doc, file: src.file, grants: make(map[string]*grant, len(doc.Plugins))}
	for _, id := range slices.Sorted(maps.Keys(doc.Plugins)) {
		path := join("plugins", id)
		if err := topic.CheckID(id); err != nil {
			c.failKey(path, "%v", err)
		} else if topic.ReservedID(id) {
			c.failKey(path, "the id %q belongs to the hub; choose another", id)
		}
		g := c.grant(id, path, doc.Plugins[id])
		g.rates, g.Limits = doc.resolve(doc.Plugins[id])
		p.grants[id] = g
	}
	return p
}

// A compiler turns the parts of a document into the parts of a policy.
type compiler struct{ *source }

// fail reports a mistake in a value, unless it has been reported already.
func (c compiler) fail(path, format string, args ...any) {
	if !c.bad[path] {
		c.source.fail(path, format, args...)
	}
}

func (c compiler) grant(id, path string, r PluginRules) *grant {
	g := &grant{Grant: Grant{ID: id, Description: r.Description, Trust: r.Trust, Priority: r.Priority}}
	g.rules[plugbus.VerbSend] = c.consent(path, "canSendMessages", r.CanSendMessages, "send", r.Send)
	g.rules[plugbus.VerbReceive] = c.consent(path, "canReceiveMessages", r.CanReceiveMessages, "receive", r.Receive)
	for verb, rule := range map[plugbus.Verb]*Rule{
		plugbus.VerbEmit:      r.Emit,
		plugbus.VerbBroadcast: r.Broadcast,
		plugbus.VerbSubscribe: r.Subscribe,
		plugbus.VerbPublish:   r.Publish,
		plugbus.VerbConsume:   r.Consume,
		plugbus.VerbProvide:   r.Provide,
		plugbus.VerbDiscover:  r.Discover,
	} {
		g.rules[verb] = c.names(path+"."+verb.String(), verb, rule)
	}
	for _, pattern := range slices.Sorted(maps.Keys(r.DataAccess)) {
		g.stores = append(g.stores, c.stores(join(path+".dataAccess", pattern), pattern, r.DataAccess[pattern]))
	}
	c.rates(path+".rates", r.Rates)
	c.limits(path+".limits", r.Limits)
	g.checks = r.Content.checks()
	g.except = c.patterns(path+".content.except", r.Content.Except)
	g.shared = c.patterns(path+".shared", r.Shared)
	for i, other := range r.Inline {
		at := fmt.Sprintf("%s.inline[%d]", path, i)
		if err := topic.CheckID(other); err != nil {
			c.fail(at, "%v", err)
		} else if other == id {
			c.fail(at, "a plugin cannot be inline with itself; name another")
		}
	}
	g.inline = r.Inline
	c.bridge(path, r)
	g.Process = r.Bridge == bridgeProcess
	g.Network = r.NetworkAccess != nil && *r.NetworkAccess
	g.FileSystem = r.FileSystemAccess != nil && *r.FileSystemAccess
	return g
}

// names compiles the rule of a verb whose objects are names.
func (c compiler) names(path string, verb plugbus.Verb, r *Rule) rule {
	if r != nil && r.Allow == nil && r.Deny != nil {
		c.fail(path, `"deny" without "allow" allows nothing; add "allow": ["**"], or say false`)
	}
	compiled := c.rule(path, r)
	if r != nil && useOf(verb).owned {
		for i, e := range compiled.allow {
			if !r.All && topic.Reserved(e.pattern.String()) {
				c.fail(fmt.Sprintf("%s.allow[%d]", path, i),
					"%q matches only names of the hub, which no plugin may %s; choose other names", e.pattern, verb)
			}
		}
	}
	return compiled
}

// consent compiles the rule of send or receive, for which the file has a
// boolean too.
func (c compiler) consent(path, canField string, can *bool, field string, r *Rule) rule {
	at := path + "." + field
	if can == nil {
		if r != nil && r.Allow == nil && r.Deny != nil {
			c.fail(at, `"deny" without "allow" allows nothing; add "allow": ["*"] or %q: true, or say false`, canField)
		}
		return c.ids(at, r)
	}
	everyone := c.rule(path+"."+canField, &Rule{All: *can})
	switch {
	case r == nil:
		return everyone
	case !*can && (r.All || r.Allow != nil || r.Deny != nil):
		c.fail(at, `this stands beside %q: false; remove one of the two`, canField)
	case *can && !r.All && r.Allow == nil && r.Deny == nil:
		c.fail(at, `false stands beside %q: true; remove one of the two`, canField)
	case *can && r.Allow == nil:
		everyone.deny = c.ids(at, r).deny
		return everyone
	}
	return c.ids(at, r)
}

// ids compiles a rule whose objects are plugin ids.
func (c compiler) ids(path string, r *Rule) rule {
	compiled := c.rule(path, r)
	if r != nil {
		for list, patterns := range map[string][]string{"allow": r.Allow, "deny": r.Deny} {
			for i, p := range patterns {
				if p != "*" && p != "**" && topic.CheckID(p) != nil {
					c.fail(fmt.Sprintf("%s.%s[%d]", path, list, i), `%q matches no plugin; expected a plugin id, or "*" for all`, p)
				}
			}
		}
	}
	return compiled
}

func (c compiler) rule(path string, r *Rule) rule {
	switch {
	case r == nil:
		return rule{}
	case r.All:
		return rule{allow: []entry{{everything, path, c.at(path), true}}}
	}
	return rule{c.patterns(path+".allow", r.Allow), c.patterns(path+".deny", r.Deny)}
}

func (c compiler) patterns(path string, list []string) []entry {
	compiled := make([]entry, len(list))
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		p, err := topic.Parse(s)
		if err != nil {
			c.fail(at, "%v", err)
			c.bad[at] = true
		}
		compiled[i] = entry{p, at, c.at(at), false}
	}
	return compiled
}

func (c compiler) stores(path, pattern string, r AccessRules) stores {
	p, err := topic.Parse(pattern)
	if err != nil {
		c.failKey(path, "%v", err)
	}
	if r.Create != nil && *r.Create && topic.Reserved(pattern) {
		c.fail(path+".create", "%q matches only names of the hub, which no plugin may create; choose other names", pattern)
	}
	s := stores{entry: entry{p, path, c.at(path), false}, requireTrust: r.RequiresTrust}
	s.rights[plugbus.VerbRead], s.rights[plugbus.VerbWrite], s.rights[plugbus.VerbCreate] = r.Read, r.Write, r.Create
	return s
}

// has reports whether the text has a field.
func (c compiler) has(path string) bool {
	_, ok := c.places[path]
	return ok
}

// at returns where the key of a path stands, or "".
func (c compiler) at(path string) string {
	if c.lines == nil || !c.has(path) {
		return ""
	}
	line, column := c.position(c.places[path].key)
	return position(c.file, line, column)
}

const bridgeProcess = "process"

// bridge refuses what nobody could enforce.
func (c compiler) bridge(path string, r PluginRules) {
	if r.Bridge == bridgeProcess || c.bad[path+".bridge"] {
		return
	}
	if r.Bridge != "" || c.has(path+".bridge") {
		c.fail(path+".bridge", "unknown bridge %q; expected %q", r.Bridge, bridgeProcess)
		return
	}
	for field, access := range map[string]*bool{"networkAccess": r.NetworkAccess, "fileSystemAccess": r.FileSystemAccess} {
		if access != nil {
			c.fail(path+"."+field, "nobody can enforce %q on code in this process; "+
				`add "bridge": "process" for a plugin in a child process, or remove it`, field)
		}
	}
}
