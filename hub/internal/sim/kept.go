package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/plugbus/plugbus/store"
)

// check compares the records of a store with each other.
func (s *shop) check(w *World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, over := false, false
	state := map[string]uint64{} // revisions of the keys
	byRevision := map[uint64][]change{}
	var last uint64
	for _, c := range s.changes {
		if over {
			w.wrong("%s: the host's watch goes on after the store was dropped", s.name)
		}
		switch {
		case c.kind == store.Dropped:
			over = true
			continue
		case c.kind == store.Synced:
			live = true
			continue
		case c.kind == store.Lagged:
			w.wrong("%s: the host's watch lags", s.name)
		case !live:
			state[c.key] = c.revision
			continue
		}
		if state[c.key] != c.old {
			w.wrong("%s: the change of %q at %d is one of revision %d, and the one before it was %d", s.name, c.key, c.revision, c.old, state[c.key])
		}
		if state[c.key] = c.revision; c.kind != store.Set {
			delete(state, c.key)
		}
		if c.kind == store.Expired && c.writer != "" || c.revision <= last {
			w.wrong("%s: the host's watch goes back from %d to %d", s.name, last, c.revision)
		}
		last = c.revision
		if slices.ContainsFunc(byRevision[c.revision], func(other change) bool { return other.key == c.key }) {
			w.wrong("%s: the change of %q at %d is told twice", s.name, c.key, c.revision)
		}
		byRevision[c.revision] = append(byRevision[c.revision], c)
	}
	told := func(wr *write) bool {
		return slices.ContainsFunc(byRevision[wr.entry.Revision()], func(c change) bool {
			as := wr.kind == "set" || wr.expected == c.old // Create expects none.
			return c.key == wr.key && c.n == wr.n && c.writer == wr.by && as
		})
	}
	if s.gone.end != 0 && s.gone.end < w.closing.Load() && len(s.changes) > 0 && !over {
		w.wrong("%s: it was dropped, and the host's watch was not told", s.name)
	}
	for _, wr := range s.writes {
		s.checkWrite(w, wr, live)
		if wr.err == nil && wr.entry.Revision() != 0 && wr.to.Before(w.closedAt) && !told(wr) && !s.inSnapshot(wr) {
			w.wrong("%s: %s wrote %d to %q at %d, and the host's watch was not told", s.name, wr.by, wr.n, wr.key, wr.entry.Revision())
		}
	}
	for _, lk := range s.looks {
		if lk.err != nil {
			s.checkNone(w, lk)
			continue
		}
		if !lk.expires.IsZero() && !lk.expires.After(lk.from) {
			w.wrong("%s: %s read %q at %v, which had expired at %v", s.name, lk.by, lk.key, lk.from.Sub(w.born), lk.expires.Sub(w.born))
		}
		if may := func(r *rules) bool { return r.grants[lk.by].read }; !ever(w.reigns, lk.from, lk.to, may) || !s.open(lk.by, lk.from, lk.to) {
			w.wrong("%s: %s read %q at %v, which it may not", s.name, lk.by, lk.key, lk.from.Sub(w.born))
		}
		for _, wr := range s.writes {
			if wr.err == nil && wr.key == lk.key && wr.entry.Revision() > lk.revision && wr.before(lk.span) {
				w.wrong("%s: a read of %q has revision %d, but %d was written before it began", s.name, lk.key, lk.revision, wr.entry.Revision())
			}
			if wr.err == nil && wr.key == lk.key && wr.entry.Revision() == lk.revision && lk.before(wr.span) {
				w.wrong("%s: a read of %q has revision %d, which was written after it ended", s.name, lk.key, lk.revision)
			}
		}
	}
	s.checkExpiries(w)
	w.tally.Writes += uint64(len(s.writes))
	w.tally.Looks += uint64(len(s.looks))
	w.tally.Changes += uint64(len(s.changes))
}

// inSnapshot reports whether a write was before the host's watch began.
func (s *shop) inSnapshot(wr *write) bool {
	for _, c := range s.changes {
		if c.kind == store.Synced {
			return wr.entry.Revision() <= c.revision
		}
	}
	return true // It had not begun when the hub closed.
}

// checkWrite holds a write to the rights of its plugin, to the validator, and a deletion
// to what the host was told.
func (s *shop) checkWrite(w *World, wr *write, live bool) {
	if owner := w.slots[s.owner]; errors.Is(wr.err, store.ErrNoValidator) && wr.sure && wr.end < w.closing.Load() && !w.mayBeHeld(s.owner, wr.from, wr.to) {
		sees := always(w.reigns, wr.from, wr.to, func(r *rules) bool { return r.grants[s.owner].read })
		if l := owner.present(wr.span); l != nil && l.guards != 0 && l.guards < wr.begin && sees {
			w.wrong("%s: %s wrote %q at %v, and %s is there: %v", s.name, wr.by, wr.key, wr.from.Sub(w.born), l.name(), wr.err)
		}
	}
	if wr.err != nil {
		return
	}
	if may := func(r *rules) bool { return r.grants[wr.by].write }; wr.by != host && (!ever(w.reigns, wr.from, wr.to, may) || !s.open(wr.by, wr.from, wr.to)) {
		w.wrong("%s: %s wrote %q at %v, which it may not", s.name, wr.by, wr.key, wr.to.Sub(w.born))
	}
	if s.checked && wr.entry.Revision() != 0 && !s.judged[wr.n] {
		w.wrong("%s: %s wrote %d to %q, which the validator has not let pass", s.name, wr.by, wr.n, wr.key)
	}
	if wr.kind != "delete if" || !live || wr.end >= w.closing.Load() {
		return
	}
	for _, c := range s.changes {
		if c.kind == store.Deleted && c.key == wr.key && c.old == wr.expected && c.writer == wr.by || c.kind == store.Synced && wr.expected <= c.revision {
			return
		}
	}
	w.wrong("%s: %s deleted %q as it was at %d, and the host's watch was not told", s.name, wr.by, wr.key, wr.expected)
}

// checkWatch looks whether a watch of a plugin that is there at the end was told what the
// host was told.
func (w *World) checkWatch(s *watching) {
	l, shop := s.life, s.shop
	end := w.closedAt.Add(-1)
	if l.ready.Load() == 0 && (l.seated.Load() == 0 || l.seated.Load() > s.made.begin) {
		return // It begins when the plugin has its place.
	}
	if s.over || s.latest || l.busy || l.cut.Load() || l.unsure.Load() || l.leaving.Load() != 0 || l.gone.Load() != 0 || shop.dropped || w.mayBeHeld(l.id, end, end) {
		return
	}
	shut := func(at time.Time) bool {
		closed := func(of listing) bool { return !of.open && !of.from.After(end) && (of.to.IsZero() || !of.to.Before(at)) }
		return shop.owner != l.id && slices.ContainsFunc(shop.lists, closed)
	}
	for _, c := range shop.changes {
		told := c.kind == store.Set || c.kind == store.Deleted || c.kind == store.Expired
		if !told || !c.at.After(s.made.from) || !c.at.Before(end) || s.told[c.revision] || c.revision <= s.synced || s.pattern == "k1" && c.key != "k1" || shut(c.at) {
			continue
		}
		if always(w.reigns, c.at, end, func(r *rules) bool { return r.grants[l.id].read }) {
			w.wrong("%s: a watch of %s was not told of %q at %d, at %v", l.name(), shop.name, c.key, c.revision, c.at.Sub(w.born))
			return
		}
	}
}

// checkNone holds a read that found nothing to what there was at that time, by what the
// host was told.
func (s *shop) checkNone(w *World, lk *look) {
	if !errors.Is(lk.err, store.ErrNotFound) {
		return
	}
	begins := map[uint64]uint64{} // of writes, by revision
	ends := map[uint64]uint64{}
	for _, wr := range s.writes {
		if v := wr.entry.Revision(); wr.err == nil && v != 0 {
			begins[v], ends[v] = wr.begin, wr.end
		}
	}
	there := false // when the read began, and until the last look
	live := false
	for _, c := range s.changes {
		live = live || c.kind == store.Synced
		if c.key != lk.key || !live {
			continue
		}
		before := c.stamp < lk.begin || ends[c.revision] != 0 && ends[c.revision] < lk.begin
		switch {
		case before:
			there = c.kind == store.Set && c.expires.IsZero()
		case begins[c.revision] > lk.end: // Nor is any after it.
		case c.kind != store.Set || !c.expires.IsZero():
			return
		}
	}
	if there {
		w.wrong("%s: %s read %q at %v and found nothing, but it was there", s.name, lk.by, lk.key, lk.from.Sub(w.born))
	}
}

// checkExpiries looks for entries that are there after their time.
func (s *shop) checkExpiries(w *World) {
	if s.dropped {
		return
	}
	latest := map[string]change{}
	for _, c := range s.changes {
		if c.key != "" {
			latest[c.key] = c
		}
	}
	for key, c := range latest {
		if !c.expires.IsZero() && c.expires.Before(w.closedAt) {
			w.wrong("%s: %q of revision %d was to expire at %v, and the host's watch was not told", s.name, key, c.revision, c.expires.Sub(w.born))
		}
	}
}
