package payload

import (
	"reflect"
	"sync"
	"sync/atomic"
)

const (
	hotBits  = 9    // 512 slots of one word
	maxPlans = 4096 // plans that are kept; the hot slots may keep as many again as there are slots
)

// plans is the cache of the process. A plan depends on nothing but its type, so
// every hub can use it.
var plans cache

// A cache finds the plan of a type. It is bounded, because a plugin can make
// types at run time without end: at its limit it forgets everything, which costs
// each type in use one more build.
type cache struct {
	hot [1 << hotBits]atomic.Pointer[plan] // by a hash of the type word; a newcomer takes the slot

	mu sync.RWMutex // guards all
	// all holds every plan, so that two types that share a slot do not build
	// theirs again and again.
	all map[reflect.Type]*plan
}

// of returns the plan of v's type. v is not nil.
func (c *cache) of(v any) *plan {
	word := typeWord(v)
	slot := &c.hot[uint64(word)*0x9E3779B97F4A7C15>>(64-hotBits)]
	if p := slot.Load(); p != nil && p.word == word {
		return p
	}
	p := c.find(reflect.TypeOf(v), word)
	slot.Store(p)
	return p
}

func (c *cache) find(t reflect.Type, word uintptr) *plan {
	c.mu.RLock()
	p := c.all[t]
	c.mu.RUnlock()
	if p != nil {
		return p
	}
	p = builder{}.plan(t)
	p.word = word
	p.shareable = sync.OnceValue(func() *Error { return shareable(t) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || len(c.all) >= maxPlans {
		c.all = make(map[reflect.Type]*plan)
	}
	c.all[t] = p
	return p
}
