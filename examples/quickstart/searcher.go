package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A searcher provides a capability, which others find and call without knowing
// who has it.
type searcher struct {
	id, version string
	cost        float64
	hub         *hub.Session
	files       []File
	told        int // lines
}

// A Query is the request of "text.search".
type Query struct {
	Word string `json:"word"`
}

// Hits are the reply.
type Hits struct {
	Times int `json:"times"`
	Files int `json:"files"` // in which the word is
}

// A Line is a chunk of "text.lines".
type Line struct {
	Path   string
	Number int
	Words  int
}

func (s *searcher) Manifest() hub.Manifest {
	return hub.Manifest{ID: s.id, Version: s.version, Provides: []hub.Capability{{
		Name:        "text.search",
		Description: "Counts how often a word is in the files.",
		Cost:        &s.cost,
		Idempotent:  true,
		Input: json.RawMessage(`{
			"type": "object", "required": ["word"], "additionalProperties": false,
			"properties": { "word": { "type": "string", "minLength": 1 } } }`),
		Output: json.RawMessage(`{
			"type": "object", "required": ["times", "files"],
			"properties": { "times": { "type": "integer" }, "files": { "type": "integer" } } }`),
	}}}
}

func (s *searcher) Start(_ context.Context, hub *hub.Session) error {
	s.hub = hub
	if _, err := router.Handle(hub, "text.search", s.search); err != nil {
		return err
	}
	if _, err := hub.HandleStream("text.lines", s.lines); err != nil {
		return err
	}
	if _, err := hub.Handle("text.told", func(context.Context, router.Message) (any, error) { return s.told, nil }); err != nil {
		return err
	}
	if _, err := hub.Handle("text.suggest", s.suggest); err != nil {
		return err
	}
	_, err := events.Subscribe(hub, "files.read", s.keep, events.StartAt(events.All()))
	return err
}

func (s *searcher) keep(_ context.Context, file File, _ events.Event) error {
	s.files = append(s.files, file)
	return nil
}

func (s *searcher) search(_ context.Context, q Query) (Hits, error) {
	hits := Hits{}
	for _, file := range s.files {
		before := hits.Times
		for word := range words(file.Text) {
			if word == q.Word {
				hits.Times++
			}
		}
		if hits.Times > before {
			hits.Files++
		}
	}
	return hits, nil
}

// lines tells one line after the other, and begins again when it has come to the
// end: it goes on for as long as somebody reads.
func (s *searcher) lines(_ context.Context, _ router.Message, yield func(chunk any) bool) error {
	for len(s.files) > 0 {
		for _, file := range s.files {
			for i, text := range strings.Split(file.Text, "\n") {
				if !yield(Line{file.Path, i + 1, len(strings.Fields(text))}) {
					return nil
				}
				s.told++
			}
		}
	}
	return nil
}

// suggest suggests a word to the student, whom it first asks for another.
func (s *searcher) suggest(ctx context.Context, m router.Message) (any, error) {
	return router.Send[string](ctx, s.hub, m.From(), "word.favourite", nil)
}
