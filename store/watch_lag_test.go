package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestLagged shows that a watch which is slower than the history is long gets to know how
// many changes are missing, and up to where; never nothing (D19).
func TestLagged(t *testing.T) {
	for _, test := range []struct {
		writes int
		want   []string
	}{
		{0, []string{}},
		{3, []string{"set k=0 @1", "set k=1 was 0 @2", "set k=2 was 1 @3"}},
		{4, []string{"lagged @1 -1", "set k=1 was 0 @2", "set k=2 was 1 @3", "set k=3 was 2 @4"}},
		{9, []string{"lagged @6 -6", "set k=6 was 5 @7", "set k=7 was 6 @8", "set k=8 was 7 @9"}},
	} {
		st := newStage(t, store.Options{})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{History: 3})
		var d diary
		watch(t, v, d.watcher)
		thaw := st.freeze(t, "owner")
		for i := range test.writes {
			set(t, v, "k", fmt.Sprint(i))
		}
		require.EqualValues(t, test.writes, watched(t, st).Behind)
		thaw()
		st.rest(t)
		require.Equal(t, test.want, d.lines())
		stats := watched(t, st)
		require.Equal(t, store.WatchStats{
			Plugin: "owner", Pattern: "**", Site: stats.Site,
			Delivered: uint64(len(test.want)), Lost: uint64(max(0, test.writes-3)),
		}, stats)
		require.Contains(t, stats.Site, "store_test/stage_test.go:")
	}
}

// TestLaggedByBytes shows that the history is bounded by bytes too, and keeps the last
// change all the same.
func TestLaggedByBytes(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	v := create(t, owner, "s", store.Config{HistoryBytes: 100})
	var d diary
	watch(t, v, d.watcher)
	thaw := st.freeze(t, "owner")
	set(t, v, "a", strings.Repeat("x", 50))
	set(t, v, "b", strings.Repeat("y", 1000))
	thaw()
	st.rest(t)
	require.Equal(t, []string{"lagged @1 -1", "set b=" + strings.Repeat("y", 1000) + " @2"}, d.lines())
}

// TestLatest shows that a watch that asked for the latest does not get what is no longer
// so when it falls behind, and all that has changed when it falls far behind (D19).
func TestLatest(t *testing.T) {
	for _, test := range []struct {
		history int
		script  string // writes; "-" deletes
		want    []string
	}{
		{100, "a=1 a=2 b=3 a=4", []string{"set b=3 @4", "set a=4 was 2 @5"}},
		{100, "a=1 b=2 -a", []string{"set b=2 @3", "deleted a was 1 @4"}},
		{100, "-z a=1 -z", []string{"deleted z was 0 @2", "set a=1 @3"}},
		{2, "a=1 b=2 a=3 -z", []string{"lagged @5 -2", "current a=3 @4", "current b=2 @3", "synced @5"}},
	} {
		st := newStage(t, store.Options{})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{History: test.history})
		set(t, v, "z", "0")
		var d diary
		watch(t, v, d.watcher, store.Latest())
		thaw := st.freeze(t, "owner")
		for word := range strings.FieldsSeq(test.script) {
			if key, deletes := strings.CutPrefix(word, "-"); deletes {
				remove(t, v, key)
				continue
			}
			key, value, _ := strings.Cut(word, "=")
			set(t, v, key, value)
		}
		thaw()
		st.rest(t)
		require.Equal(t, test.want, d.lines(), test.script)
	}
}

// TestCircleThroughGaps shows that a watcher which writes because changes are missing,
// and so makes more of them miss, is stopped where the chain is too deep (D17).
func TestCircleThroughGaps(t *testing.T) {
	for _, options := range [][]store.WatchOption{nil, {store.Latest()}, {store.Snapshot(), store.Latest()}} {
		st := newStage(t, store.Options{MaxDepth: 8})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{History: 1})
		calls := 0
		watch(t, v, func(ctx context.Context, c store.Change) error {
			if c.Kind() == store.Set {
				return nil
			}
			if calls++; calls > 1000 {
				return nil
			}
			for i := range 3 {
				_, _ = v.Set(ctx, fmt.Sprint(i), nil)
			}
			return nil
		}, options...)
		thaw := st.freeze(t, "owner")
		set(t, v, "k", "1")
		set(t, v, "k", "2")
		thaw()
		st.rest(t)
		require.LessOrEqual(t, calls, 100)
		require.Positive(t, st.Stats().Refused)
	}
}

// TestTurns shows that a watch which finds nothing in a long history, or in a large
// snapshot, does not keep the worker from another watch for long.
func TestTurns(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	v := create(t, owner, "s", store.Config{History: 100_000, HistoryBytes: 32 << 20})
	require.NoError(t, bulk(t, v, 70_000))
	var order []string
	note := func(name string) store.Watcher {
		return func(_ context.Context, c store.Change) error {
			order = append(order, name+" "+c.Kind().String())
			return nil
		}
	}
	thaw := st.freeze(t, "owner")
	for name, option := range map[string]store.WatchOption{"snapshot": store.Snapshot(), "history": store.After(0)} {
		_, err := v.Watch(t.Context(), "*.none", note(name), option)
		require.NoError(t, err)
	}
	other := create(t, owner, "other", store.Config{})
	watch(t, other, note("other"))
	set(t, other, "k", "")
	set(t, v, "the.none", "")
	thaw()
	st.rest(t)
	require.Equal(t, "other set", order[0])
	require.ElementsMatch(t, []string{"other set", "snapshot synced", "snapshot set", "history set"}, order)
}

// bulk sets many keys in few transactions.
func bulk(t testing.TB, v *store.View, n int) error {
	for at := 0; at < n; at += 1000 {
		err := v.Txn(t.Context(), func(tx *store.Tx) error {
			for i := range min(1000, n-at) {
				if err := tx.Set(fmt.Sprintf("k.%07d", at+i), nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
