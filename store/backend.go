package store

import (
	"context"
	"io"
)

// A Backend keeps what persistent stores hold, as pairs of a key and a value in
// buckets. It knows nothing of stores, rights or revisions; package store/disk has
// the one for a directory. A backend that is given to [Open] belongs to the DB, which
// closes it.
//
// The DB calls Load once, first of all, and then Commit from one goroutine at a time.
// Backup and Compact may run beside Commit, which they may delay and never change.
type Backend interface {
	// Load calls visit with every pair: bucket by bucket in the order of their names,
	// and in a bucket in the order of the keys, both byte by byte. The value is valid
	// until visit returns. An error of visit ends Load, which returns it.
	Load(visit func(bucket, key string, value []byte) error) error

	// Commit applies all of ops in their order, or none. When it has returned nil they
	// survive the death of the process and of the machine. After an error that matches
	// [ErrNotDone] none of them will ever be seen; after any other it is unknown
	// whether they will be, until the backend is opened again. The DB commits nothing
	// more after an error. One commit has less than 512 MiB of buckets, keys and values.
	Commit(ops []Op) error

	// Backup writes a copy of what is durable, as of one moment, that can be opened as
	// this backend can. It returns how many bytes it wrote.
	Backup(ctx context.Context, w io.Writer) (int64, error)

	// Compact gives back the room of what was deleted.
	Compact(ctx context.Context) error

	// Close ends the backend. What was committed stays.
	Close() error
}

// An Op is one step of a commit.
type Op struct {
	Bucket string // 1 to 1024 bytes; it is made when it is first needed

	// Key is 1 to 1024 bytes. If it is empty, Value is nil, and the bucket goes with
	// all that is in it.
	Key string

	// Value is what the key is to have: not empty, or nil to delete the key. What is to
	// be deleted need not exist.
	Value []byte
}
