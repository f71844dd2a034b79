package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// TestWhatIsDurable asks the kernel what of the files it has not yet written: nothing,
// whenever a call has returned that made something durable, or a file gets its name.
func TestWhatIsDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // on a real disk, as far as that is there
	probe := filepath.Join(dir, "probe")
	require.NoError(t, os.WriteFile(probe, make([]byte, 1<<20), 0o600))
	if n, err := unwritten(probe); n == 0 || err != nil {
		t.Skipf("the kernel does not tell here what it has not written: %d pages, %v", n, err)
	}
	check := func(after string) {
		t.Helper()
		for _, name := range []string{"plugbus.db", "plugbus.log"} {
			n, err := unwritten(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Zero(t, n, "pages of %s after %s", name, after)
		}
	}
	o := disk.WithFault(disk.Options{LogBytes: 4096}, func(step string) error {
		for _, name := range []string{"plugbus.db.tmp", "plugbus.log.tmp", disk.BackupName} {
			if n, err := unwritten(filepath.Join(dir, name)); step == "rename" && (n != 0 || err != nil && !errors.Is(err, os.ErrNotExist)) {
				t.Errorf("%d pages of %s before it is renamed, %v", n, name, err)
			}
		}
		return nil
	})
	e := open(t, dir, o)
	check("making the directory")
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
	check("a commit")
	require.NoError(t, e.Commit([]store.Op{set("b", "k", string(make([]byte, 1<<20)))}))
	check("a commit that needs room")
	e.Wait()
	require.NotZero(t, e.Stats().Checkpoints)
	check("a checkpoint")
	require.NoError(t, e.Compact(t.Context()))
	check("a compaction")
	require.NoError(t, e.Close())

	crashed, _ := crashed(t)
	edit(t, crashed, "plugbus.log", func(b []byte) []byte { return b[:200] }) // It is torn.
	for _, name := range []string{"plugbus.db", "plugbus.log"} {
		b, err := os.ReadFile(filepath.Join(crashed, name))
		require.NoError(t, err)
		edit(t, dir, name, func([]byte) []byte { return b })
		require.NoError(t, syncPath(filepath.Join(dir, name)))
	}
	e = open(t, dir, o)
	check("trimming a log")
	require.NoError(t, e.Close())

	b, err := os.ReadFile(filepath.Join(dir, "plugbus.db"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "plugbus.db")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, disk.BackupName), b, 0o600)) // not synced
	e = open(t, dir, o)
	check("taking up a backup")
	require.NoError(t, e.Close())
}

func syncPath(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// unwritten returns how many pages of a file are in memory only.
func unwritten(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	const cachestat = 451 // Its number is the same on all machines.
	var all struct{ offset, length uint64 }
	var pages struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }
	_, _, errno := syscall.Syscall6(cachestat, f.Fd(), uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&pages)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return pages.dirty + pages.writeback, nil
}
