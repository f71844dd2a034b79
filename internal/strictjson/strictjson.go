// Package strictjson decodes JSON and lets nothing pass that two readers could
// read differently.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// maxDepth bounds the nesting. It is far above what is useful, and far below
// what a stack takes.
const maxDepth = 1000

// Decode decodes one JSON value into v. It refuses unknown fields, keys that
// stand twice in an object or differ only in case, which encoding/json takes
// for the same field, and anything after the value.
func Decode(data []byte, v any) error {
	if err := checkKeys(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// checkKeys reads one value to its end, and looks for keys that stand twice.
func checkKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is more after the value, at byte %d", d.InputOffset())
	}
	return nil
}

// checkValue reads the next value, which stands so many levels deep.
func checkValue(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the value is nested more than %d levels deep", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return unexpected(err)
	}
	var keys map[string]struct{}
	if token == json.Delim('{') {
		keys = map[string]struct{}{}
	}
	for token == json.Delim('{') && d.More() {
		key, err := d.Token()
		if err != nil {
			return unexpected(err)
		}
		folded := strings.Map(fold, key.(string)) // The decoder has seen to it that keys are strings.
		if _, twice := keys[folded]; twice {
			return fmt.Errorf("the key %q stands twice in an object, at byte %d", key, d.InputOffset())
		}
		keys[folded] = struct{}{}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	for token == json.Delim('[') && d.More() {
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if token == json.Delim('{') || token == json.Delim('[') {
		_, err = d.Token()
	}
	return unexpected(err)
}

// unexpected says of a text that ends too early that it does.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fold returns the least of the runes that differ from r only in case, among
// which are some that ToLower keeps apart, such as s and the long s.
func fold(r rune) rune {
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return least
}
