package store

import (
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/schema"
)

// A space is a store: what the views of it share.
type space struct {
	db     *DB
	name   string
	owner  string
	config Config // with its defaults, and without lists and validator
	schema *schema.Schema
	acl    atomic.Pointer[acl]

	mu sync.RWMutex // guards below

	// What can be read: all that is done.
	entries  map[string]*record
	order    btree.Map[string, *record]
	revision uint64
	bytes    int64
	history  history

	// ahead is what was accepted and waits for the backend. What is decided about a
	// write is decided by it.
	ahead ahead

	guarded   bool       // by a validator, whether it is there or not
	validator *validator // nil if it is away
	watches   map[*Watch]struct{}
	sealed    bool          // it is being dropped, or was
	dropped   bool          // it was
	last      plugbus.Chain // what led to that

	durable head // what the backend has; of the committer
}

// An ahead is how a persistent store will be when the backend has done all that it
// was given.
type ahead struct {
	keys     map[string]proposed // that will change
	revision uint64
	count    int // of entries
	bytes    int64
}

// A proposed is what a key will have, nil if it will be deleted.
type proposed struct {
	record *record
	by     *pending // the last that changes it
}

func newSpace(db *DB, name, owner string, c Config) *space {
	s := &space{db: db, name: name, owner: owner, config: c, entries: map[string]*record{}, watches: map[*Watch]struct{}{}}
	s.config.Read, s.config.Write, s.config.Admin, s.config.Validator = nil, nil, nil, nil
	s.ahead.keys = map[string]proposed{}
	return s
}

// head returns what a key has or will have, and what will make it so. s.mu is held.
func (s *space) head(key string) (*record, *pending) {
	if next, ok := s.ahead.keys[key]; ok {
		return next.record, next.by
	}
	return s.entries[key], nil
}

// propose decides about a draft. If it is accepted, the changes are done, for a
// store in memory, or p will tell. If the answer depends on something that waits for
// the backend, wait is that, and the draft is to be proposed again.
func (s *space) propose(d *draft) (p, wait *pending, err error) {
	var wakes actor.Wakes
	defer wakes.Wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(d); err != nil {
		return nil, nil, err
	}
	if wait, err := s.check(d); wait != nil || err != nil {
		return nil, wait, err
	}
	changes, count, bytes := s.changes(d)
	if len(changes) == 0 {
		return nil, s.awaited(d), nil
	}
	if err := s.room(count, bytes); err != nil {
		return nil, nil, err
	}
	p, err = s.accept(changes, count, bytes, &wakes)
	return p, nil, err
}

// awaited returns what deletes the keys of a draft that changes nothing, if that waits
// for the backend: until it is done they are there. s.mu is held.
func (s *space) awaited(d *draft) (wait *pending) {
	for i := range d.edits {
		if _, by := s.head(d.edits[i].key); by != nil {
			wait = by
		}
	}
	return wait
}

// accept makes changes seen, for a store in memory, or gives them to the committer.
// The quotas have room for them. s.mu is held.
func (s *space) accept(changes []change, count int, bytes int64, wakes *actor.Wakes) (p *pending, err error) {
	grows := bytes - s.ahead.bytes
	if s.config.Persistent {
		p = &pending{name: s.name, space: s, changes: changes, grows: grows, done: make(chan struct{})}
		if err := s.db.committer.enqueue(p); err != nil {
			s.db.usage.add(s.owner, -grows)
			return nil, err
		}
		for _, c := range changes {
			s.ahead.keys[c.key] = proposed{c.record, p}
		}
	}
	s.ahead.revision, s.ahead.count, s.ahead.bytes = changes[len(changes)-1].revision, count, bytes
	if p == nil {
		s.apply(changes, wakes)
	}
	return p, nil
}

// open returns why there can be no writing. s.mu is held.
func (s *space) open(d *draft) error {
	switch {
	case s.sealed:
		return ErrDropped
	case d.client.ended.Load():
		return ErrClosed
	case !d.pass.holds(d.client, s, d.pass.cause) || s.guarded != d.guarded || s.validator != d.validator:
		return errStale
	}
	return nil
}

// check compares what a draft expects with what is. s.mu is held.
func (s *space) check(d *draft) (wait *pending, err error) {
	for _, list := range [][]expectation{d.expects, d.pins} {
		for _, e := range list {
			r, by := s.head(e.key)
			actual := uint64(0)
			if !r.gone(d.now) {
				actual = r.revision
			}
			switch {
			case actual == e.revision:
			case by != nil:
				return by, nil
			default:
				return nil, &ConflictError{Store: s.name, Key: e.key, Expected: e.revision, Actual: actual}
			}
		}
	}
	for _, r := range d.ranges {
		for key, next := range s.ahead.keys {
			if r.selection.matches(key) {
				return next.by, nil
			}
		}
		if err := r.compare(s, d.now); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// changes returns what a draft will change, with what the store will hold then. s.mu
// is held.
func (s *space) changes(d *draft) (changes []change, count int, bytes int64) {
	count, bytes = s.ahead.count, s.ahead.bytes
	revision := s.ahead.revision
	add := func(kind Kind, key string, r *record, from plugbus.Chain, writer string, old *record) {
		revision++
		if r != nil {
			r.revision = revision
			count++
		}
		if old != nil {
			count--
		}
		bytes += r.size() - old.size()
		changes = append(changes, change{kind: kind, key: key, record: r, revision: revision, at: d.now, writer: writer, led: from, rules: d.rules, replaced: old})
	}
	for i := range d.edits {
		e := &d.edits[i]
		old, _ := s.head(e.key)
		if old != nil && old.gone(d.now) {
			add(Expired, e.key, nil, old.led, "", old)
			old = nil
		}
		if !e.delete {
			add(Set, e.key, e.record(d), d.led, d.client.id, old)
		} else if old != nil {
			add(Deleted, e.key, nil, d.led, d.client.id, old)
		}
	}
	return changes, count, bytes
}

// room checks the quotas, and takes what the store grows from those of its owner.
// s.mu is held.
func (s *space) room(count int, bytes int64) error {
	full := func(quota string, limit, would int64) error {
		return &QuotaError{Store: s.name, Quota: quota, Limit: limit, Would: would}
	}
	switch {
	case count > s.config.MaxKeys:
		return full("keys of the store", int64(s.config.MaxKeys), int64(count))
	case bytes > s.config.MaxBytes:
		return full("bytes of the store", s.config.MaxBytes, bytes)
	}
	return s.db.usage.grow(s, bytes-s.ahead.bytes)
}

// apply makes changes seen. s.mu is held.
func (s *space) apply(changes []change, wakes *actor.Wakes) {
	for i := range changes {
		c := &changes[i]
		if c.record != nil {
			s.entries[c.record.key] = c.record
			s.order.Set(c.record.key, c.record)
		} else {
			delete(s.entries, c.key)
			s.order.Delete(c.key)
		}
		s.bytes += c.record.size() - c.replaced.size()
		s.revision = c.revision
		s.db.expiries.replace(s, c.replaced, c.record)
		s.history.add(*c, &s.config)
	}
	s.db.changes.Add(uint64(len(changes)))
	for w := range s.watches {
		w.signal(wakes)
	}
}
