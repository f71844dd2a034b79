package sim

import (
	"slices"
)

// isFor reports whether a broadcast may be for a plugin; every other event is.
func (w *World) isFor(e *emission, l *life) bool {
	if !e.broadcast {
		return true
	}
	named := len(e.audience.IDs) == 0 || slices.Contains(e.audience.IDs, l.id)
	return named && l.id != e.by && l.began < e.end &&
		ever(w.reigns, e.from, e.to, func(r *rules) bool { return r.grants[l.id].trust >= e.audience.LeastTrust })
}

// isSurelyFor reports whether a broadcast is for a subscription without doubt. Who is in
// quarantine is passed over.
func (w *World) isSurelyFor(e *emission, s *subscription) bool {
	id := s.life.id
	return s.from == "" && w.isFor(e, s.life) && !w.mayBeHeld(id, e.from, e.to) &&
		always(w.reigns, e.from, e.to, func(r *rules) bool { return r.grants[id].trust >= e.audience.LeastTrust })
}

// asked returns the events of the history that a subscription asked for, and that it must
// have if nothing it got says that some are gone.
func (w *World) asked(s *subscription, bySeq map[uint64]*emission) map[uint64]bool {
	var kept []uint64
	for seq, e := range bySeq {
		if e.before(s.made) && !e.noHistory && e.maxAge == 0 && !e.broadcast && matches(s.pattern, e.name) && s.made.from.Sub(e.to) < w.plan.Options.Events.HistoryAge {
			kept = append(kept, seq)
		}
	}
	slices.Sort(kept)
	wanted := map[uint64]bool{}
	var first, replayed, there uint64 // of what came from before it was made
	for _, d := range s.got {
		if e := bySeq[d.seq]; d.replayed && e != nil && e.begin < s.made.end {
			if e.before(s.made) {
				there++
			}
			if replayed++; first == 0 || d.seq < first {
				first = d.seq
			}
		}
	}
	latest := map[string]uint64{}
	unsure := map[string]uint64{} // the last of a name that it may have got in the place of another
	for seq, e := range bySeq {
		if e.begin < s.made.end && (!e.before(s.made) || e.broadcast || e.maxAge > 0) {
			unsure[e.name] = max(unsure[e.name], seq)
		}
	}
	if s.life.heirOf != nil && (s.from == "last" || s.from == "latest") {
		return nil // They are those of when it has the place.
	}
	for _, seq := range kept {
		e := bySeq[seq]
		latest[e.name] = seq
		switch s.from {
		case "all":
			wanted[seq] = true
		case "after":
			wanted[seq] = seq > s.n
		case "since":
			wanted[seq] = e.from.After(s.after)
		case "last":
			wanted[seq] = replayed < s.n && !own(s.pattern) || first != 0 && seq > first
		}
	}
	if s.from == "latest" {
		for name, seq := range latest {
			wanted[seq] = seq > unsure[name]
		}
	}
	if s.from == "last" && there > s.n {
		w.wrong("%v asked for the last %d events, and got %d that were there before", s, s.n, there)
	}
	return wanted
}

// checkReceived holds the broadcasts that a plugin received to what was emitted.
func (w *World) checkReceived(l *life, bySeq map[uint64]*emission) {
	w.tally.Deliveries += uint64(len(l.got))
	for i, d := range l.got {
		if i > 0 && d.seq <= l.got[i-1].seq {
			w.wrong("%s received the broadcast %d after %d", l.name(), d.seq, l.got[i-1].seq)
		}
		e := bySeq[d.seq]
		if e == nil || !e.broadcast || e.n != d.n || !w.isFor(e, l) {
			w.wrong("%s received %d, which is %+v", l.name(), d.seq, e)
			continue
		}
		if !ever(w.reigns, d.at, d.at, func(r *rules) bool { return r.maySubscribe(l.id, e.name) }) || w.inCaptivity(l.id, d.at) {
			w.wrong("%s received the broadcast %d, %q, at %v, which it may not have", l.name(), d.seq, e.name, d.at.Sub(w.born))
		}
		if e.maxAge > 0 && d.at.After(e.to.Add(e.maxAge)) {
			w.wrong("%s received the broadcast %d, %q, when it had expired", l.name(), d.seq, e.name)
		}
	}
}

// checkBacklog counts the events that waited for a subscription at a time, and came.
func (w *World) checkBacklog(s *subscription, bySeq map[uint64]*emission) {
	most := s.most + s.buffer
	if !s.own {
		most = 2*s.buffer + max(1, s.buffer/8) // What it has claimed, and the broadcasts.
	}
	if s.from != "" || len(s.got) <= most {
		return
	}
	for _, d := range s.got {
		waited := 0
		for _, other := range s.got {
			if e := bySeq[other.seq]; e != nil && e.end < d.stamp && d.stamp < other.stamp {
				waited++
			}
		}
		if waited > most {
			w.wrong("%v has room for %d events, and got %d that waited while it handled %d", s, s.buffer, waited, d.seq)
			return
		}
	}
}

// checkMissed compares what a subscription was told that it missed with what its ledger
// says was dropped, and that with what it had room for.
func (w *World) checkMissed(s *subscription, bySeq map[uint64]*emission) {
	if s.handle == nil {
		return
	}
	l := s.handle.Stats().Ledger
	var told, last, all uint64
	for _, d := range s.got {
		told += uint64(d.missed) //nolint:gosec // It is a count.
		last = max(last, d.seq)
	}
	sure := !s.once && !s.filtered && !s.concurrent && s.expires == 0 && s.left.begin == 0 && s.life.gone.Load() == 0 && !s.life.unsure.Load()
	for seq, e := range bySeq {
		if !matches(s.pattern, e.name) {
			continue
		}
		all++
		sure = sure && seq <= last // What was dropped after the last one is told to nobody.
	}
	for i := range w.seen {
		if n := w.seen[i].name; own(n) && matches(s.pattern, n) && anyMatches([]string{s.pattern}, n) {
			all++
			sure = false
		}
	}
	if told > l.Dropped || sure && told < l.Dropped && l.Undeliverable+l.Expired+l.Cancelled == 0 {
		w.wrong("%v was told that it missed %d events, and its ledger has %v", s, told, l)
	}
	if l.Dropped > 0 && (s.refuses || all <= uint64(s.buffer)) { //nolint:gosec // It is a count.
		w.wrong("%v has room for %d events, of %d, and lost some to the overflow rule: %v", s, s.buffer, all, l)
	}
}
