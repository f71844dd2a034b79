package sim

import (
	"hash/fnv"
	"math/rand/v2"
)

// mix returns a number that follows from a and b, and looks like neither.
func mix(a, b uint64) uint64 {
	x := a ^ b*0x9e3779b97f4a7c15
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// textHash returns a number for a text.
func textHash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

// dice returns chances that follow from the seed, a number and texts, and from
// nothing else.
func dice(seed, n uint64, texts ...string) *rand.Rand {
	for _, s := range texts {
		n = mix(n, textHash(s))
	}
	return rand.New(rand.NewPCG(seed, mix(seed, n))) //nolint:gosec // It is to be repeated.
}

// pick returns one of the choices.
func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// chance reports true in so many of a thousand cases.
func chance(r *rand.Rand, perMille int) bool { return r.IntN(1000) < perMille }
