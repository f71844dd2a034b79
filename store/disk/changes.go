package disk

import (
	"maps"
	"slices"

	"github.com/plugbus/plugbus/store"
)

// changes are what commits have done to the pairs of the database since the last
// checkpoint, by bucket.
type changes map[string]*bucketChanges

type bucketChanges struct {
	dropped bool              // first of all, the bucket and all that was in it went
	values  map[string][]byte // nil is one that was deleted
}

// add notes an op, whose value it keeps.
func (c changes) add(op store.Op) {
	b := c[op.Bucket]
	if b == nil || op.Key == "" {
		b = &bucketChanges{dropped: op.Key == "", values: make(map[string][]byte)}
		c[op.Bucket] = b
	}
	if op.Key != "" {
		b.values[op.Key] = op.Value
	}
}

// buckets returns the names in their order.
func (c changes) buckets() []string { return slices.Sorted(maps.Keys(c)) }

// keys returns the keys in their order.
func (b *bucketChanges) keys() []string {
	if b == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(b.values))
}
