package hub

import (
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A guard is the guard of one session: what security says, unless the plugin is
// quarantined. Its versions are those of the policy, shifted left by one bit that
// says whether the plugin is quarantined, so that what was cached before a
// quarantine does not hold in it.
type guard struct {
	*security.Subject
	quarantined atomic.Bool
	onRefusal   func(plugbus.Refusal) // counts floods; may be nil
}

func (g *guard) Version() uint64 {
	v := g.Subject.Version() << 1
	if g.quarantined.Load() {
		v |= 1
	}
	return v
}

// stamp returns p with a version of the guard's.
func (g *guard) stamp(p *plugbus.Permit) *plugbus.Permit {
	stamped := *p
	stamped.Version = p.Version << 1
	return &stamped
}

func (g *guard) shut() *plugbus.Permit {
	return &plugbus.Permit{Version: g.Subject.Version()<<1 | 1, Reason: plugbus.ReasonQuarantined}
}

// Permit implements [plugbus.Guard].
func (g *guard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	if g.quarantined.Load() {
		return g.shut()
	}
	return g.stamp(g.Subject.Permit(verb, object))
}

// PermitPattern implements [plugbus.Guard].
func (g *guard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	if g.quarantined.Load() {
		return g.shut()
	}
	return g.stamp(g.Subject.PermitPattern(verb, pattern, narrow))
}

// PermitAt implements [plugbus.Guard].
func (g *guard) PermitAt(version uint64, verb plugbus.Verb, object string) *plugbus.Permit {
	return g.stamp(g.Subject.PermitAt(version>>1, verb, object))
}

// Refuse implements [plugbus.Guard].
func (g *guard) Refuse(r plugbus.Refusal) error {
	if r.Reason == plugbus.ReasonQuarantined && r.Hint == "" {
		r.Hint = "the plugin failed too often; the host lets it go on with Hub.Restore"
	}
	if g.onRefusal != nil {
		g.onRefusal(r)
	}
	return g.Subject.Refuse(r)
}

// A hubGuard is the guard of the hub's own client, which may emit the hub's own
// names and nothing else could.
type hubGuard struct{ authority *security.Authority }

func (g hubGuard) Version() uint64 { return g.authority.Version() << 1 }

func (g hubGuard) Permit(plugbus.Verb, string) *plugbus.Permit {
	return &plugbus.Permit{Version: g.Version()}
}

func (g hubGuard) PermitPattern(plugbus.Verb, string, bool) *plugbus.Permit {
	return g.Permit(0, "")
}

func (g hubGuard) PermitAt(uint64, plugbus.Verb, string) *plugbus.Permit { return g.Permit(0, "") }

func (g hubGuard) Knows(string) bool { return true }

func (g hubGuard) Refuse(r plugbus.Refusal) error {
	return &plugbus.DeniedError{Plugin: hubID, Verb: r.Verb, Object: r.Object, Reason: r.Reason, Cause: r.Cause}
}
