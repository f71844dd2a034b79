package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus/bench/compare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stubs returns two workloads, of which only "work/slow" misses its limit.
func stubs() []compare.Workload {
	ours := compare.Side{
		Name: "ours", Guarantees: "nothing", Acts: 1,
		Prepare: func(string) (*compare.Trial, error) {
			return &compare.Trial{Round: func(measure compare.Measure) error {
				return measure(func() error { return nil })
			}}, nil
		},
	}
	hour := compare.Side{Name: "hour", Guarantees: "to pass", Bound: time.Hour}
	return []compare.Workload{
		{Name: "work/quick", Ours: ours, Peers: []compare.Peer{{Side: hour, Limit: 1}}},
		{Name: "work/slow", Ours: ours, Peers: []compare.Peer{{Side: hour, Limit: 1e-18}}},
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args           []string
		want           int
		stdout, stderr string // what they contain
	}{
		{[]string{"-run", "quick"}, kept, "work/quick  hour", ""},
		{nil, missed, "work/slow   hour", ""},
		{[]string{"-run", "slow", "-rounds", "3"}, missed, "Medians of 3 interleaved rounds", ""},
		{[]string{"-run", "quick"}, kept, "Medians of 7 interleaved rounds", ""},

		{[]string{"-h"}, kept, "", "-rounds n"},
		{[]string{"-run", "("}, failed, "", "error parsing regexp"},
		{[]string{"-run", "none"}, failed, "", `no workload matches "none"`},
		{[]string{"-rounds", "-1"}, failed, "", "Options.Rounds is -1"},
		{[]string{"-rounds", "many"}, failed, "", `invalid value "many"`},
		{[]string{"-unknown"}, failed, "", "-unknown"},
		{[]string{"work/quick"}, failed, "", `unexpected arguments ["work/quick"]`},
	} {
		var stdout, stderr bytes.Buffer
		dir := t.TempDir()
		got := run(t.Context(), stubs(), append([]string{"-dir", dir}, test.args...), &stdout, &stderr)
		require.Equal(t, test.want, got, "%q: %s", test.args, &stderr)
		require.Contains(t, stdout.String(), test.stdout, "%q", test.args)
		require.Contains(t, stderr.String(), test.stderr, "%q", test.args)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "%q", test.args)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, missed, run(t.Context(), stubs(), []string{"-json", "-dir", t.TempDir()}, &stdout, &stderr), &stderr)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &rows))
	require.Len(t, rows, 2)
	for i, want := range []map[string]any{
		{"workload": "work/quick", "peer": "hour", "limit": 1.0, "ok": true},
		{"workload": "work/slow", "peer": "hour", "limit": 1e-18, "ok": false},
	} {
		require.Positive(t, rows[i]["ratio"])
		delete(rows[i], "ratio")
		require.Equal(t, want, rows[i])
	}
}

func TestInterruptedRunFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, failed, run(ctx, stubs(), []string{"-dir", t.TempDir()}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "canceled")
	require.Empty(t, stdout.String())
}
