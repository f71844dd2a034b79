package disk_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

var _ store.Backend = (*disk.Engine)(nil)

// childEnv names what a process that a test has started is to do.
const childEnv = "PLUGBUS_DISK_CHILD"

func TestMain(m *testing.M) {
	switch name := os.Getenv(childEnv); name {
	case "":
		goleak.VerifyTestMain(m)
	case "hold":
		holdChild()
	case "commit":
		commitChild()
	default:
		if !systemChild(name) {
			panic("no child " + name)
		}
	}
}

// child returns a command that does in another process what name says.
func child(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// open returns an engine that is closed when the test ends.
func open(t testing.TB, dir string, o disk.Options) *disk.Engine {
	t.Helper()
	e, err := disk.Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// A content is what a directory holds: values by bucket and key.
type content map[string]map[string]string

func load(t testing.TB, e *disk.Engine) content {
	t.Helper()
	c := make(content)
	var last [2]string
	require.NoError(t, e.Load(func(bucket, key string, value []byte) error {
		require.True(t, last[0] < bucket || last[0] == bucket && last[1] < key, "%q %q after %q", bucket, key, last)
		last = [2]string{bucket, key}
		c.apply(store.Op{Bucket: bucket, Key: key, Value: value})
		return nil
	}))
	return c
}

// loadDir opens a directory, and returns what it holds.
func loadDir(t testing.TB, dir string) content {
	t.Helper()
	e, err := disk.Open(dir, disk.Options{})
	require.NoError(t, err)
	c := load(t, e)
	require.NoError(t, e.Close())
	return c
}

func (c content) apply(ops ...store.Op) {
	for _, op := range ops {
		switch {
		case op.Key == "":
			delete(c, op.Bucket)
		case op.Value == nil:
			delete(c[op.Bucket], op.Key)
			if len(c[op.Bucket]) == 0 {
				delete(c, op.Bucket)
			}
		default:
			if c[op.Bucket] == nil {
				c[op.Bucket] = make(map[string]string)
			}
			c[op.Bucket][op.Key] = string(op.Value)
		}
	}
}

func set(bucket, key, value string) store.Op {
	return store.Op{Bucket: bucket, Key: key, Value: []byte(value)}
}

func del(bucket, key string) store.Op { return store.Op{Bucket: bucket, Key: key} }

func drop(bucket string) store.Op { return store.Op{Bucket: bucket} }

// newDir returns an empty directory, in memory where that is possible: most tests open
// many, and do not need the syncs of a real disk.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "plugbus-disk-") //nolint:usetesting // t.TempDir is on a disk.
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// copyDir copies the files of a directory, as a crash would leave them.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := newDir(t)
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// snapshot returns the bytes of all files of a directory, with their names and modes.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		name := fmt.Sprint(entry.Name(), " ", entry.Type())
		files[name] = ""
		if entry.Type().IsRegular() {
			b, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			require.NoError(t, err)
			files[name] = string(b)
		}
	}
	return files
}
