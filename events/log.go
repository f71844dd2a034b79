package events

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/topic"
)

// A log holds the events that match one pattern, for all subscriptions that
// follow it: one write serves them all. Records stand in chunks. A follower
// pins the chunk that it reads, and reads it in place.
//
// Under the bus's lock, one emitter at a time appends. Followers see a record
// once count says so.
type log struct {
	pattern topic.Pattern

	// Written by emitters, read by followers.
	count atomic.Uint64 // records published since the log began
	_     [56]byte      // count changes with every event, the rest hardly ever

	// Written by followers that come to rest, read by emitters.
	resting atomic.Bool // whether the rest list has somebody
	_       [63]byte

	// Under the bus's lock.
	next      uint64                     // the position after the last record
	tail      *chunk                     // written under mu too
	followers map[*Subscription]struct{} // subscriptions that read the log
	readers   map[string]int             // how many of them each client has
	queued    []*Subscription            // subscriptions with a queue of their own
	catching  []*Subscription            // subscriptions that still read the history
	maxBytes  int64                      // what a lagging follower may keep alive

	mu      sync.Mutex // guards below; taken after the bus's lock, before a subscription's
	room    int        // the longest queue that a follower asked for
	rest    *Subscription
	chunks  []*chunk // what is kept, oldest first; the last is tail
	bytes   int64    // in chunks, payloads and headers
	spare   *chunk
	lagging int               // pins on chunks that are gone
	evicted map[string]uint64 // records by source that left chunks while somebody lagged
}

// Chunks begin small, since most logs see few events, and double while they
// fill up fast. One that holds many bytes is closed early, because a payload
// lives as long as its chunk.
const (
	minChunk   = 8
	maxChunk   = 128
	chunkBytes = 64 << 10
	fastFill   = 10e6 // nanoseconds
)

type chunk struct {
	start   uint64
	end     atomic.Uint64 // start + len(records), less if closed early
	records []Event
	bytes   int64

	// Under log.mu.
	pins    int
	gone    bool              // no longer in log.chunks
	evicted map[string]uint64 // of the log, when a lagging follower's chunk left it
}

// append publishes one record. The bus's lock is held, and there are followers.
func (l *log) append(e *Event) {
	c := l.tail
	if c == nil || l.next == c.start+uint64(len(c.records)) || c.bytes >= chunkBytes {
		c = l.turn(e.nanos)
	}
	c.records[l.next-c.start] = *e
	c.bytes += int64(e.Size())
	l.next++
	l.count.Store(l.next)
}

// turn starts a new chunk, and lets go of those that nobody may read any more.
func (l *log) turn(now int64) *chunk {
	size := minChunk
	if full := l.tail; full != nil {
		size = len(full.records)
		switch filled := now - full.records[0].nanos; {
		case filled < fastFill:
			size = min(2*size, maxChunk)
		case filled > 100*fastFill:
			size = max(size/2, minChunk)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail != nil {
		l.tail.end.Store(l.next)
		l.bytes += l.tail.bytes
		l.tail = nil
	}
	l.trim()
	c := l.spare
	l.spare = nil
	if c == nil || len(c.records) != size {
		c = &chunk{records: make([]Event, size)}
	}
	c.start = l.next
	c.end.Store(l.next + uint64(size))
	l.chunks = append(l.chunks, c)
	l.tail = c
	return c
}

// trim lets go of the oldest chunks: those that every follower has passed, and
// those so old that the overflow rule of every follower has dropped them. l.mu
// is held.
func (l *log) trim() {
	for len(l.chunks) > 0 {
		c := l.chunks[0]
		passed := c.pins == 0 && l.lagging == 0
		if c == l.tail || !passed && l.count.Load()-c.end.Load() < uint64(l.room) && l.bytes <= l.maxBytes {
			return
		}
		l.chunks[0] = nil
		l.chunks = l.chunks[1:]
		l.bytes -= c.bytes
		c.gone = true
		l.lagging += c.pins
		if !passed {
			l.account(c)
		}
		if c.pins == 0 {
			l.recycle(c)
		}
	}
}

// maxSources bounds the sources that losses are counted by. Further ones are
// counted together, under "".
const maxSources = 1024

// account counts the records of a chunk that leaves while a follower lags, so
// that the follower can say whose events it lost.
func (l *log) account(c *chunk) {
	if l.evicted == nil {
		l.evicted = map[string]uint64{}
	}
	for i := range c.records[:c.end.Load()-c.start] {
		countSource(l.evicted, c.records[i].origin.source, 1)
	}
	if c.pins > 0 {
		c.evicted = maps.Clone(l.evicted)
	}
}

func countSource(counts map[string]uint64, source string, n uint64) {
	if _, known := counts[source]; !known && len(counts) >= maxSources {
		source = ""
	}
	counts[source] += n
}

// recycle keeps a chunk that nobody reads for the next turn. l.mu is held.
func (l *log) recycle(c *chunk) {
	clear(c.records)
	c.bytes, c.gone, c.evicted = 0, false, nil
	l.spare = c
}

// advance gives s the chunk in which a position stands that has been published,
// or the oldest chunk left. It returns the position at which s goes on; what s
// jumps over counts as dropped.
func (l *log) advance(s *Subscription, pos, want uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := s.chunk
	if want >= c.end.Load() {
		c = l.chunks[slices.IndexFunc(l.chunks, func(c *chunk) bool { return want < c.end.Load() })]
	}
	to := max(want, c.start)
	if to > pos {
		s.dropped(l, pos, to)
	}
	if c != s.chunk {
		c.pins++
		l.unpin(s)
		s.chunk = c
		l.trim()
	}
	return to
}

// unpin lets go of the chunk of s. l.mu is held.
func (l *log) unpin(s *Subscription) {
	c := s.chunk
	s.chunk = nil
	c.pins--
	if !c.gone {
		return
	}
	if l.lagging--; l.lagging == 0 {
		l.evicted = nil
	}
	if c.pins == 0 {
		l.recycle(c)
	}
}

// release lets go of the chunk of a follower that has left. Its worker calls it,
// or whoever has it in the worker's place.
func (s *Subscription) release() {
	s.batch = nil
	if s.chunk != nil {
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.log.unpin(s)
		s.pinned.Store(false)
		s.log.trim()
	}
}

// lost counts by source what stands between two positions. The first is in the
// chunk of s or at its end; the second is there too, or in a chunk that is kept.
// The records between may be gone. l.mu is held.
func (l *log) lost(s *Subscription, from, to uint64, counts map[string]uint64) {
	count := func(c *chunk) {
		for i := max(from, c.start); i < min(to, c.end.Load()); i++ {
			countSource(counts, c.records[i-c.start].origin.source, 1)
		}
	}
	if c := s.chunk; c.gone {
		count(c)
		for source, n := range l.evicted {
			if n -= c.evicted[source]; n > 0 && to > c.end.Load() {
				countSource(counts, source, n)
			}
		}
	}
	for _, c := range l.chunks {
		count(c)
	}
}

// between returns the records from a position on to another, which s has not yet
// read, as far as they are kept. The bus's lock and l.mu are held.
func (l *log) between(s *Subscription, from, to uint64) []Event {
	var records []Event
	take := func(c *chunk) {
		if begin, end := max(from, c.start), min(to, c.end.Load()); begin < end {
			records = append(records, c.records[begin-c.start:end-c.start]...)
		}
	}
	if s.chunk.gone {
		take(s.chunk)
	}
	for _, c := range l.chunks {
		take(c)
	}
	return records
}

// takeOver moves what s has not yet handled of its log into its queue, but for
// what the overflow rule has dropped. It detaches s under the log's lock, so that
// the worker starts nothing of the log any more, and keeps the chunk until then.
// bus.mu is held.
func (s *Subscription) takeOver() {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.flag(detached)
	from := w >> posShift
	if w&(running|outside) == running {
		from++
	}
	claimed := max(from, s.claimed.Load())
	kept := max(claimed, l.next-min(l.next, uint64(s.opts.buffer)))
	records := append(l.between(s, from, claimed), l.between(s, kept, l.next)...)
	if gone := l.next - from - uint64(len(records)); gone > 0 {
		l.lost(s, claimed, kept, s.losses())
		if end := s.chunk.end.Load(); kept <= end {
			l.lost(s, end, l.chunks[0].start, s.losses()) // What was too much for the log.
		}
		s.counts.Dropped += gone
		s.observeDropped(gone)
		s.missed.Add(gone)
	}
	s.slow += l.next - from
	s.word.Add((l.next - from) << posShift)
	s.private.Add(int32(len(records)))
	for s.queue.count > 0 { // It has what the log did not bring, such as broadcasts.
		records = append(records, s.queue.pop())
	}
	slices.SortFunc(records, func(a, b Event) int { return cmp.Compare(a.seq, b.seq) })
	for i := range records {
		s.queue.push(&records[i])
	}
}

// join makes s a follower that reads what is appended from now on. The bus's
// lock is held.
func (l *log) join(s *Subscription) {
	if c := l.tail; c == nil || l.next == c.start+uint64(len(c.records)) {
		l.turn(s.client.bus.clock.Now().UnixNano())
	}
	l.followers[s] = struct{}{}
	l.readers[s.client.id]++
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = max(l.room, s.opts.buffer)
	l.tail.pins++
	s.chunk = l.tail
	s.pinned.Store(true)
}

// settle puts s on the rest list, unless it has left. The emitter of the next
// event wakes it.
func (l *log) settle(s *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.listed && s.word.Load()&detached == 0 {
		s.listed = true
		s.nextResting = l.rest
		l.rest = s
		l.resting.Store(true)
	}
}

// rouse takes everybody off the rest list and signals them. The bus's lock is
// held.
func (l *log) rouse(wakes *actor.Wakes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.rest != nil {
		s := l.rest
		l.rest, s.nextResting = s.nextResting, nil
		s.listed = false
		s.signal(wakes)
	}
	l.resting.Store(false)
}

// leave undoes join and settle. The bus's lock is held.
func (l *log) leave(s *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.followers, s)
	if len(l.followers) == 0 {
		l.room = 0
	}
	if l.readers[s.client.id]--; l.readers[s.client.id] == 0 {
		delete(l.readers, s.client.id)
	}
	for at := &l.rest; *at != nil; at = &(*at).nextResting {
		if *at == s {
			*at = s.nextResting
			s.nextResting = nil
			s.listed = false
			break
		}
	}
}
