package actor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
)

// TestCause shows what leads to an act of a plugin that serves several: what the context
// is of if that is served now, and otherwise all of it.
func TestCause(t *testing.T) {
	a := actor.NewGroup().New()
	own, deep, kept := chain.Chain{}.Then("own"), chain.Chain{}.Then("x").Then("deep"), chain.Chain{}.Then("y").Then("z").Then("kept")
	ctx := a.NewContext(t.Context(), own)
	require.Zero(t, a.Cause(t.Context()))
	require.Equal(t, own, a.Cause(ctx))

	a.Serve(own)
	require.Equal(t, own, a.Cause(t.Context()))
	a.Enter(deep)
	require.Equal(t, own, a.Cause(ctx), "its handler runs")
	require.Equal(t, deep, a.Cause(a.NewContext(t.Context(), deep)), "likewise")
	for _, ctx := range []*actor.Context{a.NewContext(t.Context(), chain.Chain{}), a.NewContext(t.Context(), kept)} {
		cause := a.Cause(ctx)
		require.Equal(t, chain.Deeper(deep, ctx.Chain()).Plugins(), cause.Plugins())
		require.Subset(t, cause.Led(), []string{"own", "x", "deep"})
	}
	a.Serve(chain.Chain{})
	require.Equal(t, deep, a.Cause(t.Context()))
	a.Leave(deep)
	require.Zero(t, a.Cause(t.Context()))
}
