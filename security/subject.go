package security

import (
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/plugbus/plugbus"
)

// A Subject is the guard of one session: it answers for its plugin, and for no
// other. It yields neither the authority nor the policy.
type Subject struct {
	authority *Authority
	account   *account
	answers   *lru.Cache[question, *answer]
	left      atomic.Bool
}

var _ plugbus.Guard = (*Subject)(nil)

// maxAnswers bounds the permits that one subject keeps.
const maxAnswers = 1024

// A question is what an answer is kept under.
type question struct {
	version uint64
	verb    plugbus.Verb
	least   plugbus.Trust
	object  string
}

// An answer is a permit, and for the host why there is none.
type answer struct {
	permit       plugbus.Permit
	rule, remedy string
}

func newSubject(a *Authority, c *account) *Subject {
	answers, _ := lru.New[question, *answer](maxAnswers) // it fails only for sizes below 1
	return &Subject{authority: a, account: c, answers: answers}
}

// ID returns the id of the plugin.
func (s *Subject) ID() string { return s.account.id }

// Grant returns what the policy in force says of the plugin. It is zero if the
// policy no longer knows it.
func (s *Subject) Grant() Grant {
	g, _ := s.authority.Policy().Grant(s.account.id)
	return g
}

// Leave ends the session. The counters of the plugin are freed when its last
// session has left; its rates are remembered for a plugin that comes back. The
// subject still answers.
func (s *Subject) Leave() {
	if s.left.CompareAndSwap(false, true) {
		s.answers.Purge()
		s.authority.leave(s.account)
	}
}

// Version numbers the rules in force.
func (s *Subject) Version() uint64 { return s.authority.Version() }

// Permit says whether the plugin may do verb to object. It looks at the name
// first, then at the plugin, deny patterns, allow patterns, and for messages at
// the peer, the trust table and the recipient's own right; and gives the reason
// of the first of them that refuses.
func (s *Subject) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	return &s.answer(s.authority.state.Load().rules, verb, object, plugbus.Verified).permit
}

// PermitVia is Permit for an act to which a chain of plugins led: the plugin
// counts as no more trusted than the least trusted of them, so that nobody can
// be used as a relay to those who trust them.
func (s *Subject) PermitVia(chain plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	r := s.authority.state.Load().rules
	return &s.answer(r, verb, object, r.policy.least(chain)).permit
}

// PermitAt is Permit under the rules of an earlier version. The authority keeps
// as many as Options.Keep says; for others the reason is policy_unavailable.
func (s *Subject) PermitAt(version uint64, verb plugbus.Verb, object string) *plugbus.Permit {
	now := s.authority.state.Load()
	if version == now.version {
		return &s.answer(now.rules, verb, object, plugbus.Verified).permit
	}
	for _, r := range now.old {
		if r.version == version {
			return &s.answer(r, verb, object, plugbus.Verified).permit
		}
	}
	return &plugbus.Permit{Version: version, Reason: plugbus.ReasonPolicyUnavailable}
}

// PermitPattern says whether the plugin may do verb to what pattern matches.
// One allow pattern must cover it, or, if narrow is true, overlap it. A deny
// pattern refuses it only by covering it; one that overlaps it, like all that
// may refuse some of the names, makes the permit partial.
func (s *Subject) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	r := s.authority.state.Load().rules
	var found ruling
	p := s.permit(r, verb, pattern, s.safely(func() plugbus.Reason {
		found = r.policy.decidePattern(s.account.id, verb, pattern, narrow)
		return found.reason
	}))
	p.Partial = found.partial
	return p
}

// answer decides, or finds what was decided.
func (s *Subject) answer(r rules, verb plugbus.Verb, object string, least plugbus.Trust) *answer {
	q := question{r.version, verb, least, object}
	if found, ok := s.answers.Get(q); ok {
		return found
	}
	a := &answer{}
	reason := s.safely(func() plugbus.Reason {
		ask := query{s.account.id, verb, object, least}
		reason := r.policy.decide(ask, nil)
		if reason != "" {
			e := r.policy.explain(ask)
			a.rule, a.remedy = e.Rule, e.Remedy
		}
		return reason
	})
	a.permit = *s.permit(r, verb, object, reason)
	if structure(verb, object) == "" { // what is not a name may be large
		q.object = strings.Clone(object)
		s.answers.Add(q, a)
	}
	return a
}

// safely refuses where a check fails.
func (s *Subject) safely(check func() plugbus.Reason) (reason plugbus.Reason) {
	defer func() {
		if recover() != nil {
			reason = plugbus.ReasonCheckFailed
		}
	}()
	return check()
}

// permit makes the permit that goes with a reason.
func (s *Subject) permit(r rules, verb plugbus.Verb, object string, reason plugbus.Reason) *plugbus.Permit {
	p := &plugbus.Permit{Version: r.version, Reason: reason}
	g := r.policy.lookup(s.account.id)
	if g == nil || reason != "" {
		return p
	}
	p.Acts, p.Bytes = s.meters(g, verb)
	p.Payload = g.payload(object)
	p.Priority = g.Priority
	if verb == plugbus.VerbSend {
		to := r.policy.lookup(object)
		p.Inline = to != nil && g.Inline(to.Grant)
	}
	return p
}

// meters returns what meters a verb, nil where there is no limit.
func (s *Subject) meters(g *grant, verb plugbus.Verb) (acts, bytes plugbus.Meter) {
	use := useOf(verb)
	if r := g.rates[use.op]; use.metered && r != nil {
		acts = s.account.meter(use.op, *r)
	}
	if r := g.rates[Bytes]; use.carries && r != nil {
		bytes = s.account.meter(Bytes, *r)
	}
	return acts, bytes
}

// payload returns the rules for payloads under a name.
func (g *grant) payload(object string) plugbus.PayloadRules {
	rules := plugbus.PayloadRules{
		MaxBytes: g.Limits.MessageBytes, MaxNodes: g.Limits.PayloadNodes, MaxDepth: g.Limits.PayloadDepth,
		Content: g.checks,
		Shared:  match(g.shared, object) != nil,
	}
	if match(g.except, object) != nil {
		rules.Content = 0
	}
	return rules
}

// Knows reports whether the plugin may learn that another exists: it is itself,
// or its send right names the other, or it may discover a capability of it. The
// host knows all.
func (s *Subject) Knows(id string) bool {
	p := s.authority.Policy()
	if p.knows(s.account.id, id) {
		return true
	}
	if s.authority.options.Provides == nil || p.lookup(s.account.id) == nil {
		return false
	}
	may := false
	s.safely(func() plugbus.Reason {
		for _, capability := range s.authority.options.Provides(id) {
			may = may || p.discovers(s.account.id, capability)
		}
		return ""
	})
	return may
}
