package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/clock"
)

func TestClockFollowsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := clock.New()
		start := time.Now()
		require.Equal(t, start, c.Now())
		for _, step := range []time.Duration{1, time.Millisecond, time.Hour, 24 * 365 * time.Hour} {
			<-time.After(step)
			require.Equal(t, time.Now(), c.Now(), "after %v", step)
		}
		require.Equal(t, start, clock.New().Now().Add(-time.Since(start)))
	})
}

// TestClockIsMonotonic shows that its times carry the monotonic reading, by
// which Go compares and subtracts them: a step of the wall clock neither
// freezes nor frees anybody (L5).
func TestClockIsMonotonic(t *testing.T) {
	t.Parallel()
	c := clock.New()
	last := c.Now()
	for range 1000 {
		now := c.Now()
		require.False(t, now.Before(last), "%v came after %v", now, last)
		require.Regexp(t, ` m=[+-]`, now.String(), "no monotonic reading")
		last = now
	}
}

// BenchmarkNow shows what reading only the monotonic clock saves.
func BenchmarkNow(b *testing.B) {
	b.Run("clock=Clock", func(b *testing.B) {
		b.ReportAllocs()
		for c := clock.New(); b.Loop(); {
			_ = c.Now()
		}
	})
	b.Run("clock=time.Now", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = time.Now()
		}
	})
}
