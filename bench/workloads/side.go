package workloads

import "github.com/plugbus/plugbus/bench/compare"

// The names of the sides.
const (
	ours        = "plugbus"
	syncMap     = "sync.Map"
	appender    = "append+fdatasync"
	bolt        = "bbolt"
	boltBatch   = "bbolt Batch"
	pebble      = "Pebble"
	openInLimit = "300 ms"
)

// guarantee says what holds when a side has done its work.
func guarantee(side string) string {
	switch side {
	case ours:
		return "policy, lists of the store, rate and trust are checked for each act; what is got is immutable, read in place unless copied; a set that returned survives a crash, in one order with all others, seen by watchers"
	case syncMap:
		return "nothing is checked or kept; what is got belongs to everybody"
	case appender:
		return "a record that was appended survives a crash; writers share a sync; the file grows; no index, no checksum, half a record may be left"
	case bolt:
		return "transactions that survive a crash, two syncs for each; a transaction for each get and set; no checks"
	case boltBatch:
		return "as bbolt, but writers that come within a millisecond share a transaction"
	case pebble:
		return "a set that returned survives a crash; writers share a sync; no checks"
	case openInLimit:
		return "a fixed time"
	default:
		return ""
	}
}

// working returns a side that does work.
func working(name string, acts int, prepare func(dir string) (*compare.Trial, error)) compare.Side {
	return compare.Side{Name: name, Guarantees: guarantee(name), Acts: acts, Prepare: prepare}
}
