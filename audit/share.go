package audit

import "strings"

// A slot holds one entry that is kept. It is linked into the log's order, into
// what its actor holds, and, while repeats can join it, into the windows.
type slot struct {
	entry    Entry
	holder   *holder
	order    node[*slot]
	own      node[*slot]
	window   node[*slot]
	open     bool // the slot is in the windows
	repeated bool // and the sinks do not know of all its repeats
}

func newSlot() *slot {
	s := &slot{}
	s.order.value, s.own.value, s.window.value = s, s, s
	return s
}

// A pool bounds how many entries are kept, and gives each actor its share of
// them: when the pool is full, the oldest entry of the actor that holds the
// most makes room. With n actors in it, nobody is pushed below capacity/n by
// others. Every operation is O(1), since a count moves by one at a time.
type pool struct {
	capacity int
	size     int
	evicted  uint64
	holders  map[string]*holder
	levels   []list[*holder] // levels[n] are those that hold n entries, longest so first
	top      int             // the highest n with holders
}

// A holder is an actor with entries in a pool.
type holder struct {
	actor     string
	slots     list[*slot] // oldest first
	count     int
	coalesced uint64
	evicted   uint64
	level     node[*holder]
}

func newPool(capacity int) pool {
	return pool{capacity: capacity, holders: map[string]*holder{}}
}

// evict makes room for an entry of actor if the pool is full, and returns the
// slot that it took from the largest holder, or nil. The actor is the largest
// holder if none holds more.
func (p *pool) evict(actor string) *slot {
	if p.size < p.capacity {
		return nil
	}
	victim := p.holders[actor]
	if victim == nil || victim.count < p.top {
		victim = p.levels[p.top].first.value
	}
	s := victim.slots.first.value
	victim.slots.remove(&s.own)
	victim.evicted++
	p.evicted++
	p.size--
	p.move(victim, -1)
	if victim.count == 0 {
		delete(p.holders, victim.actor)
	}
	return s
}

// add gives s, whose entry is set, to its actor. There is room for it.
func (p *pool) add(s *slot) {
	h := p.holders[s.entry.Actor]
	if h == nil {
		h = &holder{actor: strings.Clone(s.entry.Actor)}
		h.level.value = h
		p.holders[h.actor] = h
	}
	s.holder = h
	h.slots.push(&s.own)
	p.size++
	p.move(h, +1)
}

// move changes the count of h by one, and keeps top at the largest holder.
func (p *pool) move(h *holder, by int) {
	if h.count > 0 {
		p.levels[h.count].remove(&h.level)
	}
	h.count += by
	for len(p.levels) <= h.count {
		p.levels = append(p.levels, list[*holder]{})
	}
	if h.count > 0 {
		p.levels[h.count].push(&h.level)
	}
	if h.count > p.top || p.levels[p.top].first == nil {
		p.top = h.count
	}
}
