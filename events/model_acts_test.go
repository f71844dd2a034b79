package events_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// The acts of the model. Each does something to the bus, and the same to the naive
// one.

func (w *world) join(t *rapid.T) {
	var free []string
	for i := range 5 {
		id := fmt.Sprint("plugin", i)
		if !slices.ContainsFunc(w.plugins, func(p *modelPlugin) bool { return p.id == id }) {
			free = append(free, id)
		}
	}
	if len(free) == 0 {
		return
	}
	p := &modelPlugin{
		id: rapid.SampledFrom(free).Draw(t, "id"), rules: newRules(), gate: &gate{}, open: true,
		single: rapid.Bool().Draw(t, "single"), quota: rapid.SampledFrom([]int{1000, 4}).Draw(t, "quota"),
	}
	var err error
	p.client, err = w.bus.Client(p.id, events.ClientOptions{Guard: p.rules.guard(p.id), MaxSubscriptions: p.quota})
	require.NoError(t, err)
	w.plugins = append(w.plugins, p)
}

func (w *world) plugin(t *rapid.T) *modelPlugin {
	return rapid.SampledFrom(w.plugins).Draw(t, "plugin")
}

// busy draws a plugin, and often one that hangs.
func (w *world) busy(t *rapid.T) *modelPlugin {
	hung := slices.DeleteFunc(slices.Clone(w.plugins), func(p *modelPlugin) bool { return p.current == nil })
	if len(hung) > 0 && rapid.Bool().Draw(t, "hung") {
		return rapid.SampledFrom(hung).Draw(t, "plugin")
	}
	return w.plugin(t)
}

// one draws true once in n times.
func one(t *rapid.T, n int, what string) bool { return rapid.IntRange(1, n).Draw(t, what) == 1 }

func (w *world) newSub(p *modelPlugin) *modelSub {
	return &modelSub{id: len(w.subs), of: p, born: make(chan struct{}), lost: map[string]uint64{}}
}

// handle is the handler of s.
func (s *modelSub) handle(_ context.Context, e events.Event) error {
	<-s.born
	g := got(e)
	s.mu.Lock()
	s.got = append(s.got, g)
	s.mu.Unlock()
	if p := s.of; s.many == 0 && !g.replayed {
		p.mu.Lock()
		p.got = append(p.got, fmt.Sprint(g.seq, " by ", s.id))
		p.mu.Unlock()
	}
	if s.quits && g.payload.N == 3 {
		s.s.Unsubscribe()
	}
	s.of.gate.pass()
	if s.bad != nil && g.payload.N == 2 {
		return s.bad()
	}
	return nil
}

var modelFaults = []func() error{
	nil, nil, nil, nil,
	func() error { return errHandler },
	func() error { panic("boom") },
	func() error { runtime.Goexit(); return nil },
}

func (w *world) subscribe(t *rapid.T) {
	p := w.busy(t)
	s := w.newSub(p)
	s.pattern = rapid.SampledFrom(modelPatterns).Draw(t, "pattern")
	s.rule = rapid.SampledFrom([]events.Overflow{events.DropOldest, events.DropOldest, events.DropNewest, events.RefuseToEmitter}).Draw(t, "rule")
	s.buffer = rapid.SampledFrom([]int{1, 2, 3, 7, 12, 24, 40}).Draw(t, "buffer")
	s.priority = rapid.IntRange(-1, 1).Draw(t, "priority")
	s.even = one(t, 4, "filter")
	s.bad = rapid.SampledFrom(modelFaults).Draw(t, "fault")
	s.fair = s.rule != events.RefuseToEmitter && one(t, 3, "fair")
	if one(t, 4, "concurrent") {
		s.many = rapid.IntRange(2, 3).Draw(t, "many")
	}
	if w.tight() && s.follows() {
		s.fair = true
	}
	options := []events.SubscribeOption{events.OnOverflow(s.rule), events.Buffer(s.buffer), events.Priority(s.priority)}
	add := func(o events.SubscribeOption) { options = append(options, o) }
	if w.waiter == nil && one(t, 3, "start at") {
		from, place := w.place(t)
		add(events.StartAt(place))
		if s.past = from.kind != "now"; s.past {
			s.reader = &modelReader{of: p, matches: s.matches, from: from, live: w.seq}
		}
	}
	if w.waiter == nil { // When it gets room while such a one ends is left open.
		if s.once = one(t, 5, "once") && (s.many == 0 || s.reader == nil); s.once {
			add(events.Once())
		}
		s.quits = s.many == 0 && one(t, 4, "quits")
	}
	if s.fair {
		add(events.Fair())
	}
	if s.even {
		add(events.Filter(func(e events.Event) bool { return e.Data().(modelPayload).N%2 == 0 }))
	}
	if s.many > 0 {
		add(events.Concurrent(s.many))
	}
	if one(t, 4, "timeout") {
		s.timeout = w.soon(rapid.SampledFrom([]time.Duration{time.Second, 8 * time.Second}).Draw(t, "of"))
		add(events.Timeout(s.timeout))
	}
	if one(t, 5, "expires") {
		d := w.soon(rapid.SampledFrom([]time.Duration{2 * time.Second, 9 * time.Second}).Draw(t, "in"))
		s.expires = time.Now().Add(d)
		add(events.Expires(d))
	}
	narrow := rapid.Bool().Draw(t, "narrow")
	if narrow {
		add(events.Narrow())
	}
	if p.single && slices.ContainsFunc(w.subs, func(other *modelSub) bool { return other.of == p && !other.closed }) {
		return
	}
	var err error
	s.s, err = p.client.Subscribe(s.pattern, s.handle, options...)
	wide := !narrow && slices.ContainsFunc(modelNames, func(name string) bool { return s.matches(name) && p.denied(plugbus.VerbSubscribe, name) })
	w.subscribed(t, s, err, wide)
}

// subscribed looks whether a subscription was rightly made, or refused.
func (w *world) subscribed(t *rapid.T, s *modelSub, err error, wide bool) {
	close(s.born)
	held := 0
	for _, other := range w.subs {
		if other.of == s.of && (!other.closed || len(other.calls) > 0) {
			held++
		}
	}
	switch denied, refused := errors.AsType[*plugbus.DeniedError](err); {
	case wide:
		require.True(t, refused, "%v", err)
		require.Equal(t, plugbus.ReasonPatternTooWide, denied.Reason)
		s.of.refused++
	case s.of.draining:
		require.ErrorIs(t, err, events.ErrClosed)
	case held >= s.of.quota:
		require.True(t, refused, "%v", err)
		require.Equal(t, plugbus.ReasonQuotaExceeded, denied.Reason)
		s.of.refused++
	default:
		require.NoError(t, err)
		w.subs = append(w.subs, s)
	}
	synctest.Wait()
	w.settle(t)
}

func (w *world) receive(t *rapid.T) {
	p := w.plugin(t)
	if p.single || !one(t, 2, "receive") {
		return
	}
	s := w.newSub(p)
	s.receiver, s.buffer = true, 1024
	var err error
	s.s, err = p.client.Receive(s.handle)
	w.subscribed(t, s, err, false)
}

func (w *world) unsubscribe(t *rapid.T) {
	if len(w.subs) == 0 {
		return
	}
	s := rapid.SampledFrom(w.subs).Draw(t, "subscription")
	s.s.Unsubscribe()
	synctest.Wait()
	if !s.closed {
		w.close(s)
	}
	w.settle(t)
}

func (w *world) hang(t *rapid.T) {
	p := w.plugin(t)
	p.open = false
	p.gate.close()
}

func (w *world) goOn(p *modelPlugin) {
	p.open = true
	p.gate.open()
	w.returned(p)
}

// turn lets pass who waits at a closed gate, and nobody after them.
func (g *gate) turn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.closed)
	g.closed = make(chan struct{})
}

// step lets the handlers that hang return, and the next hang.
func (w *world) step(t *rapid.T, p *modelPlugin) {
	if p.open || slices.ContainsFunc(w.subs, func(s *modelSub) bool { return s.of == p && s.past && !s.closed }) {
		return // Which event comes next is left open between one who reads the history and others.
	}
	p.gate.turn()
	synctest.Wait()
	w.returned(p)
	w.settle(t)
}

// returned ends the calls of a plugin.
func (w *world) returned(p *modelPlugin) {
	p.current = nil
	for _, s := range w.subs {
		if s.of == p {
			for _, c := range s.calls {
				w.ended(s, c)
			}
			s.calls = nil
		}
	}
}

// pass lets time pass, from one thing that time does to the next.
func (w *world) pass(t *rapid.T) {
	until := time.Now().Add(w.soon(rapid.SampledFrom([]time.Duration{time.Second, 4 * time.Second, 15 * time.Second}).Draw(t, "time")))
	for {
		at := w.nextTimer()
		if at.IsZero() || at.After(until) {
			at = until
		}
		pass(time.Until(at))
		if w.clock = at; at.Equal(until) {
			return
		}
		w.timers(t)
		w.settle(t)
		w.check(t)
	}
}

// nextTimer returns when time does something, or zero.
func (w *world) nextTimer() (at time.Time) {
	sooner := func(other time.Time) {
		if !other.IsZero() && (at.IsZero() || other.Before(at)) {
			at = other
		}
	}
	for _, s := range w.subs {
		if !s.closed {
			sooner(s.expires)
		}
		for _, c := range s.calls {
			if !c.abandoned {
				sooner(c.deadline)
			}
		}
	}
	if w.waiter != nil {
		sooner(w.waiter.deadline)
	}
	return at
}

// timers does what time does now.
func (w *world) timers(t *rapid.T) {
	now := time.Now()
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	for _, s := range w.subs {
		for _, c := range s.calls {
			if due(c.deadline) {
				w.abandon(s, c)
			}
		}
		if !s.closed && due(s.expires) {
			w.close(s)
		}
	}
	if w.waiter != nil && due(w.waiter.deadline) {
		require.ErrorIs(t, (<-w.waiter.result).err, events.ErrNoRoom)
		w.waiter = nil
	}
}

// rights gives a plugin a right, or takes it.
func (w *world) rights(t *rapid.T) {
	p := w.plugin(t)
	verb := rapid.SampledFrom([]plugbus.Verb{plugbus.VerbSubscribe, plugbus.VerbSubscribe, plugbus.VerbEmit, plugbus.VerbBroadcast}).Draw(t, "verb")
	name := rapid.SampledFrom(modelNames).Draw(t, "name")
	if one(t, 4, "knowledge") {
		other := w.plugin(t).id
		p.rules.change(func() { p.rules.unknown[other] = !p.rules.unknown[other] })
		return
	}
	if p.denied(verb, name) {
		p.rules.allow(verb, name)
	} else {
		p.rules.deny(verb, name)
	}
}

// drain ends the flow of new events to a plugin.
func (w *world) drain(t *rapid.T) {
	p := w.busy(t)
	if len(w.plugins) < 2 || !one(t, 2, "drain") {
		return
	}
	p.client.BeginDrain()
	synctest.Wait()
	p.draining = true
	for _, s := range w.subs {
		if s.of == p {
			s.detach()
		}
	}
	w.settle(t)
}

// leave closes a plugin's client, and gives a plugin that hangs no time.
func (w *world) leave(t *rapid.T) {
	p := w.plugin(t)
	if len(w.plugins) < 2 || w.waiter != nil && w.waiter.p == p {
		return
	}
	cancelled, abandoned := 0, 0
	for _, s := range w.subs {
		if s.of == p {
			cancelled += s.waiting()
			abandoned += s.running()
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Hour)
	defer stop()
	if cancelled+abandoned > 0 {
		stop()
	}
	err := p.client.Close(ctx)
	if e, cut := errors.AsType[*events.CloseError](err); cut || cancelled+abandoned > 0 {
		require.True(t, cut, "%v", err)
		require.Equal(t, events.CloseError{Client: p.id, Cancelled: cancelled, Abandoned: abandoned, Err: context.Canceled}, *e)
	} else {
		require.NoError(t, err)
	}
	synctest.Wait()
	for _, s := range w.subs {
		if s.of == p {
			if !s.closed {
				w.close(s)
			}
			for _, c := range s.calls {
				w.abandon(s, c)
			}
		}
	}
	w.plugins = slices.DeleteFunc(w.plugins, func(other *modelPlugin) bool { return other == p })
	w.gone = append(w.gone, p)
	_, err = p.client.Emit(context.Background(), "a", nil)
	require.ErrorIs(t, err, events.ErrClosed)
	w.settle(t)
}

// comeBack lets the handlers return whose plugins have left.
func (w *world) comeBack(*rapid.T) {
	for _, p := range w.gone {
		p.gate.open()
		w.returned(p)
	}
	w.gone = nil
}
