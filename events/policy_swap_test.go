package events_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A swappingMeter changes the policy once, when the door has checked a payload
// and charges its bytes.
type swappingMeter struct{ swap func() }

func (m *swappingMeter) Take(time.Time, int) time.Duration {
	if swap := m.swap; swap != nil {
		m.swap = nil
		swap()
	}
	return 0
}

// TestPayloadRulesChangeAtTheDoor is S3: what the old rules let in has no place
// in the order if the new ones are in force by then.
func TestPayloadRulesChangeAtTheDoor(t *testing.T) {
	for _, options := range [][]events.EmitOption{
		nil, {events.NoHistory()}, {events.WaitForRoom()}, {events.Headers(map[string]string{"k": "v"})},
	} {
		bus := openBus(t, events.Options{})
		r := newRules()
		r.bytes = &swappingMeter{func() {
			r.change(func() { r.payload = plugbus.PayloadRules{MaxBytes: 10} })
		}}
		_, err := guarded(t, bus, r.guard("plugin")).Emit(t.Context(), "e", strings.Repeat("x", 100), options...)
		hRequireDenied(t, err, plugbus.ReasonTooLarge)
		require.Zero(t, bus.History().Events)
	}
}

// A fickleGuard gives the answers of one version, and then goes back to the one
// before: a quarantine that was lifted for a moment.
type fickleGuard struct {
	*fakeGuard
	moment bool
}

func (g *fickleGuard) PermitPattern(verb plugbus.Verb, pattern string, narrow bool) *plugbus.Permit {
	if g.moment {
		g.moment = false
		return &plugbus.Permit{Version: g.Version() + 1}
	}
	return g.fakeGuard.PermitPattern(verb, pattern, narrow)
}

func (g *fickleGuard) Permit(verb plugbus.Verb, name string) *plugbus.Permit {
	if g.moment {
		g.moment = false
		return &plugbus.Permit{Version: g.Version() + 1}
	}
	return g.fakeGuard.Permit(verb, name)
}

// TestPermissionOfAMoment is S3: a worker keeps an answer for the rules that gave
// it, and not for those that it knew before it asked.
func TestPermissionOfAMoment(t *testing.T) {
	for _, receive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			r := newRules()
			g := &fickleGuard{fakeGuard: r.guard("plugin")}
			c, err := bus.Client("plugin", events.ClientOptions{Guard: g})
			require.NoError(t, err)
			d := &diary{}
			gate := closedGate(t)
			if receive {
				_, err = c.Receive(gate.then(d.write))
			} else {
				_, err = c.Subscribe("e", gate.then(d.write))
			}
			require.NoError(t, err)
			emitter := joinBus(t, bus, "emitter")
			for range 3 {
				_, err = emitter.Broadcast(t.Context(), "e", nil, events.Audience{})
				require.NoError(t, err)
				synctest.Wait()
			}
			r.deny(plugbus.VerbSubscribe, "e")
			g.moment = true
			gate.open()
			synctest.Wait()
			require.Len(t, d.read(), 2, "the one that ran, and the one of the moment")
			require.EqualValues(t, 1, bus.Ledger().Undeliverable)
		})
	}
}
