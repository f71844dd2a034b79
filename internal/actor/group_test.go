package actor_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/actor"
)

// pass lets time pass in a bubble, and what happens in it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestLinger shows that a worker parks after its work, and ends 20 to 40 ms
// later, whenever that is between the looks at parked workers.
func TestLinger(t *testing.T) {
	for _, phase := range []time.Duration{0, 1, 5 * time.Millisecond, 19 * time.Millisecond, 20*time.Millisecond - 1, 20*time.Millisecond + 1} {
		synctest.Test(t, func(t *testing.T) {
			g := actor.NewGroup()
			first, second := g.New(), g.New()
			var one, two jobs
			first.Attach(&one)
			second.Attach(&two)
			one.give(first, 0, 1) // It sets the timer.
			pass(phase)
			two.give(second, 0, 1)
			synctest.Wait()
			before := g.Live()

			pass(20*time.Millisecond - 1)
			require.GreaterOrEqual(t, g.Live(), 1, "phase %v: the second lingers for 20 ms", phase)
			require.LessOrEqual(t, g.Live(), before)
			pass(20*time.Millisecond + 1)
			require.Zero(t, g.Live(), "phase %v: both are gone after 40 ms", phase)
			require.EqualValues(t, 1, one.done.Load())
			require.EqualValues(t, 1, two.done.Load())

			two.give(second, 0, 3) // A new worker starts when there is work again.
			synctest.Wait()
			require.EqualValues(t, 4, two.done.Load())
			require.Equal(t, 1, g.Live())
			require.NoError(t, g.Close(t.Context()))
			require.Zero(t, g.Live())
		})
	}
}

// TestParkedWorkerIsUsedAgain keeps one worker alive by work that comes more
// often than it lingers.
func TestParkedWorkerIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		var j jobs
		a.Attach(&j)
		for i := range int64(100) {
			j.give(a, 0, 1)
			synctest.Wait()
			require.Equal(t, i+1, j.done.Load())
			require.Equal(t, 1, g.Live())
			pass(19 * time.Millisecond)
		}
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		parked, running, idle := g.New(), g.New(), g.New()
		hold := make(chan struct{})
		short, long := jobs{}, jobs{each: func() { <-hold }}
		parked.Attach(&short)
		running.Attach(&long)
		short.give(parked, 0, 1)
		long.give(running, 0, 2)
		synctest.Wait()
		require.Equal(t, 2, g.Live())

		idle.Retire()
		parked.Retire()
		running.Retire()
		parked.Retire() // Once more does no harm.
		synctest.Wait()
		require.Equal(t, 1, g.Live(), "the parked worker ends at once")
		close(hold)
		synctest.Wait()
		require.EqualValues(t, 2, long.done.Load(), "the running one does the rest of its work first")
		require.Zero(t, g.Live())

		short.give(parked, 0, 1) // A late signal is served, and leaves nothing behind.
		synctest.Wait()
		require.EqualValues(t, 2, short.done.Load())
		require.Zero(t, g.Live())
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a, b := g.New(), g.New()
		hold := make(chan struct{})
		short, long := jobs{}, jobs{each: func() { <-hold }}
		a.Attach(&short)
		b.Attach(&long)
		short.give(a, 0, 1)
		long.give(b, 0, 1)
		g.Go(func() { <-hold })
		synctest.Wait()
		require.Equal(t, 3, g.Live())

		limited, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, g.Close(limited), context.DeadlineExceeded)
		require.Equal(t, 2, g.Live(), "the parked worker is gone; the others are waited for")

		closed := make(chan error)
		go func() { closed <- g.Close(t.Context()) }()
		synctest.Wait()
		close(hold)
		require.NoError(t, <-closed)
		require.Zero(t, g.Live())

		short.give(a, 0, 1) // A late signal is served, and its worker does not linger.
		synctest.Wait()
		require.EqualValues(t, 2, short.done.Load())
		require.Zero(t, g.Live())
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestCloseOfNothing(t *testing.T) {
	g := actor.NewGroup()
	done, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, g.Close(done), "what has ended already need not be waited for")
	require.NoError(t, g.Close(done))
}

// TestParkAndSignalMeet lets signals, retirements and the close come while
// workers park, start and end.
func TestParkAndSignalMeet(t *testing.T) {
	for range 200 {
		g := actor.NewGroup()
		actors := make([]*actor.Actor, 4)
		sources := make([]jobs, len(actors))
		var wg sync.WaitGroup
		for i := range actors {
			actors[i] = g.New()
			actors[i].Attach(&sources[i])
			for range 2 {
				wg.Go(func() {
					for range 50 {
						sources[i].give(actors[i], 0, 1)
					}
				})
			}
		}
		wg.Go(func() { actors[0].Retire() })
		wg.Wait()
		wg.Go(func() { actors[1].Retire() })
		require.NoError(t, g.Close(t.Context()))
		wg.Wait()
		require.Zero(t, g.Live())
		for i := range sources {
			require.EqualValues(t, 100, sources[i].done.Load())
		}
	}
}

// TestRetireMeetsPark retires actors in the moment in which their workers park:
// none stays behind.
func TestRetireMeetsPark(t *testing.T) {
	g := actor.NewGroup()
	var spin atomic.Int32
	for i := range 5000 {
		a := g.New()
		var j jobs
		a.Attach(&j)
		j.give(a, 0, 1)
		for n := 1; j.done.Load() == 0; n++ {
			if n%10_000 == 0 { // Before that the worker runs elsewhere.
				runtime.Gosched()
			}
		}
		for range i % 50 {
			spin.Add(1) // So that the moment moves.
		}
		a.Retire()
	}
	limited, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	require.NoError(t, g.Close(limited))
}
