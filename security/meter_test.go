package security_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/security"
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// after returns a time some milliseconds after start.
func after(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func drawRate(t *rapid.T) security.Rate {
	return security.Rate{
		Limit: rapid.Int64Range(1, 300).Draw(t, "limit"),
		Per:   rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, time.Minute}).Draw(t, "per"),
		Burst: rapid.Int64Range(1, 100).Draw(t, "burst"),
	}
}

// TestBound shows that in any span of time w at most Limit × w / Per + Burst
// are admitted, in whatever order the times come (L1, L5).
func TestBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := security.NewMeter(r, start)
		type act struct {
			at time.Duration
			n  int64
		}
		var admitted []act
		now, latest := time.Duration(0), time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "acts") {
			now += time.Duration(rapid.IntRange(-200, 300).Draw(t, "step")) * time.Millisecond
			latest = max(latest, now)
			n := rapid.SampledFrom([]int{1, 1, 1, 1, 2, 5, 40}).Draw(t, "n")
			for range rapid.IntRange(1, 30).Draw(t, "times") {
				if m.Take(start.Add(now), n) == 0 {
					admitted = append(admitted, act{latest, int64(n)})
				}
			}
		}
		for i := range admitted {
			sum := int64(0)
			for _, a := range admitted[i:] {
				sum += a.n
				bound := float64(r.Limit)*float64(a.at-admitted[i].at)/float64(r.Per) + float64(r.Burst)
				require.LessOrEqual(t, float64(sum), bound+1e-6, "%v: from %v to %v", r, admitted[i].at, a.at)
			}
		}
	})
}

// TestModel compares the meter with two buckets that have no stock and are
// asked in order: it admits nothing that the large one would not, and all that
// the small one would, which lacks an eighth of the burst.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := security.NewMeter(r, start)
		most, least := float64(r.Burst), float64(r.Burst-r.Burst/8)
		large, small := most, least
		now := 0
		for range rapid.IntRange(1, 300).Draw(t, "acts") {
			step := rapid.SampledFrom([]int{0, 0, 0, 1, 7, 100, 6000}).Draw(t, "step")
			now += step
			refill := float64(r.Limit) * float64(step) / float64(r.Per.Milliseconds())
			large, small = min(most, large+refill), min(least, small+refill)

			n := rapid.SampledFrom([]int{1, 1, 1, 3, 50}).Draw(t, "n")
			wait := m.Take(after(now), n)
			if small > float64(n)+1e-6 {
				require.Zero(t, wait, "%v: %d at %d ms, with %v tokens", r, n, now, small)
			}
			if large < float64(n)-1e-6 {
				require.NotZero(t, wait, "%v: %d at %d ms, with %v tokens", r, n, now, large)
			}
			if wait == 0 {
				large -= float64(n)
				small -= float64(n)
			}
			require.Equal(t, int64(n) > r.Burst, wait < 0, "no wait will do for more than the burst")
		}
	})
}

// TestRetryAfter shows that whoever waits as long as he is told is admitted,
// and that waiting much less does not do (L12).
func TestRetryAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := security.NewMeter(r, start)
		now := start
		for range rapid.IntRange(1, 150).Draw(t, "acts") {
			m.Take(now, 1)
		}
		n := rapid.IntRange(1, int(r.Burst)).Draw(t, "n")
		wait := m.Take(now, n)
		require.GreaterOrEqual(t, wait, time.Duration(0))
		if wait > 3*time.Microsecond {
			require.NotZero(t, m.Take(now.Add(wait-3*time.Microsecond), n))
			require.Zero(t, m.Take(now.Add(wait), n))
		}
	})
}

// TestFixedWindow shows that what a fixed window lets pass around its edge does
// not pass (L1, L4).
func TestFixedWindow(t *testing.T) {
	m := security.NewMeter(security.Rate{Limit: 100, Per: time.Minute, Burst: 10}, start)
	admitted := 0
	for _, at := range []int{59_999, 60_000, 60_001} {
		for range 100 {
			if m.Take(after(at), 1) == 0 {
				admitted++
			}
		}
	}
	require.Equal(t, 10, admitted)
}

// TestZeroAdmitsNothing shows it for the first act and for those after a long
// while, whatever the burst (L2).
func TestZeroAdmitsNothing(t *testing.T) {
	for _, r := range []security.Rate{{}, {Burst: 100}, {Limit: -1, Per: -1, Burst: -1}, {Per: time.Second, Burst: 8}} {
		m := security.NewMeter(r, start)
		for _, at := range []int{0, 1, 60_000, 60_001, 86_400_000} {
			require.Negative(t, m.Take(after(at), 1), "%v", r)
		}
		require.Zero(t, m.Take(start, 0), "nothing is nothing")
	}
}

// TestLargestRate shows that the end of the range admits, also where an int has
// 32 bits.
func TestLargestRate(t *testing.T) {
	for _, n := range []int64{math.MaxInt32, 1 << 31, 3_000_000_000, 1 << 32, 1_000_000_000_000, math.MaxInt64} {
		m := security.NewMeter(security.Rate{Limit: n, Burst: n}, start)
		require.Zero(t, m.Take(start, 1), n)
		require.Zero(t, m.Take(start, 1<<30), n)
	}
}

// TestTimeRunsBack shows that a clock that is set back neither refills nor
// freezes a meter (L5).
func TestTimeRunsBack(t *testing.T) {
	m := security.NewMeter(security.Rate{Limit: 60, Per: time.Minute, Burst: 16}, start)
	take := func(at int) (n int) {
		for m.Take(after(at), 1) == 0 {
			n++
		}
		return n
	}
	require.Equal(t, 16, take(0))
	require.Zero(t, take(-3_600_000))
	require.Zero(t, take(0))
	require.Equal(t, 2, take(2000))
	require.Zero(t, take(-3_600_000))
	require.Zero(t, take(2000))
	require.Equal(t, 1, take(3000))
}

// TestOlderActs shows that acts that come late, out of the stock or not, do not
// hide that time has moved on, also in a meter that is years old (L5).
func TestOlderActs(t *testing.T) {
	for _, age := range []time.Duration{0, 5 * 365 * 24 * time.Hour} {
		m := security.NewMeter(security.Rate{Limit: 1000, Per: time.Second, Burst: 80}, start.Add(-age))
		require.Zero(t, m.Take(after(0), 1)) // fills the stock
		admitted := 0
		for _, at := range []int{10, 0} {
			require.Zero(t, m.Take(after(at), 1))
			admitted++
		}
		for _, at := range []int{0, 10} {
			for m.Take(after(at), 1) == 0 {
				admitted++
			}
		}
		require.LessOrEqual(t, admitted, 80, "since the act at 10 ms")
	}
}

// TestMeterUsage shows that attempts, admissions and refusals are counted apart
// over a full window, also in its first moments (L7, L8).
func TestMeterUsage(t *testing.T) {
	r := security.Rate{Limit: 100, Per: time.Minute, Burst: 100}
	m := security.NewMeter(r, start)
	usage := func(at int, admitted, refused uint64) {
		t.Helper()
		require.Equal(t, security.MeterUsage{
			Rate: r, Attempts: admitted + refused, Admitted: admitted, Refused: refused,
		}, m.Usage(after(at)), "at %d ms", at)
	}
	usage(0, 0, 0)
	m.Take(after(0), 1)
	usage(0, 1, 0)
	usage(10, 1, 0) // and not 6,000 a minute
	for range 200 {
		m.Take(after(1000), 1)
	}
	usage(1000, 101, 100) // the first second refilled one
	usage(54_000, 101, 100)
	m.Take(after(54_000), 30)
	usage(59_999, 131, 100)
	usage(60_000, 30, 0) // the slot of the first five seconds is out
	usage(109_999, 30, 0)
	usage(110_000, 0, 0)
	usage(10_000_000, 0, 0)
	usage(0, 0, 0) // time does not run back
}

// TestMeterUsageModel compares the counts with a list of all acts.
func TestMeterUsageModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := security.NewMeter(r, start)
		var admitted, refused [1000]uint64 // by slots of five seconds
		now := 0
		for range rapid.IntRange(1, 300).Draw(t, "acts") {
			now += rapid.SampledFrom([]int{0, 0, 0, 10, 700, 5000, 20_000}).Draw(t, "step")
			slot := now / 5000
			if m.Take(after(now), 1) == 0 {
				admitted[slot]++
			} else {
				refused[slot]++
			}
			var want security.MeterUsage
			for s := max(0, slot-11); s <= slot; s++ {
				want.Admitted += admitted[s]
				want.Refused += refused[s]
			}
			want.Rate, want.Attempts = r, want.Admitted+want.Refused
			if rapid.Bool().Draw(t, "look") {
				require.Equal(t, want, m.Usage(after(now)))
			}
		}
	})
}

// TestConcurrentTakes shows that no act is lost or admitted twice when several
// goroutines take.
func TestConcurrentTakes(t *testing.T) {
	m := security.NewMeter(security.Rate{Limit: 1, Per: 24 * time.Hour, Burst: 100_000}, start)
	var admitted, refused atomic.Uint64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 40_000 {
				n := uint64(1)
				if i%10 == 0 {
					n = uint64(1 + g)
				}
				if m.Take(after(i%4000), int(n)) == 0 {
					admitted.Add(n)
				} else {
					refused.Add(n)
				}
			}
		})
	}
	wg.Wait()
	u := m.Usage(after(4000))
	require.Equal(t, admitted.Load(), u.Admitted)
	require.Equal(t, refused.Load(), u.Refused)
	require.Equal(t, uint64(100_000), u.Admitted)
}

// TestOldMeter shows that a meter works after more time than fits beside its
// stock.
func TestOldMeter(t *testing.T) {
	m := security.NewMeter(security.Rate{Limit: 60, Per: time.Minute, Burst: 16}, start)
	for _, years := range []int{0, 4, 5, 6} {
		at := start.AddDate(years, 0, 0)
		n := 0
		for m.Take(at, 1) == 0 {
			n++
		}
		require.LessOrEqual(t, n, 16, "%d years", years)
		require.Positive(t, n, "%d years", years)
	}
}
