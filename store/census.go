package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A census counts what the backend has beside entries and heads: the metas and the
// graves, with a sum over them, so that no store and no grave can be lost unnoticed.
// It belongs to the committer.
type census struct {
	sums map[place]uint64
	sum  uint64 // of all of them
}

// A place is where the backend keeps a value.
type place struct{ bucket, key string }

// censusKey is the only key of its bucket.
const censusKey = "all"

// take counts a value with its header, or none, in place of what was there before. It
// reports whether the census is about such values.
func (c *census) take(bucket, key string, value []byte) bool {
	if bucket != bucketMetas && bucket != bucketGraves {
		return false
	}
	at := place{bucket, key}
	c.sum -= c.sums[at]
	delete(c.sums, at)
	if value != nil {
		sum := mix(binary.LittleEndian.Uint32(value[1:]), 0)
		c.sums[at] = sum
		c.sum += sum
	}
	return true
}

func (c *census) encode() []byte {
	b := make([]byte, headerSize, headerSize+16)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(c.sums)))
	b = binary.LittleEndian.AppendUint64(b, c.sum)
	seal(bucketCensus, censusKey, b)
	return b
}

// compare compares the census with what the backend has of it.
func (c *census) compare(value []byte) error {
	if value == nil {
		return errors.New("it is missing")
	}
	b, _, err := unseal(bucketCensus, censusKey, value)
	switch {
	case err != nil:
		return err
	case len(b) != 16:
		return errors.New("it has the wrong length")
	case binary.LittleEndian.Uint64(b) != uint64(len(c.sums)) || binary.LittleEndian.Uint64(b[8:]) != c.sum:
		return fmt.Errorf("there are %d stores and graves, and the census speaks of %d, or of others", len(c.sums), binary.LittleEndian.Uint64(b))
	}
	return nil
}
