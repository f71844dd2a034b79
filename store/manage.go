package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
)

// An Administration says that a store was made or dropped, or its lists changed.
type Administration struct {
	Act        string // "store.created", "store.dropped", "store.granted", "store.revoked", "store.validator"
	Actor      string
	Store      string
	Persistent bool
	Detail     string // what it is like afterwards, in a few words
}

func (db *DB) administered(a Administration) {
	if f := db.opts.OnChange; f != nil {
		f(a)
	}
}

// manage has one change of what stores there are, or how they are administered. There
// is one at a time: change gets to release the next.
func (db *DB) manage(ctx context.Context, c *Client) (release func(), err error) {
	release = func() { <-db.managing }
	select {
	case db.managing <- struct{}{}:
		return release, nil
	default:
	}
	defer c.managing.Add(-1)
	if c.managing.Add(1) > maxManaging {
		return nil, fmt.Errorf("%w: %d changes of the plugin wait for their turn", ErrBusy, maxManaging)
	}
	select {
	case db.managing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotDone, ctx.Err())
	case <-c.session.Done():
		return nil, ErrClosed
	}
	if c.ended.Load() {
		release()
		return nil, ErrClosed
	}
	return release, nil
}

// maxManaging bounds how many changes of one plugin wait for their turn, for which those of
// others wait too.
const maxManaging = 64

// perform has the backend do ops and then applies, and waits for it. A store in memory
// needs no backend. If it is done the host is told so, also if the caller has left.
// Whatever comes of it, end is called once, at the end.
func (c *Client) perform(ctx context.Context, p *pending, told Administration, end func(err error)) error {
	told.Actor, told.Store = c.id, p.name
	p.done, p.end = make(chan struct{}), func(err error) {
		if err == nil {
			c.db.administered(told) // Before end gives the turn away: the host hears of all in their order.
		}
		end(err)
	}
	if !told.Persistent {
		p.apply()
		p.end(nil)
		return nil
	}
	if err := c.db.committer.enqueue(p); err != nil {
		end(err)
		return err
	}
	if err := c.await(ctx, p); err != nil {
		return &CommitError{Store: p.name, Outcome: ErrUnknown, Err: err}
	}
	return p.err
}

// create puts a new store in its place.
func (db *DB) create(ctx context.Context, c *Client, s *space, cause plugbus.Chain) error {
	release, err := db.manage(ctx, c)
	if err != nil {
		return err
	}
	if p := c.permitCreate(s.name, cause); !p.permit.Allowed() { // The policy may have changed meanwhile.
		release()
		return c.refuse(plugbus.Refusal{Verb: plugbus.VerbCreate, Object: s.name, Reason: p.permit.Reason, Chain: cause})
	}
	db.mu.RLock()
	_, taken := db.stores[s.name]
	begin := db.graves.of(s.name)
	db.mu.RUnlock()
	if taken {
		release()
		return ErrExists
	}
	if err := db.usage.open(s); err != nil {
		release()
		return err
	}
	s.revision, s.ahead.revision, s.history.floor, s.durable.revision = begin, begin, begin, begin
	p := &pending{name: s.name, apply: func() {
		db.mu.Lock()
		db.stores[s.name] = s
		db.mu.Unlock()
		if c.ended.Load() { // It left meanwhile, and took its validators along.
			s.mu.Lock()
			s.validator = nil
			s.mu.Unlock()
		}
	}}
	if s.config.Persistent {
		p.ops = []Op{{bucketMetas, s.name, s.encodeMeta(s.acl.Load(), s.guarded)}, {bucketHeads, s.name, s.durable.encode(s.name)}}
	}
	told := Administration{Act: "store.created", Persistent: s.config.Persistent, Detail: s.acl.Load().text()}
	return c.perform(ctx, p, told, func(err error) {
		if err != nil {
			db.usage.drop(s, 0)
		}
		release()
	})
}

// admin passes the door with an act of an administrator of the store. From then until
// release everybody waits, so nobody may look at ctx, which is the plugin's.
func (v *View) admin(ctx context.Context, act string) (cause plugbus.Chain, release func(), err error) {
	c, s := v.client, v.space
	if err := c.usable(ctx); err != nil {
		return cause, nil, v.failed(act, err)
	}
	cause = c.causeOf(ctx)
	if _, err := c.enter(c.access(s, s.name, cause, plugbus.VerbWrite, Admin), s.name, plugbus.VerbWrite, nil); err != nil {
		return cause, nil, err
	}
	if release, err = c.db.manage(ctx, c); err != nil {
		return cause, nil, v.failed(act, err)
	}
	// The lists may have changed meanwhile, and do not while it is our turn.
	if p := c.access(s, s.name, cause, plugbus.VerbWrite, Admin); !p.permit.Allowed() {
		release()
		return cause, nil, c.refuse(plugbus.Refusal{Verb: plugbus.VerbWrite, Object: s.name, Reason: p.permit.Reason, Chain: cause, Rule: p.rule, Remedy: p.remedy, Hint: p.hint})
	}
	return cause, release, nil
}

func (v *View) failed(act string, err error) error {
	return &StoreError{Plugin: v.client.id, Act: act, Store: v.space.name, Err: err}
}

// Grant gives rights to plugins, or to [Everyone]. It needs Admin. The policy of the
// host still decides for each.
func (v *View) Grant(ctx context.Context, rights Rights, ids ...string) error {
	return v.relist(ctx, "grant", rights, 0, ids)
}

// Revoke takes rights from plugins, or from [Everyone]. It needs Admin. Watches of
// plugins that may no longer read end. The owner always has all rights.
func (v *View) Revoke(ctx context.Context, rights Rights, ids ...string) error {
	return v.relist(ctx, "revoke", 0, rights, ids)
}

func (v *View) relist(ctx context.Context, act string, give, take Rights, ids []string) error {
	if len(ids) > maxListed {
		return v.failed(act, newOptionError("the number of ids", len(ids), fmt.Sprintf("at most %d", maxListed)))
	}
	ids, err := checkIDs(ids)
	if err != nil {
		return v.failed(act, err)
	}
	if rights := give | take; rights == 0 || rights > Read|Write|Admin {
		return v.failed(act, newOptionError("the value of rights", rights, "Read, Write, Admin or some of them"))
	}
	_, release, err := v.admin(ctx, act)
	if err != nil {
		return err
	}
	s := v.space
	s.mu.Lock()
	dropped, guarded := s.sealed, s.guarded
	next := s.acl.Load().changed(ids, give, take, s.revision)
	s.mu.Unlock()
	switch {
	case dropped:
		release()
		return v.failed(act, ErrDropped)
	case next == nil:
		release()
		return nil
	case len(next.rights) > maxListed:
		release()
		return v.failed(act, newOptionError("the number of ids in the lists", len(next.rights), fmt.Sprintf("at most %d", maxListed)))
	}
	p := &pending{name: s.name, apply: func() { s.relist(ids, give, take) }}
	if s.config.Persistent {
		p.ops = []Op{{bucketMetas, s.name, s.encodeMeta(next, guarded)}}
	}
	told := Administration{Act: "store.granted", Persistent: s.config.Persistent, Detail: next.text()}
	if give == 0 {
		told.Act = "store.revoked"
	}
	if err := v.client.perform(ctx, p, told, func(error) { release() }); err != nil {
		return v.failed(act, err)
	}
	return nil
}

// relist puts lists in force. What is overwritten from here on is for those who may read
// now; watches look at the lists at once.
func (s *space) relist(ids []string, give, take Rights) {
	s.mu.Lock()
	s.acl.Store(s.acl.Load().changed(ids, give, take, s.revision))
	watches := s.watching()
	s.mu.Unlock()
	for _, w := range watches {
		w.signal(nil)
	}
}

// An Access is what the lists of a store say.
type Access struct {
	Owner              string
	Read, Write, Admin []string // sorted; Everyone may be among them
}

// Access returns the lists. It needs Admin.
func (v *View) Access(ctx context.Context) (Access, error) {
	const act = "list the rights of"
	c, s := v.client, v.space
	if err := c.usable(ctx); err != nil {
		return Access{}, v.failed(act, err)
	}
	p := c.access(s, s.name, c.causeOf(ctx), plugbus.VerbWrite, Admin)
	if _, err := c.enter(p, s.name, plugbus.VerbWrite, nil); err != nil {
		return Access{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.dropped {
		return Access{}, v.failed(act, ErrDropped)
	}
	return p.acl.access(), nil
}

func (a *acl) access() Access {
	lists := Access{Owner: a.owner}
	for id, rights := range a.rights {
		for right, list := range map[Rights]*[]string{Read: &lists.Read, Write: &lists.Write, Admin: &lists.Admin} {
			if rights&right != 0 {
				*list = append(*list, id)
			}
		}
	}
	for _, list := range [][]string{lists.Read, lists.Write, lists.Admin} {
		slices.Sort(list)
	}
	return lists
}

// Drop deletes the store with all that is in it. It needs Admin. Its watches get a
// last change that says so. A store of the same name that is made later goes on with
// the revisions.
func (v *View) Drop(ctx context.Context) error {
	const act = "drop"
	cause, release, err := v.admin(ctx, act)
	if err != nil {
		return err
	}
	s, db := v.space, v.client.db
	s.mu.Lock()
	already := s.sealed
	s.sealed = true // Nothing is accepted from here on.
	last, bytes := s.ahead.revision, s.ahead.bytes
	s.mu.Unlock()
	if already {
		release()
		return v.failed(act, ErrDropped)
	}
	led := cause.Then(v.client.id)
	p := &pending{name: s.name, apply: func() {
		db.mu.Lock()
		delete(db.stores, s.name)
		db.mu.Unlock()
		db.usage.drop(s, bytes)
		s.buried(led)
	}}
	db.mu.Lock()
	graves := db.graves.dig(s.name, last, s.config.Persistent)
	db.mu.Unlock()
	if s.config.Persistent {
		p.ops = append(graves, Op{Bucket: bucketEntries + s.name}, Op{bucketHeads, s.name, nil}, Op{bucketMetas, s.name, nil})
	}
	told := Administration{Act: "store.dropped", Persistent: s.config.Persistent, Detail: "owner " + s.owner}
	err = v.client.perform(ctx, p, told, func(err error) {
		if err != nil { // It is there still, for reading.
			s.mu.Lock()
			s.sealed = false
			s.mu.Unlock()
		}
		release()
	})
	if err != nil {
		return v.failed(act, err)
	}
	return nil
}

// buried lets go of the entries of a store that was dropped. Its watches still get
// what came before, and then a last change.
func (s *space) buried(led plugbus.Chain) {
	s.mu.Lock()
	s.dropped, s.last = true, led
	for _, r := range s.entries {
		s.db.expiries.replace(s, r, nil)
	}
	clear(s.entries)
	s.order.Clear()
	s.bytes = 0
	watches := s.watching()
	s.mu.Unlock()
	for _, w := range watches {
		w.signal(nil)
	}
}

// watching returns the watches. s.mu is held.
func (s *space) watching() []*Watch {
	all := make([]*Watch, 0, len(s.watches))
	for w := range s.watches {
		all = append(all, w)
	}
	return all
}
