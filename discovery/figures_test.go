package discovery_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/discovery"
)

// observe tells the index of n calls of pdf at the printer.
func observe(x *discovery.Index, caller string, n int, ok bool, took time.Duration) {
	for range n {
		x.Observe(discovery.Sample{Provider: "printer", Capability: "pdf", Caller: caller, OK: ok, Took: took})
	}
}

// figures returns what the host sees of the only capability.
func figures(t testing.TB, x *discovery.Index) discovery.Figures {
	t.Helper()
	all := x.Snapshot()
	require.Len(t, all, 1)
	return all[0].Figures
}

// TestMeasuredFigures shows that what is measured replaces what is declared once
// there are enough calls, and that matches say which was used (V5).
func TestMeasuredFigures(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer, reader := newClient(t, x, "printer", nil), newClient(t, x, "reader", nil)
	boast := discovery.Capability{Name: "pdf", Reliability: new(1.0), ResponseTime: new(time.Duration(0)), Cost: new(0.0)}
	provide(t, printer, boast)
	limits := requiring("pdf")
	limits.Require.MinReliability, limits.Require.MaxResponseTime = new(0.9), new(time.Second)

	observe(x, "a", 10, true, 4*time.Second)
	observe(x, "b", 9, false, time.Hour)
	require.Equal(t, discovery.Figure[float64]{Value: 1, Known: true}, find(t, reader, limits)[0].Figures.Reliability)

	observe(x, "b", 1, false, time.Hour)
	require.Empty(t, find(t, reader, limits))
	m := find(t, reader, requiring("pdf"))[0]
	require.Equal(t, discovery.Figures{
		Cost:         discovery.Figure[float64]{Known: true},
		Reliability:  discovery.Figure[float64]{Value: 0.5, Known: true, Measured: true, Samples: 20},
		ResponseTime: discovery.Figure[time.Duration]{Known: true}, // Too few succeeded to judge by.
	}, m.Figures)
	require.InDelta(t, 5, m.Parts.Reliability, 1e-9)
	require.Contains(t, m.Reasons, "its reliability is 0.5, measured by 20 calls")
	candidates, err := reader.Candidates(limits)
	require.NoError(t, err)
	require.Equal(t, []string{"the reliability is 0.5, measured by 20 calls, not at least 0.9"}, candidates[0].Excluded)

	observe(x, "c", 10, true, 2*time.Second)
	require.Equal(t, discovery.Figure[time.Duration]{Value: 3 * time.Second, Known: true, Measured: true, Samples: 20}, figures(t, x).ResponseTime, "the mean of those that succeeded")
}

// TestNobodyMeasuresHimself shows that calls of a plugin to itself do not count,
// and that one caller has at most a quarter of the window (V5).
func TestNobodyMeasuresHimself(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{MinSamples: 1})
	provide(t, newClient(t, x, "printer", nil), named("pdf")...)
	observe(x, "printer", 1000, true, 0)
	require.Zero(t, figures(t, x))

	for _, caller := range []string{"a", "b", "c"} {
		observe(x, caller, 25, false, 0)
	}
	observe(x, "friend", 10_000, true, 0)
	require.Equal(t, discovery.Figure[float64]{Value: 0.25, Known: true, Measured: true, Samples: 100}, figures(t, x).Reliability)
	observe(x, "friend", 25, false, 0)
	require.Zero(t, figures(t, x).Reliability.Value, "its latest calls count")
	observe(x, "stranger", 10, true, 0)
	require.InDelta(t, 0.1, figures(t, x).Reliability.Value, 1e-9, "a full window has room for others")
}

// TestFiguresBelongToOneSession shows that providing again does not wash figures
// away, and that a reused id inherits none.
func TestFiguresBelongToOneSession(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer := newClient(t, x, "printer", nil)
	provide(t, printer, named("pdf")...)
	observe(x, "a", 25, false, 0)
	require.True(t, figures(t, x).Reliability.Measured)

	provide(t, printer, discovery.Capability{Name: "pdf", Reliability: new(1.0)})
	require.True(t, figures(t, x).Reliability.Measured)
	require.NoError(t, printer.Withdraw("pdf"))
	observe(x, "a", 25, true, 0) // Nobody provides it.
	for i := range 255 {
		other := fmt.Sprint("other", i)
		provide(t, printer, named(other)...)
		x.Observe(discovery.Sample{Provider: "printer", Capability: other, Caller: "a"})
		require.NoError(t, printer.Withdraw(other))
	}
	provide(t, printer, discovery.Capability{Name: "pdf", Reliability: new(1.0)})
	require.Equal(t, discovery.Figure[float64]{Value: 0, Known: true, Measured: true, Samples: 25}, figures(t, x).Reliability)

	printer.Close()
	provide(t, newClient(t, x, "printer", nil), discovery.Capability{Name: "pdf", Reliability: new(1.0)})
	require.Equal(t, discovery.Figure[float64]{Value: 1, Known: true}, figures(t, x).Reliability)
}

// TestFormerFiguresAreBounded shows that no more figures are kept of what was
// withdrawn than a plugin may provide.
func TestFormerFiguresAreBounded(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{MinSamples: 1})
	c, err := x.Client("printer", discovery.ClientOptions{MaxCapabilities: 1})
	require.NoError(t, err)
	for _, name := range []string{"pdf", "ps"} {
		provide(t, c, named(name)...)
		x.Observe(discovery.Sample{Provider: "printer", Capability: name, Caller: "a"})
		require.NoError(t, c.Withdraw(name))
	}
	provide(t, c, named("pdf")...)
	require.Zero(t, figures(t, x), "the oldest made way")
	require.NoError(t, c.Withdraw("pdf"))
	for range 3 { // What is provided again is no former one.
		provide(t, c, named("ps")...)
		require.True(t, figures(t, x).Reliability.Measured)
		require.NoError(t, c.Withdraw("ps"))
	}
}

// TestOddSamples shows that no sample makes a figure out of its range.
func TestOddSamples(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{MinSamples: 2})
	provide(t, newClient(t, x, "printer", nil), named("pdf")...)
	observe(x, "a", 25, true, math.MaxInt64)
	observe(x, "b", 25, true, math.MinInt64)
	require.Equal(t, discovery.MaxResponseTime/2, figures(t, x).ResponseTime.Value)
	x.Observe(discovery.Sample{Provider: "nobody", Capability: "pdf", Caller: "a"})
	x.Observe(discovery.Sample{Provider: "printer", Capability: "none", Caller: "a"})
	x.Observe(discovery.Sample{})
}

// TestFiguresModel compares the window with one that keeps every call.
func TestFiguresModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(t, "size")
		enough := rapid.IntRange(1, size).Draw(t, "enough")
		x, err := discovery.New(discovery.Options{Window: size, MinSamples: enough})
		require.NoError(t, err)
		c, err := x.Client("printer", discovery.ClientOptions{})
		require.NoError(t, err)
		require.NoError(t, c.Provide(discovery.Capability{Name: "pdf"}))
		var model []discovery.Sample
		for range rapid.IntRange(0, 60).Draw(t, "calls") {
			s := discovery.Sample{
				Provider: "printer", Capability: "pdf", Caller: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "caller"),
				OK: rapid.Bool().Draw(t, "ok"), Took: time.Duration(rapid.IntRange(0, 100).Draw(t, "took")),
			}
			x.Observe(s)
			own := 0
			for _, o := range model {
				if o.Caller == s.Caller {
					own++
				}
			}
			switch {
			case own == max(1, size/4):
				model = slices.Delete(model, slices.IndexFunc(model, func(o discovery.Sample) bool { return o.Caller == s.Caller }), 1+slices.IndexFunc(model, func(o discovery.Sample) bool { return o.Caller == s.Caller }))
			case len(model) == size:
				model = model[1:]
			}
			model = append(model, s)
			var want discovery.Figures
			var good, took int
			for _, o := range model {
				if o.OK {
					good++
					took += int(o.Took)
				}
			}
			if len(model) >= enough {
				want.Reliability = discovery.Figure[float64]{Value: float64(good) / float64(len(model)), Known: true, Measured: true, Samples: len(model)}
			}
			if good >= enough {
				want.ResponseTime = discovery.Figure[time.Duration]{Value: time.Duration(took / good), Known: true, Measured: true, Samples: good}
			}
			require.Equal(t, want, x.Snapshot()[0].Figures)
		}
	})
}
