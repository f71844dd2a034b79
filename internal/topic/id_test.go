package topic_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/topic"
)

var idSyntax = regexp.MustCompile(`\A[a-zA-Z0-9][a-zA-Z0-9_-]*(~[a-zA-Z0-9][a-zA-Z0-9_-]*)*\z`)

func naiveID(s string) bool { return len(s) <= 128 && idSyntax.MatchString(s) }

// H3: an id has a small character set and a greatest length, and holds no
// wildcard, no separator and no control character.
func TestH3IDGrammar(t *testing.T) {
	for _, test := range []struct {
		id      string
		offset  int // of the problem; -1 if there is none
		problem string
	}{
		{"indexer", -1, ""},
		{"Indexer-2_b", -1, ""},
		{"7zip", -1, ""},
		{"dify~acme~fake", -1, ""},
		{"a-", -1, ""},
		{strings.Repeat("a", 128), -1, ""},

		{"", 0, "it is empty"},
		{strings.Repeat("a", 129), 128, "it is longer than 128 bytes"},
		{"a.b", 1, "'.' is not allowed"},
		{"plugin:x", 6, "':' is not allowed"}, // so no id has a reserved prefix
		{"a/b", 1, "'/' is not allowed"},
		{"*", 0, "'*' is not allowed"},
		{"a*", 1, "'*' is not allowed"},
		{"a b", 1, "' ' is not allowed"},
		{"a\n", 1, `'\n' is not allowed`},
		{"a\x00", 1, `'\x00' is not allowed`},
		{"аdmin", 0, "'а' is not allowed"}, // the first letter is Cyrillic
		{"a\xFF", 1, "'�' is not allowed"},
		{"-a", 0, "a part begins with '-'"},
		{"_a", 0, "a part begins with '_'"},
		{"~a", 0, "a part begins with '~'"},
		{"a~~b", 2, "a part begins with '~'"},
		{"a~-b", 2, "a part begins with '-'"},
		{"a~", 2, `a part is missing after "~"`},
	} {
		requireProblem(t, topic.CheckID(test.id), "plugin id", test.id, test.offset, test.problem)
		require.Equal(t, test.offset < 0, naiveID(test.id), "naive %q", test.id)
		if test.offset < 0 {
			require.NoError(t, topic.CheckName(test.id), "an id is a name")
			p, err := topic.Parse(test.id)
			require.NoError(t, err)
			require.Zero(t, p.Wildcards(), "an id is never a wildcard")
			require.True(t, topic.MustParse("*").Match(test.id), "an id is one token")
		}
	}
}

func TestH3ReservedID(t *testing.T) {
	for _, test := range []struct {
		id   string
		want bool
	}{
		{"hub", true},
		{"host", true},
		{"plugin", true},
		{"store", true},
		{"security", true},
		{"host~a", true}, // would look like a part of the host

		{"a~host", false},
		{"hosts", false},
		{"Host", false}, // case matters
		{"", false},
	} {
		require.Equal(t, test.want, topic.ReservedID(test.id), "%q", test.id)
	}
}
