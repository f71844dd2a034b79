package events_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// check compares the bus with the naive one.
func (w *world) check(t *rapid.T) {
	synctest.Wait()
	require.Equal(t, w.clock, time.Now(), "nobody waited for anything")
	w.settle(t)
	want, leaks := plugbus.Ledger{Offered: w.refused, Refused: w.refused}, 0
	for _, s := range w.subs {
		if !s.over {
			w.checkSub(t, s)
			s.over = s.closed && len(s.calls) == 0 // What it got is all there will be.
		}
		want.Add(s.ledger())
		leaks += len(s.calls) - s.running()
	}
	l := w.bus.Ledger()
	require.NoError(t, l.Check())
	require.Equal(t, want, l)
	require.Len(t, w.bus.Leaks(), leaks)
	w.mu.Lock()
	require.Equal(t, w.failures, w.heard, "failures that the host heard of")
	w.mu.Unlock()
	if w.waiter != nil {
		require.Empty(t, w.waiter.result, "it waits for room")
	}
	for _, p := range w.plugins {
		p.mu.Lock()
		require.Equal(t, p.order, p.got, "the order of the handlers of %s", p.id)
		p.mu.Unlock()
	}
	w.checkStats(t, want)
	w.checkHistory(t)
}

// checkSub compares what one subscription got, and its books.
func (w *world) checkSub(t *rapid.T, s *modelSub) {
	s.mu.Lock()
	got := slices.Clone(s.got)
	s.mu.Unlock()
	want := slices.Clone(s.want)
	missed, announced := 0, 0
	for i := range got {
		announced += got[i].missed
	}
	for i := range want {
		missed += want[i].missed
	}
	if s.many > 0 { // In no order; which of them announces a loss is left open.
		bySeq := func(a, b modelGot) int { return cmp.Compare(a.seq, b.seq) }
		slices.SortFunc(got, bySeq)
		slices.SortFunc(want, bySeq)
		cut := func(all []modelGot) (n int) {
			for i := range all {
				if all[i].truncated {
					n++
				}
				all[i].missed, all[i].truncated = 0, false
			}
			return n
		}
		require.Equal(t, missed, announced, "%s: want %v, got %v, %v", s.what(), want, got, s.led)
		require.Equal(t, cut(want), cut(got), s.what())
	}
	stats := s.s.Stats()
	require.NoError(t, stats.Ledger.Check())
	require.Equal(t, s.ledger(), stats.Ledger, s.what())
	require.Equal(t, want, got, s.what())
	require.Equal(t, s.buffer, stats.Buffer)
	require.Equal(t, s.of.id, stats.Plugin)
	if s.of.current == nil { // Else its worker counts the losses, and reads, when it comes to it.
		require.Equal(t, s.reader != nil, stats.Reading && !s.closed, s.what())
		require.Equal(t, len(s.lost), len(stats.Lost), s.what())
		for source, n := range s.lost {
			require.Equal(t, n, stats.Lost[source], s.what())
		}
	}
}

// checkStats compares the snapshot of all clients.
func (w *world) checkStats(t *rapid.T, want plugbus.Ledger) {
	clients, l := w.bus.Stats()
	require.Equal(t, want, l)
	for _, p := range w.plugins {
		i := slices.IndexFunc(clients, func(c events.ClientStats) bool {
			return c.ID == p.id && c.Refused == p.refused && c.Emitted == p.emitted && c.Draining == p.draining
		})
		require.GreaterOrEqual(t, i, 0, "%s: emitted %d, refused %d, draining %v; got %+v", p.id, p.emitted, p.refused, p.draining, clients)
	}
}

// checkHistory compares the history, and what one plugin gets of it.
func (w *world) checkHistory(t *rapid.T) {
	h := &w.history
	h.age("")
	got := w.bus.History()
	require.Equal(t, len(h.kept), got.Events)
	require.Equal(t, h.bytes(), got.Bytes)
	require.Equal(t, h.evicted, got.Evicted)
	require.Equal(t, h.sources(), got.Sources)
	require.LessOrEqual(t, got.Events, h.max)
	if got.Events > 1 {
		require.LessOrEqual(t, got.Bytes, h.maxBytes)
	}
	w.replayed(t, w.plugins[0], "**", modelFrom{kind: "all"}, events.All())
}

// replay has a plugin read the history.
func (w *world) replay(t *rapid.T) {
	p := w.plugin(t)
	from, place := w.place(t)
	w.replayed(t, p, rapid.SampledFrom(modelPatterns).Draw(t, "pattern"), from, place)
}

func (w *world) replayed(t *rapid.T, p *modelPlugin, pattern string, from modelFrom, place events.From) {
	r := &modelReader{of: p, matches: (&modelSub{pattern: pattern}).matches, from: from, live: w.seq}
	var want, all []modelGot
	var wantCuts, cuts []events.TruncatedError
	for done := false; !done; {
		var page []modelEvent
		var lost *events.TruncatedError
		if page, lost, done = w.history.next(r); lost != nil {
			wantCuts = append(wantCuts, *lost)
		}
		for _, e := range page {
			want = append(want, modelGot{e.seq, e.name, e.source, e.modelPayload, e.at.UnixNano(), true, false, 0})
		}
	}
	for e, err := range p.client.Replay(context.Background(), pattern, place) {
		if err == nil {
			all = append(all, got(e))
			continue
		}
		require.Empty(t, all, "a loss is told first")
		cut, ok := errors.AsType[*events.TruncatedError](err)
		require.True(t, ok, "%v", err)
		cuts = append(cuts, *cut)
	}
	require.Equal(t, want, all, "replay of %q from %+v", pattern, from)
	require.Equal(t, wantCuts, cuts, "replay of %q from %+v", pattern, from)
}
