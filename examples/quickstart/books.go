package main

import (
	"context"

	"github.com/plugbus/plugbus"
)

// books shows the ledger.
func (t *tour) books(context.Context) error {
	t.say("Every event ends in exactly one outcome for each to whom it was offered:\n")
	snapshot := t.hub.Inspect()
	rows := [][]string{{"plugin", "trust", "state", "emitted", "refused", "handled", "failed"}}
	for _, p := range snapshot.Plugins {
		d := p.Ledger()
		rows = append(rows, []string{
			p.ID, p.Trust.String(), p.State.String(),
			figure(p.Emitted), figure(p.Refused), figure(d.Handled), figure(d.Failed),
		})
	}
	t.table(rows...)
	ledger := snapshot.Ledger
	t.say("%v\n", ledger)
	t.check(ledger.Check() == nil, "the ledger balances")
	t.check(ledger.Waiting+ledger.Running == 0, "nothing waits and nothing runs")
	t.check(ledger.Failed == 1, "the panic is the only failure: failed %s", figure(ledger.Failed))
	emits := 0
	for _, refusal := range t.refusals {
		if refusal.Verb == plugbus.VerbEmit {
			emits++
		}
	}
	t.check(ledger.Refused == uint64(emits), "the %s refused are the %s errors that the guest's emits returned", figure(ledger.Refused), figure(emits))
	return nil
}
