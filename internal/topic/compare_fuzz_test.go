package topic_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/topic"
)

// mostWitnesses bounds the names that are looked at for one pair of patterns.
const mostWitnesses = 50_000

// witnesses returns valid names, or keys, among which every difference between two
// patterns shows. Whether a pattern matches depends, place by place, on whether the
// name has the pattern's own token and separator there, and on how long it is: so
// the names have, at each place, the tokens of both and a short one of neither, and
// go on for one place behind the longer pattern. It reports false where there are
// too many.
func witnesses(p, q string, key bool) (names []string, ok bool) {
	pt, ps := split(p)
	qt, qs := split(q)
	places := max(len(pt), len(qt)) + 1
	at := func(place int) (tokens, separators []string) {
		for _, has := range []struct {
			tokens     []string
			separators []byte
		}{{pt, ps}, {qt, qs}} {
			if place < len(has.tokens) && strings.Trim(has.tokens[place], "*") != "" {
				tokens = append(tokens, has.tokens[place])
			}
			if place < len(has.separators) {
				separators = append(separators, string(has.separators[place]))
			}
		}
		if place == places-1 || len(separators) == 0 {
			separators = append(separators, ".")
		}
		for _, token := range []string{"x", "y", "z"} {
			if !slices.Contains(tokens, token) {
				tokens = append(tokens, token)
				break
			}
		}
		if key {
			tokens = append(tokens, "")
		}
		slices.Sort(tokens)
		slices.Sort(separators)
		return slices.Compact(tokens), slices.Compact(separators)
	}
	level := []string{""}
	for place := range places {
		tokens, separators := at(place)
		var next []string
		for _, begin := range level {
			for _, token := range tokens {
				name := begin + token
				if key && naiveKey(name) || !key && naiveName(name) {
					names = append(names, name)
				}
				for _, separator := range separators {
					next = append(next, name+separator)
				}
			}
		}
		if level = next; len(level) > mostWitnesses {
			return nil, false
		}
	}
	return names, true
}

// FuzzCompare compares Subset and Overlap with a look at every name that could make
// a difference.
func FuzzCompare(f *testing.F) {
	for _, pair := range [][2]string{
		{"a.*", "a.**"}, {"plugin:*", "**"}, {"*:x", "plugin:x"}, {"a.*.c", "*.b.**"}, {"é/*", "é/é"}, {"z.*", "x.**"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, p, q string) {
		for _, kind := range []struct {
			key   bool
			parse func(string) (topic.Pattern, error)
		}{{false, topic.Parse}, {true, topic.ParseKey}} {
			one, err := kind.parse(p)
			other, otherErr := kind.parse(q)
			if err != nil || otherErr != nil {
				continue
			}
			names, ok := witnesses(p, q, kind.key)
			if !ok {
				continue
			}
			within, containing, meet := true, true, false
			for _, name := range names {
				a, b := naiveMatch(p, name, kind.key), naiveMatch(q, name, kind.key)
				within, containing, meet = within && (!a || b), containing && (!b || a), meet || a && b
			}
			require.Equal(t, within, topic.Subset(one, other), "Subset(%q, %q), keys: %t", p, q, kind.key)
			require.Equal(t, containing, topic.Subset(other, one), "Subset(%q, %q), keys: %t", q, p, kind.key)
			require.Equal(t, meet, topic.Overlap(one, other), "Overlap(%q, %q), keys: %t", p, q, kind.key)
			require.Equal(t, meet, topic.Overlap(other, one), "Overlap(%q, %q), keys: %t", q, p, kind.key)
		}
	})
}
