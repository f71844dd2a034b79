package actor_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
)

// TestOneAtATime signals the sources of one actor from many goroutines: no two
// jobs overlap, and none is forgotten.
func TestOneAtATime(t *testing.T) {
	g := actor.NewGroup()
	a := g.New()
	var inside atomic.Int32
	plain := 0 // What the jobs guard by being one at a time; the race detector looks.
	each := func() {
		if inside.Add(1) != 1 {
			t.Error("two jobs at a time")
		}
		plain++
		inside.Add(-1)
	}
	sources := []*jobs{{each: each}, {each: each}, {each: each}}
	for i, j := range sources {
		require.Equal(t, i, a.Attach(j))
	}
	const rounds, givers = 2000, 4
	var wg sync.WaitGroup
	for n := range givers {
		wg.Go(func() {
			for i := range rounds {
				source := (i + n) % len(sources)
				sources[source].give(a, source, 1)
				if i%64 == 0 {
					runtime.Gosched() // So that the worker parks now and then.
				}
			}
		})
	}
	wg.Wait()
	a.Retire()
	require.NoError(t, g.Close(t.Context()))
	require.Equal(t, givers*rounds, plain)
	require.Zero(t, g.Live())
	require.False(t, a.Running())
}

func TestSourcesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		var order []int
		var left [2]int
		for i := range left {
			left[i] = 3
			a.Attach(work(func() bool {
				order = append(order, i)
				left[i]--
				return left[i] > 0
			}))
		}
		require.True(t, a.Signal(0), "the first signal asks for a wake-up")
		require.False(t, a.Signal(1), "the second finds one on its way")
		require.False(t, a.Signal(0))
		a.Wake()
		synctest.Wait()
		require.Equal(t, []int{0, 1, 0, 1, 0, 1}, order)
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestSourcesServeTheirOwn shows that what one source served is not what the next
// one acts under.
func TestSourcesServeTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		var under []chain.Chain
		a.Attach(work(func() bool { under = append(under, a.Serving()); return false }))
		a.Attach(work(func() bool {
			a.Serve(chain.Chain{}.Then("a"))
			require.False(t, a.Signal(0))
			return false
		}))
		require.True(t, a.Signal(1))
		a.Wake()
		synctest.Wait()
		require.Equal(t, []chain.Chain{{}}, under)
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestGoexitIsReplaced shows that a job which ends the worker's goroutine costs
// neither the jobs after it nor those of other sources.
func TestGoexitIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		fatal := &jobs{}
		fatal.each = func() {
			if fatal.done.Load() < 3 {
				fatal.done.Add(1)
				fatal.waiting.Add(-1)
				runtime.Goexit()
			}
		}
		other := &jobs{}
		a.Attach(fatal)
		a.Attach(other)
		fatal.waiting.Store(5)
		other.waiting.Store(5)
		a.Signal(1)
		a.Signal(0)
		a.Wake()
		synctest.Wait()
		require.EqualValues(t, 5, fatal.done.Load())
		require.EqualValues(t, 5, other.done.Load())
		require.Equal(t, 1, g.Live(), "the worker has one successor at a time, which parks")
		require.NoError(t, g.Close(t.Context()))
		require.Zero(t, g.Live())
	})
}

func TestWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		actors := make([]*actor.Actor, 50)
		sources := make([]jobs, len(actors))
		for i := range actors {
			actors[i] = g.New()
			actors[i].Attach(&sources[i])
		}
		for round := range int64(3) { // They start in the first, and are parked in the others.
			var wakes actor.Wakes
			for i, a := range actors {
				sources[i].waiting.Add(1)
				if a.Signal(0) {
					wakes.Add(a)
				}
				require.False(t, a.Signal(0))
			}
			wakes.Wake()
			synctest.Wait()
			for i := range sources {
				require.Equal(t, round+1, sources[i].done.Load())
			}
			require.Equal(t, len(actors), g.Live())
		}
		(&actor.Wakes{}).Wake()
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := actor.NewGroup()
		a := g.New()
		served := chain.Chain{}.Then("a").Then("b")
		hold := make(chan struct{})
		a.Attach(work(func() bool {
			a.Serve(served)
			<-hold
			return false
		}))
		require.Zero(t, a.Serving())
		require.False(t, a.Running())
		a.Signal(0)
		a.Wake()
		synctest.Wait()
		require.Equal(t, served, a.Serving())
		require.True(t, a.Running())
		close(hold)
		synctest.Wait()
		require.Zero(t, a.Serving(), "nothing is served when there is no work")
		require.False(t, a.Running())
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestServingBeside shows that handlers beside the worker count as long as they
// run, and that the deepest is what the plugin serves.
func TestServingBeside(t *testing.T) {
	g := actor.NewGroup()
	a := g.New()
	one := chain.Chain{}.Then("a")
	two, three := one.Then("b"), one.Then("c").Then("d")
	a.Enter(two)
	require.Equal(t, two, a.Serving())
	a.Enter(three)
	a.Enter(three)
	require.Equal(t, three, a.Serving())
	a.Serve(one)
	require.Equal(t, three, a.Serving())
	a.Leave(three)
	require.Equal(t, three, a.Serving(), "one of two still runs")
	a.Leave(three)
	require.Equal(t, two, a.Serving())
	a.Leave(two)
	require.Equal(t, one, a.Serving())
	a.Serve(chain.Chain{})
	require.Zero(t, a.Serving())
	require.NoError(t, g.Close(t.Context()))
}

func TestContext(t *testing.T) {
	g := actor.NewGroup()
	a := g.New()
	type key struct{}
	session, end := context.WithCancel(context.WithValue(t.Context(), key{}, "secret"))
	led := chain.Chain{}.Then("a")
	ctx := a.NewContext(session, led)

	require.Equal(t, led, ctx.Chain())
	require.Equal(t, led, chain.From(ctx))
	require.Nil(t, ctx.Value(key{}), "values of contexts do not travel")
	require.Same(t, a, actor.Owner(ctx))
	derived, stop := context.WithCancel(ctx)
	defer stop()
	require.Same(t, a, actor.Owner(derived))
	require.Nil(t, actor.Owner(t.Context()))
	require.Equal(t, "plugbus handler of a", ctx.String())
	_, limited := ctx.Deadline()
	require.False(t, limited)

	require.NoError(t, ctx.Err())
	end()
	<-ctx.Done()
	<-derived.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.NoError(t, g.Close(t.Context()))
}
