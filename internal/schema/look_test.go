// Package schema: what a value looks like has no other door.
package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// asJSON reads what encoding/json writes.
func asJSON(t require.TestingT, v any) any {
	text, err := json.Marshal(v)
	require.NoError(t, err, "%T", v)
	back, err := decode("value", text)
	require.NoError(t, err, "%s", text)
	return back
}

// requireSame asserts that v looks like its JSON.
func requireSame(t require.TestingT, v any) {
	want := asJSON(t, v)
	shown, measured, err := look(v)
	require.NoError(t, err, "%T", v)
	require.Equal(t, want, asJSON(t, shown), "%T %#v", v, v)
	var again looker
	require.Nil(t, again.measure(want))
	require.Equal(t, again.depth, measured.depth, "%#v", v)
	require.LessOrEqual(t, again.bytes, measured.bytes, "%#v", v)
}

type (
	inner  struct{ A, B int }
	Outer  struct{ A, C int }
	tagged struct {
		D int `json:"A"`
	}
	deep    struct{ inner }
	celsius float64
	kind8   uint8
	hidden  struct{ inner }
)

// TestLook compares with encoding/json what it does with tags, embedding and
// kinds.
func TestLook(t *testing.T) {
	t.Parallel()
	seven, address := 7, netip.MustParseAddr("fe80::1%eth0")
	for _, v := range []any{
		nil, true, "a", "\xff\xfea\xff", 1, -1, uint8(7), uint64(math.MaxUint64), 1.5, float32(0.1), 1e300, celsius(20.5), uintptr(7),
		[]int(nil),
		[]int{},
		[]int{1, 2},
		[2]bool{true},
		[]any{nil, 1, []any{}},
		[]byte(nil),
		[]byte{},
		[]byte("abc"),
		[3]byte{1, 2, 3},
		[]kind8{1, 2},
		map[string]int(nil),
		map[string]int{"a": 1},
		map[int8]string{-1: "a"},
		map[uint]any{7: nil},
		map[netip.Addr]int{address: 1},
		map[celsiusText]int{"x": 1},
		&seven, (*int)(nil), new(*int),
		map[string]any{"a": map[string]any{"b": []string{"c"}}},
		time.Date(2026, 11, 21, 4, 5, 6, 7, time.FixedZone("X", 3600)), &time.Time{}, time.Second, address,
		netip.AddrPort{},
		netip.MustParsePrefix("10.0.0.0/8"), uuid.Max,
		netip.Addr{},
		json.RawMessage(`{"a":[1,2.50,"x"]}`), json.RawMessage(nil), json.Number("1.50"), json.Number(""),
		struct{}{},
		inner{1, 2},
		deep{inner{1, 2}},
		struct {
			inner
			Outer
		}{},
		struct {
			inner
			A string
		}{A: "a"},
		struct {
			inner
			tagged
		}{tagged: tagged{7}},
		struct {
			deep
			Outer
		}{},
		struct {
			deep
			hidden
		}{},
		struct{ *Outer }{},
		struct{ *Outer }{&Outer{1, 2}},
		struct {
			Outer `json:"outer"`
		}{},
		struct {
			celsius
			kind8 `json:"k"`
		}{},
		struct {
			A int    `json:"-"`
			B int    `json:"-,"` //nolint:staticcheck // The test is about odd tags.
			C int    `json:",omitempty"`
			D *int   `json:"d,omitempty"`
			E string `json:"a\"b"` //nolint:staticcheck // The same.
			F int    `json:"é.$ x"`
			g int
		}{},
		struct {
			A time.Time `json:",omitzero"`
			B time.Time `json:",omitempty"` //nolint:modernize // The same.
			C inner     `json:",omitzero"`
			D [0]int    `json:",omitempty"`
			E inner     `json:",omitempty"` //nolint:modernize // The same.
			F uuid.UUID `json:",omitzero"`
		}{A: time.Time{}.Local()},
		struct {
			A int         `json:",string"`
			B *int        `json:",string"`
			C *bool       `json:",string"`
			D string      `json:",string"`
			E float64     `json:",string"`
			F []int       `json:",string"` //nolint:staticcheck // The same.
			G json.Number `json:",string"`
		}{A: 1, B: &seven, D: `a"<b`, G: "5"},
	} {
		requireSame(t, v)
	}
}

type celsiusText string

// TestLookRefuses shows what has no form in JSON, and where it is said to be.
func TestLookRefuses(t *testing.T) {
	t.Parallel()
	var itself any
	itself = &itself
	deeper := any(1)
	for range maxDepth + 1 {
		deeper = []any{deeper}
	}
	for _, test := range []struct {
		v    any
		says string
	}{
		{math.NaN(), "NaN has no form in JSON"},
		{struct{ A []float64 }{[]float64{1, math.Inf(1)}}, `at "/A/1": +Inf has no form`},
		{map[string]any{"a/b~": make(chan int)}, `at "/a~1b~0": a Go chan int has no form`},
		{complex(1, 1), "a Go complex128"},
		{map[inner]int{{}: 1}, "a key of the type schema.inner"},
		{map[string]int{"\xff": 1, "\xfe": 2}, "two keys of a map read the same"},
		{json.RawMessage(``), "the json.RawMessage"},
		{json.RawMessage(`{"a":1,"A":2}`), "stands twice"},
		{json.RawMessage(`1e401`), "exponent beyond"},
		{json.RawMessage(`[1` + strings.Repeat("0", 400) + `]`), `at "/0": a number has more than 400 digits`},
		{json.Number("1e99999999999999999999"), "exponent beyond"},
		{json.Number("abc"), "is no number"},
		{json.Number("null"), "is no number"},
		{json.Number(`"7"`), "is no number"},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "year outside of range"},
		{make([]struct{}, 1<<40), "more than 4000000 values"},
		{itself, "nested more than"},
		{deeper, "nested more than"},
		{json.RawMessage(strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)), "nested more than"},
	} {
		_, _, err := look(test.v)
		require.ErrorContains(t, err, test.says, "%T", test.v)
	}
}

// A loud value would be heard if a method of it ran.
type loud struct {
	A int `json:"a,omitzero"`
}

func (loud) MarshalJSON() ([]byte, error) { panic("it ran") }
func (loud) MarshalText() ([]byte, error) { panic("it ran") }
func (loud) String() string               { panic("it ran") }
func (loud) IsZero() bool                 { panic("it ran") }

type loudText string //nolint:errname // Its being an error is beside the point.

func (loudText) MarshalText() ([]byte, error) { panic("it ran") }
func (loudText) Error() string                { panic("it ran") }

// TestNoMethodRuns shows that the methods of a value stay what they are: text of
// a program (S14).
func TestNoMethodRuns(t *testing.T) {
	t.Parallel()
	shown, _, err := look(map[loudText]any{"k": []any{
		loud{1}, &loud{}, loudText("x"), struct {
			L loud `json:",omitzero"`
		}{},
	}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"k": []any{
		map[string]any{"a": int64(1)}, map[string]any{}, "x", map[string]any{},
	}}, shown)
}

// drawType draws a type without methods, and drawValue a value of it.
func drawType(t *rapid.T, depth int) reflect.Type {
	leaves := []reflect.Type{
		reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint64](),
		reflect.TypeFor[float64](), reflect.TypeFor[float32](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](),
		reflect.TypeFor[any](), reflect.TypeFor[celsius](), reflect.TypeFor[inner](), reflect.TypeFor[deep](), reflect.TypeFor[[2]uint8](),
	}
	if depth == 0 {
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return reflect.PointerTo(drawType(t, depth-1))
	case 1:
		return reflect.SliceOf(drawType(t, depth-1))
	case 2:
		return reflect.MapOf(rapid.SampledFrom([]reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[int16]()}).Draw(t, "key"), drawType(t, depth-1))
	case 3:
		return reflect.ArrayOf(rapid.IntRange(0, 2).Draw(t, "len"), drawType(t, depth-1))
	}
	var of []reflect.StructField
	for i := range rapid.IntRange(0, 4).Draw(t, "fields") {
		options := rapid.SampledFrom([]string{"", ",omitempty", ",omitzero", ",string", ",omitempty,string"}).Draw(t, "options")
		name := rapid.SampledFrom([]string{"", "", "a", "b", "F0", "-"}).Draw(t, "name")
		of = append(of, reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: drawType(t, depth-1), Tag: reflect.StructTag(fmt.Sprintf("json:%q", name+options)),
		})
	}
	return reflect.StructOf(of)
}

func drawValue(t *rapid.T, v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // The others are not drawn.
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int8:
		v.SetInt(int64(rapid.Int8().Draw(t, "int")))
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(uint64(rapid.Uint8().Draw(t, "uint")))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(rapid.Float32Range(-1e30, 1e30).Draw(t, "float")))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "string"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			drawValue(t, v.Elem())
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{1, "x", []int{1}, inner{1, 2}}).Draw(t, "any")))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "len"), 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			drawValue(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range rapid.IntRange(0, 2).Draw(t, "len") {
			elem := reflect.New(v.Type().Elem()).Elem()
			drawValue(t, elem)
			key := reflect.ValueOf(strconv.Itoa(i))
			if v.Type().Key().Kind() != reflect.String {
				key = reflect.ValueOf(int16(-i))
			}
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				drawValue(t, f)
			}
		}
	}
}

// TestLookProperty compares values of drawn types with their JSON.
func TestLookProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := reflect.New(drawType(t, rapid.IntRange(0, 4).Draw(t, "depth"))).Elem()
		drawValue(t, v)
		requireSame(t, v.Interface())
	})
}
