// These tests inspect databases in memory, by the thousands; the exported door to that
// is a directory each.
package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// newSampleDatabase returns a database file with all kinds of pages.
func newSampleDatabase(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample")
	h := head{id: [16]byte{1}}
	require.NoError(t, writeTree(path, h))
	tree, err := openTree(path, h)
	require.NoError(t, err)
	put := func(name string, n, size int) *bucketChanges {
		b := &bucketChanges{values: make(map[string][]byte)}
		for i := range n {
			b.values[fmt.Sprintf("%s %05d", name, i)] = bytes.Repeat([]byte{byte(i + 1)}, size+i%7)
		}
		return b
	}
	for applied, c := range []changes{
		{"small": put("s", 3, 5), "deep": put("d", 400, 60), "long": put("l", 2, 9000), "gone": put("g", 100, 100)},
		{"deep": put("d", 100, 80), "one": put("o", 1, 1)},
		{"gone": {dropped: true}},
	} {
		require.NoError(t, tree.apply(c, uint64(applied+1)))
	}
	require.NoError(t, tree.close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func inspectBytes(b []byte) (head, error) { return inspectPages(bytes.NewReader(b), int64(len(b))) }

// pairsOf opens a database by bbolt, and returns its pairs.
func pairsOf(t testing.TB, b []byte) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "database")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	tree, err := openTree(path, head{})
	require.NoError(t, err)
	pairs := make(map[string]string)
	require.NoError(t, tree.load(nil, func(bucket, key string, value []byte) error {
		pairs[bucket+"\x00"+key] = string(value)
		return nil
	}))
	require.NoError(t, tree.close())
	return pairs
}

func TestInspectAcceptsWhatBboltWrites(t *testing.T) {
	t.Parallel()
	b := newSampleDatabase(t)
	h, err := inspectBytes(b)
	require.NoError(t, err)
	require.Equal(t, [16]byte{1}, h.id)
	require.EqualValues(t, 3, h.applied)
	require.Len(t, pairsOf(t, b), 3+400+2+1)
}

// TestEveryCutOfADatabase cuts a database off. It is refused wherever a page that it uses
// is missing: bbolt would map the file, and the first look at such a page would end the
// process.
func TestEveryCutOfADatabase(t *testing.T) {
	t.Parallel()
	b := newSampleDatabase(t)
	h, err := inspectBytes(b)
	require.NoError(t, err)
	for n := 0; n < len(b); n += 61 {
		_, err := inspectBytes(b[:n])
		if int64(n) >= h.size {
			require.NoError(t, err, "%d bytes", n)
			continue
		}
		var refused *FileError
		require.ErrorAs(t, err, &refused, "%d bytes", n)
	}
}

// TestFlippedBitsOfADatabase shows that a flipped bit does nothing to a database that is
// not refused: it was in a page that is not in use, or in a meta page. If that was the
// newer one, the database is an older one, which is told by the log (TestOpenRefuses).
func TestFlippedBitsOfADatabase(t *testing.T) {
	t.Parallel()
	b := newSampleDatabase(t)
	want := pairsOf(t, b)
	refused, opened := 0, 0
	for i := rand.IntN(5); i < len(b); i += 1 + rand.IntN(50) {
		bit := byte(1) << rand.IntN(8)
		b[i] ^= bit
		if h, err := inspectBytes(b); err != nil {
			_, ok := errors.AsType[*FileError](err)
			require.True(t, ok, "byte %d: %v", i, err)
			refused++
		} else if h.applied == 3 && rand.IntN(5) == 0 {
			opened++
			require.Equal(t, want, pairsOf(t, b), "byte %d", i)
		}
		b[i] ^= bit
	}
	require.NotZero(t, refused)
	require.NotZero(t, opened)
}

// resum gives both meta pages their right checksums.
func resum(b []byte) {
	for page := range 2 {
		meta := b[page*pageBytes+pageHeaderBytes:]
		sum := fnv.New64a()
		sum.Write(meta[:56])
		native.PutUint64(meta[56:], sum.Sum64())
	}
}

// TestDatabaseDamage has a line for each thing that is wrong with a database. A change
// gets the bytes, and where the pages of some kinds begin.
func TestDatabaseDamage(t *testing.T) {
	t.Parallel()
	sample := newSampleDatabase(t)
	newest := pageHeaderBytes
	if native.Uint64(sample[pageBytes+newest+48:]) > native.Uint64(sample[newest+48:]) {
		newest += pageBytes
	}
	root := int(native.Uint64(sample[newest+16:])) * pageBytes
	free := int(native.Uint64(sample[newest+32:])) * pageBytes
	firstFree := native.Uint64(sample[free+pageHeaderBytes:])
	// The pages of the bucket "deep", which has a branch page above its leaves.
	deep := int(native.Uint64(sample[bytes.Index(sample[root:], []byte("bdeep"))+root+5:])) * pageBytes
	child := int(native.Uint64(sample[deep+pageHeaderBytes+8:])) * pageBytes
	require.Equal(t, uint16(leafPage), native.Uint16(sample[root+8:]))
	require.Equal(t, uint16(branchPage), native.Uint16(sample[deep+8:]))
	require.Equal(t, uint16(leafPage), native.Uint16(sample[child+8:]))
	small := bytes.Index(sample[root:], []byte("bsmall")) + root + 6
	one := bytes.Index(sample[root:], []byte("bone")) + root + 4 + bucketBytes // a page with one pair

	put16, put32, put64 := native.PutUint16, native.PutUint32, native.PutUint64
	for _, test := range []struct {
		want   error
		reason string
		change func(b []byte)
	}{
		{ErrForeign, "no bbolt file", func(b []byte) { clear(b[:2*pageBytes]) }},
		{ErrDamaged, "none of its meta pages is whole", func(b []byte) { b[16+20]++; b[pageBytes+16+20]++ }},
		{ErrNewer, "version 3, want 2", func(b []byte) { b[16+4]++; b[pageBytes+16+4]++; resum(b) }},
		{ErrForeign, "pages of 8192 bytes, want 4096", func(b []byte) { put32(b[16+8:], 8192); resum(b) }},
		{ErrForeign, "pages of 8192 bytes, want 4096", func(b []byte) { put32(b[pageBytes+16+8:], 8192); resum(b) }},
		{ErrDamaged, "cut off", func(b []byte) { put64(b[newest+40:], 1<<40); resum(b) }},
		{ErrDamaged, "want 4 or more", func(b []byte) { put64(b[newest+40:], 3); resum(b) }},
		{ErrForeign, "without a list of free pages", func(b []byte) { put64(b[newest+32:], noFreelistSynced); resum(b) }},
		{ErrDamaged, "beyond the last", func(b []byte) { put64(b[newest+16:], 1<<50); resum(b) }},
		{ErrDamaged, "neither in use nor free", func(b []byte) { put64(b[newest+40:], native.Uint64(b[newest+40:])+1); resum(b) }},

		{ErrDamaged, "want 16 for the free pages", func(b []byte) { put16(b[free+8:], leafPage) }},
		{ErrDamaged, "more than it has room for", func(b []byte) { put16(b[free+10:], 0xFFFE) }},
		{ErrDamaged, "more than it has room for", func(b []byte) { put16(b[free+10:], 0xFFFF); put64(b[free+16:], 510) }},
		{ErrDamaged, "neither in use nor free", func(b []byte) { b[free+10]-- }},
		{ErrDamaged, "in the list of the free pages and elsewhere", func(b []byte) { put64(b[free+24:], firstFree) }},
		{ErrDamaged, "beyond the last", func(b []byte) { put64(b[free+24:], 1<<40) }},
		{ErrDamaged, "referred to twice", func(b []byte) { put64(b[free+16:], uint64(deep/pageBytes)) }},

		{ErrDamaged, "has the header of page", func(b []byte) { b[deep]++ }},
		{ErrDamaged, "has kind 3", func(b []byte) { put16(b[deep+8:], 3) }},
		{ErrDamaged, "has 0 branches", func(b []byte) { put16(b[deep+10:], 0) }},
		{ErrDamaged, "has 65535 branches", func(b []byte) { put16(b[deep+10:], 0xFFFF) }},
		{ErrDamaged, "neither in use nor free", func(b []byte) { b[deep+10]--; shiftBranches(b[deep:]) }},
		{ErrDamaged, "more", func(b []byte) { put32(b[deep+12:], 1<<31) }},
		{ErrDamaged, "referred to twice", func(b []byte) { put32(b[child+12:], 1) }},
		{ErrDamaged, "referred to twice", func(b []byte) { put64(b[deep+pageHeaderBytes+8:], uint64(deep/pageBytes)) }},
		{ErrDamaged, "beyond the last", func(b []byte) { put64(b[deep+pageHeaderBytes+8:], 1<<60) }},
		{ErrDamaged, "branch 0 of page", func(b []byte) { put32(b[deep+pageHeaderBytes:], 1<<31) }},
		{ErrDamaged, "branch 0 of page", func(b []byte) { put32(b[deep+pageHeaderBytes+4:], 1<<31) }},
		{ErrDamaged, "branch 1 of page", func(b []byte) { b[bytes.LastIndex(b[deep:deep+pageBytes], []byte("d 0000"))+deep+7]-- }},

		{ErrDamaged, "has 65535 pairs", func(b []byte) { put16(b[child+10:], 0xFFFF) }},
		{ErrForeign, `"bdeep" has a bucket "d 00000"`, func(b []byte) { b[child+pageHeaderBytes]++ }}, // flags
		{ErrDamaged, "pair 0 of page", func(b []byte) { b[child+pageHeaderBytes] += 2 }},              // flags
		{ErrDamaged, "pair 0 of page", func(b []byte) { b[child+pageHeaderBytes+4]++ }},               // pos
		{ErrDamaged, "pair 0 of page", func(b []byte) { clear(b[child+pageHeaderBytes+8:][:4]) }},
		{ErrDamaged, "pair 1 of page", func(b []byte) { b[child+pageHeaderBytes+12]++ }}, // value size
		{ErrDamaged, "pair 0 of page", func(b []byte) { put32(b[child+pageHeaderBytes+12:], 1<<31) }},
		{ErrDamaged, "pair 1 of page", func(b []byte) { b[bytes.Index(b[child:], []byte("d 00001"))+child] = 'c' }},
		{ErrDamaged, "pair 0 of page", func(b []byte) { b[bytes.Index(b[child:], []byte("d 00000"))+child] = 'c' }},
		{ErrDamaged, "of page", func(b []byte) { b[bytes.Index(b[child:], []byte("d 00003"))+child] = 'e' }},

		{ErrDamaged, `pair 0 of bucket "bone"`, func(b []byte) { put32(b[one+pageHeaderBytes+12:], 0) }}, // value size
		{ErrDamaged, `pair 0 of bucket "bone"`, func(b []byte) {
			put32(b[one+pageHeaderBytes+12:], native.Uint32(b[one+pageHeaderBytes+8:])+native.Uint32(b[one+pageHeaderBytes+12:]))
			put32(b[one+pageHeaderBytes+8:], 0)
		}},
		{ErrDamaged, `bucket "bsmall" has no sense`, func(b []byte) { b[small+8]++ }}, // sequence
		{ErrDamaged, `bucket "bsmall" has no sense`, func(b []byte) { b[small+16+12]++ }},
		{ErrDamaged, `pair 0 of bucket "bsmall"`, func(b []byte) { b[small+16+10]-- }},
		{ErrDamaged, `bucket "bsmall" has 103 bytes, want 102`, func(b []byte) { b[small+16+pageHeaderBytes+2*elementBytes+12]-- }},
		{ErrForeign, `it has a "xsmall"`, func(b []byte) { b[small-6] = 'x' }},
		{ErrDamaged, `bucket "plugbus" has a key "iead"`, func(b []byte) { b[bytes.LastIndex(b[root:root+pageBytes], []byte("head"))+root]++ }},
		{ErrDamaged, "checksum of its head", func(b []byte) { b[bytes.LastIndex(b[root:root+pageBytes], []byte("head"))+root+10]++ }},
		{ErrNewer, "format 2, want 1", func(b []byte) {
			at := bytes.LastIndex(b[root:root+pageBytes], []byte("head")) + root + 4
			b[at] = 2
			binary.LittleEndian.PutUint32(b[at+36:], checksum(b[at:at+36]))
		}},
		{ErrForeign, `has no bucket "plugbus"`, func(b []byte) {
			b[root+10]-- // The last bucket goes, and the data of the others is where it was.
			for i := range int(b[root+10]) {
				put32(b[root+16+16*i+4:], native.Uint32(b[root+16+16*i+4:])-16)
			}
			begin := root + pageHeaderBytes + int(b[root+10])*elementBytes
			copy(b[begin:root+pageBytes], b[begin+elementBytes:root+pageBytes])
		}},
		{ErrDamaged, "checksum of its pairs", func(b []byte) { b[bytes.Index(b[child:], []byte("d 00000"))+child+7]++ }}, // a value
		{ErrDamaged, "checksum of its pairs", func(b []byte) { b[bytes.Index(b[child:], []byte("d 00009"))+child+6]++ }}, // a key
		{ErrDamaged, "checksum of its pairs", func(b []byte) { b[small-1]-- }},                                           // the name of a bucket
	} {
		b := slices.Clone(sample)
		test.change(b)
		_, err := inspectBytes(b)
		require.ErrorIs(t, err, test.want, test.reason)
		require.ErrorContains(t, err, test.reason)
	}
}

// shiftBranches makes room for what was the last element, so that the others are right.
func shiftBranches(page []byte) {
	count := int(native.Uint16(page[10:]))
	begin := pageHeaderBytes + (count+1)*elementBytes
	copy(page[begin-elementBytes:], page[begin:pageBytes])
	for i := range count {
		at := page[pageHeaderBytes+i*elementBytes:]
		native.PutUint32(at, native.Uint32(at)-elementBytes)
	}
}

// TestDeepDatabase puts more pages above a tree than a tree can have.
func TestDeepDatabase(t *testing.T) {
	t.Parallel()
	b := newSampleDatabase(t)
	h, err := inspectBytes(b)
	require.NoError(t, err)
	b = b[:h.size]
	for page := range 2 {
		if meta := b[page*pageBytes+pageHeaderBytes:]; native.Uint64(meta[40:])*pageBytes == uint64(h.size) {
			root := native.Uint64(meta[16:])
			for id := native.Uint64(meta[40:]); id < uint64(h.size)/pageBytes+100; id++ {
				branch := make([]byte, pageBytes)
				native.PutUint64(branch, id)
				native.PutUint16(branch[8:], branchPage)
				native.PutUint16(branch[10:], 1)
				native.PutUint32(branch[pageHeaderBytes:], elementBytes)
				native.PutUint32(branch[pageHeaderBytes+4:], 1)
				native.PutUint64(branch[pageHeaderBytes+8:], root)
				branch[pageHeaderBytes+elementBytes] = 'a'
				b, root = append(b, branch...), id
			}
			native.PutUint64(b[page*pageBytes+pageHeaderBytes+16:], root)
			native.PutUint64(b[page*pageBytes+pageHeaderBytes+40:], root+1)
			native.PutUint64(b[page*pageBytes+pageHeaderBytes+48:], 1000)
		}
	}
	resum(b)
	_, err = inspectBytes(b)
	require.ErrorContains(t, err, "deeper than a tree can be")
}

// TestTornMeta shows that a database whose last meta page a crash has torn is as it was
// before, which is what the log goes by.
func TestTornMeta(t *testing.T) {
	t.Parallel()
	b := newSampleDatabase(t)
	h, err := inspectBytes(b)
	require.NoError(t, err)
	newest := 0
	if native.Uint64(b[pageBytes+pageHeaderBytes+48:]) > native.Uint64(b[pageHeaderBytes+48:]) {
		newest = pageBytes
	}
	clear(b[newest+40 : newest+pageBytes])
	before, err := inspectBytes(b)
	require.NoError(t, err)
	require.Equal(t, h.applied-1, before.applied)
}

// FuzzInspect changes bytes of a database, and gives its meta pages right checksums. It
// never panics, and what is not refused is opened by bbolt, and read, without a panic.
func FuzzInspect(f *testing.F) {
	sample := newSampleDatabase(f)
	pairs := slices.Sorted(maps.Keys(pairsOf(f, sample)))
	f.Add([]byte{0, 0, 30, 1})
	f.Add([]byte{0, 16, 8, 1, 0, 16, 10, 255})
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := slices.Clone(sample)
		for ; len(patches) >= 4; patches = patches[4:] {
			at := int(patches[0])<<16 | int(patches[1])<<8 | int(patches[2])
			b[at%len(b)] = patches[3]
		}
		resum(b)
		if _, err := inspectBytes(b); err == nil {
			require.NotEmpty(t, pairs)
			_ = pairsOf(t, b)
		}
	})
}

// TestPagesThatCannotBeRead shows that a database that shrinks while bbolt has it mapped
// is an error, not the end of the process, and can be closed.
func TestPagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "database")
	for _, act := range []func(*tree) error{
		func(t *tree) error { return t.load(nil, func(string, string, []byte) error { return nil }) },
		func(t *tree) error { return t.apply(changes{"deep": {dropped: true}}, 9) },
		func(t *tree) error { return t.copyTo(context.Background(), path+" copy") },
	} {
		require.NoError(t, os.WriteFile(path, newSampleDatabase(t), 0o600))
		tree, err := openTree(path, head{})
		require.NoError(t, err)
		require.NoError(t, os.Truncate(path, 3*pageBytes))
		for range 2 {
			require.ErrorContains(t, act(tree), "bbolt panicked")
		}
		require.NoError(t, tree.close())
	}
}
