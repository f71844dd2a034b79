package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/plugbus/plugbus"
)

// What the worker of a plugin does with one watch. All of it runs on the worker.

// turn delivers some changes, and has the watch come again if there are more.
func (w *Watch) turn() {
	more := true
	defer func() { // Also if the watcher ends the worker.
		if more {
			w.signal(nil)
		}
	}()
	for range maxTurn {
		if w.stopped.Load() {
			w.begin, w.snapshot, w.page = nil, nil, nil
			more = false
			return
		}
		switch c, found := w.next(); found {
		case nothing:
			more = false
			return
		case unsure:
		case something:
			w.deliver(c)
		}
	}
}

// What a look for the next change finds.
type found uint8

const (
	nothing found = iota
	unsure        // it has to look again
	something
)

// next looks for the next change to deliver. Each look begins with the right to read: what
// it finds was there before, so that nothing is found that was done after the right had
// ended.
func (w *Watch) next() (Change, found) {
	if w.over() {
		w.finish(ErrClosed)
		return Change{}, nothing
	}
	switch permit := w.refresh().permit; {
	case permit.Reason == plugbus.ReasonQuarantined && w.end.Load() > 0: // Nobody restores what was replaced.
		w.finish(ErrClosed)
		return Change{}, nothing
	case permit.Reason == plugbus.ReasonQuarantined:
		return Change{}, nothing // It rests until Client.Wake.
	case !permit.Allowed():
		w.last = w.refuse()
		return w.notice(Revoked, w.seen.Load()), something
	}
	if w.proof != nil {
		if w.proof != w.allowed { // The rights changed at about the time of the snapshot.
			w.retake()
			return Change{}, unsure
		}
		w.proof = nil
	}
	switch {
	case len(w.begin) > 0:
		c := w.begin[0]
		w.begin = w.begin[1:]
		return c, something
	case w.snapshot != nil:
		return w.nextCurrent()
	case len(w.page) > 0:
		return w.nextChange()
	}
	return w.read()
}

// isBehind reports whether the store has changes that the watch has not read.
func (w *Watch) isBehind() bool {
	w.space.mu.RLock()
	defer w.space.mu.RUnlock()
	return w.seen.Load() < w.space.revision
}

// refresh returns the answer of now to whether the plugin may read the store.
func (w *Watch) refresh() *pass {
	c, s := w.client, w.space
	if !w.allowed.holds(c, s, plugbus.Chain{}) {
		w.allowed = c.access(s, s.name, plugbus.Chain{}, plugbus.VerbRead, Read)
	}
	return w.allowed
}

// refuse returns the error for the last answer, which was no.
func (w *Watch) refuse() error {
	c, s, p := w.client, w.space, w.allowed
	return c.refuse(plugbus.Refusal{
		Verb: plugbus.VerbRead, Object: s.name, Reason: p.permit.Reason, Rule: p.rule, Remedy: p.remedy,
		Hint: fmt.Sprintf("the watch of %q has ended", w.pattern),
	})
}

// retake takes the snapshot again.
func (w *Watch) retake() {
	s := w.space
	s.mu.Lock()
	defer s.mu.Unlock()
	w.resync(w.newer)
}

// nextCurrent returns the next of the snapshot, or that it is complete.
func (w *Watch) nextCurrent() (Change, found) {
	now := w.client.db.clock.Now().UnixNano()
	sel := w.keys.After(w.at)
	looks := 0
	var hit *record
	w.snapshot.Ascend(max(sel.prefix, sel.after), func(key string, r *record) bool {
		if !strings.HasPrefix(key, sel.prefix) {
			return key < sel.prefix
		}
		w.at = key
		if r.revision > w.newer && sel.matches(key) && !r.gone(now) {
			hit = r
		}
		looks++
		return hit == nil && looks < pageLooks
	})
	switch {
	case hit != nil:
		c := w.notice(Current, hit.revision)
		c.key, c.entry, c.at, c.writer = hit.key, Entry{hit}, hit.at, hit.writer
		return c, something
	case looks == pageLooks:
		return Change{}, unsure
	}
	w.snapshot = nil
	return w.notice(Synced, w.until), something
}

// pageChanges is how many changes a watch reads at a time.
const pageChanges = 64

// read reads the next changes of the store; or returns what there is to say in their
// place.
func (w *Watch) read() (Change, found) {
	s := w.space
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, last := w.seen.Load(), w.lastRevision()
	if floor := min(s.history.floor, last); seen < floor {
		return w.gap(seen, floor, floor-seen), something
	}
	changes := s.history.after(seen, pageChanges)
	if i := slices.IndexFunc(changes, func(c change) bool { return c.revision > last }); i >= 0 {
		changes = changes[:i]
	}
	if len(changes) == 0 {
		if !s.dropped {
			return Change{}, nothing
		}
		w.last = ErrDropped
		c := w.notice(Dropped, s.revision)
		c.led = s.last
		return c, something
	}
	w.seen.Store(changes[len(changes)-1].revision)
	for _, next := range changes {
		if w.keys.matches(next.key) && (!w.opts.latest || !s.superseded(&next)) {
			w.page = append(w.page, next)
		}
	}
	return Change{}, unsure
}

// superseded reports whether a later change of the same key is done. s.mu is held.
func (s *space) superseded(c *change) bool {
	is := s.entries[c.key]
	return is != c.record && (is != nil || c.record != nil)
}

// gap returns that changes are missing after a revision, up to another. s.mu is held.
func (w *Watch) gap(after, upTo, lost uint64) Change {
	s := w.space
	w.lost.Add(lost)
	if w.seen.Load() < upTo {
		w.seen.Store(upTo)
	}
	if w.opts.latest && w.end.Load() == 0 {
		w.resync(after)
		upTo = w.until
	}
	// Whoever writes because of a gap, and so makes the next, has a chain that grows.
	w.led = s.history.changes[len(s.history.changes)-1].led
	c := w.notice(Lagged, upTo)
	c.lost = lost
	return c
}

// nextChange returns the next change that was read. In place of those that were made when
// the plugin might not read the store, it gets to know that they are missing.
func (w *Watch) nextChange() (Change, found) {
	hidden, after, upTo := uint64(0), uint64(0), uint64(0)
	for len(w.page) > 0 {
		c := w.page[0]
		visible := c.revision > w.since() && w.couldRead(c.rules)
		if visible && hidden > 0 {
			break
		}
		w.page[0] = change{} // It may be the last that refers to values.
		w.page = w.page[1:]
		if visible {
			return Change{
				kind: c.kind, store: w.space.name, key: c.key, entry: Entry{c.record}, old: Entry{c.replaced},
				revision: c.revision, at: c.at, writer: c.writer, led: c.led,
			}, something
		}
		if hidden == 0 {
			after = c.revision - 1
		}
		hidden, upTo = hidden+1, c.revision
	}
	w.space.mu.Lock()
	defer w.space.mu.Unlock()
	return w.gap(after, upTo, hidden), something
}

// deliver calls the watcher. The last change ends the watch before.
func (w *Watch) deliver(c Change) {
	client := w.client
	k := &call{watch: w, what: "watch " + w.pattern, store: w.space.name, site: w.site}
	if w.last != nil {
		if !w.finish(w.last) {
			return
		}
		k.watch = nil
	}
	k.more = k.watch != nil && (len(w.begin)+len(w.page) > 0 || w.snapshot != nil)
	failure := Failure{Plugin: client.id, Store: k.store, What: k.what, Site: k.site, Writer: c.writer, Key: c.key, Revision: c.revision}
	k.late = func() {
		w.failed.Add(1)
		if client.db.opts.Observe != nil {
			w.observe(plugbus.Abandoned, &c, k.begun)
		}
		failure.Abandoned, failure.Err = true, ErrTimedOut
		client.report(failure)
	}
	call := func(ctx context.Context) error {
		if err := w.watcher(ctx, c); err != nil {
			return &readError{plugbus.CutText(err.Error()), err}
		}
		return nil
	}
	client.run(k, c.led, w.opts.timeout, call, func(err error) {
		w.delivered.Add(1)
		if client.db.opts.Observe != nil {
			outcome := plugbus.Handled
			if err != nil {
				outcome = plugbus.Failed
			}
			w.observe(outcome, &c, k.begun)
		}
		if err != nil {
			w.failed.Add(1)
			failure.Err = err
			client.report(failure)
		}
	})
}

// A readError is an error of a plugin with its text, which was read where the plugin's own
// limits hold: to ask for it again could hang.
type readError struct {
	text string
	err  error
}

func (e *readError) Error() string { return e.text }
func (e *readError) Unwrap() error { return e.err }
