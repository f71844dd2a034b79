package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// urgency has an urgent message overtake those that wait.
func (t *tour) urgency(ctx context.Context) error {
	t.say(`A printer is warming up when the student posts three letters to it, and then a
warning of high priority. All four wait in the mailbox of the printer.
`)
	warm := sync.OnceFunc(func() { close(t.printer.warm) })
	defer warm()
	post := func(typ string, data any, options ...router.SendOption) error {
		return t.student.hub.Post(ctx, "printer", typ, data, options...)
	}
	if err := post("print.warm-up", nil); err != nil {
		return err
	}
	select {
	case <-t.printer.warming:
	case <-ctx.Done():
		return ctx.Err()
	}
	for n := range 3 {
		if err := post("print.text", fmt.Sprintf("letter %d", n+1)); err != nil {
			return err
		}
	}
	posting := post("print.text", "warning", router.Priority(plugbus.PriorityHigh))
	warm()
	printed, err := t.printed(ctx)
	if err != nil {
		return err
	}
	t.check(slices.Equal(printed, []string{"warning", "letter 1", "letter 2", "letter 3"}),
		"the warning overtook the letters, which stayed in their order: %s%s", strings.Join(printed, ", "), but(posting))
	t.say("\nThe guest may print, and thinks that it is urgent too:")
	attempt := t.guest.hurry()
	t.expectRefusal(attempt, attempt.do(ctx))
	return nil
}

// printed returns what the printer has printed since it was asked last, when it
// has printed everything.
func (t *tour) printed(ctx context.Context) ([]string, error) {
	if err := t.hub.Idle(ctx); err != nil {
		return nil, err
	}
	return router.Send[[]string](ctx, t.hub.Host(), "printer", "print.list", nil)
}
