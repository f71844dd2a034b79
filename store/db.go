package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/notice"
	"github.com/plugbus/plugbus/internal/topic"
)

// A DB holds stores. Its methods may be called by several goroutines.
type DB struct {
	opts      Options
	clock     *clock.Clock
	actors    *actor.Group
	ownGroup  bool
	committer committer
	expiries  expiries
	usage     usage
	idle      notice.Notice
	slow      slowWatch

	changes  atomic.Uint64 // of all stores, that are done
	refused  atomic.Uint64 // acts
	rules    atomic.Uint64 // the latest version that is known of
	managing chan struct{} // has a token while a store is made, dropped or administered

	mu         sync.RWMutex // guards below
	stores     map[string]*space
	graves     graves
	clients    map[string]*Client
	aside      map[*Client]struct{} // held for the place of one of clients, or succeeded by one
	ending     map[*Client]struct{} // that left, with a call of the plugin that has not returned
	nextClient uint64
	closed     bool
	done       chan struct{} // when Close has ended
	err        error         // of the backend's Close
}

// Open returns a DB with the stores that the backend has. The error tells all that is
// wrong with the options, or what is wrong with the backend's content, which is then a
// [*DamageError]. If it fails, the backend is not closed.
func Open(o Options) (*DB, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	db := &DB{
		opts: o, clock: o.Clock, actors: o.Actors, managing: make(chan struct{}, 1),
		stores: map[string]*space{}, clients: map[string]*Client{}, aside: map[*Client]struct{}{}, ending: map[*Client]struct{}{}, done: make(chan struct{}),
	}
	if db.actors == nil {
		db.actors, db.ownGroup = actor.NewGroup(), true
	}
	db.committer = committer{db: db, backend: o.Backend, census: census{sums: map[place]uint64{}}}
	db.expiries.db, db.usage.db, db.slow.db = db, db, db
	db.graves.names = map[string]uint64{}
	if o.Backend != nil {
		if err := db.load(); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// Close ends the clients, has the backend take what waits for it, and closes it. If
// ctx is done before, the rest goes on, and Close can be called again to wait for it.
func (db *DB) Close(ctx context.Context) error {
	db.mu.Lock()
	first := !db.closed
	db.closed = true
	clients := make([]*Client, 0, len(db.clients))
	for _, c := range db.clients {
		clients = append(clients, c)
	}
	for c := range db.aside {
		clients = append(clients, c)
	}
	db.mu.Unlock()
	var left error
	if first {
		for _, c := range clients {
			left = errors.Join(left, c.Close(ctx))
		}
		db.expiries.close()
		db.slow.close()
		db.actors.Go(db.shut) // Ends with the backend.
	}
	select {
	case <-db.done:
		if db.ownGroup {
			if err := db.actors.Close(ctx); err != nil {
				return fmt.Errorf("store: close: a call of a plugin has not returned: %w", err)
			}
		}
		return errors.Join(left, db.err)
	case <-ctx.Done():
		return fmt.Errorf("store: close: the backend has not taken all that waits for it: %w", ctx.Err())
	}
}

// shut waits for the committer, and closes the backend.
func (db *DB) shut() {
	defer close(db.done)
	if idle := db.committer.close(); idle != nil {
		<-idle
	}
	if db.opts.Backend != nil {
		if err := db.opts.Backend.Close(); err != nil {
			db.err = fmt.Errorf("store: close: %w", err)
		}
	}
}

// Idle waits until no watch has a change to deliver, no call of a plugin runs and
// nothing waits for the backend, and returns nil; or until ctx is done, and returns
// its error. A call that was abandoned does not count, but what waits behind it does.
func (db *DB) Idle(ctx context.Context) error {
	if err := db.idle.Until(ctx, db.atRest); err != nil {
		return fmt.Errorf("store: wait until idle: %w", err)
	}
	return nil
}

// atRest looks at all at one instant, under the locks of all: what one of them does may
// be work for another that was looked at before. Nobody else takes two of these locks.
func (db *DB) atRest() bool {
	db.mu.RLock()
	clients := slices.Collect(maps.Values(db.clients))
	for c := range db.aside {
		if !c.understudy { // Whatever that does is put off.
			clients = append(clients, c)
		}
	}
	db.mu.RUnlock()
	slices.SortFunc(clients, func(a, b *Client) int { return cmp.Compare(a.number, b.number) })
	for _, c := range clients {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	return !db.committer.busy() && !slices.ContainsFunc(clients, (*Client).busy)
}

// Changes returns how many changes have been done since the DB was opened. It grows.
func (db *DB) Changes() uint64 { return db.changes.Load() }

// saw notes a version of the rules that was in force.
func (db *DB) saw(rules uint64) {
	for {
		latest := db.rules.Load()
		if rules <= latest || db.rules.CompareAndSwap(latest, rules) {
			return
		}
	}
}

// space returns a store, or nil.
func (db *DB) space(name string) *space {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.stores[name]
}

// spaces returns the stores in the order of their names.
func (db *DB) spaces() []*space {
	db.mu.RLock()
	all := make([]*space, 0, len(db.stores))
	for _, s := range db.stores {
		all = append(all, s)
	}
	db.mu.RUnlock()
	slices.SortFunc(all, func(a, b *space) int { return strings.Compare(a.name, b.name) })
	return all
}

// Client returns the handle of a new plugin. It is an error if the id is not one ASCII
// token, or is in use; or, with ClientOptions.Held, if it is not. A reused id inherits
// nothing but the stores that it owns.
func (db *DB) Client(id string, o ClientOptions) (*Client, error) {
	if err := topic.CheckID(id); err != nil {
		return nil, fmt.Errorf("store: new client: %w", err)
	}
	c := &Client{db: db, id: id, owner: o.Owner, guard: o.Guard, super: o.Superuser, actor: o.Actor, watches: map[*Watch]struct{}{}}
	c.maxWatches = max(0, cmp.Or(o.MaxWatches, 100))
	if c.guard == nil {
		c.guard = door.Open(id)
	}
	if o.Context == nil {
		o.Context = context.Background()
	}
	session, end := context.WithCancel(o.Context) // With no lock held: it may be of any type.
	c.session, c.end = session, end
	c.held.Store(o.Held)
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.admit(id, o.Held); err != nil {
		end()
		return nil, err
	}
	if c.actor == nil {
		c.actor, c.ownActor = db.actors.New(), true
	}
	c.source = c.actor.Attach((*source)(c))
	db.nextClient++
	c.number = db.nextClient
	if c.understudy = o.Held; c.understudy {
		db.aside[c] = struct{}{}
	} else {
		db.clients[id] = c
	}
	return c, nil
}

// admit returns why there can be no client of this id. db.mu is held.
func (db *DB) admit(id string, held bool) error {
	if db.closed {
		return fmt.Errorf("store: new client %q: %w", id, ErrClosed)
	}
	_, taken := db.clients[id]
	if held && !taken {
		return fmt.Errorf("store: new client: nobody has the id %q, so there is no place to hold a client for; leave ClientOptions.Held unset: %w", id, plugbus.ErrInvalid)
	}
	if taken && !held {
		return fmt.Errorf("store: new client: the id %q is in use; a client must leave before its id joins again: %w", id, plugbus.ErrInvalid)
	}
	return nil
}

// Backup writes a copy of all that is durable, as of one moment, while writes go on, and
// returns how many bytes it wrote. What it is like is the backend's affair: see package
// store/disk. Without a backend the error matches [ErrNotPersistent].
func (db *DB) Backup(ctx context.Context, w io.Writer) (int64, error) {
	if db.opts.Backend == nil {
		return 0, fmt.Errorf("store: backup: %w", ErrNotPersistent)
	}
	n, err := db.opts.Backend.Backup(ctx, w)
	if err != nil {
		return n, fmt.Errorf("store: backup: %w", err)
	}
	return n, nil
}

// Compact has the backend give back the room of what was deleted. Without a backend the
// error matches [ErrNotPersistent].
func (db *DB) Compact(ctx context.Context) error {
	if db.opts.Backend == nil {
		return fmt.Errorf("store: compact: %w", ErrNotPersistent)
	}
	if err := db.opts.Backend.Compact(ctx); err != nil {
		return fmt.Errorf("store: compact: %w", err)
	}
	return nil
}
