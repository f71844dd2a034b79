package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/store"
)

// TestIdle shows that Idle returns when all that follows from a write is done: here two
// plugins answer each other many times, with many others between them to look at.
func TestIdle(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		st := newStage(t, store.Options{MaxDepth: 1000, Backend: newShelf()})
		const others, hops, rounds = 500, 900, 10
		for i := range others {
			st.join(t, fmt.Sprint("m", i))
		}
		v := create(t, st.join(t, "host"), "s", store.Config{Persistent: persistent, Read: []string{store.Everyone}, Write: []string{store.Everyone}})
		for from, to := range map[string]string{"a": "z", "z": "a"} {
			w := view(t, st.join(t, from), "s")
			_, err := w.Watch(t.Context(), from, func(ctx context.Context, c store.Change) error {
				if c.Chain().Depth() == hops {
					return nil
				}
				_, err := w.Set(ctx, to, fmt.Append(nil, c.Chain().Depth()))
				return err
			})
			require.NoError(t, err)
		}
		for range rounds {
			set(t, v, "a", "")
			st.rest(t)
			e, err := v.Get(t.Context(), "z")
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(hops-1), e.Text())
		}
		require.Empty(t, st.failed())
	}
}

// TestIdleWaitsForTheReport shows that the host has heard of a failure when Idle returns.
func TestIdleWaitsForTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		report, hold := make(chan struct{}), make(chan struct{})
		st.onFailure = func() { <-report }
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		other := watch(t, v, new(diary).watcher)
		watch(t, v, func(context.Context, store.Change) error { <-hold; return nil }, store.Timeout(time.Second))
		set(t, v, "k", "")
		idle := make(chan error, 1)
		go func() { idle <- st.Idle(context.Background()) }()
		pause(time.Second)
		other.Stop() // So that Idle looks.
		synctest.Wait()
		require.Empty(t, idle)
		close(report)
		require.NoError(t, <-idle)
		require.Len(t, st.failed(), 1)
		close(hold)
	})
}

// TestIdleBesideOthers shows that a watch which was stopped leaves nothing to wait for, also
// if the worker is held up by what another part of the hub does.
func TestIdleBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := actor.NewGroup()
		worker := group.New()
		hold := make(chan struct{})
		part := worker.Attach(busyPart(hold))
		st := newStage(t, store.Options{Actors: group})
		v := create(t, st.join(t, "owner", store.ClientOptions{Actor: worker}), "s", store.Config{})
		w := watch(t, v, new(diary).watcher)
		st.rest(t)
		synctest.Wait() // The worker may be on its way still.
		require.True(t, worker.Signal(part))
		worker.Wake()
		synctest.Wait()
		set(t, v, "k", "")
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, st.Idle(brief), context.DeadlineExceeded)
		w.Stop()
		require.NoError(t, st.Idle(t.Context()))
		close(hold)
		synctest.Wait()
		require.NoError(t, st.Close(t.Context()))
		require.NoError(t, group.Close(t.Context()))
	})
}

// A busyPart is a source of a worker that takes long.
type busyPart chan struct{}

func (b busyPart) Work() (more bool) { <-b; return false }

// TestIdleWaits shows for what Idle waits: a watcher until it is abandoned, and what waits
// behind it.
func TestIdleWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		require.NoError(t, st.Idle(t.Context()))
		hold := make(chan struct{})
		watch(t, v, func(context.Context, store.Change) error { <-hold; return nil }, store.Timeout(time.Second))
		begun := time.Now()
		set(t, v, "k", "")
		st.rest(t)
		require.Equal(t, time.Second, time.Since(begun))
		require.Len(t, st.failed(), 1, "the host has heard of it by then")

		set(t, v, "k", "2")
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, st.Idle(brief), context.DeadlineExceeded)
		close(hold)
		synctest.Wait()
		st.rest(t)
		require.EqualValues(t, 1, watched(t, st).Delivered)
		require.Zero(t, watched(t, st).Behind)
	})
}

// TestIdleBehind shows that Idle waits for what a watch has read, and for what it has not,
// while its watcher is abandoned: until the watch is stopped.
func TestIdleBehind(t *testing.T) {
	for _, test := range []struct{ changes, hangs int }{ // A watch reads 64 at a time.
		{1, 1}, {2, 1}, {64, 64}, {65, 64},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, store.Options{})
			v := create(t, st.join(t, "owner"), "s", store.Config{})
			hold, calls := make(chan struct{}), 0
			thaw := st.freeze(t, "owner")
			w := watch(t, v, func(context.Context, store.Change) error {
				if calls++; calls == test.hangs {
					<-hold
				}
				return nil
			}, store.Timeout(time.Second))
			for range test.changes {
				set(t, v, "k", "")
			}
			thaw()
			brief, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := st.Idle(brief); test.changes == test.hangs {
				require.NoError(t, err, "nothing is behind it")
			} else {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			require.Len(t, st.failed(), 1)
			w.Stop()
			require.NoError(t, st.Idle(t.Context()))
			close(hold)
		})
	}
}
