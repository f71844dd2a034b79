package main

import (
	"context"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A student has others work for it.
type student struct{ hub *hub.Session }

func (s *student) Manifest() hub.Manifest {
	return hub.Manifest{ID: "student", Version: "1.0.0", Requires: []string{"text.search"}}
}

func (s *student) Start(_ context.Context, hub *hub.Session) error {
	s.hub = hub
	_, err := hub.Handle("word.favourite", s.favourite)
	return err
}

// modern are the providers that the student would call.
func modern() discovery.Terms { return discovery.Terms{Version: "^2.0"} }

// candidates asks who could search, and why others could not. The student would
// rather not pay more than 5.
func (s *student) candidates() ([]discovery.Candidate, error) {
	require, most := modern(), 5.0
	require.Capabilities = []string{"text.search"}
	return s.hub.Candidates(discovery.Criteria{Require: require, Prefer: discovery.Terms{MaxCost: &most}})
}

// search asks whoever provides the capability.
func (s *student) search(ctx context.Context, word string) (Hits, error) {
	return discovery.Call[Hits](ctx, s.hub, "text.search", Query{word}, discovery.Require(modern()))
}

// read reads that many lines of the searcher, and no more.
func (s *student) read(ctx context.Context, most int) (lines []Line, err error) {
	for line, err := range router.Stream[Line](ctx, s.hub, "searcher", "text.lines", nil) {
		if err != nil {
			return lines, err
		}
		if lines = append(lines, line); len(lines) == most {
			break
		}
	}
	return lines, nil
}

// favourite tells the searcher which word the student likes, which is whatever the
// searcher suggests.
func (s *student) favourite(ctx context.Context, m router.Message) (any, error) {
	return router.Send[string](ctx, s.hub, m.From(), "text.suggest", nil)
}

// carry moves so many sheets from the shelf into the tray: both are done, or neither.
func (s *student) carry(ctx context.Context, paper store.TypedView[int], sheets int) error {
	return paper.View().Txn(ctx, func(tx *store.Tx) error {
		for _, move := range []struct {
			place  string
			sheets int
		}{{"shelf", -sheets}, {"tray", sheets}} {
			before, _, err := paper.In(tx).Get(move.place)
			if err != nil {
				return err
			}
			if err := paper.In(tx).Set(move.place, before+move.sheets); err != nil {
				return err
			}
		}
		return nil
	})
}
