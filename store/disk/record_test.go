// These tests read logs from memory, by the thousands; the exported door to that is a
// directory each.
package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// A sampleLog is a log in memory, with what is known of it.
type sampleLog struct {
	header
	bytes  []byte
	ends   []int // of the header and of each record
	bodies []int // where they end without the zeros that fill them up
	states []map[string]string
}

// newSampleLog returns a log whose records have values of the sizes.
func newSampleLog(t testing.TB, sizes ...int) *sampleLog {
	t.Helper()
	s := &sampleLog{header: header{id: [16]byte{1}, base: 7, salt: [8]byte([]byte("\xb1alty\x00\x01\x02"))}}
	s.bytes = s.encode()
	s.ends, s.bodies = []int{len(s.bytes)}, []int{len(s.bytes)}
	s.states = []map[string]string{{}}
	pending := make(changes)
	for i, size := range sizes {
		value := make([]byte, size)
		for j := range value {
			value[j] = byte(1 + rand.IntN(255)) // A missing sector shows by its zeros.
		}
		ops := []store.Op{{Bucket: "b", Key: fmt.Sprint(i % 3), Value: value}, {Bucket: "b", Key: "gone"}}
		record, own, err := encodeRecord(ops, s.salt, s.base+uint64(i)+1)
		require.NoError(t, err)
		f, ok := decodeFrame(record, s.salt)
		require.True(t, ok)
		s.bodies = append(s.bodies, len(s.bytes)+frameBytes+int(f.size))
		s.bytes = append(s.bytes, record...)
		for _, op := range own {
			pending.add(op)
		}
		s.ends = append(s.ends, len(s.bytes))
		s.states = append(s.states, flat(pending))
	}
	return s
}

// flat returns changes as a map that can be compared.
func flat(c changes) map[string]string {
	m := make(map[string]string)
	for name, b := range c {
		for key, value := range b.values {
			m[fmt.Sprintf("%q %q", name, key)] = string(value)
		}
	}
	return m
}

// open replays the log as it is in b, after the database has applied some commits of it.
func (s *sampleLog) open(b []byte, applied int) (records int, torn bool, got map[string]string, err error) {
	h, err := decodeHeader(b)
	if err != nil {
		return 0, false, nil, err
	}
	l, pending, torn, err := replay(b, h, head{id: s.id, applied: s.base + uint64(applied)})
	if err != nil {
		return 0, false, nil, err
	}
	return int(l.last - s.base), torn, flat(pending), nil
}

// TestEveryPrefixOfALog cuts a log off after each of its bytes. What is left opens to the
// commits that are whole, unless the database has more.
func TestEveryPrefixOfALog(t *testing.T) {
	t.Parallel()
	s := newSampleLog(t, 1, 40, 600, 3, 2000, 26, 27, 28)
	for _, zeros := range []int{0, 1, 31, 32, 600} { // of the room that was behind the cut
		for n := range len(s.bytes) + 1 {
			b := append(slices.Clone(s.bytes[:n]), make([]byte, zeros)...)
			whole := -1
			for i, end := range s.bodies {
				if n >= end || n+zeros >= end && isZero(s.bytes[n:end]) {
					whole = i
				}
			}
			records, torn, got, err := s.open(b, 0)
			switch {
			case whole < 0:
				var refused *FileError
				require.ErrorAs(t, err, &refused, "%d bytes", n)
				continue
			case zeros > 0 && n < len(s.bytes) && err != nil:
				// Zeros in the middle of a sector are no tear, but no harm: it is refused.
				require.ErrorIs(t, err, ErrDamaged)
				continue
			}
			require.NoError(t, err, "%d bytes", n)
			require.Equal(t, whole, records, "%d bytes", n)
			require.Equal(t, s.states[whole], got, "%d bytes", n)
			require.Equal(t, !isZero(b[min(len(b), s.ends[whole]):]), torn, "%d bytes", n)
			_, _, _, err = s.open(b, whole+1)
			require.ErrorIs(t, err, ErrDamaged, "the database has more")
		}
	}
}

// TestTornSectors leaves out of the last record every set of the sectors that a crash can
// leave out, as the log was zero there. It opens to the commits before.
func TestTornSectors(t *testing.T) {
	t.Parallel()
	for offset := range 17 { // The last record begins at different places of a sector.
		s := newSampleLog(t, 100, 1+32*offset, 2500)
		begin, end := s.ends[2], s.ends[3]
		var sectors []int
		for at := begin - begin%sectorBytes; at < end; at += sectorBytes {
			sectors = append(sectors, at)
		}
		for set := range 1 << len(sectors) {
			b := append(slices.Clone(s.bytes), make([]byte, 1000)...)
			for i, at := range sectors {
				if set>>i&1 == 1 {
					clear(b[max(at, begin):min(at+sectorBytes, end)])
				}
			}
			records, torn, got, err := s.open(b, 0)
			require.NoError(t, err, "without %b of %d sectors", set, len(sectors))
			want := 2
			if bytes.Equal(b[begin:end], s.bytes[begin:end]) {
				want = 3
			}
			require.Equal(t, want, records, "without %b of %d sectors", set, len(sectors))
			require.Equal(t, s.states[want], got)
			require.Equal(t, !isZero(b[s.ends[want]:]), torn)
		}
	}
}

// TestEveryFlippedBitOfALog shows that no flipped bit loses or changes a commit, the last
// one included, unless the bit means nothing.
func TestEveryFlippedBitOfALog(t *testing.T) {
	t.Parallel()
	s := newSampleLog(t, 1, 600, 2000, 40)
	b := append(slices.Clone(s.bytes), make([]byte, 64)...)
	for i := range s.bytes {
		for bit := range 8 {
			b[i] ^= 1 << bit
			records, _, got, err := s.open(b, 0)
			if err == nil {
				require.Equal(t, len(s.ends)-1, records, "bit %d of byte %d", bit, i)
				require.Equal(t, s.states[records], got, "bit %d of byte %d", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
}

// TestLogDamage has a line for each thing that is wrong with a log.
func TestLogDamage(t *testing.T) {
	t.Parallel()
	resum := func(b []byte) { binary.LittleEndian.PutUint32(b[60:], checksum(b[:60])) }
	for _, test := range []struct {
		want   error
		reason string
		change func(s *sampleLog, b []byte) []byte
	}{
		{ErrDamaged, "ends within its header", func(_ *sampleLog, b []byte) []byte { return b[:63] }},
		{ErrForeign, "does not begin as a log", func(_ *sampleLog, b []byte) []byte { b[0]++; return b }},
		{ErrDamaged, "checksum of its header", func(_ *sampleLog, b []byte) []byte { b[20]++; return b }},
		{ErrNewer, "format 2, want 1", func(_ *sampleLog, b []byte) []byte { b[12]++; resum(b); return b }},
		{ErrForeign, "another database", func(_ *sampleLog, b []byte) []byte { b[16]++; resum(b); return b }},
		{ErrDamaged, "begins after commit 8", func(_ *sampleLog, b []byte) []byte { b[32]++; resum(b); return b }},
		{ErrDamaged, "before commit 8 is not readable", func(s *sampleLog, b []byte) []byte { b[s.ends[0]+9]++; return b }},
		{ErrDamaged, "checksum of commit 9", func(s *sampleLog, b []byte) []byte { b[s.ends[1]+40]++; return b }},
		{ErrDamaged, "there is commit 9, want 8", func(s *sampleLog, b []byte) []byte {
			return slices.Delete(b, s.ends[0], s.ends[1])
		}},
		{ErrDamaged, "commit 8 is not whole, but commit 9 follows", func(s *sampleLog, b []byte) []byte {
			clear(b[s.ends[0]:s.ends[1]])
			return b
		}},
		{ErrDamaged, "commit 9 is not whole, but commit 10 follows", func(s *sampleLog, b []byte) []byte {
			clear(b[s.ends[1]+1024 : s.ends[1]+2048])
			return b
		}},
	} {
		s := newSampleLog(t, 10, 3000, 10)
		_, _, _, err := s.open(test.change(s, slices.Clone(s.bytes)), 0)
		require.ErrorIs(t, err, test.want, test.reason)
		require.ErrorContains(t, err, test.reason)
	}
}

// TestNoValueIsARecord shows that a plugin cannot forge a record by a value that looks
// like one, for want of the salt.
func TestNoValueIsARecord(t *testing.T) {
	t.Parallel()
	s := newSampleLog(t, 10)
	forged, _, err := encodeRecord([]store.Op{{Bucket: "b", Key: "k", Value: []byte("forged")}}, [8]byte{}, s.base+3)
	require.NoError(t, err)
	record, _, err := encodeRecord([]store.Op{{Bucket: "b", Key: "0", Value: bytes.Repeat(forged, 50)}}, s.salt, s.base+2)
	require.NoError(t, err)
	b := append(slices.Clone(s.bytes), record...)
	clear(b[len(s.bytes) : len(s.bytes)+frameBytes])
	records, torn, _, err := s.open(b, 0)
	require.NoError(t, err)
	require.Equal(t, 1, records)
	require.True(t, torn)
}

// FuzzReplay reads arbitrary records. It never panics, and what it has read is read again
// after it was written anew.
func FuzzReplay(f *testing.F) {
	s := newSampleLog(f, 1, 40, 600)
	f.Add(s.bytes[headerBytes:], true)
	f.Add(s.bytes[headerBytes:len(s.bytes)-100], false)
	f.Add([]byte("\x01b\x01k\x02v\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, body []byte, sum bool) {
		b := s.encode()
		if sum { // A body with a right frame gets past the checksums.
			frame := append([]byte(nil), s.salt[:]...)
			frame = binary.LittleEndian.AppendUint64(frame, s.base+1)
			frame = binary.LittleEndian.AppendUint32(frame, uint32(len(body)))
			frame = binary.LittleEndian.AppendUint32(frame, uint32(len(body)%5+1))
			frame = binary.LittleEndian.AppendUint32(frame, checksum(body))
			b = append(b, binary.LittleEndian.AppendUint32(frame, checksum(frame))...)
		}
		b = append(b, body...)
		l, pending, _, err := replay(b, s.header, head{id: s.id, applied: s.base})
		if err != nil {
			_, ok := errors.AsType[*FileError](err)
			require.True(t, ok)
			return
		}
		var ops []store.Op
		for _, name := range pending.buckets() {
			if pending[name].dropped {
				ops = append(ops, store.Op{Bucket: name})
			}
			for _, key := range pending[name].keys() {
				ops = append(ops, store.Op{Bucket: name, Key: key, Value: pending[name].values[key]})
			}
		}
		if len(ops) == 0 {
			require.Equal(t, s.base, l.last)
			return
		}
		record, own, err := encodeRecord(ops, s.salt, s.base+1)
		require.NoError(t, err)
		require.Equal(t, ops, own)
		_, again, torn, err := replay(append(s.encode(), record...), s.header, head{id: s.id, applied: s.base})
		require.NoError(t, err)
		require.False(t, torn)
		require.Equal(t, pending, again)
	})
}
