package compare_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/bench/compare"
)

// sleeper is a side of 10 acts that takes the times in turn, one a round. It is for
// synctest bubbles.
func sleeper(name string, rounds ...time.Duration) compare.Side {
	return compare.Side{
		Name: name, Guarantees: "nothing of " + name, Acts: 10,
		Prepare: func(string) (*compare.Trial, error) {
			round := 0
			return &compare.Trial{Round: func(measure compare.Measure) error {
				<-time.After(time.Hour) // not measured
				round++
				return measure(func() error {
					<-time.After(rounds[(round-1)%len(rounds)])
					return nil
				})
			}}, nil
		},
	}
}

// side is a side whose rounds are the function.
func side(name string, round func(compare.Measure) error) compare.Side {
	return compare.Side{
		Name: name, Guarantees: "nothing", Acts: 1,
		Prepare: func(string) (*compare.Trial, error) { return &compare.Trial{Round: round}, nil },
	}
}

func against(ours compare.Side, peers ...compare.Side) compare.Workload {
	w := compare.Workload{Name: "w", Ours: ours}
	for _, p := range peers {
		w.Peers = append(w.Peers, compare.Peer{Side: p})
	}
	return w
}

func TestMedians(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, test := range []struct {
		rounds       int
		ours, theirs []time.Duration
		want         float64
	}{
		{1, []time.Duration{6 * ms}, []time.Duration{2 * ms}, 3},
		{3, []time.Duration{6 * ms, 900 * ms, 4 * ms}, []time.Duration{ms, 3 * ms, 2 * ms}, 3},
		{4, []time.Duration{6 * ms, 900 * ms, 4 * ms, 8 * ms}, []time.Duration{ms}, 7}, // the mean of 6 and 8
		{0, []time.Duration{ms, ms, ms, ms, ms, ms, ms, 99 * ms}, []time.Duration{ms}, 1},
		{8, []time.Duration{ms, ms, ms, ms, 3 * ms, 3 * ms, 3 * ms, 3 * ms}, []time.Duration{ms}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			report, err := compare.Run(t.Context(),
				[]compare.Workload{against(sleeper("ours", test.ours...), sleeper("theirs", test.theirs...))},
				compare.Options{Rounds: test.rounds, Dir: t.TempDir()})
			require.NoError(t, err)
			require.Len(t, report.Comparisons, 1)
			require.InDelta(t, test.want, report.Comparisons[0].Ratio(), 1e-9, "%+v", test)
		})
	}
}

// TestFiguresAreForOneAct runs by itself, since the allocations of all goroutines
// count.
func TestFiguresAreForOneAct(t *testing.T) {
	var sink [][]byte
	w := against(
		compare.Side{Name: "ours", Guarantees: "garbage", Acts: 1000, Prepare: func(string) (*compare.Trial, error) {
			return &compare.Trial{Round: func(measure compare.Measure) error {
				sink = nil
				return measure(func() error {
					for range 2000 {
						sink = append(sink, make([]byte, 100))
					}
					return nil
				})
			}}, nil
		}},
		compare.Side{Name: "an hour", Guarantees: "to pass", Bound: time.Hour})
	report, err := compare.Run(t.Context(), []compare.Workload{w}, compare.Options{Rounds: 3, Dir: t.TempDir()})
	require.NoError(t, err)
	got := report.Comparisons[0]
	require.InDelta(t, 2, got.Ours.Allocs, 0.05)
	require.Equal(t, compare.Figure{Nanos: 3600e9, Bound: true}, got.Theirs)
}

func TestSidesTakeTurns(t *testing.T) {
	t.Parallel()
	var order []string
	turn := func(name string) compare.Side {
		return side(name, func(measure compare.Measure) error {
			order = append(order, name)
			return measure(func() error { return nil })
		})
	}
	_, err := compare.Run(t.Context(), []compare.Workload{against(turn("a"), turn("b"), turn("c"))},
		compare.Options{Rounds: 4, Dir: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"}, order)
}

func TestErrorsEndTheRun(t *testing.T) {
	t.Parallel()
	lost := errors.New("a write was lost")
	fine := side("fine", func(measure compare.Measure) error { return measure(func() error { return nil }) })
	for _, test := range []struct {
		name string
		side compare.Side
		want string
	}{
		{"the work", side("bad", func(measure compare.Measure) error { return measure(func() error { return lost }) }), "a write was lost"},
		{"the check", side("bad", func(measure compare.Measure) error {
			return errors.Join(measure(func() error { return nil }), lost)
		}), "a write was lost"},
		{"no measure", side("bad", func(compare.Measure) error { return nil }), "measured 0 times"},
		{"two measures", side("bad", func(measure compare.Measure) error {
			return errors.Join(measure(func() error { return nil }), measure(func() error { return nil }))
		}), "measured 2 times"},
		{"preparation", compare.Side{
			Name: "bad", Guarantees: "nothing", Acts: 1,
			Prepare: func(string) (*compare.Trial, error) { return nil, lost },
		}, "a write was lost"},
		{"closing", compare.Side{
			Name: "bad", Guarantees: "nothing", Acts: 1,
			Prepare: func(string) (*compare.Trial, error) {
				return &compare.Trial{
					Round: func(measure compare.Measure) error { return measure(func() error { return nil }) },
					Close: func() error { return lost },
				}, nil
			},
		}, "a write was lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, w := range []compare.Workload{against(fine, test.side), against(test.side, fine)} {
				dir := t.TempDir()
				_, err := compare.Run(t.Context(), []compare.Workload{w}, compare.Options{Rounds: 2, Dir: dir})
				require.ErrorContains(t, err, test.want)
				require.ErrorContains(t, err, `side "bad"`)
				requireEmpty(t, dir)
			}
		})
	}
}

func TestWhatTakesNoTimeIsAMistake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := compare.Run(t.Context(), []compare.Workload{against(sleeper("ours", 0), sleeper("theirs", 1))},
			compare.Options{Dir: t.TempDir()})
		require.ErrorContains(t, err, "no time that can be measured")
	})
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keep := filepath.Join(dir, "keep")
	require.NoError(t, os.WriteFile(keep, nil, 0o600))
	var dirs []string
	writes := func(name string) compare.Side {
		return compare.Side{Name: name, Guarantees: "a file", Acts: 1, Prepare: func(dir string) (*compare.Trial, error) {
			requireEmpty(t, dir)
			dirs = append(dirs, dir)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
			return &compare.Trial{
				Round: func(measure compare.Measure) error { return measure(func() error { return nil }) },
				Close: func() error {
					require.FileExists(t, filepath.Join(dir, "file"), "the directory is there until the trial is closed")
					return nil
				},
			}, nil
		}}
	}
	two := []compare.Workload{against(writes("a"), writes("b")), against(writes("a"), writes("b"))}
	two[1].Name = "w2"
	_, err := compare.Run(t.Context(), two, compare.Options{Rounds: 1, Dir: dir})
	require.NoError(t, err)
	require.Len(t, dirs, 4)
	require.NotEqual(t, dirs[0], dirs[1])
	for _, d := range dirs {
		within, err := filepath.Rel(dir, d)
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(within), d)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "only what was there before")
	require.FileExists(t, keep)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	var ran []string
	var all []compare.Workload
	for _, name := range []string{"store/get/hot", "store/get/keys=10", "store/set/writers=1"} {
		note := func(measure compare.Measure) error {
			ran = append(ran, name)
			return measure(func() error { return nil })
		}
		w := against(side("ours", note), compare.Side{Name: "a second", Guarantees: "to pass", Bound: time.Second})
		w.Name = name
		all = append(all, w)
	}
	for _, test := range []struct {
		match string
		want  []string
	}{
		{"", []string{"store/get/hot", "store/get/keys=10", "store/set/writers=1"}},
		{"/get/", []string{"store/get/hot", "store/get/keys=10"}},
		{"=1$", []string{"store/set/writers=1"}},
	} {
		ran = nil
		report, err := compare.Run(t.Context(), all, compare.Options{Rounds: 1, Dir: t.TempDir(), Match: regexp.MustCompile(test.match)})
		require.NoError(t, err)
		require.Equal(t, test.want, ran, test.match)
		require.Len(t, report.Comparisons, len(test.want))
	}
	_, err := compare.Run(t.Context(), all, compare.Options{Dir: t.TempDir(), Match: regexp.MustCompile("events")})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, `no workload matches "events"`)
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	rounds := 0
	stops := side("ours", func(measure compare.Measure) error {
		if rounds++; rounds == 3 {
			cancel()
		}
		return measure(func() error { return nil })
	})
	dir := t.TempDir()
	_, err := compare.Run(ctx, []compare.Workload{against(stops, compare.Side{Name: "b", Guarantees: "c", Bound: 1})},
		compare.Options{Rounds: 10, Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, rounds)
	requireEmpty(t, dir)
}

// TestMistakes shows that every mistake is reported, and before anything runs.
func TestMistakes(t *testing.T) {
	t.Parallel()
	bad := func(change func(w *compare.Workload)) compare.Workload {
		runs := func(compare.Measure) error { panic("it must not run") }
		w := against(side("ours", runs), side("theirs", runs))
		w.Peers = slices.Clone(w.Peers)
		change(&w)
		return w
	}
	for _, test := range []struct {
		want   string
		change func(w *compare.Workload)
	}{
		{`the name ""; expected one of its own`, func(w *compare.Workload) { w.Name = "" }},
		{`a side has the name ""`, func(w *compare.Workload) { w.Ours.Name = "" }},
		{`a side has the name "ours"`, func(w *compare.Workload) { w.Peers[0].Name = "ours" }},
		{"has no peers", func(w *compare.Workload) { w.Peers = nil }},
		{"Limit is -1", func(w *compare.Workload) { w.Peers[0].Limit = -1 }},
		{`side "theirs": Guarantees is ""`, func(w *compare.Workload) { w.Peers[0].Guarantees = "" }},
		{"expected Prepare and Acts, or Bound", func(w *compare.Workload) { w.Peers[0].Acts = 0 }},
		{"expected Prepare and Acts, or Bound", func(w *compare.Workload) { w.Peers[0].Prepare = nil }},
		{"expected Prepare and Acts, or Bound", func(w *compare.Workload) { w.Peers[0].Bound = 1 }},
		{"a bound for ours", func(w *compare.Workload) {
			w.Ours = compare.Side{Name: "ours", Guarantees: "time", Bound: 1}
		}},
	} {
		_, err := compare.Run(t.Context(), []compare.Workload{bad(test.change)}, compare.Options{})
		require.ErrorIs(t, err, plugbus.ErrInvalid, test.want)
		require.ErrorContains(t, err, test.want)
	}

	same := bad(func(*compare.Workload) {})
	other := bad(func(w *compare.Workload) { w.Ours.Guarantees = "something else" })
	_, err := compare.Run(t.Context(), []compare.Workload{same, other}, compare.Options{})
	require.ErrorContains(t, err, `a workload has the name "w"`)
	require.ErrorContains(t, err, `Guarantees is "something else"`, "all mistakes are reported")

	for _, rounds := range []int{-1, 1001} {
		_, err := compare.Run(t.Context(), []compare.Workload{same}, compare.Options{Rounds: rounds})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.ErrorContains(t, err, "Options.Rounds")
	}
	_, err = compare.Run(t.Context(), []compare.Workload{same}, compare.Options{Dir: filepath.Join(t.TempDir(), "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
