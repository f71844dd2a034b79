package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/plugbus/plugbus/hub"
)

// check compares the records with what the promises say.
func (w *World) check() {
	w.mu.Lock()
	subs := slices.Clone(w.subs)
	w.mu.Unlock()
	bySeq := w.checkSights()
	for _, sub := range subs {
		w.checkOrder(sub)
		w.checkDeliveries(sub, bySeq)
		w.checkBooks(sub)
		w.checkMissed(sub, bySeq)
		w.checkBacklog(sub, bySeq)
	}
	w.checkPlugins(subs)
	for _, l := range w.lives {
		w.checkSwap(l, bySeq)
		w.checkReceived(l, bySeq)
	}
	for _, r := range w.replays {
		w.checkReplay(r, bySeq)
	}
	w.checkMessages()
	w.checkLetters()
	w.checkDoors()
	w.checkBudgets()
	for _, s := range w.watches {
		w.checkWatch(s)
	}
	for _, f := range w.searches {
		w.checkSearch(f)
	}
	for _, s := range w.shops {
		s.check(w)
	}
	w.tally.Emissions = uint64(len(w.emissions))
	w.tally.Messages = uint64(len(w.messages))
}

// checkSights compares what the witness saw with what was emitted, and returns the
// emissions by their place in the order. Every place has one event.
func (w *World) checkSights() map[uint64]*emission {
	bySeq := map[uint64]*emission{}
	var last uint64
	for _, e := range w.emissions {
		if e.receipt.Seq == 0 {
			continue
		}
		if e.err != nil {
			w.wrong("the emission %d failed with %v, and has the place %d", e.n, e.err, e.receipt.Seq)
		}
		if other := bySeq[e.receipt.Seq]; other != nil {
			w.wrong("the emissions %d and %d have the same place %d", e.n, other.n, e.receipt.Seq)
		}
		bySeq[e.receipt.Seq] = e
		last = max(last, e.receipt.Seq)
	}
	seen := map[uint64]bool{}
	for _, s := range w.seen {
		seen[s.seq] = true
		last = max(last, s.seq)
		if own(s.name) {
			continue
		}
		if e := bySeq[s.seq]; e == nil || e.n != s.n || e.name != s.name || e.by != s.source || s.at.Before(e.from) || s.at.After(e.to) {
			w.wrong("the witness saw %+v, which was not emitted so", s)
		}
	}
	closing := w.closing.Load()
	for seq := uint64(1); seq <= last; seq++ {
		e := bySeq[seq]
		if seen[seq] || e != nil && (e.broadcast || e.maxAge > 0 && e.to.Sub(e.from) >= e.maxAge) || closing != 0 && (e == nil || e.end > closing || !e.to.Before(w.closedAt)) {
			continue // Of those in the midst of closing there may be some that the witness no longer got.
		}
		w.wrong("the witness did not see event %d of %d: %+v", seq, last, e)
	}
	return bySeq
}

// checkOrder holds one subscription to the order of events.
func (w *World) checkOrder(sub *subscription) {
	w.tally.Deliveries += uint64(len(sub.got))
	if sub.once && len(sub.got) > 1 {
		w.wrong("%s: a subscription to %q for one event got %d", sub.life.name(), sub.pattern, len(sub.got))
	}
	got := slices.Clone(sub.got)
	if sub.concurrent {
		slices.SortFunc(got, func(a, b delivery) int { return cmp.Compare(a.seq, b.seq) })
	}
	for i, d := range got {
		if sub.quiet != 0 && d.stamp > sub.quiet {
			w.wrong("%v got event %d after Wait has returned", sub, d.seq)
		}
		if i > 0 && got[i].seq <= got[i-1].seq {
			w.wrong("%s: the subscription to %q (from %q) got event %d after %d", sub.life.name(), sub.pattern, sub.from, got[i].seq, got[i-1].seq)
		}
	}
}

// checkDeliveries compares what a subscription got with what was emitted, and what
// it did not get with its ledger.
func (w *World) checkDeliveries(sub *subscription, bySeq map[uint64]*emission) {
	got := map[uint64]delivery{}
	var first uint64
	whole := true
	for i, d := range sub.got {
		got[d.seq] = d
		if i == 0 || d.seq < first {
			first = d.seq
		}
		whole = whole && !d.truncated
		e := bySeq[d.seq]
		if d.n == 0 && e == nil {
			continue // It is the hub's.
		}
		if e == nil || e.n != d.n || !matches(sub.pattern, e.name) {
			w.wrong("%s: the subscription to %q got %+v, which is %+v", sub.life.name(), sub.pattern, d, e)
			continue
		}
		if !ever(w.reigns, d.at, d.at, func(r *rules) bool { return r.maySubscribe(sub.life.id, e.name) }) {
			w.wrong("%s got the event %d, %q, at %v, which it may not have", sub.life.name(), d.seq, e.name, d.at.Sub(w.born))
		}
		if w.inCaptivity(sub.life.id, d.at) {
			w.wrong("%s got the event %d, %q, at %v, in quarantine", sub.life.name(), d.seq, e.name, d.at.Sub(w.born))
		}
		if e.maxAge > 0 && d.at.After(e.to.Add(e.maxAge)) {
			w.wrong("%s got the event %d, %q, when it had expired", sub.life.name(), d.seq, e.name)
		}
		if !w.isFor(e, sub.life) {
			w.wrong("%v got the broadcast %d of %s at %v, which is for %+v", sub, d.seq, e.by, e.span, e.audience)
		}
		if d.replayed && (e.noHistory || sub.from == "") {
			w.wrong("%s got the event %d from the history, where it should not be", sub.life.name(), d.seq)
		}
	}
	// The events that were emitted while the subscription was there, without doubt.
	var missing, due, example uint64
	since := sub.since()
	end := sub.left.begin
	if end == 0 {
		end = w.closing.Load()
	}
	asked := w.asked(sub, bySeq)
	for seq, e := range bySeq {
		there := since.before(e.span) || whole && first != 0 && asked[seq]
		may := sub.from == "" || e.maxAge == 0 // Or it may have expired in the history.
		if !there || !may || e.end > end || sub.filtered || !matches(sub.pattern, e.name) || e.broadcast && !w.isSurelyFor(e, sub) {
			continue
		}
		if !always(w.reigns, e.from, time.Now(), func(r *rules) bool { return r.maySubscribe(sub.life.id, e.name) }) {
			continue
		}
		due++
		if _, ok := got[seq]; !ok {
			missing++
			example = seq
		}
	}
	if sub.once || sub.expires > 0 || !whole || sub.life.gone.Load() != 0 || sub.life.unsure.Load() || sub.handle == nil {
		return
	}
	l := sub.handle.Stats().Ledger
	if sub.from != "" && w.turned(sub.life.id, sub.made.from, time.Now()) {
		return // A page of the history that is read in quarantine is empty.
	}
	if sub.from != "" && !slices.ContainsFunc(sub.got, func(d delivery) bool {
		return !d.replayed && bySeq[d.seq] != nil && !bySeq[d.seq].broadcast && !bySeq[d.seq].noHistory
	}) {
		return // It may not have read all of the history, from where what is live comes too until then.
	}
	if lost := l.Refused + l.Full + l.Dropped + l.Expired + l.Cancelled + l.Undeliverable; missing > lost {
		w.wrong("%v did not get %d of %d events, such as %d (%+v), and its ledger knows of %d: %v", sub, missing, due, example, bySeq[example].span, lost, l)
	}
}

// checkSwap holds the subscriptions that a plugin and the one in whose place it came had
// alike to what Replace promises: each event went to one of them, in one order.
func (w *World) checkSwap(l *life, bySeq map[uint64]*emission) {
	if l.before == nil || l.alike.Load() == nil || l.before.alike.Load() == nil {
		return
	}
	old, now := l.before.alike.Load(), l.alike.Load()
	if w.tally.Swaps++; now.from != "" {
		return // It reads all of the history once more.
	}
	got := map[uint64]bool{}
	var last uint64
	for _, d := range old.got {
		got[d.seq] = true
		last = max(last, d.seq)
	}
	for _, d := range now.got {
		if got[d.seq] || d.seq < last {
			w.wrong("%s got the event %d, and the plugin whose place it took got %d, the same or a later one", l.name(), d.seq, last)
			return
		}
		got[d.seq] = true
	}
	if l.cut.Load() || l.unsure.Load() || old.from != "" && w.turned(l.id, old.made.from, time.Now()) ||
		slices.ContainsFunc(old.got, func(d delivery) bool { return d.truncated }) {
		return
	}
	since, end := old.since(), w.closing.Load()
	if leaving := l.leaving.Load(); leaving != 0 {
		end = min(end, leaving)
	}
	var missing, example uint64
	for seq, e := range bySeq {
		if since.before(e.span) && e.end < end && !e.broadcast && !got[seq] &&
			always(w.reigns, e.from, time.Now(), func(r *rules) bool { return r.maySubscribe(l.id, e.name) }) {
			missing++
			example = seq
		}
	}
	one, other := old.handle.Stats().Ledger, now.handle.Stats().Ledger
	one.Add(other)
	if lost := one.Refused + one.Full + one.Dropped + one.Expired + one.Cancelled + one.Undeliverable; missing > lost {
		w.wrong("%s, and the plugin whose place it took, did not get %d events, such as %d (%v), and their ledgers know of %d: %v",
			l.name(), missing, example, bySeq[example].span, lost, one)
	}
}

// checkBooks compares the ledger of a subscription with the calls of its handler.
func (w *World) checkBooks(sub *subscription) {
	if sub.handle == nil {
		return
	}
	l := sub.handle.Stats().Ledger
	if err := l.Check(); err != nil || l.Waiting != 0 || l.Running != 0 {
		w.wrong("%s: the subscription to %q has ended with %v (%v)", sub.life.name(), sub.pattern, l, err)
	}
	// What a filter has let pass is cancelled if the subscription has ended meanwhile.
	// What had begun when the plugin was cut off may not have got as far as the handler.
	ended := l.Handled + l.Failed + l.Abandoned
	least := ended
	if sub.filtered {
		least += l.Cancelled
	}
	if sub.late > l.Abandoned {
		w.wrong("%v had %d calls that took longer than %v, and its ledger has %v", sub, sub.late, sub.timeout, l)
	}
	if least < sub.calls || ended-min(ended, l.Abandoned) > sub.calls {
		w.wrong("%v was called %d times, and its ledger has %d: %v", sub, sub.calls, ended, l)
	}
}

// checkPlugins holds each plugin to the order of events over all of its
// subscriptions that take no history and run one at a time.
func (w *World) checkPlugins(subs []*subscription) {
	type step struct {
		delivery
		sub *subscription
	}
	byLife := map[*life][]step{}
	for _, sub := range subs {
		if sub.concurrent || sub.from != "" {
			continue
		}
		for _, d := range sub.got {
			byLife[sub.life] = append(byLife[sub.life], step{d, sub})
		}
	}
	for l, steps := range byLife {
		slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.stamp, b.stamp) })
		for i := 1; i < len(steps); i++ {
			a, b := steps[i-1], steps[i]
			younger := a.sub.priority == b.sub.priority && b.sub.made.before(a.sub.made)
			if a.seq > b.seq || a.seq == b.seq && (a.sub.priority < b.sub.priority || younger) {
				w.wrong("%s handled event %d (%q, priority %d) before %d (%q, priority %d)", l.name(), a.seq, a.sub.pattern, a.sub.priority, b.seq, b.sub.pattern, b.sub.priority)
			}
		}
	}
}

// checkReplay holds a replay to the history.
func (w *World) checkReplay(r *replay, bySeq map[uint64]*emission) {
	got := map[uint64]bool{}
	for _, seq := range r.seqs {
		got[seq] = true
		e := bySeq[seq]
		if e == nil {
			continue // It is the hub's.
		}
		if !matches(r.pattern, e.name) || e.noHistory || seq <= r.after || e.maxAge > 0 && r.from.After(e.to.Add(e.maxAge)) {
			w.wrong("%s: a replay of %q after %d has %d, which is %+v", r.by, r.pattern, r.after, seq, e)
		}
		if to := e.audience.IDs; e.broadcast && (r.by == e.by || len(to) > 0 && !slices.Contains(to, r.by)) {
			w.wrong("%s: a replay has %d, a broadcast of %s to %q", r.by, seq, e.by, to)
		}
		if !r.host && !ever(w.reigns, r.from, r.to, func(rules *rules) bool { return rules.maySubscribe(r.by, e.name) }) {
			w.wrong("%s: a replay has the event %d, %q, which it may not have", r.by, seq, e.name)
		}
	}
	if r.err != nil || r.truncated || w.turned(r.by, r.from, r.to) {
		return
	}
	for seq, e := range bySeq {
		may := r.host || always(w.reigns, r.from, r.to, func(rules *rules) bool { return rules.maySubscribe(r.by, e.name) })
		if seq > r.after && e.before(r.span) && !e.noHistory && e.maxAge == 0 && !e.broadcast && may && matches(r.pattern, e.name) &&
			r.from.Sub(e.to) < w.plan.Options.Events.HistoryAge && !got[seq] {
			w.wrong("%s: a replay of %q after %d does not have %d, %q, and says nothing: %v", r.by, r.pattern, r.after, seq, e.name, r.seqs)
		}
	}
}

// inCaptivity reports whether a plugin was in quarantine at a time, and just before and
// after.
func (w *World) inCaptivity(id string, at time.Time) bool {
	return slices.ContainsFunc(w.held, func(c captivity) bool { return c.id == id && c.from.Before(at) && c.to.After(at) })
}

// turned reports whether a plugin came into quarantine or out of it in a time.
func (w *World) turned(id string, from, to time.Time) bool {
	return slices.ContainsFunc(w.seen, func(s sight) bool {
		return s.about == id && (s.name == hub.EventQuarantined || s.name == hub.EventRestored) && !s.at.Before(from) && !s.at.After(to)
	})
}
