package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The database file is one of bbolt. Each bucket of the engine is one of it, named with
// a prefix; one more says what the file is.
const (
	headBucket   = "plugbus"
	headKey      = "head"
	bucketPrefix = 'b'
	headFormat   = 1
	headLength   = 40
)

// A head says what a database file holds.
type head struct {
	id      [16]byte // of the directory; that of the log is the same
	applied uint64   // number of the last commit that is in the file
	sum     uint64   // of pairSum over all pairs

	size int64 // of the pages in use; it is not in the file
}

// encode returns format 4, id 16, applied 8, sum 8, checksum 4.
func (h *head) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, headLength), headFormat)
	b = append(b, h.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.applied)
	b = binary.LittleEndian.AppendUint64(b, h.sum)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// decodeHead reads a head. Its error is a FileError without a path.
func decodeHead(b []byte) (head, error) {
	if len(b) != headLength || binary.LittleEndian.Uint32(b[36:]) != checksum(b[:36]) {
		return head{}, damaged("the checksum of its head is wrong")
	}
	if format := binary.LittleEndian.Uint32(b); format != headFormat {
		return head{}, &FileError{Problem: fmt.Sprintf("it has format %d, want %d", format, headFormat), Err: ErrNewer}
	}
	h := head{applied: binary.LittleEndian.Uint64(b[20:]), sum: binary.LittleEndian.Uint64(b[28:])}
	copy(h.id[:], b[4:])
	return h, nil
}

// pairSum is what a pair adds to the sum of a database. So the sum follows each change,
// and tells whether the pairs are those that were written, which bbolt does not.
func pairSum(bucket, key, value []byte) uint64 {
	sum, table := uint32(len(bucket)<<16|len(key)), crc32.MakeTable(crc32.Castagnoli)
	for _, part := range [][]byte{bucket, key, value} {
		sum = crc32.Update(sum, table, part)
	}
	return uint64(sum)
}

// A tree is an open database file. Its methods are called one at a time.
type tree struct {
	head
	path   string
	db     *bbolt.DB
	file   *os.File // that of db
	free   int64    // bytes of the pages that are not in use
	broken error    // how bbolt has panicked, perhaps with its locks held
}

// writeTree makes a database file without pairs.
func writeTree(path string, h head) error {
	t, err := openTree(path, h)
	if err != nil {
		return err
	}
	err = t.update(func(tx *bbolt.Tx) error { return putHead(tx, &h) })
	return errors.Join(err, t.close())
}

// openTree opens the file at path, which was inspected or does not exist.
func openTree(path string, h head) (*tree, error) {
	t := &tree{head: h, path: path}
	if err := t.open(bbolt.Options{}); err != nil {
		return nil, err
	}
	if err := t.measure(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *tree) open(o bbolt.Options) error {
	o.Timeout = time.Nanosecond // Zero would wait for ever.
	o.PageSize = pageBytes
	o.FreelistType = bbolt.FreelistMapType
	o.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		t.file, err = os.OpenFile(name, flag, mode)
		return t.file, err
	}
	err := t.guarded(func() (err error) {
		t.db, err = bbolt.Open(t.path, 0o600, &o)
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("file %q is %w by another program that knows bbolt", t.path, ErrLocked)
	}
	return err
}

// guarded calls do, which works on the mapped file. A page that cannot be read is an
// error then, and not the end of the process.
func (t *tree) guarded(do func() error) (err error) {
	if t.broken != nil {
		return t.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("file %q: bbolt panicked: %v", t.path, cause)
			t.broken = err
		}
	}()
	return do()
}

// view runs a transaction that only reads.
func (t *tree) view(do func(tx *bbolt.Tx) error) error {
	return t.guarded(func() error { return t.db.View(do) })
}

// update runs a transaction.
func (t *tree) update(do func(tx *bbolt.Tx) error) error {
	if err := t.guarded(func() error { return t.db.Update(do) }); err != nil {
		return err
	}
	return t.measure()
}

// measure notes the size of the file.
func (t *tree) measure() error {
	return t.view(func(tx *bbolt.Tx) error {
		t.size = tx.Size()
		t.free = int64(t.db.Stats().FreeAlloc)
		return nil
	})
}

// close ends the use of the file. Where bbolt cannot do it any more, its map of the
// file stays to the end of the process.
func (t *tree) close() error {
	if t.broken != nil {
		return errors.Join(unlock(t.file), t.file.Close())
	}
	return t.guarded(t.db.Close)
}

// apply makes the changes durable, of which the last was commit number applied.
func (t *tree) apply(c changes, applied uint64) error {
	h := t.head
	h.applied = applied
	err := t.update(func(tx *bbolt.Tx) error {
		for _, name := range c.buckets() {
			if err := applyBucket(tx, &h.sum, fullName(name), c[name]); err != nil {
				return fmt.Errorf("bucket %q: %w", name, err)
			}
		}
		return putHead(tx, &h)
	})
	if err == nil {
		t.applied, t.sum = h.applied, h.sum
	}
	return err
}

func putHead(tx *bbolt.Tx, h *head) error {
	b, err := tx.CreateBucketIfNotExists([]byte(headBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(headKey), h.encode())
}

// applyBucket changes a bucket, and the sum of all pairs.
func applyBucket(tx *bbolt.Tx, sum *uint64, name []byte, c *bucketChanges) error {
	b := tx.Bucket(name)
	if c.dropped && b != nil {
		err := b.ForEach(func(key, value []byte) error {
			*sum -= pairSum(name, key, value)
			return nil
		})
		if err := errors.Join(err, tx.DeleteBucket(name)); err != nil {
			return err
		}
		b = nil
	}
	for _, k := range c.keys() {
		key, value := []byte(k), c.values[k]
		if b == nil && value != nil {
			var err error
			if b, err = tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if b == nil {
			continue
		}
		if old := b.Get(key); old != nil {
			*sum -= pairSum(name, key, old)
		}
		if value == nil {
			if err := b.Delete(key); err != nil {
				return err
			}
			continue
		}
		*sum += pairSum(name, key, value)
		if err := b.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// load visits all pairs in their order, as if c had been applied.
func (t *tree) load(c changes, visit func(bucket, key string, value []byte) error) error {
	names := make(map[string]bool)
	for name := range c {
		names[name] = true
	}
	return t.view(func(tx *bbolt.Tx) error {
		err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if name[0] == bucketPrefix {
				names[string(name[1:])] = true
			}
			return nil
		})
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if err == nil {
				err = loadBucket(tx.Bucket(fullName(name)), name, c[name], visit)
			}
		}
		return err
	})
}

// fullName returns the name that a bucket has in the file.
func fullName(name string) []byte { return append([]byte{bucketPrefix}, name...) }

// loadBucket visits the pairs of one bucket, which may be in the file, changed, or both.
func loadBucket(b *bbolt.Bucket, name string, c *bucketChanges, visit func(bucket, key string, value []byte) error) error {
	keys := c.keys()
	changed := func(bound []byte) error {
		for len(keys) > 0 && (bound == nil || keys[0] < string(bound)) {
			key := keys[0]
			keys = keys[1:]
			if value := c.values[key]; value != nil {
				if err := visit(name, key, value); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if b != nil && (c == nil || !c.dropped) {
		err := b.ForEach(func(key, value []byte) error {
			if err := changed(key); err != nil {
				return err
			}
			if len(keys) > 0 && keys[0] == string(key) {
				return nil // The change comes before the next key.
			}
			return visit(name, string(key), value)
		})
		if err != nil {
			return err
		}
	}
	return changed(nil)
}
