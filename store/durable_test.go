package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestWritersShareCommits shows that those who come while the backend works share the
// next commit, in the order of their revisions.
func TestWritersShareCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		v := durable(t, as(t, db, "a"), "notes")
		gate := make(turnstile)
		sh.gate = gate.gate
		before := sh.count()

		const writers = 64
		var wg sync.WaitGroup
		write := func(i int) {
			wg.Go(func() {
				_, err := v.Set(t.Context(), fmt.Sprintf("key-%d", i), []byte("x"))
				require.NoError(t, err)
			})
		}
		write(0)
		synctest.Wait() // The backend has the first.
		for i := 1; i < writers; i++ {
			write(i)
		}
		synctest.Wait()
		require.Equal(t, writers-1, db.Stats().Waiting)
		gate <- nil
		gate <- nil
		wg.Wait()

		require.Equal(t, before+2, sh.count())
		require.EqualValues(t, writers+1, db.Stats().Writes, "with that which made the store")
		all := sh.commits[before+1]
		require.Len(t, all, writers-1+1, "one for each write, and the head")
		require.Equal(t, "heads", all[writers-1].Bucket)
		last := uint64(1)
		for _, op := range all[:writers-1] {
			e, err := v.Get(t.Context(), op.Key)
			require.NoError(t, err)
			require.Equal(t, last+1, e.Revision())
			last++
		}
	})
}

// TestReadsSeeWhatIsDurable shows that nobody sees a write before the backend has it
// (D12), in whatever way he looks.
func TestReadsSeeWhatIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		v := durable(t, as(t, db, "a"), "notes")
		ctx := t.Context()
		_, err := v.Set(ctx, "old", []byte("1"))
		require.NoError(t, err)
		var kinds []store.Kind
		w, err := v.Watch(ctx, "**", func(_ context.Context, c store.Change) error {
			kinds = append(kinds, c.Kind())
			return nil
		})
		require.NoError(t, err)

		gate := make(turnstile)
		sh.gate = gate.gate
		go func() {
			require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
				require.NoError(t, tx.Set("new", []byte("2")))
				return tx.Delete("old")
			}))
		}()
		look := func() (texts []string) {
			synctest.Wait()
			for _, key := range []string{"new", "old"} {
				e, _ := v.Get(ctx, key)
				texts = append(texts, e.Text())
			}
			for e, err := range v.Entries(ctx, store.Match("**")) {
				require.NoError(t, err)
				texts = append(texts, e.Text())
			}
			require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
				entries, err := tx.Entries(store.Match("**"))
				for _, e := range entries {
					texts = append(texts, e.Text())
				}
				return err
			}))
			return append(texts, fmt.Sprintf("%d %d %d %v", db.Stats().Stores[0].Keys, db.Stats().Stores[0].Revision, db.Changes(), kinds))
		}
		require.Equal(t, []string{"", "1", "1", "1", "1 1 1 []"}, look())
		gate <- nil
		require.Equal(t, []string{"2", "", "2", "2", "1 3 3 [set deleted]"}, look())
		w.Stop()
		sh.gate = nil
	})
}

// TestWriteWaitsForWhatItDependsOn shows that the answer to a write is not given by a
// write that the backend has not done: neither a conflict, nor that there is nothing to
// do.
func TestWriteWaitsForWhatItDependsOn(t *testing.T) {
	t.Parallel()
	set := func(key string) func(context.Context, *store.View) error {
		return func(ctx context.Context, v *store.View) error {
			_, err := v.Set(ctx, key, []byte("new"))
			return err
		}
	}
	remove := func(ctx context.Context, v *store.View) error { return v.Delete(ctx, "there") }
	for name, c := range map[string]struct {
		first, second func(context.Context, *store.View) error
		done, failed  error // of the second, when the first is done or has failed
	}{
		"create what is being made": {set("new"), func(ctx context.Context, v *store.View) error {
			_, err := v.Create(ctx, "new", nil)
			return err
		}, store.ErrExists, store.ErrReadOnly},
		"update what is being changed": {set("there"), func(ctx context.Context, v *store.View) error {
			_, err := v.Update(ctx, "there", nil, 1)
			return err
		}, store.ErrConflict, store.ErrReadOnly},
		"delete what is being deleted": {remove, remove, nil, store.ErrReadOnly},
		"delete by revision what is being deleted": {remove, func(ctx context.Context, v *store.View) error {
			return v.Delete(ctx, "there", store.IfRevision(1))
		}, store.ErrConflict, store.ErrReadOnly},
		"commit after reading what is being changed": {set("there"), func(ctx context.Context, v *store.View) error {
			return v.Txn(ctx, func(tx *store.Tx) error {
				_, err := tx.Get("there")
				require.NoError(t, err)
				return tx.Set("other", nil)
			})
		}, store.ErrConflict, store.ErrReadOnly},
		"commit after listing where something is being made": {set("new"), func(ctx context.Context, v *store.View) error {
			return v.Txn(ctx, func(tx *store.Tx) error {
				_, err := tx.Entries(store.Match("*"))
				require.NoError(t, err)
				return tx.Set("there", nil)
			})
		}, store.ErrConflict, store.ErrReadOnly},
	} {
		for _, fault := range []error{nil, store.ErrNotDone} {
			t.Run(fmt.Sprintf("%s/fault=%v", name, fault), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					sh := newShelf()
					v := durable(t, as(t, shelved(t, sh), "a"), "notes")
					require.NoError(t, set("there")(t.Context(), v))
					gate := make(turnstile)
					sh.gate = gate.gate
					first, second := make(chan error, 1), make(chan error, 1)
					go func() { first <- c.first(t.Context(), v) }()
					synctest.Wait()
					go func() { second <- c.second(t.Context(), v) }()
					synctest.Wait()
					require.Empty(t, second, "it was answered by what is not durable")
					gate <- fault
					require.ErrorIs(t, <-first, fault)
					want := c.done
					if fault != nil {
						want = c.failed
					}
					require.ErrorIs(t, <-second, want)
				})
			})
		}
	}
}

// TestWritesOfOneKeyKeepTheirOrder shows that writes that only take the last word do
// not wait for each other, and are done in the order of their revisions.
func TestWritesOfOneKeyKeepTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		v := durable(t, as(t, db, "a"), "notes")
		gate := make(turnstile)
		sh.gate = gate.gate
		var revisions [3]uint64
		for i := range revisions {
			go func() {
				e, err := v.Set(t.Context(), "key", fmt.Append(nil, i))
				require.NoError(t, err)
				revisions[i] = e.Revision()
			}()
			synctest.Wait()
		}
		require.Equal(t, 2, db.Stats().Waiting)
		require.Equal(t, 1, db.Stats().Stores[0].Waiting, "one key")
		gate <- nil
		gate <- nil
		synctest.Wait()
		require.Equal(t, [3]uint64{1, 2, 3}, revisions)
		e, err := v.Get(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, "2", e.Text())
		require.Zero(t, db.Stats().Stores[0].Waiting)
	})
}

// TestExpiryIsDurable shows that what expires goes from the backend too, and that what
// expired while the DB was closed is not seen again (D16).
func TestExpiryIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db, err := store.Open(store.Options{Backend: sh})
		require.NoError(t, err)
		v := durable(t, as(t, db, "a"), "notes")
		const many = 1000 // More than are taken away at a time.
		for i := range many {
			_, err := v.Set(t.Context(), fmt.Sprint(i), []byte("x"), store.TTL(time.Minute))
			require.NoError(t, err)
		}
		_, err = v.Set(t.Context(), "soon", []byte("x"), store.TTL(time.Second))
		require.NoError(t, err)
		full := len(sh.spots())
		<-time.After(2 * time.Second)
		require.NoError(t, db.Idle(t.Context()))
		require.Len(t, sh.spots(), full-1)
		require.NoError(t, db.Close(t.Context()))

		<-time.After(time.Hour)
		again := sh.copy()
		db = shelved(t, again) // While it is opened, expiries begin.
		synctest.Wait()
		require.NoError(t, db.Idle(t.Context()))
		st := db.Stats()
		require.Zero(t, st.Bytes)
		require.Zero(t, st.Expiring)
		require.Zero(t, st.Stores[0].Keys)
		require.EqualValues(t, many+2+many, st.Stores[0].Revision)
		require.Len(t, again.spots(), full-1-many)
		shelved(t, again.copy())
	})
}

// TestExpiryBeginsWhileOpening shows that entries whose time is over do no harm while
// the others are still being looked at.
func TestExpiryBeginsWhileOpening(t *testing.T) {
	t.Parallel()
	const many = 5000
	sh := newShelf()
	synctest.Test(t, func(t *testing.T) { // Whose time is long over.
		v, err := as(t, shelved(t, sh), "a").Create(t.Context(), "notes", store.Config{Persistent: true, History: 2 * many})
		require.NoError(t, err)
		for from := 0; from < many; from += 1000 {
			require.NoError(t, v.Txn(t.Context(), func(tx *store.Tx) error {
				for i := range 1000 {
					require.NoError(t, tx.Set(fmt.Sprint(from+i), nil, store.TTL(time.Minute)))
				}
				return nil
			}))
		}
	})
	db := shelved(t, sh.copy())
	v, err := as(t, db, "a").Open(t.Context(), "notes")
	require.NoError(t, err)
	expired := make(chan struct{}, many)
	_, err = v.Watch(t.Context(), "*", func(_ context.Context, c store.Change) error {
		if c.Kind() == store.Expired {
			expired <- struct{}{}
		}
		return nil
	}, store.After(many))
	require.NoError(t, err)
	for range many {
		<-expired
	}
}
