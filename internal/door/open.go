package door

import "github.com/plugbus/plugbus"

// Open returns the guard of a plugin that has none. It allows everything, and
// records nothing.
func Open(id string) plugbus.Guard { return openGuard(id) }

type openGuard string

var openPermit = &plugbus.Permit{Payload: plugbus.PayloadRules{Shared: true}, Priority: plugbus.PriorityHigh}

func (openGuard) Version() uint64 { return 0 }

func (openGuard) Permit(plugbus.Verb, string) *plugbus.Permit { return openPermit }

func (openGuard) PermitVia(plugbus.Chain, plugbus.Verb, string) *plugbus.Permit { return openPermit }

func (openGuard) PermitPattern(plugbus.Verb, string, bool) *plugbus.Permit { return openPermit }

func (openGuard) PermitAt(uint64, plugbus.Verb, string) *plugbus.Permit { return openPermit }

func (openGuard) Knows(string) bool { return true }

func (g openGuard) Refuse(r plugbus.Refusal) error {
	return &plugbus.DeniedError{
		Plugin: string(g), Verb: r.Verb, Object: plugbus.CutText(r.Object), Reason: r.Reason,
		RetryAfter: r.RetryAfter, Hint: r.Hint, Chain: r.Chain, Cause: r.Cause,
	}
}
