package store

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// These tests are in the package, since what the backend gets has no other door.

func plain(b []byte) string { return string(b) }

// FuzzDecode shows that nothing that a backend may have makes a decoder panic: neither
// bytes as they come, nor with a header that is right.
func FuzzDecode(f *testing.F) {
	r := record{key: "key", value: "value", writer: "writer", revision: 300, at: 1, expires: -1}
	s := newSpace(nil, "notes", "a", Config{})
	f.Add(r.encode("notes"))
	f.Add(s.durable.encode("notes"))
	f.Add(s.encodeMeta(&acl{rights: map[string]Rights{"b": Read}}, true))
	f.Add(encodeGrave("notes", 300))
	f.Add((&census{}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		decode := func(seal func(bucket, key string, value []byte) uint32) {
			const key = "key"
			seal(bucketEntries+"notes", key, b)
			if r, err := decodeRecord("notes", key, b, plain); err == nil {
				again, err := decodeRecord("notes", key, r.encode("notes"), plain)
				require.NoError(t, err)
				r.sum, again.sum = 0, 0 // Numbers can be written in more ways than one.
				require.Equal(t, r, again)
			}
			seal(bucketHeads, key, b)
			if h, err := decodeHead(key, b); err == nil {
				require.Equal(t, b, h.encode(key))
			}
			seal(bucketMetas, key, b)
			_, _ = decodeMeta(key, b)
			seal(bucketGraves, key, b)
			if revision, err := decodeGrave(key, b); err == nil {
				require.Equal(t, b, encodeGrave(key, revision))
			}
			seal(bucketCensus, censusKey, b)
			require.True(t, (&census{}).compare(b) != nil || reflect.DeepEqual(b, (&census{}).encode()))
		}
		decode(func(string, string, []byte) uint32 { return 0 })
		if len(b) >= headerSize {
			decode(seal)
		}
	})
}

// TestEncodedIsDecoded shows that what is decoded is what was encoded.
func TestEncodedIsDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringN(0, 2000, -1), rapid.Map(rapid.SliceOf(rapid.Byte()), plain))
		named := text.Filter(func(s string) bool { return !strings.Contains(s, "\x00") }) // As the grammar of names and keys has it.
		name, key := named.Draw(t, "name"), named.Draw(t, "key")
		r := &record{
			key: key, value: text.Draw(t, "value"), writer: text.Draw(t, "writer"), revision: rapid.Uint64().Draw(t, "revision"),
			at: rapid.Int64().Draw(t, "at"), expires: rapid.Int64().Draw(t, "expires"), place: -1,
		}
		encoded := r.encode(name)
		require.LessOrEqual(t, len(encoded), recordOverhead+len(r.writer)+len(r.value))
		is, err := decodeRecord(name, key, encoded, plain)
		require.NoError(t, err)
		require.Equal(t, r, is)

		h := head{rapid.Uint64().Draw(t, "revision"), rapid.Uint64().Draw(t, "count"), rapid.Uint64().Draw(t, "sum")}
		got, err := decodeHead(name, h.encode(name))
		require.NoError(t, err)
		require.Equal(t, h, got)

		revision, err := decodeGrave(name, encodeGrave(name, h.revision))
		require.NoError(t, err)
		require.Equal(t, h.revision, revision)

		// One header is not mistaken for another.
		for _, place := range [][2]string{{bucketHeads, name}, {bucketGraves, key}, {bucketEntries + key, name}} {
			if place != [2]string{bucketEntries + name, key} {
				_, _, err := unseal(place[0], place[1], encoded)
				require.Error(t, err)
			}
		}
	})
}

// TestMetaIsDecoded shows that nothing of a meta is lost.
func TestMetaIsDecoded(t *testing.T) {
	t.Parallel()
	config := Config{Persistent: true, Schema: []byte("{}"), TTL: 1, MaxKeys: 2, MaxBytes: 3, MaxValueBytes: 4, History: 5, HistoryBytes: 6}
	lists := &acl{owner: "a", rights: map[string]Rights{"b": Read | Admin, Everyone: Write}}
	m, err := decodeMeta("notes", newSpace(nil, "notes", "a", config).encodeMeta(lists, true))
	require.NoError(t, err)
	require.Equal(t, meta{"a", lists.rights, true, config.Schema, 1, 2, 3, 4, 5, 6}, m)
	fields := reflect.TypeFor[Config]().NumField()
	require.Equal(t, 12, fields, "a field of Config that is not kept; of these are Persistent, the lists and the validator")
}

// TestCensusCounts shows that a census is the same however it came about.
func TestCensusCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kept := map[place][]byte{}
		c := census{sums: map[place]uint64{}}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			at := place{rapid.SampledFrom([]string{bucketMetas, bucketGraves, bucketHeads, bucketEntries + "x", bucketCensus}).Draw(t, "bucket"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")}
			var value []byte
			if rapid.Bool().Draw(t, "set") {
				value = binary.LittleEndian.AppendUint64(make([]byte, headerSize), rapid.Uint64().Draw(t, "value"))
				seal(at.bucket, at.key, value)
			}
			if c.take(at.bucket, at.key, value) {
				kept[at] = value
			}
		}
		fresh := census{sums: map[place]uint64{}}
		for at, value := range kept {
			fresh.take(at.bucket, at.key, value)
		}
		require.Equal(t, fresh, c)
		require.NoError(t, fresh.compare(c.encode()))
	})
}
