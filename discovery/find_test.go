package discovery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// market returns an index in which each plugin provides "pdf" with the figures of
// its id, and a client that looks at it.
func market(t testing.TB, offers map[string]discovery.Capability) *discovery.Client {
	t.Helper()
	x := newIndex(t, discovery.Options{})
	for id, c := range offers {
		c.Name = "pdf"
		provide(t, newClient(t, x, id, nil), c)
	}
	return newClient(t, x, "reader", nil)
}

// TestRequireFilters shows that what is required decides who matches, and that an
// unknown value satisfies no limit unless the query says so (V7, V8, V10).
func TestRequireFilters(t *testing.T) {
	t.Parallel()
	reader := market(t, map[string]discovery.Capability{
		"good":    {Version: "1.5.0", Categories: []string{"x", "y"}, Cost: new(1.0), Reliability: new(0.9), ResponseTime: new(time.Second)},
		"bad":     {Version: "2.0.0", Categories: []string{"x"}, Cost: new(9.0), Reliability: new(0.0), ResponseTime: new(time.Hour)},
		"unknown": {},
		"zero":    {Cost: new(0.0), Reliability: new(0.0), ResponseTime: new(time.Duration(0))},
	})
	for _, test := range []struct {
		require discovery.Terms
		unknown bool
		want    string
	}{
		{discovery.Terms{}, false, "bad good unknown zero"},
		{discovery.Terms{Capabilities: []string{"pdf"}}, false, "bad good unknown zero"},
		{discovery.Terms{Capabilities: []string{"pdf", "ps"}}, false, ""},
		{discovery.Terms{Capabilities: []string{"none"}}, false, ""},
		{discovery.Terms{Categories: []string{"x"}}, false, "bad good"},
		{discovery.Terms{Categories: []string{"y", "x"}}, false, "good"},
		{discovery.Terms{Categories: []string{"none"}}, false, ""},
		{discovery.Terms{Version: "^1.2"}, false, "good"},
		{discovery.Terms{Version: "^1.2"}, true, "good"}, // A version is no figure.
		{discovery.Terms{Version: "*"}, false, "bad good"},

		{discovery.Terms{MaxCost: new(1.0)}, false, "good zero"},
		{discovery.Terms{MaxCost: new(0.99)}, false, "zero"},
		{discovery.Terms{MaxCost: new(0.0)}, false, "zero"},
		{discovery.Terms{MaxCost: new(1.0)}, true, "good unknown zero"},
		{discovery.Terms{MinReliability: new(0.0)}, false, "bad good zero"}, // (V10) 0 is a limit like any other.
		{discovery.Terms{MinReliability: new(0.9)}, false, "good"},
		{discovery.Terms{MinReliability: new(0.91)}, true, "unknown"},
		{discovery.Terms{MaxResponseTime: new(time.Second)}, false, "good zero"},
		{discovery.Terms{MaxResponseTime: new(time.Duration(0))}, true, "unknown zero"},
	} {
		got := map[string]bool{}
		for _, m := range find(t, reader, discovery.Criteria{Require: test.require, AllowUnknown: test.unknown}) {
			got[m.Plugin] = true
		}
		want := map[string]bool{}
		for id := range strings.FieldsSeq(test.want) {
			want[id] = true
		}
		require.Equal(t, want, got, "%+v", test)
	}
}

// TestScores shows the seed's weights, and that only what is met scores.
func TestScores(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	provide(t, newClient(t, x, "printer", nil),
		discovery.Capability{Name: "pdf", Version: "1.5.0", Categories: []string{"x", "y"}, Cost: new(1.0), Reliability: new(0.5), ResponseTime: new(time.Second)},
		discovery.Capability{Name: "ps", Version: "2.0.0", Reliability: new(0.25)},
	)
	reader := newClient(t, x, "reader", nil)
	pdf := discovery.Terms{Capabilities: []string{"pdf", "pdf"}}
	with := func(change func(*discovery.Terms)) discovery.Terms {
		terms := pdf
		change(&terms)
		return terms
	}
	for _, test := range []struct {
		k    discovery.Criteria
		want discovery.Points
	}{
		// (V9) Criteria that ask for nothing add nothing, and match.
		{discovery.Criteria{}, discovery.Points{Reliability: 2.5}},
		{discovery.Criteria{Require: discovery.Terms{Capabilities: []string{}, Categories: []string{}}, Prefer: discovery.Terms{Capabilities: []string{}}}, discovery.Points{Reliability: 2.5}},
		{discovery.Criteria{Require: pdf}, discovery.Points{Required: 50, Reliability: 5}},
		{discovery.Criteria{Prefer: pdf}, discovery.Points{Capability: 10, Reliability: 2.5}},
		{discovery.Criteria{Prefer: discovery.Terms{Capabilities: []string{"ps", "none", "pdf", "ps"}}}, discovery.Points{Capability: 20, Reliability: 2.5}},

		// (V12) A category counts once, however often it is asked for.
		{discovery.Criteria{Require: with(func(t *discovery.Terms) { t.Categories = []string{"x", "x"} }), Prefer: discovery.Terms{Categories: []string{"x", "y", "y", "none"}}}, discovery.Points{Required: 50, Category: 20, Reliability: 5}},

		{discovery.Criteria{Require: with(func(t *discovery.Terms) { t.Version = "^1" })}, discovery.Points{Required: 50, Version: 20, Reliability: 5}},
		{discovery.Criteria{Require: pdf, Prefer: discovery.Terms{Version: "^1"}}, discovery.Points{Required: 50, Version: 20, Reliability: 5}},
		{discovery.Criteria{Require: pdf, Prefer: discovery.Terms{Version: "^2"}}, discovery.Points{Required: 50, Reliability: 5}},
		{discovery.Criteria{Require: with(func(t *discovery.Terms) { t.Version = "^1" }), Prefer: discovery.Terms{Version: "^1.9"}}, discovery.Points{Required: 50, Reliability: 5}},
		{discovery.Criteria{Prefer: discovery.Terms{Version: "^1"}}, discovery.Points{Reliability: 2.5}}, // ps is 2.0.0.

		{discovery.Criteria{Require: pdf, Prefer: discovery.Terms{MaxCost: new(1.0), MaxResponseTime: new(time.Second), MinReliability: new(0.5)}}, discovery.Points{Required: 50, Cost: 10, ResponseTime: 10, Reliability: 5}},
		{discovery.Criteria{Require: pdf, Prefer: discovery.Terms{MaxCost: new(0.9), MaxResponseTime: new(time.Millisecond), MinReliability: new(0.51)}}, discovery.Points{Required: 50}},
		{discovery.Criteria{Require: with(func(t *discovery.Terms) { t.MaxCost = new(1.0) })}, discovery.Points{Required: 50, Reliability: 5}},
		{discovery.Criteria{Prefer: discovery.Terms{MaxCost: new(9.0)}, AllowUnknown: true}, discovery.Points{Reliability: 2.5}}, // Unknown never scores.
	} {
		m := find(t, reader, test.k)
		require.Len(t, m, 1, "%+v", test.k)
		require.Equal(t, test.want, m[0].Parts, "%+v", test.k)
		require.InDelta(t, test.want.Sum(), m[0].Score, 1e-9)
		require.Equal(t, []string{"pdf", "ps"}, m[0].Capabilities)
	}
}

// TestReasons shows the reasons for a score in words.
func TestReasons(t *testing.T) {
	t.Parallel()
	reader := market(t, map[string]discovery.Capability{
		"printer": {Version: "1.5.0", Categories: []string{"x"}, Cost: new(1.0), Reliability: new(0.5), ResponseTime: new(time.Second)},
	})
	m := find(t, reader, discovery.Criteria{
		Require: discovery.Terms{Capabilities: []string{"pdf"}, Categories: []string{"x"}, Version: "^1"},
		Prefer:  discovery.Terms{Capabilities: []string{"pdf"}, MaxCost: new(3.0), MaxResponseTime: new(time.Minute)},
	})
	require.Equal(t, []string{
		"it provides all required capabilities", `it is in the categories ["x"]`, "its version is in ^1",
		"its reliability is 0.5, as declared", `it provides the preferred ["pdf"]`, "its cost is 1, as declared", "its response time is 1s, as declared",
	}, m[0].Reasons)
}

// TestUnknownIsNeverBetter shows that of two providers that differ in one figure,
// the one that says nothing is not before the one that says something (V11).
func TestUnknownIsNeverBetter(t *testing.T) {
	t.Parallel()
	for _, known := range []discovery.Capability{
		{Reliability: new(0.01)}, {Reliability: new(0.0)}, {Cost: new(discovery.MaxCost)}, {ResponseTime: new(discovery.MaxResponseTime)},
	} {
		reader := market(t, map[string]discovery.Capability{"a-known": known, "b-unknown": {}})
		for _, prefer := range []discovery.Terms{
			{}, {MaxCost: new(discovery.MaxCost)}, {MaxCost: new(0.0)}, {MinReliability: new(0.5)}, {MinReliability: new(0.0)}, {MaxResponseTime: new(discovery.MaxResponseTime)},
		} {
			m := find(t, reader, discovery.Criteria{Prefer: prefer, AllowUnknown: true})
			require.Equal(t, []string{"a-known", "b-unknown"}, ids(m), "%+v", prefer)
			require.Zero(t, m[1].Score)
			require.Zero(t, m[1].Figures)
		}
	}
}

// TestWorstCounts shows that a plugin is as good as the worst of the capabilities
// that matter, and unknown where one of them is.
func TestWorstCounts(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	provide(t, newClient(t, x, "printer", nil),
		discovery.Capability{Name: "a", Cost: new(1.0), Reliability: new(0.9), ResponseTime: new(time.Second), Rank: 5, Idempotent: true},
		discovery.Capability{Name: "b", Cost: new(2.0), Reliability: new(0.8), ResponseTime: new(time.Minute), Rank: 4, Idempotent: true},
		discovery.Capability{Name: "c"},
	)
	reader := newClient(t, x, "reader", nil)
	m := find(t, reader, requiring("a", "b"))[0]
	require.Equal(t, discovery.Figures{
		Cost:         discovery.Figure[float64]{Value: 2, Known: true},
		Reliability:  discovery.Figure[float64]{Value: 0.8, Known: true},
		ResponseTime: discovery.Figure[time.Duration]{Value: time.Minute, Known: true},
	}, m.Figures)
	require.True(t, m.Idempotent)
	for _, k := range []discovery.Criteria{{}, requiring("a", "c")} {
		m = find(t, reader, k)[0]
		require.Zero(t, m.Figures)
		require.False(t, m.Idempotent)
	}
	limit := discovery.Criteria{Require: discovery.Terms{MaxCost: new(2.0)}}
	require.Empty(t, find(t, reader, limit))
	limit.AllowUnknown = true
	require.Len(t, find(t, reader, limit), 1)
	limit.Require.MaxCost = new(1.5)
	require.Empty(t, find(t, reader, limit), "what is known must satisfy the limit still")
}

// TestOrder shows that the order of matches is total: score, then rank, then id
// (V6, V13).
func TestOrder(t *testing.T) {
	t.Parallel()
	offers := map[string]discovery.Capability{
		"c-best": {Reliability: new(1.0), Rank: -9}, "b-ranked": {Rank: 7}, "z-ranked": {Rank: 7}, "d-last": {Rank: -1},
	}
	for i := range 50 {
		offers[fmt.Sprintf("m%02d", i)] = discovery.Capability{}
	}
	reader := market(t, offers)
	want := []string{"c-best", "b-ranked", "z-ranked"}
	for i := range 50 {
		want = append(want, fmt.Sprintf("m%02d", i))
	}
	want = append(want, "d-last")
	for range 5 {
		require.Equal(t, want, ids(find(t, reader, discovery.Criteria{})))
		require.Equal(t, want, ids(find(t, reader, requiring("pdf"))))
	}
	require.Equal(t, want[:3], ids(find(t, reader, discovery.Criteria{Limit: 3})))
}

// TestDefaultLimit shows that no query returns without bound.
func TestDefaultLimit(t *testing.T) {
	t.Parallel()
	offers := map[string]discovery.Capability{}
	for i := range 120 {
		offers[fmt.Sprintf("p%d", i)] = discovery.Capability{}
	}
	reader := market(t, offers)
	require.Len(t, find(t, reader, discovery.Criteria{}), 100)
	candidates, err := reader.Candidates(discovery.Criteria{})
	require.NoError(t, err)
	require.Len(t, candidates, 100)
	require.Len(t, find(t, reader, discovery.Criteria{Limit: 1000}), 120)
}

// TestOneRuleOfVisibility shows that all queries and the check at the call agree
// on what a plugin sees (V15, V16).
func TestOneRuleOfVisibility(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asker           string
		allowed, denied []string
		may             string // what the guards deny: of the asker, of the provider
		revoked         string
		sees            bool
	}{
		{"reader", nil, nil, "", "", true},
		{"reader", []string{"reader"}, nil, "", "", true},
		{"reader", []string{"other"}, nil, "", "", false},
		{"reader", nil, []string{"other"}, "", "", true},
		{"reader", nil, []string{"reader"}, "", "", false},
		{"reader", []string{"reader"}, []string{"reader"}, "", "", false}, // Denied beats allowed.
		{"reader", []string{"reader"}, nil, "discover pdf", "", false},
		{"reader", nil, nil, "discover pdf", "", false},
		{"reader", nil, nil, "discover ps", "", true},
		{"reader", nil, nil, "", "provide pdf", false},

		{"printer", []string{"other"}, []string{"printer"}, "", "", true}, // Its own it sees always.
		{"printer", nil, nil, "", "discover pdf", true},
		{"printer", nil, nil, "", "provide pdf", true},
	} {
		x := newIndex(t, discovery.Options{})
		guard := newRules("printer")
		printer := newClient(t, x, "printer", guard)
		provide(t, printer, discovery.Capability{Name: "pdf", Categories: []string{"x"}, Allowed: test.allowed, Denied: test.denied})
		guard.deny(test.revoked)
		asker := printer
		if test.asker != "printer" {
			asker = newClient(t, x, test.asker, newRules(test.asker, test.may))
		}
		n := 0
		if test.sees {
			n = 1
		}
		require.Len(t, find(t, asker, discovery.Criteria{}), n, "%+v", test)
		require.Len(t, find(t, asker, requiring("pdf")), n, "%+v", test)
		require.Len(t, find(t, asker, discovery.Criteria{Require: discovery.Terms{Categories: []string{"x"}}}), n, "%+v", test)
		candidates, err := asker.Candidates(requiring("none"))
		require.NoError(t, err)
		require.Len(t, candidates, n, "%+v", test)
		_, ok := asker.Capability("printer", "pdf")
		require.Equal(t, test.sees, ok, "%+v", test)
		require.Equal(t, test.sees, asker.MayCall("printer", "pdf"), "%+v", test)
		matches, err := asker.Providers("pdf")
		if test.may == "discover pdf" {
			_ = requireDenied(t, err, plugbus.ReasonDeniedByRule)
		} else {
			require.NoError(t, err)
		}
		require.Len(t, matches, n, "%+v", test)
	}
}

// TestMatchIsNoGrant shows that what was found is checked again at the call (V16).
func TestMatchIsNoGrant(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	may, has := newRules("reader"), newRules("printer")
	reader, printer := newClient(t, x, "reader", may), newClient(t, x, "printer", has)
	provide(t, printer, named("pdf")...)
	require.Len(t, find(t, reader, requiring("pdf")), 1)
	require.True(t, reader.MayCall("printer", "pdf"))
	require.False(t, reader.MayCall("printer", "ps"))
	require.False(t, reader.MayCall("nobody", "pdf"))

	may.deny("discover pdf")
	require.False(t, reader.MayCall("printer", "pdf"))
	may.allow("discover pdf")
	has.deny("provide pdf")
	require.False(t, reader.MayCall("printer", "pdf"))
	has.allow("provide pdf")
	require.True(t, reader.MayCall("printer", "pdf"))
	provide(t, printer, discovery.Capability{Name: "pdf", Denied: []string{"reader"}})
	require.False(t, reader.MayCall("printer", "pdf"))
	provide(t, printer, named("pdf")...)
	require.NoError(t, printer.Withdraw("pdf"))
	require.False(t, reader.MayCall("printer", "pdf"))
}

// TestSilence shows that what a plugin may not see looks like what is not there:
// in every answer, and in what its guard is told.
func TestSilence(t *testing.T) {
	t.Parallel()
	look := func(hidden bool) (said []string) {
		x := newIndex(t, discovery.Options{})
		reader := newClient(t, x, "reader", newRules("reader", "discover secret"))
		printer := newClient(t, x, "printer", nil)
		provide(t, printer, named("pdf")...)
		if hidden {
			provide(t, printer,
				discovery.Capability{Name: "secret", Cost: new(7.0), Categories: []string{"x"}, Rank: 5},
				discovery.Capability{Name: "private", Denied: []string{"reader"}, Categories: []string{"x"}},
			)
			provide(t, newClient(t, x, "ghost", nil), named("secret")...)
		}
		for _, name := range []string{"secret", "private", "pdf", "none"} {
			matches, err := reader.Providers(name)
			said = append(said, fmt.Sprintf("%+v %v", matches, err))
			for _, k := range []discovery.Criteria{
				requiring(name),
				requiring(name, "pdf"),
				{Prefer: requiring(name).Require},
				{Require: discovery.Terms{Categories: []string{"x"}}},
				{Require: discovery.Terms{MaxCost: new(9.0)}},
			} {
				matches, err = reader.Find(k)
				candidates, failed := reader.Candidates(k)
				said = append(said, fmt.Sprintf("%+v %v %+v %v", matches, err, candidates, failed))
			}
			for _, provider := range []string{"printer", "ghost"} {
				c, ok := reader.Capability(provider, name)
				said = append(said, fmt.Sprint(c, ok, reader.MayCall(provider, name)))
			}
		}
		return said
	}
	require.Equal(t, look(false), look(true))
}

// TestProvidersPassesTheDoor shows that the rate of discovery is asked, and that a
// malformed name is refused.
func TestProvidersPassesTheDoor(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	guard := newRules("reader")
	reader := newClient(t, x, "reader", guard)
	matches, err := reader.Providers("pdf")
	require.NoError(t, err)
	require.Empty(t, matches)
	_, err = reader.Providers("a..b")
	_ = requireDenied(t, err, plugbus.ReasonInvalidName)
	guard.permit.Acts = never{}
	_, err = reader.Providers("pdf")
	require.Equal(t, time.Minute, requireDenied(t, err, plugbus.ReasonRateLimitExceeded).RetryAfter)
}

// TestAvailability shows that who is not available is left out, and that
// candidates say why; and that this is asked without a lock (V17).
func TestAvailability(t *testing.T) {
	t.Parallel()
	why := map[string]string{}
	var x *discovery.Index
	x = newIndex(t, discovery.Options{Availability: func(asker, provider, capability string) string {
		require.Equal(t, "reader", asker)
		newClient(t, x, "probe", nil).Close() // It would wait for a lock.
		return why[provider+" "+capability]
	}})
	reader := newClient(t, x, "reader", nil)
	for _, id := range []string{"a", "b"} {
		provide(t, newClient(t, x, id, nil), named("pdf", "ps")...)
	}
	require.Equal(t, []string{"a", "b"}, ids(find(t, reader, requiring("pdf"))))

	why["a pdf"] = "draining"
	require.Equal(t, []string{"b"}, ids(find(t, reader, requiring("pdf"))))
	require.Equal(t, []string{"b"}, ids(find(t, reader, requiring("pdf", "ps"))))
	m := find(t, reader, requiring("ps"))
	require.Equal(t, []string{"a", "b"}, ids(m))
	require.Equal(t, []string{"ps"}, m[0].Capabilities)
	m = find(t, reader, discovery.Criteria{Prefer: requiring("pdf").Require})
	require.Equal(t, []string{"b", "a"}, ids(m), "what is not available is not preferred")
	matches, err := reader.Providers("pdf")
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, ids(matches))
	require.True(t, reader.MayCall("a", "pdf"), "it may, but it would have to wait")

	candidates, err := reader.Candidates(requiring("pdf"))
	require.NoError(t, err)
	require.Equal(t, "a", candidates[1].Plugin)
	require.Equal(t, []string{`"pdf" is not available: draining`}, candidates[1].Excluded)

	why["a ps"] = strings.Repeat("long ", 1000)
	require.Equal(t, []string{"b"}, ids(find(t, reader, discovery.Criteria{})))
	candidates, err = reader.Candidates(discovery.Criteria{})
	require.NoError(t, err)
	require.Len(t, candidates[1].Excluded, 2)
	require.Less(t, len(candidates[1].Excluded[1]), 1100)
}

// TestCandidates shows that a query can explain itself: everybody visible is there,
// with the score by part, and why it was left out (V20).
func TestCandidates(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	for id, c := range map[string]discovery.Capability{
		"fits":    {Name: "pdf", Version: "1.2.0", Categories: []string{"x"}, Cost: new(1.0), Reliability: new(0.9), ResponseTime: new(time.Second)},
		"none":    {Name: "ps", Version: "1.2.0", Reliability: new(1.0)},
		"poor":    {Name: "pdf", Version: "2.0.0", Cost: new(5.0), Reliability: new(0.1), ResponseTime: new(time.Hour)},
		"unknown": {Name: "pdf"},
	} {
		provide(t, newClient(t, x, id, nil), c)
	}
	reader := newClient(t, x, "reader", nil)
	k := discovery.Criteria{Require: discovery.Terms{
		Capabilities: []string{"pdf"}, Categories: []string{"x"}, Version: "^1",
		MaxCost: new(3.0), MinReliability: new(0.5), MaxResponseTime: new(time.Minute),
	}}
	candidates, err := reader.Candidates(k)
	require.NoError(t, err)
	type row struct {
		id       string
		parts    discovery.Points
		excluded []string
	}
	var got []row
	for _, c := range candidates {
		got = append(got, row{c.Plugin, c.Parts, c.Excluded})
		require.InDelta(t, c.Parts.Sum(), c.Score, 1e-9)
	}
	require.Equal(t, []row{
		{"fits", discovery.Points{Required: 50, Category: 10, Version: 20, Reliability: 9}, nil},
		{"poor", discovery.Points{Required: 50, Reliability: 1}, []string{
			`it is not in the category "x"`, `"pdf" has version 2.0.0, not ^1`, "the cost is 5, as declared, not at most 3",
			"the reliability is 0.1, as declared, not at least 0.5", "the response time is 1h0m0s, as declared, not at most 1m0s",
		}},
		{"unknown", discovery.Points{Required: 50}, []string{
			`it is not in the category "x"`, `"pdf" has no known version, not ^1`, "the cost is unknown, not at most 3",
			"the reliability is unknown, not at least 0.5", "the response time is unknown, not at most 1m0s",
		}},
		{"none", discovery.Points{}, []string{`it does not provide "pdf"`}},
	}, got)
	m := find(t, reader, k)
	require.Len(t, m, 1)
	require.Equal(t, candidates[0].Match, m[0])
}
