package compare_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/bench/compare"
)

func sample() *compare.Report {
	return &compare.Report{
		Rounds: 7,
		Comparisons: []compare.Comparison{
			{"store/get/hot", "sync.Map", compare.Figure{Nanos: 60.04}, compare.Figure{Nanos: 15.01, Allocs: 0.96}, 4},
			{"store/get/hot", "bbolt", compare.Figure{Nanos: 60.04}, compare.Figure{Nanos: 1_499_900, Allocs: 12}, 0},
			{"store/set/writers=64", "appender", compare.Figure{Nanos: 3001}, compare.Figure{Nanos: 1000}, 3},
			{"store/open", "300 ms", compare.Figure{Nanos: 2.5e9}, compare.Figure{Nanos: 3e8, Bound: true}, 1},
		},
		Guarantees: []compare.Guarantee{{"sync.Map", "nothing"}, {"appender", "a record survives"}},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, sample().WriteTable(&b))
	head, rest, ok := strings.Cut(b.String(), "\n\n")
	require.True(t, ok)
	require.Contains(t, head, "Medians of 7 interleaved rounds")
	require.Equal(t, strings.TrimPrefix(`
workload              peer         ours   theirs  ratio  limit   ok  our allocs  their allocs
store/get/hot         sync.Map  60.0 ns  15.0 ns   4.00   4.00  yes         0.0           1.0
store/get/hot         bbolt     60.0 ns  1.50 ms  4e-05      -    -         0.0          12.0
store/set/writers=64  appender  3.00 µs  1.00 µs   3.00   3.00   NO         0.0           0.0
store/open            300 ms     2.50 s   300 ms   8.33   1.00   NO         0.0             -

What each side guarantees:

sync.Map  nothing
appender  a record survives
`, "\n"), rest)
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, sample().WriteJSON(&b))
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(b.Bytes(), &rows))
	require.Equal(t, []map[string]any{
		{"workload": "store/get/hot", "peer": "sync.Map", "ratio": 4.0, "limit": 4.0, "ok": true},
		{"workload": "store/get/hot", "peer": "bbolt", "ratio": 60.04 / 1_499_900, "limit": nil, "ok": true},
		{"workload": "store/set/writers=64", "peer": "appender", "ratio": 3.001, "limit": 3.0, "ok": false},
		{"workload": "store/open", "peer": "300 ms", "ratio": 2.5e9 / 3e8, "limit": 1.0, "ok": false},
	}, rows)

	b.Reset()
	require.NoError(t, new(compare.Report).WriteJSON(&b))
	require.Equal(t, "[]\n", b.String())
}

func TestReportIsOKIfAllLimitsAreKept(t *testing.T) {
	t.Parallel()
	require.False(t, sample().OK())
	kept := sample()
	kept.Comparisons = kept.Comparisons[:2]
	require.True(t, kept.OK(), "exactly the limit is within it")
}

func TestReportPassesOnTheErrorOfItsWriter(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	require.ErrorIs(t, sample().WriteTable(failing{full}), full)
	require.ErrorIs(t, sample().WriteJSON(failing{full}), full)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
