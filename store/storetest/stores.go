package storetest

import (
	"context"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// testCreate is D1 and D2: a name belongs to whoever made it first.
func testCreate(w *world) {
	v := w.create("a", "notes", store.Config{})
	require.Equal(w, "notes", v.Name())
	require.Equal(w, "a", v.Owner())
	w.set(v, "k", "v")
	for _, id := range []string{"a", "b"} {
		for _, persistent := range []bool{false, w.persistent} {
			_, err := w.as(id).Create(w.Context(), "notes", store.Config{Persistent: persistent, Write: []string{"b"}})
			require.ErrorIs(w, err, store.ErrExists)
		}
	}
	require.Equal(w, map[string]string{"k": "v"}, w.content(v))
	_, err := w.as("b").Open(w.Context(), "notes")
	w.denied(err, plugbus.ReasonInsufficientPermissions)
}

func testCreateMistakes(w *world) {
	for _, config := range []store.Config{
		{MaxKeys: -1},
		{MaxKeys: 10_000_001},
		{MaxBytes: -1},
		{MaxValueBytes: -1},
		{History: -1},
		{HistoryBytes: -1},
		{TTL: 1},
		{TTL: -1},
		{Read: []string{"not an id"}},
		{Write: []string{""}},
		{Admin: []string{"a.b"}},
		{Schema: []byte(`{"type": 7}`)},
		{Schema: []byte{}},
	} {
		config.Persistent = w.persistent
		_, err := w.as("a").Create(w.Context(), "notes", config)
		require.ErrorIs(w, err, plugbus.ErrInvalid, "%+v", config)
	}
	_, err := w.as("a").Create(w.Context(), "notes", store.Config{MaxKeys: -1, TTL: -1, Read: []string{"*", "?"}})
	for _, mistake := range []string{"MaxKeys", "TTL", "?"} {
		require.ErrorContains(w, err, mistake)
	}
	for _, name := range []string{"", "a..b", "a b", "*", strings.Repeat("x", 256)} {
		_, err := w.as("a").Create(w.Context(), name, store.Config{Persistent: w.persistent})
		require.ErrorIs(w, err, plugbus.ErrInvalid, "%q", name)
	}
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	_, err = w.as("a").Create(ctx, "notes", store.Config{Persistent: w.persistent})
	require.ErrorIs(w, err, context.Canceled)
	w.create("a", "notes", store.Config{}) // Nothing of it took the name.
}

func testOpen(w *world) {
	w.create("a", "notes", store.Config{Read: []string{"reader"}, Write: []string{"writer"}, Admin: []string{"admin"}})
	for _, id := range []string{"a", "reader", "writer", "admin"} {
		require.Equal(w, "notes", w.view(id, "notes").Name())
	}
	_, err := w.as("stranger").Open(w.Context(), "notes")
	w.denied(err, plugbus.ReasonInsufficientPermissions)
	_, err = w.as("stranger").Open(w.Context(), "other")
	require.ErrorIs(w, err, store.ErrNotFound, "whoever may create a store, may know that there is none")
	_, err = w.as("stranger").Open(w.Context(), "not a name")
	require.ErrorIs(w, err, plugbus.ErrInvalid)
	host := w.join("host", store.ClientOptions{Superuser: true})
	v, err := host.Open(w.Context(), "notes")
	require.NoError(w, err)
	w.set(v, "k", "v")
	require.NoError(w, v.Drop(w.Context()))
}

func testList(w *world) {
	ctx := w.Context()
	w.create("a", "z", store.Config{Read: []string{"b"}})
	v := w.create("a", "m", store.Config{Write: []string{"b"}, Admin: []string{store.Everyone}})
	w.create("a", "own", store.Config{})
	w.set(v, "key", "value")
	w.set(v, "key", "another")
	got, err := w.as("b").List(ctx)
	require.NoError(w, err)
	require.Equal(w, []store.Info{
		{Name: "m", Owner: "a", Persistent: w.persistent, Rights: store.Read | store.Write | store.Admin, Keys: 1, Bytes: 10, Revision: 2},
		{Name: "z", Owner: "a", Persistent: w.persistent, Rights: store.Read},
	}, got)
	require.NoError(w, v.Revoke(ctx, store.Admin, store.Everyone))
	require.NoError(w, w.view("a", "z").Drop(ctx))
	got, err = w.as("b").List(ctx)
	require.NoError(w, err)
	require.Len(w, got, 1)
	require.Equal(w, store.Write, got[0].Rights)
	got, err = w.as("c").List(ctx)
	require.NoError(w, err)
	require.Empty(w, got)
}

// acts are what can be done with a store, and what right each needs.
var acts = []struct {
	name  string
	needs store.Rights
	do    func(ctx context.Context, v *store.View) error
}{
	{"get", store.Read, func(ctx context.Context, v *store.View) error { _, err := v.Get(ctx, "k"); return err }},
	{"entries", store.Read, func(ctx context.Context, v *store.View) error {
		for _, err := range v.Entries(ctx, store.All()) {
			return err
		}
		return nil
	}},
	{"keys", store.Read, func(ctx context.Context, v *store.View) error {
		for _, err := range v.Keys(ctx, store.All()) {
			return err
		}
		return nil
	}},
	{"watch", store.Read, func(ctx context.Context, v *store.View) error {
		watch, err := v.Watch(ctx, "**", func(context.Context, store.Change) error { return nil })
		if err == nil {
			watch.Stop()
		}
		return err
	}},
	{"read in a transaction", store.Read, func(ctx context.Context, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Get("k"); return err })
	}},
	{"list in a transaction", store.Read, func(ctx context.Context, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Entries(store.All()); return err })
	}},
	{"set", store.Write, func(ctx context.Context, v *store.View) error { _, err := v.Set(ctx, "k", nil); return err }},
	{"create", store.Write, func(ctx context.Context, v *store.View) error {
		if _, err := v.Create(ctx, "new", nil); err != nil {
			return err
		}
		return v.Delete(ctx, "new")
	}},
	{"update", store.Write, func(ctx context.Context, v *store.View) error {
		e, err := v.Set(ctx, "other", nil)
		if err == nil {
			_, err = v.Update(ctx, "other", nil, e.Revision())
		}
		return err
	}},
	{"delete", store.Write, func(ctx context.Context, v *store.View) error { return v.Delete(ctx, "other") }},
	{"write in a transaction", store.Write, func(ctx context.Context, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Set("k", nil) })
	}},
	{"delete in a transaction", store.Write, func(ctx context.Context, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Delete("other") })
	}},
	{"grant", store.Admin, func(ctx context.Context, v *store.View) error { return v.Grant(ctx, store.Read, "somebody") }},
	{"revoke", store.Admin, func(ctx context.Context, v *store.View) error { return v.Revoke(ctx, store.Read, "somebody") }},
	{"list the rights", store.Admin, func(ctx context.Context, v *store.View) error { _, err := v.Access(ctx); return err }},
}

// testLists tries each act with each set of rights: the owner has all (D5), an admin too,
// and nobody anything that he was not given (D3, D4, D6).
func testLists(w *world) {
	ctx := w.Context()
	owner := w.create("owner", "notes", store.Config{})
	w.set(owner, "k", "v")
	everyone := store.Read | store.Write | store.Admin
	host := w.join("host", store.ClientOptions{Superuser: true})
	hostView, err := host.Open(ctx, "notes")
	require.NoError(w, err)
	for rights := range everyone + 1 {
		for _, to := range []string{"plugin", store.Everyone} {
			require.NoError(w, owner.Revoke(ctx, everyone, "plugin", store.Everyone))
			require.NoError(w, owner.Grant(ctx, store.Read, "plugin")) // To get the view, which can be kept.
			v := w.view("plugin", "notes")
			require.NoError(w, owner.Revoke(ctx, everyone, "plugin"))
			if rights != 0 {
				require.NoError(w, owner.Grant(ctx, rights, to))
			}
			for _, act := range acts {
				require.NoError(w, act.do(ctx, owner), "the owner: %s", act.name)
				require.NoError(w, act.do(ctx, hostView), "the host: %s", act.name)
				err := act.do(ctx, v)
				if rights&(act.needs|store.Admin) != 0 {
					require.NoError(w, err, "%v given to %s: %s", rights, to, act.name)
					continue
				}
				w.denied(err, plugbus.ReasonInsufficientPermissions)
			}
		}
	}
}

// testGrant is D6 and D7.
func testGrant(w *world) {
	ctx := w.Context()
	readers := []string{"b", "c", store.Everyone}
	v := w.create("a", "notes", store.Config{Read: readers, Write: []string{"c"}, Admin: []string{"d"}})
	readers[0] = "intruder"
	want := store.Access{Owner: "a", Read: []string{"*", "b", "c"}, Write: []string{"c"}, Admin: []string{"d"}}
	got, err := v.Access(ctx)
	require.NoError(w, err)
	require.Equal(w, want, got)
	got.Read[0] = "intruder"
	admin := w.view("d", "notes")
	ids := []string{"e", "b", "e"}
	require.NoError(w, admin.Grant(ctx, store.Write|store.Admin, ids...))
	ids[0] = "intruder"
	require.NoError(w, admin.Revoke(ctx, store.Read, store.Everyone, "c", "nobody"))
	require.NoError(w, v.Revoke(ctx, store.Read|store.Write|store.Admin, "a"), "it is no error, and changes nothing")
	got, err = v.Access(ctx)
	require.NoError(w, err)
	require.Equal(w, store.Access{Owner: "a", Read: []string{"b"}, Write: []string{"b", "c", "e"}, Admin: []string{"b", "d", "e"}}, got)
	w.set(v, "k", "v")

	require.NoError(w, v.Revoke(ctx, store.Admin, "d"))
	w.denied(admin.Grant(ctx, store.Admin, "d"), plugbus.ReasonInsufficientPermissions)
	for _, err := range []error{
		v.Grant(ctx, 0, "b"),
		v.Grant(ctx, 8, "b"),
		v.Revoke(ctx, 0, "b"),
		v.Grant(ctx, store.Read, "not an id"),
	} {
		require.ErrorIs(w, err, plugbus.ErrInvalid)
	}
}

// testDrop shows that nothing is left of a store (D6), and nothing of it comes back.
func testDrop(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Read: []string{"b"}})
	reader := w.view("b", "notes")
	w.set(v, "k", "v", store.TTL(1e9))
	w.set(v, "l", "v")
	w.denied(reader.Drop(ctx), plugbus.ReasonInsufficientPermissions)
	require.NoError(w, v.Drop(ctx))
	requireDropped := func() {
		w.Helper()
		for _, act := range acts {
			require.ErrorIs(w, act.do(ctx, v), store.ErrDropped, act.name)
		}
		require.ErrorIs(w, v.Drop(ctx), store.ErrDropped)
		require.ErrorIs(w, v.SetValidator(ctx, nil), store.ErrDropped)
	}
	requireDropped()
	_, err := reader.Get(ctx, "k")
	require.ErrorIs(w, err, store.ErrDropped)
	_, err = w.as("a").Open(ctx, "notes")
	require.ErrorIs(w, err, store.ErrNotFound)
	require.Zero(w, w.db.Stats().Bytes)

	again := w.create("b", "notes", store.Config{})
	require.Empty(w, w.content(again))
	w.set(again, "k", "another")
	requireDropped()
	w.pass(2e9)
	require.Equal(w, map[string]string{"k": "another"}, w.content(again), "the old lifetime is over")
}

func testNoBackend(w *world) {
	_, err := w.as("a").Create(w.Context(), "notes", store.Config{Persistent: true})
	require.ErrorIs(w, err, store.ErrNotPersistent) // D12.
	_, err = w.db.Backup(w.Context(), &strings.Builder{})
	require.ErrorIs(w, err, store.ErrNotPersistent)
	require.ErrorIs(w, w.db.Compact(w.Context()), store.ErrNotPersistent)
	w.create("a", "notes", store.Config{})
}
