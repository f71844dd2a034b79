package disk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// A committer makes ops durable.
type committer func(ops []store.Op) error

// byFile appends the bytes of the ops to a plain file, and syncs it.
func byFile(b *testing.B, _ int) committer {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	require.NoError(b, err)
	b.Cleanup(func() { _ = f.Close() })
	return func(ops []store.Op) error {
		var batch []byte
		for _, op := range ops {
			batch = append(append(append(batch, op.Bucket...), op.Key...), op.Value...)
		}
		if _, err := f.Write(batch); err != nil {
			return err
		}
		return disk.SyncData(f)
	}
}

// byDisk commits them to an engine with many keys.
func byDisk(b *testing.B, keys int) committer {
	e := open(b, b.TempDir(), disk.Options{})
	fill(b, e, keys)
	return e.Commit
}

// byBbolt commits them to bbolt, used bare.
func byBbolt(b *testing.B, keys int) committer {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, nil)
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	commit := func(ops []store.Op) error {
		return db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("bench"))
			for _, op := range ops {
				if err == nil {
					err = bucket.Put([]byte(op.Key), op.Value)
				}
			}
			return err
		})
	}
	var all []store.Op
	for i := range keys {
		all = append(all, store.Op{Key: benchKey(i), Value: make([]byte, benchValue)})
	}
	require.NoError(b, commit(all))
	return commit
}

// BenchmarkCommit measures durable commits of ops on random keys.
func BenchmarkCommit(b *testing.B) {
	for _, keys := range []int{1_000, 100_000} {
		for _, n := range []int{1, 64, 1000} {
			for _, by := range []struct {
				name string
				make func(*testing.B, int) committer
			}{{"file", byFile}, {"disk", byDisk}, {"bbolt", byBbolt}} {
				b.Run(fmt.Sprintf("keys=%d/ops=%d/by=%s", keys, n, by.name), func(b *testing.B) {
					commit, value := by.make(b, keys), make([]byte, benchValue)
					b.ReportAllocs()
					for b.Loop() {
						if err := commit(randomOps(n, keys, value)); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// BenchmarkCommitInTurn commits the same ops to a plain file, to an engine and to bbolt in
// turn, so that all meet the same disk, whatever else it does. It reports how many times
// as fast as the others the engine is.
func BenchmarkCommitInTurn(b *testing.B) {
	for _, keys := range []int{1_000, 100_000} {
		for _, n := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("keys=%d/ops=%d", keys, n), func(b *testing.B) {
				commit := []committer{byFile(b, keys), byDisk(b, keys), byBbolt(b, keys)}
				took := make([]time.Duration, len(commit))
				value := make([]byte, benchValue)
				for b.Loop() {
					ops := randomOps(n, keys, value)
					for i, commit := range commit {
						begin := time.Now()
						if err := commit(ops); err != nil {
							b.Fatal(err)
						}
						took[i] += time.Since(begin)
					}
				}
				b.ReportMetric(float64(took[0])/float64(took[1]), "×file")
				b.ReportMetric(float64(took[2])/float64(took[1]), "×bbolt")
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
