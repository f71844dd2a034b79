package main

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A reader prints the notes that are there, and then those that come. What a watch
// tells is done: it is on disk before it is printed.
type reader struct {
	out         *bufio.Writer
	notes       store.TypedView[Note]
	kept, added int
}

func (r *reader) Manifest() hub.Manifest { return hub.Manifest{ID: "reader", Version: "1.0.0"} }

func (r *reader) Start(ctx context.Context, hub *hub.Session) error {
	view, err := hub.OpenStore(ctx, "notes")
	if err != nil {
		return err
	}
	r.notes = store.Typed[Note](view)
	_, err = view.Watch(ctx, "note/**", r.note, store.Snapshot())
	return err
}

// note handles a change of the store.
func (r *reader) note(_ context.Context, c store.Change) error {
	switch c.Kind() {
	case store.Current:
		r.kept++
		return r.print("kept", c.Entry())
	case store.Set:
		r.added++
		return r.print("new", c.Entry())
	case store.Lagged: // The writer was faster than the terminal.
		fmt.Fprintf(r.out, "(%d changes were not printed)\n", c.Lost())
		return r.out.Flush()
	default: // No note came.
		return nil
	}
}

// print prints a line at once, so that it is out when the process is killed.
func (r *reader) print(word string, e store.Entry) error {
	note, err := r.notes.Decode(e)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%-4s  %d.%d  %s  %s\n", word, note.Run, note.Number, e.Time().Format(time.DateTime), note.Text)
	return r.out.Flush()
}
