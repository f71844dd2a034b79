package topic_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/topic"
)

func TestCompare(t *testing.T) {
	a := func(n int) string { return strings.Repeat("a", n) }
	tokens31 := strings.Repeat("a.", 31)
	for _, test := range []struct {
		p, q         string
		pInQ, qInP   bool
		intersecting bool
	}{
		{"a.b", "a.b", true, true, true},
		{"a.b", "a:b", false, false, false},
		{"a.b", "a.*", true, false, true},
		{"a.*", "a.**", true, false, true},
		{"a.*.c", "a.**", true, false, true},
		{"a.*", "*.b", false, false, true},
		{"a.**", "*.*", false, false, true},
		{"a.**", "a", false, false, false},
		{"a.**", "a:**", false, false, false},
		{"a.**", "*", false, false, false},
		{"*", "**", true, false, true},
		{"*.**", "**", true, false, true},

		// The hub's own names.
		{"plugin:*", "**", false, false, false},
		{"plugin:*", "*:*", false, false, false},
		{"plugin:*", "plugin:**", true, false, true},
		{"plugin:x", "*:x", false, false, false},
		{"plugin", "*", true, false, true},
		{"plugin.*", "**", true, false, true},
		{"*:x", "**", true, false, true},

		// Where the limits of names leave room for one token, "**" is "*".
		{tokens31 + "**", tokens31 + "*", true, true, true},
		{tokens31[2:] + "**", tokens31[2:] + "*", false, true, true},
		{a(252) + ".**", a(252) + ".*", true, true, true},
		{a(251) + ".**", a(251) + ".*", false, true, true},
		{a(251) + ".**", a(251) + ".*.*", false, true, true},

		{a(252) + ".**", "*.*", true, false, true},
		{a(252) + ".**", "*.*.x", false, false, false},

		// The name that both would match is too long by one byte.
		{a(127) + ".*", "*." + a(127), false, false, true},
		{a(127) + ".*", "*." + a(128), false, false, false},
		{a(127) + ".**", "*." + a(126) + ".*", false, false, false},
		{a(127) + ".**", "*." + a(125) + ".*", false, false, true},
		{a(127) + ".**", "*." + a(124) + ".**", false, false, true},
		{a(127) + ".**", "*." + a(125) + ".**", false, false, true},
		{a(127) + ".**", "*." + a(126) + ".**", false, false, false},
	} {
		p, q := topic.MustParse(test.p), topic.MustParse(test.q)
		require.Equal(t, test.pInQ, topic.Subset(p, q), "Subset(%q, %q)", p, q)
		require.Equal(t, test.qInP, topic.Subset(q, p), "Subset(%q, %q)", q, p)
		require.Equal(t, test.intersecting, topic.Overlap(p, q), "Overlap(%q, %q)", p, q)
		require.Equal(t, test.intersecting, topic.Overlap(q, p), "Overlap(%q, %q)", q, p)
	}
}

func TestCompareKeys(t *testing.T) {
	a := func(n int) string { return strings.Repeat("a", n) }
	for _, test := range []struct {
		p, q         string
		pInQ, qInP   bool
		intersecting bool
	}{
		{"plugin:*", "**", true, false, true},
		{"a..b", "a.*.b", true, false, true},
		{strings.Repeat(".", 510) + "**", strings.Repeat(".", 510) + "*", false, true, true},
		{a(255) + ".*", "*." + a(256), false, false, true},
		{a(256) + ".*", "*." + a(256), false, false, false},
		{a(255) + ".**", "*." + a(255) + ".*", false, false, true}, // the last token is empty
		{a(255) + ".**", "*." + a(256) + ".**", false, false, false},
	} {
		p, q := mustParseKey(test.p), mustParseKey(test.q)
		require.Equal(t, test.pInQ, topic.Subset(p, q), "Subset(%q, %q)", p, q)
		require.Equal(t, test.qInP, topic.Subset(q, p), "Subset(%q, %q)", q, p)
		require.Equal(t, test.intersecting, topic.Overlap(p, q), "Overlap(%q, %q)", p, q)
		require.Equal(t, test.intersecting, topic.Overlap(q, p), "Overlap(%q, %q)", q, p)
	}
}

// Nothing and things of different kinds have nothing in common.
func TestCompareDisjointKinds(t *testing.T) {
	var zero topic.Pattern
	p, k := topic.MustParse("a.*"), mustParseKey("a.*")
	require.True(t, topic.Subset(zero, zero))
	require.True(t, topic.Subset(zero, p))
	require.True(t, topic.Subset(zero, k))
	for _, pair := range [][2]topic.Pattern{{p, zero}, {k, zero}, {p, k}, {k, p}} {
		require.False(t, topic.Subset(pair[0], pair[1]))
		require.False(t, topic.Overlap(pair[0], pair[1]))
		require.False(t, topic.Overlap(pair[1], pair[0]))
	}
	require.False(t, topic.Overlap(zero, zero))
}

// Every pair of small patterns is compared by looking at every small name. The
// names have a token that no pattern has, and are longer than the patterns by
// one token, so every difference between two patterns shows.
func TestCompareExhaustively(t *testing.T) {
	t.Run("names", func(t *testing.T) {
		compareAll(t, topic.Parse, false,
			sequences(4, "a", "c", "plugin"),
			sequences(3, "a", "plugin", "*", "**"))
	})
	t.Run("keys", func(t *testing.T) {
		compareAll(t, topic.ParseKey, true,
			sequences(4, "a", "c", ""),
			sequences(3, "a", "", "*", "**"))
	})
}

func compareAll(t *testing.T, parse func(string) (topic.Pattern, error), key bool, names, texts func(func(string) bool)) {
	t.Helper()
	type entry struct {
		pattern topic.Pattern
		matches []bool
	}
	var entries []entry
	for text := range texts {
		p, err := parse(text)
		if err != nil {
			continue // "**" before the end
		}
		var matches []bool
		for name := range names {
			matches = append(matches, naiveMatch(text, name, key))
		}
		entries = append(entries, entry{p, matches})
	}
	require.Greater(t, len(entries), 150)
	for _, p := range entries {
		for _, q := range entries {
			subset, overlap := true, false
			for i := range p.matches {
				subset = subset && (!p.matches[i] || q.matches[i])
				overlap = overlap || p.matches[i] && q.matches[i]
			}
			if got := topic.Subset(p.pattern, q.pattern); got != subset {
				t.Errorf("Subset(%q, %q) = %t, want %t", p.pattern, q.pattern, got, subset)
			}
			if got := topic.Overlap(p.pattern, q.pattern); got != overlap {
				t.Errorf("Overlap(%q, %q) = %t, want %t", p.pattern, q.pattern, got, overlap)
			}
		}
	}
}

func TestCompareLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := drawPattern
		drawOne := drawName
		if rapid.Bool().Draw(t, "keys") {
			draw, drawOne = drawKeyPattern, drawKey
		}
		p, q, r := draw.Draw(t, "p"), draw.Draw(t, "q"), draw.Draw(t, "r")
		require.True(t, topic.Subset(p, p))
		require.True(t, topic.Overlap(p, p))
		require.Equal(t, topic.Overlap(p, q), topic.Overlap(q, p))
		if topic.Subset(p, q) {
			require.True(t, topic.Overlap(p, q))
			if topic.Subset(q, r) {
				require.True(t, topic.Subset(p, r))
			}
			if topic.Subset(q, p) {
				require.Equal(t, p, q, "no two small patterns match the same names")
			}
		}
		for _, name := range rapid.SliceOfN(drawOne, 1, 10).Draw(t, "names") {
			if p.Match(name) && q.Match(name) {
				require.True(t, topic.Overlap(p, q), "both match %q", name)
			}
			if p.Match(name) && !q.Match(name) {
				require.False(t, topic.Subset(p, q), "only the first matches %q", name)
			}
			if literal, err := topic.Parse(name); err == nil && draw == drawPattern {
				require.Equal(t, p.Match(name), topic.Subset(literal, p), "%q", name)
				require.Equal(t, p.Match(name), topic.Overlap(literal, p), "%q", name)
			}
		}
	})
}
