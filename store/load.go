package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/plugbus/plugbus/internal/schema"
	"github.com/plugbus/plugbus/internal/topic"
)

// load makes the stores that the backend has. It believes nothing: each value has its
// checksum, each store its count and sum, and so have all stores together.
func (db *DB) load() error {
	l := loader{db: db, heads: map[string]head{}, sums: map[*space]uint64{}, writers: map[string]string{}}
	if err := db.opts.Backend.Load(l.visit); err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	if err := l.check(); err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	for name, s := range db.stores {
		s.durable = l.heads[name]
		s.revision, s.history.floor = s.durable.revision, s.durable.revision
		s.ahead.revision, s.ahead.count, s.ahead.bytes = s.revision, len(s.entries), s.bytes
		db.usage.opened(s)
		db.usage.add(s.owner, s.bytes)
	}
	for _, s := range db.stores {
		s.expectAll()
	}
	return nil
}

// expectAll has all entries expire that do. Those whose time is over go at once, so the
// lock is held.
func (s *space) expectAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.entries {
		s.db.expiries.replace(s, nil, r)
	}
}

// A loader reads what a backend has.
type loader struct {
	db      *DB
	census  []byte
	heads   map[string]head
	sums    map[*space]uint64
	last    *space            // of an entry
	writers map[string]string // so that each is in memory once
}

// check compares what was read with what the census and the heads say.
func (l *loader) check() error {
	for name, s := range l.db.stores {
		h, ok := l.heads[name]
		switch {
		case !ok:
			return &DamageError{bucketHeads, name, "it is missing"}
		case h.count != uint64(len(s.entries)) || h.sum != l.sums[s]:
			return &DamageError{bucketEntries + name, "", fmt.Sprintf("there are %d entries, and the head of the store speaks of %d, or of others", len(s.entries), h.count)}
		}
	}
	for name := range l.heads {
		if l.db.stores[name] == nil {
			return &DamageError{bucketMetas, name, "it is missing"}
		}
	}
	c := &l.db.committer.census
	if l.census == nil && len(c.sums) == 0 {
		return nil // It is a new backend.
	}
	if err := c.compare(l.census); err != nil {
		return &DamageError{bucketCensus, censusKey, err.Error()}
	}
	return nil
}

func (l *loader) visit(bucket, key string, value []byte) error {
	problem := func(err error) error { return &DamageError{bucket, key, err.Error()} }
	switch bucket {
	case bucketCensus:
		if key != censusKey || l.census != nil {
			return problem(errors.New("a key of this name is not ours"))
		}
		l.census = slices.Clone(value)
		return nil
	case bucketGraves:
		revision, err := decodeGrave(key, value)
		if err != nil {
			return problem(err)
		}
		l.db.graves.names[key] = revision
		l.db.committer.census.take(bucket, key, value)
		return nil
	case bucketHeads:
		h, err := decodeHead(key, value)
		if err != nil {
			return problem(err)
		}
		l.heads[key] = h
		return nil
	case bucketMetas:
		s, err := l.store(key, value)
		if err != nil {
			return problem(err)
		}
		l.db.stores[key] = s
		l.db.committer.census.take(bucket, key, value)
		return nil
	}
	name, ok := strings.CutPrefix(bucket, bucketEntries)
	if !ok {
		return problem(errors.New("a bucket of this name is not ours"))
	}
	s := l.last
	if s == nil || s.name != name {
		if s = l.db.stores[name]; s == nil {
			return problem(fmt.Errorf("there is no store %q", name))
		}
		l.last = s
	}
	r, err := decodeRecord(name, key, value, l.intern)
	if err != nil {
		return problem(err)
	}
	s.entries[key] = r
	s.order.Load(key, r)
	s.bytes += r.size()
	l.sums[s] += r.sum
	return nil
}

// intern returns a string that is shared by all that ask for the same.
func (l *loader) intern(b []byte) string {
	s, ok := l.writers[string(b)]
	if !ok {
		s = string(b)
		l.writers[s] = s
	}
	return s
}

// store makes a store without entries.
func (l *loader) store(name string, value []byte) (*space, error) {
	m, err := decodeMeta(name, value)
	if err != nil {
		return nil, err
	}
	if err := topic.CheckName(name); err != nil {
		return nil, err
	}
	s := newSpace(l.db, name, m.Owner, Config{
		Persistent: true, Schema: m.Schema, TTL: m.TTL,
		MaxKeys: m.MaxKeys, MaxBytes: m.MaxBytes, MaxValueBytes: m.MaxValueBytes, History: m.History, HistoryBytes: m.HistoryBytes,
	})
	s.entries = make(map[string]*record, min(l.heads[name].count, 1<<20))
	s.guarded = m.Guarded
	if m.Schema != nil {
		if s.schema, err = schema.Compile(m.Schema); err != nil {
			return nil, err
		}
	}
	lists := &acl{owner: m.Owner, rights: m.Rights, since: map[string]uint64{}}
	if lists.rights == nil {
		lists.rights = map[string]Rights{}
	}
	s.acl.Store(lists)
	return s, nil
}
