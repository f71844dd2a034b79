package storetest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// testStoreQuotas is D16: the quotas of one store are exact, and come back.
func testStoreQuotas(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{MaxKeys: 3, MaxBytes: 12, MaxValueBytes: 8})
	set := func(key string, bytes int, options ...store.SetOption) error {
		_, err := v.Set(ctx, key, make([]byte, bytes), options...)
		return err
	}
	w.full(set("a", 9), "bytes of one value", 8, 9)
	require.NoError(w, set("a", 8))
	w.full(set("b", 3), "bytes of the store", 12, 13)
	require.NoError(w, set("b", 2))
	w.full(set("c", 0), "bytes of the store", 12, 13)
	w.full(set("a", 9), "bytes of one value", 8, 9)
	require.NoError(w, set("a", 8), "it is as large as before")
	require.NoError(w, set("a", 0))
	require.NoError(w, set("c", 0, store.TTL(time.Second)))
	w.full(set("d", 0), "keys of the store", 3, 4)
	require.NoError(w, set("c", 0, store.TTL(time.Second)), "it is there already")
	w.full(v.Txn(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.Delete("a"), tx.Set("d", nil), tx.Set("e", nil))
	}), "keys of the store", 3, 4)
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.Set("d", nil), tx.Delete("a"))
	}), "only the whole counts")
	w.full(set("e", 0), "keys of the store", 3, 4)
	w.pass(time.Second)
	require.NoError(w, set("e", 0), "c has expired")
	require.NoError(w, v.Delete(ctx, "d"))
	require.NoError(w, set("f", 6))
	require.EqualValues(w, 3+2+6, w.db.Stats().Bytes)
	require.NoError(w, v.Drop(ctx))
	require.Zero(w, w.db.Stats().Bytes)
}

// testSharedQuotas is D2 and D16 for what the stores of an owner, and of all, have
// together.
func testSharedQuotas(w *world) {
	ctx := w.Context()
	limits := map[string]int64{"a": 10, "b": 100, "none": 100}
	w.reopen(func(o *store.Options) {
		o.MaxStores, o.MaxBytes = 3, 30
		o.OwnerQuota = func(owner string) (int, int64) {
			if owner == "none" {
				return 0, limits[owner]
			}
			return 2, limits[owner]
		}
	})
	create := func(owner, name string) error {
		_, err := w.as(owner).Create(ctx, name, store.Config{Persistent: w.persistent, Write: []string{"b"}})
		return err
	}
	w.full(create("none", "x"), "stores of its owner", 0, 1)
	require.NoError(w, create("a", "a1"))
	require.NoError(w, create("a", "a2"))
	w.full(create("a", "a3"), "stores of its owner", 2, 3)
	require.NoError(w, create("b", "b1"))
	w.full(create("b", "b2"), "stores of all plugins", 3, 0)

	set := func(id, name string, bytes int) error {
		_, err := w.view(id, name).Set(ctx, "k", []byte(strings.Repeat("x", bytes))) //nolint:contextcheck // The context is that of the test.
		return err
	}
	require.NoError(w, set("a", "a1", 5))
	w.full(set("a", "a2", 4), "bytes of all stores of its owner", 10, 0)
	w.full(set("b", "a2", 4), "bytes of all stores of its owner", 10, 0)
	require.NoError(w, set("b", "a2", 3), "what somebody else writes counts for the owner")
	w.full(set("b", "b1", 20), "bytes of all stores", 30, 0)
	require.NoError(w, set("b", "b1", 19))
	limits["a"] = 5
	w.full(set("a", "a1", 6), "bytes of all stores of its owner", 5, 0)
	require.NoError(w, set("a", "a1", 4), "less is always possible")
	require.EqualValues(w, 5+4+20, w.db.Stats().Bytes)
	limits["a"] = 10
	require.NoError(w, set("a", "a1", 4))
	w.full(set("a", "a1", 6), "bytes of all stores of its owner", 10, 0)
	require.NoError(w, w.view("a", "a2").Drop(ctx))
	require.NoError(w, set("a", "a1", 9), "nothing of a2 is left")
	require.NoError(w, set("a", "a1", 4))
	require.NoError(w, create("b", "b2"))
	w.full(create("a", "a4"), "stores of all plugins", 3, 0)
	require.NoError(w, w.view("b", "b1").Drop(ctx))
	require.NoError(w, set("b", "b2", 24))
	require.EqualValues(w, 5+25, w.db.Stats().Bytes)
	if w.persistent {
		w.reopen(func(o *store.Options) { o.MaxBytes = 30 })
		require.EqualValues(w, 5+25, w.db.Stats().Bytes)
		w.full(set("a", "a1", 5), "bytes of all stores", 30, 0)
	}
}

func testSchema(w *world) {
	ctx := w.Context()
	schema := []byte(`{"type": "object", "required": ["n"]}`)
	v := w.create("a", "notes", store.Config{Schema: schema})
	clear(schema)
	requireSchema(w, v)
	w.set(v, "k", `{"n": 1}`)
	err := v.Txn(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.Set("good", []byte(`{"n": 2}`)), tx.Set("bad", []byte(`7`)))
	})
	rejected, _ := errors.AsType[*store.RejectedError](err)
	require.Equal(w, "bad", rejected.Key)
	require.Equal(w, map[string]string{"k": `{"n": 1}`}, w.content(v))
	require.NoError(w, v.Delete(ctx, "k"))
}

func requireSchema(w *world, v *store.View) {
	w.Helper()
	for _, value := range []string{"", "no JSON", "{}", `{"n": 1} ` + "x", `[]`} {
		_, err := v.Set(w.Context(), "k", []byte(value))
		require.ErrorIs(w, err, store.ErrRejected, "%q", value)
		w.denied(err, plugbus.ReasonRejected)
	}
}

// testValidator is D11: no write without the owner's word.
func testValidator(w *world) {
	ctx := w.Context()
	var asked []string
	v := w.create("a", "notes", store.Config{Write: []string{"b"}, Validator: func(_ context.Context, p *store.Proposal) error {
		for _, e := range p.Edits() {
			asked = append(asked, p.Store()+" "+p.Writer()+" "+e.Key+" "+e.Old.Text()+" "+e.New.Text())
			if e.New.Text() == "bad" {
				return errors.New("that is bad")
			}
		}
		return nil
	}})
	writer := w.view("b", "notes")
	w.set(writer, "k", "1")
	_, err := writer.Set(ctx, "k", []byte("bad"))
	require.ErrorIs(w, err, store.ErrRejected)
	require.ErrorContains(w, err, "that is bad")
	w.denied(err, plugbus.ReasonRejected)
	require.ErrorIs(w, v.Txn(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.Set("other", nil), tx.Set("k", []byte("bad")))
	}), store.ErrRejected)
	require.NoError(w, writer.Delete(ctx, "k"))
	require.Equal(w, []string{"notes b k  1", "notes b k 1 bad", "notes a other  ", "notes a k 1 bad", "notes b k 1 "}, asked)
	require.Empty(w, w.content(v))

	require.NoError(w, w.as("a").Close(ctx))
	_, err = writer.Set(ctx, "k", nil)
	require.ErrorIs(w, err, store.ErrNoValidator)
	delete(w.clients, "a")
	v = w.view("a", "notes")
	_, err = v.Set(ctx, "k", nil)
	require.ErrorIs(w, err, store.ErrNoValidator)
	require.NoError(w, v.SetValidator(ctx, func(context.Context, *store.Proposal) error { return nil }))
	w.set(writer, "k", "bad")
	require.NoError(w, v.SetValidator(ctx, nil))
	w.set(writer, "k", "anything")
}
