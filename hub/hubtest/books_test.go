package hubtest

import (
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/stretchr/testify/require"
)

// No hub has books that do not add up, so this test, of the package itself, makes
// them up. Nothing allows them.
func TestBooks(t *testing.T) {
	for _, test := range []struct {
		ledger plugbus.Ledger
		want   string
	}{
		{plugbus.Ledger{}, ""},
		{plugbus.Ledger{Offered: 3, Refused: 1, Accepted: 2, Handled: 1, Failed: 1}, ""},
		{plugbus.Ledger{Offered: 3, Accepted: 2, Handled: 2}, "offered 3"},
		{plugbus.Ledger{Offered: 2, Accepted: 2, Handled: 1}, "accepted 2"},
		{plugbus.Ledger{Offered: 2, Accepted: 2, Handled: 1, Running: 1}, "deliveries have no outcome"},
		{plugbus.Ledger{Offered: 2, Accepted: 2, Handled: 1, Waiting: 1}, "deliveries have no outcome"},
	} {
		j := &jury{TB: t}
		ending{report: hub.Report{Ledger: test.ledger}}.judge(j, allowance{true, "leaks"}, allowance{true, "problems"})
		require.Equal(t, test.want != "", len(j.verdicts) == 1, "%v: %q", test.ledger, j.verdicts)
		if test.want != "" {
			require.Contains(t, j.verdicts[0], test.want)
		}
	}
}

// A jury is a test that notes failures.
type jury struct {
	testing.TB
	verdicts []string
}

func (j *jury) Errorf(_ string, args ...any) { j.verdicts = append(j.verdicts, args[1].(string)) }
