package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A shop is a store, and what was done with it. The keys "x" and "y" hold numbers
// of which transactions keep the sum.
type shop struct {
	name, owner string

	mu      sync.Mutex // guards below
	view    *store.View
	changes []change // as a watch of the host told
	writes  []*write
	looks   []*look
	lists   []listing
}

// A listing is a time in which everybody was on the lists of a store, or only its owner.
type listing struct {
	open     bool
	from, to time.Time
}

var storeKeys = []string{"k1", "k2", "k3", "k4"}

// storeOf returns the store of a plugin; the host opens it when somebody first asks.
func (w *World) storeOf(id string) *shop {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stores[id] == nil {
		w.stores[id] = &shop{name: "store." + id, owner: id}
	}
	return w.stores[id]
}

// change reads or writes a store.
func (l *life) change(ctx context.Context, r *rand.Rand, n uint64) {
	w, s := l.world, l.session.Load()
	if s == nil {
		return
	}
	shop := w.storeOf(pick(r, w.plan.Plugins...))
	if shop.owner == l.id {
		w.ensure(ctx, l, s, shop)
	}
	// Of one that waits for a validator, or for its turn.
	limit := 4 * validateLimit
	var view *store.View
	var err error
	w.in(limit, l.id+": OpenStore", func() { view, err = s.OpenStore(ctx, shop.name) })
	if err != nil {
		return
	}
	key := pick(r, storeKeys...)
	switch r.IntN(8) {
	case 0, 1:
		w.look(ctx, l.id, view, shop, key)
	case 2:
		w.transfer(ctx, l.id, view, shop, limit)
	case 3:
		l.watch(ctx, view, shop, r)
	case 4:
		w.share(ctx, view, shop, chance(r, 500))
	default:
		w.write(ctx, l.id, view, shop, key, n, r, limit)
	}
}

// ensure makes the store of a plugin, and has the host watch it.
func (w *World) ensure(ctx context.Context, l *life, s *hub.Session, shop *shop) {
	config := store.Config{Read: []string{store.Everyone}, Write: []string{store.Everyone}, History: 10_000}
	checked := chance(dice(w.plan.Seed, 0, shop.name), 300)
	check := func(ctx context.Context, p *store.Proposal) error {
		c := l.enter("validator of "+shop.name, true)
		defer l.leave(c)
		edits := p.Edits()
		if len(edits) == 0 {
			return nil
		}
		return l.behave(ctx, "validator", valueOf(edits[0].New), maxDepth)
	}
	if checked {
		config.Validator = check
	}
	view, err := s.EnsureStore(ctx, shop.name, config)
	if err != nil {
		return
	}
	if checked {
		_ = view.SetValidator(ctx, check) // The plugin may have just left.
	}
	shop.mu.Lock()
	watched := shop.view != nil
	if !watched {
		shop.view = view
		shop.lists = []listing{{open: true, from: time.Now()}}
	}
	shop.mu.Unlock()
	if watched {
		return
	}
	mine, err := w.hub.Host().OpenStore(context.Background(), shop.name) //nolint:contextcheck // It is the host's.
	if err == nil {
		_, err = mine.Watch(context.Background(), "**", func(_ context.Context, c store.Change) error {
			w.changed(shop, c)
			return nil
		}, store.Snapshot()) //nolint:contextcheck // The same.
	}
	if err != nil && w.closing.Load() == 0 {
		w.wrong("the host cannot watch %s: %v", shop.name, err)
	}
}

// changed notes what the host's watch told.
func (w *World) changed(shop *shop, c store.Change) {
	shop.mu.Lock()
	defer shop.mu.Unlock()
	shop.changes = append(shop.changes, change{c.Revision(), c.Old().Revision(), c.Kind(), c.Key(), valueOf(c.Entry()), c.Writer()})
}

// valueOf returns the number in an entry.
func valueOf(e store.Entry) uint64 {
	if v := e.Value(); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func encode(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// write writes one key.
func (w *World) write(ctx context.Context, by string, view *store.View, shop *shop, key string, n uint64, r *rand.Rand, limit time.Duration) {
	done := &write{store: shop.name, key: key, n: n, by: by, span: w.begin()}
	w.in(limit, by+": write to "+shop.name, func() {
		switch r.IntN(4) {
		case 0:
			done.entry, done.err = view.Create(ctx, key, encode(n))
		case 1:
			if done.err = view.Delete(ctx, key); done.err == nil {
				done.n = 0
			}
		default:
			done.entry, done.err = view.Set(ctx, key, encode(n))
		}
	})
	w.finish(&done.span)
	shop.mu.Lock()
	defer shop.mu.Unlock()
	shop.writes = append(shop.writes, done)
}

// look reads one key.
func (w *World) look(ctx context.Context, by string, view *store.View, shop *shop, key string) {
	seen := &look{store: shop.name, key: key, span: w.begin()}
	var entry store.Entry
	w.in(0, by+": read of "+shop.name, func() { entry, seen.err = view.Get(ctx, key) })
	seen.revision = entry.Revision()
	w.finish(&seen.span)
	shop.mu.Lock()
	defer shop.mu.Unlock()
	shop.looks = append(shop.looks, seen)
}

// transfer moves one from "x" to "y".
func (w *World) transfer(ctx context.Context, by string, view *store.View, shop *shop, limit time.Duration) {
	w.in(2*limit, by+": transaction on "+shop.name, func() {
		_ = view.Txn(ctx, func(tx *store.Tx) error {
			var values [2]uint64
			for i, key := range []string{"x", "y"} {
				e, err := tx.Get(key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				values[i] = valueOf(e)
			}
			if values[0]+values[1] != 0 {
				w.wrong("%s: a transaction sees half of another: %d and %d", shop.name, values[0], values[1])
			}
			return errors.Join(tx.Set("x", encode(values[0]+1)), tx.Set("y", encode(values[1]-1)))
		})
	})
}

// share changes the lists of a store, one at a time.
func (w *World) share(ctx context.Context, view *store.View, shop *shop, open bool) {
	w.swaps.Lock()
	defer w.swaps.Unlock()
	shop.mu.Lock()
	shop.lists = append(shop.lists, listing{open: open, from: time.Now()})
	n := len(shop.lists)
	shop.mu.Unlock()
	var err error
	if open {
		err = view.Grant(ctx, store.Read|store.Write, store.Everyone)
	} else {
		err = view.Revoke(ctx, store.Read|store.Write, store.Everyone)
	}
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if err != nil {
		shop.lists = slices.Delete(shop.lists, n-1, n)
		return
	}
	shop.lists[n-2].to = time.Now()
}

// watch watches a store, and notes what should not be.
func (l *life) watch(ctx context.Context, view *store.View, shop *shop, r *rand.Rand) {
	w := l.world
	var options []store.WatchOption
	snapshot := chance(r, 500)
	if snapshot {
		options = append(options, store.Snapshot())
	}
	var last uint64
	live := !snapshot
	_, _ = view.Watch(ctx, pick(r, "**", "k1", "*"), func(ctx context.Context, c store.Change) error {
		call := l.enter("watch of "+shop.name, true)
		defer l.leave(call)
		now := time.Now()
		reader := func(rules *rules) bool { return rules.grants[l.id].read }
		w.mu.Lock()
		reigns := slices.Clone(w.reigns)
		w.mu.Unlock()
		if c.Kind() != store.Revoked && (!ever(reigns, now, now, reader) || !shop.openTo(l.id, now)) {
			w.wrong("%s got a change of %s that it may not read: %v", l.name(), shop.name, c)
		}
		switch {
		case c.Kind() == store.Synced:
			live = true
		case c.Kind() == store.Revoked:
		case live && c.Revision() < last:
			w.wrong("%s: a watch of %s goes back from %d to %d", l.name(), shop.name, last, c.Revision())
		}
		if live {
			last = max(last, c.Revision())
		}
		return l.behave(ctx, "watch", mix(c.Revision(), textHash(c.Key())), maxDepth-1)
	}, options...)
}

// openTo reports whether the lists let a plugin read at a time.
func (s *shop) openTo(id string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner == id || slices.ContainsFunc(s.lists, func(l listing) bool {
		return l.open && !l.from.After(at) && (l.to.IsZero() || !l.to.Before(at))
	})
}

// check compares the records of a store with each other.
func (s *shop) check(w *World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := false
	state := map[string]uint64{} // revisions of the keys
	byRevision := map[uint64][]change{}
	var last uint64
	for _, c := range s.changes {
		switch {
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
		if c.revision < last {
			w.wrong("%s: the host's watch goes back from %d to %d", s.name, last, c.revision)
		}
		last = c.revision
		if slices.ContainsFunc(byRevision[c.revision], func(other change) bool { return other.key == c.key }) {
			w.wrong("%s: the change of %q at %d is told twice", s.name, c.key, c.revision)
		}
		byRevision[c.revision] = append(byRevision[c.revision], c)
	}
	told := func(wr *write) bool {
		return slices.ContainsFunc(byRevision[wr.entry.Revision()], func(c change) bool { return c.key == wr.key && c.n == wr.n && c.writer == wr.by })
	}
	closing := w.closing.Load()
	for _, wr := range s.writes {
		if wr.err == nil && wr.entry.Revision() != 0 && wr.n != 0 && wr.end < closing && len(s.changes) > 0 && wr.begin > 0 && !told(wr) && !s.inSnapshot(wr) {
			w.wrong("%s: %s wrote %d to %q at %d, and the host's watch was not told", s.name, wr.by, wr.n, wr.key, wr.entry.Revision())
		}
	}
	for _, lk := range s.looks {
		if lk.err != nil {
			continue
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
