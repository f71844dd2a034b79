package security_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A reign is the time for which one rate was in force.
type reign struct {
	rate  security.Rate
	since time.Duration
}

// An admission is an act that a meter let pass, at the time that counts.
type admission struct {
	at time.Duration
	n  int64
	in int // the reign
}

// A metered is one meter of a plugin, and what is known of it: what it admitted
// under which rates, and the level of a bucket that has no stock and so is never
// above that of the meter.
type metered struct {
	verb     plugbus.Verb
	bytes    bool
	reigns   []reign
	admitted []admission
	latest   time.Duration
	small    float64
}

func perNano(r security.Rate) float64 { return float64(r.Limit) / float64(r.Per) }

func (m *metered) now() reign { return m.reigns[len(m.reigns)-1] }

// advance moves the time on to at, if that is later.
func (m *metered) advance(at time.Duration) {
	if at <= m.latest {
		return
	}
	r := m.now().rate
	m.small = min(m.small+perNano(r)*float64(at-m.latest), float64(r.Burst-r.Burst/8))
	m.latest = at
}

// lapse takes away what may be in stock.
func (m *metered) lapse() { m.small = max(0, m.small-float64(m.now().rate.Burst/8)) }

// change puts another rate in force.
func (m *metered) change(r security.Rate, at time.Duration) {
	switch {
	case len(m.reigns) == 0:
		m.small = float64(r.Burst)
	case m.now().rate == r:
		return
	default:
		m.advance(at)
		m.lapse()
	}
	m.small = min(m.small, float64(r.Burst-r.Burst/8))
	m.reigns = append(m.reigns, reign{r, m.latest})
}

// bound returns the most that may pass in a span that begins in a reign: what the
// bucket holds then, and what every rate in force meanwhile puts in.
func (m *metered) bound(first int, from, to time.Duration) float64 {
	sum := float64(m.reigns[first].rate.Burst)
	for i, r := range m.reigns[first:] {
		end := to
		if next := first + i + 1; next < len(m.reigns) {
			end = min(end, m.reigns[next].since)
		}
		if begin := max(from, r.since); begin < end {
			sum += perNano(r.rate) * float64(end-begin)
		}
	}
	return sum
}

// requireBound looks at every span between two admissions (L1).
func (m *metered) requireBound(t *rapid.T) {
	for i, first := range m.admitted {
		sum := int64(0)
		for _, a := range m.admitted[i:] {
			sum += a.n
			require.LessOrEqual(t, float64(sum), m.bound(first.in, first.at, a.at)+1e-3, "from %v to %v: %+v", first.at, a.at, m.reigns)
		}
	}
}

func drawLimit(t *rapid.T) security.Rate {
	r := security.Rate{
		Limit: rapid.SampledFrom([]int64{0, 1, 7, 60, 300}).Draw(t, "limit"),
		Per:   rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, time.Minute}).Draw(t, "per"),
		Burst: rapid.SampledFrom([]int64{1, 5, 8, 64, 100, 1000}).Draw(t, "burst"),
	}
	if r.Limit == 0 {
		r.Per, r.Burst = time.Minute, 0 // A file may not say more.
	}
	return r
}

func rateText(r security.Rate) string {
	if r.Limit == 0 {
		return `{"limit":0}`
	}
	return fmt.Sprintf(`{"limit":%d,"per":%q,"burst":%d}`, r.Limit, r.Per, r.Burst)
}

// TestLimiterModel drives the meters of a plugin through a policy that changes, with
// acts at any times: late, early, equal, far apart, and with sessions that come and
// go. In no span pass more than the bound; whoever a bucket without a stock would
// let pass does pass; and 0 admits nothing (L1, L2, L3, L5, L6, L12).
func TestLimiterModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(t *rapid.T) {
			start := time.Now()
			meters := []*metered{{verb: plugbus.VerbEmit}, {verb: plugbus.VerbSend}, {verb: plugbus.VerbEmit, bytes: true}}
			draw := func(t *rapid.T) *security.Policy {
				var rates [3]security.Rate
				for i, m := range meters {
					if rates[i] = drawLimit(t); m.reigns != nil && rapid.Bool().Draw(t, "same") {
						rates[i] = m.now().rate
					}
					m.change(rates[i], time.Since(start))
				}
				p, err := security.Parse(fmt.Appendf(nil, `{"version":1,"plugins":{"a":{"emit":true,"canSendMessages":true,"rates":{"events":%s,"messages":%s,"bytes":%s}},"b":{"receive":true}}}`,
					rateText(rates[0]), rateText(rates[1]), rateText(rates[2])), "")
				require.NoError(t, err)
				return p
			}
			a, err := security.New(security.Options{Policy: draw(t)})
			require.NoError(t, err)
			s, err := a.Join("a")
			require.NoError(t, err)
			t.Repeat(map[string]func(*rapid.T){
				"act": func(t *rapid.T) {
					m := rapid.SampledFrom(meters).Draw(t, "meter")
					off := rapid.SampledFrom([]time.Duration{0, 0, 0, 0, -1, 1, -time.Millisecond, time.Millisecond, -time.Second, time.Second, -time.Hour, time.Minute}).Draw(t, "off")
					n := rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2, 9, 120}).Draw(t, "n")
					for range rapid.IntRange(1, 20).Draw(t, "times") {
						permit := s.Permit(m.verb, "b")
						meter := permit.Acts
						if m.bytes {
							meter = permit.Bytes
						}
						at := time.Since(start) + off
						m.advance(at)
						wait := meter.Take(start.Add(at), n)
						if n == 0 {
							require.Zero(t, wait)
							continue
						}
						r := m.now().rate
						require.True(t, wait != 0 || r.Limit > 0, "0 admits nothing")
						if m.small > float64(n)+1e-3 {
							require.Zero(t, wait, "%d at %v, with %v in a bucket of %v", n, at, m.small, r)
						}
						require.Equal(t, int64(n) > r.Burst, wait < 0, "whether a wait would do")
						if wait == 0 {
							m.small = max(0, m.small-float64(n))
							m.admitted = append(m.admitted, admission{m.latest, int64(n), len(m.reigns) - 1})
						}
					}
				},
				"later": func(t *rapid.T) {
					<-time.After(time.Duration(rapid.SampledFrom([]int{1, 1000, 1_000_000, 300_000_000, 7_000_000_000, 90_000_000_000}).Draw(t, "later")))
				},
				"swap": func(t *rapid.T) {
					_, err := a.Swap("host", draw(t))
					require.NoError(t, err)
				},
				"rejoin": func(t *rapid.T) {
					s.Leave()
					if s, err = a.Join("a"); err != nil {
						t.Fatal(err)
					}
					for _, m := range meters {
						m.lapse()
					}
				},
			})
			for _, m := range meters {
				m.requireBound(t)
			}
		})
	})
}

// TestBelowTheRate shows that whoever keeps below the rate is never refused, however
// small the burst, and whatever another act of an older time comes in between.
func TestBelowTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := security.NewMeter(r, start)
		apart := time.Duration(math.Ceil(float64(r.Per)/float64(r.Limit))) + time.Microsecond
		now := start
		for i := range rapid.IntRange(1, 300).Draw(t, "acts") {
			require.Zero(t, m.Take(now, 1), "act %d at %v of %v", i, now.Sub(start), r)
			require.NotZero(t, m.Take(now.Add(-time.Hour), int(r.Burst)+1), "more than the burst takes nothing")
			now = now.Add(apart + time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 1_000_000}).Draw(t, "later")))
		}
	})
}

// TestBoundOfMany has several goroutines act while the policy goes to and fro: in no
// span pass more than the larger rate and the larger burst allow. The acts that count
// in a span are those that began and returned in it (L1, L3).
func TestBoundOfMany(t *testing.T) {
	const acts, steps = 3000, 8
	rates := [2]security.Rate{{Limit: 50, Per: time.Second, Burst: 40}, {Limit: 20, Per: time.Second, Burst: 64}}
	var policies [2]*security.Policy
	for i, r := range rates {
		policies[i] = policy(t, `{"a":{"emit":true,"rates":{"events":`+rateText(r)+`,"bytes":`+rateText(r)+`}}}`)
	}
	for _, bytes := range []bool{false, true} {
		a := authority(t, policies[0])
		s := join(t, a, "a")
		base := time.Now()
		var clock atomic.Int64
		type span struct {
			from, to int64
			n        int64
		}
		var mu sync.Mutex
		var passed []span
		var acting, swapping sync.WaitGroup
		done := make(chan struct{})
		for g := range 4 {
			acting.Go(func() {
				for i := range acts {
					from, n := clock.Add(int64(time.Millisecond)/steps), 1+i%7/6*g
					permit := s.Permit(plugbus.VerbEmit, "x")
					meter := permit.Acts
					if bytes {
						meter = permit.Bytes
					}
					if meter.Take(base.Add(time.Duration(from)), n) == 0 {
						mu.Lock()
						passed = append(passed, span{from, clock.Load(), int64(n)})
						mu.Unlock()
					}
				}
			})
		}
		swapping.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := a.Swap("host", policies[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
		acting.Wait()
		close(done)
		swapping.Wait()
		require.Greater(t, len(passed), 40)
		slices.SortFunc(passed, func(a, b span) int { return int(a.to - b.to) })
		for _, first := range passed {
			sum := int64(0)
			for _, p := range passed {
				if p.from < first.from {
					continue
				}
				sum += p.n
				bound := perNano(rates[0])*float64(p.to-first.from) + float64(rates[1].Burst)
				require.LessOrEqual(t, float64(sum), bound+1e-3, "from %v to %v", time.Duration(first.from), time.Duration(p.to))
			}
		}
	}
}
