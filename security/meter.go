package security

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// A Meter admits acts at a [Rate], and counts them. Its time never runs back:
// an act that comes with an older time than another counts at the time of the
// other. So in any span w the meter admits at most Limit × w / Per + Burst.
//
// Single acts are handed out of a small stock that was taken in advance, which
// costs a fraction of asking the limiter each time. The bound holds all the
// same: what is in stock counts toward the burst until it is known to be gone,
// so up to an eighth of the burst may be refilled a little late.
//
// Its methods may be called by several goroutines.
type Meter struct {
	start time.Time // the times below count nanoseconds from here

	// watch is told now and then of the attempts in the window, before an act and
	// with it. It is called without the lock. It may be nil.
	watch func(at time.Time, before, attempts uint64, r Rate)

	// stock holds the latest time of an act, and in its low bits how many acts
	// are paid for. While these are 0, it is changed only with the mutex held.
	stock atomic.Int64
	until atomic.Int64 // acts from this time on are not handed out of the stock

	mu     sync.Mutex // guards below
	rate   Rate
	inner  *rate.Limiter // admits what is not in stock
	burst  int64         // of inner
	filled int64         // what the stock held when it was last filled
	latest int64         // time that is known; acts out of the stock may be later
	slot   int64         // the slot of the window that is being counted
	window window
}

const (
	stockBits  = 6
	maxStock   = 1<<stockBits - 1
	stockShare = 8 // the stock is at most an eighth of the burst

	// maxTime is the longest time, about four years, that fits beside the stock.
	// A meter that is older asks the limiter for each act.
	maxTime = math.MaxInt64 >> stockBits
)

// NewMeter returns a meter that has its whole burst at start. Acts that are
// older than start count as acts at start.
func NewMeter(r Rate, start time.Time) *Meter {
	r = r.normal()
	m := &Meter{start: start, rate: r, burst: r.Burst, inner: rate.NewLimiter(r.perSecond(), int(r.Burst))}
	m.inner.SetBurstAt(start, int(r.Burst)) // the time of a new limiter begins in the year 1
	m.until.Store(int64(slotTime))
	return m
}

// Take takes n at the time now, and returns 0; or takes nothing, and returns
// how long to wait until n could be had, if nobody else took any. That is
// negative if no wait will do. Taking nothing is always admitted.
func (m *Meter) Take(now time.Time, n int) time.Duration {
	t := int64(now.Sub(m.start))
	if n == 1 && t < m.until.Load() {
		for {
			s := m.stock.Load()
			if s&maxStock == 0 {
				break
			}
			if m.stock.CompareAndSwap(s, max(s>>stockBits, t)<<stockBits|s&maxStock-1) {
				return 0
			}
		}
	}
	return m.take(t, int64(max(n, 0)))
}

// take takes n from the limiter, and as much for the stock as there is.
func (m *Meter) take(t, n int64) time.Duration {
	m.mu.Lock()
	now, have := m.empty(t)
	tokens := m.inner.TokensAt(now)
	wait := time.Duration(0)
	if have+int64(tokens) >= n {
		if pull := min(n+m.stockSize()-have, int64(tokens)); pull > 0 && m.inner.AllowN(now, int(pull)) {
			have += pull
		}
	}
	if have >= n {
		have -= n
		m.window.add(m.slot, n, 0)
	} else {
		m.window.add(m.slot, 0, n)
		wait = m.wait(n, float64(have)+tokens)
	}
	m.fill(now, have)
	m.unlockAndTell(now, n)
	return wait
}

// wait returns how long it takes until there are n, of which there is a part.
func (m *Meter) wait(n int64, have float64) time.Duration {
	if n > m.rate.Burst || m.rate.Limit == 0 {
		return -1
	}
	micros := math.Ceil((float64(n) - have) / float64(m.inner.Limit()) * 1e6)
	// One more for what is lost by rounding; a hundred years are enough.
	return time.Duration(min(micros, 3e15)+1) * time.Microsecond
}

// refuse counts an act that was refused before it came to the meter.
func (m *Meter) refuse(at time.Time) {
	m.mu.Lock()
	now, have := m.empty(int64(at.Sub(m.start)))
	m.window.add(m.slot, 0, 1)
	m.fill(now, have)
	m.unlockAndTell(now, 1)
}

// unlockAndTell ends an act that tried n.
func (m *Meter) unlockAndTell(now time.Time, n int64) {
	attempts, r := m.window.attempts(), m.rate
	m.mu.Unlock()
	if m.watch != nil {
		m.watch(now, attempts-uint64(n), attempts, r)
	}
}

// set changes the rate. What the old rate admitted is not given again, and the
// stock lapses.
func (m *Meter) set(r Rate, at time.Time) {
	r = r.normal()
	m.mu.Lock()
	defer m.mu.Unlock()
	if r == m.rate {
		return
	}
	now, _ := m.empty(int64(at.Sub(m.start)))
	m.rate = r
	m.inner.SetLimitAt(now, r.perSecond())
	m.fill(now, 0)
}

// lapse gives the stock up.
func (m *Meter) lapse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, _ := m.empty(0)
	m.fill(now, 0)
}

// A MeterUsage is what a meter did in the last [Window].
type MeterUsage struct {
	Rate     Rate   `json:"rate"`
	Attempts uint64 `json:"attempts"` // = Admitted + Refused
	Admitted uint64 `json:"admitted"`
	Refused  uint64 `json:"refused"` // by the rate, or before it was asked
}

// Usage returns the rate, and what was counted in the full [Window] before at.
func (m *Meter) Usage(at time.Time) MeterUsage {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fill(m.empty(int64(at.Sub(m.start))))
	admitted, refused := m.window.sums()
	return MeterUsage{Rate: m.rate, Attempts: admitted + refused, Admitted: admitted, Refused: refused}
}

// empty takes the stock away, counts what was handed out of it, and moves the
// time on to t, or to that of the latest act. It returns the time, and what was
// left in stock.
func (m *Meter) empty(t int64) (now time.Time, left int64) {
	s := m.stock.Load()
	for !m.stock.CompareAndSwap(s, s&^maxStock) {
		s = m.stock.Load()
	}
	latest, left := s>>stockBits, s&maxStock
	m.window.add(m.slot, m.filled-left, 0)
	m.latest = max(m.latest, latest)
	// By the latest time the room in the bucket was there, and it fills since.
	m.setStock(m.start.Add(time.Duration(m.latest)), left)

	m.latest = max(m.latest, t)
	if slot := m.latest / int64(slotTime); slot > m.slot {
		m.window.roll(m.slot, slot)
		m.slot = slot
		m.until.Store(min((slot+1)*int64(slotTime), maxTime))
	}
	m.stock.Store(min(m.latest, maxTime) << stockBits)
	return m.start.Add(time.Duration(m.latest)), left
}

// fill puts n into the stock, which is empty.
func (m *Meter) fill(now time.Time, n int64) {
	m.setStock(now, n)
	m.stock.Add(n)
}

// setStock leaves the limiter room for all but what is in stock.
func (m *Meter) setStock(now time.Time, n int64) {
	m.filled = n
	if burst := m.rate.Burst - n; burst != m.burst {
		m.burst = burst
		m.inner.SetBurstAt(now, int(burst))
	}
}

// stockSize returns the most that may be in stock.
func (m *Meter) stockSize() int64 { return min(maxStock, m.rate.Burst/stockShare) }

// normal returns the rate with its defaults, within what can be computed.
func (r Rate) normal() Rate {
	if r.Per <= 0 {
		r.Per = time.Minute
	}
	if r.Burst <= 0 {
		r.Burst = r.Limit
	}
	r.Per = min(max(r.Per, minPer), maxPer)
	r.Limit = min(max(r.Limit, 0), maxLimit)
	r.Burst = min(r.Burst, maxLimit, math.MaxInt) // the limiter counts in int
	if r.Limit == 0 {
		r.Burst = 0
	}
	return r
}

// perSecond returns the rate in the unit of the limiter.
func (r Rate) perSecond() rate.Limit {
	return rate.Limit(float64(r.Limit) / r.Per.Seconds())
}
