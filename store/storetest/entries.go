package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

func testSet(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{Write: []string{"b"}, Read: []string{"b"}})
	begun := time.Now()
	for i, value := range []string{"", "v", "\x00\xff", strings.Repeat("long ", 20_000)} {
		w.pass(time.Second)
		e := w.set(w.view("b", "notes"), "k", value)
		got, err := v.Get(ctx, "k")
		require.NoError(w, err)
		require.Equal(w, e, got)
		require.True(w, got.Exists())
		require.Equal(w, "k", got.Key())
		require.Equal(w, value, got.Text())
		require.Equal(w, []byte(value), got.Value())
		require.EqualValues(w, i+1, got.Revision())
		require.Equal(w, "b", got.Writer())
		require.WithinDuration(w, begun.Add(time.Duration(i+1)*time.Second), got.Time(), 0)
		require.Zero(w, got.Expires())
	}
	for _, key := range []string{" ", "*", "..", "ключ", "a/b:c.d", strings.Repeat("x", 512)} {
		w.set(v, key, key)
		got, err := v.Get(ctx, key)
		require.NoError(w, err)
		require.Equal(w, key, got.Text())
	}
	none, err := v.Get(ctx, "none")
	require.ErrorIs(w, err, store.ErrNotFound)
	require.Equal(w, store.Entry{}, none)
	require.False(w, none.Exists())
	require.Zero(w, none.Key())
	require.Nil(w, none.Value())
	require.Zero(w, none.Text())
	require.Zero(w, none.Revision())
	require.Zero(w, none.Writer())
	require.Zero(w, none.Time())
	require.Zero(w, none.Expires())
}

// testFrozen is D13: what was stored is what is read, whoever changes what he holds.
func testFrozen(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	value := []byte("value")
	check := func(e store.Entry, err error) {
		w.Helper()
		require.NoError(w, err)
		require.Equal(w, "value", e.Text())
		clear(e.Value())
		require.Equal(w, "value", string(e.Value()))
	}
	e, err := v.Set(ctx, "k", value)
	check(e, err)
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
		if err := tx.Set("t", value); err != nil {
			return err
		}
		clear(value)
		e, err := tx.Get("t")
		check(e, err)
		return nil
	}))
	for _, key := range []string{"k", "t"} {
		check(v.Get(ctx, key))
	}
	for e, err := range v.Entries(ctx, store.All()) {
		check(e, err)
	}
	w.set(v, "k", "another")
	check(e, nil)
}

// testCompare is D15: nobody's write is lost.
func testCompare(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	_, err := v.Update(ctx, "k", nil, 1)
	w.conflict(err, "k", 1, 0)
	require.NotErrorIs(w, err, store.ErrExists)
	w.conflict(v.Delete(ctx, "k", store.IfRevision(1)), "k", 1, 0)
	require.NoError(w, v.Delete(ctx, "k"))
	first, err := v.Create(ctx, "k", []byte("first"))
	require.NoError(w, err)
	_, err = v.Create(ctx, "k", nil)
	w.conflict(err, "k", 0, 1)
	require.ErrorIs(w, err, store.ErrExists)
	second, err := v.Update(ctx, "k", []byte("second"), first.Revision())
	require.NoError(w, err)
	_, err = v.Update(ctx, "k", nil, first.Revision())
	w.conflict(err, "k", 1, 2)
	w.conflict(v.Delete(ctx, "k", store.IfRevision(first.Revision())), "k", 1, 2)
	require.Equal(w, map[string]string{"k": "second"}, w.content(v))
	require.NoError(w, v.Delete(ctx, "k", store.IfRevision(second.Revision())))
	_, err = v.Get(ctx, "k")
	require.ErrorIs(w, err, store.ErrNotFound)
	again, err := v.Create(ctx, "k", nil)
	require.NoError(w, err)
	require.EqualValues(w, 4, again.Revision(), "a revision does not come again")

	wins := make(chan store.Entry, 10)
	var all sync.WaitGroup
	for range cap(wins) {
		all.Go(func() {
			if e, err := v.Update(ctx, "k", nil, again.Revision()); err == nil {
				wins <- e
			}
		})
	}
	all.Wait()
	require.Len(w, wins, 1)
}

// testKeys compares each selection with what a naive reader selects (D18).
func testKeys(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	tokens := []string{"a", "b", "*", "", "aa"}
	var all []string
	for _, first := range tokens {
		for _, second := range tokens {
			for _, separator := range []string{".", ":", "/"} {
				all = append(all, first+separator+second, first+separator+second+separator+"a")
			}
		}
		if first != "" {
			all = append(all, first)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, key := range slices.Backward(all) {
		w.set(v, key, "")
	}
	for _, test := range []struct {
		sel  store.Selection
		want func(key string) bool
	}{
		{store.All(), func(string) bool { return true }},
		{store.Selection{}, func(string) bool { return true }},
		{store.Prefix(""), func(string) bool { return true }},
		{store.Prefix("a"), func(key string) bool { return strings.HasPrefix(key, "a") }},
		{store.Prefix("a."), func(key string) bool { return strings.HasPrefix(key, "a.") }},
		{store.Prefix("zz"), func(string) bool { return false }},
		{store.Prefix("*"), func(key string) bool { return strings.HasPrefix(key, "*") }},
		{store.Match("a"), func(key string) bool { return key == "a" }},
		{store.Match("none"), func(string) bool { return false }},
		{store.Match("*"), func(key string) bool { return !strings.ContainsAny(key, ".:/") }},
		{store.Match("**"), func(string) bool { return true }},
		{store.Match("a.*"), func(key string) bool { return strings.HasPrefix(key, "a.") && strings.Count(key, ".") == 1 }},
		{store.Match("a.**"), func(key string) bool { return strings.HasPrefix(key, "a.") }},
		{store.Match("*.a"), func(key string) bool {
			before, after, ok := strings.Cut(key, ".")
			return ok && after == "a" && !strings.ContainsAny(before, ".:/")
		}},
		{store.Match("*:*:a"), func(key string) bool { return strings.Count(key, ":") == 2 && strings.HasSuffix(key, ":a") }},
	} {
		for _, after := range append([]string{"", "a", "a.", "a.a", "\x7f", "zzz"}, all[len(all)-1]) {
			want := []string{}
			for _, key := range all {
				if test.want(key) && key > after {
					want = append(want, key)
				}
			}
			require.Equal(w, want, w.keys(v, test.sel.After(after)), "%+v after %q", test.sel, after)
			require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
				got := []string{}
				entries, err := tx.Entries(test.sel.After(after))
				for _, e := range entries {
					got = append(got, e.Key())
				}
				require.Equal(w, want, got, "%+v after %q", test.sel, after)
				return err
			}))
		}
	}
	for _, pattern := range []string{"", "a*", "**.a", "a.***", "\x00"} {
		for e, err := range v.Entries(ctx, store.Match(pattern)) {
			require.ErrorIs(w, err, plugbus.ErrInvalid, "%q", pattern)
			require.False(w, e.Exists())
		}
	}
	require.NoError(w, v.Delete(ctx, "a"))
	require.NotContains(w, w.keys(v, store.All()), "a")
}

// testPages reads more than a page while others write: what is there all the while comes
// once and in order.
func testPages(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{})
	const n = 1000
	var want []string
	for from := 0; from < n; from += 500 {
		require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error {
			for i := range 500 {
				key := fmt.Sprintf("key/%04d", from+i)
				want = append(want, key)
				if err := tx.Set(key, []byte("v")); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	require.Equal(w, want, w.keys(v, store.All()))
	var got []string
	for e, err := range v.Entries(ctx, store.Prefix("key/")) {
		require.NoError(w, err)
		if strings.HasPrefix(e.Key(), "key/0") {
			got = append(got, e.Key())
		}
		if len(got)%100 == 1 {
			w.set(v, fmt.Sprintf("key/+%d", len(got)), "") //nolint:contextcheck // The context is that of the test.
			w.set(v, "key/0999", fmt.Sprint(len(got)))     //nolint:contextcheck // The same.
			require.NoError(w, v.Delete(ctx, fmt.Sprintf("key/+%d", len(got)-100)))
		}
	}
	require.Equal(w, want, got)
	for _, err := range v.Keys(ctx, store.All()) {
		require.NoError(w, err)
		break // Nothing is left of the rest.
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := 0
	var last error
	for e, err := range v.Entries(limited, store.All()) {
		cancel()
		if last = err; err == nil {
			seen++
		} else {
			require.False(w, e.Exists())
		}
	}
	require.ErrorIs(w, last, context.Canceled)
	require.Equal(w, 256, seen, "a page is at most this")
}

// testTTL is D16: when the time is over nobody sees the entry, and a change says so.
func testTTL(w *world) {
	ctx := w.Context()
	v := w.create("a", "notes", store.Config{TTL: time.Minute})
	var changes []string
	_, err := v.Watch(ctx, "**", func(_ context.Context, c store.Change) error {
		changes = append(changes, fmt.Sprint(c.Kind(), " ", c.Key(), " ", c.Old().Text()))
		return nil
	})
	require.NoError(w, err)
	begun := time.Now()
	e := w.set(v, "default", "1")
	require.WithinDuration(w, begun.Add(time.Minute), e.Expires(), 0)
	w.set(v, "short", "2", store.TTL(time.Millisecond))
	w.set(v, "for ever", "3", store.TTL(0))
	w.set(v, "renewed", "4", store.TTL(time.Second))
	require.NoError(w, v.Txn(ctx, func(tx *store.Tx) error { return tx.Set("txn", []byte("5"), store.TTL(2*time.Second)) }))
	require.Equal(w, []string{"default", "for ever", "renewed", "short", "txn"}, w.keys(v, store.All()))

	w.pass(time.Millisecond - time.Nanosecond)
	require.Contains(w, w.keys(v, store.All()), "short")
	time.Sleep(time.Nanosecond)
	_, err = v.Get(ctx, "short")
	require.ErrorIs(w, err, store.ErrNotFound, "at once, also if nobody has taken it away yet")
	_, err = v.Create(ctx, "short", []byte("6"), store.TTL(0))
	require.NoError(w, err)

	w.pass(999*time.Millisecond - 1)
	w.set(v, "renewed", "7", store.TTL(time.Hour))
	w.pass(1)
	require.Equal(w, []string{"default", "for ever", "renewed", "short", "txn"}, w.keys(v, store.All()))
	w.pass(time.Second)
	require.NotContains(w, w.keys(v, store.All()), "txn")
	w.pass(time.Minute)
	require.Equal(w, []string{"for ever", "renewed", "short"}, w.keys(v, store.All()))
	w.pass(time.Hour)
	require.Equal(w, map[string]string{"for ever": "3", "short": "6"}, w.content(v))
	require.Zero(w, w.db.Stats().Expiring)
	require.Equal(w, []string{
		"set default ", "set short ", "set for ever ", "set renewed ", "set txn ", "expired short 2", "set short ",
		"set renewed 4", "expired txn 5", "expired default 1", "expired renewed 7",
	}, changes)
	require.EqualValues(w, len(changes), w.revision(v))
	require.EqualValues(w, len("for ever3short6"), w.db.Stats().Bytes)
	for _, d := range []time.Duration{-1, 1, 101 * 365 * 24 * time.Hour} {
		_, err = v.Set(ctx, "k", nil, store.TTL(d))
		require.ErrorIs(w, err, plugbus.ErrInvalid, "%v", d)
	}
}
