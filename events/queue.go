package events

// A ring is a queue in a circular slice that grows as needed.
type ring struct {
	records []Event // its length is a power of two
	head    int     // the index of the first record
	count   int
}

func (r *ring) at(i int) *Event { return &r.records[(r.head+i)&(len(r.records)-1)] }

func (r *ring) push(rec *Event) {
	if r.count == len(r.records) {
		grown := make([]Event, max(8, 2*len(r.records)))
		for i := range r.count {
			grown[i] = *r.at(i)
		}
		r.records, r.head = grown, 0
	}
	r.count++
	*r.at(r.count - 1) = *rec
}

func (r *ring) pop() Event {
	rec := *r.at(0)
	*r.at(0) = Event{}
	r.head = (r.head + 1) & (len(r.records) - 1)
	if r.count--; r.count == 0 && len(r.records) > maxChunk {
		r.records, r.head = nil, 0
	}
	return rec
}

// remove takes out the i-th record.
func (r *ring) remove(i int) Event {
	rec := *r.at(i)
	for ; i > 0; i-- {
		*r.at(i) = *r.at(i - 1)
	}
	r.pop()
	return rec
}

// A queue holds the events of one subscription that is not served by a log, or
// not by a log alone. It is guarded by the subscription's lock.
type queue struct {
	ring
	bytes int64
	share map[string]int // events by source, for a fair queue
}

func (q *queue) push(rec *Event) {
	q.ring.push(rec)
	q.bytes += int64(rec.Size())
	if q.share != nil {
		q.share[rec.origin.source]++
	}
}

func (q *queue) left(rec *Event) {
	q.bytes -= int64(rec.Size())
	if q.share != nil {
		if q.share[rec.origin.source]--; q.share[rec.origin.source] == 0 {
			delete(q.share, rec.origin.source)
		}
	}
}

func (q *queue) pop() Event {
	rec := q.ring.pop()
	q.left(&rec)
	return rec
}

// drop takes out the record that makes way for an event of source: the oldest,
// or in a fair queue the oldest of the source that has most.
func (q *queue) drop(source string) Event {
	i := 0
	if q.share != nil {
		most := q.most(source)
		for q.at(i).origin.source != most {
			i++
		}
	}
	rec := q.remove(i)
	q.left(&rec)
	return rec
}

// dropLatest takes out the latest record of the source that has most, or
// returns false if that is the newcomer's own source.
func (q *queue) dropLatest(source string) (Event, bool) {
	most := source
	if q.share != nil {
		most = q.most(source)
	}
	if most == source {
		return Event{}, false
	}
	i := q.count - 1
	for q.at(i).origin.source != most {
		i--
	}
	rec := q.remove(i)
	q.left(&rec)
	return rec, true
}

// most returns the source that has most in a fair queue: source itself if no
// other has more, and otherwise the first by name.
func (q *queue) most(source string) string {
	most, n := source, q.share[source]
	for other, count := range q.share {
		if count > n || count == n && most != source && other < most {
			most, n = other, count
		}
	}
	return most
}

// hasRoom reports whether an event fits within the bounds. An empty queue takes
// every event, since the door bounds its size.
func (q *queue) hasRoom(size int, buffer int, maxBytes int64) bool {
	return q.count == 0 || q.count < buffer && q.bytes+int64(size) <= maxBytes
}
