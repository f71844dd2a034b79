package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/site"
)

// A Watcher handles the changes of a store, one at a time, on the worker of its plugin.
// Its context ends with the plugin, and carries the chain that led to the change. An
// error is counted and told to the host; the watch goes on.
type Watcher func(ctx context.Context, c Change) error

// A WatchOption changes how a watch works: [Snapshot], [After], [Latest], [Timeout].
type WatchOption interface{ applyWatch(o *watchOptions) error }

type watchOptions struct {
	snapshot bool
	resume   bool
	after    uint64
	latest   bool
	timeout  time.Duration
}

// Snapshot begins with what the store has: a [Current] for each key that matches, in
// the order of keys, then [Synced], then the changes since. There is no gap between
// them, and nothing comes twice.
func Snapshot() WatchOption { return snapshotOption{} }

type snapshotOption struct{}

func (snapshotOption) applyWatch(o *watchOptions) error {
	o.snapshot = true
	return nil
}

// After goes on after a revision that the plugin has seen, 0 being before the first. If
// the store no longer keeps all changes since, or the plugin might not read all of them
// when they were made, [Truncated] comes first, and then a snapshot as by [Snapshot].
func After(revision uint64) WatchOption { return afterOption{revision} }

type afterOption struct{ revision uint64 }

func (opt afterOption) applyWatch(o *watchOptions) error {
	o.resume, o.after = true, opt.revision
	return nil
}

// Latest is for a watch that only wants to know how keys are now: when it falls behind,
// it does not get values that are no longer those of their keys. After [Lagged] comes a
// snapshot of what has changed since, without the keys that are gone.
func Latest() WatchOption { return latestOption{} }

type latestOption struct{}

func (latestOption) applyWatch(o *watchOptions) error {
	o.latest = true
	return nil
}

// Timeout bounds each call of the watcher, 1 ms to 1 h. One that has not returned then
// is abandoned: its context ends, and what it returns is thrown away. It keeps the
// worker of its plugin until it returns. Without it there is no bound.
func Timeout(d time.Duration) WatchOption { return timeoutOption{d} }

type timeoutOption struct{ d time.Duration }

func (opt timeoutOption) applyWatch(o *watchOptions) error {
	if opt.d < time.Millisecond || opt.d > time.Hour {
		return newOptionError("Timeout", opt.d, "1ms to 1h")
	}
	o.timeout = opt.d
	return nil
}

// A Watch is a plugin's hold on the changes of a store. It ends with [Watch.Stop], with
// the plugin, with the store, or when the plugin may no longer read.
type Watch struct {
	client  *Client
	space   *space
	keys    Selection
	pattern string
	watcher Watcher
	opts    watchOptions
	site    string

	started atomic.Bool // it has been opened
	stopped atomic.Bool
	queued  atomic.Bool // among the client's ready ones
	done    chan struct{}
	err     error // why it ended; set before done is closed

	delivered, failed, lost atomic.Uint64
	seen                    atomic.Uint64 // the revision up to which everything was looked at
	end                     atomic.Uint64 // one more than the last revision that it is for; 0 if there is none

	// Of whoever opens the watch, and then of the worker.
	led      plugbus.Chain               // what led to the watch, or else to its last gap
	begin    []Change                    // to deliver before everything else
	snapshot *btree.Map[string, *record] // what is left of it to deliver; nil if there is none
	proof    *pass                       // it was taken under, until that is known to have held
	at       string                      // the last key of it that was looked at
	newer    uint64                      // it leaves out entries up to this revision
	until    uint64                      // the revision of it
	page     []change                    // read and not delivered yet
	last     error                       // why the change that is next to be delivered is the last
	allowed  *pass                       // the last answer to whether the plugin may read
	rules    struct {
		of, at uint64
		ok     bool
	} // the last answer about earlier rules
}

// Watch calls watcher for the changes of the keys that a pattern of keys matches, from
// now on, or as the options say. The changes come in the order of their revisions, each
// of them once; no write waits for them. The store keeps a bounded history of changes
// for all its watches: one that is slower than that gets [Lagged] in place of what is
// missing. The right to read is asked for at each change. The error is that of
// [View.Get], or matches [ErrQuota].
func (v *View) Watch(ctx context.Context, pattern string, watcher Watcher, options ...WatchOption) (*Watch, error) {
	const act = "watch"
	c, s := v.client, v.space
	w := &Watch{client: c, space: s, keys: Match(pattern), pattern: pattern, watcher: watcher, done: make(chan struct{}), site: site.Caller()}
	err := w.keys.err
	if watcher == nil {
		err = errors.Join(err, newOptionError("the watcher", "nil", "a function"))
	}
	for _, option := range options {
		if option == nil {
			err = errors.Join(err, newOptionError("an option", nil, "a store.WatchOption"))
			continue
		}
		err = errors.Join(err, option.applyWatch(&w.opts))
	}
	if w.opts.snapshot && w.opts.resume {
		err = errors.Join(err, newOptionError("the pair of options", "Snapshot and After", "one of the two"))
	}
	if err != nil {
		return nil, v.keyed(act, pattern, err)
	}
	p, _, err := v.enter(ctx, act, pattern, plugbus.VerbRead, nil)
	if err != nil {
		return nil, err
	}
	w.led, w.allowed = p.cause.Then(c.id), p
	w.pattern = private(pattern)
	switch err := w.open(); {
	case err == nil:
		return w, nil
	case errors.Is(err, plugbus.ErrDenied):
		return nil, err
	case errors.Is(err, ErrQuota):
		return nil, c.refuse(plugbus.Refusal{Verb: plugbus.VerbRead, Object: s.name, Reason: plugbus.ReasonQuotaExceeded, Chain: p.cause, Cause: err})
	default:
		return nil, v.keyed(act, pattern, err)
	}
}

// open begins the watch.
func (w *Watch) open() error {
	c, s := w.client, w.space
	c.mu.Lock()
	switch {
	case c.draining:
		c.mu.Unlock()
		return ErrClosed
	case len(c.watches) >= c.maxWatches:
		would := len(c.watches) + 1
		c.mu.Unlock()
		return &QuotaError{Store: s.name, Quota: "watches of the plugin", Limit: int64(c.maxWatches), Would: int64(would)}
	}
	c.watches[w] = struct{}{}
	c.mu.Unlock()
	if err := w.start(); err != nil {
		w.finish(err)
		return err
	}
	w.started.Store(true)
	w.signal(nil)
	return nil
}

// start finds where the watch begins.
func (w *Watch) start() error {
	if !w.refresh().permit.Allowed() {
		return w.refuse()
	}
	hidden := uint64(0)
	if w.opts.resume {
		hidden = w.hidden()
	}
	s := w.space
	s.mu.Lock()
	defer s.mu.Unlock()
	reach := max(s.history.floor, hidden, w.since())
	w.seen.Store(s.revision)
	switch {
	case s.dropped:
		return ErrDropped
	case w.stopped.Load(): // The client began to leave meanwhile.
		return ErrClosed
	case w.opts.snapshot:
		w.resync(0)
	case w.opts.resume && w.opts.after > s.revision:
		return newOptionError("After", w.opts.after, fmt.Sprintf("at most %d, the revision of the store", s.revision))
	case w.opts.resume && w.opts.after < reach:
		w.begin = append(w.begin, w.notice(Truncated, w.opts.after))
		w.resync(0)
	case w.opts.resume:
		w.seen.Store(w.opts.after)
	}
	s.watches[w] = struct{}{}
	return nil
}

// since returns the revision up to which the lists of the store hide what is overwritten.
func (w *Watch) since() uint64 {
	if w.client.super {
		return 0
	}
	return w.allowed.acl.readSince(w.client.id)
}

// hidden returns the revision of the last change that the plugin might not read when it
// was made, by the rules of then.
func (w *Watch) hidden() (revision uint64) {
	s := w.space
	last := map[uint64]uint64{} // revisions by rules
	s.mu.RLock()
	for _, c := range s.history.changes[s.history.start:] {
		last[c.rules] = c.revision
	}
	s.mu.RUnlock()
	for rules, at := range last {
		if at > max(revision, w.opts.after) && !w.couldRead(rules) {
			revision = at
		}
	}
	return revision
}

// resync has the watch deliver what the store has that is newer than a revision. The
// lock of the store is held.
func (w *Watch) resync(newer uint64) {
	s := w.space
	w.snapshot, w.proof, w.at, w.newer, w.until = s.order.Copy(), w.allowed, "", newer, s.revision
	w.page = nil
	w.seen.Store(s.revision)
}

func (w *Watch) notice(kind Kind, revision uint64) Change {
	return Change{kind: kind, store: w.space.name, revision: revision, led: w.led}
}

// couldRead reports whether the plugin might read the store under earlier rules.
func (w *Watch) couldRead(rules uint64) bool {
	guard := w.client.guard
	if rules == w.allowed.permit.Version {
		return true
	}
	if a, now := &w.rules, guard.Version(); a.of != rules || a.at != now {
		a.of, a.at, a.ok = rules, now, guard.PermitAt(rules, plugbus.VerbRead, w.space.name).Allowed()
	}
	return w.rules.ok
}

// signal says that there may be changes.
func (w *Watch) signal(wakes *actor.Wakes) {
	if !w.started.Load() || w.stopped.Load() || w.queued.Swap(true) {
		return
	}
	c := w.client
	c.mu.Lock()
	stopped := w.stopped.Load() // Then it is not to be among them.
	if !stopped {
		c.ready = append(c.ready, w)
	}
	c.mu.Unlock()
	if !stopped {
		c.signal(wakes)
	}
}

// Wake is [Client.Wake] for all clients: for when their rights may have changed, so that
// the watches of those who may no longer read end at once.
func (db *DB) Wake() {
	db.mu.RLock()
	clients := slices.AppendSeq(slices.Collect(maps.Values(db.clients)), maps.Keys(db.aside))
	db.mu.RUnlock()
	for _, c := range clients {
		c.Wake()
	}
}

// Wake has the client's watches look whether there are changes for them, as each change
// does: for when the plugin was in quarantine, in which they rest, and may go on.
func (c *Client) Wake() {
	c.db.saw(c.guard.Version())
	c.mu.Lock()
	watches := slices.Collect(maps.Keys(c.watches))
	c.mu.Unlock()
	for _, w := range watches {
		w.signal(nil)
	}
}

// Stop ends the watch. After it has returned, no call of the watcher begins; one that
// runs goes on. It can be called more than once, and by the watcher itself.
func (w *Watch) Stop() { w.finish(nil) }

// Done returns a channel that is closed when the watch has ended. A call of the watcher
// that has begun may still run, that of the last change included.
func (w *Watch) Done() <-chan struct{} { return w.done }

// Err returns why the watch ended: nil while it goes on and after Stop, [ErrDropped],
// [ErrClosed], or a [*plugbus.DeniedError].
func (w *Watch) Err() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

// Pattern returns the pattern of the keys.
func (w *Watch) Pattern() string { return w.pattern }

// finish ends the watch, and reports whether it did: it ends once.
func (w *Watch) finish(why error) bool {
	c, s := w.client, w.space
	c.mu.Lock()
	if w.stopped.Swap(true) {
		c.mu.Unlock()
		return false
	}
	delete(c.watches, w)
	if w.queued.Load() {
		c.ready = slices.DeleteFunc(c.ready, func(other *Watch) bool { return other == w })
	}
	c.mu.Unlock()
	s.mu.Lock()
	delete(s.watches, w)
	s.mu.Unlock()
	w.err = why
	close(w.done)
	c.db.idle.Tell()
	return true
}
