package hub_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// A closable is a backend that notes whether it was closed.
type closable struct {
	store.Backend
	foreign bool // it has what no hub wrote
	closed  int
}

func (c *closable) Load(visit func(bucket, key string, value []byte) error) error {
	if c.foreign {
		return visit("somebody", "else's", []byte("things"))
	}
	return nil
}

func (c *closable) Close() error {
	c.closed++
	return nil
}

// TestStoreOptionMistakes shows that mistakes in the options of the stores are told with
// the others, before anything on disk is touched; and that a backend that was handed in
// is closed then.
func TestStoreOptionMistakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stores")
	h, err := hub.New(hub.Options{StoreDir: dir, MaxPlugins: -1, Store: store.Options{MaxStores: -1, MaxDepth: 1001, OnSlow: func(store.Slow) {}}})
	require.Nil(t, h)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, mistake := range []string{"Options.MaxPlugins", "MaxStores is -1", "MaxDepth is 1001", "Options.Store.Actors, Clock, Logger, OwnerQuota, OnFailure, OnSlow, OnChange and Observe"} {
		require.ErrorContains(t, err, mistake)
	}
	require.NoDirExists(t, dir)

	for _, o := range []store.Options{
		{OnFailure: func(store.Failure) {}},
		{OnChange: func(store.Administration) {}},
		{OwnerQuota: func(string) (int, int64) { return 1, 1 }},
		{MaxBytes: -1},
	} {
		_, err := hub.New(hub.Options{StoreDir: dir, Store: o})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.NoDirExists(t, dir)
		b := &closable{}
		o.Backend = b
		_, err = hub.New(hub.Options{Store: o})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.Equal(t, 1, b.closed)
	}
	b := &closable{}
	_, err = hub.New(hub.Options{StoreDir: dir, Store: store.Options{Backend: b}})
	require.ErrorContains(t, err, "expected one of them")
	require.NoDirExists(t, dir)
	require.Equal(t, 1, b.closed)

	b = &closable{foreign: true}
	_, err = hub.New(hub.Options{Store: store.Options{Backend: b}})
	_, damaged := errors.AsType[*store.DamageError](err)
	require.True(t, damaged, "%v", err)
	require.Equal(t, 1, b.closed)

	b = &closable{}
	h, err = hub.New(hub.Options{Store: store.Options{Backend: b}})
	require.NoError(t, err)
	require.Zero(t, b.closed)
	for range 2 {
		_, err = h.Close(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, b.closed)
	}
}

// TestStoresWithoutADirectory shows that a hub without one has no persistent stores, and
// says what to do (D12).
func TestStoresWithoutADirectory(t *testing.T) {
	h := open(t, hub.Options{})
	_, err := h.Host().CreateStore(t.Context(), "words", store.Config{Persistent: true})
	require.ErrorIs(t, err, store.ErrNotPersistent)
	require.ErrorContains(t, err, "the host gives the hub a directory (hub.Options.StoreDir)")
	_, err = h.BackupStores(t.Context(), &bytes.Buffer{})
	require.ErrorIs(t, err, store.ErrNotPersistent)
	require.ErrorIs(t, h.CompactStores(t.Context()), store.ErrNotPersistent)
}

// reopen closes a hub, which ends well, and opens another with the directory.
func reopen(t testing.TB, h *hub.Hub, o hub.Options) *hub.Hub {
	t.Helper()
	report, err := h.Close(t.Context())
	require.NoError(t, err)
	require.True(t, report.Clean(), "%+v", report)
	return open(t, o)
}

// TestRestart shows that what plugins wrote to persistent stores is there for the hub
// that opens the directory next: entries with their revisions, writers, times and
// lifetimes, owners, lists and quotas; revisions go on, and what was in memory is gone
// (promise 13, D12).
func TestRestart(t *testing.T) {
	o := hub.Options{StoreDir: filepath.Join(t.TempDir(), "made", "here"), Policy: policyOf(t, `
		"owner": {"dataAccess": {"**": {"read": true, "write": true, "create": true}}},
		"friend": {"dataAccess": {"**": {"read": true, "write": true}}},
		"stranger": {"dataAccess": {"**": {"read": true, "write": true}}}`)}
	h := open(t, o)
	owner, friend := join(t, h, "owner"), join(t, h, "friend")
	words := create(t, owner, "words", store.Config{Persistent: true, Write: []string{"friend"}, MaxKeys: 3, Schema: []byte(`{"type": "number"}`)})
	create(t, owner, "fleeting", store.Config{Read: []string{store.Everyone}})
	create(t, owner, "dropped", store.Config{Persistent: true})
	require.NoError(t, view(t, owner, "dropped").Drop(t.Context()))
	set(t, words, "a", "1")
	kept := set(t, view(t, friend, "words"), "b", "2", store.TTL(time.Hour))
	set(t, words, "c", "3")
	require.NoError(t, words.Delete(t.Context(), "c"))
	require.NoError(t, words.Grant(t.Context(), store.Read, "friend"))

	for range 2 {
		h = reopen(t, h, o)
		owner, friend = join(t, h, "owner"), join(t, h, "friend")
		all, err := h.Host().Stores(t.Context())
		require.NoError(t, err)
		require.Equal(t, []store.Info{{
			Name: "words", Owner: "owner", Persistent: true, Rights: store.Read | store.Write | store.Admin, Keys: 2, Bytes: 4, Revision: 4,
		}}, all)
		e, err := view(t, friend, "words").Get(t.Context(), "b")
		require.NoError(t, err)
		require.Equal(t, [4]any{"2", kept.Revision(), "friend", kept.Time()}, [4]any{e.Text(), e.Revision(), e.Writer(), e.Time()})
		require.Equal(t, kept.Expires(), e.Expires())
		_, err = join(t, h, "stranger").OpenStore(t.Context(), "words")
		denied(t, err, plugbus.ReasonInsufficientPermissions)
		_, err = view(t, friend, "words").Set(t.Context(), "b", []byte(`"no number"`))
		denied(t, err, plugbus.ReasonRejected)
		require.NoError(t, h.Unregister(t.Context(), "stranger"))
	}
	words = view(t, owner, "words")
	require.EqualValues(t, 5, set(t, words, "c", "3").Revision())
	_, err := words.Set(t.Context(), "d", []byte("4"))
	denied(t, err, plugbus.ReasonQuotaExceeded)
}

// TestOneHubForADirectory shows that a second hub on a directory is refused, leaves the
// first one alone and nothing open; and that the directory is free as soon as the first
// one has closed.
func TestOneHubForADirectory(t *testing.T) {
	o := hub.Options{StoreDir: t.TempDir(), Policy: security.AllowAll()}
	h := open(t, o)
	words := create(t, h.Host(), "words", store.Config{Persistent: true})
	for range 3 {
		second, err := hub.New(o)
		require.Nil(t, second)
		require.ErrorIs(t, err, disk.ErrLocked)
		require.ErrorContains(t, err, o.StoreDir)
	}
	set(t, words, "a", "1")
	h = reopen(t, h, o)
	require.Equal(t, "1", valueOf(t, view(t, h.Host(), "words"), "a"))
}

// TestDamagedDirectory shows that a hub does not open a directory with a file, or with
// content, that is not as it was written, says which, and changes nothing; and that the
// directory is not left locked.
func TestDamagedDirectory(t *testing.T) {
	o := hub.Options{StoreDir: t.TempDir()}
	h := open(t, o)
	words := create(t, h.Host(), "words", store.Config{Persistent: true})
	set(t, words, "a", "a needle")
	_, err := h.Close(t.Context())
	require.NoError(t, err)
	path := filepath.Join(o.StoreDir, "plugbus.db")
	sound, err := os.ReadFile(path) //nolint:gosec // It is the test's own.
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, sound[:len(sound)/2], 0o600))
	for range 2 {
		_, err := hub.New(o)
		require.ErrorIs(t, err, disk.ErrDamaged)
		require.ErrorContains(t, err, path)
	}
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, sound[:len(sound)/2], now)
	bad := bytes.Replace(sound, []byte("a needle"), []byte("a noodle"), 1)
	require.NotEqual(t, sound, bad)
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	for range 2 {
		_, err := hub.New(o)
		require.ErrorIs(t, err, disk.ErrDamaged)
	}
	require.NoError(t, os.WriteFile(path, sound, 0o600))
	require.Equal(t, "a needle", valueOf(t, view(t, open(t, o).Host(), "words"), "a"))
}

// TestBackupStores shows that a backup that is made while plugins write opens as a
// directory, with all that was acknowledged before it began.
func TestBackupStores(t *testing.T) {
	h := open(t, hub.Options{StoreDir: t.TempDir()})
	s := join(t, h, "a")
	words := create(t, s, "words", store.Config{Persistent: true})
	set(t, words, "before", "1")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // Ends with stop.
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, err := words.Set(context.Background(), "meanwhile", []byte("2"))
				if err != nil {
					return
				}
			}
		}
	}()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, disk.BackupName)) //nolint:gosec // It is the test's own.
	require.NoError(t, err)
	n, err := h.BackupStores(t.Context(), f)
	close(stop)
	<-stopped
	require.NoError(t, err)
	require.NoError(t, f.Close())
	info, err := os.Stat(f.Name())
	require.NoError(t, err)
	require.Equal(t, info.Size(), n)
	require.NoError(t, h.CompactStores(t.Context()))
	set(t, words, "after", "3")

	restored := view(t, open(t, hub.Options{StoreDir: dir}).Host(), "words")
	require.Equal(t, "a", restored.Owner())
	require.Equal(t, [2]string{"1", ""}, [2]string{valueOf(t, restored, "before"), valueOf(t, restored, "after")})
}

// TestRejoin shows that a plugin that comes back owns its stores still, and that one
// with a validator takes writes again only when it has set it again; and that nobody
// else inherits anything of them (D5, D11).
func TestRejoin(t *testing.T) {
	for _, o := range []hub.Options{{}, {StoreDir: t.TempDir()}} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, o)
			owner, other := join(t, h, "owner"), join(t, h, "other")
			asked := 0
			check := func(_ context.Context, p *store.Proposal) error {
				asked++
				return nil
			}
			create(t, owner, "words", store.Config{Persistent: o.StoreDir != "", Validator: check, Write: []string{"other"}})
			words := view(t, other, "words")
			set(t, words, "a", "1")
			away := func() {
				t.Helper()
				_, err := words.Set(t.Context(), "a", []byte("2"))
				require.ErrorIs(t, err, store.ErrNoValidator)
				require.ErrorContains(t, err, `nobody can write until its owner "owner" has joined and called View.SetValidator`)
				require.True(t, h.Inspect().Stores.Stores[0].Away)
			}
			require.NoError(t, h.Unregister(t.Context(), "owner"))
			away()
			owner = join(t, h, "owner")
			away()
			own := view(t, owner, "words")
			require.NoError(t, own.SetValidator(t.Context(), check))
			set(t, words, "a", "2")
			require.Equal(t, 2, asked)

			require.NoError(t, h.Replace(t.Context(), &plug{manifest: named("owner")}))
			away()
			_, err := own.Get(t.Context(), "a")
			require.ErrorIs(t, err, plugbus.ErrClosed, "the old session's view")
			if o.StoreDir == "" {
				return
			}
			_, err = h.Close(t.Context())
			require.NoError(t, err)
			h = open(t, o)
			words = view(t, join(t, h, "other"), "words")
			away()
			require.NoError(t, view(t, join(t, h, "owner"), "words").SetValidator(t.Context(), nil))
			set(t, words, "a", "3")
			require.Equal(t, 2, asked)
		})
	}
}

// TestIdleOfStores shows that Idle waits for what watches have to deliver and for what
// comes of it, through events and other stores, and for writes that nobody waits for.
func TestIdleOfStores(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{StoreDir: dir})
			a, b := join(t, h, "a"), join(t, h, "b")
			c := store.Config{Persistent: dir != "", Read: []string{store.Everyone}, Write: []string{store.Everyone}}
			first := create(t, a, "first", c)
			create(t, b, "second", c)
			_, err := view(t, b, "first").Watch(t.Context(), "**", func(ctx context.Context, c store.Change) error {
				<-time.After(time.Second)
				_, err := b.Emit(ctx, "word.said", c.Key())
				return err
			})
			require.NoError(t, err)
			second := view(t, a, "second")
			_, err = a.Subscribe("word.*", func(ctx context.Context, e events.Event) error {
				<-time.After(time.Second)
				_, err := second.Set(ctx, e.Data().(string), nil) //nolint:forcetypeassert // It is a key.
				return err
			})
			require.NoError(t, err)
			box, _ := follow(t, view(t, a, "second"), "*", store.Snapshot())
			for _, key := range []string{"x", "y", "z"} {
				set(t, first, key, "1")
			}
			idle(t, h)
			require.Equal(t, []string{"synced", "set x=", "set y=", "set z="}, box.texts())
			require.Equal(t, []string{"a", "b", "a"}, box.last().Chain().Plugins())

			ctx, cancel := context.WithCancel(t.Context())
			_, err = first.Watch(ctx, "**", func(context.Context, store.Change) error { return h.Idle(ctx) })
			cancel()
			require.NoError(t, err, "the context bounds the call, and not the watch")
			set(t, first, "x", "2")
			idle(t, h)
		})
	}
}

// TestInspectStores shows that a snapshot has the stores, and the watches with the plugin
// whose they are.
func TestInspectStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, b := join(t, h, "a"), join(t, h, "b")
		words := create(t, a, "words", store.Config{Read: []string{"b"}})
		set(t, words, "x", "1")
		follow(t, view(t, b, "words"), "x.*")
		follow(t, view(t, b, "words"), "**", store.Snapshot())
		idle(t, h)
		set(t, words, "y", "2")
		idle(t, h)
		seen := h.Inspect()
		require.Len(t, seen.Stores.Stores, 1)
		one := seen.Stores.Stores[0]
		require.Equal(t, [5]any{"words", "a", 2, int64(4), uint64(2)}, [5]any{one.Name, one.Owner, one.Keys, one.Bytes, one.Revision})
		require.Equal(t, store.Access{Owner: "a", Read: []string{"b"}}, one.Access)
		require.Equal(t, one.Watches, must(snapshotOf(h, "b")).Watches)
		require.Equal(t, [2]string{"**", "x.*"}, [2]string{one.Watches[0].Pattern, one.Watches[1].Pattern})
		require.EqualValues(t, 3, one.Watches[0].Delivered, "the entry, that it is all, and the change")
		require.Zero(t, one.Watches[1].Delivered+one.Watches[1].Behind)
		require.Contains(t, one.Watches[0].Site, "storebox_test.go:")
		require.Empty(t, must(snapshotOf(h, "a")).Watches)
		require.NoError(t, h.Unregister(t.Context(), "b"))
		require.Empty(t, h.Inspect().Stores.Stores[0].Watches)
	})
}

// TestStoresAreAudited shows that who makes, shares and drops stores is on record, with
// what they are like afterwards, and that what is not done is not (D6).
func TestStoresAreAudited(t *testing.T) {
	h := open(t, hub.Options{})
	s := join(t, h, "a")
	words := create(t, s, "words", store.Config{})
	require.NoError(t, words.Grant(t.Context(), store.Read, "b"))
	require.NoError(t, words.Grant(t.Context(), store.Read, "b"), "again")
	require.NoError(t, view(t, h.Host(), "words").Revoke(t.Context(), store.Read, "b"))
	require.NoError(t, words.SetValidator(t.Context(), func(context.Context, *store.Proposal) error { return nil }))
	_, err := s.CreateStore(t.Context(), "words", store.Config{})
	require.ErrorIs(t, err, store.ErrExists)
	require.NoError(t, words.Drop(t.Context()))
	require.ErrorIs(t, words.Drop(t.Context()), store.ErrDropped)
	var told []string
	for _, e := range entries(t, h, audit.Query{Event: "store.*"}) {
		require.Equal(t, [2]any{"words", e.Actor == "host"}, [2]any{e.Target, e.Admin})
		told = append(told, e.Event+" by "+e.Actor+": "+detail(e, "detail"))
	}
	require.Equal(t, []string{
		"store.created by a: owner a",
		"store.granted by a: owner a, b read",
		"store.revoked by host: owner a",
		"store.validator by a: a function of a",
		"store.dropped by a: owner a",
	}, told)
}
