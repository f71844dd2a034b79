package store

import (
	"strings"
	"time"

	"github.com/plugbus/plugbus"
)

// An Entry is a key with its value, as it was at one revision. It is immutable and
// small; the zero Entry is no entry.
type Entry struct{ r *record }

// A record is what an entry refers to. It is immutable but for place.
type record struct {
	key, value string
	revision   uint64
	writer     string
	at         int64 // Unix nanoseconds
	expires    int64 // the same; 0 means never

	led   plugbus.Chain // what led to an entry that expires
	place int           // in the queue of expiries, -1 if it is not there; under its lock
	sum   uint64        // of what the backend has; of the committer
}

// Exists reports whether there is an entry. The methods below return zeros if there
// is none.
func (e Entry) Exists() bool { return e.r != nil }

// Key returns the key.
func (e Entry) Key() string { return e.get().key }

// Value returns a copy of the value, which the caller may change.
func (e Entry) Value() []byte {
	if e.r == nil {
		return nil
	}
	return []byte(e.r.value)
}

// Text returns the value as a string, without a copy.
func (e Entry) Text() string { return e.get().value }

// Revision returns the number of the change that made the entry so.
func (e Entry) Revision() uint64 { return e.get().revision }

// Writer returns the id of the plugin that wrote it.
func (e Entry) Writer() string { return e.get().writer }

// Time returns when it was written.
func (e Entry) Time() time.Time { return timeOf(e.get().at) }

// Expires returns when it expires, or the zero time if it does not.
func (e Entry) Expires() time.Time { return timeOf(e.get().expires) }

func (e Entry) get() *record {
	if e.r == nil {
		return &record{}
	}
	return e.r
}

func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}

// size is what the entry counts for the quotas.
func (r *record) size() int64 {
	if r == nil {
		return 0
	}
	return int64(len(r.key) + len(r.value))
}

// gone reports whether the entry is no longer there at a time: it has expired, even
// if nobody has taken it away yet.
func (r *record) gone(now int64) bool { return r == nil || r.expires != 0 && r.expires <= now }

// private returns a copy of a key, which may be a piece of something large.
func private(key string) string { return strings.Clone(key) }
