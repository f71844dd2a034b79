package panics_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/panics"
)

type clumsyError struct{ text *string }

func (e clumsyError) Error() string { return *e.text }

// A trapdoor ends the goroutine that makes it text.
type trapdoor struct{}

func (trapdoor) String() string {
	runtime.Goexit()
	return ""
}

type stringer struct{}

func (stringer) String() string { return "a stringer" }

func TestText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		panicked any
		want     string
	}{
		{"oops", "oops"},
		{"", ""},
		{7, "7"},
		{nil, "<nil>"},
		{errors.New("an error"), "an error"},
		{stringer{}, "a stringer"},
		{struct{ N int }{7}, "{7}"},
		{clumsyError{}, "panics_test.clumsyError"},
		{"half \xff", "half \uFFFD"},
		{trapdoor{}, "panics_test.trapdoor"},
	} {
		require.Equal(t, test.want, panics.Text(test.panicked), "%T", test.panicked)
	}
}

// TestTextIsShort shows that a plugin cannot flood the host by what it panics
// with.
func TestTextIsShort(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("a", 1<<20), strings.Repeat("ä", 1<<20), strings.Repeat("\xff", 1<<20)} {
		for _, panicked := range []any{text, errors.New(text), []string{text}} {
			got := panics.Text(panicked)
			require.LessOrEqual(t, len(got), plugbus.MaxTextBytes)
			require.True(t, utf8.ValidString(got))
		}
	}
}
