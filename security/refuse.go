package security

import (
	"fmt"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
)

// Refuse records a refusal in one audit entry, counts it, and returns the
// *plugbus.DeniedError that the plugin gets. The entry has the rule and the
// remedy; the error has them only if Options.ExplainToPlugins is set. Without
// it, a refused message to a plugin that this one may not know of gives the
// same error whether or not that plugin exists.
func (s *Subject) Refuse(r plugbus.Refusal) error {
	now := s.authority.clock.Now()
	if r.Reason == "" {
		r.Reason = plugbus.ReasonCheckFailed
	}
	r.Object = plugbus.CutText(r.Object)
	r.Cause = cutCause(r.Cause)
	rules := s.authority.state.Load().rules
	g := rules.policy.lookup(s.account.id)
	use := useOf(r.Verb)
	s.account.refused(g, use.op, use.metered && !metered(r.Reason), now)

	why := s.why(rules, g, r)
	why.rule, why.remedy = both(why.rule, r.Rule), both(why.remedy, r.Remedy)
	e := &plugbus.DeniedError{
		Plugin: s.account.id, Verb: r.Verb, Object: r.Object, Reason: r.Reason,
		RetryAfter: max(r.RetryAfter, 0), Hint: plugbus.CutText(r.Hint), Chain: r.Chain, Cause: r.Cause,
	}
	e.Record = s.authority.record(entryOf(e, rules.version, why))
	switch {
	case s.authority.options.ExplainToPlugins:
		e.Explanation = why.rule
		if why.remedy != "" {
			e.Explanation += "; to allow it: " + why.remedy
		}
	case ofPlugins(r.Verb) && r.Reason != plugbus.ReasonInvalidName && !s.Knows(r.Object):
		e.Reason = plugbus.ReasonNoSendPermission
		if r.Verb == plugbus.VerbReceive {
			e.Reason = plugbus.ReasonRecipientCannotReceive
		}
		e.RetryAfter, e.Hint, e.Cause = 0, "", nil
	}
	return e
}

// both joins what the policy says to what the mechanism says.
func both(policy, mechanism string) string {
	if policy == "" || mechanism == "" {
		return policy + plugbus.CutText(mechanism)
	}
	return policy + "; and " + plugbus.CutText(mechanism)
}

// entryOf returns the audit entry of a refusal.
func entryOf(e *plugbus.DeniedError, version uint64, why answer) audit.Entry {
	entry := audit.Entry{
		Event: "act.refused", Actor: e.Plugin, Target: e.Object, Verb: e.Verb,
		Outcome: plugbus.Refused, Reason: e.Reason,
	}
	if known(e.Verb) {
		entry.Event = e.Verb.String() + ".refused"
	} else {
		entry.Verb = 0
	}
	add := func(key, value string) {
		if value != "" {
			entry.Details = append(entry.Details, audit.Detail{Key: key, Value: value})
		}
	}
	add("rule", why.rule)
	add("remedy", why.remedy)
	add("version", fmt.Sprint(version))
	if e.Cause != nil {
		add("cause", e.Cause.Error())
	}
	if e.RetryAfter > 0 {
		add("retry_after", e.RetryAfter.Round(time.Millisecond).String())
	}
	add("hint", e.Hint)
	add("chain", e.Chain.String())
	return entry
}

// why returns the rule and the remedy of a refusal, as far as the policy has
// to do with it.
func (s *Subject) why(r rules, g *grant, refusal plugbus.Refusal) answer {
	for _, least := range []plugbus.Trust{plugbus.Verified, r.policy.least(refusal.Chain)} {
		if found := s.answer(r, refusal.Verb, refusal.Object, least); found.permit.Reason == refusal.Reason {
			return *found
		}
	}
	if g == nil || g.all {
		return answer{}
	}
	if found := r.policy.decidePattern(s.account.id, refusal.Verb, refusal.Object, false); found.reason == refusal.Reason {
		return answer{rule: found.rule, remedy: found.fix.text(r.policy)}
	}
	path := join("plugins", s.account.id)
	op := useOf(refusal.Verb).op
	switch refusal.Reason {
	case plugbus.ReasonRateLimitExceeded:
		return answer{rule: rateText(op, g.rates[op]), remedy: fmt.Sprintf("raise %s.rates.%v", path, op)}
	case plugbus.ReasonByteRateExceeded:
		return answer{rule: rateText(Bytes, g.rates[Bytes]), remedy: fmt.Sprintf("raise %s.rates.%v", path, Bytes)}
	case plugbus.ReasonTooLarge:
		return answer{
			rule:   fmt.Sprintf("payloads: %d bytes, %d values, %d levels", g.Limits.MessageBytes, g.Limits.PayloadNodes, g.Limits.PayloadDepth),
			remedy: fmt.Sprintf("raise messageBytes, payloadNodes or payloadDepth of %s.limits", path),
		}
	case plugbus.ReasonInvalidContent:
		return answer{rule: "the content checks of " + path, remedy: fmt.Sprintf("add %q to %s.content.except", refusal.Object, path)}
	case plugbus.ReasonPriorityNotGranted:
		return answer{rule: fmt.Sprintf("%s.priority is %q", path, g.Priority), remedy: fmt.Sprintf("set %s.priority to \"high\"", path)}
	case plugbus.ReasonSharedNotGranted:
		return answer{rule: "nothing in " + path + ".shared matches", remedy: fmt.Sprintf("add %q to %s.shared", refusal.Object, path)}
	}
	return answer{}
}

// metered reports whether an act with this reason was counted by its meter
// before it was refused: the meter is asked before the payload is looked at.
func metered(r plugbus.Reason) bool {
	return slices.Contains([]plugbus.Reason{
		plugbus.ReasonRateLimitExceeded, plugbus.ReasonByteRateExceeded, plugbus.ReasonInvalidContent,
		plugbus.ReasonInvalidPayload, plugbus.ReasonTooLarge, plugbus.ReasonSharedNotGranted, plugbus.ReasonRejected,
	}, r)
}

// A cutError is an error of others, with its text as it once was: to ask for
// it again may give another, or a panic.
type cutError struct {
	text string
	err  error
}

func (e *cutError) Error() string { return e.text }
func (e *cutError) Unwrap() error { return e.err }

// cutCause bounds the text of a cause, which may be another's error.
func cutCause(err error) (cut error) {
	if err == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			cut = &cutError{text: fmt.Sprintf("an error of type %T whose text cannot be had", err)}
		}
	}()
	return &cutError{plugbus.CutText(err.Error()), err}
}
