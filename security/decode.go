package security

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A source is the text of a policy, and what decoding learned about it.
type source struct {
	file     string
	lines    []int            // where each line begins; nil for a Document
	places   map[string]place // by path
	bad      map[string]bool  // paths whose value could not be decoded
	mistakes mistakes
}

// A place is where a field or an element stands, as offsets into the text. The
// key of an element is the element.
type place struct{ key, value int }

// position returns the line and the column of an offset, or zeros where there
// are no lines.
func (s *source) position(offset int) (line, column int) {
	if s.lines == nil {
		return 0, 0
	}
	line, found := slices.BinarySearch(s.lines, offset)
	if found {
		line++
	}
	return line, offset - s.lines[line-1] + 1
}

// fail reports a mistake in the value at path.
func (s *source) fail(path, format string, args ...any) {
	s.failAt(s.places[path].value, path, format, args...)
}

// failKey reports a mistake in the key at path.
func (s *source) failKey(path, format string, args ...any) {
	s.failAt(s.places[path].key, path, format, args...)
}

func (s *source) failAt(offset int, path, format string, args ...any) {
	if s.mistakes.full() {
		s.mistakes.more++
		return
	}
	line, column := s.position(offset)
	s.mistakes.list = append(s.mistakes.list, &PolicyError{
		File: s.file, Line: line, Column: column,
		Path: plugbus.CutText(path), Problem: plugbus.CutText(fmt.Sprintf(format, args...)),
	})
}

// err returns the mistakes in the order of the text.
func (s *source) err() error {
	slices.SortStableFunc(s.mistakes.list, func(a, b error) int {
		x, _ := errors.AsType[*PolicyError](a)
		y, _ := errors.AsType[*PolicyError](b)
		if x.Line != y.Line {
			return x.Line - y.Line
		}
		return x.Column - y.Column
	})
	return s.mistakes.err(s.file)
}

// decode reads a document strictly: every key is known, spelled exactly and
// there once, and every value has the type that is expected. It goes on after
// a mistake, so that all of them are found, unless the text is not JSON.
func decode(data []byte, src *source) *Document {
	src.places, src.bad = map[string]place{}, map[string]bool{}
	if offset, problem := syntax(data); problem != "" {
		src.failAt(offset, "", "%s", problem)
		return nil
	}
	doc := &Document{}
	d := decoder{source: src, data: data, fields: map[reflect.Type]map[string]int{}}
	d.space()
	src.places[""] = place{d.at, d.at}
	if !d.value("", reflect.ValueOf(doc).Elem()) {
		return nil
	}
	return doc
}

// lines returns where each line of data begins.
func lines(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// syntax returns where data stops being JSON, and why, or no problem.
func syntax(data []byte) (offset int, problem string) {
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			return len(data) - len(rest), "this is not valid UTF-8"
		}
		rest = rest[size:]
	}
	if bytes.HasPrefix(data, []byte("\uFEFF")) {
		return 0, "the text begins with a byte order mark; remove it"
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return halves(data)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(e.Offset) - 1
	}
	return max(0, min(offset, len(data)-1)), "this is not JSON: " + err.Error()
}

// halves returns where JSON has an escape that is half a character. encoding/json
// would put U+FFFD there, and the policy would not say what its author meant.
func halves(data []byte) (offset int, problem string) {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch r := escaped(data[i:]); {
		case !utf16.IsSurrogate(r):
			i++ // a second backslash begins nothing
		case utf16.DecodeRune(r, escaped(data[i+6:])) == utf8.RuneError:
			return i, fmt.Sprintf("%s is half a character; expected both halves", data[i:i+6])
		default:
			i += 11
		}
	}
	return 0, ""
}

// escaped returns the code unit that data begins with as \uXXXX, or 0.
func escaped(data []byte) rune {
	if !bytes.HasPrefix(data, []byte(`\u`)) {
		return 0
	}
	unit, _ := strconv.ParseUint(string(data[2:6]), 16, 16) // four digits: the text is valid
	return rune(unit)
}

// maxKeyBytes bounds the keys, so that paths are short however many there are.
// It fits every field, id and pattern.
const maxKeyBytes = topic.MaxBytes

// A decoder walks JSON that is known to be valid.
type decoder struct {
	*source
	data   []byte
	at     int
	fields map[reflect.Type]map[string]int // the fields of each struct type by their JSON name
}

// value decodes the next value, and reports whether it could.
func (d *decoder) value(path string, into reflect.Value) bool {
	t := into.Type()
	if t.Kind() == reflect.Pointer {
		v := reflect.New(t.Elem())
		if !d.value(path, v.Elem()) {
			return false
		}
		into.Set(v)
		return true
	}
	if rule, ok := reflect.TypeAssert[*Rule](into.Addr()); ok {
		return d.rule(path, rule)
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr()); ok {
		if !d.expect(path, '"', "a string") {
			return false
		}
		return d.text(path, d.string(), text)
	}
	switch kind := t.Kind(); {
	case kind == reflect.Struct:
		return d.expect(path, '{', "an object") && d.object(path, into)
	case kind == reflect.Map:
		return d.expect(path, '{', "an object") && d.dictionary(path, into)
	case kind == reflect.Slice:
		return d.expect(path, '[', "a list") && d.list(path, into)
	case kind == reflect.String && d.expect(path, '"', "a string"):
		into.SetString(d.string())
		return true
	case kind == reflect.Bool && d.expect(path, 't', "true or false"):
		into.SetBool(d.literal() == "true")
		return true
	case kind == reflect.Int64 && d.expect(path, '0', "a whole number"):
		start := d.at
		n, err := strconv.ParseInt(d.literal(), 10, 64)
		if err != nil {
			return d.wrong(start, path, "a whole number", d.data[start:d.at])
		}
		into.SetInt(n)
		return true
	}
	return false
}

// rule decodes true, false, or an object with lists.
func (d *decoder) rule(path string, into *Rule) bool {
	const want = `true, false, or an object with "allow" and "deny"`
	if d.kind() == 't' {
		into.All = d.literal() == "true"
		return true
	}
	var lists ruleLists
	before := d.mistakes.count()
	if !d.expect(path, '{', want) || !d.object(path, reflect.ValueOf(&lists).Elem()) {
		return false
	}
	into.Allow, into.Deny = lists.Allow, lists.Deny
	if lists.Allow == nil && lists.Deny == nil && d.mistakes.count() == before {
		d.fail(path, "an empty object; expected %s", want)
	}
	d.bad[path] = d.mistakes.count() > before
	return true
}

// object decodes a struct. A field with a mistake spoils only itself.
func (d *decoder) object(path string, into reflect.Value) bool {
	known := d.fieldsOf(into.Type())
	d.members(path, func(key, path string) {
		if i, ok := known[key]; ok {
			d.value(path, into.Field(i))
			return
		}
		d.failKey(path, "unknown field %q; %s", key, suggestion{key, known})
		d.skip()
	})
	return true
}

// dictionary decodes a map, whose keys are strings or have a text form.
func (d *decoder) dictionary(path string, into reflect.Value) bool {
	t := into.Type()
	into.Set(reflect.MakeMap(t))
	d.members(path, func(key, path string) {
		k, v := reflect.New(t.Key()), reflect.New(t.Elem())
		if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](k); ok {
			if !d.text(path, key, text) {
				d.skip()
				return
			}
		} else {
			k.Elem().SetString(key)
		}
		d.value(path, v.Elem())
		into.SetMapIndex(k.Elem(), v.Elem())
	})
	return true
}

// members calls do for each member of an object, in front of its value.
func (d *decoder) members(path string, do func(key, path string)) {
	d.at++ // the brace
	for d.kind() != '}' {
		if d.data[d.at] == ',' {
			d.at++
			d.space()
		}
		start := d.at
		key := d.string()
		d.space()
		d.at++ // the colon
		d.space()
		if len(key) > maxKeyBytes {
			d.failAt(start, path, "a key of %d bytes begins with %q; expected at most %d", len(key), key[:10], maxKeyBytes)
			d.skip()
			continue
		}
		child := join(path, key)
		if first, twice := d.places[child]; twice {
			line, column := d.position(first.key)
			d.failAt(start, child, "%q is here twice; it is first in line %d, column %d", key, line, column)
			d.skip()
			continue
		}
		d.places[child] = place{start, d.at}
		do(key, child)
	}
	d.at++
}

func (d *decoder) list(path string, into reflect.Value) bool {
	into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	d.at++ // the bracket
	for i := 0; d.kind() != ']'; i++ {
		if d.data[d.at] == ',' {
			d.at++
			d.space()
		}
		child := fmt.Sprintf("%s[%d]", path, i)
		d.places[child] = place{d.at, d.at}
		v := reflect.New(into.Type().Elem()).Elem()
		d.value(child, v)
		into.Set(reflect.Append(into, v)) // a bad one too: the indexes that follow are those of the text
	}
	d.at++
	return true
}

// text sets what has a text form.
func (d *decoder) text(path, s string, into encoding.TextUnmarshaler) bool {
	if err := into.UnmarshalText([]byte(s)); err != nil {
		d.bad[path] = true
		d.fail(path, "%s", strings.TrimPrefix(err.Error(), "plugbus: "))
		return false
	}
	return true
}

// expect reports whether the next value is of a kind, and skips it if not.
func (d *decoder) expect(path string, kind byte, want string) bool {
	if d.kind() == kind {
		return true
	}
	start := d.at
	d.skip()
	return d.wrong(start, path, want, d.data[start:d.at])
}

func (d *decoder) wrong(start int, path, want string, got []byte) bool {
	text := string(got)
	switch {
	case text[0] == '{':
		text = "an object"
	case text[0] == '[':
		text = "a list"
	case len(text) > 40:
		text = strings.ToValidUTF8(text[:40], "") + "…"
	}
	d.bad[path] = true
	d.failAt(start, path, "expected %s, got %s", want, text)
	return false
}

// kind moves to the next token, and classifies it by its first byte: { } [ ] ,
// and " are themselves, t is a truth value, 0 a number, n null.
func (d *decoder) kind() byte {
	d.space()
	switch c := d.data[d.at]; {
	case c == '-' || '0' <= c && c <= '9':
		return '0'
	case c == 'f':
		return 't'
	default:
		return c
	}
}

func (d *decoder) space() {
	for d.at < len(d.data) && strings.IndexByte(" \t\r\n", d.data[d.at]) >= 0 {
		d.at++
	}
}

// string decodes the string that begins here.
func (d *decoder) string() string {
	start := d.at
	d.skipString()
	raw := d.data[start:d.at]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return string(raw) // cannot be: the text is valid
	}
	return s
}

// literal returns the number or the word that begins here.
func (d *decoder) literal() string {
	start := d.at
	for d.at < len(d.data) && strings.IndexByte(" \t\r\n,:]}", d.data[d.at]) < 0 {
		d.at++
	}
	return string(d.data[start:d.at])
}

// skip moves past one value, however deep.
func (d *decoder) skip() {
	for depth := 0; ; {
		switch d.kind() {
		case '{', '[':
			depth++
			d.at++
		case '}', ']':
			depth--
			d.at++
		case ',', ':':
			d.at++
			continue
		case '"':
			d.skipString()
		default:
			d.literal()
		}
		if depth == 0 {
			return
		}
	}
}

func (d *decoder) skipString() {
	for d.at++; d.data[d.at] != '"'; d.at++ {
		if d.data[d.at] == '\\' {
			d.at++
		}
	}
	d.at++
}

// fieldsOf returns the fields of a struct type by their JSON name.
func (d *decoder) fieldsOf(t reflect.Type) map[string]int {
	fields := d.fields[t]
	if fields == nil {
		fields = map[string]int{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			fields[name] = i
		}
		d.fields[t] = fields
	}
	return fields
}

// join appends a key to a path, in quotes where it would not read well.
func join(path, key string) string {
	for _, c := range []byte(key) {
		if c != '_' && c != '-' && c != '~' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return fmt.Sprintf("%s[%q]", path, key)
		}
	}
	switch {
	case key == "":
		return path + `[""]`
	case path == "":
		return key
	}
	return path + "." + key
}
