package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/security"
)

// flood has the guest emit what it may, and much too much of it.
func (t *tour) flood(ctx context.Context) error {
	const pings = 100
	t.say("The guest emits %d pings, as fast as it can. The first of them pass, and then it\ngets:\n", pings)
	refusals := t.guest.flood(ctx, pings)
	if err := t.hub.Idle(ctx); err != nil {
		return err
	}
	tooMany := attempt{to: fmt.Sprintf("emit %d pings", pings), reason: plugbus.ReasonRateLimitExceeded}
	if len(refusals) == 0 {
		t.expectRefusal(tooMany, nil)
		return nil
	}
	t.expectRefusal(tooMany, refusals[0])
	t.say("")
	alike := 1
	for _, err := range refusals[1:] {
		if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok && denied.Reason == tooMany.reason {
			t.refusals = append(t.refusals, denied)
			alike++
		}
	}
	arrived := len(t.noted("guest.ping"))
	t.check(alike == len(refusals) && arrived+alike == pings, "%d pings are %d that arrived and %d that were refused so", pings, arrived, alike)
	used := t.rate()
	t.check(used.Rate.Limit > 0 && used.Admitted <= uint64(used.Rate.Burst), "with its notes, the guest has had %d acts; it may have %v", used.Admitted, used.Rate)
	return t.alerted()
}

// alerted checks that the host has heard of the flood.
func (t *tour) alerted() error {
	found, err := t.hub.Audit().Search(audit.Query{Event: "alert.high_event_rate", Actor: "guest", Limit: 1})
	if err != nil {
		return err
	}
	if len(found.Entries) == 0 {
		t.check(false, "the host was alerted")
		return nil
	}
	last := found.Entries[0]
	t.check(true, "the host was alerted: %s, severity %s, %s events within a minute", last.Event, last.Detail("severity"), last.Detail("count"))
	return nil
}

// rate returns how often the guest has emitted, and how often it may.
func (t *tour) rate() security.OperationUsage {
	usage, _ := t.hub.Security().Usage("guest")
	for _, used := range usage.Operations {
		if used.Operation == security.Events {
			return used
		}
	}
	return security.OperationUsage{}
}
