package router_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/router"
)

// TestChainIsLetGo shows that a plugin has let go of the chain of a request when
// that has its outcome: what it sends by itself after that is its own, and no relay
// for anybody (S5).
func TestChainIsLetGo(t *testing.T) {
	var b *router.Client
	r := newRouter(t, router.Options{OnServed: func(router.Served) { post(t, b, "c", "tell", nil) }})
	rules := newRules()
	rules.inline["b"] = true
	asker, inliner := join(t, r, "a"), join(t, r, "inliner", rules.guard("inliner"))
	b = join(t, r, "b")
	c, d := join(t, r, "c"), diary{}
	handle(t, c, "tell", d.write)
	handle(t, b, "worker", echo, router.Measured())
	handle(t, b, "beside", echo, router.Measured(), router.Concurrent(2))
	handle(t, b, "lost", func(context.Context, router.Message) (any, error) { panic("on purpose") }, router.Measured())
	for _, from := range []*router.Client{asker, inliner} {
		for _, typ := range []string{"worker", "beside", "lost"} {
			_, _ = from.Send(t.Context(), "b", typ, nil) // What it says does not matter.
			require.NoError(t, r.Idle(t.Context()), "the host has heard of it")
		}
	}
	require.NoError(t, b.Close(t.Context()))
	require.NoError(t, r.Idle(t.Context()))
	require.Len(t, d.read(), 6)
	for _, m := range d.read() {
		require.Equal(t, []string{"b"}, m.Chain().Plugins())
	}
}
