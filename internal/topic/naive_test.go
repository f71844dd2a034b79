package topic_test

import (
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/topic"
)

// This file says the same as the package, in the plainest way: by splitting
// and recursion. The other tests compare the two.

func split(s string) (tokens []string, separators []byte) {
	begin := 0
	for i := range len(s) {
		if strings.IndexByte(".:/", s[i]) >= 0 {
			tokens = append(tokens, s[begin:i])
			separators = append(separators, s[i])
			begin = i + 1
		}
	}
	return append(tokens, s[begin:]), separators
}

func naiveName(s string) bool {
	tokens, _ := split(s)
	return s != "" && len(s) <= 255 && utf8.ValidString(s) &&
		len(tokens) <= 32 && !slices.Contains(tokens, "") &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return r == '*' || unicode.In(r, unicode.White_Space, unicode.Cc, unicode.Cf)
		})
}

func naiveKey(s string) bool {
	return s != "" && len(s) <= 512 && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Cc) })
}

// withoutWildcards puts plain text of the same length in the place of each
// wildcard.
func withoutWildcards(pattern string) string {
	tokens, separators := split(pattern)
	var b strings.Builder
	for i, token := range tokens {
		if token == "*" || token == "**" && i == len(tokens)-1 {
			token = strings.Repeat("x", len(token))
		}
		b.WriteString(token)
		if i < len(separators) {
			b.WriteByte(separators[i])
		}
	}
	return b.String()
}

func naivePattern(s string) bool { return naiveName(withoutWildcards(s)) }

func naiveKeyPattern(s string) bool {
	plain := withoutWildcards(s)
	return naiveKey(plain) && !strings.Contains(plain, "*")
}

func naiveReserved(name string) bool {
	before, _, ok := strings.Cut(name, ":")
	return ok && slices.Contains([]string{"plugin", "hub", "store", "security"}, before)
}

func naiveMatch(pattern, name string, key bool) bool {
	if name == "" || !key && pattern[0] == '*' && naiveReserved(name) {
		return false
	}
	pt, ps := split(pattern)
	nt, ns := split(name)
	return naiveTokens(pt, ps, nt, ns)
}

func naiveTokens(pt []string, ps []byte, nt []string, ns []byte) bool {
	switch {
	case pt[0] == "**":
		return true
	case pt[0] != "*" && pt[0] != nt[0]:
		return false
	case len(ps) == 0 || len(ns) == 0:
		return len(ps) == len(ns)
	}
	return ps[0] == ns[0] && naiveTokens(pt[1:], ps[1:], nt[1:], ns[1:])
}

// sequences yields every way to join up to n tokens with two of the separators.
func sequences(n int, tokens ...string) iter.Seq[string] {
	return func(yield func(string) bool) {
		level := slices.Clone(tokens)
		for range n {
			var next []string
			for _, s := range level {
				if !yield(s) {
					return
				}
				for _, separator := range ".:" {
					for _, token := range tokens {
						next = append(next, s+string(separator)+token)
					}
				}
			}
			level = next
		}
	}
}

// The generators draw from few tokens, so that names and patterns meet.

func drawTokens(tokens ...string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom(tokens).Draw(t, "token")
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			s += rapid.SampledFrom([]string{".", ".", ":", "/"}).Draw(t, "separator")
			s += rapid.SampledFrom(tokens).Draw(t, "token")
		}
		return s
	})
}

func drawTail(g *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := g.Draw(t, "pattern")
		switch rapid.IntRange(0, 5).Draw(t, "tail") {
		case 0:
			return s + ".**"
		case 1:
			return s + ":**"
		case 2:
			return "**"
		}
		return s
	})
}

var (
	drawName       = drawTokens("a", "b", "ab", "é", "plugin", "hub")
	drawKey        = drawTokens("a", "b", "", "*", "plugin").Filter(func(s string) bool { return s != "" })
	drawNameText   = drawTail(drawTokens("a", "b", "ab", "é", "plugin", "hub", "*", "*", "*"))
	drawKeyText    = drawTail(drawTokens("a", "b", "", "plugin", "*", "*")).Filter(func(s string) bool { return s != "" })
	drawPattern    = rapid.Map(drawNameText, topic.MustParse)
	drawKeyPattern = rapid.Map(drawKeyText, mustParseKey)
)

func mustParseKey(s string) topic.Pattern {
	p, err := topic.ParseKey(s)
	if err != nil {
		panic(err)
	}
	return p
}
