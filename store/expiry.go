package store

import (
	"container/heap"
	"sync"
	"time"

	"github.com/plugbus/plugbus/internal/actor"
)

// Expiries take away entries whose time is over. Until they do, whoever reads does not
// see such an entry. One timer runs while there is an entry that will expire.
type expiries struct {
	db *DB

	mu     sync.Mutex // guards below; it is taken under those of stores
	queue  expiryQueue
	timer  *time.Timer
	at     int64 // for when the timer is set; 0 if it is not
	closed bool

	looking sync.WaitGroup
}

// An expiring entry is due at a time.
type expiring struct {
	space  *space
	record *record
}

// An expiryQueue is a heap by time. The place of a record is its index.
type expiryQueue []expiring //nolint:recvcheck // Package heap wants it so.

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].record.expires < q[j].record.expires }
func (q expiryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].record.place, q[j].record.place = i, j
}

// Push implements heap.Interface.
func (q *expiryQueue) Push(x any) {
	e, _ := x.(expiring)
	e.record.place = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *expiryQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = expiring{}
	*q = (*q)[:last]
	e.record.place = -1
	return e
}

// replace lets go of an old record, and takes a new one, if they expire.
func (x *expiries) replace(s *space, old, next *record) {
	if (old == nil || old.expires == 0) && (next == nil || next.expires == 0) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil && old.place >= 0 {
		heap.Remove(&x.queue, old.place)
	}
	if next != nil && next.expires != 0 {
		heap.Push(&x.queue, expiring{s, next})
	}
	x.arm()
}

// arm sets the timer for the first that is due. x.mu is held.
func (x *expiries) arm() {
	if x.closed || len(x.queue) == 0 {
		return
	}
	due := x.queue[0].record.expires
	if x.at != 0 && x.at <= due {
		return // It comes early, and looks again.
	}
	wait := max(0, time.Duration(due-x.db.clock.Now().UnixNano()))
	x.at = due
	if x.timer == nil {
		x.timer = time.AfterFunc(wait, x.look)
		return
	}
	x.timer.Reset(wait)
}

// maxExpired bounds how many entries one look takes away, so that it holds no lock for
// long.
const maxExpired = 256

// look takes away what is due.
func (x *expiries) look() {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.looking.Add(1)
	defer x.looking.Done()
	x.at = 0
	now := x.db.clock.Now().UnixNano()
	due := map[*space][]*record{}
	for n := 0; n < maxExpired && len(x.queue) > 0 && x.queue[0].record.expires <= now; n++ {
		e, _ := heap.Pop(&x.queue).(expiring)
		due[e.space] = append(due[e.space], e.record)
	}
	x.mu.Unlock()
	for s, records := range due {
		s.expire(now, records)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.arm()
}

// close takes nothing more away, and waits for a look that is on its way.
func (x *expiries) close() {
	x.mu.Lock()
	x.closed = true
	if x.timer != nil {
		x.timer.Stop()
	}
	x.mu.Unlock()
	x.looking.Wait()
}

// expire takes records away, unless they were replaced.
func (s *space) expire(now int64, records []*record) {
	var wakes actor.Wakes
	defer wakes.Wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return
	}
	count, bytes, revision := s.ahead.count, s.ahead.bytes, s.ahead.revision
	var changes []change
	for _, r := range records {
		if current, _ := s.head(r.key); current != r {
			continue
		}
		revision++
		count--
		bytes -= r.size()
		changes = append(changes, change{kind: Expired, key: r.key, revision: revision, at: now, led: r.led, rules: s.db.rules.Load(), replaced: r})
	}
	if len(changes) == 0 {
		return
	}
	s.db.usage.add(s.owner, bytes-s.ahead.bytes)
	// If the backend takes nothing any more, nobody sees these entries all the same.
	_, _ = s.accept(changes, count, bytes, &wakes)
}
