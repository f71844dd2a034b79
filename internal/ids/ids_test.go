package ids_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/ids"
)

// counterBits is how many bits of an id hold the counter.
const counterBits = 42

// TestLayout compares ids with ones written by hand after RFC 9562, section
// 5.7: 48 bits of milliseconds, the version, 12 bits, the variant, 62 bits.
func TestLayout(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(0x0192_F3A4_B5C6).UnixNano()
	for _, test := range []struct {
		nano int64
		seq  uint64
		salt uint32
		want string
	}{
		{at, 0, 0, "0192f3a4-b5c6-7000-8000-000000000000"},
		{at, 1, 0xCAFE_BABE, "0192f3a4-b5c6-7000-8000-0001cafebabe"},
		{at + 999_999, 1, 0xCAFE_BABE, "0192f3a4-b5c6-7000-8000-0001cafebabe"}, // the same millisecond
		{at, 1<<30 - 1, 0, "0192f3a4-b5c6-7000-bfff-ffff00000000"},
		{at, 1 << 30, 0, "0192f3a4-b5c6-7001-8000-000000000000"}, // on into the bits before the variant
		{at, 1<<counterBits - 1, ^uint32(0), "0192f3a4-b5c6-7fff-bfff-ffffffffffff"},
		{at, 1 << counterBits, 0, "0192f3a4-b5c6-7000-8000-000000000000"}, // it wraps; the version stays
		{0, 0, 0, "00000000-0000-7000-8000-000000000000"},
	} {
		require.Equal(t, test.want, ids.At(test.nano, test.seq, test.salt).String(),
			"At(%d, %#x, %#x)", test.nano, test.seq, test.salt)
	}
}

// TestFields reads every field back, for any input.
func TestFields(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64Min(0).Draw(t, "nano")
		seq := rapid.Uint64().Draw(t, "seq")
		salt := rapid.Uint32().Draw(t, "salt")
		id := ids.At(nano, seq, salt)

		require.Equal(t, uuid.Version(7), id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())

		high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
		counter := high&0xFFF<<30 | low>>32&0x3FFF_FFFF
		require.Equal(t, uint64(nano/int64(time.Millisecond)), high>>16, "milliseconds")
		require.Equal(t, seq&(1<<counterBits-1), counter, "counter")
		require.Equal(t, salt, uint32(low), "salt")

		parsed, err := uuid.Parse(id.String())
		require.NoError(t, err)
		require.Equal(t, id, parsed)
	})
}

// TestOrder shows that ids of one issuer sort as they were made, by bytes and
// by text, however many fall into one millisecond.
func TestOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		salt := rapid.Uint32().Draw(t, "salt")
		nano := rapid.Int64Range(0, 1<<61).Draw(t, "nano")
		seq := rapid.Uint64Range(0, 1<<41).Draw(t, "seq")
		step := rapid.Int64Range(0, int64(2*time.Millisecond))
		skip := rapid.Uint64Range(1, 1<<31)

		made := []uuid.UUID{ids.At(nano, seq, salt)}
		for range rapid.IntRange(1, 20).Draw(t, "more") {
			nano += step.Draw(t, "step")
			seq += skip.Draw(t, "skip")
			made = append(made, ids.At(nano, seq, salt))
		}
		for i, id := range made[1:] {
			require.Negative(t, bytes.Compare(made[i][:], id[:]), "%v was made before %v", made[i], id)
			require.Less(t, made[i].String(), id.String())
		}
	})
}

// TestUnique shows that a counter makes ids unique within an issuer whatever
// its clock does, and the salt those of two issuers.
func TestUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[uuid.UUID]bool)
	for seq := range uint64(10_000) {
		for _, salt := range []uint32{1, 2} {
			id := ids.At(int64(seq%3)*int64(time.Millisecond), seq, salt)
			require.False(t, seen[id], "At(…, %d, %d) again", seq, salt)
			seen[id] = true
		}
	}
}

func TestSaltsDiffer(t *testing.T) {
	t.Parallel()
	salts := []uint32{ids.Salt(), ids.Salt(), ids.Salt(), ids.Salt()}
	slices.Sort(salts)
	// By chance, all four are alike once in 2⁹⁶ runs.
	require.Greater(t, len(slices.Compact(salts)), 1)
}

func TestNoAllocation(t *testing.T) {
	var id uuid.UUID
	require.Zero(t, testing.AllocsPerRun(100, func() { id = ids.At(1, 2, 3) }))
	require.NotZero(t, id)
}

// BenchmarkID shows what a counter saves over a random number for each id.
func BenchmarkID(b *testing.B) {
	b.Run("maker=At", func(b *testing.B) {
		b.ReportAllocs()
		now, seq, salt := time.Now().UnixNano(), uint64(0), ids.Salt()
		for b.Loop() {
			seq++
			_ = ids.At(now, seq, salt)
		}
	})
	b.Run("maker=uuid.NewV7", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = uuid.NewV7()
		}
	})
}
