package notice_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/notice"
)

// TestTell shows that a Tell has all look who wait, and that what changes without one
// is not noticed.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notice.Notice
		n.Tell() // Nobody waits.
		for range 3 {
			var done atomic.Bool
			var looks atomic.Int64
			results := make(chan error, 2)
			for range cap(results) {
				go func() {
					results <- n.Until(t.Context(), func() bool { looks.Add(1); return done.Load() })
				}()
			}
			synctest.Wait()
			require.EqualValues(t, 2, looks.Load())
			n.Tell()
			synctest.Wait()
			require.EqualValues(t, 4, looks.Load())
			done.Store(true)
			synctest.Wait()
			require.Empty(t, results)
			n.Tell()
			for range cap(results) {
				require.NoError(t, <-results)
			}
		}
	})
}

// TestUntilTheContextEnds shows that what is so already is nil, whatever ctx says.
func TestUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var n notice.Notice
	require.NoError(t, n.Until(ctx, func() bool { return true }))
	require.ErrorIs(t, n.Until(ctx, func() bool { return false }), context.Canceled)
}

// TestNothingIsMissed has many wait for the last of many changes. One who missed
// it would wait for ever, which synctest reports as a deadlock.
func TestNothingIsMissed(t *testing.T) {
	const changes = 1000
	synctest.Test(t, func(t *testing.T) {
		var n notice.Notice
		var count atomic.Int64
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				require.NoError(t, n.Until(context.Background(), func() bool { return count.Load() == changes }))
			})
		}
		for range 2 {
			all.Go(func() {
				for range changes / 2 {
					count.Add(1)
					n.Tell()
				}
			})
		}
		all.Wait()
	})
}

// TestTellAllocatesNothing shows that a change that nobody waits for is free.
func TestTellAllocatesNothing(t *testing.T) {
	var n notice.Notice
	require.Zero(t, testing.AllocsPerRun(100, n.Tell))
}

// BenchmarkTell measures a change that nobody waits for.
func BenchmarkTell(b *testing.B) {
	var n notice.Notice
	b.ReportAllocs()
	for b.Loop() {
		n.Tell()
	}
}
