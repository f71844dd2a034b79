package events_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A closingMeter ends its client when it is asked, and has nothing to give.
type closingMeter struct{ end func() }

func (m closingMeter) Take(time.Time, int) time.Duration {
	m.end()
	return -1
}

// TestRefusedTooLate shows that an act which is refused when its client has ended changes
// no books: whoever closed the bus has read them.
func TestRefusedTooLate(t *testing.T) {
	bus := hBus(t, events.Options{})
	guard := &hGuard{plugin: "late"}
	c := hGuarded(t, bus, "late", guard)
	var books plugbus.Ledger
	guard.acts = closingMeter{func() {
		require.NoError(t, c.Close(t.Context()))
		books = bus.Ledger()
	}}
	_, err := c.Emit(t.Context(), "a", 1)
	require.ErrorIs(t, err, events.ErrClosed)
	require.Equal(t, books, bus.Ledger())
	require.Empty(t, guard.refused)
}
