// Package ids makes ids of UUID version 7 without a clock read or a random
// number for each.
package ids

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// Salt returns the random part of one issuer's ids.
func Salt() uint32 {
	random := uuid.New()
	return binary.BigEndian.Uint32(random[12:])
}

// At returns the id of the thing that an issuer numbered seq and made at
// unixNano. The first 48 bits are milliseconds; the next 42 free bits are a
// counter, as RFC 9562 section 6.2 method 1 has it, so that ids of one issuer
// sort as they were made; the last 32 bits are the salt.
func At(unixNano int64, seq uint64, salt uint32) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[0:8], uint64(unixNano/1e6)<<16|0x7000|seq>>30&0x0FFF)
	binary.BigEndian.PutUint32(id[8:12], 0x8000_0000|uint32(seq)&0x3FFF_FFFF)
	binary.BigEndian.PutUint32(id[12:16], salt)
	return id
}
