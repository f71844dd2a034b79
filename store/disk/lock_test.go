package disk_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

func TestLockInOneProcess(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	again := func() {
		t.Helper()
		_, err := disk.Open(dir, disk.Options{})
		require.ErrorIs(t, err, disk.ErrLocked)
		require.ErrorContains(t, err, fmt.Sprintf("%q is in use by this process", dir))
	}
	again()
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
	require.NoError(t, e.Compact(t.Context()))
	again() // The lock is not that of the file that was replaced.
	require.NoError(t, e.Close())
	require.Equal(t, content{"b": {"k": "v"}}, loadDir(t, dir))
}

// TestLockAmongProcesses shows that the lock holds against another process, says which
// one it is, and ends when that is killed.
func TestLockAmongProcesses(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cmd := child(t, "hold", dir)
	_, err := cmd.StdinPipe() // It reads until it is killed.
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)

	_, err = disk.Open(dir, disk.Options{})
	require.ErrorIs(t, err, disk.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("%q is in use by process %d", dir, cmd.Process.Pid))

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Equal(t, content{"b": {"k": "v"}}, loadDir(t, dir))
}

func holdChild() {
	e, err := disk.Open(os.Args[1], disk.Options{})
	if err == nil {
		err = e.Commit([]store.Op{set("b", "k", "v")})
	}
	if err != nil {
		panic(err)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestLockIsTakenOnce opens a directory from many goroutines at once. All but one are
// refused; also where each refuses what it finds, and leaves nothing.
func TestLockIsTakenOnce(t *testing.T) {
	t.Parallel()
	race := func(dir string) (opened int64) {
		var wg sync.WaitGroup
		var n, refused atomic.Int64
		for range 16 {
			wg.Go(func() {
				e, err := disk.Open(dir, disk.Options{})
				if err != nil {
					refused.Add(1)
					return
				}
				n.Add(1)
				for refused.Load() < 15 && n.Load() == 1 {
					_ = e.Stats() // It stays open until the others have tried.
				}
				_ = e.Close()
			})
		}
		wg.Wait()
		return n.Load()
	}
	require.EqualValues(t, 1, race(newDir(t)))

	dir := newDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plugbus.db"), []byte("a text"), 0o600))
	before := snapshot(t, dir)
	require.Zero(t, race(dir))
	require.Equal(t, before, snapshot(t, dir))
}
