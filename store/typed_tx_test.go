package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

func TestTypedTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := member(t, openDB(t, store.Options{}), "a")
	v := made(t, a, "notes", store.Config{})
	notes := store.Typed[note](v)
	_, err := notes.Set(ctx, "k", note{Words: 1})
	require.NoError(t, err)
	require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
		in := notes.In(tx)
		n, e, err := in.Get("k")
		require.NoError(t, err)
		require.EqualValues(t, 1, e.Revision())
		n.Words++
		require.NoError(t, in.Set("k", n))
		require.NoError(t, in.Set("l", n))
		all, err := in.Entries(store.All())
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, note{Words: 2}, all[0].Value)
		require.NoError(t, in.Delete("l"))
		_, _, err = in.Get("l")
		require.ErrorIs(t, err, store.ErrNotFound)
		return nil
	}))
	n, _, err := notes.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, 2, n.Words)
	_, err = v.Set(ctx, "raw", []byte("{"))
	require.NoError(t, err)
	other := made(t, a, "other", store.Config{})
	require.NoError(t, other.Txn(ctx, func(tx *store.Tx) error {
		in := notes.In(tx)
		_, _, err := in.Get("k")
		_, entriesErr := in.Entries(store.All())
		for _, err := range []error{err, entriesErr, in.Set("k", n), in.Delete("k")} {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
		}
		return nil
	}))
	require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
		in := notes.In(tx)
		for _, err := range []error{func() error { _, _, err := in.Get("raw"); return err }(), func() error { _, err := in.Entries(store.All()); return err }()} {
			var wrong *plugbus.TypeError
			require.ErrorAs(t, err, &wrong)
		}
		return nil
	}))
}
