package engines

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A Pebble is a bare Pebble database with a cache that holds all that we put into it.
type Pebble struct{ db *pebble.DB }

// OpenPebble opens the database in dir, which it makes if need be.
func OpenPebble(dir string) (*Pebble, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest,
		CacheSize:          128 << 20,
		Logger:             silence{},
	})
	if err != nil {
		return nil, err
	}
	return &Pebble{db}, nil
}

// Fill sets the pairs in one batch, and compacts them, so that reads find each in one
// place.
func (p *Pebble) Fill(pairs []Pair) error {
	batch := p.db.NewBatch()
	for _, pair := range pairs {
		if err := batch.Set([]byte(pair.Key), pair.Value, nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	if err := errors.Join(batch.Commit(pebble.Sync), batch.Close()); err != nil {
		return err
	}
	return p.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
}

// Set sets a pair with a synced write. It is durable when Set has returned nil.
func (p *Pebble) Set(key string, value []byte) error {
	return p.db.Set([]byte(key), value, pebble.Sync)
}

// Sum gets each key, and returns the sum of the numbers of the values.
func (p *Pebble) Sum(keys []string) (uint64, error) {
	var sum uint64
	for _, key := range keys {
		value, closer, err := p.db.Get([]byte(key))
		if errors.Is(err, pebble.ErrNotFound) {
			return 0, lost(key)
		}
		if err != nil {
			return 0, err
		}
		sum += Number(value)
		if err := closer.Close(); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// Each visits all pairs in the order of their keys. A value is valid until visit
// returns.
func (p *Pebble) Each(visit func(key string, value []byte) error) error {
	it, err := p.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = visit(string(it.Key()), it.Value())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// Close closes the database.
func (p *Pebble) Close() error { return p.db.Close() }

// silence is a logger that drops what Pebble has to tell.
type silence struct{}

func (silence) Infof(string, ...any)  {}
func (silence) Errorf(string, ...any) {}

// Fatalf panics, since Pebble asks for a call that does not return.
func (silence) Fatalf(format string, args ...any) { panic(fmt.Sprintf("pebble: "+format, args...)) }
