package audit

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// escape returns s in at most plugbus.MaxTextBytes of printable text. What is
// not printable, invalid UTF-8 included, is written as in a Go string literal;
// so are spaces other than the ASCII one, and what turns the direction of
// writing. Backslashes stay, so that escaping twice changes nothing. Longer
// text ends in "…".
func escape(s string) string {
	if plain(s) {
		return s
	}
	const mark = "…"
	var buf []byte
	fit := 0 // how much of buf leaves room for the mark
	for rest := s; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			buf = fmt.Appendf(buf, `\x%02x`, rest[0])
		case strconv.IsPrint(r):
			buf = utf8.AppendRune(buf, r)
		default:
			quoted := strconv.QuoteRune(r)
			buf = append(buf, quoted[1:len(quoted)-1]...)
		}
		if len(buf) > plugbus.MaxTextBytes {
			return string(buf[:fit]) + mark
		}
		if len(buf) <= plugbus.MaxTextBytes-len(mark) {
			fit = len(buf)
		}
		rest = rest[size:]
	}
	return string(buf)
}

// plain reports whether s is short, printable ASCII, as almost all text is.
func plain(s string) bool {
	if len(s) > plugbus.MaxTextBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// eventName returns s if it is a name, and otherwise the name that is left when
// what no name may hold becomes "_", and empty tokens and what is too long are
// cut. A malformed event must not make a fact disappear, and must be found by
// patterns like any other.
func eventName(s string) string {
	s = escape(s)
	if topic.CheckName(s) == nil {
		return s
	}
	var b strings.Builder
	tokens, begins := 1, true
	for _, r := range s {
		separator := r == '.' || r == ':' || r == '/'
		switch {
		case separator && begins:
			continue
		case separator:
			tokens++
		case r == '*' || unicode.IsSpace(r):
			r = '_'
		}
		if tokens > topic.MaxTokens || b.Len()+utf8.RuneLen(r) > topic.MaxBytes {
			break
		}
		begins = separator
		b.WriteRune(r)
	}
	if name := strings.TrimRight(b.String(), ".:/"); name != "" {
		return name
	}
	return "unnamed"
}
