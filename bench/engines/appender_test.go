package engines_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/bench/engines"
)

// TestAppenderWritesTheBytesAndNoMore holds the measure of durable sets to what it is
// said to be: the bytes of the pairs, each with its lengths.
func TestAppenderWritesTheBytesAndNoMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := engines.OpenAppender(dir)
	require.NoError(t, err)
	pairs := engines.Pairs(20)
	for i, p := range pairs {
		require.NoError(t, a.Set(p.Key, p.Value))
		info, err := os.Stat(filepath.Join(dir, "records"))
		require.NoError(t, err)
		require.EqualValues(t, (i+1)*(8+engines.KeyBytes+engines.ValueBytes), info.Size(), "it is in the file when Set returns")
	}
	require.NoError(t, a.Close())
}

func TestAppenderReportsTheEndOfItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := engines.OpenAppender(dir)
	require.NoError(t, err)
	pairs := engines.Pairs(2)
	for _, p := range pairs {
		require.NoError(t, a.Set(p.Key, p.Value))
	}
	const record = 8 + engines.KeyBytes + engines.ValueBytes
	for _, size := range []int64{2*record - 1, record + 8, record + 1} {
		require.NoError(t, os.Truncate(filepath.Join(dir, "records"), size))
		visited := 0
		err = a.Each(func(string, []byte) error { visited++; return nil })
		require.ErrorContains(t, err, "ends early", "%d bytes", size)
		require.Equal(t, 1, visited)
	}
	require.NoError(t, a.Close())
}

// TestAppenderReportsAFailedWriteToAll shows that no member of a group is told that
// its record is durable when it is not, and that the next group gets its turn.
func TestAppenderReportsAFailedWriteToAll(t *testing.T) {
	t.Parallel()
	a, err := engines.OpenAppender(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, a.Close())
	errs := make(chan error)
	for range 16 {
		go func() { errs <- a.Set("key", []byte("value")) }()
	}
	for range 16 {
		require.ErrorIs(t, <-errs, os.ErrClosed)
	}
	require.ErrorIs(t, a.Each(func(string, []byte) error { return io.EOF }), os.ErrClosed)
}
