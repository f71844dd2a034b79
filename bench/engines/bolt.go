package engines

import (
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// A Bolt is a bare bbolt database with one bucket. Every commit syncs two times.
type Bolt struct {
	db  *bbolt.DB
	set func(func(*bbolt.Tx) error) error
}

const bucket = "pairs"

// OpenBolt opens the database in dir, which it makes if need be. Set is an Update of
// its own.
func OpenBolt(dir string) (*Bolt, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt.db"), 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(bucket))
		return err
	})
	return &Bolt{db, db.Update}, err
}

// OpenBoltBatch is OpenBolt, where Set goes through Batch, which joins the writers
// that come within a millisecond, or as soon as there are as many as given.
func OpenBoltBatch(dir string, writers int) (*Bolt, error) {
	b, err := OpenBolt(dir)
	if err != nil {
		return nil, err
	}
	b.db.MaxBatchSize = writers
	b.db.MaxBatchDelay = time.Millisecond
	b.set = b.db.Batch
	return b, nil
}

// Fill puts the pairs in one transaction.
func (b *Bolt) Fill(pairs []Pair) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		for _, p := range pairs {
			if err := tx.Bucket([]byte(bucket)).Put([]byte(p.Key), p.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set puts a pair. It is durable when Set has returned nil.
func (b *Bolt) Set(key string, value []byte) error {
	return b.set(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).Put([]byte(key), value)
	})
}

// Sum gets each key in a transaction of its own, and returns the sum of the numbers
// of the values.
func (b *Bolt) Sum(keys []string) (uint64, error) {
	var sum uint64
	for _, key := range keys {
		err := b.db.View(func(tx *bbolt.Tx) error {
			value := tx.Bucket([]byte(bucket)).Get([]byte(key))
			if value == nil {
				return lost(key)
			}
			sum += Number(value)
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// Each visits all pairs in the order of their keys. A value is valid until visit
// returns.
func (b *Bolt) Each(visit func(key string, value []byte) error) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error { return visit(string(key), value) })
	})
}

// Close closes the database.
func (b *Bolt) Close() error { return b.db.Close() }
