package topic

import "strings"

// A Pattern matches names, or keys. It is immutable and comparable: equal
// patterns have the same text and match the same kind of thing. The zero
// Pattern matches nothing.
type Pattern struct {
	s         string
	wildcards uint16
	key       bool // it matches keys
	lead      bool // it begins with a wildcard, and so leaves out the hub's own names
	tail      bool // it ends in "**"
	full      bool // it ends in "**", and the limits of names leave room for one token there
}

// Parse returns the pattern of names that s spells, or an [*Error].
func Parse(s string) (Pattern, error) {
	sh, err := patternGrammar.scan(s)
	if err != nil {
		return Pattern{}, err
	}
	p := newPattern(s, sh)
	p.lead = s[0] == '*'
	// In the longest pattern, the "**" has room for two bytes, but two tokens
	// need three.
	p.full = p.tail && (sh.tokens == MaxTokens || len(s) == MaxBytes)
	return p, nil
}

// MustParse is Parse for constants. It panics if s is not a pattern.
func MustParse(s string) Pattern {
	p, err := Parse(s)
	if err != nil {
		panic("topic: " + err.Error())
	}
	return p
}

// ParseKey returns the pattern of keys that s spells, or an [*Error].
func ParseKey(s string) (Pattern, error) {
	sh, err := keyPatternGrammar.scan(s)
	if err != nil {
		return Pattern{}, err
	}
	p := newPattern(s, sh)
	p.key = true
	return p, nil
}

// newPattern clones s, which may be a piece of something large.
func newPattern(s string, sh shape) Pattern {
	return Pattern{s: strings.Clone(s), wildcards: uint16(sh.wildcards), tail: strings.HasSuffix(s, "**")}
}

// String returns the text that was parsed.
func (p Pattern) String() string { return p.s }

// Literal returns the only name, or key, that p matches. It reports false if p
// has a wildcard or is the zero Pattern.
func (p Pattern) Literal() (string, bool) {
	if p.s == "" || p.wildcards > 0 {
		return "", false
	}
	return p.s, true
}

// Wildcards returns how many tokens of p are "*" or "**".
func (p Pattern) Wildcards() int { return int(p.wildcards) }

// Match reports whether p matches a name, or a key if it is a pattern of keys.
// It does not check the name; what CheckName or CheckKey would refuse gets some
// answer, the same that an [Index] gives. Nothing matches "".
func (p Pattern) Match(name string) bool {
	switch {
	case p.s == "" || name == "":
		return false
	case p.wildcards == 0:
		return p.s == name
	case p.lead && Reserved(name):
		return false
	}
	pattern := p.s
	if p.tail {
		pattern = pattern[:len(pattern)-len("**")]
	}
	at := 0 // in name
	for i := range len(pattern) {
		if c := pattern[i]; c == '*' {
			at = tokenEnd(name, at)
		} else if at < len(name) && name[at] == c {
			at++
		} else {
			return false
		}
	}
	// Before a "**" comes a separator or nothing, so a token begins at the end.
	return p.tail || at == len(name)
}
