//go:build !race

package hub_test // The race detector makes pools forget.

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGuardedSendAllocates shows that a guarded request allocates nothing but its
// handler's context.
func TestGuardedSendAllocates(t *testing.T) {
	caller := correspondents(t)
	var data any = reading{N: 1}
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		for _, to := range []string{"callee", "near"} {
			require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
				if _, err := caller.Send(ctx, to, "echo", data); err != nil {
					t.Fatal(err)
				}
			}), 1.0, "to %s", to)
		}
	}
}
