package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// checkDoors holds what the doors let in to the rights and rates of then, what they kept
// out to a reason, and their books to both.
func (w *World) checkDoors() {
	var full, refused uint64
	turned := func(by string, sp span, err error) {
		denied, ok := errors.AsType[*plugbus.DeniedError](err)
		if !ok {
			return
		}
		refused++
		if denied.Reason == plugbus.ReasonQuarantined && denied.Plugin == by && !w.mayBeHeld(by, sp.from, sp.to) && !w.mayBeBarred(by) {
			w.wrong("%s was refused at %v since it is in quarantine, and it is not: %v", by, sp.from.Sub(w.born), err)
		}
	}
	for _, e := range w.emissions {
		if e.end == 0 {
			continue
		}
		turned(e.by, e.span, e.err)
		full += uint64(e.receipt.Full) //nolint:gosec // It is a count.
		if e.receipt.Seq != 0 && !ever(w.reigns, e.from, e.to, func(r *rules) bool { return r.mayEmit(e.by, e.name) }) {
			w.wrong("%s emitted %q at %v, which it may not", e.by, e.name, e.to.Sub(w.born))
		}
		if e.wait && e.receipt.Full > 0 {
			w.wrong("%s emitted the event %d with time to wait, and %d queues had no room", e.by, e.receipt.Seq, e.receipt.Full)
		}
	}
	for _, m := range w.messages {
		if m.end == 0 {
			continue
		}
		full += uint64(m.full) //nolint:gosec // It is a count.
		if m.kind == "call" {
			continue // Of its messages there may be several.
		}
		turned(m.from, m.span, m.err)
		if errors.Is(m.err, router.ErrQueueFull) {
			full++
		}
		if m.kind == "publish" && m.accepted > 0 && !ever(w.reigns, m.span.from, m.span.to, func(r *rules) bool { return r.mayPublish(m.from, m.topic) }) {
			w.wrong("%s published %q at %v, which it may not", m.from, m.topic, m.span.to.Sub(w.born))
		}
	}
	if l := w.final.Ledger; l.Full < full || l.Refused < refused {
		w.wrong("the books have %d refused and %d for which there was no room, and callers heard of %d and %d", l.Refused, l.Full, refused, full)
	}
	for i := range w.reigns {
		w.checkRates(&w.reigns[i])
	}
}

// checkRates counts what slow plugins emitted in a reign.
func (w *World) checkRates(r *reign) {
	to := r.to
	if to.IsZero() {
		to = time.Now()
	}
	for id, g := range r.rules.grants {
		if !g.slow {
			continue
		}
		n, starts := uint64(0), uint64(1)
		for _, l := range w.slots[id].lives {
			if began := l.start; !began.Before(r.from) && !began.After(to) {
				starts++
			}
		}
		for _, e := range w.emissions {
			if e.by == id && e.receipt.Seq != 0 && e.from.After(r.from) && e.to.Before(to) {
				n++
			}
		}
		if most := starts*slowBurst + uint64(to.Sub(r.from).Minutes()*slowRate) + 1; n > most {
			w.wrong("%s emitted %d events in %v, and may emit %d", id, n, to.Sub(r.from), most)
		}
	}
}

// mayBeHeld reports whether a plugin may have been in quarantine at some moment of a
// time, by the notices that the witness saw.
func (w *World) mayBeHeld(id string, from, to time.Time) bool {
	if !w.closedAt.IsZero() && !to.Before(w.closedAt) {
		return true // Not all notices have come.
	}
	held := false
	for i := range w.seen {
		s := &w.seen[i]
		switch {
		case s.about != id:
		case s.name == hub.EventQuarantined && !s.at.After(to):
			held = true
		case s.name == hub.EventRestored && s.at.Before(from):
			held = false
		}
	}
	return held
}

// mayBeBarred reports whether there was a plugin that did not get its place, which is in
// quarantine with the one that had it, and is not restored.
func (w *World) mayBeBarred(id string) bool {
	s := w.slots[id]
	return s != nil && slices.ContainsFunc(s.lives, func(l *life) bool { return l.heirOf != nil && l.seated.Load() == 0 })
}

// checkBudgets looks whether the plugins are in quarantine that fail too often.
func (w *World) checkBudgets() {
	budget := w.plan.Options.FailureBudget
	for _, l := range w.lives {
		for i := budget; budget >= 0 && i < len(l.blown); i++ {
			first, last := l.blown[i-budget], l.blown[i]
			if last.Sub(first) < time.Minute && l.gone.Load() == 0 && l.seated.Load() == 0 && l.heirOf == nil && !w.mayBeHeld(l.id, l.start, last) {
				w.wrong("%s failed %d times until %v, and is not in quarantine", l.name(), budget+1, last.Sub(w.born))
				return
			}
		}
	}
}
