package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestCloseAgain shows that Close can be called again to wait for what it did not wait
// for at first, and speaks then only of what is still wrong.
func TestCloseAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(store.Options{Backend: newShelf()})
		require.NoError(t, err)
		v := durable(t, as(t, db, "a"), "notes")
		hang := make(chan struct{})
		_, err = v.Watch(t.Context(), "*", func(context.Context, store.Change) error {
			<-hang
			return nil
		})
		require.NoError(t, err)
		_, err = v.Set(t.Context(), "key", nil)
		require.NoError(t, err)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, db.Close(ctx), context.DeadlineExceeded)
		require.Len(t, db.Leaks(), 1)
		close(hang)
		require.NoError(t, db.Close(t.Context()))
		require.Empty(t, db.Leaks())
	})
}

// TestCloseOfBackendFails shows that its error is returned to all that close the DB.
func TestCloseOfBackendFails(t *testing.T) {
	t.Parallel()
	sh := newShelf()
	db, err := store.Open(store.Options{Backend: sh})
	require.NoError(t, err)
	require.NoError(t, sh.Close())
	for range 2 {
		require.ErrorIs(t, db.Close(t.Context()), errShelf)
	}
	require.Equal(t, 2, sh.closed)
}

// TestNothingIsCommittedAfterClose shows that an act that is on its way when the DB is
// closed does not reach a backend that is closed.
func TestNothingIsCommittedAfterClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		asked := make(chan struct{})
		db, err := store.Open(store.Options{Backend: sh, OwnerQuota: func(string) (int, int64) {
			<-asked
			return 16, 1 << 20
		}})
		require.NoError(t, err)
		c := as(t, db, "a")
		created := make(chan error, 1)
		go func() {
			_, err := c.Create(t.Context(), "notes", store.Config{Persistent: true})
			created <- err
		}()
		synctest.Wait()
		require.NoError(t, db.Close(t.Context()))
		close(asked)
		err = <-created
		require.ErrorIs(t, err, store.ErrClosed)
		require.NotErrorIs(t, err, store.ErrUnknown)
		synctest.Wait()
		require.Zero(t, sh.count())
	})
}

// TestOpenFails shows that a backend that could not be opened is left alone: it is not
// closed, and nothing is committed to it.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	sh := newShelf()
	sh.pairs[spot{"of/notes", "key"}] = "x"
	_, err := store.Open(store.Options{Backend: sh})
	require.Error(t, err)
	require.Zero(t, sh.closed)
	require.Zero(t, sh.count())
	_, err = store.Open(store.Options{Backend: brokenLoad{sh}})
	require.ErrorIs(t, err, errDisk)
}

// A brokenLoad cannot be loaded.
type brokenLoad struct{ *shelf }

func (brokenLoad) Load(func(string, string, []byte) error) error { return errDisk }
