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

// A places is a set of places in a tag where a reader may be.
type places uint16

const (
	inTagName places = 1 << iota
	beforeName
	inNameO       // in an attribute name: after "o",
	inNameOn      // after "on",
	inHandler     // after "on" and letters only,
	inName        // in any other
	behindHandler // in the white space behind a name
	behindName
	beforeValue
	inDoubleQuotes
	inSingleQuotes
	inValue

	// The places where a letter changes nothing, which makes most of a page cheap.
	still = inTagName | inName | inDoubleQuotes | inSingleQuotes | inValue
)

// hasAttribute reads every tag of s at once: where one reader is in a quoted
// value, another takes a '<' in it for a new tag. Readers in the same place go on
// as one, so that no text makes this slow.
func hasAttribute(s string) bool {
	var at places
	for i := 0; i < len(s); i++ {
		if at == 0 { // Nobody is in a tag, so only a '<' matters, from the last byte on.
			if i = indexFrom(s, max(i-1, 0), '<') + 1; i == 0 || i == len(s) {
				return false
			}
		} else if s[i] == '=' && at&(inHandler|behindHandler) != 0 {
			return true
		} else if at&^still != 0 || !isLetter(s[i]) {
			at = at.after(s[i])
		}
		if i > 0 && s[i-1] == '<' && isLetter(s[i]) {
			at |= inTagName
		}
	}
	return false
}

// after returns where the readers are after c, as a browser reads tags. A '='
// behind the name of a handler is for the caller.
func (at places) after(c byte) places {
	next := at & (inDoubleQuotes | inSingleQuotes)
	move := func(from, to places) {
		if at&from != 0 {
			next |= to
		}
	}
	switch {
	case isSpace(c):
		next |= at & (behindHandler | behindName | beforeValue)
		move(inTagName|beforeName|inValue, beforeName)
		move(inHandler, behindHandler)
		move(inNameO|inNameOn|inName, behindName)
		return next
	case c == '>':
		return next
	case c == '/':
		next |= at & inValue
		move(inTagName|beforeName|inNameO|inNameOn|inHandler|inName|behindHandler|behindName, beforeName)
		move(beforeValue, inValue)
		return next
	case c == '=':
		next |= at & (inTagName | inValue)
		move(beforeName, inName) // even a '=' may begin a name
		move(inNameO|inNameOn|inName|behindName, beforeValue)
		move(beforeValue, inValue)
		return next
	}
	next |= at & (inTagName | inValue | inName)
	value := inValue
	switch c {
	case '"':
		value = inDoubleQuotes
		next &^= inDoubleQuotes
		move(inDoubleQuotes, beforeName)
	case '\'':
		value = inSingleQuotes
		next &^= inSingleQuotes
		move(inSingleQuotes, beforeName)
	}
	begun, second, third := inName, inName, inName
	if lower(c) == 'o' {
		begun = inNameO
	}
	if lower(c) == 'n' {
		second = inNameOn
	}
	if isLetter(c) {
		third = inHandler
	}
	move(beforeValue, value)
	move(beforeName|behindHandler|behindName, begun)
	move(inNameO, second)
	move(inNameOn|inHandler, third)
	return next
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
