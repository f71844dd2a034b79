package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/hub"
)

// TestReplaceLateForClose shows that nothing is left of a new version whose Start hangs
// when the hub closes: the hub has had it leave before Replace hears that it failed.
func TestReplaceLateForClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{WaitLimit: time.Minute})
		var box letterbox
		require.NoError(t, h.Register(t.Context(), keeper("1", &box, opened())))
		release := make(chan struct{})
		hangs := keeper("2", &box, opened())
		hangs.start = func(context.Context, *hub.Session) error { <-release; return nil }
		replaced := make(chan error)
		go func() { replaced <- h.Replace(context.Background(), hangs) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := h.Close(ctx)
		require.Error(t, err)
		require.Error(t, <-replaced)
		require.Equal(t, []hub.Leak{{Plugin: "p", Kind: "call", Name: "Start"}}, h.Leaks())
		close(release)
		synctest.Wait()
		require.Empty(t, h.Leaks())
		require.Empty(t, versions(h, "p"), "nothing of it runs")
	})
}
