package topic

import (
	"fmt"
	"unicode/utf8"

	"github.com/plugbus/plugbus"
)

// An Error reports a string outside the grammar. It matches plugbus.ErrInvalid.
type Error struct {
	What    string // "name", "pattern", "plugin id", "key" or "key pattern"
	Input   string // what was given; after maxInput bytes it is cut and ends in "…"
	Offset  int    // of the byte in what was given where the problem begins
	Problem string

	expected string // the rule in short
}

// maxInput bounds how much of its input an [Error] holds and prints, so that a
// refused string of any size costs little. It fits every name and pattern.
const maxInput = 256

func newError(what, input string, offset int, problem, expected string) *Error {
	if len(input) > maxInput {
		cut := maxInput
		for cut > maxInput-utf8.UTFMax && !utf8.RuneStart(input[cut]) {
			cut--
		}
		input = input[:cut] + "…"
	}
	return &Error{what, input, offset, problem, expected}
}

// Error says what was given, what is wrong with it and where, and what is
// expected.
func (e *Error) Error() string {
	return fmt.Sprintf("invalid %s %q: at byte %d: %s; expected %s", e.What, e.Input, e.Offset, e.Problem, e.expected)
}

// Is reports whether target is plugbus.ErrInvalid.
func (e *Error) Is(target error) bool {
	return target == plugbus.ErrInvalid
}
