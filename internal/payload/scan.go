package payload

import (
	"strings"

	"github.com/plugbus/plugbus"
)

// Scan returns the checks among want that s trips. It keeps no state, does not
// allocate, and takes time in proportion to the length of s, whatever s is. The
// package comment defines the checks.
func Scan(s string, want plugbus.ContentChecks) plugbus.ContentChecks {
	var tripped plugbus.ContentChecks
	if want == 0 || len(s) <= shortText && !hasAnchor(s) {
		return 0
	}
	if want&(plugbus.CheckScript|plugbus.CheckAttribute) != 0 {
		if i := strings.IndexByte(s, '<'); i >= 0 {
			if want&plugbus.CheckScript != 0 && hasScript(s[i:]) {
				tripped |= plugbus.CheckScript
			}
			if want&plugbus.CheckAttribute != 0 && hasAttribute(s[i:]) {
				tripped |= plugbus.CheckAttribute
			}
		}
	}
	if want&plugbus.CheckScheme != 0 && hasScheme(s) {
		tripped |= plugbus.CheckScheme
	}
	return tripped
}

// Up to this length hasAnchor is faster than three calls of strings.IndexByte:
// at 24 bytes it takes less than half of their time.
const shortText = 96

// hasAnchor reports whether s holds a '<' or a j, without which no check trips.
// It takes eight bytes at a time: a byte of x^c is 0 where a byte of x is c, and
// (y-ones)&^y&highs has a bit where y has a byte that is 0, and else is 0.
func hasAnchor(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		open := x ^ '<'*ones
		j := (x | 0x20*ones) ^ 'j'*ones
		if ((open-ones)&^open|(j-ones)&^j)&highs != 0 {
			return true
		}
	}
	return strings.Contains(s, "<") // A j so near to the end begins no javascript: URL.
}

// indexFrom returns the first place of c in s from i on, or -1. It looks at a
// few bytes itself, so that text full of c does not pay for a call at each.
func indexFrom(s string, i int, c byte) int {
	for near := min(i+8, len(s)); i < near; i++ {
		if s[i] == c {
			return i
		}
	}
	n := strings.IndexByte(s[i:], c)
	if n < 0 {
		return -1
	}
	return i + n
}

// hasScript looks at each '<' once, and no further than "script" is long.
func hasScript(s string) bool {
	const name = "script"
	for i := 0; ; {
		if i = indexFrom(s, i, '<') + 1; i == 0 || len(s)-i < len(name) {
			return false
		}
		end := i + len(name)
		if isWord(s[i:end], name) && (end == len(s) || endsTagName(s[end])) {
			return true
		}
	}
}

// hasScheme looks for a j, which is rare, then ahead for the rest of the word,
// then back for a place where a value begins. The looks overlap only as far as
// the same bytes are looked at twice: ahead, because no other letter of the word
// is a j, so that each look ends before the next j; back, because only ignored
// bytes are passed, so that each look ends at the latest at the j before.
func hasScheme(s string) bool {
	if len(s) < len("javascript:") {
		return false
	}
	for _, j := range [...]byte{'j', 'J'} {
		for at := indexFrom(s, 0, j); at >= 0; at = indexFrom(s, at+1, j) {
			if spellsScheme(s[at+1:]) && beginsValue(s[:at]) {
				return true
			}
		}
	}
	return false
}

// spellsScheme reports whether s goes on after a j as a javascript: URL does.
func spellsScheme(s string) bool {
	const rest = "avascript:"
	n := 0
	for i := range len(s) {
		switch {
		case isIgnored(s[i]):
		case lower(s[i]) != rest[n]:
			return false
		default:
			if n++; n == len(rest) {
				return true
			}
		}
	}
	return false
}

// beginsValue reports whether a value begins where s ends.
func beginsValue(s string) bool {
	for i := len(s) - 1; i >= 0; i-- {
		switch c := s[i]; {
		case c == '"', c == '\'', c == '`', c == '=':
			return true
		case !isIgnored(c):
			return false
		}
	}
	return true
}

// hasAttribute goes through the tags of s as a browser does, and never back.
func hasAttribute(s string) bool {
	for i := 0; ; {
		if i = indexFrom(s, i, '<') + 1; i == 0 {
			return false
		}
		if i == len(s) || !isLetter(s[i]) {
			continue
		}
		var found bool
		if i, found = tagHasAttribute(s, i); found {
			return true
		}
	}
}

// tagHasAttribute goes through the tag whose name begins at i. It returns where
// the tag ends.
func tagHasAttribute(s string, i int) (end int, found bool) {
	for i < len(s) && !endsTagName(s[i]) {
		i++
	}
	for {
		for i < len(s) && (isSpace(s[i]) || s[i] == '/') {
			i++
		}
		if i == len(s) || s[i] == '>' {
			return i, false
		}
		name := i
		for i++; i < len(s) && !endsTagName(s[i]) && s[i] != '='; i++ { // even a '=' may begin a name
		}
		handler := isHandler(s[name:i])
		if i = skipSpace(s, i); i == len(s) || s[i] != '=' {
			continue
		}
		if handler {
			return i, true
		}
		i = skipValue(s, skipSpace(s, i+1))
	}
}

// skipValue returns where the attribute value that begins at i ends.
func skipValue(s string, i int) int {
	if i == len(s) {
		return i
	}
	if quote := s[i]; quote == '"' || quote == '\'' {
		n := strings.IndexByte(s[i+1:], quote)
		if n < 0 {
			return len(s)
		}
		return i + 1 + n + 1
	}
	for i < len(s) && !isSpace(s[i]) && s[i] != '>' {
		i++
	}
	return i
}

func skipSpace(s string, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

// isHandler reports whether name is "on" and one or more ASCII letters.
func isHandler(name string) bool {
	if len(name) < 3 || !isWord(name[:2], "on") {
		return false
	}
	for i := 2; i < len(name); i++ {
		if !isLetter(name[i]) {
			return false
		}
	}
	return true
}

// isWord reports whether s is word, which is in lower case and as long. Only
// ASCII letters have cases here, as in browsers: U+017F is no s.
func isWord(s, word string) bool {
	for i := range len(word) {
		if lower(s[i]) != word[i] {
			return false
		}
	}
	return true
}

// lower returns the lower case of an ASCII letter, and every other byte as it is.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isSpace is the white space of HTML.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r' }

func endsTagName(c byte) bool { return isSpace(c) || c == '/' || c == '>' }

// isIgnored reports whether c is white space or a control character, which
// some reader of URLs skips.
func isIgnored(c byte) bool { return c <= ' ' || c == 0x7F }
