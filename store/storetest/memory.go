package storetest

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/plugbus/plugbus/store"
)

// A Memory is a [store.Backend] that keeps its pairs in memory. Close leaves them there,
// and after a Load it can be used again, so it can be given to one DB after another. The
// zero value is empty.
type Memory struct {
	mu      sync.Mutex // guards below
	buckets map[string]map[string][]byte
	closed  bool
}

// Restore returns what a [Memory.Backup] wrote.
func Restore(backup []byte) (*Memory, error) {
	m := &Memory{}
	if err := gob.NewDecoder(bytes.NewReader(backup)).Decode(&m.buckets); err != nil {
		return nil, fmt.Errorf("storetest: restore: %w", err)
	}
	return m, nil
}

// Clone returns a copy with what was committed, as if the process died now.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{buckets: map[string]map[string][]byte{}}
	for bucket, pairs := range m.buckets {
		c.buckets[bucket] = maps.Clone(pairs) // Nobody changes a value.
	}
	return c
}

// Load implements [store.Backend].
func (m *Memory) Load(visit func(bucket, key string, value []byte) error) error {
	m.mu.Lock()
	m.closed = false
	m.mu.Unlock()
	c := m.Clone()
	for _, bucket := range slices.Sorted(maps.Keys(c.buckets)) {
		for _, key := range slices.Sorted(maps.Keys(c.buckets[bucket])) {
			if err := visit(bucket, key, slices.Clone(c.buckets[bucket][key])); err != nil {
				return err
			}
		}
	}
	return nil
}

var errClosed = errors.New("storetest: the backend is closed")

// Commit implements [store.Backend].
func (m *Memory) Commit(ops []store.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("%w: %w", store.ErrNotDone, errClosed)
	}
	if m.buckets == nil {
		m.buckets = map[string]map[string][]byte{}
	}
	for _, op := range ops {
		switch {
		case op.Key == "":
			delete(m.buckets, op.Bucket)
		case op.Value == nil:
			delete(m.buckets[op.Bucket], op.Key)
		default:
			if m.buckets[op.Bucket] == nil {
				m.buckets[op.Bucket] = map[string][]byte{}
			}
			m.buckets[op.Bucket][op.Key] = slices.Clone(op.Value)
		}
	}
	return nil
}

// Backup implements [store.Backend]. What it writes is for [Restore].
func (m *Memory) Backup(ctx context.Context, w io.Writer) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(m.Clone().buckets); err != nil {
		return 0, err
	}
	return b.WriteTo(w)
}

// Compact implements [store.Backend]. There is nothing to give back.
func (m *Memory) Compact(ctx context.Context) error { return ctx.Err() }

// Close implements [store.Backend].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	m.closed = true
	return nil
}
