package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// eventNames are the names of the world's events, and patterns those that plugins
// subscribe to.
var (
	eventNames = []string{"a.b", "a.c", "a.b.c", "b.c", "b.d:e", "c"}
	patterns   = []string{"**", "**", "a.*", "a.**", "*.c", "a.b", "b.**", "c", "plugin:registered", "*.*:e"}
)

// emit emits an event, or broadcasts it.
func (l *life) emit(ctx context.Context, r *rand.Rand, n uint64, depth int) {
	if s := l.session.Load(); s != nil {
		l.world.emit(ctx, s, r, n, depth)
	}
}

func (w *World) emit(ctx context.Context, s *hub.Session, r *rand.Rand, n uint64, depth int) {
	e := &emission{n: n, by: s.ID(), name: pick(r, eventNames...)}
	var options []events.EmitOption
	if chance(r, 100) {
		e.noHistory = true
		options = append(options, events.NoHistory())
	}
	if chance(r, 100) {
		e.maxAge = time.Duration(1 + r.Int64N(int64(time.Second)))
		options = append(options, events.MaxAge(e.maxAge))
	}
	if chance(r, 100) {
		options = append(options, events.Headers(map[string]string{"k": "v"}), events.CorrelationID("c"))
	}
	var to events.Audience
	if e.broadcast = chance(r, 150); e.broadcast {
		if chance(r, 500) {
			to.IDs = subset(r, w.plan.Plugins)
		}
		if chance(r, 200) {
			to.LeastTrust = pick(r, plugbus.Basic, plugbus.Trusted)
		}
		e.audience = to
	} else if e.wait = chance(r, 50); e.wait {
		options = append(options, events.WaitForRoom())
	}
	w.mu.Lock()
	if w.emissions[n] != nil {
		w.mu.Unlock()
		return // A handler was called again with the same: by a replay.
	}
	w.emissions[n] = e
	w.mu.Unlock()
	p := newParcel(n, depth)
	what := s.ID() + ": Emit " + e.name
	sp := w.begin()
	var receipt events.Receipt
	var err error
	w.in(waitLimit, what, func() {
		if e.broadcast {
			receipt, err = s.Broadcast(ctx, e.name, p.data, to, options...)
		} else {
			receipt, err = s.Emit(ctx, e.name, p.data, options...)
		}
	})
	w.finish(&sp)
	p.spoil()
	w.mu.Lock()
	defer w.mu.Unlock()
	e.span, e.receipt, e.err = sp, receipt, err
}

// maxPlaces bounds what a plugin opens in the course of its life.
const maxPlaces = 60

// subscribe subscribes with some options.
func (l *life) subscribe(r *rand.Rand) {
	w, s := l.world, l.session.Load()
	if s == nil || l.places.Load() > maxPlaces {
		return
	}
	o := w.plan.Options.Events
	sub := &subscription{life: l, pattern: pick(r, patterns...), place: int(l.places.Add(1)), buffer: o.Buffer, timeout: o.HandlerTimeout}
	options := []events.SubscribeOption{events.Narrow()}
	option := func(perMille int, o events.SubscribeOption) bool {
		if !chance(r, perMille) {
			return false
		}
		options = append(options, o)
		return true
	}
	sub.once = option(80, events.Once())
	if sub.priority = r.IntN(3); sub.priority > 0 {
		options = append(options, events.Priority(sub.priority))
	}
	if d := time.Duration(1 + r.Int64N(int64(time.Second))); option(150, events.Timeout(d)) {
		sub.timeout = d
	}
	if d := time.Duration(1 + r.Int64N(int64(10*time.Second))); option(80, events.Expires(d)) {
		sub.expires = d
	}
	if n := 1 + r.IntN(20); option(300, events.Buffer(n)) {
		sub.buffer = n
	}
	rule := pick(r, events.DropNewest, events.RefuseToEmitter)
	if sub.own = option(200, events.OnOverflow(rule)); sub.own {
		sub.refuses = rule == events.RefuseToEmitter
	} else {
		sub.own = option(150, events.Fair())
	}
	if n := 1 + r.IntN(4); option(150, events.Concurrent(n)) {
		sub.concurrent, sub.most, sub.own = n > 1, n, sub.own || n > 1
	}
	switch r.IntN(12) {
	case 0:
		sub.from = "all"
		options = append(options, events.StartAt(events.All()))
	case 1:
		sub.from, sub.n = "last", 1+r.Uint64N(20)
		options = append(options, events.StartAt(events.Last(int(sub.n)))) //nolint:gosec // It is small.
	case 2:
		sub.from = "latest"
		options = append(options, events.StartAt(events.LatestPerName()))
	case 3:
		sub.from, sub.after = "since", time.Now().Add(-time.Duration(r.Int64N(int64(5*time.Second))))
		options = append(options, events.StartAt(events.Since(sub.after)))
	case 4:
		sub.from, sub.n = "after", r.Uint64N(100)
		options = append(options, events.StartAt(events.After(sub.n)))
	}
	if sub.filtered = chance(r, 150); sub.filtered {
		options = append(options, events.Filter(func(e events.Event) bool {
			c := l.enter("filter of "+sub.pattern, !sub.concurrent)
			defer l.leave(c)
			w.mu.Lock()
			sub.calls++
			w.mu.Unlock()
			n, ok := w.isOf(l, e)
			d := dice(w.plan.Seed, n.N, l.id, "filter")
			if ok && w.plan.Profile == Wild && chance(d, 20) {
				panic("in the filter")
			}
			return chance(d, 700)
		}))
	}
	l.open(sub, options)
}

// open makes a subscription, and reports whether it was made.
func (l *life) open(sub *subscription, options []events.SubscribeOption) bool {
	w := l.world
	sp := w.begin()
	handle, err := l.session.Load().Subscribe(sub.pattern, func(ctx context.Context, e events.Event) error { return l.handleEvent(ctx, sub, e) }, options...)
	if err != nil {
		return false
	}
	w.finish(&sp)
	w.mu.Lock()
	defer w.mu.Unlock()
	sub.made, sub.handle = sp, handle
	w.byID[handle.Stats().ID] = sub
	w.subs = append(w.subs, sub)
	return true
}

// subscribeAlike makes the subscription that all lives of a slot have alike, but that
// some begin with the history.
func (l *life) subscribeAlike(r *rand.Rand) {
	sub := &subscription{life: l, pattern: "**", place: int(l.places.Add(1)), alike: true, buffer: 4096, timeout: l.world.plan.Options.Events.HandlerTimeout}
	options := []events.SubscribeOption{events.Narrow(), events.Buffer(sub.buffer)}
	if chance(r, 300) {
		sub.from = "all"
		options = append(options, events.StartAt(events.All()))
	}
	if l.open(sub, options) {
		l.alike.Store(sub)
	}
}

// unsubscribe ends some subscription of the plugin, and may wait until that has ended.
func (l *life) unsubscribe(ctx context.Context, r *rand.Rand) {
	w := l.world
	w.mu.Lock()
	var own []*subscription
	for _, s := range w.subs {
		if s.life == l && s.left.begin == 0 && !s.alike {
			own = append(own, s)
		}
	}
	if len(own) == 0 {
		w.mu.Unlock()
		return
	}
	sub := pick(r, own...)
	sub.left = w.begin()
	w.mu.Unlock()
	sub.handle.Unsubscribe()
	w.mu.Lock()
	w.finish(&sub.left)
	w.mu.Unlock()
	if chance(r, 500) {
		return
	}
	const limit = time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w.in(limit, l.id+": Wait", func() {
		if sub.handle.Wait(ctx) == nil {
			l.quiet(sub)
		}
	})
}

// quiet notes that no call of a subscription runs, and none will begin.
func (l *life) quiet(sub *subscription) {
	w := l.world
	w.mu.Lock()
	sub.quiet = w.stamp.Add(1)
	runs := false
	for c := range l.inside {
		runs = runs || c.key == sub
	}
	w.mu.Unlock()
	if runs {
		w.wrong("%v: a call runs, and Wait says that none does", sub)
	}
}

// isOf reads an event that came to a plugin, and reports whether it is one of the
// world's.
func (w *World) isOf(l *life, e events.Event) (n note, ok bool) {
	if own(e.Name()) {
		return n, false
	}
	n, err := read(e.Data())
	if err != nil {
		w.wrong("%s: event %q of %q: %v", l.name(), e.Name(), e.Source(), err)
		return n, false
	}
	return n, true
}

// handleEvent is the handler of all subscriptions.
func (l *life) handleEvent(ctx context.Context, sub *subscription, e events.Event) error {
	c := l.enter("handler of "+sub.pattern, !sub.concurrent)
	defer l.leave(c)
	l.crowd(c, sub, max(1, sub.most))
	w := l.world
	orderly := false
	defer func() {
		late := l.deadline(ctx, c, sub.timeout)
		blown := !orderly && !late && l.ready.Load() != 0 && !l.ended() // What has not joined is in no quarantine.
		w.mu.Lock()
		defer w.mu.Unlock()
		if late {
			sub.late++
		}
		if blown {
			l.blown = append(l.blown, time.Now())
		}
	}()
	n, ok := w.isOf(l, e)
	w.mu.Lock()
	if !sub.filtered {
		sub.calls++
	}
	sub.got = append(sub.got, delivery{c.since, time.Now(), e.Seq(), n.N, e.Missed(), e.Replayed(), e.Truncated()})
	w.mu.Unlock()
	if e.Replayed() {
		n.Depth = maxDepth // Or a handler that subscribes would do so for ever.
	}
	var err error
	if ok {
		err = l.behave(ctx, "event", n.N, n.Depth)
	}
	orderly = true
	return err
}

// A replay is one call of Replay, and what it gave.
type replay struct {
	span
	by, pattern string
	after       uint64
	seqs        []uint64
	truncated   bool
	err         error
	host        bool
}

// replay reads the history.
func (w *World) replay(s *hub.Session, r *rand.Rand) {
	rp := &replay{by: s.ID(), pattern: pick(r, patterns...), after: uint64(r.IntN(50)), host: s.ID() == host} //nolint:gosec // It is small.
	rp.span = w.begin()
	w.in(0, rp.by+": Replay", func() {
		for e, err := range s.Replay(context.Background(), rp.pattern, events.After(rp.after)) {
			if _, ok := errors.AsType[*events.TruncatedError](err); ok {
				rp.truncated = true
				continue
			}
			if err != nil {
				rp.err = err
				break
			}
			rp.seqs = append(rp.seqs, e.Seq())
		}
	})
	w.finish(&rp.span)
	if !slices.IsSorted(rp.seqs) {
		w.wrong("%s: a replay is out of order: %v", rp.by, rp.seqs)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replays = append(w.replays, rp)
}
