package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/topic"
)

// Rights are what a list of a store gives.
type Rights uint8

// The rights. They can be joined by |.
const (
	Read  Rights = 1 << iota // get, list and watch
	Write                    // set and delete
	Admin                    // grant, revoke and drop, and everything else
)

// String joins the names of the rights by "+".
func (r Rights) String() string {
	var names []string
	for right, name := range map[Rights]string{Read: "read", Write: "write", Admin: "admin"} {
		if r&right != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 || r > Read|Write|Admin {
		return fmt.Sprintf("Rights(%d)", uint8(r))
	}
	slices.Sort(names)
	return strings.Join(names, "+")
}

// maxListed bounds the ids in the lists of one store.
const maxListed = 3000

// An acl holds the lists of a store. It is immutable.
type acl struct {
	owner  string
	rights map[string]Rights // of ids, and of Everyone

	// since is the revision of the store when an id got the right to read. What was
	// overwritten before is not for it. It is not kept on the backend: a store that is
	// opened anew has nothing of what was overwritten before.
	since map[string]uint64

	once  sync.Once
	words string // for people; by text
}

// newACL returns the lists that a config asks for.
func newACL(owner string, c *Config) (*acl, error) {
	a := &acl{owner: owner, rights: map[string]Rights{}, since: map[string]uint64{}}
	for _, list := range []struct {
		rights Rights
		ids    []string
	}{{Read, c.Read}, {Write, c.Write}, {Admin, c.Admin}} {
		ids, err := checkIDs(list.ids)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			a.rights[id] |= list.rights
		}
	}
	if len(a.rights) > maxListed {
		return nil, newOptionError("the number of ids in Config.Read, Write and Admin", len(a.rights), fmt.Sprintf("at most %d ids", maxListed))
	}
	return a, nil
}

// checkIDs returns a copy of a list whose ids are in order, whatever the caller does to
// its own meanwhile.
func checkIDs(ids []string) ([]string, error) {
	own := make([]string, 0, len(ids))
	for _, id := range ids {
		if id != Everyone {
			if err := topic.CheckID(id); err != nil {
				return nil, err
			}
		}
		own = append(own, private(id))
	}
	return own, nil
}

// of returns the rights of a plugin.
func (a *acl) of(id string) Rights {
	if id == a.owner {
		return Read | Write | Admin
	}
	r := a.rights[id] | a.rights[Everyone]
	if r&Admin != 0 {
		r |= Read | Write
	}
	return r
}

// readSince returns the revision after which a plugin may see what was overwritten.
func (a *acl) readSince(id string) uint64 {
	if id == a.owner {
		return 0
	}
	const none = ^uint64(0)
	since := none
	for _, holder := range []string{id, Everyone} {
		if a.rights[holder]&(Read|Admin) != 0 {
			since = min(since, a.since[holder])
		}
	}
	return since
}

// changed returns the lists with rights given or taken at a revision, or nil if
// nothing changes.
func (a *acl) changed(ids []string, give, take Rights, at uint64) *acl {
	next := &acl{owner: a.owner, rights: maps.Clone(a.rights), since: maps.Clone(a.since)}
	for _, id := range ids {
		could := next.rights[id]&(Read|Admin) != 0
		next.rights[id] = next.rights[id]&^take | give
		switch can := next.rights[id]&(Read|Admin) != 0; {
		case can && !could:
			next.since[id] = at
		case !can:
			delete(next.since, id)
		}
		if next.rights[id] == 0 {
			delete(next.rights, id)
		}
	}
	if maps.Equal(next.rights, a.rights) {
		return nil
	}
	return next
}

// text returns the lists for people, as far as there is room. Refusals need it, so it is
// made once.
func (a *acl) text() string {
	a.once.Do(func() {
		var b strings.Builder
		fmt.Fprintf(&b, "owner %s", a.owner)
		for _, id := range slices.Sorted(maps.Keys(a.rights)) {
			if b.Len() > plugbus.MaxTextBytes {
				break
			}
			fmt.Fprintf(&b, ", %s %v", id, a.rights[id])
		}
		a.words = plugbus.CutText(b.String())
	})
	return a.words
}

// A pass is the answer to whether a client may do something with a store: what the
// guard and the store's own lists say together. It is immutable, and holds as long as
// both say the same.
type pass struct {
	cause  plugbus.Chain
	acl    *acl // nil if there is no such store
	permit *plugbus.Permit

	rule, remedy string // of the lists, if they refuse
	hint         string // for the plugin, which says nothing of who refuses, nor why
}

// holds reports whether p still says what there is to say.
func (p *pass) holds(c *Client, s *space, cause plugbus.Chain) bool {
	return p.cause == cause && p.permit.Version == c.guard.Version() && p.acl == s.acl.Load()
}

// access is the one place where the policy and a store's own lists meet: an act needs
// both. s is nil if there is no such store, which is refused as the lists refuse.
func (c *Client) access(s *space, name string, cause plugbus.Chain, verb plugbus.Verb, right Rights) *pass {
	p := &pass{cause: cause}
	if right == Admin {
		p.hint = "it needs Admin of the store, and the policy's right to write"
	}
	if s != nil {
		p.acl = s.acl.Load() // Before the guard: a change after it is noticed.
	}
	p.permit = door.Sound(c.guard.PermitVia(cause, verb, name), verb, name)
	switch {
	case s == nil:
		p.rule, p.remedy = noStore(name)
	case !c.super:
		p.rule, p.remedy = p.acl.refuses(c.id, name, right)
	}
	if p.rule == "" {
		return p
	}
	if p.permit.Reason == "" {
		p.permit = &plugbus.Permit{Version: p.permit.Version, Reason: plugbus.ReasonInsufficientPermissions}
	}
	return p
}

func noStore(name string) (rule, remedy string) {
	return fmt.Sprintf("there is no store %q", plugbus.CutText(name)), "create it"
}

// refuses returns the rule by which the lists refuse an act, "" if they allow it, and
// what would change that.
func (a *acl) refuses(id, name string, right Rights) (rule, remedy string) {
	if a.of(id)&right != 0 {
		return "", ""
	}
	return fmt.Sprintf("the lists of store %q give %q no right to %v: %s", name, id, right, a.text()),
		fmt.Sprintf("let an admin of the store grant it %v", right)
}

// enter passes the door with an act on a store.
func (c *Client) enter(p *pass, name string, verb plugbus.Verb, parcel *door.Parcel) (time.Time, error) {
	act := door.Act{Plugin: c.id, Verb: verb, Object: name, Permit: p.permit, Cause: p.cause, MaxDepth: c.db.opts.MaxDepth}
	now, refusal := door.Check(c.db.clock, &act, parcel)
	if refusal != nil {
		refusal.Rule, refusal.Remedy = p.rule, p.remedy
		if p.hint != "" && !p.permit.Allowed() && refusal.Reason == p.permit.Reason {
			refusal.Hint = p.hint
		}
		if c.db.opts.Observe != nil {
			c.observeAct(verb, name, plugbus.Refused, refusal.Reason, p.cause, 0)
		}
		return now, c.turnAway(*refusal)
	}
	if c.db.opts.Observe != nil {
		bytes := 0
		if parcel != nil {
			bytes = parcel.Size
		}
		c.observeAct(verb, name, 0, "", p.cause, bytes)
	}
	return now, nil
}

// refuse refuses an act that the door had let in.
func (c *Client) refuse(r plugbus.Refusal) error {
	if c.db.opts.Observe != nil {
		c.observeRefusal(&r)
	}
	return c.turnAway(r)
}

// turnAway counts a refusal, has it recorded, and returns the plugin's error.
func (c *Client) turnAway(r plugbus.Refusal) error {
	c.refused.Add(1)
	c.db.refused.Add(1)
	return c.guard.Refuse(r)
}

// causeOf returns what led to an act of the client with ctx.
func (c *Client) causeOf(ctx context.Context) plugbus.Chain {
	if ctx == nil {
		return chain.Chain{}
	}
	return c.actor.Cause(ctx)
}
