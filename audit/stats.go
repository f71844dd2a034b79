package audit

import (
	"cmp"
	"slices"
)

// Stats is a snapshot of a log's figures. At every instant Recorded is
// Kept + AdminKept + Evicted + AdminEvicted.
type Stats struct {
	Recorded  uint64 `json:"recorded"`  // entries; also the Seq of the last one
	Coalesced uint64 `json:"coalesced"` // records that joined an entry

	Capacity      int    `json:"capacity"`
	Kept          int    `json:"kept"`
	Evicted       uint64 `json:"evicted"`
	AdminCapacity int    `json:"adminCapacity"`
	AdminKept     int    `json:"adminKept"`
	AdminEvicted  uint64 `json:"adminEvicted"`

	// Actors are those with entries that are kept, admin entries apart, in the
	// order of how many these are, most first, and then of their names.
	Actors []ActorStats `json:"actors"`

	Sinks []SinkStats `json:"sinks"` // as in Options
}

// ActorStats are the figures of an actor since it last had no entry.
type ActorStats struct {
	Actor     string `json:"actor"`
	Kept      int    `json:"kept"`
	Coalesced uint64 `json:"coalesced"`
	Evicted   uint64 `json:"evicted"`
}

// SinkStats are the figures of a sink. What it was given is Written + Dropped +
// Waiting, and for one that is not required also Failed.
type SinkStats struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	Queue    int    `json:"queue"`   // how many entries may wait
	Waiting  int    `json:"waiting"` // queued or being written
	Written  uint64 `json:"written"`
	Failed   uint64 `json:"failed"`        // writes that failed; a required sink tries them again
	Dropped  uint64 `json:"dropped"`       // no room, or not written before Close gave up
	Err      string `json:"err,omitempty"` // why a required sink takes nothing now
}

// Stats returns the figures of now.
func (l *Log) Stats() Stats {
	st := l.stats()
	slices.SortFunc(st.Actors, func(a, b ActorStats) int {
		return cmp.Or(cmp.Compare(b.Kept, a.Kept), cmp.Compare(a.Actor, b.Actor))
	})
	return st
}

func (l *Log) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Stats{
		Recorded: l.seq, Coalesced: l.coalesced,
		Capacity: l.plugins.capacity, Kept: l.plugins.size, Evicted: l.plugins.evicted,
		AdminCapacity: l.admins.capacity, AdminKept: l.admins.size, AdminEvicted: l.admins.evicted,
		Actors: make([]ActorStats, 0, len(l.plugins.holders)),
		Sinks:  make([]SinkStats, 0, len(l.feeds)),
	}
	for _, h := range l.plugins.holders {
		st.Actors = append(st.Actors, ActorStats{h.actor, h.count, h.coalesced, h.evicted})
	}
	for _, f := range l.feeds {
		st.Sinks = append(st.Sinks, f.figures())
	}
	return st
}
