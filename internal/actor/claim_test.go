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
	"github.com/plugbus/plugbus/internal/chain"
)

// TestClaim shows when an actor can be claimed, with a worker that was never there,
// is parked, runs, or has ended.
func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		hold := make(chan struct{})
		j := &jobs{each: func() { <-hold }}
		a.Attach(j)
		claim := func() {
			require.True(t, a.Claim())
			require.True(t, a.Running())
			require.False(t, a.Claim(), "it is claimed")
			a.Release()
			require.False(t, a.Running())
		}
		claim() // No worker.
		j.give(a, 0, 1)
		synctest.Wait()
		require.False(t, a.Claim(), "the worker runs")
		hold <- struct{}{}
		synctest.Wait()
		require.Equal(t, 1, g.Live())
		claim() // Parked.
		<-time.After(time.Minute)
		synctest.Wait()
		require.Zero(t, g.Live())
		claim() // Ended.
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestReleaseWakes shows that what was signalled during a claim is the worker's
// afterwards, whether one is parked or not.
func TestReleaseWakes(t *testing.T) {
	for _, parked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := actor.NewGroup()
			a := g.New()
			j := &jobs{}
			a.Attach(j)
			if parked {
				j.give(a, 0, 1)
				synctest.Wait()
				require.Equal(t, 1, g.Live())
			}
			before := j.done.Load()
			require.True(t, a.Claim())
			a.Serve(chain.Chain{}.Then("a"))
			j.give(a, 0, 3)
			synctest.Wait()
			require.Equal(t, before, j.done.Load(), "not while it is claimed")
			a.Release()
			require.Zero(t, a.Serving())
			synctest.Wait()
			require.Equal(t, before+3, j.done.Load())
			require.NoError(t, g.Close(t.Context()))
			require.Zero(t, g.Live())
		})
	}
}

// TestRetiredWhileClaimed shows that a worker that is parked during a claim still
// ends when the actor retires or the group closes meanwhile.
func TestRetiredWhileClaimed(t *testing.T) {
	for _, retires := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := actor.NewGroup()
			a := g.New()
			j := &jobs{}
			a.Attach(j)
			j.give(a, 0, 1)
			synctest.Wait()
			require.True(t, a.Claim())
			closed := make(chan error, 1)
			if retires {
				a.Retire()
			}
			go func() { closed <- g.Close(context.Background()) }()
			synctest.Wait()
			require.Empty(t, closed, "the worker is still there")
			a.Release()
			require.NoError(t, <-closed)
			require.Zero(t, g.Live())
		})
	}
}

// TestClaimExcludes has some claim an actor while others give its worker jobs: no
// two run at a time, and no job is forgotten. The race detector looks, too.
func TestClaimExcludes(t *testing.T) {
	g := actor.NewGroup()
	a := g.New()
	var inside atomic.Int32
	plain := 0
	each := func() {
		if inside.Add(1) != 1 {
			t.Error("two at a time")
		}
		plain++
		inside.Add(-1)
	}
	sources := []*jobs{{each: each}, {each: each}}
	for _, j := range sources {
		a.Attach(j)
	}
	const rounds = 5000
	var claimed atomic.Int64
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range rounds {
				if n < 2 {
					sources[n].give(a, n, 1)
				} else if a.Claim() {
					each()
					claimed.Add(1)
					a.Release()
				}
				if i%32 == 0 {
					runtime.Gosched() // So that the worker parks now and then.
				}
			}
		})
	}
	wg.Wait()
	a.Retire()
	require.NoError(t, g.Close(t.Context()))
	require.EqualValues(t, 2*rounds+claimed.Load(), plain)
	require.Zero(t, g.Live())
	require.False(t, a.Running())
}

// TestServes shows that an actor serves what its worker and the handlers beside it
// do, and nothing after that.
func TestServes(t *testing.T) {
	a := actor.NewGroup().New()
	one, other := chain.Chain{}.Then("a"), chain.Chain{}.Then("a")
	require.False(t, a.Serves(one))
	a.Serve(one)
	require.True(t, a.Serves(one))
	require.False(t, a.Serves(other), "it is another chain of the same plugins")
	a.Enter(other)
	a.Enter(other)
	a.Serve(chain.Chain{})
	require.False(t, a.Serves(one))
	a.Leave(other)
	require.True(t, a.Serves(other))
	a.Leave(other)
	require.False(t, a.Serves(other))
}

// TestContextBeside shows what runs the handler of a context.
func TestContextBeside(t *testing.T) {
	a := actor.NewGroup().New()
	led, runner := chain.Chain{}.Then("a"), new(int)
	ctx := a.NewContextBeside(t.Context(), led, runner)
	derived, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, ctx := range []context.Context{ctx, derived} {
		require.Same(t, runner, actor.Beside(ctx))
		require.Same(t, a, actor.Owner(ctx))
		require.Equal(t, led, chain.From(ctx))
	}
	require.Nil(t, actor.Beside(a.NewContext(t.Context(), led)), "the worker does")
	require.Nil(t, actor.Beside(t.Context()))
}
