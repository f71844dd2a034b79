package main

import (
	"context"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A clumsy plugin means to keep the average length of the files, and panics over
// the first of them.
type clumsy struct{ files, bytes, average int }

func (c *clumsy) Manifest() hub.Manifest {
	return hub.Manifest{ID: "clumsy", Version: "0.0.1"}
}

func (c *clumsy) Start(_ context.Context, hub *hub.Session) error {
	_, err := events.Subscribe(hub, "files.read", c.measure)
	return err
}

func (c *clumsy) measure(_ context.Context, file File, _ events.Event) error {
	before := c.files
	c.files++
	c.bytes += len(file.Text)
	c.average = c.bytes / before // Off by one.
	return nil
}
