package main

import (
	"context"
	"fmt"
	"time"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A Note is what the store has under the keys "note/RUN/NUMBER", with leading zeros,
// so that the keys are in the order of the notes.
type Note struct {
	Run    int    `json:"run"`
	Number int    `json:"number"` // in the run
	Text   string `json:"text"`
}

// A writer owns the notes. Its handlers run one at a time, so it needs no lock.
type writer struct {
	notes        store.TypedView[Note]
	run, written int
}

func (w *writer) Manifest() hub.Manifest { return hub.Manifest{ID: "writer", Version: "1.0.0"} }

// Start makes the store in the first run, and finds it again in every other. It
// counts the runs in it too: nobody else gets the same number.
func (w *writer) Start(ctx context.Context, hub *hub.Session) error {
	view, err := hub.EnsureStore(ctx, "notes", store.Config{
		Persistent: true,
		Read:       []string{"reader"},  // Where the policy lets it, too.
		TTL:        30 * 24 * time.Hour, // So that the folder does not grow for ever.
	})
	if err != nil {
		return err
	}
	w.notes = store.Typed[Note](view)
	_, err = store.Typed[int](view).Modify(ctx, "runs", func(before int) (int, error) {
		w.run = before + 1
		return w.run, nil
	}, store.TTL(0)) // The count of the runs stays.
	if err != nil {
		return err
	}
	_, err = router.Handle(hub, "note.write", w.write)
	return err
}

// write writes a note. When it returns the key, the note is on disk.
func (w *writer) write(ctx context.Context, text string) (key string, err error) {
	note := Note{w.run, w.written + 1, text}
	if text == "" {
		note.Text = fmt.Sprintf("This is note %d of run %d.", note.Number, note.Run)
	}
	key = fmt.Sprintf("note/%06d/%06d", note.Run, note.Number)
	if _, err = w.notes.Create(ctx, key, note); err != nil {
		return "", err
	}
	w.written++
	return key, nil
}
