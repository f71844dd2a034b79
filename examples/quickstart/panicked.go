package main

import (
	"context"

	"github.com/plugbus/plugbus/audit"
)

// panicked shows what happened in the first chapter.
func (t *tour) panicked(context.Context) error {
	t.say(`It has happened already, in chapter 1: a plugin of little skill panicked over its
first file. The audit log says:
`)
	found, err := t.hub.Audit().Search(audit.Query{Event: "delivery.failed"})
	if err != nil {
		return err
	}
	for _, entry := range found.Entries {
		t.quote(entry.Actor + " over " + entry.Target + ": " + entry.Detail("error"))
	}
	t.say("")
	all := uint64(len(t.in.files))
	_, clumsy := t.plugin("clumsy")
	_, counter := t.plugin("counter")
	t.check(len(found.Entries) == 1 && found.Entries[0].Actor == "clumsy" && found.Entries[0].Count == 1, "that is the only failure on record")
	t.check(clumsy.Failed == 1 && clumsy.Handled == all-1, "it went on: %s files handled, %s failed", figure(clumsy.Handled), figure(clumsy.Failed))
	t.check(counter.Failed == 0 && counter.Handled == all+1, "the counter missed nothing: %s handled, which are the files and their end", figure(counter.Handled))
	return nil
}
