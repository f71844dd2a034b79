package disk_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// TestCrashAtEveryStep copies the directory before each step that an engine does, from
// the making of the directory to its compaction and the return of a backup. Each copy
// opens, and holds what was acknowledged by then, and perhaps the commit that was going
// on (D12).
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var mu sync.Mutex // guards what a checkpoint in the background looks at
	acknowledged, going := make(content), make(content)
	steps := make(map[string]int)
	o := disk.WithFault(disk.Options{LogBytes: 4096}, func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		steps[step]++
		image := copyDir(t, dir)
		for _, name := range []string{"plugbus.db.tmp", "plugbus.log.tmp"} {
			if _, err := os.Stat(filepath.Join(image, name)); err == nil {
				edit(t, image, name, func(b []byte) []byte { return b[:rand.IntN(len(b)+1)] }) // It was not synced.
			}
		}
		got := loadDir(t, image)
		if differences(got, acknowledged) > 0 {
			require.Equal(t, going, got, "before %s", step)
		}
		entries, err := os.ReadDir(image)
		require.NoError(t, err)
		require.Len(t, entries, 3, "nothing is left of the crash")
		return nil
	})

	e := open(t, dir, o)
	commit := func(ops ...store.Op) {
		t.Helper()
		apply := func(c content) {
			mu.Lock()
			defer mu.Unlock()
			c.apply(ops...)
		}
		apply(going)
		require.NoError(t, e.Commit(ops))
		apply(acknowledged)
		e.Wait() // So that a copy is of one moment.
	}
	for n := range 12 {
		commit(set("b", fmt.Sprint(n%5), strings.Repeat("v", 1+3000*n)), set("c", fmt.Sprint(n), "v"), del("b", fmt.Sprint(n-2)))
	}
	commit(drop("c"))
	require.NoError(t, e.Compact(t.Context()))
	commit(set("d", "k", "v"))

	backup, err := os.Create(filepath.Join(newDir(t), disk.BackupName))
	require.NoError(t, err)
	_, err = e.Backup(t.Context(), backup)
	require.NoError(t, err)
	require.NoError(t, backup.Close())
	require.NoError(t, e.Close())

	dir = filepath.Dir(backup.Name())
	e = open(t, dir, o)
	commit(set("e", "k", "v"))
	require.NoError(t, e.Close())
	for _, step := range []string{"append", "append sync", "log sync", "rename", "renamed", "apply", "compacted"} {
		require.NotZero(t, steps[step], step)
	}
}

// crashRounds names how many times TestCrashByKill kills a process. More are better, and
// slower.
const crashRounds = "PLUGBUS_CRASH_ROUNDS"

// TestCrashByKill kills a process at random moments, while it commits, makes checkpoints and
// compacts. Nothing that it has acknowledged is missing, and no commit is there in part (D12).
func TestCrashByKill(t *testing.T) {
	t.Parallel()
	rounds := 5
	if s := os.Getenv(crashRounds); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err, "%s is the number of rounds", crashRounds)
	}
	dir := filepath.Join(t.TempDir(), "new")
	want, done := make(content), 0
	for range rounds {
		cmd := child(t, "commit", dir, strconv.Itoa(done))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		acknowledged := done
		lines := bufio.NewScanner(out)
		for stop := rand.IntN(400); stop > 0 && lines.Scan(); stop-- {
			acknowledged, err = strconv.Atoi(lines.Text())
			require.NoError(t, err)
		}
		for range rand.IntN(1_000_000) { // Any moment will do.
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
			acknowledged, err = strconv.Atoi(lines.Text())
			require.NoError(t, err)
		}
		require.Error(t, cmd.Wait())

		got := loadDir(t, dir)
		n, err := strconv.Atoi("0" + got["number"]["n"])
		require.NoError(t, err)
		require.Contains(t, []int{acknowledged, acknowledged + 1}, n)
		for ; done < n; done++ {
			want.apply(numbered(done + 1)...)
		}
		require.Equal(t, want, got, "after commit %d", n)
	}
}

// numbered returns the ops of commit n of TestCrashByKill.
func numbered(n int) []store.Op {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	ops := []store.Op{set("number", "n", strconv.Itoa(n))}
	for range 1 + r.IntN(8) {
		bucket, key := fmt.Sprint("b", r.IntN(4)), fmt.Sprint(r.IntN(200))
		switch r.IntN(20) {
		case 0:
			ops = append(ops, drop(bucket))
		case 1, 2, 3:
			ops = append(ops, del(bucket, key))
		default:
			ops = append(ops, set(bucket, key, strings.Repeat(key, 1+r.IntN(300))))
		}
	}
	return ops
}

func commitChild() {
	e, err := disk.Open(os.Args[1], disk.Options{LogBytes: 1 << 16})
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(os.Args[2])
	for err == nil {
		n++
		err = e.Commit(numbered(n))
		if err == nil {
			_, err = io.WriteString(os.Stdout, strconv.Itoa(n)+"\n")
		}
		if n%100 == 0 && err == nil {
			err = e.Compact(noContext())
		}
	}
	panic(err)
}
