package schema

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The limits of a regular expression: of its text, and of the program that it
// becomes, which repetitions make much larger.
const (
	maxPatternText  = 1024
	maxPatternSteps = 2000
)

// A pattern is a regular expression that knows how dear it is to match.
type pattern struct {
	*regexp.Regexp
	steps int // that matching may take for each byte
}

func compilePattern(text string) (jsonschema.Regexp, error) {
	if len(text) > maxPatternText {
		return nil, fmt.Errorf("it has %d bytes; expected at most %d", len(text), maxPatternText)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	n := steps(parsed)
	if n > maxPatternSteps {
		return nil, fmt.Errorf("with its repetitions written out it has more than %d parts", maxPatternSteps)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{re, n}, nil
}

// steps returns about how many instructions an expression becomes. It stops
// counting where that is too many.
func steps(re *syntax.Regexp) int {
	n := max(1, len(re.Rune))
	if re.Op == syntax.OpCharClass {
		n = 1 + n/16 // One instruction, but a table of ranges.
	}
	for _, sub := range re.Sub {
		n = min(n+steps(sub), maxPatternSteps+1)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(1, re.Min, re.Max), maxPatternSteps+1)
	}
	return n
}
