package disk_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// TestModel compares an engine with a map, over crashes, compactions and backups.
func TestModel(t *testing.T) {
	t.Parallel()
	ops := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) store.Op {
		op := store.Op{
			Bucket: rapid.SampledFrom([]string{"a", "b", "bb", "c", "\x00", "plugbus"}).Draw(r, "bucket"),
			Key:    rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "\x00", "\xff", "ff"}).Draw(r, "key"),
		}
		if op.Key != "" && rapid.IntRange(0, 3).Draw(r, "set") > 0 {
			size := rapid.SampledFrom([]int{1, 10, 100, 1000, 5000, 50_000}).Draw(r, "size")
			op.Value = bytes.Repeat([]byte{rapid.Byte().Draw(r, "value")}, size)
		}
		return op
	}), 1, 20)
	rapid.Check(t, func(r *rapid.T) {
		dir := newDir(t)
		o := disk.Options{LogBytes: rapid.SampledFrom([]int64{4096, 1 << 16, 0}).Draw(r, "log bytes")}
		e := open(t, dir, o)
		want := make(content)
		r.Repeat(map[string]func(*rapid.T){
			"commit": func(r *rapid.T) {
				batch := ops.Draw(r, "ops")
				require.NoError(r, e.Commit(batch))
				want.apply(batch...)
			},
			"reopen": func(r *rapid.T) {
				require.NoError(r, e.Close())
				e = open(t, dir, o)
				require.Equal(r, want, load(t, e))
			},
			"crash": func(r *rapid.T) {
				e.Wait()
				dir = copyDir(t, dir)
				require.NoError(r, e.Close())
				e = open(t, dir, o)
				require.Equal(r, want, load(t, e))
			},
			"compact": func(r *rapid.T) {
				require.NoError(r, e.Compact(t.Context()))
				require.Zero(r, e.Stats().FreeBytes/4096/8, "nearly nothing is left to give back")
			},
			"backup": func(r *rapid.T) {
				var b bytes.Buffer
				n, err := e.Backup(t.Context(), &b)
				require.NoError(r, err)
				require.EqualValues(r, b.Len(), n)
				restored := newDir(t)
				require.NoError(r, os.WriteFile(filepath.Join(restored, disk.BackupName), b.Bytes(), 0o600))
				require.Equal(r, want, loadDir(t, restored))
			},
			"load": func(r *rapid.T) { require.Equal(r, want, load(t, e)) },
		})
		require.NoError(r, e.Close())
		require.Equal(r, want, loadDir(t, dir))
	})
}
