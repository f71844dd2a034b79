package main

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
)

// memory searches the audit log.
func (t *tour) memory(context.Context) error {
	t.say("The host asks what the guest was refused. Repeats share a record:\n")
	found, err := t.hub.Audit().Search(audit.Query{Actor: "guest", Outcome: plugbus.Refused, Order: audit.OldestFirst})
	if err != nil {
		return err
	}
	rows := [][]string{{"record", "what", "target", "reason", "times"}}
	times, reasons := uint64(0), map[uint64]plugbus.Reason{}
	for _, e := range found.Entries {
		times += e.Count
		reasons[e.Seq] = e.Reason
		rows = append(rows, []string{fmt.Sprint(e.Seq), e.Event, e.Target, string(e.Reason), figure(e.Count)})
	}
	t.table(rows...)
	alike := 0
	for _, refusal := range t.refusals {
		if reasons[refusal.Record] == refusal.Reason {
			alike++
		}
	}
	t.check(times == uint64(len(t.refusals)), "%s refusals are on record; the guest got %s", figure(times), figure(len(t.refusals)))
	t.check(alike == len(t.refusals), "each of its errors names its record")
	return nil
}
