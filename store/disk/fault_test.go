package disk_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

func noContext() context.Context { return context.Background() }

var errFault = errors.New("the disk is on fire")

// A faulty disk fails at one kind of step, from some time on.
type faulty struct {
	step  string
	after int // how many times it works
	times int // how many times it fails then
}

func (f *faulty) fault(step string) error {
	if step != f.step {
		return nil
	}
	if f.after--; f.after >= 0 {
		return nil
	}
	if f.times--; f.times >= 0 {
		return errFault
	}
	return nil
}

// TestFailedCommit fails each step of a commit, once or for ever. The error says whether
// the commit may be seen, all later ones are refused, and reopening is clean.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	const ever = 1 << 30
	for _, test := range []struct {
		faulty
		notDone bool
		seen    bool // after reopening
	}{
		{faulty{"extend", 0, 1}, true, false},
		{faulty{"append", 1, 1}, true, false},
		{faulty{"append", 1, ever}, false, false},
		{faulty{"append sync", 1, 1}, true, false}, // The zeros over the frame were synced.
		{faulty{"append sync", 1, ever}, false, false},
		{faulty{"append sync", 1, 2}, false, false},
	} {
		dir := newDir(t)
		f := test.faulty
		e := open(t, dir, disk.WithFault(disk.Options{}, f.fault))
		require.NoError(t, e.Commit([]store.Op{set("b", "k", "old")}))
		value := string(make([]byte, 2<<20)) // More than there is room for.
		err := e.Commit([]store.Op{set("b", "k", value)})
		require.ErrorIs(t, err, errFault, test.faulty)
		require.Equal(t, test.notDone, errors.Is(err, store.ErrNotDone), test.faulty)
		require.Equal(t, content{"b": {"k": "old"}}, load(t, e), "what was committed can be read")

		later := e.Commit([]store.Op{set("b", "l", "late")})
		require.ErrorIs(t, later, errFault, "the first error")
		require.ErrorIs(t, later, store.ErrNotDone)
		require.Contains(t, e.Stats().Err, errFault.Error())

		require.NoError(t, e.Close())
		e = open(t, dir, disk.Options{})
		require.Equal(t, content{"b": {"k": "old"}}, load(t, e), test.faulty)
		require.NoError(t, e.Commit([]store.Op{set("b", "l", "late")}), "reopening is clean")
		require.NoError(t, e.Close())
	}
}

// TestUnknownCommit shows a commit that is seen after it failed: its sync failed, and so
// did taking it back. It was not said that it is not done.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	failed := false
	e := open(t, dir, disk.WithFault(disk.Options{}, func(step string) error {
		failed = failed || step == "append sync"
		if failed {
			return errFault
		}
		return nil
	}))
	err := e.Commit([]store.Op{set("b", "k", "v")})
	require.ErrorIs(t, err, errFault)
	require.NotErrorIs(t, err, store.ErrNotDone)
	require.NoError(t, e.Close())
	require.Equal(t, content{"b": {"k": "v"}}, loadDir(t, dir))
}

// TestFailedCheckpoint fails each step of a checkpoint. The next commits are refused, and
// nothing that was committed is lost.
func TestFailedCheckpoint(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"apply", "log sync", "rename", "renamed"} {
		dir := newDir(t)
		made := 1 // times that the step is done in making the directory
		if step == "apply" {
			made = 0
		} else if step != "log sync" {
			made = 2
		}
		f := &faulty{step: step, after: made, times: 1}
		e := open(t, dir, disk.WithFault(disk.Options{LogBytes: 4096}, f.fault))
		want := make(content)
		for range 5 {
			op := set("b", "k", string(make([]byte, 20_000)))
			require.NoError(t, e.Commit([]store.Op{op}), step)
			want.apply(op)
			if e.Wait(); e.Stats().Err != "" {
				break
			}
		}
		err := e.Commit([]store.Op{set("b", "l", "late")})
		require.ErrorIs(t, err, errFault, step)
		require.ErrorIs(t, err, store.ErrNotDone, step)
		if step == "apply" {
			require.ErrorIs(t, e.Load(nil), errFault, "the database is not used any more")
		} else {
			require.Equal(t, want, load(t, e), step)
		}
		_, err = e.Backup(t.Context(), discard{})
		require.Equal(t, step == "apply", err != nil, step)
		require.NoError(t, e.Close())
		require.Equal(t, want, loadDir(t, dir), step)
	}
}

// TestFailedCompaction fails each step of a compaction. The old file stays in use, unless
// it is unknown which one a crash would leave; nothing is lost.
func TestFailedCompaction(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		faulty
		ends bool // all committing
	}{
		{faulty{"compacted", 0, 1}, false},
		{faulty{"rename", 3, 1}, false}, // after those of the log, the database, and the checkpoint
		{faulty{"renamed", 3, 1}, true},
	} {
		dir := newDir(t)
		f := test.faulty
		e := open(t, dir, disk.WithFault(disk.Options{}, f.fault))
		require.NoError(t, e.Commit([]store.Op{set("b", "k", "v")}))
		require.ErrorIs(t, e.Compact(t.Context()), errFault, test.step)
		require.Zero(t, e.Stats().Compactions)
		require.Len(t, snapshot(t, dir), 3, "no temporary file is left")
		err := e.Commit([]store.Op{set("b", "l", "v")})
		want := content{"b": {"k": "v", "l": "v"}}
		if test.ends {
			require.ErrorIs(t, err, errFault, test.step)
			want.apply(del("b", "l"))
		} else {
			require.NoError(t, err, test.step)
			require.Equal(t, want, load(t, e), test.step)
			require.NoError(t, e.Compact(t.Context()))
		}
		require.NoError(t, e.Close())
		require.Equal(t, want, loadDir(t, dir), test.step)
	}
}
