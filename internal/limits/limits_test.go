package limits_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/limits"
)

// newList returns a list whose faults are texts of all they are told.
func newList() *limits.List {
	return &limits.List{Fault: func(option string, got any, want string) error {
		return fmt.Errorf("%s is %v (%T), want %s", option, got, got, want)
	}}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value, zero, least, most int
		want                     int
		wrong                    string
	}{
		{0, 10, 1, 100, 10, ""},
		{0, 0, 1, 100, 0, ""},
		{0, 1000, 1, 100, 1000, ""}, // Zero may mean what nobody may say.
		{1, 10, 1, 100, 1, ""},
		{100, 10, 1, 100, 100, ""},
		{101, 10, 1, 100, 10, "N is 101 (int), want 1 to 100, or 0 for 10"},
		{-1, 10, 1, 100, 10, "N is -1 (int), want 1 to 100, or 0 for 10"},
		{-1, 10, -1, 100, -1, ""},
		{-2, 10, -1, 100, 10, "N is -2 (int), want -1 to 100, or 0 for 10"},
		{-1, 0, 1, 100, 0, "N is -1 (int), want 1 to 100, or 0 for none"},
		{math.MinInt, 10, 1, 100, 10, "N is -9223372036854775808 (int), want 1 to 100, or 0 for 10"},
	} {
		l := newList()
		require.Equal(t, test.want, limits.Within(l, "N", test.value, test.zero, test.least, test.most), "%+v", test)
		if test.wrong == "" {
			require.NoError(t, l.Err(), "%+v", test)
		} else {
			require.EqualError(t, l.Err(), test.wrong)
		}
	}
}

// TestAllFaults shows that every fault is reported, in the order of the checks,
// and in the words of its type.
func TestAllFaults(t *testing.T) {
	t.Parallel()
	l := newList()
	limits.Within(l, "Wait", -time.Second, time.Minute, 1, time.Hour)
	limits.Within(l, "Buffer", 1, 2, 1, 3)
	limits.Within(l, "Bytes", int64(1)<<60, 0, 1, 1<<40)
	require.EqualError(t, l.Err(), "Wait is -1s (time.Duration), want 1ns to 1h0m0s, or 0 for 1m0s\n"+
		"Bytes is 1152921504606846976 (int64), want 1 to 1099511627776, or 0 for none")
}
