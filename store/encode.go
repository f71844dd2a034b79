package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"
)

// How stores look on the backend.
//
// There are these buckets, in the order in which they are loaded: "census" has the count
// and a sum over the graves and metas; "graves" has the last revision of each name that
// was dropped; "heads" has the figures of each store; "metas" its owner, lists and config;
// and "of/NAME" has the entries of a store. Each value begins with the number of its
// format and a checksum of the bucket, the key and the rest, so that nothing can be moved
// or changed unnoticed. A head holds the count and a sum over the entries, so that none
// can be lost.
const (
	bucketCensus  = "census"
	bucketGraves  = "graves"
	bucketHeads   = "heads"
	bucketMetas   = "metas"
	bucketEntries = "of/"

	format         = 1
	headerSize     = 5                                    // format and checksum
	recordOverhead = headerSize + 4*binary.MaxVarintLen64 // the most that a record adds to writer and value
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts the header in front of a value, for which it has room.
func seal(bucket, key string, value []byte) (sum uint32) {
	sum = checksum(bucket, key, value[headerSize:])
	value[0] = format
	binary.LittleEndian.PutUint32(value[1:], sum)
	return sum
}

func checksum(bucket, key string, rest []byte) uint32 {
	at := append(append(append(append(make([]byte, 0, len(bucket)+len(key)+2), bucket...), 0), key...), 0)
	return crc32.Update(crc32.Checksum(at, castagnoli), castagnoli, rest)
}

// unseal returns what is behind the header.
func unseal(bucket, key string, value []byte) (rest []byte, sum uint32, err error) {
	if len(value) < headerSize {
		return nil, 0, errors.New("it is shorter than its header")
	}
	if value[0] != format {
		return nil, 0, fmt.Errorf("its format is %d, and this version of plugbus knows %d", value[0], format)
	}
	rest = value[headerSize:]
	if sum = binary.LittleEndian.Uint32(value[1:]); sum != checksum(bucket, key, rest) {
		return nil, 0, errors.New("its checksum is wrong")
	}
	return rest, sum, nil
}

// A head holds the figures of a store.
type head struct {
	revision uint64
	count    uint64
	sum      uint64 // of the sums of the entries
}

func (h *head) encode(name string) []byte {
	b := make([]byte, headerSize, headerSize+24)
	b = binary.LittleEndian.AppendUint64(b, h.revision)
	b = binary.LittleEndian.AppendUint64(b, h.count)
	b = binary.LittleEndian.AppendUint64(b, h.sum)
	seal(bucketHeads, name, b)
	return b
}

func decodeHead(name string, value []byte) (h head, err error) {
	b, _, err := unseal(bucketHeads, name, value)
	if err == nil && len(b) != 24 {
		err = errors.New("it has the wrong length")
	}
	if err != nil {
		return h, err
	}
	return head{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}, nil
}

// encode returns the value of a record, and notes its sum.
func (r *record) encode(store string) []byte {
	b := make([]byte, headerSize, recordOverhead+len(r.writer)+len(r.value))
	b = binary.AppendUvarint(b, r.revision)
	b = binary.AppendVarint(b, r.at)
	b = binary.AppendVarint(b, r.expires)
	b = binary.AppendUvarint(b, uint64(len(r.writer)))
	b = append(b, r.writer...)
	b = append(b, r.value...)
	r.sum = mix(seal(bucketEntries+store, r.key, b), r.revision)
	return b
}

// mix spreads a checksum over 64 bits, so that sums of many do not cancel out.
func mix(sum uint32, revision uint64) uint64 {
	x := uint64(sum)<<32 ^ revision
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

var errShort = errors.New("it ends too early")

// decodeRecord returns the record of a value. The name of its writer comes from intern.
func decodeRecord(store, key string, value []byte, intern func([]byte) string) (*record, error) {
	b, sum, err := unseal(bucketEntries+store, key, value)
	if err != nil {
		return nil, err
	}
	r := &record{key: key, place: -1}
	var n int
	if r.revision, n = binary.Uvarint(b); n <= 0 {
		return nil, errShort
	}
	b = b[n:]
	for _, field := range []*int64{&r.at, &r.expires} {
		if *field, n = binary.Varint(b); n <= 0 {
			return nil, errShort
		}
		b = b[n:]
	}
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil, errShort
	}
	b = b[n:]
	r.writer, r.value = intern(b[:length]), string(b[length:])
	r.sum = mix(sum, r.revision)
	return r, nil
}

// A meta is what else is known of a store. It is kept as JSON.
type meta struct {
	Owner         string            `json:"owner"`
	Rights        map[string]Rights `json:"rights,omitempty"`
	Guarded       bool              `json:"guarded,omitempty"`
	Schema        []byte            `json:"schema,omitempty"`
	TTL           time.Duration     `json:"ttl,omitempty"`
	MaxKeys       int               `json:"max_keys"`
	MaxBytes      int64             `json:"max_bytes"`
	MaxValueBytes int               `json:"max_value_bytes"`
	History       int               `json:"history"`
	HistoryBytes  int               `json:"history_bytes"`
}

// encodeMeta returns the meta of a store with these lists.
func (s *space) encodeMeta(a *acl, guarded bool) []byte {
	c := &s.config
	text, _ := json.Marshal(meta{ // Of such a struct it cannot fail.
		Owner: s.owner, Rights: a.rights, Guarded: guarded, Schema: c.Schema, TTL: c.TTL,
		MaxKeys: c.MaxKeys, MaxBytes: c.MaxBytes, MaxValueBytes: c.MaxValueBytes, History: c.History, HistoryBytes: c.HistoryBytes,
	})
	b := append(make([]byte, headerSize, headerSize+len(text)), text...)
	seal(bucketMetas, s.name, b)
	return b
}

func decodeMeta(name string, value []byte) (m meta, err error) {
	b, _, err := unseal(bucketMetas, name, value)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

func encodeGrave(name string, revision uint64) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, headerSize, headerSize+8), revision)
	seal(bucketGraves, name, b)
	return b
}

func decodeGrave(name string, value []byte) (uint64, error) {
	b, _, err := unseal(bucketGraves, name, value)
	if err == nil && len(b) != 8 {
		err = errors.New("it has the wrong length")
	}
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// opsOf returns what the backend is to do for a batch: what each write says, and the
// heads and the census as they are then. It runs on the committer's goroutine.
func (c *committer) opsOf(batch []*pending) []Op {
	var ops []Op
	var touched []*space // whose heads are to be written
	heads := func() {
		slices.SortFunc(touched, func(a, b *space) int { return strings.Compare(a.name, b.name) })
		for _, s := range slices.Compact(touched) {
			ops = append(ops, Op{bucketHeads, s.name, s.durable.encode(s.name)})
		}
		touched = nil
	}
	counted := false
	for _, p := range batch {
		if len(p.ops) > 0 {
			heads() // Before ops that may take such a store away.
			ops = append(ops, p.ops...)
			for _, op := range p.ops {
				counted = c.census.take(op.Bucket, op.Key, op.Value) || counted
			}
		}
		s := p.space
		if s != nil && (len(touched) == 0 || touched[len(touched)-1] != s) {
			touched = append(touched, s)
		}
		for i := range p.changes {
			change := &p.changes[i]
			op := Op{Bucket: bucketEntries + s.name, Key: change.key}
			if change.record != nil {
				op.Value = change.record.encode(s.name)
			}
			s.durable.take(change)
			ops = append(ops, op)
		}
	}
	heads()
	if counted {
		ops = append(ops, Op{bucketCensus, censusKey, c.census.encode()})
	}
	return ops
}

// take counts a change.
func (h *head) take(c *change) {
	if c.replaced != nil {
		h.count--
		h.sum -= c.replaced.sum
	}
	if c.record != nil {
		h.count++
		h.sum += c.record.sum
	}
	h.revision = c.revision
}
