package chain_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/chain"
)

// TestWaiting shows who waits for what a chain has led to: the plugins at its end
// whose acts are awaited, each where it waits.
func TestWaiting(t *testing.T) {
	t.Parallel()
	type place struct{ _ int }
	here, there := &place{}, &place{}
	var empty chain.Chain
	require.Zero(t, empty.Waiting("", nil))
	for _, test := range []struct {
		chain  chain.Chain
		plugin string
		by     any
		want   int
	}{
		{empty.Await("a", nil), "a", nil, 1},
		{empty.Await("a", nil), "b", nil, 0},
		{empty.Await("a", nil), "a", here, 0},
		{empty.Await("a", here), "a", here, 1},
		{empty.Await("a", here), "a", there, 0},
		{empty.Await("a", here), "a", nil, 0},
		{empty.Then("a"), "a", nil, 0},
		{empty.Await("a", nil).Await("b", nil), "a", nil, 1},
		{empty.Await("a", nil).Then("b"), "a", nil, 0}, // b does not wait, so neither a for what b does.
		{empty.Then("b").Await("a", nil), "a", nil, 1},
		{empty.Await("a", nil).Then("b").Await("a", nil), "a", nil, 1},
		{empty.Await("a", here).Await("b", nil).Await("a", here).Await("a", there), "a", here, 2},
	} {
		require.Equal(t, test.want, test.chain.Waiting(test.plugin, test.by), "%v", test.chain)
	}
}

// TestWaitingModel compares Waiting with a count over a slice (R12).
func TestWaitingModel(t *testing.T) {
	t.Parallel()
	type step struct {
		plugin  string
		awaited bool
		by      any
	}
	rapid.Check(t, func(t *rapid.T) {
		var c chain.Chain
		var steps []step
		for range rapid.IntRange(0, 10).Draw(t, "steps") {
			s := step{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "plugin"), rapid.IntRange(0, 3).Draw(t, "awaited") > 0, rapid.SampledFrom([]any{nil, 1, 2}).Draw(t, "by")}
			if s.awaited {
				c = c.Await(s.plugin, s.by)
			} else {
				c = c.Then(s.plugin)
			}
			steps = append(steps, s)
		}
		require.Equal(t, len(steps), c.Depth())
		for _, plugin := range []string{"a", "b"} {
			for _, by := range []any{nil, 1, 2} {
				want := 0
				for i := len(steps) - 1; i >= 0 && steps[i].awaited; i-- {
					if steps[i].plugin == plugin && steps[i].by == by {
						want++
					}
				}
				require.Equal(t, want, c.Waiting(plugin, by))
			}
		}
	})
}
