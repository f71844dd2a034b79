package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// backends are tests of what a DB needs of its backend, without a DB.
var backends = []struct {
	name string
	test func(t *testing.T, place Place)
}{
	{"Empty", testBackendEmpty},
	{"Commit", testBackendCommit},
	{"Order", testBackendOrder},
	{"Visit", testBackendVisit},
	{"Beside", testBackendBeside},
	{"Closed", testBackendClosed},
}

func put(bucket, key, value string) store.Op {
	return store.Op{Bucket: bucket, Key: key, Value: []byte(value)}
}

func remove(bucket, key string) store.Op { return store.Op{Bucket: bucket, Key: key} }

func drop(bucket string) store.Op { return store.Op{Bucket: bucket} }

// load returns what a backend has, and demands that it comes in order.
func load(t *testing.T, b store.Backend) map[[2]string]string {
	t.Helper()
	pairs, last := map[[2]string]string{}, [2]string{}
	require.NoError(t, b.Load(func(bucket, key string, value []byte) error {
		at := [2]string{bucket, key}
		require.Positive(t, slices.Compare(at[:], last[:]), "%q after %q", at, last)
		last, pairs[at] = at, string(value)
		return nil
	}))
	return pairs
}

func testBackendEmpty(t *testing.T, place Place) {
	for range 2 {
		b := place.Open().Backend
		require.Empty(t, load(t, b))
		require.NoError(t, b.Commit(nil))
		require.NoError(t, b.Commit([]store.Op{drop("none"), remove("none", "key")}))
		require.NoError(t, b.Close())
	}
}

// testBackendCommit compares with a map what is there after each step, when the backend
// is opened again.
func testBackendCommit(t *testing.T, place Place) {
	long, binary := strings.Repeat("k", 1024), "\x00\x01\xff\x00"
	want := map[[2]string]string{}
	for step, ops := range [][]store.Op{
		{put("b", "k", "v"), put("a", "k", "other")},
		{put("b", "l", "\x00"), put("b", "k", "new"), put("c", long, strings.Repeat("v", 300_000))},
		{put(long, binary, binary), remove("b", "k"), remove("b", "none")},
		{put("b", "x", "1"), remove("b", "x"), remove("b", "y"), put("b", "y", "2")}, // In their order.
		{put("b", "late", "1"), drop("b"), put("b", "again", "2")},
		{put("new", "k", "1"), drop("new")},
		{remove("a", "k"), drop("c"), drop("c")},
		{put("d", "k", "v"), put("d/e", "k", "v"), drop("d")}, // It is another bucket.
	} {
		b := place.Open().Backend
		require.Equal(t, want, load(t, b), "before step %d", step)
		handed := make([]store.Op, len(ops))
		for i, op := range ops {
			handed[i] = store.Op{Bucket: op.Bucket, Key: op.Key, Value: bytes.Clone(op.Value)}
			switch at := [2]string{op.Bucket, op.Key}; {
			case op.Key == "":
				maps.DeleteFunc(want, func(of [2]string, _ string) bool { return of[0] == op.Bucket })
			case op.Value == nil:
				delete(want, at)
			default:
				want[at] = string(op.Value)
			}
		}
		require.NoError(t, b.Commit(handed))
		for i := range handed {
			clear(handed[i].Value) // They are ours again.
		}
		require.NoError(t, b.Close())
	}
	b := place.Open().Backend
	require.Equal(t, want, load(t, b))
	require.NoError(t, b.Close())
}

// testBackendOrder has names that sort differently as bytes than in other ways.
func testBackendOrder(t *testing.T, place Place) {
	names := []string{"a", "A", "aa", "b", "a/b", "a.b", "a\x00b", "é", "z", "\xff", "10", "9"}
	var ops []store.Op
	for _, bucket := range names {
		for _, key := range names {
			ops = append(ops, put(bucket, key, bucket+key))
		}
	}
	b := place.Open().Backend
	load(t, b)
	require.NoError(t, b.Commit(ops))
	require.NoError(t, b.Close())
	b = place.Open().Backend
	require.Len(t, load(t, b), len(ops))
	require.NoError(t, b.Close())
}

func testBackendVisit(t *testing.T, place Place) {
	b := place.Open().Backend
	load(t, b)
	require.NoError(t, b.Commit([]store.Op{put("a", "k", "1"), put("a", "l", "2"), put("b", "k", "3")}))
	require.NoError(t, b.Close())
	b = place.Open().Backend
	own, visits := errors.New("own"), 0
	require.ErrorIs(t, b.Load(func(string, string, []byte) error {
		visits++
		if visits == 2 {
			return own
		}
		return nil
	}), own)
	require.Equal(t, 2, visits)
	require.NoError(t, b.Close())
}

// testBackendBeside runs Backup and Compact beside commits: a backup is what was there
// at one moment.
func testBackendBeside(t *testing.T, place Place) {
	b := place.Open().Backend
	load(t, b)
	const keys = 20
	commit := func(n int) {
		var ops []store.Op
		for i := range keys {
			ops = append(ops, put(fmt.Sprint("bucket", i%3), fmt.Sprint(i), fmt.Sprint(n)))
		}
		require.NoError(t, b.Commit(ops))
	}
	commit(0)
	var all sync.WaitGroup
	backups := make([]bytes.Buffer, 5)
	all.Go(func() {
		for i := range backups {
			n, err := b.Backup(t.Context(), &backups[i])
			require.NoError(t, err)
			require.EqualValues(t, backups[i].Len(), n)
		}
	})
	all.Go(func() {
		for range 3 {
			require.NoError(t, b.Compact(t.Context()))
		}
	})
	for n := range 50 {
		commit(n + 1)
	}
	all.Wait()
	own := errors.New("own")
	_, err := b.Backup(t.Context(), failing{own})
	require.ErrorIs(t, err, own)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Backup(ended, &bytes.Buffer{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.Compact(ended), context.Canceled)
	commit(100)
	require.NoError(t, b.Close())

	requireOne := func(b store.Backend) string {
		pairs := load(t, b)
		require.Len(t, pairs, keys)
		require.NoError(t, b.Close())
		value := pairs[[2]string{"bucket0", "0"}]
		for at, other := range pairs {
			require.Equal(t, value, other, "%q", at)
		}
		return value
	}
	require.Equal(t, "100", requireOne(place.Open().Backend))
	for i := range backups {
		requireOne(place.Restore(backups[i].Bytes()).Backend)
	}
}

// A failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func testBackendClosed(t *testing.T, place Place) {
	b := place.Open().Backend
	load(t, b)
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Commit([]store.Op{put("a", "k", "v")}), store.ErrNotDone)
	b = place.Open().Backend
	require.Empty(t, load(t, b))
	require.NoError(t, b.Close())
}
