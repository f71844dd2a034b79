package hubtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
	"github.com/stretchr/testify/require"
)

// newStore makes a store that all may read, and returns it.
func newStore(tb testing.TB, h *hubtest.Hub, config store.Config) *store.View {
	tb.Helper()
	config.Read = []string{store.Everyone}
	v, err := h.Host().CreateStore(context.Background(), "stock", config)
	hubtest.RequireAllowed(tb, err)
	return v
}

func open(tb testing.TB, s *hub.Session) *store.View {
	tb.Helper()
	v, err := s.OpenStore(context.Background(), "stock")
	hubtest.RequireAllowed(tb, err)
	return v
}

// Changes keep what a plugin is told of a store, in its order.
func TestChanges(t *testing.T) {
	h := hubtest.New(t, security.AllowAll())
	stock := newStore(t, h, store.Config{})
	set := func(key, value string) {
		_, err := stock.Set(t.Context(), key, []byte(value))
		hubtest.RequireAllowed(t, err)
	}
	set("plug", "7")
	shop := open(t, h.Join("shop"))
	all, plugs := hubtest.Watch(t, shop, "**", store.Snapshot()), hubtest.Watch(t, shop, "plug")
	set("socket", "")
	hubtest.RequireAllowed(t, stock.Delete(t.Context(), "plug"))
	hubtest.RequireAllowed(t, stock.Drop(t.Context()))
	h.Settle()
	require.Equal(t, []string{"current plug 7", "synced", "set socket ", "deleted plug", "dropped"}, all.Texts())
	require.Equal(t, []string{"deleted plug", "dropped"}, plugs.Texts())
	require.Equal(t, "7", plugs.Changes()[0].Old().Text())
}

// Wait waits for what a plugin's own goroutine writes and for what expires, and fails the
// test if that does not come.
func TestChangesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := try(t, func(tb testing.TB) {
			h := hubtest.New(tb, security.AllowAll())
			stock := newStore(tb, h, store.Config{TTL: time.Second})
			got := hubtest.Watch(tb, open(tb, h.Join("shop")), "**")
			hubtest.RequireAllowed(tb, h.Host().Go("fill", func(ctx context.Context) {
				_, _ = stock.Set(ctx, "plug", []byte("7"))
			}))
			require.Equal(t, store.Expired, got.Wait(2)[1].Kind())
			got.Wait(3)
		})
		f.requireFailure(t, `got 2 changes of "**" in store "stock" within 10s: ["set plug 7" "expired plug"]`, "want 3")
	})
}

// What a plugin may not watch fails the test, with the rule.
func TestChangesDenied(t *testing.T) {
	policy := hubtest.Policy(t, `{"version": 1, "plugins": {"shop": {"dataAccess": {"stock": {"write": true}}}}}`)
	f := try(t, func(tb testing.TB) {
		h := hubtest.New(tb, policy)
		hubtest.RequireAllowed(tb, newStore(tb, h, store.Config{}).Grant(t.Context(), store.Write, "shop"))
		hubtest.Watch(tb, open(tb, h.Join("shop")), "**")
	})
	f.requireFailure(t, `watch "**" of store "stock"`, string(plugbus.ReasonInsufficientPermissions), "plugins.shop.dataAccess")
}

// A watcher that hangs or panics fails the test, by its store, pattern and line, and so
// does a test that waits for it.
func TestBadWatchers(t *testing.T) {
	watch := func(tb testing.TB, f store.Watcher) *hubtest.Hub {
		tb.Helper()
		h := hubtest.New(tb, security.AllowAll())
		stock := newStore(tb, h, store.Config{})
		_, err := open(tb, h.Join("shop")).Watch(t.Context(), "plug.*", f)
		require.NoError(t, err)
		_, err = stock.Set(t.Context(), "plug.red", nil)
		require.NoError(t, err)
		return h
	}
	f := try(t, func(tb testing.TB) {
		watch(tb, func(context.Context, store.Change) error { panic("no socket") }).Settle()
	})
	f.requireFailure(t, `plugin "shop"`, `the watch plug.* of store "stock"`, "no socket", "TestBadWatchers")

	for _, test := range []struct {
		settle bool
		want   []string
	}{
		{false, []string{"something leaks", `plugin "shop": the handler of "watch plug.* of store stock"`, "changes_test.go:", `drain client "shop"`}},
		{true, []string{"did not settle within 10s", `plugin "shop": the watch plug.* of stock: running`}},
	} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			f := try(t, func(tb testing.TB) {
				h := watch(tb, func(context.Context, store.Change) error { <-release; return nil })
				if test.settle {
					h.Settle()
				}
				synctest.Wait()
			})
			for _, want := range test.want {
				require.Contains(t, f.failures[0], want)
			}
			close(release)
		})
	}
}

// A hub that is Persistent has stores that are on disk, each test its own.
func TestPersistent(t *testing.T) {
	for range 2 {
		h := hubtest.New(t, security.AllowAll(), hubtest.With(hub.Options{MaxPlugins: 1}), hubtest.Persistent())
		h.Join("shop")
		newStore(t, h, store.Config{Persistent: true})
		require.NoError(t, h.CompactStores(t.Context()))
	}
	f := try(t, func(tb testing.TB) {
		hubtest.New(tb, nil, hubtest.Persistent(), hubtest.With(hub.Options{StoreDir: t.TempDir()}))
	})
	f.requireFailure(t, "Persistent", "StoreDir")
}

// A plugin that is to find what it wrote in an earlier run is tested with two hubs on one
// directory, one after the other.
func TestRestart(t *testing.T) {
	dir := hubtest.With(hub.Options{StoreDir: t.TempDir()})
	first := hubtest.New(t, security.AllowAll(), dir)
	_, err := newStore(t, first, store.Config{Persistent: true}).Set(t.Context(), "plug", []byte("7"))
	hubtest.RequireAllowed(t, err)
	_, err = first.Close(t.Context())
	require.NoError(t, err)

	second := hubtest.New(t, security.AllowAll(), dir)
	got := hubtest.Watch(t, open(t, second.Join("shop")), "**", store.Snapshot())
	second.Settle()
	require.Equal(t, []string{"current plug 7", "synced"}, got.Texts())
}
