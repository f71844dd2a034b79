package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// A law of a watch is what lets its plugin read, and can be changed: the policy of the
// host, or the lists of the store (D8).
type watchLaw struct {
	name        string
	deny, allow func()
}

// underLaws runs a test of a reader whose right to read can be taken, by the policy and by
// the lists.
func underLaws(t *testing.T, config store.Config, test func(t *testing.T, st *stage, owner, reader *store.View, policy *statute, law watchLaw)) {
	t.Helper()
	for _, by := range []string{"policy", "lists"} {
		t.Run(by, func(t *testing.T) {
			st := newStage(t, store.Options{})
			policy := newStatute("reader")
			config.Read = []string{"reader"}
			v := create(t, st.join(t, "owner", store.ClientOptions{Guard: bystander{policy}}), "s", config)
			law := watchLaw{by, func() { policy.deny(plugbus.VerbRead) }, func() { policy.allow(plugbus.VerbRead) }}
			if by == "lists" {
				law.deny = func() { require.NoError(t, v.Revoke(t.Context(), store.Read, "reader")) }
				law.allow = func() { require.NoError(t, v.Grant(t.Context(), store.Read, "reader")) }
			}
			reader := st.join(t, "reader", store.ClientOptions{Guard: policy})
			test(t, st, v, view(t, reader, "s"), policy, law)
		})
	}
}

// TestRevoked shows that a watch ends when its plugin may no longer read, with a last
// change that says so, and an error that says why (D4).
func TestRevoked(t *testing.T) {
	for _, options := range [][]store.WatchOption{nil, {store.Snapshot()}, {store.Latest()}, {store.After(0)}} {
		underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
			t.Helper()
			var d diary
			w := watch(t, reader, d.watcher, options...)
			set(t, v, "k", "1")
			st.rest(t)
			require.NoError(t, w.Err())
			before := len(d.lines())

			law.deny()
			set(t, v, "k", "2")
			<-w.Done()
			st.rest(t)
			require.Equal(t, []string{"revoked @1"}, d.lines()[before:])
			require.ErrorIs(t, w.Err(), plugbus.ErrDenied)
			require.Equal(t, "s", denied(t, w.Err()).Object)
			require.Len(t, policy.refusals(), 1, "the host hears of it, once (D10)")
			if law.name == "lists" {
				require.Contains(t, policy.refusals()[0].Rule, `give "reader" no right to read`)
			}
			require.Empty(t, st.Stats().Stores[0].Watches)

			law.allow()
			set(t, v, "k", "3")
			st.rest(t)
			require.Len(t, d.lines(), before+1, "it was the last")
		})
	}
}

// TestRevokedBeforeTheNextLook shows that the right to read is asked for after changes
// were read, so that none is told that was made when the right had ended already (D4).
func TestRevokedBeforeTheNextLook(t *testing.T) {
	underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
		t.Helper()
		var d diary
		thaw := st.freeze(t, "reader")
		watch(t, reader, d.watcher)
		policy.then(func() { // Between the question and the look.
			law.deny()
			set(t, v, "k", "secret")
		})
		thaw()
		st.rest(t)
		require.Len(t, d.read(), 1)
		require.Equal(t, store.Revoked, d.read()[0].Kind())
	})
}

// TestHiddenMeanwhile shows that nobody sees a value that was overwritten before he could
// read it, neither as the new nor as the old one: he learns that something is missing (D4).
func TestHiddenMeanwhile(t *testing.T) {
	for _, test := range []struct {
		options []store.WatchOption
		want    []string
	}{
		{nil, []string{"lagged @3 -2", "set k=4 was 3 @4"}},
		{[]store.WatchOption{store.Latest()}, []string{"set k=4 was 3 @4"}},
	} {
		underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, _ *statute, law watchLaw) {
			t.Helper()
			set(t, v, "k", "1")
			var d diary
			watch(t, reader, d.watcher, test.options...)
			thaw := st.freeze(t, "reader")
			law.deny()
			set(t, v, "k", "secret")
			set(t, v, "k", "3")
			law.allow()
			set(t, v, "k", "4")
			thaw()
			st.rest(t)
			require.Equal(t, test.want, d.lines())
		})
	}
}

// TestLatestSeesWhatIsThere shows that a watch for the latest gets what a key has, if that
// was set while its plugin might not read, and still is so (D4).
func TestLatestSeesWhatIsThere(t *testing.T) {
	underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, _ *statute, law watchLaw) {
		t.Helper()
		set(t, v, "a", "1")
		var d diary
		watch(t, reader, d.watcher, store.Latest())
		thaw := st.freeze(t, "reader")
		law.deny()
		set(t, v, "k", "there")
		law.allow()
		set(t, v, "l", "later")
		thaw()
		st.rest(t)
		require.Equal(t, []string{"lagged @3 -1", "current k=there @2", "current l=later @3", "synced @3"}, d.lines())
	})
}

// TestResumeHides shows that a watch that goes on after a revision gets a snapshot if its
// plugin might not read all that was made since (D4), or if the rules of then are forgotten.
func TestResumeHides(t *testing.T) {
	underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
		t.Helper()
		set(t, v, "k", "1")
		law.deny()
		set(t, v, "k", "secret")
		law.allow()
		set(t, v, "k", "3")
		for after, want := range [][]string{
			{"truncated @0", "current k=3 @3", "synced @3"},
			{"truncated @1", "current k=3 @3", "synced @3"},
			{"set k=3 was secret @3"},
			{},
		} {
			var d diary
			w := watch(t, reader, d.watcher, store.After(uint64(after)))
			st.rest(t)
			w.Stop()
			require.Equal(t, want, d.lines())
		}
		policy.deny(plugbus.VerbCreate)
		policy.forget()
		var d diary
		watch(t, reader, d.watcher, store.After(2))
		st.rest(t)
		if law.name == "policy" {
			require.Equal(t, []string{"truncated @2", "current k=3 @3", "synced @3"}, d.lines())
		}
	})
}

// TestSnapshotHides shows that a snapshot has nothing that the plugin might not read at
// that time, even if the rights change while it is taken (D4).
func TestSnapshotHides(t *testing.T) {
	underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
		t.Helper()
		set(t, v, "k", "1")
		thaw := st.freeze(t, "reader")
		var d diary
		_, err := reader.Get(t.Context(), "k") // So that the view knows the answer.
		require.NoError(t, err)
		looks := 0
		var next func()
		next = func() { // At any of the looks while the watch is opened.
			if looks++; looks == 2 {
				law.deny()
				set(t, v, "k", "secret")
				return
			}
			policy.then(next)
		}
		policy.then(next)
		w, err := reader.Watch(t.Context(), "**", d.watcher, store.Snapshot())
		require.Equal(t, 2, looks)
		if err == nil {
			set(t, v, "k", "3")
			law.allow()
			thaw()
			st.rest(t)
			require.NoError(t, w.Err())
			require.Equal(t, []string{"current k=3 @3", "synced @3"}, d.lines())
			return
		}
		thaw()
		require.ErrorIs(t, err, plugbus.ErrDenied)
	})
}

// TestStoppedMeanwhile shows that no watcher is called for the last time when its watch was
// stopped before, even if the last change was found already.
func TestStoppedMeanwhile(t *testing.T) {
	underLaws(t, store.Config{}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
		t.Helper()
		var d diary
		thaw := st.freeze(t, "reader")
		w := watch(t, reader, d.watcher)
		law.deny()
		policy.then(w.Stop)
		thaw()
		<-w.Done()
		st.rest(t)
		require.Empty(t, d.lines())
		require.NoError(t, w.Err())
	})
}

// TestDrainWhileOpening shows that a watch which is opened while its client begins to drain
// does not stay behind, whenever that is.
func TestDrainWhileOpening(t *testing.T) {
	for at := range 3 {
		st := newStage(t, store.Options{})
		create(t, st.join(t, "owner"), "s", store.Config{Read: []string{"reader"}})
		policy := newStatute("reader")
		c := st.join(t, "reader", store.ClientOptions{Guard: policy})
		reader := view(t, c, "s")
		looks := 0
		var next func()
		next = func() {
			if looks++; looks > at {
				c.BeginDrain()
				return
			}
			policy.then(next)
		}
		policy.then(next)
		w, err := reader.Watch(t.Context(), "**", new(diary).watcher)
		if err == nil {
			<-w.Done()
			err = w.Err()
		}
		if looks > at {
			require.ErrorIs(t, err, store.ErrClosed)
		}
		require.Empty(t, st.Stats().Stores[0].Watches)
		c.BeginDrain()
	}
}

// TestWakeWhileOpening shows that nothing looks at a watch before it has been opened: the
// worker, which a swap of the policy wakes meanwhile, gets it afterwards (the race detector
// looks).
func TestWakeWhileOpening(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := create(t, st.join(t, "owner"), "s", store.Config{Read: []string{"reader"}})
	_, err := owner.Set(t.Context(), "k", []byte("v"))
	require.NoError(t, err)
	for range 200 {
		policy := newStatute("reader")
		c := st.join(t, "reader", store.ClientOptions{Guard: policy})
		reader := view(t, c, "s")
		var wakes func()
		left := 3
		wakes = func() {
			st.Wake()
			if left--; left > 0 {
				policy.then(wakes)
			}
		}
		policy.then(wakes)
		var d diary
		w, err := reader.Watch(t.Context(), "**", d.watcher, store.Snapshot())
		require.NoError(t, err)
		st.rest(t)
		require.Len(t, d.lines(), 2, "the snapshot comes once: %q", d.lines())
		w.Stop()
		require.NoError(t, c.Close(t.Context()))
	}
}

// TestWatchNeedsTheRight shows who may open a watch: whoever may read, by policy and by
// list (D4, D8, D10).
func TestWatchNeedsTheRight(t *testing.T) {
	underLaws(t, store.Config{Write: []string{"reader"}}, func(t *testing.T, st *stage, v, reader *store.View, policy *statute, law watchLaw) {
		t.Helper()
		law.deny()
		_, err := reader.Watch(t.Context(), "**", new(diary).watcher)
		require.Equal(t, plugbus.VerbRead, denied(t, err).Verb)
		require.Len(t, policy.refusals(), 1)

		var d diary
		watch(t, view(t, st.join(t, "host", store.ClientOptions{Superuser: true}), "s"), d.watcher)
		set(t, v, "k", "1")
		st.rest(t)
		require.Equal(t, []string{"set k=1 @1"}, d.lines(), "the lists do not bind the host")
	})
}
