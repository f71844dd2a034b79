package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/storetest"
)

// A modelEntry is what a key should have.
type modelEntry struct {
	value, writer string
	revision      uint64
	expires       time.Time
}

// A model is a store beside a map with revisions that does the same.
type model struct {
	t        *rapid.T
	config   store.Config
	backend  *storetest.Memory
	db       *store.DB
	clients  map[string]*store.Client // of "a" and "b"
	views    map[string]*store.View
	entries  map[string]modelEntry
	revision uint64
}

// The bounds are small, so that they are met.
const (
	modelKeys  = 4
	modelBytes = 30
	modelValue = 12
)

// TestModel compares all that a plugin can do to a store, expiry, dropping and opening
// again included, with a map (D13, D14, D15, D16).
func TestModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(rt *rapid.T) {
			m := &model{t: rt, backend: &storetest.Memory{}, entries: map[string]modelEntry{}}
			m.config = store.Config{
				Persistent: rapid.Bool().Draw(rt, "persistent"), Read: []string{"b"}, Write: []string{"b"}, Admin: []string{"b"},
				MaxKeys: modelKeys, MaxBytes: modelBytes, MaxValueBytes: modelValue,
			}
			m.open()
			m.create()
			defer func() { require.NoError(rt, m.db.Close(context.Background())) }()
			rt.Repeat(map[string]func(*rapid.T){
				"":       func(*rapid.T) { m.check() },
				"put":    func(rt *rapid.T) { m.put(rt, m.draw(rt, "key", keyNames), m.writer(rt)) },
				"delete": m.delete,
				"txn":    m.txn,
				"sleep":  m.sleep,
				"drop":   m.drop,
				"reopen": m.reopen,
			})
		})
	})
}

var keyNames = []string{"a", "a.b", "a.c", "b", "b.a", "zzzz"}

func (m *model) draw(rt *rapid.T, label string, from []string) string {
	return rapid.SampledFrom(from).Draw(rt, label)
}

func (m *model) writer(rt *rapid.T) string { return m.draw(rt, "writer", []string{"a", "b"}) }

func (m *model) open() {
	db, err := store.Open(store.Options{Backend: m.backend})
	require.NoError(m.t, err)
	m.db, m.clients, m.views = db, map[string]*store.Client{}, map[string]*store.View{}
}

// create makes the store, for the plugin that has joined first.
func (m *model) create() {
	v, err := m.client("a").Create(context.Background(), "s", m.config)
	require.NoError(m.t, err)
	m.views["a"] = v
	m.view("b")
}

// client returns the client of a plugin, which joins if it has not yet.
func (m *model) client(id string) *store.Client {
	if m.clients[id] == nil {
		c, err := m.db.Client(id, store.ClientOptions{})
		require.NoError(m.t, err)
		m.clients[id] = c
	}
	return m.clients[id]
}

func (m *model) view(id string) {
	v, err := m.client(id).Open(context.Background(), "s")
	require.NoError(m.t, err)
	m.views[id] = v
}

// size returns what the store holds.
func (m *model) size() (keys int, bytes int64) {
	for key, e := range m.entries {
		bytes += int64(len(key) + len(e.value))
	}
	return len(m.entries), bytes
}

// allow reports whether the quotas allow to replace all entries by next, and demands the
// error that they call for.
func (m *model) allow(err error, next map[string]modelEntry) bool {
	keys, bytes := m.size()
	now := m.entries
	m.entries = next
	nextKeys, nextBytes := m.size()
	m.entries = now
	var want string
	switch {
	case nextKeys > modelKeys && nextKeys > keys:
		want = fmt.Sprintf("the keys of the store may be at most %d, and would be %d", modelKeys, nextKeys)
	case nextBytes > modelBytes && nextBytes > bytes:
		want = fmt.Sprintf("the bytes of the store may be at most %d, and would be %d", modelBytes, nextBytes)
	default:
		require.NotErrorIs(m.t, err, store.ErrQuota)
		return true
	}
	require.ErrorIs(m.t, err, store.ErrQuota)
	require.ErrorContains(m.t, err, want)
	return false
}

// value draws a value and a lifetime.
func (m *model) value(rt *rapid.T) (value string, options []store.SetOption, expires time.Time) {
	value = strings.Repeat("v", rapid.IntRange(0, modelValue).Draw(rt, "size"))
	if seconds := rapid.IntRange(0, 5).Draw(rt, "ttl"); seconds > 0 {
		ttl := time.Duration(seconds) * time.Second
		options, expires = []store.SetOption{store.TTL(ttl)}, time.Now().Add(ttl)
	}
	return value, options, expires
}

// expected draws a revision that a key may be expected to have.
func (m *model) expected(rt *rapid.T, key string) uint64 {
	revision := m.entries[key].revision
	if revision == 0 || rapid.Bool().Draw(rt, "wrong") {
		revision = rapid.Uint64Range(1, m.revision+1).Draw(rt, "revision")
	}
	return revision
}

func (m *model) put(rt *rapid.T, key, writer string) {
	value, options, expires := m.value(rt)
	v, ctx, old := m.views[writer], context.Background(), m.entries[key]
	var e store.Entry
	var err error
	expects := old.revision
	switch rapid.IntRange(0, 2).Draw(rt, "how") {
	case 0:
		e, err = v.Set(ctx, key, []byte(value), options...)
	case 1:
		expects = 0
		e, err = v.Create(ctx, key, []byte(value), options...)
	case 2:
		expects = m.expected(rt, key)
		e, err = v.Update(ctx, key, []byte(value), expects, options...)
	}
	if expects != old.revision {
		m.conflict(err, key, expects)
		return
	}
	next := maps.Clone(m.entries)
	next[key] = modelEntry{value, writer, m.revision + 1, expires}
	if m.allow(err, next) {
		require.NoError(m.t, err)
		m.entries = next
		m.revision++
		m.same(key, e)
	}
}

func (m *model) conflict(err error, key string, expected uint64) {
	c, ok := errors.AsType[*store.ConflictError](err)
	require.True(m.t, ok, "%v", err)
	require.Equal(m.t, [2]string{"s", key}, [2]string{c.Store, c.Key})
	require.Equal(m.t, [2]uint64{expected, m.entries[key].revision}, [2]uint64{c.Expected, c.Actual})
}

func (m *model) delete(rt *rapid.T) {
	key := m.draw(rt, "key", keyNames)
	var options []store.DeleteOption
	old := m.entries[key]
	expects := old.revision
	if rapid.Bool().Draw(rt, "if") {
		expects = m.expected(rt, key)
		options = append(options, store.IfRevision(expects))
	}
	err := m.views[m.writer(rt)].Delete(context.Background(), key, options...)
	if expects != old.revision {
		m.conflict(err, key, expects)
		return
	}
	require.NoError(m.t, err)
	if old.revision != 0 {
		delete(m.entries, key)
		m.revision++
	}
}

// A modelTx is what a transaction should do.
type modelTx struct {
	m      *model
	reads  map[string]uint64            // revisions
	ranges map[string]map[string]uint64 // by prefix
	writes []string                     // keys, in the order of their first write
	made   map[string]*modelEntry       // by key, nil if it is deleted
}

// stands reports whether all that was read is still so.
func (tx *modelTx) stands() bool {
	for key, revision := range tx.reads {
		if tx.m.entries[key].revision != revision {
			return false
		}
	}
	for prefix, was := range tx.ranges {
		if !maps.Equal(was, tx.m.within(prefix)) {
			return false
		}
	}
	return true
}

func (m *model) within(prefix string) map[string]uint64 {
	revisions := map[string]uint64{}
	for key, e := range m.entries {
		if strings.HasPrefix(key, prefix) {
			revisions[key] = e.revision
		}
	}
	return revisions
}

// txn runs a transaction, while others write and time passes.
func (m *model) txn(rt *rapid.T) {
	writer := m.writer(rt)
	want := &modelTx{m: m, reads: map[string]uint64{}, ranges: map[string]map[string]uint64{}, made: map[string]*modelEntry{}}
	err := m.views[writer].Txn(context.Background(), func(tx *store.Tx) error {
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			if err := m.step(rt, tx, want, writer); err != nil {
				return err
			}
		}
		return nil
	})
	if len(want.writes) == 0 && err == nil {
		return // It was so at the last read, as the steps have shown.
	}
	if !want.stands() {
		require.ErrorIs(m.t, err, store.ErrConflict)
		return
	}
	next, revision := maps.Clone(m.entries), m.revision
	for _, key := range want.writes {
		e := want.made[key]
		if e != nil {
			revision++
			next[key] = modelEntry{e.value, writer, revision, e.expires}
		} else if _, ok := next[key]; ok {
			revision++
			delete(next, key)
		}
	}
	if m.allow(err, next) {
		require.NoError(m.t, err)
		m.entries, m.revision = next, revision
		m.settle() // A lifetime may be over since the write.
	}
}

// step does one thing in a transaction. An error is the one that is to be expected.
func (m *model) step(rt *rapid.T, tx *store.Tx, want *modelTx, writer string) error {
	key := m.draw(rt, "key", keyNames)
	made, written := want.made[key]
	switch rapid.IntRange(0, 5).Draw(rt, "step") {
	case 0:
		got, err := tx.Get(key)
		if written {
			require.Equal(m.t, made == nil, errors.Is(err, store.ErrNotFound))
			require.Equal(m.t, made != nil, got.Exists())
			if made != nil {
				require.Equal(m.t, made.value, got.Text())
			}
			return nil
		}
		if !want.stands() {
			require.ErrorIs(m.t, err, store.ErrConflict)
			return err
		}
		is := m.entries[key]
		want.reads[key] = is.revision
		require.Equal(m.t, is.revision, got.Revision(), "%v", err)
		require.Equal(m.t, is.revision == 0, errors.Is(err, store.ErrNotFound))
	case 1:
		prefix := m.draw(rt, "prefix", []string{"", "a", "a.", "b", "x"})
		got, err := tx.Entries(store.Prefix(prefix))
		if !want.stands() {
			require.ErrorIs(m.t, err, store.ErrConflict)
			return err
		}
		require.NoError(m.t, err)
		is := m.within(prefix)
		want.ranges[prefix] = maps.Clone(is)
		for key, e := range want.made {
			if e == nil {
				delete(is, key)
			} else if strings.HasPrefix(key, prefix) {
				is[key] = 0
			}
		}
		keys := slices.Sorted(maps.Keys(is))
		require.Len(m.t, got, len(keys))
		for i, e := range got {
			require.Equal(m.t, keys[i], e.Key())
			require.Equal(m.t, is[e.Key()], e.Revision())
		}
	case 2:
		value, options, expires := m.value(rt)
		require.NoError(m.t, tx.Set(key, []byte(value), options...))
		want.write(key, &modelEntry{value: value, writer: writer, expires: expires})
	case 3:
		require.NoError(m.t, tx.Delete(key))
		want.write(key, nil)
	case 4:
		m.put(rt, key, m.writer(rt))
	case 5:
		m.sleep(rt)
	}
	return nil
}

func (tx *modelTx) write(key string, e *modelEntry) {
	if _, ok := tx.made[key]; !ok {
		tx.writes = append(tx.writes, key)
	}
	tx.made[key] = e
}

func (m *model) sleep(rt *rapid.T) {
	<-time.After(time.Duration(rapid.IntRange(1, 3).Draw(rt, "seconds")) * time.Second)
	m.settle()
}

// settle has what is due expire.
func (m *model) settle() {
	synctest.Wait()
	maps.DeleteFunc(m.entries, func(_ string, e modelEntry) bool {
		gone := !e.expires.IsZero() && !e.expires.After(time.Now())
		if gone {
			m.revision++
		}
		return gone
	})
}

// drop drops the store, which is made again.
func (m *model) drop(*rapid.T) {
	old := m.views["b"]
	require.NoError(m.t, old.Drop(context.Background()))
	for _, v := range m.views {
		_, err := v.Get(context.Background(), "a")
		require.ErrorIs(m.t, err, store.ErrDropped)
	}
	m.entries = map[string]modelEntry{}
	m.create()
}

// reopen opens what the backend has: after Close, or as it was when the process died.
func (m *model) reopen(rt *rapid.T) {
	dies := rapid.Bool().Draw(rt, "dies")
	copied := m.backend.Clone()
	require.NoError(m.t, m.db.Close(context.Background()))
	if dies {
		m.backend = copied
	}
	<-time.After(time.Duration(rapid.IntRange(0, 2).Draw(rt, "away")) * time.Second)
	m.open()
	if m.config.Persistent {
		m.view("a")
		m.view("b")
		m.settle()
		return
	}
	m.entries, m.revision = map[string]modelEntry{}, 0
	m.create()
}

// same demands that an entry is as the model has it.
func (m *model) same(key string, got store.Entry) {
	want := m.entries[key]
	require.Equal(m.t, want.value, got.Text(), key)
	require.Equal(m.t, want.revision, got.Revision(), key)
	require.Equal(m.t, want.writer, got.Writer(), key)
	require.True(m.t, want.expires.Equal(got.Expires()), "%q: %v, %v", key, want.expires, got.Expires())
}

// check compares everything that can be read.
func (m *model) check() {
	ctx := context.Background()
	for _, key := range keyNames {
		got, err := m.views["a"].Get(ctx, key)
		_, there := m.entries[key]
		require.Equal(m.t, there, err == nil, "%q: %v", key, err)
		m.same(key, got)
	}
	var keys []string
	for e, err := range m.views["b"].Entries(ctx, store.All()) {
		require.NoError(m.t, err)
		keys = append(keys, e.Key())
		m.same(e.Key(), e)
	}
	require.Equal(m.t, slices.Sorted(maps.Keys(m.entries)), keys)
	count, bytes := m.size()
	st := m.db.Stats()
	require.Len(m.t, st.Stores, 1)
	require.Equal(m.t, count, st.Stores[0].Keys)
	require.Equal(m.t, bytes, st.Stores[0].Bytes)
	require.Equal(m.t, bytes, st.Bytes)
	require.Equal(m.t, m.revision, st.Stores[0].Revision)
	expiring := 0
	for _, e := range m.entries {
		if !e.expires.IsZero() {
			expiring++
		}
	}
	require.Equal(m.t, expiring, st.Expiring)
}
