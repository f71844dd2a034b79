package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/plugbus/plugbus"
)

// refused has the guest try what it may not do.
func (t *tour) refused(ctx context.Context) error {
	t.say(`The guest tries what it may not do. It gets an error with the reason and the
number of a record in the audit log. The host alone learns which rule decided,
and what would allow it.`)
	for _, attempt := range t.guest.attempts() {
		t.say("\nIt tries to %s:", attempt.to)
		t.expectRefusal(attempt, attempt.do(ctx))
	}
	return nil
}

// expectRefusal checks that err refuses the attempt, and shows it with the host's
// explanation.
func (t *tour) expectRefusal(a attempt, err error) {
	if err == nil {
		t.check(false, "the guest could %s; expected %s", a.to, a.reason)
		return
	}
	denied, ok := errors.AsType[*plugbus.DeniedError](err)
	if !ok {
		t.check(false, "expected %s, got: %v", a.reason, err)
		return
	}
	t.check(denied.Plugin == "guest" && denied.Reason == a.reason, "%v", err)
	t.quote(t.explain(denied))
	t.refusals = append(t.refusals, denied)
}

// explain returns why something was refused, in the words of the host. Where the
// name is not what decided, but the rate or the payload, the audit log has the
// rule.
func (t *tour) explain(denied *plugbus.DeniedError) string {
	if e := t.hub.Explain(denied.Plugin, denied.Verb, denied.Object); e.Reason == denied.Reason {
		return e.String()
	}
	entry, ok := t.hub.Audit().Get(denied.Record)
	if !ok {
		return "the audit log has no such record"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "audit record %d", entry.Seq)
	for _, part := range []struct{ key, title string }{{"rule", "the rule"}, {"remedy", "to allow it"}} {
		if detail := entry.Detail(part.key); detail != "" {
			fmt.Fprintf(&text, "\n  %s: %s", part.title, detail)
		}
	}
	return text.String()
}
