package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// finding has the student find somebody who can search, and call that.
func (t *tour) finding(ctx context.Context) error {
	t.say(`Two plugins join that can search; both provide the capability "text.search". A
student joins, which requires it. It asks who matches: a version of 2.0 or later,
and rather at a cost of no more than 5. The answer has the score by its parts,
or why a plugin is left out:
`)
	t.student = &student{}
	t.printer = &printer{warming: make(chan struct{}, 1), warm: make(chan struct{}), mended: make(chan struct{})}
	err := t.hub.Register(ctx, t.student, t.printer,
		&searcher{id: "veteran", version: "1.9.0", cost: 1}, &searcher{id: "searcher", version: "2.1.0", cost: 3})
	if err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil { // Until both have read the history.
		return err
	}
	if err := t.candidates(); err != nil {
		return err
	}
	hits, err := t.student.search(ctx, t.word.Text)
	t.check(err == nil && hits.Times == t.word.Count, "it calls the capability, and hears that %q is there %s times, in %s files; so says the counter%s",
		t.word.Text, figure(hits.Times), figure(hits.Files), but(err))
	t.check(t.served("searcher") == 1 && t.served("veteran") == 0, "the call went to the searcher, whom it did not name")
	_, err = t.student.search(ctx, "")
	invalid, ok := errors.AsType[*plugbus.RemoteError](err)
	t.check(ok && invalid.Code == plugbus.CodeInvalid, "a request outside of the schema never reaches the handler:")
	t.quote(fmt.Sprint(err))
	t.say("\nThe guest tries to call it too:")
	call := t.guest.call()
	t.expectRefusal(call, call.do(ctx))
	return nil
}

// candidates shows what the student is told of those who might search.
func (t *tour) candidates() error {
	found, err := t.student.candidates()
	if err != nil {
		return err
	}
	rows := [][]string{{"plugin", "required", "version", "cost", "score", "left out, because"}}
	left := map[string]string{}
	for _, c := range found {
		left[c.Plugin] = strings.Join(c.Excluded, "; ")
		rows = append(rows, []string{
			c.Plugin, fmt.Sprint(c.Parts.Required), fmt.Sprint(c.Parts.Version), fmt.Sprint(c.Parts.Cost),
			fmt.Sprint(c.Score), left[c.Plugin],
		})
	}
	t.table(rows...)
	t.check(len(found) > 0 && found[0].Parts == discovery.Points{Required: 50, Version: 20, Cost: 10} && found[0].Score == 80, "the score is the sum of its parts: what was required, the version, and the cost")
	t.check(len(found) == 2 && found[0].Plugin == "searcher" && left["searcher"] == "" && strings.Contains(left["veteran"], "1.9.0"),
		"the searcher matches, and the veteran does not: its version is too old")
	return nil
}

// served returns how many messages a plugin has handled.
func (t *tour) served(id string) uint64 {
	info, _ := t.plugin(id)
	return info.Mailbox.Ledger.Handled
}

// but returns what to add to a claim where there was an error.
func but(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("; but: %v", err)
}
