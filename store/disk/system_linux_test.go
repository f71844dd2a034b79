package disk_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// TestFileTooLarge commits in a process whose files may not grow beyond a limit, so that
// writes fail in the middle. The log meets the limit where LogBytes is large, the
// database file where it is small. What was acknowledged is there, and nothing else.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	for _, logBytes := range []int64{1 << 30, 1 << 16} {
		for _, limit := range []int{300_000, 3_000_001} {
			dir := newDir(t)
			out, err := child(t, "limited", dir, fmt.Sprint(logBytes), fmt.Sprint(limit)).Output()
			require.NoError(t, err)
			n := checkFailed(t, string(out), syscall.EFBIG)
			require.Equal(t, filled(n), loadDir(t, dir), "limit %d, log of %d", limit, logBytes)
		}
	}
}

// TestFullDisk commits on a file system without room for more, opens the directory there
// again, and goes on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, logBytes := range []int64{1 << 30, 1 << 16} {
		dir := t.TempDir() // The child mounts something on it that nobody else sees.
		cmd := child(t, "full", dir, fmt.Sprint(logBytes))
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.Output()
		if errors.Is(err, syscall.EPERM) || strings.HasPrefix(string(out), "no mount") {
			t.Skipf("a process of its own may not mount a tmpfs here: %v %s", err, out)
		}
		require.NoError(t, err)
		acknowledged, rest, _ := strings.Cut(string(out), "\nreopened\n")
		checkFailed(t, acknowledged, syscall.ENOSPC)
		require.Equal(t, "all is there\nit goes on\n", rest)
	}
}

// checkFailed checks what a child has said of its last commit, and returns how many were
// acknowledged.
func checkFailed(t *testing.T, out string, cause syscall.Errno) int {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 3, out)
	n, err := strconv.Atoi(lines[0])
	require.NoError(t, err)
	require.NotZero(t, n)
	require.Contains(t, lines[1], cause.Error())
	require.Equal(t, "not done: true, later not done: true", lines[2])
	return n
}

// filled is what a directory holds after n commits of commitUntilItFails.
func filled(n int) content {
	c := make(content)
	for i := range n {
		c.apply(fillOp(i))
	}
	return c
}

func fillOp(i int) store.Op {
	return set("b", fmt.Sprint(i), strings.Repeat(string(rune('a'+i%26)), 10_000))
}

// commitUntilItFails commits, and says how it failed.
func commitUntilItFails(e *disk.Engine) (n int) {
	var err error
	for ; err == nil; n++ {
		err = e.Commit([]store.Op{fillOp(n)})
	}
	n--
	later := e.Commit([]store.Op{fillOp(n)})
	fmt.Printf("%d\n%q\nnot done: %t, later not done: %t\n", n, err, errors.Is(err, store.ErrNotDone), errors.Is(later, store.ErrNotDone))
	return n
}

func systemChild(name string) bool {
	logBytes, err := strconv.ParseInt(os.Args[2], 10, 64)
	must(err)
	switch o := (disk.Options{LogBytes: logBytes}); name {
	case "limited":
		limit, err := strconv.ParseUint(os.Args[3], 10, 64)
		must(err)
		signal.Ignore(syscall.SIGXFSZ)
		must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}))
		e, err := disk.Open(os.Args[1], o)
		must(err)
		commitUntilItFails(e)
		_ = e.Close() // It may not be able to make a checkpoint.
	case "full":
		fullChild(os.Args[1], o)
	default:
		return false
	}
	return true
}

func fullChild(dir string, o disk.Options) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		fmt.Println("no mount:", err)
		return
	}
	ballast := filepath.Join(dir, "ballast")
	must(os.WriteFile(ballast, make([]byte, 5<<20), 0o600))
	e, err := disk.Open(dir, o)
	must(err)
	n := commitUntilItFails(e)
	_ = e.Close()

	fmt.Println("reopened")
	check := func(e *disk.Engine, n int) {
		got := 0
		must(e.Load(func(_, key string, value []byte) error {
			i, err := strconv.Atoi(key)
			if err != nil || i >= n || string(fillOp(i).Value) != string(value) {
				return fmt.Errorf("%q is not as it was", key)
			}
			got++
			return nil
		}))
		if got != n {
			panic(fmt.Sprintf("%d pairs, want %d", got, n))
		}
	}
	e, err = disk.Open(dir, o)
	must(err)
	check(e, n)
	fmt.Println("all is there")
	_ = e.Close()

	must(os.Remove(ballast))
	e, err = disk.Open(dir, o)
	must(err)
	must(e.Commit([]store.Op{fillOp(n)}))
	must(e.Close())
	e, err = disk.Open(dir, o)
	must(err)
	check(e, n+1)
	must(e.Close())
	fmt.Println("it goes on")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
