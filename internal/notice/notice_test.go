package notice_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/notice"
)

// TestTell shows that a Tell reaches all who asked before it, and nobody who asks
// after it.
func TestTell(t *testing.T) {
	t.Parallel()
	var n notice.Notice
	n.Tell() // Nobody waits.
	for range 3 {
		first, second := n.Next(), n.Next()
		require.False(t, closed(first))
		n.Tell()
		n.Tell()
		require.True(t, closed(first))
		require.True(t, closed(second))
		require.False(t, closed(n.Next()))
	}
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
				for {
					changed := n.Next()
					if count.Load() == changes {
						return
					}
					<-changed
				}
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

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
