package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestEnsure shows that a plugin can begin with the same call in every run: the second
// finds what the first made, with its entries, its lists and its validator (D1, D12).
func TestEnsure(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, store.Options{})
	calls := 0
	config := store.Config{Read: []string{"b"}, TTL: time.Hour, Schema: []byte(`{"type":"integer"}`), MaxKeys: 5, Validator: func(context.Context, *store.Proposal) error {
		calls++
		return nil
	}}
	for run := range 2 {
		a := member(t, db, "a")
		v, err := a.Ensure(ctx, "notes", config)
		require.NoError(t, err)
		_, err = v.Set(ctx, "k", []byte("1"))
		require.NoError(t, err, "run %d", run)
		require.Equal(t, run+1, calls)
		e, err := v.Get(ctx, "k")
		require.NoError(t, err)
		require.EqualValues(t, run+1, e.Revision())
		require.NoError(t, a.Close(ctx))
	}

	a, b := member(t, db, "a"), member(t, db, "b")
	_, err := b.Ensure(ctx, "notes", config)
	require.ErrorIs(t, err, store.ErrExists, "it is another plugin's")
	for field, change := range map[string]func(c *store.Config){
		"TTL":           func(c *store.Config) { c.TTL++ },
		"Schema":        func(c *store.Config) { c.Schema = nil },
		"MaxKeys":       func(c *store.Config) { c.MaxKeys = 0 },
		"MaxBytes":      func(c *store.Config) { c.MaxBytes = 1 },
		"MaxValueBytes": func(c *store.Config) { c.MaxValueBytes = 1 },
		"History":       func(c *store.Config) { c.History = 1 },
		"HistoryBytes":  func(c *store.Config) { c.HistoryBytes = 1 },
		"Validator":     func(c *store.Config) { c.Validator = nil },
		"Persistent":    func(c *store.Config) { c.Persistent = true },
	} {
		other := config
		change(&other)
		_, err := a.Ensure(ctx, "notes", other)
		require.ErrorIs(t, err, store.ErrExists, field)
		require.ErrorContains(t, err, field)
	}
	unlike := config
	unlike.Read = nil
	v, err := a.Ensure(ctx, "notes", unlike)
	require.NoError(t, err)
	access, err := v.Access(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, access.Read, "the lists are those of now")
	unlike.MaxKeys = -1
	_, err = a.Ensure(ctx, "notes", unlike)
	require.ErrorContains(t, err, "Config.MaxKeys")
}

// TestEnsureTogether has many calls of one plugin make one store.
func TestEnsureTogether(t *testing.T) {
	t.Parallel()
	a := member(t, openDB(t, store.Options{}), "a")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v, err := a.Ensure(context.Background(), "notes", store.Config{})
			if err == nil {
				_, err = v.Set(context.Background(), "k", nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
