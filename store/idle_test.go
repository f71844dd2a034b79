package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestIdle shows that Idle returns when all that follows from a write is done: here each of
// many plugins watches one key and writes the next, in every order of their ids.
func TestIdle(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		st := newStage(t, store.Options{MaxDepth: 1000, Backend: newShelf()})
		v := create(t, st.join(t, "host"), "s", store.Config{Persistent: persistent, Read: []string{store.Everyone}, Write: []string{store.Everyone}})
		const plugins, rounds = 8, 300
		for i := range plugins {
			w := view(t, st.join(t, fmt.Sprint("p", i*5%plugins)), "s")
			_, err := w.Watch(t.Context(), fmt.Sprint(i), func(ctx context.Context, c store.Change) error {
				_, err := w.Set(ctx, fmt.Sprint(i+1), []byte(c.Entry().Text()))
				return err
			})
			require.NoError(t, err)
		}
		for round := range rounds {
			set(t, v, "0", fmt.Sprint(round))
			st.rest(t)
			e, err := v.Get(t.Context(), fmt.Sprint(plugins))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(round), e.Text())
		}
		require.Empty(t, st.failed())
	}
}

// TestIdleWaits shows for what Idle waits: a watcher until it is abandoned, and then
// nothing of its plugin until it returns.
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
		require.NoError(t, st.Idle(t.Context()), "it can do nothing for now")
		close(hold)
		synctest.Wait()
		st.rest(t)
		require.EqualValues(t, 1, watched(t, st, "s").Delivered)
		require.Zero(t, watched(t, st, "s").Behind)
	})
}
