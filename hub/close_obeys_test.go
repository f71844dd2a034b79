package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// TestCloseLetsObedientReturn has handlers that return as soon as their context ends, which
// is when the hub has given up on them: that is a problem in the report, and no leak.
func TestCloseLetsObedientReturn(t *testing.T) {
	for range 50 { // What is to be shown is a race.
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{WaitLimit: 10 * time.Second})
			s := join(t, h, "a")
			_, err := s.Subscribe("said", func(ctx context.Context, _ events.Event) error { <-ctx.Done(); return nil })
			require.NoError(t, err)
			_, err = join(t, h, "b").Handle("said", func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, nil })
			require.NoError(t, err)
			emit(t, h.Host(), "said", nil)
			require.NoError(t, h.Host().Post(t.Context(), "b", "said", nil))
			synctest.Wait()
			report, err := h.Close(context.Background())
			require.NoError(t, err)
			require.Equal(t, 2, report.Abandoned)
			require.Empty(t, report.Leaks)
			require.Empty(t, h.Leaks())
		})
	}
}
