package disk_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

func TestCompactGivesBackRoom(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	fill(t, e, 20_000)
	_, err := e.Backup(t.Context(), discard{}) // It makes a checkpoint.
	require.NoError(t, err)
	full := e.Stats()
	require.NoError(t, e.Commit([]store.Op{drop("bench"), set("b", "k", "v")}))
	require.NoError(t, e.Compact(t.Context()))
	s := e.Stats()
	require.EqualValues(t, 1, s.Compactions)
	require.Less(t, s.DatabaseBytes, full.DatabaseBytes/100)
	require.Less(t, s.FreeBytes, s.DatabaseBytes)
	info, err := os.Stat(filepath.Join(dir, "plugbus.db"))
	require.NoError(t, err)
	require.Less(t, info.Size(), full.DatabaseBytes/10)
	require.Equal(t, content{"b": {"k": "v"}}, load(t, e))
}

// TestCompactBesideCommits loses nothing of what is committed meanwhile.
func TestCompactBesideCommits(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{LogBytes: 4096})
	fill(t, e, 5000)
	want := load(t, e)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			ops := []store.Op{set("b", fmt.Sprint(n%100), fmt.Sprint(n)), del("bench", benchKey(n%5000))}
			if err := e.Commit(ops); err != nil {
				t.Error(err)
				return
			}
			want.apply(ops...)
		}
	})
	for range 10 {
		require.NoError(t, e.Compact(t.Context()))
	}
	stop()
	wg.Wait()
	require.Equal(t, want, load(t, e))
	require.NoError(t, e.Close())
	require.Equal(t, want, loadDir(t, dir))
}

func TestCompactEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	e := open(t, dir, disk.WithFault(disk.Options{}, func(step string) error {
		if step == "apply" {
			cancel() // while the compaction goes on
		}
		return nil
	}))
	fill(t, e, 1000)
	want := load(t, e)
	require.ErrorIs(t, e.Compact(ctx), context.Canceled)
	require.Zero(t, e.Stats().Compactions)
	require.Len(t, snapshot(t, dir), 3, "no temporary file is left")
	require.Equal(t, want, load(t, e))
	require.NoError(t, e.Compact(t.Context()))
	require.Equal(t, want, load(t, e))
}
