package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/audit"
)

// TestA4RecordingCostsTheSame shows that a full log takes no more memory for an
// entry than an empty one (A4): nothing is copied to make room.
// BenchmarkRecord has the times.
func TestA4RecordingCostsTheSame(t *testing.T) {
	perEntry := func(capacity, before int) float64 {
		l := newLog(t, audit.Options{Capacity: capacity, CoalesceWithin: -1})
		record := func() {
			_, err := l.Record(audit.Entry{Event: "act.refused", Actor: "flood", Target: fmt.Sprint(time.Now())})
			require.NoError(t, err)
		}
		for range before {
			record()
		}
		return testing.AllocsPerRun(1000, record)
	}
	empty, full := perEntry(100_000, 0), perEntry(1000, 2000)
	require.LessOrEqual(t, full, empty)
}
