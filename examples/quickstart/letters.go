package main

import (
	"context"
	"fmt"
	"slices"
)

// letters has a message fail, and the host send it again.
func (t *tour) letters(ctx context.Context) error {
	t.say(`The host takes the paper out of the tray, and the student posts a letter to the
printer. Nobody waits for the handler of a post, so the host keeps what was not
handled:
`)
	paper, err := t.paper(ctx)
	if err != nil {
		return err
	}
	if _, err := paper.Set(ctx, "tray", 0); err != nil {
		return err
	}
	if err := t.student.hub.Post(ctx, "printer", "print.text", "Dear Ada"); err != nil {
		return err
	}
	if _, err := t.printed(ctx); err != nil {
		return err
	}
	dead := t.hub.DeadLetters()
	rows := [][]string{{"letter", "from", "to", "type", "outcome", "because"}}
	for _, l := range dead {
		rows = append(rows, []string{fmt.Sprint(l.Number), l.From(), l.To(), l.Type(), l.Outcome.String(), l.Reason})
	}
	t.table(rows...)
	if len(dead) != 1 {
		t.check(false, "1 letter is dead, not %d", len(dead))
		return nil
	}
	t.check(dead[0].From() == "student" && dead[0].Data() == "Dear Ada", "it is the student's letter: %q", dead[0].Data())
	if _, err := paper.Set(ctx, "tray", 20); err != nil {
		return err
	}
	if err := t.hub.Resend(ctx, dead[0].Number); err != nil {
		return err
	}
	printed, err := t.printed(ctx)
	if err != nil {
		return err
	}
	t.check(slices.Equal(printed, []string{"Dear Ada"}), "the host puts paper in and sends it again, and it is printed: %q", printed)
	t.check(len(t.hub.DeadLetters()) == 0, "%d letters are dead", len(t.hub.DeadLetters()))
	return nil
}
