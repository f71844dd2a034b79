package disk_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// restore returns what a backup holds.
func restore(t testing.TB, backup []byte) content {
	t.Helper()
	dir := newDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, disk.BackupName), backup, 0o600))
	return loadDir(t, dir)
}

// TestBackupIsOfOneMoment takes backups while commits go on, each of which sets two keys
// to the same number.
func TestBackupIsOfOneMoment(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{LogBytes: 4096})
	var mu sync.Mutex // guards acknowledged
	acknowledged := 0
	now := func() int {
		mu.Lock()
		defer mu.Unlock()
		return acknowledged
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			s := strconv.Itoa(n)
			if err := e.Commit([]store.Op{set("a", "n", s), set("b", strconv.Itoa(n%100), s), set("c", "n", s)}); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			acknowledged = n
			mu.Unlock()
		}
	})
	for range 10 {
		least := now()
		var b bytes.Buffer
		n, err := e.Backup(t.Context(), &b)
		require.NoError(t, err)
		require.EqualValues(t, b.Len(), n)
		most := now() + 1
		got := restore(t, b.Bytes())
		if least == 0 && len(got) == 0 {
			continue
		}
		require.Equal(t, got["a"]["n"], got["c"]["n"])
		at, err := strconv.Atoi(got["a"]["n"])
		require.NoError(t, err)
		require.GreaterOrEqual(t, at, least, "what was committed before is there")
		require.LessOrEqual(t, at, most)
	}
	stop()
	wg.Wait()
	require.EqualValues(t, 10, e.Stats().Backups)
	require.NoError(t, e.Close())
}

// TestRestoredDirectoryGoesOn shows that a directory made of a backup is like any other,
// and that the backup is not taken up again.
func TestRestoredDirectoryGoesOn(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{})
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
	var b bytes.Buffer
	_, err := e.Backup(t.Context(), &b)
	require.NoError(t, err)
	dir := newDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, disk.BackupName), b.Bytes(), 0o600))
	want := content{"b": {"k": "v"}}
	for n := range 3 {
		op := set("b", strconv.Itoa(n), "v")
		e := open(t, dir, disk.Options{})
		require.NoError(t, e.Commit([]store.Op{op}))
		want.apply(op)
		require.NoError(t, e.Close())
		require.Equal(t, want, loadDir(t, dir))
		require.NoFileExists(t, filepath.Join(dir, disk.BackupName))
	}
}

// A brokenWriter fails after some bytes.
type brokenWriter struct{ room int }

var errBroken = errors.New("no more")

func (w *brokenWriter) Write(b []byte) (int, error) {
	n := min(w.room, len(b))
	w.room -= n
	if n < len(b) {
		return n, errBroken
	}
	return n, nil
}

func TestBackupToABrokenWriter(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{})
	fill(t, e, 1000)
	for _, room := range []int{0, 100, 4096, 8191, 8192, 50_000} {
		n, err := e.Backup(t.Context(), &brokenWriter{room})
		require.ErrorIs(t, err, errBroken, room)
		require.EqualValues(t, room, n)
	}
	_, err := e.Backup(t.Context(), writerFunc(func() { panic("no room") }))
	require.ErrorContains(t, err, "no room")
	require.NoError(t, e.Compact(t.Context()), "the tree took it for its own")
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}), "it was not the engine's fault")
	require.NoError(t, e.Close())
}

// A writerFunc is an io.Writer.
type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

func TestBackupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{})
	fill(t, e, 1000)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	calls := 0
	_, err := e.Backup(ctx, writerFunc(func() {
		if calls++; calls == 3 {
			cancel(cause)
		}
	}))
	require.ErrorIs(t, err, cause)
	require.Equal(t, 3, calls)
	require.ErrorIs(t, e.Compact(ctx), cause)
	require.Zero(t, e.Stats().Backups)
}

// TestSlowBackup shows what a backup to a writer that is stuck delays: no commit, until
// the log is too long; other backups, as long as their contexts allow; and Close.
func TestSlowBackup(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	synctest.Test(t, func(t *testing.T) {
		e, err := disk.Open(dir, disk.Options{LogBytes: 4096})
		require.NoError(t, err)
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := e.Backup(t.Context(), writerFunc(func() { <-release }))
			require.NoError(t, err)
		})
		synctest.Wait()
		value := string(make([]byte, 10_000))
		for range 10 {
			require.NoError(t, e.Commit([]store.Op{set("b", "k", value)}))
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := e.Backup(ctx, discard{})
			require.ErrorIs(t, err, context.Canceled)
		})
		wg.Go(func() {
			for n := 0; n < 1000 && e.Stats().Stalls == 0; n++ {
				require.NoError(t, e.Commit([]store.Op{set("b", "k", value)}))
			}
		})
		synctest.Wait()
		require.NotZero(t, e.Stats().Stalls)
		cancel()
		close(release)
		wg.Wait() // The commit was done.

		release = make(chan struct{})
		closed := false
		wg.Go(func() {
			_, err := e.Backup(t.Context(), writerFunc(func() { <-release }))
			require.NoError(t, err)
		})
		synctest.Wait()
		wg.Go(func() {
			require.NoError(t, e.Close())
			closed = true
		})
		synctest.Wait()
		require.False(t, closed)
		require.ErrorIs(t, e.Commit([]store.Op{set("b", "k", value)}), plugbus.ErrClosed)
		close(release)
		wg.Wait()
	})
	require.Len(t, loadDir(t, dir)["b"], 1)
}
