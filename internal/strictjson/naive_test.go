package strictjson_test

import (
	"encoding/json"
	"strings"
)

// naiveStrict says of a text whether two readers could read it differently: it is
// JSON, no object has two keys that are equal but for their case, and it is nested at
// most 1,000 levels deep. It goes through the text byte by byte.
func naiveStrict(text string) bool {
	if !json.Valid([]byte(text)) {
		return false
	}
	type object struct {
		keys []string // nil for an array
		is   bool
	}
	var open []object
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			open = append(open, object{is: text[i] == '{'})
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			begin := i
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if len(open) == 0 || !open[len(open)-1].is || !strings.HasPrefix(strings.TrimLeft(text[i+1:], " \t\r\n"), ":") {
				continue // It is no key.
			}
			var key string
			if json.Unmarshal([]byte(text[begin:i+1]), &key) != nil {
				return false
			}
			in := &open[len(open)-1]
			for _, other := range in.keys {
				if strings.EqualFold(key, other) {
					return false
				}
			}
			in.keys = append(in.keys, key)
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		}
		if len(open) > 1000 && !emptyNext(text[i:]) {
			return false
		}
	}
	return true
}

// emptyNext reports whether the object or the array that begins here holds nothing, so
// that no value lies deeper.
func emptyNext(text string) bool {
	rest := strings.TrimLeft(text[1:], " \t\r\n")
	return strings.HasPrefix(rest, "}") || strings.HasPrefix(rest, "]")
}
