package main

import (
	"context"
	"fmt"
)

// forgery has the guest speak in the name of the reader.
func (t *tour) forgery(ctx context.Context) error {
	t.say(`A guest joins, whom nobody trusts: policy.json lets it emit "guest.*", 25 times
an hour, and little else. It emits a note, with the reader's name as the source,
and changes the note when that has passed the door. The host listens, and gets:
`)
	t.guest = &guest{}
	if err := t.hub.Register(ctx, t.guest); err != nil {
		return err
	}
	if err := t.guest.forge(ctx); err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil {
		return err
	}
	notes := t.noted("guest.note")
	if len(notes) != 1 {
		t.check(false, "1 note arrived, not %d", len(notes))
		return nil
	}
	note := notes[0]
	data, _ := note.Data().(map[string]any)
	t.table(
		[]string{"where", "says"},
		[]string{`Data()["source"]`, fmt.Sprint(data["source"])},
		[]string{`Header("source")`, note.Header("source")},
		[]string{"Source()", note.Source()},
		[]string{`Data()["text"]`, fmt.Sprint(data["text"])},
	)
	t.check(note.Source() == "guest", "whatever it says of itself, it comes from %q: the session stamps the source", note.Source())
	t.check(data["text"] == "no harm meant", "what was checked is what arrived: the hub keeps a copy of its own")
	return nil
}
