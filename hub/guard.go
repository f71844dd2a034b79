package hub

import (
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A guard is the guard of one session: what security says, unless the plugin is
// quarantined. Its versions are those of the policy with the low bits for the
// turns that the plugin took in and out of quarantine and for what has changed in
// who provides what, which decides about who may know of whom. So they grow, and
// nothing that was cached before such a change holds after it.
type guard struct {
	*security.Subject
	provides  *providers             // of the hub
	turns     atomic.Uint32          // odd while the plugin is quarantined
	hint      atomic.Pointer[string] // what it learns of that
	refused   atomic.Uint64          // acts
	onRefusal func(plugbus.Refusal)  // counts floods; may be nil
}

const turnBits = 32

// version returns the guard's version under a policy's.
func (g *guard) version(policy uint64, turns uint32) uint64 {
	return policy<<turnBits | uint64(turns+g.provides.changes.Load())
}

// quarantined reports whether the plugin is quarantined.
func (g *guard) quarantined() bool { return g.turns.Load()&1 != 0 }

// turn takes the plugin into quarantine, with what it may know of that, or out of it.
// hub.mu is held.
func (g *guard) turn(hint string) {
	g.hint.Store(&hint)
	g.turns.Add(1)
}

func (g *guard) Version() uint64 { return g.version(g.Subject.Version(), g.turns.Load()) }

// stamp returns what ask returns with a version of the guard's, or a refusal if
// the plugin is quarantined.
func (g *guard) stamp(ask func() *plugbus.Permit) *plugbus.Permit {
	turns := g.turns.Load()
	if turns&1 != 0 {
		return &plugbus.Permit{Version: g.version(g.Subject.Version(), turns), Reason: plugbus.ReasonQuarantined}
	}
	stamped := *ask()
	stamped.Version = g.version(stamped.Version, turns)
	return &stamped
}

// Permit implements [plugbus.Guard].
func (g *guard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	return g.stamp(func() *plugbus.Permit { return g.Subject.Permit(verb, object) })
}

// PermitVia implements [plugbus.Guard].
func (g *guard) PermitVia(led plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	return g.stamp(func() *plugbus.Permit { return g.Subject.PermitVia(led, verb, object) })
}

// PermitPattern implements [plugbus.Guard].
func (g *guard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	return g.stamp(func() *plugbus.Permit { return g.Subject.PermitPattern(verb, pattern, narrow) })
}

// PermitAt implements [plugbus.Guard].
func (g *guard) PermitAt(at uint64, verb plugbus.Verb, object string) *plugbus.Permit {
	stamped := *g.Subject.PermitAt(at>>turnBits, verb, object)
	stamped.Version = at
	return &stamped
}

// Refuse implements [plugbus.Guard].
func (g *guard) Refuse(r plugbus.Refusal) error {
	if hint := g.hint.Load(); r.Reason == plugbus.ReasonQuarantined && hint != nil && *hint != "" {
		r.Hint = *hint // What else the act would take does not matter now.
	}
	g.charge(r)
	return g.Subject.Refuse(r)
}

// charge counts a refusal, also one that was recorded elsewhere.
func (g *guard) charge(r plugbus.Refusal) {
	g.refused.Add(1)
	if g.onRefusal != nil {
		g.onRefusal(r)
	}
}

// A hubGuard is the guard of the hub's own client, which may emit the hub's own
// names and nothing else could.
type hubGuard struct{ authority *security.Authority }

func (g hubGuard) Version() uint64 { return g.authority.Version() << turnBits }

func (g hubGuard) Permit(plugbus.Verb, string) *plugbus.Permit {
	return &plugbus.Permit{Version: g.Version()}
}

func (g hubGuard) PermitVia(plugbus.Chain, plugbus.Verb, string) *plugbus.Permit {
	return g.Permit(0, "")
}

func (g hubGuard) PermitPattern(plugbus.Verb, string, bool) *plugbus.Permit {
	return g.Permit(0, "")
}

func (g hubGuard) PermitAt(uint64, plugbus.Verb, string) *plugbus.Permit { return g.Permit(0, "") }

func (g hubGuard) Knows(string) bool { return true }

func (g hubGuard) Refuse(r plugbus.Refusal) error {
	return &plugbus.DeniedError{Plugin: hubID, Verb: r.Verb, Object: r.Object, Reason: r.Reason, Cause: r.Cause}
}
