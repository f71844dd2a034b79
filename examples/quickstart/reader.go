package main

import (
	"context"
	"errors"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A reader tells the others what is in the files, when the host asks for it.
type reader struct {
	files []File
	hub   *hub.Session
}

func (r *reader) Manifest() hub.Manifest {
	return hub.Manifest{ID: "reader", Version: "1.0.0"}
}

func (r *reader) Start(_ context.Context, hub *hub.Session) error {
	r.hub = hub
	_, err := hub.Subscribe("work.read", r.read)
	if err != nil {
		return err
	}
	_, err = hub.Subscribe("work.end", r.end)
	return err
}

// read emits every file. It would rather wait than have a file dropped from the
// queue of a plugin that is slower than it.
func (r *reader) read(ctx context.Context, _ events.Event) error {
	var errs []error
	for _, file := range r.files {
		_, err := r.hub.Emit(ctx, "files.read", file, events.WaitForRoom())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *reader) end(ctx context.Context, _ events.Event) error {
	_, err := r.hub.Emit(ctx, "files.end", len(r.files))
	return err
}
