package store

import (
	"slices"
	"sort"

	"github.com/plugbus/plugbus"
)

// A change is one change of a store.
type change struct {
	kind     Kind
	key      string
	record   *record // nil if the key was deleted or has expired
	replaced *record // what it had, or will have had, before
	revision uint64
	at       int64
	writer   string
	led      plugbus.Chain
	rules    uint64 // the version of the rules under which it was made
}

// size is what the change holds in memory for the history.
func (c *change) size() int {
	return len(c.key) + int(c.record.size()+c.replaced.size())
}

// A history holds the last changes of a store, within bounds, for watches to read.
type history struct {
	changes []change // in the order of revisions; those before start are gone
	start   int
	bytes   int
	floor   uint64 // the revision of the last change that is gone
}

// What the history of any store may hold. What one may hold beyond that is taken from the
// quotas for bytes.
const (
	usualHistory      = 1024
	usualHistoryBytes = 1 << 20
	changeBytes       = 256 // that a change takes beside its key and values
	usualKeys         = 100_000
	entryBytes        = 256 // that an entry takes beside its key and value: 189 when measured, rounded up
)

// keeps returns what the store may hold in memory, beside keys and values, beyond what
// any store may: more history, and more entries, of which each has a record.
func (c *Config) keeps() int64 {
	return int64(max(0, c.HistoryBytes-usualHistoryBytes)) + changeBytes*int64(max(0, c.History-usualHistory)) +
		entryBytes*int64(max(0, c.MaxKeys-usualKeys))
}

// add adds a change, and lets go of the oldest where there are too many.
func (h *history) add(c change, limits *Config) {
	h.changes = append(h.changes, c)
	h.bytes += c.size()
	for n := len(h.changes) - h.start; n > limits.History || h.bytes > limits.HistoryBytes && n > 1; n-- {
		first := &h.changes[h.start]
		h.bytes -= first.size()
		h.floor = first.revision
		*first = change{}
		h.start++
	}
	if h.start > len(h.changes)/2 {
		h.changes = slices.Delete(h.changes, 0, h.start)
		h.start = 0
	}
}

// after returns at most n changes after a revision, which is not below the floor. The
// caller copies what it keeps.
func (h *history) after(revision uint64, n int) []change {
	kept := h.changes[h.start:]
	if len(kept) == 0 || kept[len(kept)-1].revision <= revision {
		return nil
	}
	at := sort.Search(len(kept), func(i int) bool { return kept[i].revision > revision })
	return kept[at:min(at+n, len(kept))]
}
