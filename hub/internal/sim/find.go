package sim

import (
	"math/rand/v2"
	"slices"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// An offer is one call of Provide that went well, until Withdraw.
type offer struct{ made, taken span }

// A search is one call of Find, Providers or Candidates, and whom it found.
type search struct {
	span
	by       string
	found    []string // that match
	excluded []string // that do not; of Candidates
	all      bool     // it is one of Candidates
	sure     []string // whose place nobody took or left meanwhile
}

// provide offers the capability.
func (l *life) provide(c discovery.Capability, handler router.Handler) {
	w := l.world
	o := &offer{made: w.begin()}
	w.mu.Lock()
	l.offers = append(l.offers, o) // It may be found before Provide returns.
	w.mu.Unlock()
	err := l.session.Load().Provide(c, handler)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finish(&o.made); err != nil {
		l.offers = slices.DeleteFunc(l.offers, func(other *offer) bool { return other == o })
	}
}

// withdraw ends all offers.
func (l *life) withdraw() {
	w := l.world
	w.mu.Lock()
	var open []*offer
	for _, o := range l.offers {
		if o.taken.begin == 0 {
			o.taken = w.begin()
			open = append(open, o)
		}
	}
	w.mu.Unlock()
	err := l.session.Load().Withdraw(capability)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range open {
		if err == nil {
			w.finish(&o.taken)
		}
	}
}

// find looks for providers.
func (w *World) find(s *hub.Session, r *rand.Rand) {
	f := &search{by: s.ID(), all: chance(r, 500)}
	still := map[string]func() bool{}
	for id, slot := range w.slots {
		still[id] = slot.still()
	}
	f.span = w.begin()
	var err error
	w.in(0, f.by+": Find", func() {
		criteria := discovery.Criteria{Require: discovery.Terms{Capabilities: []string{capability}}}
		if f.all {
			var all []discovery.Candidate
			all, err = s.Candidates(criteria)
			for i := range all {
				if len(all[i].Excluded) > 0 {
					f.excluded = append(f.excluded, all[i].Plugin)
					continue
				}
				f.found = append(f.found, all[i].Plugin)
			}
			return
		}
		var some []discovery.Match
		if chance(r, 500) {
			some, err = s.Find(criteria)
		} else {
			some, err = s.Providers(capability)
		}
		for i := range some {
			f.found = append(f.found, some[i].Plugin)
		}
	})
	w.finish(&f.span)
	for id, sure := range still {
		if sure() {
			f.sure = append(f.sure, id)
		}
	}
	if err != nil || w.closing.Load() != 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.searches = append(w.searches, f)
}

// checkSearch compares whom a plugin found with who was there.
func (w *World) checkSearch(f *search) {
	discovers := func(r *rules) bool { return f.by == host || r.grants[f.by].discover }
	if len(f.found)+len(f.excluded) > 0 && !slices.Contains(slices.Concat(f.found, f.excluded), f.by) && !ever(w.reigns, f.from, f.to, discovers) {
		w.wrong("%s found %q, and may find nobody", f.by, f.found)
	}
	known := map[string]bool{}
	for _, id := range slices.Concat(f.found, f.excluded) {
		if !w.slots[id].offered(f, false) || known[id] {
			w.wrong("%s found %s at %v, which did not provide anything, or found it twice", f.by, id, f.from.Sub(w.born))
		}
		known[id] = true
	}
	for _, id := range f.found {
		if w.inCaptivity(id, f.from) {
			w.wrong("%s found %s at %v, which is in quarantine", f.by, id, f.from.Sub(w.born))
		}
		provides := func(r *rules) bool { return r.grants[id].provide }
		if f.by != id && !ever(w.reigns, f.from, f.to, provides) {
			w.wrong("%s found %s at %v, which may provide nothing", f.by, id, f.from.Sub(w.born))
		}
	}
	if !f.all || w.mayBeHeld(f.by, f.from, f.to) {
		return
	}
	for _, id := range f.sure {
		provides := func(r *rules) bool { return r.grants[id].provide && discovers(r) }
		if slices.Contains(f.found, id) || slices.Contains(f.excluded, id) || w.mayBeHeld(id, f.from, f.to) || !always(w.reigns, f.from, f.to, provides) {
			continue
		}
		if w.slots[id].offered(f, true) {
			w.wrong("%s did not find %s at %v, which provides it", f.by, id, f.from.Sub(w.born))
		}
	}
}

// offered reports whether somebody of the slot may have offered the capability during a
// search, or did without doubt.
func (s *slot) offered(f *search, sure bool) bool {
	return slices.ContainsFunc(s.lives, func(l *life) bool {
		gone := l.gone.Load()
		return slices.ContainsFunc(l.offers, func(o *offer) bool {
			if sure {
				seated := l.before == nil || l.seated.Load() < f.begin && l.seated.Load() != 0
				return o.made.before(f.span) && o.taken.begin == 0 && l.joined.Load() && gone == 0 && seated && !l.unsure.Load() && l.heirOf == l.before
			}
			return o.made.begin < f.end && (o.taken.end == 0 || o.taken.end > f.begin) && (gone == 0 || gone > f.begin)
		})
	})
}
