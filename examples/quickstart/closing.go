package main

import (
	"context"
	"errors"

	"github.com/plugbus/plugbus"
)

// closing closes the hub.
func (t *tour) closing(ctx context.Context) error {
	t.say("Nothing new is let in, what waits is handled, and the plugins stop in the\nreverse order of their start.\n")
	report, err := t.hub.Close(ctx)
	if err != nil {
		return err
	}
	t.check(report.Clean(), "everything was handled: %d cancelled, %d abandoned, %d problems", report.Cancelled, report.Abandoned, len(report.Problems))
	t.check(len(t.hub.Leaks()) == 0, "nothing is left running: %d leaks", len(t.hub.Leaks()))
	t.check(report.Ledger.Check() == nil, "the ledger balances to the end")
	_, err = t.guest.hub.Emit(ctx, "guest.note", "still here?")
	t.check(errors.Is(err, plugbus.ErrClosed), "the guest has kept its session, and gets: %v", err)
	return nil
}
