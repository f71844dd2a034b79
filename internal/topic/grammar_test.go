package topic_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// E1 asks for a written grammar with separators, empty tokens, case, and the
// greatest length and depth.
func TestE1NameGrammar(t *testing.T) {
	tokens32 := strings.Repeat("a.", 31) + "a"
	for _, test := range []struct {
		name    string
		offset  int // of the problem; -1 if there is none
		problem string
	}{
		{"a", -1, ""},
		{"a.b:c/d", -1, ""},
		{"Orders.New", -1, ""},
		{"größe.表", -1, ""},
		{"a-b_c!#~+@$%^&()[]{}<>=|?,;'\"\\`", -1, ""}, // what is not excluded is allowed
		{"\uFFFD", -1, ""},                            // written out, it is valid
		{tokens32, -1, ""},
		{strings.Repeat("a", 255), -1, ""},

		{"", 0, "it is empty"},
		{strings.Repeat("a", 256), 255, "it is longer than 255 bytes"},
		{tokens32 + ".a", 64, "there are more than 32 tokens"},
		{".a", 0, "a token is empty"},
		{"a..b", 2, "a token is empty"},
		{"a.:b", 2, "a token is empty"},
		{"a/", 2, "the last token is empty"},
		{".", 0, "a token is empty"},

		{"a b", 1, "U+0020 is white space"},
		{"a.\u00A0", 2, "U+00A0 is white space"},
		{"\u2028", 0, "U+2028 is white space"},
		{"\u3000b", 0, "U+3000 is white space"},
		{"a\tb", 1, "U+0009 is a control character"},
		{"a\x00", 1, "U+0000 is a control character"},
		{"a\x7F", 1, "U+007F is a control character"},
		{"é\u0085", 2, "U+0085 is a control character"},
		{"a\u200Bb", 1, "U+200B is a format character"}, // shows as "ab"
		{"a\u202Eb", 1, "U+202E is a format character"}, // turns what follows round
		{"\uFEFFa", 0, "U+FEFF is a format character"},
		{"a.\xFF", 2, "it is not valid UTF-8"},
		{"a\xC3", 1, "it is not valid UTF-8"},
		{"\xED\xA0\x80", 0, "it is not valid UTF-8"}, // half of a surrogate pair

		{"*", 0, `"*" is only for patterns`},
		{"a.b*", 3, `"*" is only for patterns`},
	} {
		requireProblem(t, topic.CheckName(test.name), "name", test.name, test.offset, test.problem)
		require.Equal(t, test.offset < 0, naiveName(test.name), "naive %q", test.name)
	}
}

// E7: the names that an emitter treats as magic are names like any other.
func TestE7NoMagicNames(t *testing.T) {
	for _, name := range []string{"error", "newListener", "removeListener", "close", "__proto__", "constructor", "nil", "hub", "plugin"} {
		require.NoError(t, topic.CheckName(name))
		require.False(t, topic.Reserved(name))
		require.True(t, topic.MustParse(name).Match(name))
		require.True(t, topic.MustParse("*").Match(name))
		require.True(t, topic.MustParse("**").Match(name))
	}
}

// H7: the hub's own names stand under prefixes that no other name can have.
func TestH7Reserved(t *testing.T) {
	for _, test := range []struct {
		name string
		want bool
	}{
		{"plugin:registered", true},
		{"hub:closing", true},
		{"store:index:changed", true},
		{"security:alert", true},
		{"security:a/b.c", true},

		{"plugin", false},
		{"plugin.registered", false}, // separators are literal
		{"plugin/registered", false},
		{"plugins:registered", false},
		{"my.plugin:registered", false},
		{"Plugin:registered", false}, // case matters
		{"", false},
	} {
		require.Equal(t, test.want, topic.Reserved(test.name), "%q", test.name)
		require.Equal(t, test.want, naiveReserved(test.name), "naive %q", test.name)
	}
}

func TestKeyGrammar(t *testing.T) {
	for _, test := range []struct {
		key     string
		offset  int
		problem string
	}{
		{"a", -1, ""},
		{".", -1, ""},
		{"//a::b.", -1, ""},
		{"two words", -1, ""},
		{"a*.**.***", -1, ""},
		{"a\u200Bb\u00A0", -1, ""},
		{strings.Repeat(".", 512), -1, ""},

		{"", 0, "it is empty"},
		{strings.Repeat("a", 513), 512, "it is longer than 512 bytes"},
		{"a\nb", 1, "U+000A is a control character"},
		{"a\u009F", 1, "U+009F is a control character"},
		{" \xFF", 1, "it is not valid UTF-8"},
	} {
		requireProblem(t, topic.CheckKey(test.key), "key", test.key, test.offset, test.problem)
		require.Equal(t, test.offset < 0, naiveKey(test.key), "naive %q", test.key)
	}
}

func TestError(t *testing.T) {
	_, err := topic.Parse("orders.new*")
	require.EqualError(t, err, `invalid pattern "orders.new*": at byte 10: "*" must be a whole token; `+
		`expected a name in which "*" may stand for a token, and "**" for one or more at the end`)

	for err, limits := range map[error][]any{
		topic.CheckName(""): {topic.MaxBytes, topic.MaxTokens},
		topic.CheckKey(""):  {topic.MaxKeyBytes},
		topic.CheckID(""):   {topic.MaxIDBytes},
	} {
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.NotErrorIs(t, err, plugbus.ErrDenied)
		require.NotErrorIs(t, fmt.Errorf("wrapped: %w", err), plugbus.ErrClosed)
		for _, limit := range limits {
			require.ErrorContains(t, err, fmt.Sprint(limit), "the rule states the limit")
		}
	}
}

// What a plugin gave neither fills the log nor stays in memory, and is printed
// so that it cannot pass for text of the bus.
func TestErrorIsBounded(t *testing.T) {
	for _, input := range []string{
		strings.Repeat("a", 1<<20),
		strings.Repeat("表", 1<<18),
		strings.Repeat("\x80", 1<<20),
		strings.Repeat("\n", 500),
	} {
		for _, err := range []error{topic.CheckName(input), topic.CheckID(input), topic.CheckKey(input)} {
			bad, ok := errors.AsType[*topic.Error](err)
			require.True(t, ok)
			require.LessOrEqual(t, len(bad.Input), 256+len("…"))
			require.True(t, strings.HasSuffix(bad.Input, "…"))
			require.Equal(t, utf8.ValidString(input), utf8.ValidString(bad.Input), "it is not cut inside a character")
			require.Less(t, len(err.Error()), 2000)
			require.NotContains(t, err.Error(), "\n")
		}
	}
}

func TestCheckNameAllocs(t *testing.T) {
	name := "orders.größe:new/2.x"
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if topic.CheckName(name) != nil || topic.CheckKey(name) != nil || topic.CheckID("dify~acme~fake") != nil {
			t.Error("refused")
		}
	}))
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "a.b:c/d", "a..b", "*", "a.**", "a*.b", "é\u200B", "a\xFF", "a b", "plugin:x", "dify~acme~fake", "~", "-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkLaws(t, "name", s, topic.CheckName(s), naiveName(s))
		checkLaws(t, "key", s, topic.CheckKey(s), naiveKey(s))
		checkLaws(t, "plugin id", s, topic.CheckID(s), naiveID(s))
		require.Equal(t, naiveReserved(s), topic.Reserved(s))
	})
}

// checkLaws compares the answer of a check with that of the naive definition,
// and holds the error to what it promises.
func checkLaws(t *testing.T, what, s string, err error, valid bool) {
	t.Helper()
	if valid {
		require.NoError(t, err, "%s %q", what, s)
		return
	}
	bad, ok := errors.AsType[*topic.Error](err)
	require.True(t, ok, "%s %q: got %v, want an *Error", what, s, err)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.Equal(t, what, bad.What)
	require.NotEmpty(t, bad.Problem)
	require.GreaterOrEqual(t, bad.Offset, 0)
	require.LessOrEqual(t, bad.Offset, len(s))
}

// requireProblem requires that err says what is wrong with the input and where,
// or that there is none if offset is negative.
func requireProblem(t *testing.T, err error, what, input string, offset int, problem string) {
	t.Helper()
	if offset < 0 {
		require.NoError(t, err, "%s %q", what, input)
		return
	}
	bad, ok := errors.AsType[*topic.Error](err)
	require.True(t, ok, "%s %q: got %v, want an *Error", what, input, err)
	require.Equal(t, what, bad.What, "%q", input)
	require.Equal(t, offset, bad.Offset, "%q", input)
	require.Equal(t, problem, bad.Problem, "%q", input)
	require.True(t, strings.HasPrefix(input, strings.TrimSuffix(bad.Input, "…")), "%q", input)
}
