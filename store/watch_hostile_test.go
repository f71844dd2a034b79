package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// TestFailingWatcher shows that a watcher which fails, however it does, fails no write, and
// gets the next change all the same; the host hears of it (D17).
func TestFailingWatcher(t *testing.T) {
	for _, test := range []struct {
		fail func() error
		want string
	}{
		{func() error { return errors.New("no luck") }, "no luck"},
		{func() error { panic("no luck") }, "it panicked: no luck"},
		{func() error { runtime.Goexit(); return nil }, store.ErrGoexit.Error()},
	} {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		var d diary
		watch(t, v, func(ctx context.Context, c store.Change) error {
			_ = d.watcher(ctx, c)
			return test.fail()
		})
		for i := range 20 { // More than one turn.
			set(t, v, "k", fmt.Sprint(i))
		}
		st.rest(t)
		require.Len(t, d.lines(), 20)
		require.Len(t, st.failed(), 20)
		require.Equal(t, `owner: watch ** of s for owner "k": `+test.want, st.failed()[0])
		require.EqualValues(t, 20, watched(t, st).Failed)
	}
}

// TestHungWatcher shows that a watcher which hangs delays no write, is abandoned when its
// time is over, and is a leak until it returns (D17).
func TestHungWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{SlowAfter: 3 * time.Second})
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		hold := make(chan struct{})
		var ended error
		var d diary
		_, err := v.Watch(t.Context(), "k", func(ctx context.Context, c store.Change) error {
			<-ctx.Done()
			ended = ctx.Err()
			<-hold
			return d.watcher(ctx, c)
		}, store.Timeout(time.Second))
		require.NoError(t, err)
		begun := time.Now()
		for i := range 10 {
			set(t, v, "k", fmt.Sprint(i))
		}
		require.Equal(t, begun, time.Now(), "no write waited")
		synctest.Wait()
		require.Empty(t, st.Leaks())
		require.Equal(t, "watch k of s", st.Stats().Clients[0].Running)

		pause(time.Second)
		require.ErrorIs(t, ended, context.DeadlineExceeded)
		require.Equal(t, []string{`owner: watch k of s for owner "k": abandoned: ` + store.ErrTimedOut.Error()}, st.failed())
		require.Len(t, st.Leaks(), 1)
		require.Equal(t, "watch k", st.Leaks()[0].What)
		require.Empty(t, st.slows())
		pause(5 * time.Second)
		require.Len(t, st.slows(), 1, "the host hears of it once")
		pause(time.Minute)
		require.Len(t, st.slows(), 1)

		close(hold)
		pause(time.Minute)
		require.Empty(t, st.Leaks())
		require.Len(t, d.lines(), 10, "it goes on with the next")
		require.Len(t, st.failed(), 10, "the others were too late as well")
	})
}

// TestLateIsLate shows that a watcher which returns because its context has ended is
// abandoned, whichever is seen first.
func TestLateIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		const n = 200
		w := watch(t, v, func(ctx context.Context, _ store.Change) error {
			<-ctx.Done()
			return nil
		}, store.Timeout(time.Millisecond))
		for i := range n {
			set(t, v, "k", fmt.Sprint(i))
		}
		pause(time.Second)
		require.Len(t, st.failed(), n)
		require.Zero(t, watched(t, st).Delivered)
		require.NoError(t, w.Err())
	})
}

// TestWatcherThatWritesItsKey shows that a watcher which writes the key that it watches is
// stopped where the chain is too deep (D17), also by way of an expiry.
func TestWatcherThatWritesItsKey(t *testing.T) {
	for _, options := range [][]store.SetOption{nil, {store.TTL(time.Millisecond)}} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, store.Options{MaxDepth: 5})
			v := create(t, st.join(t, "owner"), "s", store.Config{})
			var refusal error
			calls := 0
			watch(t, v, func(ctx context.Context, c store.Change) error {
				calls++
				if len(options) == 0 || c.Kind() == store.Expired {
					_, refusal = v.Set(ctx, "k", nil, options...)
				}
				return nil
			})
			set(t, v, "k", "", options...)
			pause(time.Second)
			st.rest(t)
			require.Equal(t, plugbus.ReasonChainTooDeep, denied(t, refusal).Reason)
			require.LessOrEqual(t, calls, 10)
		})
	}
}

// TestWatcherMayDoAnything has watchers do from within what ends or changes their watch.
func TestWatcherMayDoAnything(t *testing.T) {
	for name, act := range map[string]func(ctx context.Context, v *store.View, c *store.Client, w *store.Watch) error{
		"stop": func(_ context.Context, _ *store.View, _ *store.Client, w *store.Watch) error { w.Stop(); return nil },
		"drop": func(ctx context.Context, v *store.View, _ *store.Client, _ *store.Watch) error { return v.Drop(ctx) },
		"close": func(ctx context.Context, _ *store.View, c *store.Client, _ *store.Watch) error {
			return c.Close(ctx)
		},
		"drain": func(_ context.Context, _ *store.View, c *store.Client, _ *store.Watch) error {
			c.BeginDrain()
			return nil
		},
	} {
		for _, persistent := range []bool{false, true} {
			st := newStage(t, store.Options{Backend: newShelf()})
			owner := st.join(t, "owner")
			v := create(t, owner, "s", store.Config{Persistent: persistent, Write: []string{"writer"}})
			var d diary
			var err error
			opened := make(chan *store.Watch, 1)
			opened <- watch(t, v, func(ctx context.Context, c store.Change) error {
				_ = d.watcher(ctx, c)
				if c.Key() == "a" {
					w := <-opened
					err = act(ctx, v, owner, w)
					opened <- w
				}
				return nil
			})
			require.NoError(t, view(t, st.join(t, "writer"), "s").Txn(t.Context(), func(tx *store.Tx) error {
				return errors.Join(tx.Set("a", nil), tx.Set("b", nil))
			}))
			w := <-opened
			opened <- w
			<-w.Done()
			st.rest(t)
			require.NoError(t, owner.Close(t.Context()), name)
			require.NoError(t, err, name)
			if name == "drop" {
				require.Equal(t, []string{"set a= @1", "set b= @2", "dropped @2"}, d.lines())
				continue
			}
			require.Equal(t, []string{"set a= @1"}, d.lines(), name)
		}
	}
}

// TestWatcherThatOpensWatches shows that watches which open watches are bounded by the
// quota, and by the depth of the chain if each ends the one before.
func TestWatcherThatOpensWatches(t *testing.T) {
	st := newStage(t, store.Options{MaxDepth: 6})
	owner := st.join(t, "owner", store.ClientOptions{MaxWatches: 10})
	v := create(t, owner, "s", store.Config{})
	set(t, v, "k", "")
	var last error
	var watcher store.Watcher
	watcher = func(ctx context.Context, c store.Change) error {
		if c.Kind() == store.Synced {
			_, last = v.Watch(ctx, "**", watcher, store.Snapshot())
		}
		return nil
	}
	watch(t, v, watcher, store.Snapshot())
	st.rest(t)
	require.Equal(t, plugbus.ReasonChainTooDeep, denied(t, last).Reason)
	require.Equal(t, 6, st.Stats().Clients[0].Watches)
}
