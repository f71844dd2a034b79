package disk_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// crashed returns a directory with pairs in the database and others in the log, as a
// crash has left it, and what it holds.
func crashed(t testing.TB) (string, content) {
	t.Helper()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	fill(t, e, 300)
	_, err := e.Backup(t.Context(), discard{}) // It makes a checkpoint.
	require.NoError(t, err)
	for _, op := range []store.Op{set("b", "k", "v"), set("c", "k", "v"), del("bench", benchKey(7))} {
		require.NoError(t, e.Commit([]store.Op{op}))
	}
	want := load(t, e)
	dir = copyDir(t, dir)
	require.NoError(t, e.Close())
	return dir, want
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// edit changes the file name of dir.
func edit(t testing.TB, dir, name string, change func(b []byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(b), 0o600))
}

// TestOpenRefuses has a line for each kind of directory that is refused. Nothing in it
// changes. TestLogDamage and TestDatabaseDamage have the rest.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const database, log, backup = "plugbus.db", "plugbus.log", disk.BackupName
	empty := func([]byte) []byte { return nil }
	text := func([]byte) []byte { return []byte(strings.Repeat("what somebody has written to somebody else\n", 5)) }
	for _, test := range []struct {
		want   error
		file   string
		reason string
		change func(t *testing.T, dir string)
	}{
		{disk.ErrDamaged, database, "it has 0 bytes", func(t *testing.T, dir string) { edit(t, dir, database, empty) }},
		{disk.ErrForeign, database, "it is no bbolt file", func(t *testing.T, dir string) { edit(t, dir, database, text) }},
		{disk.ErrDamaged, database, "cut off", func(t *testing.T, dir string) {
			edit(t, dir, database, func(b []byte) []byte { return b[:5*4096] })
		}},
		{disk.ErrForeign, database, `it has a "theirs"`, func(t *testing.T, dir string) { writeForeign(t, dir, database, 4096) }},
		{disk.ErrForeign, database, "pages of 8192 bytes", func(t *testing.T, dir string) { writeForeign(t, dir, database, 8192) }},
		{disk.ErrForeign, database, "not a regular file", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, database)))
			require.NoError(t, os.Mkdir(filepath.Join(dir, database), 0o700))
		}},
		{disk.ErrDamaged, database, "it is missing", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, database)))
		}},
		{disk.ErrDamaged, database, "it is missing", func(t *testing.T, dir string) {
			require.NoError(t, open(t, dir, disk.Options{}).Close()) // It empties the log.
			require.NoError(t, os.Remove(filepath.Join(dir, database)))
		}},
		{disk.ErrDamaged, log, "it is missing", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, log)))
		}},
		{disk.ErrDamaged, log, "ends within its header", func(t *testing.T, dir string) { edit(t, dir, log, empty) }},
		{disk.ErrForeign, log, "does not begin as a log", func(t *testing.T, dir string) {
			edit(t, dir, log, func(b []byte) []byte { clear(b); return b })
		}},
		{disk.ErrDamaged, log, "commit 2 is not readable", func(t *testing.T, dir string) {
			edit(t, dir, log, func(b []byte) []byte { b[65]++; return b })
		}},
		{disk.ErrForeign, log, "belongs to another database", func(t *testing.T, dir string) {
			other, _ := crashed(t)
			edit(t, dir, log, func([]byte) []byte {
				b, err := os.ReadFile(filepath.Join(other, log))
				require.NoError(t, err)
				return b
			})
		}},
		{disk.ErrDamaged, log, "begins after commit 4, but the database ends with commit 1", func(t *testing.T, dir string) {
			newer := copyDir(t, dir) // The database alone is taken back to an older one.
			require.NoError(t, open(t, newer, disk.Options{}).Close())
			edit(t, dir, log, func([]byte) []byte {
				b, err := os.ReadFile(filepath.Join(newer, log))
				require.NoError(t, err)
				return b
			})
		}},
		{disk.ErrForeign, backup, "a backup is taken up where there is no", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, backup), nil, 0o600))
		}},
		{disk.ErrDamaged, backup, "it has 0 bytes", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, backup), nil, 0o600))
		}},
		{disk.ErrDamaged, database, "it is missing", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, database), filepath.Join(dir, backup)))
		}},
	} {
		dir, _ := crashed(t)
		test.change(t, dir)
		// What a crash has left is removed only where all is well.
		require.NoError(t, os.WriteFile(filepath.Join(dir, database+".tmp"), []byte("half"), 0o600))
		before := snapshot(t, dir)
		_, err := disk.Open(dir, disk.Options{})
		require.ErrorIs(t, err, test.want, test.reason)
		require.ErrorContains(t, err, test.reason)
		refused, ok := errors.AsType[*disk.FileError](err)
		require.True(t, ok, test.reason)
		require.Equal(t, filepath.Join(dir, test.file), refused.Path)
		require.Equal(t, before, snapshot(t, dir), test.reason)
	}
}

// writeForeign puts the bbolt file of another program in the place of a file.
func writeForeign(t *testing.T, dir, name string, pageSize int) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.Remove(path))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}))
	require.NoError(t, db.Close())
}

// TestDamageIsFoundOrHarmless cuts files off and flips bits of them at random. Open
// refuses and changes nothing, or what it loads is right. It never panics.
func TestDamageIsFoundOrHarmless(t *testing.T) {
	t.Parallel()
	sample, want := crashed(t)
	for range 400 {
		dir := copyDir(t, sample)
		name := []string{"plugbus.db", "plugbus.log"}[rand.IntN(2)]
		cut := -1
		edit(t, dir, name, func(b []byte) []byte {
			size := len(b)
			if name == "plugbus.log" {
				size = 400 // What follows is room.
			}
			if rand.IntN(2) == 0 {
				cut = rand.IntN(size)
				return b[:cut]
			}
			b[rand.IntN(size)] ^= 1 << rand.IntN(8)
			return b
		})
		before := snapshot(t, dir)
		e, err := disk.Open(dir, disk.Options{})
		if err != nil {
			_, ok := errors.AsType[*disk.FileError](err)
			require.True(t, ok, err)
			require.Equal(t, before, snapshot(t, dir))
			continue
		}
		got := load(t, e)
		require.NoError(t, e.Close())
		if name == "plugbus.log" && cut >= 0 { // TestEveryPrefixOfALog says more.
			require.LessOrEqual(t, differences(want, got), 3)
		} else {
			require.Equal(t, want, got)
		}
	}
}

// differences counts the pairs that are not in both.
func differences(a, b content) int {
	n := 0
	for bucket, values := range a {
		for key, value := range values {
			if got, ok := b[bucket][key]; !ok || got != value {
				n++
			}
		}
	}
	for bucket, values := range b {
		for key := range values {
			if _, ok := a[bucket][key]; !ok {
				n++
			}
		}
	}
	return n
}

// TestOpenTrimsATornLog shows that what a crash has left of a long commit is not in the
// way of short ones later.
func TestOpenTrimsATornLog(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	e := open(t, dir, disk.Options{})
	require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
	require.NoError(t, e.Commit([]store.Op{set("b", "k", strings.Repeat("long", 1000))}))
	dir = copyDir(t, dir)
	require.NoError(t, e.Close())
	edit(t, dir, "plugbus.log", func(b []byte) []byte { return b[:2000] })

	want := content{"b": {"k": "v"}}
	for n := range 3 {
		e := open(t, dir, disk.Options{})
		require.Equal(t, want, load(t, e))
		op := set("b", "k", string(rune('0'+n)))
		require.NoError(t, e.Commit([]store.Op{op}))
		want.apply(op)
		dir = copyDir(t, dir)
		require.NoError(t, e.Close())
	}
	require.Equal(t, want, loadDir(t, dir))
}
