package chain_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/chain"
)

func TestEmptyChain(t *testing.T) {
	t.Parallel()
	var empty chain.Chain
	require.Zero(t, empty.Depth())
	require.Empty(t, empty.Last())
	require.Empty(t, empty.Plugins())
	require.Empty(t, empty.String())
	require.False(t, empty.Has(""), "the empty chain has no plugin, not even one without a name")
}

func TestChain(t *testing.T) {
	t.Parallel()
	c := chain.Chain{}.Then("crawler").Then("indexer")
	require.Equal(t, 2, c.Depth())
	require.Equal(t, "indexer", c.Last())
	require.Equal(t, "crawler → indexer", c.String())
	require.True(t, c.Has("crawler"))
	require.False(t, c.Has("index"))
}

// TestBranches grows a tree of chains and compares each with a slice: a chain
// that went on two ways was not changed by either.
func TestBranches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		chains, models := []chain.Chain{{}}, [][]string{{}}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			from := rapid.IntRange(0, len(chains)-1).Draw(t, "from")
			plugin := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "plugin")
			chains = append(chains, chains[from].Then(plugin))
			models = append(models, append(slices.Clip(models[from]), plugin))
		}
		for i, c := range chains {
			require.Equal(t, models[i], c.Plugins())
			require.Equal(t, len(models[i]), c.Depth())
			require.Equal(t, strings.Join(models[i], " → "), c.String())
			for _, plugin := range []string{"a", "b", "c"} {
				require.Equal(t, strings.Contains(strings.Join(models[i], ""), plugin), c.Has(plugin))
			}
		}
	})
}

func TestDeeper(t *testing.T) {
	t.Parallel()
	var empty chain.Chain
	one, other := empty.Then("a"), empty.Then("b")
	two := one.Then("b")
	for _, test := range []struct{ c, other, want chain.Chain }{
		{empty, empty, empty},
		{empty, one, one},
		{one, empty, one},
		{one, two, two},
		{two, one, two},
		{one, other, one}, // equally deep
		{other, one, other},
	} {
		require.Equal(t, test.want, chain.Deeper(test.c, test.other), "Deeper(%v, %v)", test.c, test.other)
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	var none context.Context
	require.Zero(t, chain.From(none))
	require.Zero(t, chain.From(t.Context()))

	c := chain.Chain{}.Then("crawler")
	ctx := context.WithValue(t.Context(), chain.Key{}, c)
	derived, cancel := context.WithCancel(ctx)
	defer cancel()
	require.Equal(t, c, chain.From(ctx))
	require.Equal(t, c, chain.From(derived))
}

// TestChainIsOneWord keeps a chain cheap enough to travel in every envelope.
func TestChainIsOneWord(t *testing.T) {
	t.Parallel()
	require.Equal(t, unsafe.Sizeof(uintptr(0)), unsafe.Sizeof(chain.Chain{}))
}
