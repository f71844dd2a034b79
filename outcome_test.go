package plugbus_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
)

// outcomes are all outcomes, each by the field of the ledger that counts it.
var outcomes = map[string]plugbus.Outcome{
	"Refused": plugbus.Refused, "Full": plugbus.Full, "Handled": plugbus.Handled,
	"Failed": plugbus.Failed, "Expired": plugbus.Expired, "Dropped": plugbus.Dropped,
	"Cancelled": plugbus.Cancelled, "Abandoned": plugbus.Abandoned,
	"Undeliverable": plugbus.Undeliverable,
}

// TestLedgerCount shows that an outcome counts in its own figure only, and that
// the door's two outcomes are offered too. The figure of what was accepted is
// the door's: counting how a delivery ended must not touch it.
func TestLedgerCount(t *testing.T) {
	t.Parallel()
	for field, outcome := range outcomes {
		var ledger, want plugbus.Ledger
		ledger.Count(outcome, 3)
		reflect.ValueOf(&want).Elem().FieldByName(field).SetUint(3)
		if outcome == plugbus.Refused || outcome == plugbus.Full {
			want.Offered = 3
		}
		require.Equal(t, want, ledger, "Count(%v, 3)", outcome)
	}
	var ledger plugbus.Ledger
	ledger.Count(0, 1)
	ledger.Count(plugbus.Undeliverable+1, 1)
	require.Zero(t, ledger, "what is no outcome is not counted")
}

// TestLedgerAdd fails when a new figure is forgotten in Add.
func TestLedgerAdd(t *testing.T) {
	t.Parallel()
	var l, other, want plugbus.Ledger
	for i := range reflect.TypeFor[plugbus.Ledger]().NumField() {
		n := uint64(i + 1)
		reflect.ValueOf(&l).Elem().Field(i).SetUint(n)
		reflect.ValueOf(&other).Elem().Field(i).SetUint(100 * n)
		reflect.ValueOf(&want).Elem().Field(i).SetUint(101 * n)
	}
	l.Add(other)
	require.Equal(t, want, l)
}

// TestLedgerCheck plays random deliveries through a door and workers that count
// by the rules, and then shows that no single figure can be wrong unnoticed.
func TestLedgerCheck(t *testing.T) {
	t.Parallel()
	ended := []plugbus.Outcome{
		plugbus.Handled, plugbus.Failed, plugbus.Expired, plugbus.Dropped,
		plugbus.Cancelled, plugbus.Abandoned, plugbus.Undeliverable,
	}
	rapid.Check(t, func(t *rapid.T) {
		var ledger plugbus.Ledger
		var deliveries uint64
		t.Repeat(map[string]func(*rapid.T){
			"the door says no": func(t *rapid.T) {
				ledger.Count(rapid.SampledFrom([]plugbus.Outcome{plugbus.Refused, plugbus.Full}).Draw(t, "outcome"), 1)
				deliveries++
			},
			"the door accepts": func(*rapid.T) {
				ledger.Offered++
				ledger.Accepted++
				ledger.Waiting++
				deliveries++
			},
			"a worker starts": func(t *rapid.T) {
				if ledger.Waiting == 0 {
					t.Skip("nothing waits")
				}
				ledger.Waiting--
				ledger.Running++
			},
			"a worker ends": func(t *rapid.T) {
				if ledger.Running == 0 {
					t.Skip("nothing runs")
				}
				ledger.Running--
				ledger.Count(rapid.SampledFrom(ended).Draw(t, "outcome"), 1)
			},
			"": func(t *rapid.T) {
				require.NoError(t, ledger.Check())
				require.Equal(t, deliveries, ledger.Offered)
				require.Equal(t, ledger.Accepted, ledger.Ended()+ledger.Waiting+ledger.Running)
			},
		})
		figures := reflect.ValueOf(&ledger).Elem()
		for i := range figures.NumField() {
			right := figures.Field(i).Uint()
			figures.Field(i).SetUint(right + 1)
			require.Error(t, ledger.Check(), "one more in %s", figures.Type().Field(i).Name)
			figures.Field(i).SetUint(right)
		}
	})
}

func TestLedgerCheckNamesTheFigures(t *testing.T) {
	t.Parallel()
	err := plugbus.Ledger{Offered: 9, Refused: 1, Full: 2, Accepted: 5, Handled: 3, Waiting: 1}.Check()
	require.EqualError(t, err,
		"plugbus: the ledger does not balance: offered 9, but refused 1 + full 2 + accepted 5 = 8\n"+
			"plugbus: the ledger does not balance: accepted 5, but ended 3 + waiting 1 + running 0 = 4")
}

func TestLedgerString(t *testing.T) {
	t.Parallel()
	require.Equal(t,
		"offered 0 = refused 0 + full 0 + accepted 0; accepted = handled 0",
		plugbus.Ledger{}.String())
	require.Equal(t,
		"offered 15 = refused 1 + full 2 + accepted 12; accepted = handled 4 + failed 1 + expired 1"+
			" + dropped 1 + cancelled 1 + abandoned 1 + undeliverable 1 + waiting 1 + running 1",
		plugbus.Ledger{
			Offered: 15, Refused: 1, Full: 2, Accepted: 12,
			Handled: 4, Failed: 1, Expired: 1, Dropped: 1, Cancelled: 1, Abandoned: 1, Undeliverable: 1,
			Waiting: 1, Running: 1,
		}.String())
}
