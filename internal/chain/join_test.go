package chain_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/chain"
)

// TestJoin shows that the plugins of a chain that is joined to another count as having
// led where that leads, from there on, and for nothing else.
func TestJoin(t *testing.T) {
	none := chain.Chain{}
	one, two := none.Then("a").Then("b"), none.Then("c").Then("a").Then("d")
	joined := chain.Join(one, two)
	require.Equal(t, []string{"a", "b", "c", "d"}, joined.Led())
	require.Equal(t, []string{"a", "b"}, joined.Plugins())
	require.Equal(t, 2, joined.Depth())
	require.False(t, joined.Has("c"))
	require.Equal(t, []string{"a", "b", "e", "c", "d"}, joined.Then("e").Led())
	require.Equal(t, []string{"a", "b"}, one.Led(), "it has not changed")

	require.Equal(t, joined, chain.Join(joined, two), "it knows them")
	require.Equal(t, one, chain.Join(one, none))
	require.Equal(t, one, chain.Join(none, one))
	require.Equal(t, one, chain.Join(one, one))
}

// TestJoinIsBounded shows that a chain notes a bounded number of plugins beside it, and
// then that there may be any.
func TestJoinIsBounded(t *testing.T) {
	c := chain.Chain{}.Then("a")
	for i := range 1000 {
		c = chain.Join(c, chain.Chain{}.Then("p"+strconv.Itoa(i)))
		require.LessOrEqual(t, len(c.Led()), 65)
	}
	require.Contains(t, c.Led(), "")
}
