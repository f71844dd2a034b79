package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

func TestCommitAppliesInOrder(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	for _, ops := range [][]store.Op{
		{set("a", "k", "1"), set("a", "k", "2")},
		{set("b", "k", "1"), drop("b"), set("b", "l", "2"), set("b", "m", "3")},
		{del("b", "m"), del("b", "unknown"), del("unknown", "k"), drop("unknown")},
		{set("c", "k", "1")},
		{drop("c")},
		{set("d", "k", "1"), del("d", "k")},
		{set("\x00", "\xff", "binary"), set("\xff", "\x00", "\x00")},
		nil,
	} {
		require.NoError(t, e.Commit(ops))
	}
	want := content{
		"a": {"k": "2"}, "b": {"l": "2"},
		"\x00": {"\xff": "binary"}, "\xff": {"\x00": "\x00"},
	}
	require.Equal(t, want, load(t, e), "from the log")
	require.NoError(t, e.Close())
	require.Equal(t, want, loadDir(t, dir), "from the database")
}

func TestCommitRefusesWhatIsNoOp(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1024)
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	for _, op := range []store.Op{
		{},
		{Key: "k", Value: []byte("v")},
		set(long+"x", "k", "v"), set("b", long+"x", "v"), set("b", "", "v"),
		set("b", "k", ""),
	} {
		err := e.Commit([]store.Op{set("b", "k", "v"), op})
		require.ErrorIs(t, err, plugbus.ErrInvalid, "%.20q %.20q", op.Bucket, op.Key)
		require.ErrorIs(t, err, store.ErrNotDone)
	}
	require.Empty(t, load(t, e))
	require.NoError(t, e.Commit([]store.Op{set(long, long, "v")}), "a mistake of the caller ends nothing")
	require.NoError(t, e.Close())
	require.Equal(t, content{long: {long: "v"}}, loadDir(t, dir))
}

func TestCommitKeepsNothingOfItsOps(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{})
	ops := []store.Op{set("b", "k", "right"), set("b", "l", "right")}
	require.NoError(t, e.Commit(ops))
	copy(ops[0].Value, "wrong")
	ops[1] = drop("b")
	require.Equal(t, content{"b": {"k": "right", "l": "right"}}, load(t, e))
}

func TestOpenMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "a", "b")
	require.NoError(t, open(t, dir, disk.Options{}).Close())
	for _, test := range []struct {
		name string
		want os.FileMode
	}{{".", 0o700 | os.ModeDir}, {"plugbus.db", 0o600}, {"plugbus.log", 0o600}, {"plugbus.lock", 0o600}} {
		info, err := os.Stat(filepath.Join(dir, test.name))
		require.NoError(t, err)
		require.Equal(t, test.want, info.Mode(), test.name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3)
}

// TestOpenNeedsADirectory shows that what is no directory is refused, and stays as it is.
func TestOpenNeedsADirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err := disk.Open(path, disk.Options{})
	require.EqualError(t, err, fmt.Sprintf("disk: open %q: invalid argument: it is a file; expected a directory", path))
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = disk.Open(filepath.Join(path, "below"), disk.Options{})
	require.Error(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(content))
	_, err = disk.Open("", disk.Options{})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.EqualError(t, err, `disk: open "": invalid argument: expected the path of a directory, such as "."`)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int64{-1, 1, 4095, 1<<30 + 1} {
		dir := filepath.Join(newDir(t), "new")
		_, err := disk.Open(dir, disk.Options{LogBytes: bytes})
		require.ErrorIs(t, err, plugbus.ErrInvalid, bytes)
		require.ErrorContains(t, err, "LogBytes")
		require.NoDirExists(t, dir)
	}
}

// TestLogIsBounded shows that checkpoints keep the log short, and lose nothing.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{LogBytes: 4096})
	want := make(content)
	for n := range 2000 {
		op := set("b", fmt.Sprint(rand.IntN(50)), fmt.Sprint("value ", n))
		require.NoError(t, e.Commit([]store.Op{op}))
		want.apply(op)
		s := e.Stats()
		require.LessOrEqual(t, s.LogBytes, 4*max(s.DatabaseBytes, 4096)+4096)
	}
	s := e.Stats()
	require.NotZero(t, s.Checkpoints)
	require.EqualValues(t, 2000, s.Commits)
	require.EqualValues(t, 2000, s.Ops)
	require.EqualValues(t, 2000, s.Syncs, "one for each commit")
	require.Equal(t, want, load(t, e))
	require.NoError(t, e.Close())
	require.Equal(t, want, loadDir(t, dir))
}

func TestLoadEndsAtAnError(t *testing.T) {
	t.Parallel()
	e := open(t, newDir(t), disk.Options{})
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v"), set("b", "l", "v")}))
	calls, cause := 0, errors.New("enough")
	err := e.Load(func(string, string, []byte) error { calls++; return cause })
	require.ErrorIs(t, err, cause)
	require.Equal(t, 1, calls)
}

func TestClose(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
	require.NoError(t, e.Close())
	require.NoError(t, e.Close(), "again")

	err := e.Commit([]store.Op{set("b", "k", "w")})
	require.ErrorIs(t, err, plugbus.ErrClosed)
	require.ErrorIs(t, err, store.ErrNotDone)
	_, err = e.Backup(t.Context(), nil)
	require.ErrorIs(t, err, plugbus.ErrClosed)
	require.ErrorIs(t, e.Compact(t.Context()), plugbus.ErrClosed)
	require.ErrorIs(t, e.Load(nil), plugbus.ErrClosed)
	require.Equal(t, content{"b": {"k": "v"}}, loadDir(t, dir))
}
