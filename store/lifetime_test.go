package store_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/storetest"
)

// A late is a backend that commits when it is let.
type late struct {
	storetest.Memory

	turns chan struct{}
}

func (b *late) Commit(ops []store.Op) error {
	<-b.turns
	return b.Memory.Commit(ops)
}

// onLate runs a test with a store on a backend that is late, and that took one commit.
func onLate(t *testing.T, test func(t *testing.T, b *late, v *store.View)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &late{turns: make(chan struct{}, 1)}
		db := openDB(t, store.Options{Backend: b})
		b.turns <- struct{}{}
		v := made(t, member(t, db, "a"), "notes", store.Config{Persistent: true})
		test(t, b, v)
		close(b.turns)
		require.NoError(t, db.Idle(t.Context()))
	})
}

// put sets a key, with one commit.
func (b *late) put(t *testing.T, v *store.View, key string, ttl time.Duration) {
	t.Helper()
	b.turns <- struct{}{}
	_, err := v.Set(t.Context(), key, nil, store.TTL(ttl))
	require.NoError(t, err)
}

// TestExpiredIsNotSeen shows that nobody sees an entry whose time is over, also if the
// backend has not taken it away yet (D16).
func TestExpiredIsNotSeen(t *testing.T) {
	t.Parallel()
	onLate(t, func(t *testing.T, b *late, v *store.View) {
		ctx := t.Context()
		b.put(t, v, "k", time.Second)
		b.put(t, v, "l", time.Hour)
		<-time.After(time.Second)
		synctest.Wait()
		_, err := v.Get(ctx, "k")
		require.ErrorIs(t, err, store.ErrNotFound)
		for key, err := range v.Keys(ctx, store.All()) {
			require.NoError(t, err)
			require.Equal(t, "l", key)
		}
		require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
			_, err := tx.Get("k")
			require.ErrorIs(t, err, store.ErrNotFound)
			entries, err := tx.Entries(store.All())
			require.Len(t, entries, 1)
			return err
		}))
	})
}

// TestTransactionSeesOneInstant shows that time alone ends what a transaction has read.
func TestTransactionSeesOneInstant(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		read func(tx *store.Tx) error
	}{
		{"get", func(tx *store.Tx) error { _, err := tx.Get("k"); return err }},
		{"entries", func(tx *store.Tx) error { _, err := tx.Entries(store.All()); return err }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			onLate(t, func(t *testing.T, b *late, v *store.View) {
				b.put(t, v, "k", time.Second)
				b.put(t, v, "l", 2*time.Second)
				err := v.Txn(t.Context(), func(tx *store.Tx) error {
					require.NoError(t, test.read(tx))
					<-time.After(time.Second - 1)
					require.NoError(t, test.read(tx))
					<-time.After(time.Second + 1)
					_, err := tx.Get("l") // It is gone, but with k there is no instant without it.
					return err
				})
				c, ok := errors.AsType[*store.ConflictError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, store.ConflictError{Store: "notes", Key: "k", Expected: 1}, *c)
			})
		})
	}
}

// TestRenewedInTime shows that what is on its way to the backend when the time of its
// predecessor is over does not expire with it.
func TestRenewedInTime(t *testing.T) {
	t.Parallel()
	onLate(t, func(t *testing.T, b *late, v *store.View) {
		ctx := t.Context()
		b.put(t, v, "k", time.Second)
		done := make(chan error)
		go func() { _, err := v.Set(ctx, "k", []byte("new")); done <- err }()
		<-time.After(2 * time.Second)
		synctest.Wait()
		b.turns <- struct{}{}
		require.NoError(t, <-done)
		b.turns <- struct{}{} // For the expiry, if there were one.
		synctest.Wait()
		e, err := v.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "new", e.Text())
		require.EqualValues(t, 2, e.Revision())
	})
}

// TestManyExpireTogether has more entries expire at a time than one look takes.
func TestManyExpireTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, store.Options{})
		v := made(t, member(t, db, "a"), "notes", store.Config{})
		other := made(t, member(t, db, "b"), "others", store.Config{})
		for i := range 1000 {
			for _, v := range []*store.View{v, other} {
				_, err := v.Set(t.Context(), fmt.Sprint(i), nil, store.TTL(time.Second))
				require.NoError(t, err)
			}
		}
		<-time.After(time.Second)
		synctest.Wait()
		st := db.Stats()
		require.Zero(t, st.Expiring)
		require.Zero(t, st.Bytes)
		require.EqualValues(t, 4000, st.Changes)
	})
}
