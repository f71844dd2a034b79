package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// TestWatch shows what a watcher is told, with the value before it (D14), for the keys of
// its pattern (D18), expiries included (D16).
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		owner, reader := st.join(t, "owner"), st.join(t, "reader")
		v := create(t, owner, "s", store.Config{Read: []string{"reader"}})
		set(t, v, "k.1", "before")
		var all, some diary
		w := watch(t, view(t, reader, "s"), all.watcher)
		_, err := view(t, reader, "s").Watch(t.Context(), "k.*", some.watcher)
		require.NoError(t, err)
		require.Equal(t, "**", w.Pattern())
		begun := time.Now().UTC()

		set(t, v, "k.1", "1")
		set(t, v, "other", "2", store.TTL(time.Second))
		remove(t, v, "k.1")
		remove(t, v, "k.1") // Changes nothing.
		require.NoError(t, v.Txn(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, tx.Set("k.2", []byte("3")))
			return tx.Set("k.1", []byte("4"))
		}))
		pause(time.Second)
		st.rest(t)
		require.Equal(t, []string{
			"set k.1=1 was before @2", "set other=2 @3", "deleted k.1 was 1 @4", "set k.2=3 @5", "set k.1=4 @6", "expired other was 2 @7",
		}, all.lines())
		require.Equal(t, []string{"set k.1=1 was before @2", "deleted k.1 was 1 @4", "set k.2=3 @5", "set k.1=4 @6"}, some.lines())

		told := all.read()
		require.Equal(t, "s", told[0].Store())
		require.Equal(t, "owner", told[2].Writer())
		require.Equal(t, []string{"owner"}, told[2].Chain().Plugins())
		require.Equal(t, begun, told[2].Time())
		require.Empty(t, told[5].Writer(), "time did it")
		require.Equal(t, []string{"owner"}, told[5].Chain().Plugins(), "an expiry has the chain of what set it")
		require.Equal(t, begun.Add(time.Second), told[5].Time())
		require.Equal(t, `set "k.1" of store "s" at 2`, told[0].String())
	})
}

// TestSnapshotThenChanges has watches begin while many write: each sees a snapshot and then
// each later change once, in the order of revisions, each with the value before it
// (E19, D14, D18). What it has seen is in the end what the store has.
func TestSnapshotThenChanges(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		o := store.Options{}
		if persistent {
			o.Backend = newShelf()
		}
		st := newStage(t, o)
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{Persistent: persistent, History: 100_000, HistoryBytes: 32 << 20})
		var writers sync.WaitGroup
		for n := range 4 {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(n)))
				for i := range 300 {
					key := fmt.Sprintf("k.%d", random.IntN(10))
					if random.IntN(4) == 0 {
						remove(t, v, key)
						continue
					}
					set(t, v, key, fmt.Sprintf("%d of %d", i, n))
				}
			})
		}
		mirrors := make([]*mirror, 12)
		for i := range mirrors {
			mirrors[i] = newMirror(t)
			watch(t, view(t, st.join(t, fmt.Sprintf("reader%d", i), store.ClientOptions{Superuser: true}), "s"), mirrors[i].watcher, store.Snapshot())
		}
		writers.Wait()
		st.rest(t)
		for _, m := range mirrors {
			require.True(t, m.synced)
			require.Equal(t, content(t, v), m.entries)
			require.Equal(t, st.Stats().Stores[0].Revision, m.revision)
		}
	}
}

// A mirror keeps a copy of a store by what its watcher is told, and demands that no
// revision is missing or comes twice.
type mirror struct {
	t        testing.TB
	entries  map[string]string
	revision uint64 // up to which it is complete, when synced
	last     string // the last key of the snapshot
	synced   bool
	seen     map[string]store.Entry
}

func newMirror(t testing.TB) *mirror {
	return &mirror{t: t, entries: map[string]string{}, seen: map[string]store.Entry{}}
}

func (m *mirror) watcher(_ context.Context, c store.Change) error {
	switch c.Kind() {
	case store.Current:
		require.False(m.t, m.synced)
		require.Greater(m.t, c.Key(), m.last, "in the order of keys")
		m.last, m.entries[c.Key()], m.seen[c.Key()] = c.Key(), c.Entry().Text(), c.Entry()
		return nil
	case store.Synced:
		require.False(m.t, m.synced)
		m.synced, m.revision = true, c.Revision()
		return nil
	case store.Set:
		m.entries[c.Key()] = c.Entry().Text()
	case store.Deleted, store.Expired:
		delete(m.entries, c.Key())
	default:
		require.FailNow(m.t, "an unexpected change", c.String())
	}
	require.True(m.t, m.synced)
	require.Equal(m.t, m.revision+1, c.Revision())
	require.Equal(m.t, m.seen[c.Key()], c.Old(), "what was before")
	m.revision, m.seen[c.Key()] = c.Revision(), c.Entry()
	return nil
}

// TestResume goes on after each revision that a store has had: what came since comes, once,
// or all that is there if it is too old (E19).
func TestResume(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	v := create(t, owner, "s", store.Config{History: 4})
	var want []string
	for i := range 8 {
		set(t, v, fmt.Sprintf("k%d", i%3), fmt.Sprint(i))
		was := ""
		if i >= 3 {
			was = fmt.Sprintf(" was %d", i-3)
		}
		want = append(want, fmt.Sprintf("set k%d=%d%s @%d", i%3, i, was, i+1))
	}
	for after := range uint64(9) {
		var d diary
		w := watch(t, v, d.watcher, store.After(after))
		st.rest(t)
		w.Stop()
		if after < 4 {
			require.Equal(t, []string{fmt.Sprintf("truncated @%d", after), "current k0=6 @7", "current k1=7 @8", "current k2=5 @6", "synced @8"}, d.lines())
			continue
		}
		require.Equal(t, append([]string{}, want[after:]...), d.lines(), "after %d", after)
	}
	_, err := v.Watch(t.Context(), "**", new(diary).watcher, store.After(9))
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, "at most 8, the revision of the store")
	require.Empty(t, st.Stats().Stores[0].Watches, "nothing is left of a watch that did not come to be")
}

// TestResumeAfterReopening shows that a persistent store that was opened again has no
// changes, but goes on with the revisions (E19).
func TestResumeAfterReopening(t *testing.T) {
	shelf := newShelf()
	st := newStage(t, store.Options{Backend: shelf})
	v := create(t, st.join(t, "owner"), "s", store.Config{Persistent: true})
	set(t, v, "k", "1")
	set(t, v, "k", "2")
	require.NoError(t, st.Close(t.Context()))

	st = newStage(t, store.Options{Backend: shelf.copy()})
	v = view(t, st.join(t, "owner"), "s")
	var old, present diary
	watch(t, v, old.watcher, store.After(1))
	watch(t, v, present.watcher, store.After(2))
	set(t, v, "k", "3")
	st.rest(t)
	require.Equal(t, []string{"truncated @1", "current k=2 @2", "synced @2", "set k=3 was 2 @3"}, old.lines())
	require.Equal(t, []string{"set k=3 was 2 @3"}, present.lines())
}

// TestWatchRefusesBadArguments names what is wrong with a call.
func TestWatchRefusesBadArguments(t *testing.T) {
	st := newStage(t, store.Options{})
	v := create(t, st.join(t, "owner"), "s", store.Config{})
	some := new(diary).watcher
	for _, test := range []struct {
		pattern string
		watcher store.Watcher
		options []store.WatchOption
		want    string
	}{
		{"", some, nil, "pattern"},
		{"a**", some, nil, "pattern"},
		{"**", nil, nil, "the watcher is nil"},
		{"**", some, []store.WatchOption{nil}, "an option is <nil>"},
		{"**", some, []store.WatchOption{store.Timeout(0)}, "Timeout is 0s; expected 1ms to 1h"},
		{"**", some, []store.WatchOption{store.Timeout(2 * time.Hour)}, "Timeout is 2h0m0s"},
		{"**", some, []store.WatchOption{store.Snapshot(), store.After(0)}, "one of the two"},
	} {
		_, err := v.Watch(t.Context(), test.pattern, test.watcher, test.options...)
		require.ErrorIs(t, err, plugbus.ErrInvalid, "%q", test.want)
		require.ErrorContains(t, err, test.want)
	}
}
