package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// testTxn is D15: all or nothing, and the transaction sees what it has written.
func testTxn(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	w.set(v, "a", "1")
	w.set(v, "b", "2")
	var outside *store.Tx
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
		outside = tx
		e, err := tx.Get("a")
		require.NoError(w, err)
		require.EqualValues(w, 1, e.Revision())
		require.NoError(w, tx.Set("a", []byte("10")))
		require.NoError(w, tx.Set("c", []byte("gone")))
		require.NoError(w, tx.Set("c", []byte("30")))
		require.NoError(w, tx.Delete("b"))
		require.NoError(w, tx.Delete("never was"))
		e, err = tx.Get("a")
		require.NoError(w, err)
		require.Equal(w, "10", e.Text())
		require.Zero(w, e.Revision(), "it has none yet")
		require.Equal(w, "a", e.Writer())
		_, err = tx.Get("b")
		require.ErrorIs(w, err, store.ErrNotFound)
		entries, err := tx.Entries(store.All())
		require.NoError(w, err)
		require.Len(w, entries, 2)
		require.Equal(w, "a 10 c 30", fmt.Sprint(entries[0].Key(), " ", entries[0].Text(), " ", entries[1].Key(), " ", entries[1].Text()))
		require.Equal(w, map[string]string{"a": "1", "b": "2"}, w.content(v), "nobody else sees any of it")
		return nil
	}))
	require.Equal(w, map[string]string{"a": "10", "c": "30"}, w.content(v))
	require.EqualValues(w, 5, w.revision(v), "one for each key that has changed")
	for _, err := range []error{
		outside.Set("a", nil),
		outside.Delete("a"),
		func() error { _, err := outside.Get("a"); return err }(),
		func() error { _, err := outside.Entries(store.All()); return err }(),
	} {
		require.ErrorIs(w, err, store.ErrTxDone)
	}
	require.NoError(w, v.Txn(ctx, func(*store.Tx) error { return nil }))
}

// testTxnConflicts shows that a conflict names the key, and that nothing is done then.
func testTxnConflicts(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	w.set(v, "a", "1")
	w.set(v, "b", "2")
	for _, test := range []struct {
		read             string
		meanwhile        func()
		expected, actual uint64
	}{
		{"a", func() { w.set(v, "a", "x") }, 1, 3},
		{"a", func() { require.NoError(w, v.Delete(ctx, "a")) }, 3, 0},
		{"a", func() { w.set(v, "a", "y") }, 0, 5},
		{"a", func() { w.set(v, "a", "y") }, 5, 6},
	} {
		err := v.Txn(ctx, func(tx *store.Tx) error {
			_, _ = tx.Get(test.read)
			_, err := tx.Get("b")
			test.meanwhile()
			return errors.Join(err, tx.Set("a", nil), tx.Set("written", nil))
		})
		w.conflict(err, test.read, test.expected, test.actual)
		require.NotErrorIs(w, err, store.ErrExists, "that is for Create")
		require.NotContains(w, w.content(v), "written")
	}
	err := v.Txn(ctx, func(tx *store.Tx) error { // Nobody ever sees two moments at once.
		_, err := tx.Get("a")
		require.NoError(w, err)
		w.set(v, "a", "z")
		_, err = tx.Get("b")
		return err
	})
	w.conflict(err, "a", 6, 7)
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error { // What was not read may change.
		_, err := tx.Get("b")
		w.set(v, "a", "blind")
		return errors.Join(err, tx.Set("a", []byte("blinder")))
	}))
	runs := 0
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
		runs++
		e, err := tx.Get("a")
		if runs < 3 {
			w.set(v, "a", "faster")
		}
		return errors.Join(err, tx.Set("b", e.Value()))
	}, store.Attempts(3)))
	require.Equal(w, 3, runs)
	require.Equal(w, map[string]string{"a": "faster", "b": "faster"}, w.content(v))
	err = v.Txn(ctx, func(tx *store.Tx) error {
		runs++
		_, err := tx.Get("a")
		w.set(v, "a", "faster")
		return errors.Join(err, tx.Set("b", nil))
	}, store.Attempts(3))
	require.ErrorIs(w, err, store.ErrConflict)
	require.Equal(w, 6, runs)
}

// testTxnRanges shows that nothing comes, goes or changes in a range that was read.
func testTxnRanges(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	for _, test := range []struct {
		key  string // changed meanwhile
		set  bool
		want bool // a conflict
	}{
		{"in/a", true, true},   // comes at the beginning
		{"in/b", true, true},   // changes
		{"in/c", true, true},   // comes in the middle
		{"in/z", true, true},   // comes at the end
		{"in/b", false, true},  // goes
		{"in/d", false, true},  // goes
		{"im/z", true, false},  // is before
		{"in0", true, false},   // is after
		{"in/e", false, false}, // was never there
		{"in/x/y", true, false},
	} {
		for key := range w.content(v) {
			require.NoError(w, v.Delete(ctx, key))
		}
		w.set(v, "in/b", "")
		w.set(v, "in/d", "")
		err := v.Txn(ctx, func(tx *store.Tx) error {
			entries, err := tx.Entries(store.Match("in/*"))
			require.Len(w, entries, 2)
			if test.set {
				w.set(v, test.key, "changed") //nolint:contextcheck // The context is that of the test.
			} else {
				require.NoError(w, v.Delete(ctx, test.key))
			}
			return errors.Join(err, tx.Set("out", nil), tx.Set("in/own", nil))
		})
		_, done := w.content(v)["out"]
		require.Equal(w, !test.want, done, "%+v", test)
		if !test.want {
			require.NoError(w, err, "%+v", test)
			continue
		}
		require.ErrorIs(w, err, store.ErrConflict, "%+v", test)
		c, _ := errors.AsType[*store.ConflictError](err)
		require.Equal(w, test.key, c.Key, "%+v", test)
	}
}

// testTxnEnds shows that nothing is done when the function fails or panics, or the caller
// has gone.
func testTxnEnds(w *world) {
	v := w.create("a", "notes", store.Config{})
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	own := errors.New("own")
	set := func(tx *store.Tx) { require.NoError(w, tx.Set("k", nil)) }
	var outside *store.Tx
	require.Same(w, own, v.Txn(ctx, func(tx *store.Tx) error { outside = tx; set(tx); return own }))
	require.ErrorIs(w, outside.Set("k", nil), store.ErrTxDone)
	require.PanicsWithValue(w, "own", func() {
		_ = v.Txn(ctx, func(tx *store.Tx) error { outside = tx; set(tx); panic("own") })
	})
	require.ErrorIs(w, outside.Set("k", nil), store.ErrTxDone)
	require.ErrorIs(w, v.Txn(ctx, nil), plugbus.ErrInvalid)
	for _, option := range []store.TxnOption{nil, store.Attempts(-1), store.Attempts(1001)} {
		require.ErrorIs(w, v.Txn(ctx, func(*store.Tx) error { return own }, option), plugbus.ErrInvalid)
	}
	err := v.Txn(ctx, func(tx *store.Tx) error {
		require.ErrorIs(w, tx.Set("", nil), plugbus.ErrInvalid)
		require.ErrorIs(w, tx.Delete("\x00"), plugbus.ErrInvalid)
		_, err := tx.Get("\xff")
		require.ErrorIs(w, err, plugbus.ErrInvalid)
		_, err = tx.Entries(store.Match("a*"))
		require.ErrorIs(w, err, plugbus.ErrInvalid)
		for i := range 1000 {
			require.NoError(w, tx.Set(fmt.Sprint(i), nil))
		}
		require.NoError(w, tx.Set("7", nil), "not a key more")
		return tx.Delete("one more")
	})
	require.ErrorIs(w, err, plugbus.ErrInvalid)
	err = v.Txn(ctx, func(tx *store.Tx) error { set(tx); cancel(); return nil })
	require.ErrorIs(w, err, context.Canceled)
	require.ErrorIs(w, err, store.ErrNotDone)
	require.ErrorIs(w, v.Txn(ctx, func(tx *store.Tx) error { return tx.Set("k", nil) }), context.Canceled)
	require.Empty(w, w.content(v))
	require.Zero(w, w.revision(v))
	require.Zero(w, w.db.Stats().Bytes)
}
