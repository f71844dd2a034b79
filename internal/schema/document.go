package schema

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/plugbus/plugbus/internal/strictjson"
)

// The limits of a schema. The compiler remembers a path for each part of a
// schema, and looks for each among the others, so they bound memory and time.
const (
	maxText    = 256 << 10 // bytes
	maxValues  = 8000      // JSON values
	maxNesting = 64        // objects and arrays inside each other
	maxName    = 1024      // bytes of a key, and of what $id, $ref and their like say
	maxPaths   = 4 << 20   // bytes of the pointers to all values together
)

// maxNumber bounds the digits of a number, and its exponent either way. All that
// a float64 can be is within.
const maxNumber = 400

// parse reads the text of a schema.
func parse(text []byte) (any, error) {
	if len(text) > maxText {
		return nil, wrong("schema", "it has %d bytes; expected at most %d", len(text), maxText)
	}
	doc, err := decode("schema", text)
	if err != nil {
		return nil, err
	}
	var s survey
	if err := s.visit(doc, 0, 0); err != nil {
		return nil, err.done()
	}
	return doc, nil
}

// decode reads JSON strictly, and keeps its numbers as they are written.
func decode(what string, text []byte) (any, error) {
	var raw json.RawMessage
	if err := strictjson.Decode(text, &raw); err != nil {
		return nil, wrong(what, "%v", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, wrong(what, "%v", err)
	}
	return doc, nil
}

// A survey measures a schema before it is compiled.
type survey struct{ values, paths int }

// visit takes a value so many levels deep, whose pointer has so many bytes.
func (s *survey) visit(v any, depth, path int) *Error {
	s.values++
	s.paths += path
	switch {
	case s.values > maxValues:
		return wrong("schema", "it has more than %d values; expected a smaller schema", maxValues)
	case s.paths > maxPaths:
		return wrong("schema", "the pointers to its parts have more than %d bytes; expected shorter names, or less of them", maxPaths)
	case depth > maxNesting:
		return wrong("schema", "it is nested more than %d levels deep; expected $defs and $ref in place of nesting", maxNesting)
	}
	switch v := v.(type) {
	case json.Number:
		return numberError("schema", v.String())
	case []any:
		for i, elem := range v {
			if err := s.visit(elem, depth+1, path+1+len(strconv.Itoa(i))); err != nil {
				return err.in(strconv.Itoa(i))
			}
		}
	case map[string]any:
		for key, elem := range v {
			text, _ := elem.(string)
			if len(key) > maxName || strings.HasPrefix(key, "$") && key != "$comment" && len(text) > maxName || key == "id" && len(text) > maxName {
				return wrong("schema", "a name or a reference has more than %d bytes", maxName).in(key)
			}
			if err := s.visit(elem, depth+1, path+1+len(key)); err != nil {
				return err.in(key)
			}
		}
	}
	return nil
}

// numberError refuses a number that costs much to compare.
func numberError(what, text string) *Error {
	if _, ok := numberWeight(text); !ok {
		return wrong(what, "a number has more than %d digits, or an exponent beyond ±%d", maxNumber, maxNumber)
	}
	return nil
}

// numberWeight returns how dear it is to compare a number, in multiples of what a
// short one costs. It is false for one that costs too much.
func numberWeight(text string) (weight int, ok bool) {
	digits, exponent := text, 0
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		var err error
		if exponent, err = strconv.Atoi(text[at+1:]); err != nil {
			return 0, false
		}
		digits, exponent = text[:at], max(exponent, -exponent)
	}
	return 1 + (len(digits)+exponent)/16, len(digits) <= maxNumber && exponent <= maxNumber
}
