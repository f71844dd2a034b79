package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A looseGuard allows everything. Its permits have the version permits, and it
// says that version is in force.
type looseGuard struct {
	version, permits uint64
	payload          plugbus.PayloadRules
}

func (g looseGuard) Version() uint64 { return g.version }
func (g looseGuard) Permit(plugbus.Verb, string) *plugbus.Permit {
	return &plugbus.Permit{Version: g.permits, Payload: g.payload}
}

func (g looseGuard) PermitPattern(plugbus.Verb, string, bool) *plugbus.Permit {
	return g.Permit(0, "")
}

func (g looseGuard) PermitVia(plugbus.Chain, plugbus.Verb, string) *plugbus.Permit {
	return g.Permit(0, "")
}

func (g looseGuard) PermitAt(uint64, plugbus.Verb, string) *plugbus.Permit { return g.Permit(0, "") }
func (g looseGuard) Knows(string) bool                                     { return true }
func (g looseGuard) Refuse(r plugbus.Refusal) error {
	return &plugbus.DeniedError{Verb: r.Verb, Object: r.Object, Reason: r.Reason, Hint: r.Hint}
}

func looseClient(t *testing.T, g looseGuard) *events.Client {
	t.Helper()
	bus, err := events.New(events.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bus.Close(t.Context())) })
	c, err := bus.Client("a", events.ClientOptions{Guard: g})
	require.NoError(t, err)
	return c
}

// TestGuardThatNeverHolds shows that a guard whose permits never have its version
// makes acts fail, and not go round for ever.
func TestGuardThatNeverHolds(t *testing.T) {
	c := looseClient(t, looseGuard{version: 1, permits: 2})
	_, plain := c.Emit(t.Context(), "x", 1)
	_, waiting := c.Emit(t.Context(), "x", 1, events.WaitForRoom())
	_, broadcast := c.Broadcast(t.Context(), "x", 1, events.Audience{})
	for _, err := range []error{plain, waiting, broadcast} {
		require.ErrorIs(t, err, plugbus.ErrDenied)
		require.ErrorContains(t, err, "check_failed")
		require.ErrorContains(t, err, "version")
	}
}

// TestCorrelationIDIsInspected shows that a correlation id is no way round the
// content checks.
func TestCorrelationIDIsInspected(t *testing.T) {
	c := looseClient(t, looseGuard{payload: plugbus.PayloadRules{Content: plugbus.CheckAll}})
	_, err := c.Emit(t.Context(), "x", 1, events.CorrelationID("<script>alert(1)"))
	require.ErrorContains(t, err, string(plugbus.ReasonInvalidContent))
	_, err = c.Broadcast(t.Context(), "x", 1, events.Audience{}, events.CorrelationID("<script>alert(1)"))
	require.ErrorContains(t, err, string(plugbus.ReasonInvalidContent))
	_, err = c.Emit(t.Context(), "x", 1, events.CorrelationID("job-7"))
	require.NoError(t, err)
}
