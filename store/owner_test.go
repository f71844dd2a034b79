package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestOwner shows that what the host hears of a client has the Owner of that very client,
// also when another one has its id: of a validator that hangs and of one that panics when
// the writer has gone, which holds up nothing else of the plugin.
func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []any
		hear := func(what ...any) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, what...)
		}
		db := openDB(t, store.Options{
			SlowAfter: time.Second, ValidateLimit: time.Minute,
			OnFailure: func(f store.Failure) { hear(f.Abandoned, f.Owner) },
			OnSlow:    func(s store.Slow) { hear("slow", s.Owner) },
		})
		writer, release := member(t, db, "writer"), make(chan struct{})
		old, err := db.Client("a", store.ClientOptions{Owner: "the old"})
		require.NoError(t, err)
		made(t, old, "words", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error {
			<-release
			panic("boo")
		}})
		words := opened(t, writer, "words")
		write := func(want error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := words.Set(ctx, "a", nil)
			require.ErrorIs(t, err, want)
		}
		write(context.DeadlineExceeded)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, old.Close(ctx))
		next, err := db.Client("a", store.ClientOptions{Owner: "the new"})
		require.NoError(t, err)
		<-time.After(3 * time.Second)
		close(release)
		synctest.Wait()

		again := make(chan struct{})
		own := opened(t, next, "words")
		require.NoError(t, own.SetValidator(t.Context(), func(context.Context, *store.Proposal) error {
			<-again
			panic("boo")
		}))
		write(context.DeadlineExceeded)
		close(again)
		synctest.Wait()
		require.NoError(t, own.SetValidator(t.Context(), func(context.Context, *store.Proposal) error { return errors.New("no") }))
		_, err = words.Set(t.Context(), "a", nil)
		require.ErrorContains(t, err, "no", "its worker goes on")
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []any{"slow", "the old", false, "the old", false, "the new"}, heard)
	})
}
