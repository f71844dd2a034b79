package main

import (
	"context"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// resting has a plugin fail so often that it is put in quarantine, where the hub probes
// it, and restores it when it is well.
func (t *tour) resting(ctx context.Context) error {
	t.say(`A juggler joins, to whom the host throws balls. It drops them, and more than %d
failures a minute are too many: the hub puts it in quarantine, asks it from time to
time how it is, and restores it when it is well. The audit log says:
`, budget)
	restored := make(chan hub.Notice, 1)
	listening, err := events.Subscribe(t.hub.Host(), hub.EventRestored, func(_ context.Context, n hub.Notice, _ events.Event) error {
		return pass(restored, n)
	})
	if err != nil {
		return err
	}
	if err := t.hub.Register(ctx, &juggler{}); err != nil {
		return err
	}
	for range budget + 1 {
		if err := t.ask(ctx, "ball.thrown"); err != nil {
			return err
		}
	}
	select {
	case <-restored:
	case <-ctx.Done():
		return ctx.Err()
	}
	listening.Unsubscribe()
	found, err := t.hub.Audit().Search(audit.Query{Event: "plugin.*", Target: "juggler", Order: audit.OldestFirst})
	if err != nil {
		return err
	}
	probes := 0
	rows := [][]string{{"what", "by", "says"}}
	for _, e := range found.Entries {
		says := e.Detail("result")
		if e.Event == "plugin.probed" {
			probes++
		} else {
			says = e.Detail("why")
		}
		rows = append(rows, []string{e.Event, e.Actor, says})
	}
	t.table(rows...)
	info, fared := t.plugin("juggler")
	t.check(info.Quarantine.Times == 1 && fared.Failed == budget+1, "it was in quarantine once, after %s failures", figure(fared.Failed))
	t.check(probes == 2 && info.State == hub.Ready, "the first probe did not find it well, and the second did: it is %v", info.State)
	t.check(!info.Quarantine.Probation.IsZero(), "it is on probation: in the next minute one failure is enough")

	t.say("\nThe host may do so itself, and then there are no probes:\n")
	if err := t.hub.Quarantine("juggler", "the audience wants quiet"); err != nil {
		return err
	}
	t.say("%v\n", t.hub.Explain("juggler", plugbus.VerbSubscribe, "ball.thrown"))
	if err := t.ask(ctx, "ball.thrown"); err != nil {
		return err
	}
	if err := t.hub.Restore("juggler"); err != nil {
		return err
	}
	if err := t.ask(ctx, "ball.thrown"); err != nil {
		return err
	}
	_, fared = t.plugin("juggler")
	t.check(fared.Undeliverable == 1 && fared.Handled == 1, "the ball of meanwhile was not delivered, and is counted; the next it caught")
	return nil
}
