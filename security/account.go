package security

import (
	"sync"
	"sync/atomic"
	"time"
)

// An account counts what one plugin does. It belongs to the id, and is kept
// for a while after its last session, so that to leave and to join again gives
// no new quota.
type account struct {
	authority *Authority
	id        string
	sessions  int // guarded by the authority's mutex

	meters [operations]atomic.Pointer[Meter] // nil until there is a rate

	mu       sync.Mutex // guards below
	alarms   [operations + 1]alarm
	refusals window
	slot     int64 // of refusals
}

func newAccount(a *Authority, id string) *account {
	return &account{authority: a, id: id}
}

// apply puts the rates of a policy in force. The authority's mutex is held.
func (c *account) apply(p *Policy, now time.Time) {
	g := p.lookup(c.id)
	if g == nil {
		return // nothing is allowed, so nothing is metered
	}
	for i, r := range g.rates {
		if r != nil {
			c.meter(Operation(i), *r).set(*r, now)
		}
	}
}

// meter returns the meter of an operation, which is made with the first rate
// that there is for it.
func (c *account) meter(op Operation, r Rate) *Meter {
	if m := c.meters[op].Load(); m != nil {
		return m
	}
	m := NewMeter(r, c.authority.clock.Now())
	m.watch = func(at time.Time, before, attempts uint64, r Rate) {
		c.check(int(op), at, before, attempts, threshold(r, c.authority.options.AlertRatio))
	}
	c.meters[op].CompareAndSwap(nil, m)
	return c.meters[op].Load()
}

// lapse gives up what the meters took in advance.
func (c *account) lapse() {
	for i := range c.meters {
		if m := c.meters[i].Load(); m != nil {
			m.lapse()
		}
	}
}

// refused counts a refusal, and the attempt if no meter has counted it.
func (c *account) refused(g *grant, op Operation, metered bool, now time.Time) {
	if m := c.meters[op].Load(); metered && m != nil && g != nil && g.rates[op] != nil {
		m.refuse(now)
	}
	c.mu.Lock()
	c.advance(now)
	c.refusals.add(c.slot, 0, 1)
	count := c.refusals.attempts()
	c.mu.Unlock()
	c.check(int(operations), now, count-1, count, uint64(c.authority.options.AlertRefusals))
}

// advance moves the window of refusals on. The mutex is held.
func (c *account) advance(now time.Time) {
	if slot := int64(now.Sub(c.authority.start) / slotTime); slot > c.slot {
		c.refusals.roll(c.slot, slot)
		c.slot = slot
	}
}

// check raises an alert if an act made a count rise to one.
func (c *account) check(kind int, at time.Time, before, count, threshold uint64) {
	c.mu.Lock()
	severity, raise := c.alarms[kind].rise(before, count, threshold)
	c.mu.Unlock()
	if raise {
		c.authority.alert(Alert{
			Kind: alertKinds[kind], Severity: severity, Plugin: c.id,
			Count: count, Threshold: threshold, Time: at,
		})
	}
}

// Usage is what one plugin did in the last [Window].
type Usage struct {
	Plugin     string           `json:"plugin"`
	Sessions   int              `json:"sessions"` // 0 if the plugin has left
	Operations []OperationUsage `json:"operations"`
	Refusals   uint64           `json:"refusals"` // of all kinds
}

// OperationUsage is the usage of one operation that has a rate.
type OperationUsage struct {
	Operation Operation `json:"operation"`
	MeterUsage
}

// usage reads the account. The authority's mutex is held.
func (c *account) usage(now time.Time) Usage {
	u := Usage{Plugin: c.id, Sessions: c.sessions}
	for i := range c.meters {
		if m := c.meters[i].Load(); m != nil {
			u.Operations = append(u.Operations, OperationUsage{Operation(i), m.Usage(now)})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	u.Refusals = c.refusals.attempts()
	return u
}
