package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/plugbus/plugbus/store"
)

// A log is a header and then records, one for each commit, numbered without a gap
// from the header's base. Behind the last record there are only zeros.
//
//	header: magic 12, format 4, id 16, base 8, salt 8, zeros 12, checksum 4
//	record: salt 8, number 8, size 4, ops 4, checksum of the body 4, checksum of these 4;
//	        then the body, and zeros up to a multiple of frameBytes
//	body:   for each op the lengths of the bucket (0 for that of the op before), the key
//	        and the value (plus 1, 0 for none) as varints, each followed by its bytes
//
// The salt is random and secret, so that no value can hold what looks like a record.
const (
	logMagic    = "plugbus log\n"
	logFormat   = 1
	headerBytes = 64

	// frameBytes is the size of what stands before a body. It divides sectorBytes,
	// and so does the place of each record, so that no frame can be torn.
	frameBytes = 32

	// sectorBytes is what a medium writes wholly or not at all.
	sectorBytes = 512

	// maxRecordBytes bounds a commit.
	maxRecordBytes = 1 << 30
)

// checksum is that of the format.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A header begins a log.
type header struct {
	id   [16]byte // of the directory; that of the database is the same
	base uint64   // number of the last commit before the first record
	salt [8]byte
}

func (h *header) encode() []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, logMagic...)
	b = binary.LittleEndian.AppendUint32(b, logFormat)
	b = append(b, h.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.base)
	b = append(b, h.salt[:]...)
	b = append(b, make([]byte, headerBytes-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// decodeHeader reads the header of the log that is in b. Its error is a FileError
// without a path.
func decodeHeader(b []byte) (header, error) {
	var h header
	switch {
	case len(b) < headerBytes:
		return h, damaged("it ends within its header, after %d bytes", len(b))
	case !bytes.HasPrefix(b, []byte(logMagic)):
		return h, &FileError{Problem: "it does not begin as a log does", Err: ErrForeign}
	case binary.LittleEndian.Uint32(b[60:]) != checksum(b[:60]):
		return h, damaged("the checksum of its header is wrong")
	}
	if format := binary.LittleEndian.Uint32(b[12:]); format != logFormat {
		return h, &FileError{Problem: fmt.Sprintf("it has format %d, want %d", format, logFormat), Err: ErrNewer}
	}
	copy(h.id[:], b[16:])
	h.base = binary.LittleEndian.Uint64(b[32:])
	copy(h.salt[:], b[40:])
	return h, nil
}

// encodeRecord returns the record of a commit, and its ops with values that are in the
// record, so that nothing of the caller's is kept.
func encodeRecord(ops []store.Op, salt [8]byte, number uint64) ([]byte, []store.Op, error) {
	size := frameBytes
	for i := range ops {
		if err := checkOp(&ops[i]); err != nil {
			return nil, nil, fmt.Errorf("op %d of %d: %w", i+1, len(ops), err)
		}
		size += 3*binary.MaxVarintLen32 + len(ops[i].Bucket) + len(ops[i].Key) + len(ops[i].Value)
		if size > maxRecordBytes {
			return nil, nil, fmt.Errorf("%d ops: they have more than %d bytes; commit them in parts", len(ops), maxRecordBytes)
		}
	}
	b := make([]byte, frameBytes, size+frameBytes)
	own := make([]store.Op, len(ops))
	bucket := ""
	for i, op := range ops {
		if op.Bucket == bucket {
			b = append(b, 0)
		} else {
			bucket = op.Bucket
			b = append(binary.AppendUvarint(b, uint64(len(bucket))), bucket...)
		}
		b = append(binary.AppendUvarint(b, uint64(len(op.Key))), op.Key...)
		if op.Value == nil {
			b = append(b, 0)
		} else {
			b = binary.AppendUvarint(b, uint64(len(op.Value))+1)
			b = append(b, op.Value...)
			op.Value = b[len(b)-len(op.Value) : len(b) : len(b)]
		}
		own[i] = op
	}
	frame := append(b[:0], salt[:]...)
	frame = binary.LittleEndian.AppendUint64(frame, number)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(b)-frameBytes))
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(ops)))
	frame = binary.LittleEndian.AppendUint32(frame, checksum(b[frameBytes:]))
	binary.LittleEndian.AppendUint32(frame, checksum(frame))
	return append(b, make([]byte, padded(len(b))-len(b))...), own, nil
}

func padded(n int) int { return (n + frameBytes - 1) &^ (frameBytes - 1) }

func checkOp(op *store.Op) error {
	const most = 1024
	switch {
	case op.Bucket == "" || len(op.Bucket) > most:
		return fmt.Errorf("a bucket has %d bytes, want 1 to %d", len(op.Bucket), most)
	case len(op.Key) > most:
		return fmt.Errorf("a key has %d bytes, want at most %d", len(op.Key), most)
	case op.Value != nil && len(op.Value) == 0:
		return fmt.Errorf("key %q has an empty value, want nil or some bytes", op.Key)
	case op.Value != nil && op.Key == "":
		return fmt.Errorf("bucket %q has a value without a key", op.Bucket)
	}
	return nil
}

// A frame says what the body behind it is.
type frame struct {
	number uint64
	size   uint32
	ops    uint32
	sum    uint32
}

// decodeFrame reads the frame that b begins with, if there is a whole one.
func decodeFrame(b []byte, salt [8]byte) (f frame, ok bool) {
	if len(b) < frameBytes || !bytes.HasPrefix(b, salt[:]) ||
		binary.LittleEndian.Uint32(b[28:]) != checksum(b[:28]) {
		return f, false
	}
	return frame{
		number: binary.LittleEndian.Uint64(b[8:]),
		size:   binary.LittleEndian.Uint32(b[16:]),
		ops:    binary.LittleEndian.Uint32(b[20:]),
		sum:    binary.LittleEndian.Uint32(b[24:]),
	}, true
}

// errTorn reports a last record that was never wholly written.
var errTorn = errors.New("torn")

// nextRecord returns the frame and the body of the record at offset at of a log, or a
// frame without ops if the log ends there. The error is errTorn, or says what is
// damaged.
//
// A crash may leave of the last record any of its sectors, and zeros in place of the
// others, or cut it off. What is wrong in another way was once right, and has been
// acknowledged; to leave it out would be to lose it.
func nextRecord(log []byte, at int, h header, number uint64) (frame, []byte, error) {
	rest := log[min(at, len(log)):]
	if len(rest) < frameBytes || isZero(rest[:frameBytes]) {
		if isZero(rest) {
			return frame{}, nil, nil
		}
		return frame{}, nil, tornUnless(rest, h, number)
	}
	f, ok := decodeFrame(rest, h.salt)
	switch {
	case !ok:
		return f, nil, fmt.Errorf("what stands before commit %d is not readable", number)
	case f.number != number:
		return f, nil, fmt.Errorf("there is commit %d, want %d", f.number, number)
	case f.ops == 0 || f.size > maxRecordBytes:
		return f, nil, fmt.Errorf("commit %d has %d ops in %d bytes", number, f.ops, f.size)
	}
	end := frameBytes + int(f.size)
	if end > len(rest) {
		return f, nil, tornUnless(rest, h, number)
	}
	if body := rest[frameBytes:end]; checksum(body) == f.sum {
		return f, body, nil
	}
	for sector := at - at%sectorBytes + sectorBytes; sector < at+end; sector += sectorBytes {
		if isZero(log[sector:min(sector+sectorBytes, at+end)]) {
			return f, nil, tornUnless(rest, h, number)
		}
	}
	return f, nil, fmt.Errorf("the checksum of commit %d is wrong", number)
}

// tornUnless returns errTorn, or what speaks against it: a later record.
func tornUnless(rest []byte, h header, number uint64) error {
	for from := frameBytes; from < len(rest); {
		at := bytes.Index(rest[from:], h.salt[:])
		if at < 0 {
			break
		}
		if f, ok := decodeFrame(rest[from+at:], h.salt); ok {
			return fmt.Errorf("commit %d is not whole, but commit %d follows", number, f.number)
		}
		from += at + 1
	}
	return errTorn
}

func isZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// decodeBody calls do with the ops of a body. Their values are in the body.
func decodeBody(body []byte, count uint32, do func(store.Op)) error {
	bucket := ""
	for i := range count {
		op := store.Op{}
		name, rest, ok := cutText(body)
		key, rest, ok2 := cutText(rest)
		size, n := binary.Uvarint(rest)
		if !ok || !ok2 || n <= 0 || size > math.MaxInt32 || int(size) > len(rest)-n+1 {
			return fmt.Errorf("op %d of %d has no sense", i+1, count)
		}
		if len(name) > 0 {
			bucket = string(name)
		}
		op.Bucket, op.Key = bucket, string(key)
		body = rest[n:]
		if size > 0 {
			op.Value, body = body[:size-1:size-1], body[size-1:]
		}
		if err := checkOp(&op); err != nil {
			return fmt.Errorf("op %d of %d: %w", i+1, count, err)
		}
		do(op)
	}
	if len(body) > 0 {
		return fmt.Errorf("%d bytes follow the last of %d ops", len(body), count)
	}
	return nil
}

// cutText cuts off the text that b begins with.
func cutText(b []byte) (text, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}
