package main

import (
	"context"
	"errors"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A juggler drops every ball until it has rested.
type juggler struct {
	asked  int // how it is
	caught int
}

func (j *juggler) Manifest() hub.Manifest {
	return hub.Manifest{ID: "juggler", Version: "1.0.0"}
}

func (j *juggler) Start(_ context.Context, hub *hub.Session) error {
	_, err := hub.Subscribe("ball.thrown", j.catch)
	return err
}

func (j *juggler) catch(context.Context, events.Event) error {
	if !j.rested() {
		panic("the ball is on the floor")
	}
	j.caught++
	return nil
}

// Health is what the hub asks a plugin that rests. It runs like a handler.
func (j *juggler) Health(context.Context) error {
	if j.asked++; !j.rested() {
		return errors.New("its arms ache")
	}
	return nil
}

// rested reports whether the juggler is well: when it is asked the second time.
func (j *juggler) rested() bool { return j.asked >= 2 }
