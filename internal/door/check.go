package door

import (
	"errors"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/payload"
	"github.com/plugbus/plugbus/internal/topic"
)

// An Act is what a plugin wants to do.
type Act struct {
	Plugin string // who acts
	Verb   plugbus.Verb
	Object string          // as the plugin gave it
	Permit *plugbus.Permit // for Verb and Object, from [Sound]
	Cause  plugbus.Chain   // what led to the act, without Plugin

	// MaxDepth bounds how many plugins Cause may have: fewer than that.
	MaxDepth int
}

// A Parcel is what an act hands in, all of which the payload rules of the permit
// bound and inspect. [Check] replaces it by private copies.
type Parcel struct {
	Data    any               // afterwards as payload.Freeze returns it
	Headers map[string]string // nil if there are none
	Texts   [2]string         // what else the plugin says, such as a correlation id

	// Size is what all of it takes, in bytes. Check sets it.
	Size int
}

// Check returns the refusal of an act, or nil if it is admitted at the time now.
// After a refusal, the parcel is of no use. It is nil for an act that hands nothing in.
func Check(c *clock.Clock, a *Act, p *Parcel) (now time.Time, refusal *plugbus.Refusal) {
	if a.Permit.Reason != "" {
		return now, a.unfit()
	}
	if a.Cause.Depth() >= a.MaxDepth {
		return now, a.tooDeep()
	}
	now = c.Now()
	if acts := a.Permit.Acts; acts != nil {
		if wait := acts.Take(now, 1); wait != 0 {
			return now, a.over(plugbus.ReasonRateLimitExceeded, wait)
		}
	}
	if p == nil {
		return now, nil
	}
	if err := p.freeze(&a.Permit.Payload); err != nil {
		return now, a.unsendable(err)
	}
	if bytes := a.Permit.Bytes; bytes != nil {
		if wait := bytes.Take(now, p.Size); wait != 0 {
			return now, a.over(plugbus.ReasonByteRateExceeded, wait)
		}
	}
	return now, nil
}

// Sound returns the permit that a guard gave for verb and object, or one that
// refuses if the object is no name: no guard can let that in.
func Sound(permit *plugbus.Permit, verb plugbus.Verb, object string) *plugbus.Permit {
	if structure(verb, object) != nil {
		return &plugbus.Permit{Version: permit.Version, Reason: plugbus.ReasonInvalidName}
	}
	return permit
}

// structure returns what is wrong with the name of an object, if anything.
func structure(verb plugbus.Verb, object string) error {
	switch verb { //nolint:exhaustive // The objects of all other verbs are names.
	case plugbus.VerbSend, plugbus.VerbReceive:
		return topic.CheckID(object)
	}
	return topic.CheckName(object)
}

// freeze replaces the parcel by its copy, and measures it.
func (p *Parcel) freeze(rules *plugbus.PayloadRules) (err error) {
	p.Data, p.Size, err = payload.Freeze(p.Data, rules)
	if err == nil && (p.Headers != nil || len(p.Texts[0])+len(p.Texts[1]) > 0) {
		err = p.freezeRest(rules)
	}
	return err
}

// freezeRest is apart from freeze because most acts hand in nothing but data.
func (p *Parcel) freezeRest(rules *plugbus.PayloadRules) error {
	if p.Headers != nil {
		headers, size, err := payload.Freeze(p.Headers, rules)
		if err != nil {
			return err
		}
		p.Headers, _ = payload.Thaw(headers).(map[string]string)
		p.Size += size
	}
	for _, text := range p.Texts {
		_, size, err := payload.Freeze(text, rules)
		if err != nil {
			return err
		}
		p.Size += size
	}
	return nil
}

// refusal returns the refusal of the act for a reason.
func (a *Act) refusal(reason plugbus.Reason) *plugbus.Refusal {
	return &plugbus.Refusal{Verb: a.Verb, Object: a.Object, Reason: reason, Chain: a.Cause}
}

// unfit refuses for the structure of the name, or else for the lack of a right.
func (a *Act) unfit() *plugbus.Refusal {
	if err := structure(a.Verb, a.Object); err != nil {
		r := a.refusal(plugbus.ReasonInvalidName)
		r.Cause = err
		return r
	}
	return a.refusal(a.Permit.Reason)
}

func (a *Act) tooDeep() *plugbus.Refusal {
	r := a.refusal(plugbus.ReasonChainTooDeep)
	r.Hint = "plugins answer each other in a circle: " + a.Cause.Then(a.Plugin).String()
	return r
}

// over refuses for a meter, which says how long to wait.
func (a *Act) over(reason plugbus.Reason, wait time.Duration) *plugbus.Refusal {
	r := a.refusal(reason)
	r.RetryAfter = max(wait, 0)
	return r
}

func (a *Act) unsendable(err error) *plugbus.Refusal {
	r := a.refusal(plugbus.ReasonCheckFailed)
	if bad, ok := errors.AsType[*payload.Error](err); ok {
		r.Reason = bad.Reason
	}
	r.Cause = err
	return r
}
