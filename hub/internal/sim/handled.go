package sim

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// checkMessages compares what handlers got with what was sent.
func (w *World) checkMessages() {
	type pair struct {
		from, to string
		priority plugbus.Priority
	}
	type step struct {
		handling
		sent *message
	}
	byPair := map[pair][]step{}
	var handled uint64
	for _, m := range w.messages {
		handled += uint64(len(m.handled))
		again := w.retries(m)
		tries := 1 + len(m.resent)
		places := map[[2]any]int{}
		for _, h := range m.handled {
			place := [2]any{h.life, h.route}
			places[place]++
			if !again && (places[place] > tries || len(m.handled) > tries && (m.kind == "send" || m.kind == "post" || m.kind == "stream")) {
				w.wrong("message %d, %s from %s to %s, was handled %d times, and sent %d times", m.n, m.kind, m.from, m.to, len(m.handled), tries)
			}
			if m.maxAge > 0 && tries == 1 && !again && m.end != 0 && h.at.After(m.span.to.Add(m.maxAge)) {
				w.wrong("message %d, %s from %s to %s, was handled when it had expired", m.n, m.kind, m.from, m.to)
			}
			if !w.permitted(m, h) {
				w.wrong("message %d, %s from %s to %s, was handled at %v, when it was not allowed", m.n, m.kind, m.from, h.life.name(), h.at.Sub(w.born))
			}
			if w.inCaptivity(h.life.id, h.at) {
				w.wrong("message %d, %s from %s to %s, was handled at %v, in quarantine", m.n, m.kind, m.from, h.life.name(), h.at.Sub(w.born))
			}
			if h.serial && tries == 1 && !again {
				p := pair{m.from, h.life.id, m.priority}
				byPair[p] = append(byPair[p], step{h, m})
			}
		}
		if m.replied && len(m.handled) == 0 {
			w.wrong("message %d, %s from %s to %s, has a reply, and nobody handled it", m.n, m.kind, m.from, m.to)
		}
		if denied := errors.Is(m.err, plugbus.ErrDenied); denied && m.kind == "post" && len(m.handled) > 0 {
			w.wrong("message %d from %s to %s was refused, and handled: %v", m.n, m.from, m.to, m.err)
		}
		if m.kind == "publish" && m.from == host && len(m.handled) > m.accepted+len(m.resent) && m.end != 0 && !again {
			w.wrong("publication %d of %s was accepted %d times, and handled %d times", m.n, m.from, m.accepted, len(m.handled))
		}
	}
	for p, steps := range byPair {
		slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.stamp, b.stamp) })
		var latest step
		for _, s := range steps {
			if latest.sent != nil && s.sent.before(latest.sent.span) {
				w.wrong("%+v: %s %d (%v) was handled by version %d at %v before %s %d (%v), which was sent before, by version %d at %v", p, latest.sent.kind, latest.sent.n,
					latest.sent.err, latest.life.version, latest.at.Sub(w.born), s.sent.kind, s.sent.n, s.sent.err, s.life.version, s.at.Sub(w.born))
			}
			if latest.sent == nil || s.sent.begin > latest.sent.begin {
				latest = s
			}
		}
	}
	w.tally.Handlings += handled
	byLife := map[*life][]queued{}
	for p, steps := range byPair {
		for _, s := range steps {
			if s.sent.end != 0 && s.sent.end < s.stamp && (s.sent.kind == "post" || s.sent.kind == "publish") {
				byLife[s.life] = append(byLife[s.life], queued{s.sent.end, s.stamp, p.from, p.priority})
			} else {
				byLife[s.life] = append(byLife[s.life], queued{0, s.stamp, p.from, p.priority})
			}
		}
	}
	for l, all := range byLife {
		w.checkLanes(l, all)
		w.checkShares(l, all)
	}
	for _, m := range w.messages {
		w.checkReached(m)
		w.checkReleased(m)
		w.checkKept(m)
	}
}

// A queued message is one that a worker handled: it waited in a mailbox from before one
// stamp until just before another. The first is 0 if it may not have waited.
type queued struct {
	since, until uint64
	from         string
	priority     plugbus.Priority
}

// checkLanes holds the order in which a plugin handled messages to the weights of the
// lanes: of those that wait, no priority starves, and the higher one goes first.
func (w *World) checkLanes(l *life, all []queued) {
	for _, q := range all {
		if q.since == 0 {
			continue
		}
		var higher, same, lower int
		for _, other := range all {
			switch {
			case other.until <= q.since || other.until >= q.until:
			case other.priority > q.priority:
				higher++
			case other.priority == q.priority:
				same++
			default:
				lower++
			}
		}
		// A round has 8, 4 and 1, and one is on its way. The rounds end with those of the low lane.
		if q.priority == plugbus.PriorityLow && higher > 12*(same+2)+1 {
			w.wrong("%s handled %d messages of higher priority, and %d others, while one of low priority waited", l.name(), higher, same)
		}
		if q.priority == plugbus.PriorityHigh && lower > 5*(same/8+2)+1 {
			w.wrong("%s handled %d messages of lower priority, and %d others, while one of high priority waited", l.name(), lower, same)
		}
	}
}

// checkShares counts how many messages of one sender waited for a plugin at a time.
func (w *World) checkShares(l *life, all []queued) {
	share := max(1, w.plan.Options.Router.MailboxMessages/4)
	for _, q := range all {
		waited := 0
		for _, other := range all {
			if other.from == q.from && other.since != 0 && other.since <= q.since && q.since < other.until {
				waited++
			}
		}
		if waited > share+1 { // One may be on its way to its handler.
			w.wrong("%d messages from %s waited for %s, and its share is %d", waited, q.from, l.name(), share)
			return
		}
	}
}

// checkReached looks whether a plugin that is there can be reached.
func (w *World) checkReached(m *message) {
	unknown, unhandled := errors.Is(m.err, router.ErrUnknownTarget), errors.Is(m.err, router.ErrNoHandler)
	if !m.sure || m.end == 0 || m.end > w.closing.Load() || m.kind != "send" && m.kind != "post" || !unknown && !unhandled {
		return
	}
	l := w.slots[m.to].present(m.span)
	if l == nil || unhandled && !slices.Contains(l.types, m.typ) && !slices.Contains(l.types, "") {
		return
	}
	w.wrong("message %d, %s from %s to %s at %v, which is there: %v", m.n, m.kind, m.from, l.name(), m.span.from.Sub(w.born), m.err)
}

// checkReleased looks whether who waits for a plugin comes back when that leaves.
func (w *World) checkReleased(m *message) {
	s := w.slots[m.to]
	if s == nil || m.kind != "send" && m.kind != "stream" || m.end == 0 || w.retries(m) {
		return
	}
	for _, left := range s.left {
		if m.span.from.Before(left) && m.span.to.After(left) {
			w.wrong("message %d, %s from %s to %s, has its answer at %v, and the plugin left at %v: %v", m.n, m.kind, m.from, m.to, m.span.to.Sub(w.born), left.Sub(w.born), m.err)
		}
	}
}

// checkKept looks for posts that were accepted, and are nowhere.
func (w *World) checkKept(m *message) {
	s := w.slots[m.to]
	if s == nil || m.kind != "post" || m.end == 0 || m.err != nil || len(m.handled)+len(m.resent) > 0 || m.maxAge > 0 {
		return
	}
	if from := w.slots[m.from]; from != nil && (w.mayBeHeld(m.from, m.span.from, w.closedAt.Add(-1)) || slices.ContainsFunc(from.lives, (*life).moved)) {
		return // What a plugin has sent is not handled in its quarantine, nor when it has left.
	}
	if w.report.Cancelled+w.report.Abandoned > 0 || w.mayBeHeld(m.to, m.span.from, w.closedAt.Add(-1)) || !m.span.to.Before(w.closedAt) {
		return
	}
	may := func(r *rules) bool {
		return r.mayMessage(m.from, m.to) && !r.shies(m.to) && (m.from == host || names(r.grants[m.to].receive, m.from))
	}
	if !always(w.reigns, m.span.from, time.Now(), may) {
		return
	}
	for _, l := range s.lives {
		handles := slices.Contains(l.types, m.typ) || slices.Contains(l.types, "")
		if l.cut.Load() || l.unsure.Load() || l.joined.Load() && !handles {
			return
		}
	}
	w.wrong("message %d, post from %s to %s, was accepted at %v, and nobody handled it", m.n, m.from, m.to, m.span.to.Sub(w.born))
}

// permitted reports whether a message was allowed when it was sent, and when it was
// handled.
func (w *World) permitted(m *message, h handling) bool {
	switch m.kind {
	case "publish":
		return ever(w.reigns, h.at, h.at, func(r *rules) bool {
			return anyMatches(r.grants[h.life.id].consume, m.topic) && r.mayPublish(m.from, m.topic)
		})
	case "call": // Whose target the hub has chosen, to which the sender may send.
		return true
	}
	sent := func(s *span) bool {
		by := s.to
		if s.end == 0 || by.After(h.at) {
			by = h.at
		}
		return !s.from.After(h.at) && ever(w.reigns, s.from, by, func(r *rules) bool { return r.mayMessage(m.from, m.to) })
	}
	if !sent(&m.span) && !slices.ContainsFunc(m.resent, sent) {
		return false
	}
	return ever(w.reigns, h.at, h.at, func(r *rules) bool {
		return m.from == host || names(r.grants[m.from].send, m.to) && names(r.grants[m.to].receive, m.from)
	})
}
