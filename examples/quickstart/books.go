package main

import (
	"context"

	"github.com/plugbus/plugbus"
)

// books shows the ledger.
func (t *tour) books(context.Context) error {
	t.say("Every event and every message ends in exactly one outcome for each to whom it was\noffered:\n")
	snapshot := t.hub.Inspect()
	rows := [][]string{{"plugin", "trust", "state", "emitted", "sent", "refused", "handled", "failed", "abandoned"}}
	for _, p := range snapshot.Plugins {
		d := p.Ledger()
		rows = append(rows, []string{
			p.ID, p.Trust.String(), p.State.String(),
			figure(p.Emitted), figure(p.Sent), figure(p.Refused), figure(d.Handled), figure(d.Failed), figure(d.Abandoned),
		})
	}
	t.table(rows...)
	ledger := snapshot.Ledger
	t.say("%v\n", ledger)
	t.check(ledger.Check() == nil, "the ledger balances")
	t.check(ledger.Waiting+ledger.Running == 0, "nothing waits and nothing runs")
	t.check(ledger.Failed == 5+budget+1, "%s failed: the panic, the request outside of the schema, two in the circle, the letter without paper, and the balls", figure(ledger.Failed))
	t.check(ledger.Abandoned == 1, "%s was abandoned: the jam", figure(ledger.Abandoned))
	guests := 0
	for _, refusal := range t.refusals {
		if refusal.Verb == plugbus.VerbEmit || refusal.Verb == plugbus.VerbSend {
			guests++
		}
	}
	t.check(ledger.Refused == uint64(guests+t.otherRefusals), "%s were refused: the %s events and messages of the guest for which it got errors, and %s of others, which the student heard of",
		figure(ledger.Refused), figure(guests), figure(t.otherRefusals))
	return nil
}
