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
	judged  map[uint64]bool // numbers of writes that the validator has let pass
	moved   map[uint64]bool // revisions that transactions read, and moved one from
	checked bool            // there is a validator
	dropped bool            // somebody has begun to drop it
	gone    span            // when it was dropped
}

// A watching is a watch of a plugin, and what it told.
type watching struct {
	shop    *shop
	life    *life
	pattern string
	latest  bool
	made    span // it was made before

	// Under World.mu.
	told   map[uint64]bool // revisions
	over   bool            // it has ended, or some were missing
	synced uint64          // the revision of its snapshot, which can be taken anew
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
		w.stores[id] = &shop{
			name: "store." + id, owner: id, judged: map[uint64]bool{}, moved: map[uint64]bool{},
			checked: chance(dice(w.plan.Seed, 0, "store."+id), 300),
		}
		w.shops = append(w.shops, w.stores[id])
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
	limit := 4 * validateLimit // Of one that waits for a validator, or for its turn.
	if shop.owner == l.id {
		limit = time.Hour // From a handler the validator is called within it, and nobody can give it up.
	}
	var view *store.View
	var err error
	w.in(limit, l.id+": OpenStore", func() { view, err = s.OpenStore(ctx, shop.name) })
	if err != nil {
		return
	}
	key := pick(r, storeKeys...)
	if shop.owner == l.id && chance(r, 40) {
		w.drop(ctx, view, shop)
		return
	}
	switch r.IntN(8) {
	case 0, 1:
		w.look(ctx, l.id, view, shop, key)
	case 2:
		w.transfer(ctx, l.id, view, shop, 2*limit, r)
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
	check := func(ctx context.Context, p *store.Proposal) error {
		c := l.enter("validator of "+shop.name, true)
		defer l.leave(c)
		edits := p.Edits()
		if len(edits) == 0 {
			return nil
		}
		n := valueOf(edits[0].New)
		err := l.behave(ctx, "validator", n, maxDepth)
		if err == nil && time.Since(c.at) <= validateLimit {
			shop.mu.Lock()
			defer shop.mu.Unlock()
			shop.judged[n] = true
		}
		return err
	}
	if shop.checked {
		config.Validator = check
	}
	view, err := s.EnsureStore(ctx, shop.name, config)
	if err != nil {
		return
	}
	if shop.checked && view.SetValidator(ctx, check) == nil { // Or the plugin has just left.
		w.mu.Lock()
		if l.guards == 0 {
			l.guards = w.stamp.Add(1)
		}
		w.mu.Unlock()
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
		_, err = mine.Watch(context.Background(), "**", func(_ context.Context, c store.Change) error { //nolint:contextcheck // The same.
			w.changed(shop, c)
			return nil
		}, store.Snapshot())
	}
	shop.mu.Lock()
	dropped := shop.dropped
	shop.mu.Unlock()
	if err != nil && !dropped && w.closing.Load() == 0 {
		w.wrong("the host cannot watch %s: %v", shop.name, err)
	}
}

// changed notes what the host's watch told.
func (w *World) changed(shop *shop, c store.Change) {
	shop.mu.Lock()
	defer shop.mu.Unlock()
	told := change{c.Revision(), c.Old().Revision(), c.Kind(), c.Key(), valueOf(c.Entry()), c.Writer(), w.stamp.Add(1), time.Now(), c.Entry().Expires()}
	if now := time.Now(); (c.Kind() == store.Set || c.Kind() == store.Deleted || c.Kind() == store.Expired) && !shop.checked && !now.Equal(c.Time()) {
		w.wrong("%s: the host was told at %v what changed at %v: %v", shop.name, now.Sub(w.born), c.Time().Sub(w.born), c)
	}
	shop.changes = append(shop.changes, told)
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
	done := &write{store: shop.name, key: key, n: n, by: by, kind: pick(r, "set", "set", "create", "delete", "update", "delete if")}
	if done.kind == "update" || done.kind == "delete if" {
		entry, err := view.Get(ctx, key)
		if err != nil {
			return
		}
		done.expected = entry.Revision()
		switch r.IntN(4) {
		case 0:
			<-time.After(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
		case 1:
			other := &write{store: shop.name, key: key, n: mix(n, 1), by: by, kind: "set"}
			w.record(shop, other, limit, func() { other.entry, other.err = view.Set(ctx, key, encode(other.n)) })
		}
	}
	var options []store.SetOption
	if chance(r, 200) {
		options = append(options, store.TTL(time.Millisecond+time.Duration(r.Int64N(int64(3*time.Second)))))
	}
	w.record(shop, done, limit, func() {
		switch done.kind {
		case "set":
			done.entry, done.err = view.Set(ctx, key, encode(n), options...)
		case "create":
			done.entry, done.err = view.Create(ctx, key, encode(n), options...)
		case "update":
			done.entry, done.err = view.Update(ctx, key, encode(n), done.expected, options...)
		case "delete":
			done.err = view.Delete(ctx, key)
		case "delete if":
			done.err = view.Delete(ctx, key, store.IfRevision(done.expected))
		}
	})
}

// record does a write, and notes what came of it.
func (w *World) record(shop *shop, done *write, limit time.Duration, write func()) {
	still := w.slots[shop.owner].still()
	done.span = w.begin()
	w.in(limit, done.by+": write to "+shop.name, write)
	w.finish(&done.span)
	done.sure = still()
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if !shop.dropped { // Or it may have been another of the same name.
		shop.writes = append(shop.writes, done)
	}
}

// drop drops a store. The next one of its name is another.
func (w *World) drop(ctx context.Context, view *store.View, shop *shop) {
	w.swaps.Lock()
	defer w.swaps.Unlock()
	shop.mu.Lock()
	again := shop.dropped
	shop.dropped = true
	shop.mu.Unlock()
	if again {
		return
	}
	sp := w.begin()
	err := view.Drop(ctx)
	w.finish(&sp)
	if err != nil {
		return // It is there still, but nobody looks at it closely any more.
	}
	shop.mu.Lock()
	shop.gone = sp
	shop.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stores[shop.owner] == shop {
		delete(w.stores, shop.owner)
	}
}

// look reads one key.
func (w *World) look(ctx context.Context, by string, view *store.View, shop *shop, key string) {
	seen := &look{store: shop.name, key: key, by: by, span: w.begin()}
	var entry store.Entry
	w.in(0, by+": read of "+shop.name, func() { entry, seen.err = view.Get(ctx, key) })
	seen.revision, seen.expires = entry.Revision(), entry.Expires()
	w.finish(&seen.span)
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if !shop.dropped { // The same.
		shop.looks = append(shop.looks, seen)
	}
}

// transfer moves one from "x" to "y".
func (w *World) transfer(ctx context.Context, by string, view *store.View, shop *shop, limit time.Duration, r *rand.Rand) {
	var revision uint64 // of "x", which it is to change
	var err error
	pause := time.Duration(0)
	if chance(r, 500) {
		pause = time.Duration(r.Int64N(int64(100 * time.Millisecond)))
	}
	w.in(limit, by+": transaction on "+shop.name, func() {
		err = view.Txn(ctx, func(tx *store.Tx) error {
			var values [2]uint64
			for i, key := range []string{"x", "y"} {
				if i == 1 && pause > 0 {
					<-time.After(pause)
				}
				e, err := tx.Get(key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				if values[i] = valueOf(e); i == 0 {
					revision = e.Revision()
				}
			}
			if values[0]+values[1] != 0 {
				w.wrong("%s: a transaction sees half of another: %d and %d", shop.name, values[0], values[1])
			}
			return errors.Join(tx.Set("x", encode(values[0]+1)), tx.Set("y", encode(values[1]-1)))
		})
	})
	shop.mu.Lock()
	again := shop.moved[revision] && !shop.dropped
	if err == nil {
		shop.moved[revision] = true
	}
	shop.mu.Unlock()
	if again && err == nil {
		w.wrong("%s: two transactions have changed %q as it was at %d", shop.name, "x", revision)
	}
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
	if err != nil || n < 2 {
		shop.lists = slices.Delete(shop.lists, n-1, n)
		return
	}
	shop.lists[n-2].to = time.Now()
}

// flicker takes rights to a store away, has the host write to it, and gives them back, so
// fast that who watches it may not have looked.
func (w *World) flicker(l *life, a act) {
	ctx := context.Background()
	shop := w.storeOf(l.id)
	view, err := l.session.Load().OpenStore(ctx, shop.name)
	if err != nil {
		return
	}
	mine, err := w.hub.Host().OpenStore(ctx, shop.name)
	if err != nil {
		return
	}
	lists := chance(a.dice, 500)
	if lists {
		w.share(ctx, view, shop, false)
	} else {
		w.swap(pick(a.dice, w.plan.rules...))
	}
	w.write(ctx, host, mine, shop, pick(a.dice, storeKeys...), a.n, a.dice, 4*validateLimit)
	if lists {
		w.share(ctx, view, shop, true)
	} else {
		w.swap(w.plan.rules[0])
	}
}

// watch watches a store, and notes what should not be.
func (l *life) watch(ctx context.Context, view *store.View, shop *shop, r *rand.Rand) {
	w := l.world
	var options []store.WatchOption
	snapshot := chance(r, 500)
	if snapshot {
		options = append(options, store.Snapshot())
	}
	latest := chance(r, 200)
	if latest {
		options = append(options, store.Latest())
	}
	seen := &watching{shop: shop, life: l, pattern: pick(r, "**", "k1", "*"), told: map[uint64]bool{}, latest: latest}
	var last uint64
	live, over := !snapshot, false
	state := map[string]uint64{} // revisions of the keys that it knows
	mine, err := view.Watch(ctx, seen.pattern, func(ctx context.Context, c store.Change) error {
		call := l.enter("watch of "+shop.name, true)
		defer l.leave(call)
		now := time.Now()
		reader := func(rules *rules) bool { return rules.grants[l.id].read }
		w.mu.Lock()
		reigns := slices.Clone(w.reigns)
		w.mu.Unlock()
		shop.mu.Lock()
		sure := !shop.dropped
		shop.mu.Unlock()
		may := func(at time.Time) bool { return ever(reigns, at, at, reader) && shop.openTo(l.id, at, at) }
		kind := c.Kind()
		told := kind == store.Set || kind == store.Deleted || kind == store.Expired
		if sure && kind != store.Revoked && (!may(now) || told && !shop.checked && !may(c.Time())) {
			w.wrong("%s got a change of %s of %v that it may not read: %v", l.name(), shop.name, c.Time().Sub(w.born), c)
		}
		if over {
			w.wrong("%s: a watch of %s goes on after its last change: %v", l.name(), shop.name, c)
		}
		over = kind == store.Revoked || kind == store.Dropped
		w.mu.Lock()
		seen.over = seen.over || over || kind == store.Lagged
		if seen.told[c.Revision()] = true; c.Kind() == store.Synced {
			seen.synced = c.Revision()
		}
		w.mu.Unlock()
		known, was := state[c.Key()], c.Old().Revision()
		switch {
		case kind == store.Synced:
			live = true
		case kind == store.Lagged:
			clear(state)
		case over:
		case kind == store.Current && known == c.Revision():
			w.wrong("%s: a watch of %s has %v, which it was told before", l.name(), shop.name, c)
		case kind == store.Current:
			state[c.Key()] = c.Revision()
		case live && c.Revision() <= last:
			w.wrong("%s: a watch of %s goes back from %d to %d", l.name(), shop.name, last, c.Revision())
		case known != 0 && known != was && !latest:
			w.wrong("%s: a watch of %s has %v, which was at %d, and told of %d before", l.name(), shop.name, c, was, known)
		}
		if told {
			if state[c.Key()] = c.Revision(); kind != store.Set {
				delete(state, c.Key())
			}
		}
		if live {
			last = max(last, c.Revision())
		}
		return l.behave(ctx, "watch", mix(c.Revision(), textHash(c.Key())), maxDepth-1)
	}, options...)
	if err != nil {
		return
	}
	shop.mu.Lock()
	dropped := shop.dropped
	shop.mu.Unlock()
	if dropped {
		mine.Stop() // It may be of another store of the same name.
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen.made = w.begin()
	w.watches = append(w.watches, seen)
}

// openTo reports whether the lists let a plugin read and write at some moment of a time.
func (s *shop) openTo(id string, from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(id, from, to)
}

// open is openTo. shop.mu is held.
func (s *shop) open(id string, from, to time.Time) bool {
	return s.owner == id || slices.ContainsFunc(s.lists, func(l listing) bool {
		return l.open && !l.from.After(to) && (l.to.IsZero() || !l.to.Before(from))
	})
}
