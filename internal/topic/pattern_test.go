package topic_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/topic"
)

// E1: an invalid pattern is an error that says where.
func TestE1PatternGrammar(t *testing.T) {
	tokens31 := strings.Repeat("a.", 31)
	for _, test := range []struct {
		pattern   string
		offset    int // of the problem; -1 if there is none
		problem   string
		wildcards int
	}{
		{"a.b", -1, "", 0},
		{"*", -1, "", 1},
		{"**", -1, "", 1},
		{"*.*:*/**", -1, "", 4},
		{"a.**", -1, "", 1}, // any separator may stand before it
		{"a:**", -1, "", 1},
		{"a/**", -1, "", 1},
		{"*:registered", -1, "", 1},
		{tokens31 + "**", -1, "", 1},
		{strings.Repeat("a", 252) + ".**", -1, "", 1},

		{"", 0, "it is empty", 0},
		{strings.Repeat("a", 254) + ".*", 255, "it is longer than 255 bytes", 0},
		{tokens31 + "*.**", 64, "there are more than 32 tokens", 0},
		{"a.*.", 4, "the last token is empty", 0},
		{"a..**", 2, "a token is empty", 0},
		{"a*", 1, `"*" must be a whole token`, 0},
		{"*a", 0, `"*" must be a whole token`, 0},
		{"x.a*b", 3, `"*" must be a whole token`, 0},
		{"***", 0, `"*" must be a whole token`, 0},
		{"a.**b", 2, `"*" must be a whole token`, 0},
		{"a.b**", 3, `"*" must be a whole token`, 0},
		{"**.a", 0, `"**" must be the last token`, 0},
		{"a.**.**", 2, `"**" must be the last token`, 0},
		{"a.*b c", 2, `"*" must be a whole token`, 0}, // the leftmost problem
		{"a b.*c", 1, "U+0020 is white space", 0},
		{"*.\xFF", 2, "it is not valid UTF-8", 0},
		{"*.\u200B", 2, "U+200B is a format character", 0},
	} {
		p, err := topic.Parse(test.pattern)
		requireProblem(t, err, "pattern", test.pattern, test.offset, test.problem)
		require.Equal(t, test.wildcards, p.Wildcards(), "%q", test.pattern)
		require.Equal(t, test.offset < 0, naivePattern(test.pattern), "naive %q", test.pattern)
		if err != nil {
			require.Zero(t, p)
			require.Panics(t, func() { topic.MustParse(test.pattern) })
			continue
		}
		require.Equal(t, test.pattern, p.String())
		literal, ok := p.Literal()
		require.Equal(t, test.wildcards == 0, ok)
		if ok {
			require.Equal(t, test.pattern, literal)
		}
	}
}

func TestKeyPatternGrammar(t *testing.T) {
	for _, test := range []struct {
		pattern string
		offset  int
		problem string
	}{
		{"users..*/ x.**", -1, ""},
		{".**", -1, ""},
		{"..", -1, ""},
		{strings.Repeat(".", 510) + "**", -1, ""},

		{"", 0, "it is empty"},
		{strings.Repeat(".", 511) + "**", 512, "it is longer than 512 bytes"},
		{"a*", 1, `"*" must be a whole token`}, // a key may be "a*", but that cannot be written as a pattern
		{"**.", 0, `"**" must be the last token`},
		{"\t*", 0, "U+0009 is a control character"},
	} {
		p, err := topic.ParseKey(test.pattern)
		requireProblem(t, err, "key pattern", test.pattern, test.offset, test.problem)
		require.Equal(t, test.offset < 0, naiveKeyPattern(test.pattern), "naive %q", test.pattern)
		if err == nil {
			require.Equal(t, test.pattern, p.String())
		}
	}
}

// E1: a pattern is matched by token, as the written grammar says.
func TestE1Match(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a:b", false}, // separators are literal
		{"a.b", "A.b", false}, // case matters
		{"a.b", "a.b.c", false},
		{"a.b", "a", false},

		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false}, // "*" is one token
		{"a.*", "a", false},
		{"a.*", "a:b", false},
		{"a.*", "ab.c", false},
		{"*.b", "a.b", true},
		{"*.b", "a.bc", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"*", "größe", true},
		{"*", "a.b", false},

		{"**", "a", true},
		{"**", "a:b/c.d", true},
		{"a.**", "a.b", true},
		{"a.**", "a.b:c/d", true}, // any separator between the tokens that it covers
		{"a.**", "a", false},      // one token at least
		{"a.**", "a:b", false},    // but the one before it is literal
		{"a:**", "a:b.c", true},
		{"a/**", "a/b.c", true},
		{"*.**", "a", false},
		{"*.**", "a.b", true},

		{"**", "plugin:registered", false}, // the hub's own names must be named
		{"*:registered", "plugin:registered", false},
		{"*:**", "hub:closing", false},
		{"plugin:*", "plugin:registered", true},
		{"plugin:**", "plugin:registered", true},
		{"security:*", "security:alert", true},
		{"**", "plugin.registered", true},
		{"*", "plugin", true},

		{"*", "", false},
		{"**", "", false},
	} {
		require.Equal(t, test.want, topic.MustParse(test.pattern).Match(test.name), "%q %q", test.pattern, test.name)
		require.Equal(t, test.want, naiveMatch(test.pattern, test.name, false), "naive %q %q", test.pattern, test.name)
	}
}

func TestMatchKey(t *testing.T) {
	for _, test := range []struct {
		pattern, key string
		want         bool
	}{
		{"a.*", "a.", true}, // the token is empty
		{"a.*", "a", false},
		{"*", "two words", true},
		{"**", ".", true},
		{"*.*", ".", true},
		{"*:x", ":x", true},
		{"..", "..", true},
		{"a.*", "a.*", true},
		{"**", "plugin:registered", true}, // no key is the hub's own
		{"*:*", "hub:a", true},
	} {
		require.Equal(t, test.want, mustParseKey(test.pattern).Match(test.key), "%q %q", test.pattern, test.key)
		require.Equal(t, test.want, naiveMatch(test.pattern, test.key, true), "naive %q %q", test.pattern, test.key)
	}
}

func TestZeroPattern(t *testing.T) {
	var zero topic.Pattern
	require.False(t, zero.Match(""))
	require.False(t, zero.Match("a"))
	require.Empty(t, zero.String())
	require.Zero(t, zero.Wildcards())
	_, ok := zero.Literal()
	require.False(t, ok)
}

// Patterns are values: the same text makes the same key of a map, but a
// pattern of names is not one of keys.
func TestPatternIsComparable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawNameText.Draw(t, "pattern")
		require.Equal(t, topic.MustParse(text), topic.MustParse(strings.Clone(text)))
		require.NotEqual(t, topic.MustParse(text), mustParseKey(text))
	})
}

// A pattern that was cut out of something large does not keep that in memory.
func TestPatternOwnsItsText(t *testing.T) {
	before := heap()
	large := strings.Repeat("a.", 1<<20)
	p, err := topic.Parse(large[:9])
	require.NoError(t, err)
	k, err := topic.ParseKey(large[:9])
	require.NoError(t, err)
	require.Less(t, heap()-before, int64(1<<20))
	require.Equal(t, "a.a.a.a.a", p.String())
	require.Equal(t, p.String(), k.String())
}

func TestMatchAgreesWithNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, name := drawNameText.Draw(t, "pattern"), drawName.Draw(t, "name")
		require.NoError(t, topic.CheckName(name))
		require.Equal(t, naiveMatch(text, name, false), topic.MustParse(text).Match(name))

		text, key := drawKeyText.Draw(t, "key pattern"), drawKey.Draw(t, "key")
		require.NoError(t, topic.CheckKey(key))
		require.Equal(t, naiveMatch(text, key, true), mustParseKey(text).Match(key))
	})
}

func TestMatchAllocs(t *testing.T) {
	p, q := topic.MustParse("orders.*.**"), topic.MustParse("*.*.new")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !p.Match("orders.eu.new") || !q.Match("orders.eu.new") || !topic.Subset(p, p) || !topic.Overlap(p, q) {
			t.Error("no match")
		}
	}))
}

// Parsing accepts what the naive grammar accepts; what was parsed and printed
// parses to the same again, and matches as the naive matcher does.
func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"a.**", "a.b:c"},
		{"*:x", "plugin:x"},
		{"*:x", ":x"},
		{"a.*.c", "a..c"},
		{"**", "\xFF"},
		{"a*", "a*"},
		{"é.*/**", "é.b/c"},
		{" .*", " ."},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := topic.Parse(text)
		checkLaws(t, "pattern", text, err, naivePattern(text))
		if err == nil {
			again, err := topic.Parse(p.String())
			require.NoError(t, err)
			require.Equal(t, p, again)
			require.Equal(t, naiveMatch(text, name, false), p.Match(name))
			requireFinds(t, p, name)
		}
		k, err := topic.ParseKey(text)
		checkLaws(t, "key pattern", text, err, naiveKeyPattern(text))
		if err == nil {
			again, err := topic.ParseKey(k.String())
			require.NoError(t, err)
			require.Equal(t, k, again)
			require.Equal(t, naiveMatch(text, name, true), k.Match(name))
			requireFinds(t, k, name)
		}
	})
}

// requireFinds requires that an index with one pattern answers as it does,
// also for what is no name.
func requireFinds(t *testing.T, p topic.Pattern, name string) {
	t.Helper()
	var x topic.Index[int]
	x.Add(p, 1)
	require.Equal(t, p.Match(name), len(x.Append(nil, name)) == 1, "%q %q", p, name)
	require.True(t, x.Remove(p, 1))
	require.Equal(t, topic.Index[int]{}, x)
}
