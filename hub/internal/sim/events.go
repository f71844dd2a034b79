package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

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
	} else if chance(r, 50) {
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
	sub := &subscription{life: l, pattern: pick(r, patterns...), place: int(l.places.Add(1))}
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
	option(150, events.Timeout(time.Duration(1+r.Int64N(int64(time.Second)))))
	if d := time.Duration(1 + r.Int64N(int64(10*time.Second))); option(80, events.Expires(d)) {
		sub.expires = d
	}
	option(300, events.Buffer(1+r.IntN(20)))
	if !option(200, events.OnOverflow(pick(r, events.DropNewest, events.RefuseToEmitter))) {
		option(150, events.Fair())
	}
	sub.concurrent = option(150, events.Concurrent(1+r.IntN(4)))
	switch r.IntN(12) {
	case 0:
		sub.from = "all"
		options = append(options, events.StartAt(events.All()))
	case 1:
		sub.from = "last"
		options = append(options, events.StartAt(events.Last(1+r.IntN(20))))
	case 2:
		sub.from = "latest"
		options = append(options, events.StartAt(events.LatestPerName()))
	case 3:
		sub.from = "since"
		options = append(options, events.StartAt(events.Since(time.Now().Add(-time.Duration(r.Int64N(int64(5*time.Second)))))))
	case 4:
		sub.from = "after"
		options = append(options, events.StartAt(events.After(r.Uint64N(100))))
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
	w.subs = append(w.subs, sub)
	return true
}

// subscribeAlike makes the subscription that all lives of a slot have alike.
func (l *life) subscribeAlike() {
	sub := &subscription{life: l, pattern: "**", place: int(l.places.Add(1)), alike: true}
	if l.open(sub, []events.SubscribeOption{events.Narrow(), events.Buffer(4096)}) {
		l.alike.Store(sub)
	}
}

// unsubscribe ends some subscription of the plugin.
func (l *life) unsubscribe(r *rand.Rand) {
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
	defer w.mu.Unlock()
	w.finish(&sub.left)
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
	w := l.world
	n, ok := w.isOf(l, e)
	w.mu.Lock()
	if !sub.filtered {
		sub.calls++
	}
	sub.got = append(sub.got, delivery{c.since, time.Now(), e.Seq(), n.N, e.Missed(), e.Replayed(), e.Truncated()})
	w.mu.Unlock()
	if !ok {
		return nil
	}
	if e.Replayed() {
		n.Depth = maxDepth // Or a handler that subscribes would do so for ever.
	}
	return l.behave(ctx, "event", n.N, n.Depth)
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
