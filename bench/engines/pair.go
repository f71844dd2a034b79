package engines

import (
	"fmt"
	"math/rand/v2"
)

// A Pair is a key with its value.
type Pair struct {
	Key   string
	Value []byte
}

// The sizes of what Pairs returns, which are those that benchmarks of key-value
// stores have long used.
const (
	KeyBytes   = 16
	ValueBytes = 100
)

// Pairs returns n pairs, the same ones each time: keys of 16 bytes in their order,
// and values of 100 bytes that cannot be compressed.
func Pairs(n int) []Pair {
	source := rand.NewChaCha8([32]byte{})
	pairs := make([]Pair, n)
	for i := range pairs {
		value := make([]byte, ValueBytes)
		_, _ = source.Read(value) // it never fails
		pairs[i] = Pair{fmt.Sprintf("key.%0*d", KeyBytes-len("key."), i), value}
	}
	return pairs
}

// Number returns the number in the first eight bytes of a value, of which engines
// return the sum, or 0 if there are not as many.
func Number[T []byte | string](value T) uint64 {
	if len(value) < 8 {
		return 0
	}
	return uint64(value[0]) | uint64(value[1])<<8 | uint64(value[2])<<16 | uint64(value[3])<<24 |
		uint64(value[4])<<32 | uint64(value[5])<<40 | uint64(value[6])<<48 | uint64(value[7])<<56
}

// lost is the error of a key that is not there, or not as it was written.
func lost(key string) error { return fmt.Errorf("engines: key %q is lost", key) }
