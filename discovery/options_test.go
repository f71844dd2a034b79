package discovery_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// TestWeights shows that the host decides what counts, and that no weight makes a
// score that cannot be compared (V5).
func TestWeights(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{Weights: discovery.Points{Reliability: 1e6}})
	provide(t, newClient(t, x, "printer", nil), discovery.Capability{Name: "pdf", Version: "1.0.0", Reliability: new(1.0)})
	k := requiring("pdf")
	k.Prefer.Version = "1.x"
	m := find(t, newClient(t, x, "reader", nil), k)
	require.Equal(t, discovery.Points{Reliability: 1e6}, m[0].Parts)

	for _, w := range []float64{-1, math.NaN(), math.Inf(1), 1e6 + 1} {
		_, err := discovery.New(discovery.Options{
			Weights: discovery.Points{Required: w, ResponseTime: w}, MaxCapabilities: -1, Window: -1, MinSamples: -1,
		})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		for _, field := range []string{"Weights.Required", "Weights.ResponseTime", "MaxCapabilities", "Window", "MinSamples"} {
			require.ErrorContains(t, err, "options: "+field+": ")
		}
	}
	_, err := discovery.New(discovery.Options{Window: 5, MinSamples: 6})
	require.ErrorContains(t, err, "MinSamples: it is 6; expected 1 to 5")
	newIndex(t, discovery.Options{Window: 5})
}

// TestCriteriaMistakes shows that all that is wrong with criteria is said at once.
func TestCriteriaMistakes(t *testing.T) {
	t.Parallel()
	reader := market(t, nil)
	bad := discovery.Terms{
		Capabilities: []string{"a..b"}, Categories: []string{""}, Version: "abc",
		MaxCost: new(math.NaN()), MinReliability: new(1.1), MaxResponseTime: new(-time.Second),
	}
	k := discovery.Criteria{Require: bad, Prefer: bad, Limit: -1}
	_, err := reader.Find(k)
	_, other := reader.Candidates(k)
	require.Equal(t, err, other)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, "Limit: it is -1; expected 1 to 10000")
	for _, prefix := range []string{"Require.", "Prefer."} {
		for _, says := range []string{
			"Capabilities: expected names", "Categories: expected names", `Version: it is "abc"`, "MaxCost: it is NaN",
			"MinReliability: it is 1.1; expected 0 to 1", "MaxResponseTime: it is -1s",
		} {
			require.ErrorContains(t, err, prefix+says)
		}
	}
	_, err = reader.Find(requiring(many(65)...))
	require.ErrorContains(t, err, "there are 65 names; expected at most 64")
	_, err = reader.Find(discovery.Criteria{Limit: discovery.MaxLimit + 1})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
}
