// These tests are of the package itself: they put engines that lie into its sides.
package workloads

import (
	"bytes"
	"errors"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/bench/compare"
	"github.com/plugbus/plugbus/bench/engines"
)

const tiny = 4000

// TestEveryWorkloadRuns does two tiny rounds of everything.
func TestEveryWorkloadRuns(t *testing.T) {
	t.Parallel()
	all := All(tiny)
	report, err := compare.Run(t.Context(), all, compare.Options{Rounds: 2, Dir: t.TempDir()})
	require.NoError(t, err)
	peers := 0
	for _, w := range all {
		peers += len(w.Peers)
	}
	require.Len(t, report.Comparisons, peers)
	for _, c := range report.Comparisons {
		require.Positive(t, c.Ratio(), "%+v", c)
	}
}

// TestLimits holds the workloads to the figures that were promised. A limit of three
// times the time is a third of the rate.
func TestLimits(t *testing.T) {
	t.Parallel()
	got := make(map[string]float64)
	for _, w := range All(1) {
		for _, p := range w.Peers {
			if p.Limit != 0 {
				got[w.Name+" "+p.Name] = p.Limit
			}
		}
	}
	require.Equal(t, map[string]float64{
		"store/get/hot sync.Map":                4,
		"store/get/keys=100000 sync.Map":        4,
		"store/set/writers=1 append+fdatasync":  3,
		"store/set/writers=64 append+fdatasync": 3,
		"store/open/keys=100000 300 ms":         1,
	}, got)
}

// A liar is an engine in memory that loses or changes what it was told to.
type liar struct {
	engines.Map
	dropped, changed, invented string
}

func (l *liar) Set(key string, value []byte) error {
	switch key {
	case l.dropped:
		return nil
	case l.changed:
		value = append([]byte{value[0] + 1}, value[1:]...)
	}
	pairs := []engines.Pair{{Key: key, Value: bytes.Clone(value)}}
	if l.invented != "" {
		pairs = append(pairs, engines.Pair{Key: l.invented, Value: value})
	}
	return l.Map.Fill(pairs)
}

func (l *liar) Fill(pairs []engines.Pair) error {
	for _, p := range pairs {
		if err := l.Set(p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// Sum leaves out what is not there, as an engine would that reads nothing.
func (l *liar) Sum(keys []string) (sum uint64, _ error) {
	for _, key := range keys {
		n, _ := l.Map.Sum([]string{key})
		sum += n
	}
	return sum, nil
}

// TestLostWorkFailsTheRound shows that a lost, changed or invented pair is found by
// every workload, and an honest engine passes.
func TestLostWorkFailsTheRound(t *testing.T) {
	t.Parallel()
	pairs := engines.Pairs(64)
	victim := pairs[17].Key
	keys := make([]string, len(pairs))
	for i, p := range pairs {
		keys[i] = p.Key
	}
	for _, test := range []struct {
		liar      *liar
		get, hold string // what the round says
	}{
		{&liar{}, "", ""},
		{&liar{dropped: victim}, "add up to", "1 of 64 keys are lost"},
		{&liar{changed: victim}, "add up to", "were not written to it"},
		{&liar{invented: "key.invented"}, "", "were not written to it"},
	} {
		open := func(string) (*liar, error) {
			// Opened again it is the same, as a directory would be.
			return test.liar, nil
		}
		for workload, side := range map[string]compare.Side{
			"get":          getSide(gets{pairs, keys, 1}, "side", 3, open, (*liar).Sum),
			"get/parallel": getSide(gets{pairs, keys, 4}, "side", 3, open, (*liar).Sum),
			"set":          setSide(sets{pairs, 1}, "side", open),
			"set/parallel": setSide(sets{pairs, 4}, "side", open),
			"open":         openSide(pairs, "side", open, load),
		} {
			want := test.hold
			if regexp.MustCompile("^get").MatchString(workload) {
				want = test.get
			}
			side.Guarantees = "nothing"
			_, err := compare.Run(t.Context(), []compare.Workload{{
				Name: workload, Ours: side,
				Peers: []compare.Peer{{Side: compare.Side{Name: "time", Guarantees: "to pass", Bound: 1}}},
			}}, compare.Options{Rounds: 2, Dir: t.TempDir()})
			if want == "" {
				require.NoError(t, err, "%s of %+v", workload, test.liar)
			} else {
				require.ErrorContains(t, err, want, "%s of %+v", workload, test.liar)
			}
		}
	}
}

// TestFailedSetFailsTheRound shows it for an error that only one writer gets.
func TestFailedSetFailsTheRound(t *testing.T) {
	t.Parallel()
	pairs := engines.Pairs(64)
	full := errors.New("the disk is full")
	side := setSide(sets{pairs, 8}, "side", func(string) (*failing, error) { return &failing{key: pairs[40].Key, err: full}, nil })
	trial, err := side.Prepare(t.TempDir())
	require.NoError(t, err)
	require.ErrorIs(t, trial.Round(func(work func() error) error { return work() }), full)
}

// A failing engine fails to set one key.
type failing struct {
	engines.Map
	key string
	err error
}

func (f *failing) Set(key string, value []byte) error {
	if key == f.key {
		return f.err
	}
	return f.Fill([]engines.Pair{{Key: key, Value: value}})
}
