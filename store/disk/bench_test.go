package disk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// benchValue is the size of a small JSON value with the frame that package store puts
// around it.
const benchValue = 130

// randomOps returns n ops on random keys out of many.
func randomOps(n, keys int, value []byte) []store.Op {
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = store.Op{Bucket: "bench", Key: benchKey(rand.IntN(keys)), Value: value}
	}
	return ops
}

func benchKey(i int) string { return fmt.Sprintf("key-%08x", uint32(i)*0x9E3779B1) }

// fill commits one value for each of many keys.
func fill(t testing.TB, e *disk.Engine, keys int) {
	t.Helper()
	var ops []store.Op
	for i := range keys {
		ops = append(ops, store.Op{Bucket: "bench", Key: benchKey(i), Value: make([]byte, benchValue)})
		if len(ops) == 1000 || i == keys-1 {
			require.NoError(t, e.Commit(ops))
			ops = ops[:0]
		}
	}
}

// BenchmarkCommit measures durable commits beside what they are compared to: the same
// bytes appended to a plain file that is then synced, and bbolt by itself.
func BenchmarkCommit(b *testing.B) {
	value := make([]byte, benchValue)
	for _, keys := range []int{1_000, 100_000} {
		for _, n := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("keys=%d/ops=%d/by=file", keys, n), func(b *testing.B) {
				f, err := os.Create(filepath.Join(b.TempDir(), "file"))
				require.NoError(b, err)
				defer func() { _ = f.Close() }()
				b.ReportAllocs()
				for b.Loop() {
					var batch []byte
					for _, op := range randomOps(n, keys, value) {
						batch = append(append(append(batch, op.Bucket...), op.Key...), op.Value...)
					}
					if _, err := f.Write(batch); err != nil {
						b.Fatal(err)
					}
					if err := disk.SyncData(f); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("keys=%d/ops=%d/by=disk", keys, n), func(b *testing.B) {
				e, err := disk.Open(b.TempDir(), disk.Options{})
				require.NoError(b, err)
				fill(b, e, keys)
				b.ReportAllocs()
				for b.Loop() {
					if err := e.Commit(randomOps(n, keys, value)); err != nil {
						b.Fatal(err)
					}
				}
				s := e.Stats()
				b.ReportMetric(float64(s.Checkpoints), "checkpoints")
				b.ReportMetric(float64(s.Stalls), "stalls")
				require.NoError(b, e.Close())
			})
			b.Run(fmt.Sprintf("keys=%d/ops=%d/by=bbolt", keys, n), func(b *testing.B) {
				db, err := bbolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, nil)
				require.NoError(b, err)
				defer func() { _ = db.Close() }()
				commit := func(ops []store.Op) {
					err := db.Update(func(tx *bbolt.Tx) error {
						bucket, err := tx.CreateBucketIfNotExists([]byte("bench"))
						for _, op := range ops {
							if err == nil {
								err = bucket.Put([]byte(op.Key), op.Value)
							}
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				var all []store.Op
				for i := range keys {
					all = append(all, store.Op{Key: benchKey(i), Value: value})
				}
				commit(all)
				b.ReportAllocs()
				for b.Loop() {
					commit(randomOps(n, keys, value))
				}
			})
		}
	}
}

// BenchmarkOpen measures opening a directory and loading all pairs, after a close that
// emptied the log and after a crash that did not.
func BenchmarkOpen(b *testing.B) {
	const keys = 100_000
	for _, log := range []string{"empty", "full"} {
		b.Run(fmt.Sprintf("keys=%d/log=%s", keys, log), func(b *testing.B) {
			dir := b.TempDir()
			e, err := disk.Open(dir, disk.Options{LogBytes: 1 << 30})
			require.NoError(b, err)
			fill(b, e, keys)
			require.NoError(b, e.Close())
			if log == "full" {
				e, err := disk.Open(dir, disk.Options{LogBytes: 1 << 30})
				require.NoError(b, err)
				fill(b, e, keys)
				dir = copyDir(b, dir)
				require.NoError(b, e.Close())
			}
			b.ReportAllocs()
			for b.Loop() {
				dir := dir
				if log == "full" {
					b.StopTimer()
					dir = copyDir(b, dir)
					b.StartTimer()
				}
				e, err := disk.Open(dir, disk.Options{})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				if err := e.Load(func(string, string, []byte) error { n++; return nil }); err != nil || n != keys {
					b.Fatal(n, err)
				}
				b.StopTimer()
				require.NoError(b, e.Close())
				b.StartTimer()
			}
		})
	}
}
