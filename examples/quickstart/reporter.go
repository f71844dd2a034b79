package main

import (
	"context"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A reporter joins when the others have done their work, and reports on it all
// the same: the history tells it what it missed, and the store of the counter has
// what came of it.
type reporter struct {
	hub    *hub.Session
	counts store.TypedView[int]
	seen   []Seen
}

// A Report is the payload of "report.ready".
type Report struct {
	Seen  []Seen // in the order in which the reporter had it
	Files int    // of which the words are
	Words Words  // from the store
	Chain string // the plugins that led to the words
}

// Seen is an event about files as the reporter had it.
type Seen struct {
	Name     string
	Path     string
	Replayed bool
}

func (r *reporter) Manifest() hub.Manifest {
	return hub.Manifest{ID: "reporter", Version: "1.0.0"}
}

func (r *reporter) Start(ctx context.Context, hub *hub.Session) error {
	counts, err := hub.OpenStore(ctx, "words")
	if err != nil {
		return err
	}
	r.hub, r.counts = hub, store.Typed[int](counts)
	if _, err = hub.Subscribe("files.*", r.note, events.StartAt(events.All())); err != nil {
		return err
	}
	_, err = events.Subscribe(hub, "words.counted", r.report)
	return err
}

func (r *reporter) note(_ context.Context, e events.Event) error {
	seen := Seen{Name: e.Name(), Replayed: e.Replayed()}
	if file, ok := e.Data().(File); ok {
		seen.Path = file.Path
	}
	r.seen = append(r.seen, seen)
	return nil
}

func (r *reporter) report(ctx context.Context, files int, e events.Event) error {
	counts := map[string]int{}
	for count, err := range r.counts.All(ctx, store.All()) {
		if err != nil {
			return err
		}
		counts[count.Key()] = count.Value
	}
	_, err := r.hub.Emit(ctx, "report.ready", Report{r.seen, files, summary(counts), e.Chain().String()})
	return err
}
