package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/plugbus/plugbus/store"
)

// sharing has plugins change what they share at the same time.
func (t *tour) sharing(ctx context.Context) error {
	t.say(`The printer keeps its paper in a store, and lets the student write to it. One sheet
is left in the tray. The student has seen it, and goes to take it; meanwhile the
printer prints on it. The student gets:
`)
	host, err := t.paper(ctx)
	if err != nil {
		return err
	}
	if _, err := host.Set(ctx, "tray", 1); err != nil {
		return err
	}
	view, err := t.student.hub.OpenStore(ctx, "paper")
	if err != nil {
		return err
	}
	paper := store.Typed[int](view)
	sheets, seen, err := paper.Get(ctx, "tray")
	if err != nil {
		return err
	}
	if _, err := t.student.hub.Send(ctx, "printer", "print.text", "Dear Bob"); err != nil {
		return err
	}
	_, err = paper.Update(ctx, "tray", sheets-1, seen.Revision())
	t.quote(fmt.Sprint(err))
	t.say("")
	conflict, ok := errors.AsType[*store.ConflictError](err)
	t.check(ok && conflict.Key == "tray" && conflict.Expected == seen.Revision(), "nobody takes a sheet that is gone: who writes says which revision he has read")

	const few, tooMany = 20, 1000
	t.say("\nThe student carries %d sheets from the shelf into the tray, in one transaction, and\nthen %s, which are not there. It gets:\n", few, figure(tooMany))
	err = t.student.carry(ctx, paper, few)
	tooFar := t.student.carry(ctx, paper, tooMany)
	t.quote(fmt.Sprint(tooFar))
	t.say("")
	tray, _, trayErr := host.Get(ctx, "tray")
	shelf, _, shelfErr := host.Get(ctx, "shelf")
	t.check(tray == few && shelf == 500-few, "the first was done, and the second not even by half: %d on the shelf, %d in the tray%s",
		shelf, tray, but(errors.Join(err, trayErr, shelfErr)))
	t.check(errors.Is(tooFar, store.ErrRejected), "the schema of the store has rejected that")

	t.say("\nThe guest may see how much paper there is, and helps itself:")
	attempt := t.guest.help()
	t.expectRefusal(attempt, attempt.do(ctx))
	return nil
}

// paper returns the host's view of the paper. The lists of a store do not bind the
// host.
func (t *tour) paper(ctx context.Context) (store.TypedView[int], error) {
	view, err := t.hub.Host().OpenStore(ctx, "paper")
	return store.Typed[int](view), err
}
