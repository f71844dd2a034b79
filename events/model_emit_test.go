package events_test

import (
	"context"
	"slices"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// How events come about in the model.

// draft draws an event, and the options that go with it.
func (w *world) draft(t *rapid.T, p *modelPlugin) (modelEvent, []events.EmitOption) {
	e := modelEvent{source: p.id, name: rapid.SampledFrom(modelNames).Draw(t, "name"), at: time.Now()}
	e.Pad = modelPads[rapid.IntRange(0, len(modelPads)-1).Draw(t, "pad")]
	if one(t, 4, "header") {
		e.header = "h"
	}
	if one(t, 4, "correlation") {
		e.corr = "c"
	}
	e.size = w.sizes[e.modelPayload]
	e.N = rapid.IntRange(0, 3).Draw(t, "data")
	options := e.options()
	if one(t, 6, "max age") {
		d := w.soon(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second}).Draw(t, "age"))
		e.expires = e.at.Add(d)
		options = append(options, events.MaxAge(d))
	}
	if e.noHistory = one(t, 6, "no history"); e.noHistory {
		options = append(options, events.NoHistory())
	}
	return e, options
}

func requireReceipt(t *rapid.T, want, got events.Receipt) {
	require.Equal(t, []int{int(want.Seq), want.Matched, want.Accepted, want.Refused, want.Full},
		[]int{int(got.Seq), got.Matched, got.Accepted, got.Refused, got.Full}, "seq, matched, accepted, refused, full")
}

func (w *world) emit(t *rapid.T) {
	w.emitMany(t, w.plugin(t), rapid.SampledFrom([]int{1, 2, 15, 70}).Draw(t, "events"))
}

// press floods a plugin that hangs, before and after it takes a step.
func (w *world) press(t *rapid.T) {
	p := w.plugin(t)
	p.open = false
	p.gate.close()
	w.emitMany(t, w.plugin(t), 30)
	w.step(t, p)
	w.emitMany(t, w.plugin(t), 15)
}

func (w *world) emitMany(t *rapid.T, p *modelPlugin, n int) {
	e, options := w.draft(t, p)
	for i := range n {
		if i%5 == 1 {
			e, options = w.draft(t, p)
		}
		got, err := p.client.Emit(context.Background(), e.name, e.modelPayload, options...)
		if p.denied(plugbus.VerbEmit, e.name) {
			w.refuses(t, p, err)
			continue
		}
		require.NoError(t, err)
		requireReceipt(t, w.publish(t, p, e), got)
		synctest.Wait()
		w.settle(t)
	}
}

func (w *world) broadcast(t *rapid.T) {
	p := w.plugin(t)
	e, options := w.draft(t, p)
	e.broadcast = true
	var to events.Audience
	for _, other := range w.plugins {
		if one(t, 3, other.id) {
			to.IDs = append(to.IDs, other.id)
		}
	}
	got, err := p.client.Broadcast(context.Background(), e.name, e.modelPayload, to, options...)
	if p.denied(plugbus.VerbBroadcast, e.name) {
		w.refuses(t, p, err)
		return
	}
	require.NoError(t, err)
	kept := 0
	for _, other := range w.plugins {
		if other == p || len(to.IDs) > 0 && !slices.Contains(to.IDs, other.id) {
			continue
		}
		if !other.denied(plugbus.VerbSubscribe, e.name) {
			e.audience = append(e.audience, other)
			continue
		}
		if slices.ContainsFunc(w.subs, func(s *modelSub) bool {
			return s.of == other && !s.detached && (s.receiver || s.matches(e.name))
		}) {
			w.refused++
			if p.knows(other) {
				kept++
			}
		}
	}
	want := w.publish(t, p, e)
	want.Matched += kept
	want.Refused += kept
	requireReceipt(t, want, got)
	synctest.Wait()
	w.settle(t)
}

func (w *world) emitWithRoom(t *rapid.T) {
	p := w.plugin(t)
	e, options := w.draft(t, p)
	fickle := func(s *modelSub) bool {
		return !s.detached && (s.once || s.quits || s.reader != nil) && s.matches(e.name)
	}
	if w.waiter != nil || slices.ContainsFunc(w.subs, fickle) {
		return // What it meets when it gets room would be left open.
	}
	if e.expires = (time.Time{}); len(options) > 0 {
		options = e.options()
		if e.noHistory {
			options = append(options, events.NoHistory())
		}
	}
	waiter := &modelWaiter{p, e, time.Now().Add(modelWaitLimit), make(chan modelResult, 1)}
	client := p.client
	go func() { // Ends when there is room, with the wait limit, or with the client.
		r, err := client.Emit(context.Background(), e.name, e.modelPayload, append(options, events.WaitForRoom())...)
		waiter.result <- modelResult{r, err}
	}()
	synctest.Wait()
	if p.denied(plugbus.VerbEmit, e.name) {
		w.refuses(t, p, (<-waiter.result).err)
		return
	}
	w.waiter = waiter
	w.settle(t)
}
