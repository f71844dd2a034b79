package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// testRevisions shows that revisions grow by one, and never go back: not when keys go, nor
// when the store does (D14).
func testRevisions(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	w.set(v, "a", "")
	w.set(v, "b", "")
	require.NoError(w, v.Delete(ctx, "none"))
	require.NoError(w, v.Delete(ctx, "a"))
	require.NoError(w, v.Delete(ctx, "b"))
	require.EqualValues(w, 4, w.revision(v))
	require.EqualValues(w, 5, w.set(v, "a", "").Revision())
	_, err := v.Create(ctx, "a", nil)
	require.ErrorIs(w, err, store.ErrExists)
	require.EqualValues(w, 6, w.set(v, "a", "").Revision(), "what was not done has none")
	require.NoError(w, v.Drop(ctx))
	for range 2 {
		v = w.create("b", "notes", store.Config{})
		require.EqualValues(w, 6, w.revision(v))
		require.NoError(w, v.Drop(ctx))
	}
	v = w.create("b", "notes", store.Config{})
	require.EqualValues(w, 7, w.set(v, "a", "").Revision())
	_, err = v.Update(ctx, "a", nil, 6)
	w.conflict(err, "a", 6, 7)
	require.EqualValues(w, 1, w.set(w.create("a", "other", store.Config{}), "k", "").Revision())
}

// testWatch shows that a snapshot and the changes after it make a mirror (D14, D18).
func testWatch(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Read: []string{"b"}, Write: []string{"b"}, History: 1000})
	w.set(v, "in.old", "1")
	w.set(v, "out", "1")
	mirror, synced, last := map[string]string{}, false, uint64(0)
	watch, err := w.view("b", "notes").Watch(ctx, "in.*", func(_ context.Context, c store.Change) error {
		switch c.Kind() {
		case store.Set, store.Deleted, store.Expired:
			require.Greater(w, c.Revision(), last)
			require.Equal(w, mirror[c.Key()], c.Old().Text())
			if last = c.Revision(); c.Entry().Exists() {
				mirror[c.Key()] = c.Entry().Text()
			} else {
				delete(mirror, c.Key())
			}
		case store.Current:
			require.False(w, synced)
			mirror[c.Key()] = c.Entry().Text()
		case store.Synced:
			synced, last = true, c.Revision()
		case store.Lagged, store.Truncated, store.Revoked, store.Dropped:
			require.Equal(w, store.Dropped, c.Kind())
			clear(mirror)
		}
		return nil
	}, store.Snapshot())
	require.NoError(w, err)
	var writers sync.WaitGroup
	for i, id := range []string{"a", "b"} {
		writer := w.view(id, "notes")
		writers.Go(func() {
			for n := range 20 {
				key := fmt.Sprintf("in.%d", (n+i)%7)
				if n%3 == 0 {
					require.NoError(w, writer.Delete(ctx, key))
				} else {
					w.set(writer, key, fmt.Sprint(id, n)) //nolint:contextcheck // The context is that of the test.
				}
				w.set(writer, "out", "2") //nolint:contextcheck // The same.
			}
		})
	}
	writers.Wait()
	require.NoError(w, w.db.Idle(ctx))
	require.True(w, synced)
	want := w.content(v)
	delete(want, "out")
	require.Equal(w, want, mirror)
	require.NoError(w, v.Drop(ctx))
	require.NoError(w, w.db.Idle(ctx))
	require.Empty(w, mirror)
	<-watch.Done()
	require.ErrorIs(w, watch.Err(), store.ErrDropped)
}

// testClosed shows that nothing can be done after the end, and that stores outlive their
// owner.
func testClosed(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Read: []string{"b"}})
	w.set(v, "k", "v")
	reader := w.view("b", "notes")
	requireClosed := func(c *store.Client, v *store.View) {
		w.Helper()
		for _, act := range acts {
			require.ErrorIs(w, act.do(ctx, v), store.ErrClosed, act.name)
			require.ErrorIs(w, act.do(ctx, v), plugbus.ErrClosed, act.name)
		}
		_, errCreate := c.Create(ctx, "other", store.Config{})
		_, errOpen := c.Open(ctx, "notes")
		_, errList := c.List(ctx)
		for _, err := range []error{v.Drop(ctx), v.SetValidator(ctx, nil), errCreate, errOpen, errList} {
			require.ErrorIs(w, err, store.ErrClosed)
		}
	}
	a := w.as("a")
	require.NoError(w, a.Close(ctx))
	require.NoError(w, a.Close(ctx))
	requireClosed(a, v)
	e, err := reader.Get(ctx, "k")
	require.NoError(w, err)
	require.Equal(w, "v", e.Text())

	delete(w.clients, "a")
	v = w.view("a", "notes")
	w.set(v, "k", "another")
	require.NoError(w, w.db.Close(ctx))
	require.NoError(w, w.db.Close(ctx))
	requireClosed(w.as("a"), v)
	_, err = w.db.Client("c", store.ClientOptions{})
	require.ErrorIs(w, err, store.ErrClosed)
}

// testBadArguments shows that what could never be accepted is told apart, and changes
// nothing.
func testBadArguments(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	w.set(v, "k", "v")
	watcher := func(context.Context, store.Change) error { return nil }
	second := func(_ any, err error) error { return err }
	for _, key := range []string{"", "\x00", "a\nb", "\xff", strings.Repeat("x", 513)} {
		for _, err := range []error{
			second(v.Get(ctx, key)),
			second(v.Set(ctx, key, nil)),
			second(v.Create(ctx, key, nil)),
			second(v.Update(ctx, key, nil, 1)),
			v.Delete(ctx, key),
		} {
			require.ErrorIs(w, err, plugbus.ErrInvalid, "%q", key)
		}
	}
	for _, err := range []error{
		second(v.Update(ctx, "k", nil, 0)),
		v.Delete(ctx, "k", store.IfRevision(0)),
		v.Delete(ctx, "k", nil),
		second(v.Set(ctx, "k", nil, nil)),
		second(v.Watch(ctx, "a*", watcher)),
		second(v.Watch(ctx, "**", nil)),
		second(v.Watch(ctx, "**", watcher, nil)),
		second(v.Watch(ctx, "**", watcher, store.Snapshot(), store.After(0))),
		second(v.Watch(ctx, "**", watcher, store.After(2))),
		second(v.Watch(ctx, "**", watcher, store.Timeout(1))),
		second(w.db.Client("a", store.ClientOptions{})),
		second(w.db.Client("not an id", store.ClientOptions{})),
	} {
		require.ErrorIs(w, err, plugbus.ErrInvalid)
	}
	var none context.Context
	for _, act := range acts {
		require.ErrorIs(w, act.do(none, v), plugbus.ErrInvalid, act.name)
	}
	for _, err := range []error{
		second(w.as("a").Create(none, "other", store.Config{})),
		second(w.as("a").Open(none, "notes")),
		second(w.as("a").List(none)),
		v.Drop(none),
		v.SetValidator(none, nil),
		v.Txn(none, func(*store.Tx) error { return nil }),
	} {
		require.ErrorIs(w, err, plugbus.ErrInvalid)
	}
	require.Equal(w, map[string]string{"k": "v"}, w.content(v))
	require.EqualValues(w, 1, w.revision(v))
}

// testReopen shows that all there is to know of the entries survives (D12), and nothing of
// a store in memory.
func testReopen(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Write: []string{"b"}})
	brief, err := w.as("a").Create(ctx, "brief", store.Config{})
	require.NoError(w, err)
	w.set(brief, "k", "v")
	for i, value := range []string{"", "v", "\x00\xff", strings.Repeat("long ", 20_000)} {
		w.set(v, fmt.Sprint("key/", i), value)
		w.pass(time.Second)
	}
	w.set(w.view("b", "notes"), "b's", "v", store.TTL(time.Hour))
	require.NoError(w, v.Delete(ctx, "key/1"))
	type whole struct {
		key, value, writer string
		revision           uint64
		at, expires        time.Time
	}
	everything := func(v *store.View) (all []whole) {
		for e, err := range v.Entries(ctx, store.All()) {
			require.NoError(w, err)
			all = append(all, whole{e.Key(), e.Text(), e.Writer(), e.Revision(), e.Time(), e.Expires()})
		}
		return all
	}
	want := everything(v)
	require.Len(w, want, 4)
	for range 2 {
		w.reopen(func(*store.Options) {})
		v = w.view("a", "notes")
		require.Equal(w, want, everything(v))
		require.EqualValues(w, 6, w.revision(v))
		require.Equal(w, want[1].value, w.content(v)["key/0"])
		_, err = w.as("a").Open(ctx, "brief")
		require.ErrorIs(w, err, store.ErrNotFound)
	}
	e, err := v.Update(ctx, "key/0", []byte("on"), 1)
	require.NoError(w, err)
	require.EqualValues(w, 7, e.Revision())
}

// testReopenConfig shows that owner, lists, quotas and rules survive.
func testReopenConfig(w *world) {
	ctx := w.Context()
	schema := []byte(`{"type": "object", "required": ["n"]}`)
	v := w.create("a", "notes", store.Config{Read: []string{"b", "c"}, Schema: schema, TTL: time.Minute})
	clear(schema)
	require.NoError(w, v.Grant(ctx, store.Write|store.Admin, "b"))
	require.NoError(w, v.Revoke(ctx, store.Read, "c"))
	access, err := v.Access(ctx)
	require.NoError(w, err)
	small := w.create("a", "small", store.Config{MaxKeys: 1, MaxBytes: 5, MaxValueBytes: 3, History: 1, HistoryBytes: 1})
	w.set(small, "k", "v")
	guarded := w.create("a", "guarded", store.Config{Validator: func(context.Context, *store.Proposal) error { return nil }})
	w.set(guarded, "k", "v")
	free := w.create("a", "free", store.Config{Validator: func(context.Context, *store.Proposal) error { return nil }})
	require.NoError(w, free.SetValidator(ctx, nil))

	w.reopen(func(*store.Options) {})
	v = w.view("b", "notes")
	require.Equal(w, "a", v.Owner())
	got, err := v.Access(ctx)
	require.NoError(w, err)
	require.Equal(w, access, got)
	requireSchema(w, v)
	begun := time.Now()
	require.WithinDuration(w, begun.Add(time.Minute), w.set(v, "k", `{"n": 1}`).Expires(), 0)

	small = w.view("a", "small")
	set := func(key, value string) error { _, err := small.Set(ctx, key, []byte(value)); return err }
	w.full(set("k", "long"), "bytes of one value", 3, 4)
	w.full(set("l", ""), "keys of the store", 1, 2)
	require.NoError(w, small.Delete(ctx, "k"))
	w.full(set("long", "val"), "bytes of the store", 5, 7)
	require.NoError(w, set("l", "1"))
	require.NoError(w, set("l", "2"))
	for _, s := range w.db.Stats().Stores {
		if s.Name == "small" {
			require.Equal(w, 1, s.History.Changes)
		}
	}
	guarded = w.view("a", "guarded")
	_, err = guarded.Set(ctx, "k", nil)
	require.ErrorIs(w, err, store.ErrNoValidator)
	require.Equal(w, map[string]string{"k": "v"}, w.content(guarded))
	w.set(w.view("a", "free"), "k", "v")
}

// testReopenExpired shows that lifetimes go on, and are over in time, also if nobody was
// there.
func testReopenExpired(w *world) {
	v := w.create("a", "notes", store.Config{})
	w.set(v, "short", "v", store.TTL(time.Second))
	w.set(v, "long", "v", store.TTL(time.Hour))
	require.NoError(w, w.db.Close(w.Context()))
	time.Sleep(2 * time.Second)
	w.open(func(*store.Options) {})
	v = w.view("a", "notes")
	require.Equal(w, []string{"long"}, w.keys(v, store.All()))
	w.pass(0)
	require.EqualValues(w, 3, w.revision(v), "the expiry is a change")
	w.pass(time.Hour)
	require.Empty(w, w.keys(v, store.All()))
	require.EqualValues(w, 4, w.revision(v))
	require.Zero(w, w.db.Stats().Bytes)
	w.reopen(func(*store.Options) {})
	require.EqualValues(w, 4, w.revision(w.view("a", "notes")))
}

// testReopenRevisions shows that revisions do not go back, whatever the last changes were.
func testReopenRevisions(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	w.set(v, "a", "")
	w.set(v, "b", "")
	require.NoError(w, v.Delete(ctx, "b"))
	w.reopen(func(*store.Options) {})
	v = w.view("a", "notes")
	require.EqualValues(w, 4, w.set(v, "b", "").Revision())
	require.NoError(w, v.Drop(ctx))
	w.reopen(func(*store.Options) {})
	v = w.create("b", "notes", store.Config{})
	require.EqualValues(w, 4, w.revision(v))
	w.reopen(func(*store.Options) {})
	require.EqualValues(w, 5, w.set(w.view("b", "notes"), "a", "").Revision())
}

func testReopenDropped(w *world) {
	ctx := w.Context()
	for i := range 3 {
		v := w.create("a", fmt.Sprint("s", i), store.Config{})
		w.set(v, "k", "v")
	}
	require.NoError(w, w.view("a", "s1").Drop(ctx))
	w.reopen(func(*store.Options) {})
	infos, err := w.as("a").List(ctx)
	require.NoError(w, err)
	require.Len(w, infos, 2)
	require.EqualValues(w, 2*len("kv"), w.db.Stats().Bytes)
	require.Empty(w, w.content(w.create("b", "s1", store.Config{})))
	w.reopen(func(*store.Options) {})
	require.Empty(w, w.content(w.view("b", "s1")))
}

// testBackup takes a backup beside writers: it is what was there at one moment.
func testBackup(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Read: []string{"b"}})
	write := func(n int) {
		require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
			for i := range 10 {
				if err := tx.Set(fmt.Sprint("key/", i), fmt.Append(nil, n)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	write(0)
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				write(n)
			}
		}
	}()
	var b bytes.Buffer
	n, err := w.db.Backup(ctx, &b)
	close(stop)
	<-done
	require.NoError(w, err)
	require.EqualValues(w, b.Len(), n)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = w.db.Backup(ended, &bytes.Buffer{})
	require.ErrorIs(w, err, context.Canceled)
	require.NoError(w, w.db.Close(ctx))

	db, err := store.Open(w.place.Restore(b.Bytes()))
	require.NoError(w, err)
	w.db, w.clients = db, map[string]*store.Client{}
	restored := w.view("b", "notes")
	content := w.content(restored)
	require.Len(w, content, 10)
	for _, value := range content {
		require.Equal(w, content["key/0"], value, "a transaction is there or not")
	}
	require.Zero(w, w.revision(restored)%10)
	w.set(w.view("a", "notes"), "k", "on")
}

func testCompact(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	for i := range 50 {
		w.set(v, fmt.Sprint("key/", i%10), strings.Repeat("x", 1000*i))
	}
	for i := range 5 {
		require.NoError(w, v.Delete(ctx, fmt.Sprint("key/", i)))
	}
	want := maps.Clone(w.content(v))
	require.NoError(w, w.db.Compact(ctx))
	require.Equal(w, want, w.content(v))
	w.set(v, "after", "v")
	want["after"] = "v"
	w.reopen(func(*store.Options) {})
	require.Equal(w, want, w.content(w.view("a", "notes")))
}
