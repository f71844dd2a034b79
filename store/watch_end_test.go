package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// TestStop shows that after Stop no call of the watcher begins, neither for changes that
// were read already nor for the last one.
func TestStop(t *testing.T) {
	st := newStage(t, store.Options{})
	v := create(t, st.join(t, "owner"), "s", store.Config{})
	var d diary
	begun, hold := make(chan struct{}), make(chan struct{})
	d.before = func(store.Change) { begun <- struct{}{}; <-hold }
	w := watch(t, v, d.watcher)
	require.NoError(t, v.Txn(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.Set("a", nil), tx.Set("b", nil))
	}))
	<-begun
	w.Stop()
	w.Stop()
	<-w.Done()
	require.NoError(t, w.Err())
	require.NoError(t, v.Drop(t.Context()))
	close(hold)
	st.rest(t)
	require.Equal(t, []string{"set a= @1"}, d.lines())
}

// TestStopAgainstChanges stops watches while their stores change and are dropped.
func TestStopAgainstChanges(t *testing.T) {
	st := newStage(t, store.Options{OwnerQuota: func(string) (int, int64) { return 1000, 1 << 30 }})
	owner := st.join(t, "owner")
	for range 300 {
		v := create(t, owner, "s", store.Config{})
		var d diary
		w := watch(t, v, d.watcher)
		var both sync.WaitGroup
		both.Go(func() {
			set(t, v, "k", "")
			require.NoError(t, v.Drop(t.Context()))
		})
		both.Go(w.Stop)
		both.Wait()
		<-w.Done()
		st.rest(t)
		if err := w.Err(); err != nil {
			require.ErrorIs(t, err, store.ErrDropped)
		}
		require.Equal(t, w.Err() != nil, len(d.lines()) == 2, "the last change comes if and only if that ended the watch")
	}
	require.Zero(t, st.Stats().Clients[0].Watches)
}

// TestDroppedWhileWatched shows that watches get all that came before a store was dropped,
// then a last change, and are closed (D18).
func TestDroppedWhileWatched(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	v := create(t, owner, "s", store.Config{Admin: []string{"admin"}})
	var d diary
	w := watch(t, v, d.watcher, store.Snapshot())
	st.rest(t)
	thaw := st.freeze(t, "owner")
	set(t, v, "k", "1")
	require.NoError(t, view(t, st.join(t, "admin"), "s").Drop(t.Context()))
	require.NoError(t, w.Err())
	thaw()
	<-w.Done()
	st.rest(t)
	require.Equal(t, []string{"synced @0", "set k=1 @1", "dropped @1"}, d.lines())
	require.ErrorIs(t, w.Err(), store.ErrDropped)
	require.Equal(t, []string{"admin"}, d.read()[2].Chain().Plugins())
	_, err := v.Watch(t.Context(), "**", d.watcher)
	require.ErrorIs(t, err, store.ErrDropped)
	require.Zero(t, st.Stats().Clients[1].Watches)
}

// TestWatchQuota shows that a plugin has a bounded number of watches, which count until
// they end (D16).
func TestWatchQuota(t *testing.T) {
	for _, test := range []struct{ max, want int }{{0, 100}, {3, 3}, {-1, 0}} {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner", store.ClientOptions{MaxWatches: test.max}), "s", store.Config{})
		var open []*store.Watch
		for range test.want {
			open = append(open, watch(t, v, new(diary).watcher))
		}
		_, err := v.Watch(t.Context(), "**", new(diary).watcher)
		require.Equal(t, plugbus.ReasonQuotaExceeded, denied(t, err).Reason)
		quota, ok := errors.AsType[*store.QuotaError](err)
		require.True(t, ok)
		require.Equal(t, store.QuotaError{Store: "s", Quota: "watches of the plugin", Limit: int64(test.want), Would: int64(test.want) + 1}, *quota)
		if len(open) > 0 {
			open[0].Stop()
			watch(t, v, new(diary).watcher)
		}
	}
}

// TestDrain shows that a client that drains has no more watches, waits for the call of a
// watcher that runs, and can still write.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{})
		hold := make(chan struct{})
		w := watch(t, v, func(context.Context, store.Change) error { <-hold; return nil })
		idle := watch(t, v, new(diary).watcher)
		set(t, v, "k", "1")
		set(t, v, "k", "2")
		synctest.Wait()
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, owner.Drained(brief), context.DeadlineExceeded)
		require.ErrorIs(t, w.Err(), store.ErrClosed)
		require.ErrorIs(t, idle.Err(), plugbus.ErrClosed)
		_, err := v.Watch(t.Context(), "**", new(diary).watcher)
		require.ErrorIs(t, err, store.ErrClosed)
		require.Empty(t, st.Stats().Stores[0].Watches)
		set(t, v, "k", "3")

		close(hold)
		require.NoError(t, owner.Drained(t.Context()))
		require.NoError(t, owner.Close(t.Context()))
		require.NoError(t, owner.Drained(t.Context()))
		_, err = v.Set(t.Context(), "k", nil)
		require.ErrorIs(t, err, store.ErrClosed)
	})
}

// TestCloseWithHungWatcher shows that a client that leaves waits for a watcher until ctx is
// done, and then goes; the context of the watcher ends, and it is a leak until it returns.
func TestCloseWithHungWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{})
		hold := make(chan struct{})
		ended := make(chan struct{})
		watch(t, v, func(ctx context.Context, _ store.Change) error {
			<-ctx.Done()
			close(ended)
			<-hold
			return nil
		})
		set(t, v, "k", "1")
		synctest.Wait()
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, owner.Close(brief), context.DeadlineExceeded)
		<-ended
		require.Len(t, st.Leaks(), 1)
		require.False(t, owner.Ended())
		require.NoError(t, st.Idle(t.Context()), "it does not count any more")

		again := st.join(t, "owner")
		require.NoError(t, again.Close(t.Context()))
		close(hold)
		synctest.Wait()
		require.Empty(t, st.Leaks())
		require.True(t, owner.Ended())
		require.NoError(t, owner.Close(t.Context()))
	})
}

// TestOpenAgainstDrain opens watches while their client begins to drain: each is refused,
// or it ends.
func TestOpenAgainstDrain(t *testing.T) {
	st := newStage(t, store.Options{})
	v := create(t, st.join(t, "owner"), "s", store.Config{})
	for range 300 {
		c, err := st.Client("guest", store.ClientOptions{Superuser: true})
		require.NoError(t, err)
		guest := view(t, c, "s")
		var both sync.WaitGroup
		both.Go(func() {
			w, err := guest.Watch(t.Context(), "**", new(diary).watcher)
			if err != nil {
				require.ErrorIs(t, err, store.ErrClosed)
				return
			}
			<-w.Done()
		})
		both.Go(c.BeginDrain)
		both.Wait()
		require.Empty(t, st.Stats().Stores[0].Watches)
		require.NoError(t, c.Close(t.Context()))
	}
	require.NoError(t, v.Drop(t.Context()))
}
