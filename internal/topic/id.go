package topic

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxIDBytes is the longest plugin id.
const MaxIDBytes = 128

// CheckID returns nil if s can be the id of a plugin, and otherwise an
// [*Error]. It does not ask whether the id is free, see [ReservedID].
func CheckID(s string) error {
	fail := func(at int, problem string) error {
		return newError("plugin id", s, at, problem,
			`1 to 128 ASCII letters, digits, "_" and "-", beginning with a letter or a digit, or several such parts with "~" between them`)
	}
	switch {
	case s == "":
		return fail(0, "it is empty")
	case len(s) > MaxIDBytes:
		return fail(MaxIDBytes, fmt.Sprintf("it is longer than %d bytes", MaxIDBytes))
	}
	begins := true // a part
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			begins = false
		case c != '~' && c != '_' && c != '-':
			r, _ := utf8.DecodeRuneInString(s[i:])
			return fail(i, fmt.Sprintf("%q is not allowed", r))
		case begins:
			return fail(i, fmt.Sprintf("a part begins with %q", c))
		default:
			begins = c == '~'
		}
	}
	if begins {
		return fail(len(s), `a part is missing after "~"`)
	}
	return nil
}

// ReservedID reports whether the id, or the first part of it, is one that only
// the hub gives out: "hub", "host", "plugin", "store" and "security".
func ReservedID(id string) bool {
	first, _, _ := strings.Cut(id, "~")
	switch first {
	case "hub", "host", "plugin", "store", "security":
		return true
	}
	return false
}
