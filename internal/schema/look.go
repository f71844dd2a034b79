package schema

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// maxLevels bounds the pointers, interfaces, arrays and objects inside each
// other, for a value that contains itself has no end.
const maxLevels = 1000

var (
	rawType    = reflect.TypeFor[json.RawMessage]()
	numberType = reflect.TypeFor[json.Number]()
	timeType   = reflect.TypeFor[time.Time]()
)

// A size is what a value has to be checked.
type size struct {
	values int // keys of objects included; a long number counts more than once
	bytes  int // of texts
	depth  int // of arrays and objects inside each other
}

// look returns v as encoding/json would show it, in the types that the library
// takes, and the size of what it returns.
func look(v any) (any, size, error) {
	var l looker
	shown, err := l.value(reflect.ValueOf(v))
	if err != nil {
		return nil, l.size, err.done()
	}
	return shown, l.size, nil
}

// A looker walks one value.
type looker struct {
	size

	levels int // that the walk is in
	nested int // of these, the arrays and objects
}

// charge counts n values before anything is made for them.
func (l *looker) charge(n int) *Error {
	if n > maxWork-l.values {
		return wrong("value", "it has more than %d values; expected less", maxWork)
	}
	l.values += n
	return nil
}

// enter goes one level deeper. Whoever enters and meets no error leaves; an error
// ends the walk.
func (l *looker) enter(nested int) *Error {
	l.levels++
	l.nested += nested
	l.depth = max(l.depth, l.nested)
	if l.levels > maxLevels || l.nested > maxDepth {
		return wrong("value", "it is nested more than %d levels deep; expected a flatter one", maxDepth)
	}
	return nil
}

func (l *looker) leave(nested int) {
	l.levels--
	l.nested -= nested
}

func (l *looker) value(v reflect.Value) (any, *Error) {
	if err := l.charge(1); err != nil || !v.IsValid() {
		return nil, err
	}
	if text, ok, err := l.known(v); ok || err != nil {
		return text, err
	}
	switch v.Kind() { //nolint:exhaustive // The others have no JSON.
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return v.Uint(), nil
	case reflect.Float32, reflect.Float64:
		return l.float(v)
	case reflect.String:
		return l.text(v.String()), nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return l.behind(v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return nil, nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return l.text(base64.StdEncoding.EncodeToString(v.Bytes())), nil
		}
		return l.list(v)
	case reflect.Array:
		return l.list(v)
	case reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
		return l.mapping(v)
	case reflect.Struct:
		return l.structure(v)
	}
	return nil, wrong("value", "a Go %v has no form in JSON; expected data", v.Type())
}

// behind is value for what a pointer or an interface leads to, which is counted
// already.
func (l *looker) behind(v reflect.Value) (any, *Error) {
	if err := l.enter(0); err != nil {
		return nil, err
	}
	l.values--
	shown, err := l.value(v)
	l.leave(0)
	return shown, err
}

// known looks at values of the types that JSON shows in a form of their own.
func (l *looker) known(v reflect.Value) (shown any, ok bool, _ *Error) {
	switch v.Type() {
	case rawType:
		shown, err := l.raw(v.Bytes())
		return shown, true, err
	case numberType:
		number := json.Number(v.String())
		if number == "" {
			number = "0"
		}
		if !isNumber(number.String()) {
			return nil, true, wrong("value", "the json.Number is no number")
		}
		err := l.number(number)
		return number, true, err
	}
	text, ok, err := wellKnown(v)
	return l.text(text), ok, err
}

// wellKnown returns the text of a value whose type is one of those whose methods
// are known to be harmless.
func wellKnown(v reflect.Value) (text string, ok bool, _ *Error) {
	if k := v.Kind(); k != reflect.Struct && k != reflect.Array || !v.CanInterface() {
		return "", false, nil
	}
	var read []byte
	var err error
	switch x := v.Interface().(type) {
	case time.Time:
		read, err = x.MarshalText()
	case netip.Addr:
		read, err = x.MarshalText()
	case netip.AddrPort:
		read, err = x.MarshalText()
	case netip.Prefix:
		read, err = x.MarshalText()
	case uuid.UUID:
		read, err = x.MarshalText()
	default:
		return "", false, nil
	}
	if err != nil {
		return "", true, wrong("value", "%v", err)
	}
	return string(read), true, nil
}

// raw reads JSON as it was written.
func (l *looker) raw(text []byte) (any, *Error) {
	if text == nil {
		return nil, nil
	}
	shown, err := decode("value", text)
	if err != nil {
		return nil, wrong("value", "the json.RawMessage: %v", err)
	}
	l.values-- // The message is counted already.
	return shown, l.measure(shown)
}

// measure counts what raw read.
func (l *looker) measure(v any) *Error {
	if err := l.charge(1); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		l.bytes += len(v)
	case json.Number:
		return l.number(v)
	case []any:
		if err := l.enter(1); err != nil {
			return err
		}
		for i, elem := range v {
			if err := l.measure(elem); err != nil {
				return err.in(strconv.Itoa(i))
			}
		}
		l.leave(1)
	case map[string]any:
		if err := l.enter(1); err != nil {
			return err
		}
		for key, elem := range v {
			l.bytes += len(key)
			l.values++
			if err := l.measure(elem); err != nil {
				return err.in(key)
			}
		}
		l.leave(1)
	}
	return nil
}

// isNumber reports whether the text is a number of JSON.
func isNumber(text string) bool {
	var number json.Number
	return text[0] != '"' && text != "null" && json.Unmarshal([]byte(text), &number) == nil && number.String() == text
}

func (l *looker) number(n json.Number) *Error {
	weight, ok := numberWeight(n.String())
	if !ok {
		return numberError("value", n.String())
	}
	return l.charge(weight - 1)
}

func (l *looker) float(v reflect.Value) (any, *Error) {
	f := v.Float()
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, wrong("value", "%v has no form in JSON; expected a finite number", f)
	case v.Kind() == reflect.Float32:
		return float32(f), nil // Its shortest decimals differ.
	}
	_, exponent := math.Frexp(f)
	return f, l.charge(max(exponent, -exponent) / 64) // It is compared with all its digits.
}

// text counts a text, and makes UTF-8 of it as encoding/json does.
func (l *looker) text(s string) string {
	s = string([]rune(s))
	l.bytes += len(s)
	return s
}

func (l *looker) list(v reflect.Value) (any, *Error) {
	if err := l.enter(1); err != nil {
		return nil, err
	}
	if v.Len() > maxWork-l.values {
		return nil, l.charge(v.Len())
	}
	shown := make([]any, v.Len())
	for i := range shown {
		elem, err := l.value(v.Index(i))
		if err != nil {
			return nil, err.in(strconv.Itoa(i))
		}
		shown[i] = elem
	}
	l.leave(1)
	return shown, nil
}

func (l *looker) mapping(v reflect.Value) (any, *Error) {
	if err := l.enter(1); err != nil {
		return nil, err
	}
	shown := make(map[string]any, v.Len())
	for entry := v.MapRange(); entry.Next(); {
		key, err := l.key(entry.Key())
		if err != nil {
			return nil, err
		}
		if _, twice := shown[key]; twice {
			return nil, wrong("value", "two keys of a map read the same; expected one").in(key)
		}
		elem, err := l.value(entry.Value())
		if err != nil {
			return nil, err.in(key)
		}
		shown[key] = elem
	}
	l.leave(1)
	return shown, nil
}

// key returns the text of the key of a map.
func (l *looker) key(v reflect.Value) (string, *Error) {
	if err := l.charge(1); err != nil {
		return "", err
	}
	switch k := v.Kind(); {
	case k == reflect.String:
		return l.text(v.String()), nil
	case k >= reflect.Int && k <= reflect.Int64:
		return l.text(strconv.FormatInt(v.Int(), 10)), nil
	case k >= reflect.Uint && k <= reflect.Uintptr:
		return l.text(strconv.FormatUint(v.Uint(), 10)), nil
	}
	text, ok, err := wellKnown(v)
	if err == nil && !ok {
		err = wrong("value", "a key of the type %v has no form in JSON; expected a string or an integer", v.Type())
	}
	return l.text(text), err
}

func (l *looker) structure(v reflect.Value) (any, *Error) {
	if err := l.enter(1); err != nil {
		return nil, err
	}
	all := fields(v.Type())
	shown := make(map[string]any, len(all))
	for i := range all {
		f := &all[i]
		at, err := v.FieldByIndexErr(f.index)
		if err != nil || f.omitEmpty && isEmpty(at) || f.omitZero && isZero(at) {
			continue // The error is a nil pointer on the way.
		}
		elem, problem := l.value(at)
		if problem == nil && f.quoted {
			elem, problem = l.quoted(elem)
		}
		l.values++
		l.bytes += len(f.name)
		if problem != nil {
			return nil, problem.in(f.name)
		}
		shown[f.name] = elem
	}
	l.leave(1)
	return shown, nil
}

// quoted returns the JSON of a scalar as text, which is what the option "string"
// asks for.
func (l *looker) quoted(v any) (any, *Error) {
	if v == nil {
		return nil, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, wrong("value", "%v", err)
	}
	return l.text(string(text)), nil
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // The others are empty if they are zero.
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func isZero(v reflect.Value) bool {
	if v.Type() == timeType && v.CanInterface() {
		at, _ := reflect.TypeAssert[time.Time](v)
		return at.IsZero()
	}
	return v.IsZero()
}
