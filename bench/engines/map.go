package engines

import (
	"bytes"
	"sync"
)

// A Map is a bare sync.Map, whose values belong to everybody who gets them.
type Map struct{ values sync.Map }

// OpenMap returns an empty map. It needs no directory.
func OpenMap(string) (*Map, error) { return new(Map), nil }

// Fill stores the pairs.
func (m *Map) Fill(pairs []Pair) error {
	for _, p := range pairs {
		m.values.Store(p.Key, p.Value)
	}
	return nil
}

// Sum loads each key, and returns the sum of the numbers of the values.
func (m *Map) Sum(keys []string) (uint64, error) {
	var sum uint64
	for _, key := range keys {
		value, ok := m.values.Load(key)
		if !ok {
			return 0, lost(key)
		}
		sum += Number(value.([]byte))
	}
	return sum, nil
}

// SumCopies is Sum of copies. The last one is returned, and so each is on the heap.
func (m *Map) SumCopies(keys []string) (sum uint64, last []byte, _ error) {
	for _, key := range keys {
		value, ok := m.values.Load(key)
		if !ok {
			return 0, nil, lost(key)
		}
		last = bytes.Clone(value.([]byte))
		sum += Number(last)
	}
	return sum, last, nil
}

// Each visits all pairs, in no order.
func (m *Map) Each(visit func(key string, value []byte) error) error {
	var err error
	m.values.Range(func(key, value any) bool {
		err = visit(key.(string), value.([]byte))
		return err == nil
	})
	return err
}

// Close does nothing.
func (m *Map) Close() error { return nil }
