//go:build !race

package router_test // The race detector makes pools forget.

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/router"
)

// TestAllocations bounds what a guarded message costs besides its copies: a request
// the context of its handler, whether its own can be cancelled or not, and a post
// nothing.
func TestAllocations(t *testing.T) {
	r := newRouter(t, router.Options{})
	rules := newRules()
	rules.acts, rules.bytes = newMeter(1<<60, 0), newMeter(1<<60, 0)
	rules.inline["inline"] = true
	from := join(t, r, "from", rules.guard("from"))
	handled := make(chan struct{}, 1)
	for _, id := range []string{"to", "inline"} {
		handle(t, join(t, r, id, rules.guard(id)), "note", func(_ context.Context, m router.Message) (any, error) {
			if m.Kind() == router.KindPost {
				handled <- struct{}{}
			}
			return nil, nil
		})
	}
	var data any = 7
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, to := range []string{"to", "inline"} {
		for _, ctx := range []context.Context{context.Background(), cancellable} {
			require.LessOrEqual(t, testing.AllocsPerRun(500, func() {
				if _, err := from.Send(ctx, to, "note", data); err != nil {
					t.Fatal(err)
				}
			}), 1.0, "%s, %v", to, ctx)
			require.Zero(t, testing.AllocsPerRun(500, func() {
				if err := from.Post(ctx, to, "note", data); err != nil {
					t.Fatal(err)
				}
				<-handled
			}))
		}
	}
}
