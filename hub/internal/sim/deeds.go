package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
)

// A deed is a kind of act.
type deed struct {
	name   string
	weight int
	act    func(w *World, a act)
}

// deeds are all kinds of acts. More weight is more often.
var deeds []deed

func init() { //nolint:gochecknoinits // The deeds refer to the list, by way of what they draw.
	deeds = []deed{
		{"join", 12, func(w *World, a act) { w.register(w.slot(a.dice), a.dice) }},
		{"unregister", 5, func(w *World, a act) {
			ctx, cancel := a.context()
			defer cancel()
			w.unregister(ctx, w.slot(a.dice))
		}},
		{"replace", 6, func(w *World, a act) {
			ctx, cancel := a.context()
			defer cancel()
			w.replace(ctx, w.slot(a.dice), a.dice, false)
		}},
		{"replace twice", 3, func(w *World, a act) { // The first is still reading the history, perhaps.
			s := w.slot(a.dice)
			w.replace(context.Background(), s, a.dice, false)
			w.replace(context.Background(), s, a.dice, false)
		}},
		{"quarantine", 3, func(w *World, a act) { w.quarantine(w.slot(a.dice)) }},
		{"restore", 4, func(w *World, a act) { w.restore(w.slot(a.dice)) }},
		{"swap", 6, func(w *World, a act) { w.swap(pick(a.dice, w.plan.rules...)) }},
		{"flicker", 6, each(func(w *World, l *life, a act) { w.flicker(l, a) })},
		{"trust", 3, func(w *World, a act) { w.setTrust(w.slot(a.dice).id, a.dice) }},
		{"health", 2, func(w *World, _ act) {
			w.in(waitLimit, "Health", func() { w.hub.Health(context.Background()) })
		}},
		{"letters", 4, func(w *World, a act) { w.letters(a.dice) }},
		{"use", 3, func(w *World, a act) { w.use(a.dice) }},
		{"find", 6, each(func(w *World, l *life, a act) { w.find(l.session.Load(), a.dice) })},
		{"host finds", 3, func(w *World, a act) { w.find(w.hub.Host(), a.dice) }},
		{"flood", 4, each(func(_ *World, l *life, a act) { l.flood(a) })},
		{"idle", 2, func(w *World, a act) {
			limit := time.Duration(a.dice.Int64N(int64(time.Second)))
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			w.in(limit, "Idle", func() { _ = w.hub.Idle(ctx) })
		}},
		{"subscribe", 12, each(func(_ *World, l *life, a act) { l.subscribe(a.dice) })},
		{"unsubscribe", 4, each(func(_ *World, l *life, a act) { l.unsubscribe(context.Background(), a.dice) })},
		{"emit", 12, each(func(_ *World, l *life, a act) { l.emit(context.Background(), a.dice, a.n, 0) })},
		{"emit many", 8, each(func(_ *World, l *life, a act) {
			for i := range 5 + a.dice.IntN(60) {
				l.emit(context.Background(), a.dice, a.n+uint64(i), 0) //nolint:gosec // It is small.
			}
		})},
		{"host emits", 4, func(w *World, a act) { w.emit(context.Background(), w.hub.Host(), a.dice, a.n, 0) }},
		{"message", 12, each(func(_ *World, l *life, a act) { l.message(context.Background(), a.dice, a.n, 0) })},
		{"message many", 8, each(func(_ *World, l *life, a act) {
			for i := range 5 + a.dice.IntN(40) {
				l.message(context.Background(), a.dice, a.n+uint64(i), 0) //nolint:gosec // It is small.
			}
		})},
		{"host messages", 4, func(w *World, a act) { w.message(context.Background(), w.hub.Host(), a.dice, a.n, 0) }},
		{"store", 20, each(func(_ *World, l *life, a act) {
			for i := range 1 + a.dice.IntN(10) {
				l.change(context.Background(), a.dice, a.n+uint64(i)) //nolint:gosec // It is small.
			}
		})},
		{"replay", 5, each(func(w *World, l *life, a act) { w.replay(l.session.Load(), a.dice) })},
		{"host replays", 3, func(w *World, a act) { w.replay(w.hub.Host(), a.dice) }},
		{"go", 3, each(func(_ *World, l *life, a act) { l.goDo(a) })},
		{"withdraw", 2, each(func(_ *World, l *life, _ act) { l.withdraw() })},
	}
}

// each returns a deed of some life.
func each(f func(w *World, l *life, a act)) func(w *World, a act) {
	return func(w *World, a act) {
		if l := w.slot(a.dice).any(a.dice); l != nil {
			f(w, l, a)
		}
	}
}

// slot returns the slot of some plugin.
func (w *World) slot(r *rand.Rand) *slot { return w.slots[pick(r, w.plan.Plugins...)] }

// register has the next plugin of a slot join.
func (w *World) register(s *slot, r *rand.Rand) {
	l := w.live(s, r)
	defer s.turn()()
	var err error
	w.in(2*waitLimit, "Register "+l.name(), func() { err = w.hub.Register(context.Background(), l) })
	if err != nil {
		l.end(w.stamp.Add(1), errors.Is(err, context.DeadlineExceeded) || w.closing.Load() != 0)
		return
	}
	l.ready.Store(w.stamp.Add(1))
}

// unregister has the plugin of a slot leave.
func (w *World) unregister(ctx context.Context, s *slot) {
	defer s.turn()()
	leave := s.enter()
	before := w.started(s)
	w.leaves(before)
	var err error
	w.in(2*waitLimit, "Unregister "+s.id, func() { err = w.hub.Unregister(ctx, s.id) })
	alone := leave() && w.closing.Load() == 0
	if errors.Is(err, hub.ErrUnknownPlugin) || errors.Is(err, hub.ErrClosed) {
		return
	}
	if err == nil {
		s.mu.Lock()
		s.left = append(s.left, time.Now())
		s.mu.Unlock()
	}
	w.endAll(s, before, err != nil || !alone)
}

// leaves notes that plugins are to leave.
func (w *World) leaves(some []*life) {
	stamp := w.stamp.Add(1)
	for _, l := range some {
		l.leaving.CompareAndSwap(0, stamp)
	}
}

// started returns the lives of a slot that have joined.
func (w *World) started(s *slot) []*life {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []*life
	for _, l := range s.lives {
		if l.joined.Load() {
			some = append(some, l)
		}
	}
	return some
}

// endAll notes that the plugins of a slot have left whose sessions have ended; some of
// them must have.
func (w *World) endAll(s *slot, must []*life, cut bool) {
	stamp := w.stamp.Add(1)
	for _, l := range must {
		if !cut && !l.ended() {
			w.wrong("%s is to have left, and its session goes on", l.name())
		}
	}
	for _, l := range w.started(s) {
		if l.ended() {
			l.end(stamp, cut)
		}
	}
}

// ended reports whether the session has ended.
func (l *life) ended() bool {
	return errors.Is(l.session.Load().Go("a look", func(context.Context) {}), plugbus.ErrClosed)
}

// replace has the next plugin of a slot take the place of the one that is there.
func (w *World) replace(ctx context.Context, s *slot, r *rand.Rand, inside bool) {
	before := slices.DeleteFunc(w.started(s), (*life).ended)
	l := w.live(s, r)
	if len(before) > 0 {
		l.heirOf = before[len(before)-1]
	}
	defer s.turn()()
	leave := s.enter()
	w.leaves(before)
	begin := time.Now()
	var err error
	w.in(3*waitLimit, "Replace "+s.id, func() { err = w.hub.Replace(ctx, l) })
	alone := leave() && w.closing.Load() == 0
	if err != nil {
		l.end(w.stamp.Add(1), true)
		for _, other := range before {
			other.unsure.Store(true)
		}
		w.endAll(s, nil, true)
		return
	}
	l.seated.Store(w.stamp.Add(1))
	if len(before) > 0 {
		l.before = before[len(before)-1]
	}
	w.endAll(s, before, inside || !alone || ctx.Err() != nil || time.Since(begin) >= waitLimit) // What was cut off is no error.
}

func (w *World) restore(s *slot) {
	err := w.hub.Restore(s.id)
	if err == nil || errors.Is(err, hub.ErrUnknownPlugin) || errors.Is(err, hub.ErrClosed) || errors.Is(err, plugbus.ErrInvalid) {
		return
	}
	w.wrong("Restore %s: %v", s.id, err)
}

func (w *World) quarantine(s *slot) {
	err := w.hub.Quarantine(s.id, "it is to be looked at")
	for _, may := range []error{nil, hub.ErrUnknownPlugin, hub.ErrClosed, hub.ErrQuarantined, plugbus.ErrInvalid} {
		if errors.Is(err, may) {
			return
		}
	}
	w.wrong("Quarantine %s: %v", s.id, err)
}

// swap puts rules in force.
func (w *World) swap(next *rules) {
	w.swaps.Lock()
	defer w.swaps.Unlock()
	w.reign(next, "Swap", func() error {
		_, err := w.hub.Security().Swap(host, next.policy)
		return err
	})
}

// setTrust changes the trust of one plugin.
func (w *World) setTrust(id string, r *rand.Rand) {
	w.swaps.Lock()
	defer w.swaps.Unlock()
	level := pick(r, plugbus.Untrusted, plugbus.Basic, plugbus.Trusted)
	w.mu.Lock()
	next := w.reigns[len(w.reigns)-1].rules.withTrust(id, level)
	w.mu.Unlock()
	w.reign(next, "SetTrust", func() error { return w.hub.Security().SetTrust(host, id, level) })
}

// reign has rules take the place of those in force, and notes it. While it is being done
// both may hold. World.swaps is held.
func (w *World) reign(next *rules, what string, do func() error) {
	w.mu.Lock()
	w.reigns = append(w.reigns, reign{rules: next, from: time.Now()})
	n := len(w.reigns)
	w.mu.Unlock()
	err := do()
	w.mu.Lock()
	if err != nil {
		w.reigns = slices.Delete(w.reigns, n-1, n)
	} else {
		w.reigns[n-2].to = time.Now()
	}
	w.mu.Unlock()
	if err != nil && w.closing.Load() == 0 {
		w.wrong("%s: %v", what, err)
	}
}

// goDo runs a function of Session.Go.
func (l *life) goDo(a act) {
	r := a.dice
	_ = l.session.Load().Go("errand", func(ctx context.Context) {
		c := l.enter("function of Go", false)
		defer l.leave(c)
		for i := range r.IntN(5) {
			l.emit(ctx, r, a.n+uint64(i), 1) //nolint:gosec // It is small.
			select {
			case <-time.After(time.Duration(r.Int64N(int64(time.Second)))):
			case <-ctx.Done():
				return
			}
		}
		_ = l.behave(ctx, "go", a.n, maxDepth)
	})
}
