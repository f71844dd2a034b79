package router_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// A closingMeter ends its client when it is asked, and has nothing to give.
type closingMeter struct{ end func() }

func (m closingMeter) Take(time.Time, int) time.Duration {
	m.end()
	return -1
}

// TestRefusedTooLate shows that an act which is refused when its client has ended changes
// no books: whoever closed the router has read them.
func TestRefusedTooLate(t *testing.T) {
	r, err := router.New(router.Options{})
	require.NoError(t, err)
	rules := newRules()
	c, err := r.Client("late", router.ClientOptions{Guard: rules.guard("late")})
	require.NoError(t, err)
	other, err := r.Client("other", router.ClientOptions{})
	require.NoError(t, err)
	handle(t, other, "job", func(context.Context, router.Message) (any, error) { return nil, nil })
	var books plugbus.Ledger
	rules.acts = closingMeter{func() {
		require.NoError(t, c.Close(t.Context()))
		books = r.Ledger()
	}}
	require.ErrorIs(t, c.Post(t.Context(), "other", "job", 1), router.ErrClosed)
	require.Equal(t, books, r.Ledger())
	require.Empty(t, rules.refusals())
	require.NoError(t, r.Close(t.Context()))
}
