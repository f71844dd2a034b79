package payload_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

type (
	node  struct{ Next *node }
	stamp time.Time
	name  string
	base  struct{ Tags []string }
	item  struct {
		Name string
		Done any
	}
	order struct {
		ID    uuid.UUID
		Items []item
	}
	promoted struct {
		base
		N int
	}
	hidden struct {
		n    int
		word string
		sub  struct{ ok bool }
	}
	holder      struct{ Held any }
	hidesMap    struct{ m map[string]int }
	hidesNested struct{ in struct{ base } }
	embedsPtr   struct{ *base }
	guarded     struct {
		sync.Mutex
		N int
	}
)

func freeze(v any) (any, int, error) { return payload.Freeze(v, nil) }

// TestFrozen is the promise that what was checked is what is delivered: values
// of every kind come out as they went in, and later changes reach nobody (E12).
func TestFrozen(t *testing.T) {
	id, now, addr := uuid.New(), time.Now(), netip.MustParseAddr("fe80::1%eth0")
	link, err := url.Parse("https://user:secret@example.org/?q=1")
	require.NoError(t, err)
	for _, test := range []struct {
		v    any
		size int
	}{
		{nil, 0},
		{true, 1},
		{int8(-1), 1},
		{1 << 40, 8},
		{uintptr(5), 8},
		{float32(0.5), 4},
		{math.MaxFloat64, 8},
		{complex(1, -1), 16},
		{[3]int16{1, 2, 3}, 6},
		{struct{}{}, 0},

		{"", 0},
		{"größer", 8}, // bytes, not characters (S13)
		{name("x"), 1},
		{"\xff\xfe", 2}, // bytes that are no UTF-8
		{json.Number("12"), 2},
		{id, 16},
		{now, 24},
		{stamp(now), 24},
		{now.In(time.FixedZone("CET", 3600)), 24 + 3},
		{addr, 24 + 4},
		{netip.MustParsePrefix("10.0.0.0/8"), 32},
		{netip.AddrPortFrom(addr, 80), 32 + 4},
		{hidden{1, "word", struct{ ok bool }{true}}, 32 + 4},

		{[]byte(nil), 0},
		{[]byte{}, 0},
		{[]byte("abc"), 3},
		{json.RawMessage(`{}`), 2},
		{[]int{1, 2}, 16},
		{[]float64{1, 2}, 16},
		{[]string{"a", "bc"}, 2*16 + 3},
		{[]name{"a", "bc"}, 2*16 + 3},
		{[]any{nil, 1, "ab", []byte("x")}, 4*16 + 8 + 16 + 2 + 24 + 1},
		{[][]int{nil, {}, {1}}, 3*24 + 8},
		{[2][]int{{1}, {2}}, 2*24 + 2*8},
		{[]time.Time{now}, 24},
		{[]stamp{stamp(now)}, 24},
		{[]netip.Addr{addr}, 24 + 4},
		{map[string]string(nil), 0},
		{map[string]string{"a": "bc"}, 32 + 3},
		{map[string]any{"a": map[string]any{}, "b": nil}, 2*32 + 2 + 8},
		{map[name]int{"a": 1}, 24 + 1},
		{map[any]any{1: "x", "y": 2}, 2*32 + 16 + 16 + 2 + 8 + 8},
		{map[[2]string][]int{{"a", "b"}: {1}}, 32 + 24 + 2 + 8},
		{map[int]struct{}{1: {}}, 8},
		{(*int)(nil), 0},
		{new(int), 8},
		{new(any), 16},
		{&node{&node{}}, 16},
		{promoted{base{[]string{"x"}}, 1}, 32 + 16 + 1},
		{order{id, []item{{"a", 1}, {"b", true}}}, 40 + 2*32 + 2 + 8 + 1},
		{&order{ID: id}, 40},
		{errors.New("text"), 16 + 4},
		{struct{ when time.Time }{now.In(time.FixedZone("CET", 3600))}, 24},

		// What cannot be copied, but is not there.
		{[]func(){}, 0},
		{map[string]chan int{}, 0},
		{(*hidesMap)(nil), 0},
		{[0]context.Context{}, 0},
		{plugbus.Chain{}.Then("a"), 8},
		{link, 0},
	} {
		frozen, size, err := freeze(test.v)
		require.NoError(t, err, "%T %v", test.v, test.v)
		if test.v != link {
			require.Equal(t, test.size, size, "%T %v", test.v, test.v)
		}
		first, second := payload.Thaw(frozen), payload.Thaw(frozen)
		require.Equal(t, test.v, first)
		require.Equal(t, test.v, second)
		requireApart(t, test.v, first, second)
		require.False(t, payload.IsShared(frozen))
	}
}

// TestMutation changes a payload after the door, and what one recipient got
// (E12): neither reaches the next recipient.
func TestMutation(t *testing.T) {
	sent := map[string]any{"list": []any{1, map[string]any{"k": "v"}}, "bytes": []byte("abc"), "p": &item{Name: "n"}}
	want := map[string]any{"list": []any{1, map[string]any{"k": "v"}}, "bytes": []byte("abc"), "p": &item{Name: "n"}}
	frozen, _, err := freeze(sent)
	require.NoError(t, err)
	for _, got := range []any{sent, payload.Thaw(frozen), payload.Thaw(frozen)} {
		require.Equal(t, want, got)
		m := got.(map[string]any)
		m["list"].([]any)[1].(map[string]any)["k"] = "changed"
		m["list"].([]any)[0] = 2
		m["bytes"].([]byte)[0] = 'X'
		m["p"].(*item).Name = "changed"
		m["more"] = true
	}

	room := make([]int, 0, 8)
	frozen, _, err = freeze(room)
	require.NoError(t, err)
	require.Zero(t, cap(payload.Thaw(frozen).([]int)), "room for elements is memory too")
}

// TestPass checks that a value without references is not copied, and that to
// measure and inspect it encodes nothing (S12).
func TestPass(t *testing.T) {
	for _, v := range []any{1, "text", 0.5, time.Now(), uuid.New(), hidden{word: "x"}, netip.MustParseAddr("::1")} {
		frozen, _, err := freeze(v)
		require.NoError(t, err)
		require.Equal(t, v, frozen)
	}
	type scored struct {
		Name  string
		When  time.Time
		Score float64
	}
	for _, v := range []any{
		1 << 40, "a text", [4]int{1, 2, 3, 4}, time.Now(), uuid.New(), hidden{word: "x"}, scored{"x", time.Now(), 1},
	} {
		rules := &plugbus.PayloadRules{Content: plugbus.CheckAll}
		require.Zero(t, testing.AllocsPerRun(100, func() {
			frozen, _, err := payload.Freeze(v, rules)
			if err != nil || payload.Thaw(frozen) == nil {
				t.Error(err)
			}
		}), "%T", v)
	}
}

type talkative struct{ N int }

func (talkative) MarshalJSON() ([]byte, error)  { panic("MarshalJSON ran") }
func (talkative) MarshalText() ([]byte, error)  { panic("MarshalText ran") }
func (talkative) String() string                { panic("String ran") }
func (talkative) GoString() string              { panic("GoString ran") }
func (talkative) Format(fmt.State, rune)        { panic("Format ran") }
func (talkative) Error() string                 { panic("Error ran") }
func (*talkative) UnmarshalJSON(b []byte) error { panic("UnmarshalJSON ran") }
func (talkative) Equal(talkative) bool          { panic("Equal ran") }

type talkativeFloat float64

func (talkativeFloat) String() string               { panic("String ran") }
func (talkativeFloat) MarshalJSON() ([]byte, error) { panic("MarshalJSON ran") }

// TestNoMethodRuns sends types whose methods panic: none runs, whether the
// payload is accepted or refused (S14).
func TestNoMethodRuns(t *testing.T) {
	for _, v := range []any{talkative{1}, &talkative{1}, []talkative{{1}}, map[talkative]talkative{{1}: {2}}, talkativeFloat(1)} {
		frozen, _, err := freeze(v)
		require.NoError(t, err)
		payload.Thaw(frozen)
	}
	_, _, err := freeze([]any{talkativeFloat(math.NaN())})
	require.ErrorContains(t, err, "payload[0] (payload_test.talkativeFloat): it is NaN")
}

func TestInvalid(t *testing.T) {
	loopPtr := &node{}
	loopPtr.Next = &node{loopPtr}
	loopSlice := []any{nil}
	loopSlice[0] = loopSlice
	loopMap := map[string]any{}
	loopMap["a"], loopMap["b"] = loopMap, loopMap
	type list []list
	loopList := list{nil}
	loopList[0] = loopList
	type keyed map[*keyed]bool
	loopKey := keyed{}
	loopKey[&loopKey] = true
	var loopAny any
	loopAny = &loopAny

	for _, test := range []struct {
		v    any
		want string // the error begins so
	}{
		{func() {}, "payload (func()): a function may not be sent, not even by plugbus.Shared"},
		{item{Done: func() {}}, "payload.Done (func()): a function"},
		{order{Items: []item{{}, {Done: make(chan int)}}}, "payload.Items[1].Done (chan int): a channel"},
		{[]func(){nil}, "payload[0] (func()): a function"},
		{map[string]any{"secret": func() {}}, "payload[*] (func()): a function"}, // keys are content
		{map[any]int{[1]chan int{}: 1}, "payload[key][0] (chan int): a channel"},
		{map[chan int]int{nil: 1}, "payload[key] (chan int): a channel"},
		{map[string]func(){"secret": nil}, "payload[*] (func()): a function"},
		{&[]any{[]any{unsafe.Pointer(nil)}}, "payload[0][0] (unsafe.Pointer): an unsafe pointer"},
		{t.Context(), "payload (*context.cancelCtx): a context"},
		{[]context.Context{nil}, "payload[0] (context.Context): a context"},

		{hidesMap{m: nil}, "payload.m (map[string]int): an unexported field that holds references cannot be copied; send a copy of its exported data, or plugbus.Shared where"},
		{hidesNested{in: struct{ base }{}}, "payload.in (struct { payload_test.base }): an unexported field"},
		{embedsPtr{}, "payload.base (*payload_test.base): an unexported field"},
		{[][2]*hidesMap{{nil, {}}}, "payload[0][1].m (map"},
		{fmt.Errorf("wrapped: %w", errors.New("x")), "payload.err (error): an unexported field"},
		{onion(1, 64), "payload (struct { Held [1][1]"},
		{big.NewInt(5), "payload (big.Int): its digits are unexported; send its text"},
		{&guarded{}, "payload.Mutex (sync.Mutex): a lock or an atomic value must not be copied"},
		{struct{ N atomic.Int64 }{}, "payload.N (atomic.Int64): a lock"},
		{item{Done: plugbus.Shared(1)}, "payload.Done (plugbus.SharedValue): plugbus.Shared wraps a whole payload"},
		{&plugbus.DeniedError{Cause: fmt.Errorf("%w", errors.New("x"))}, "payload.Cause.err (error): an unexported field"},

		// These are refused for their type, before they are measured (S15).
		{make([]func(), 1<<20), "payload[0] (func()): a function"},
		{&[1 << 20]func(){}, "payload[0] (func()): a function"},
		{&struct {
			Data [1 << 21]byte
			Done func()
		}{}, "payload.Done (func()): a function"},

		{math.NaN(), "payload (float64): it is NaN; send a finite number"},
		{float32(math.Inf(-1)), "payload (float32): it is -Inf"},
		{complex(0, math.NaN()), "payload (complex128): it is NaN"},
		{complex(math.Inf(1), 0), "payload (complex128): it is +Inf"},
		{[]float64{1, math.NaN()}, "payload[1] (float64): it is NaN"},
		{map[float64]int{math.NaN(): 1}, "payload[key] (float64): it is NaN"},
		{struct{ A [2]struct{ f float64 } }{[2]struct{ f float64 }{{}, {math.NaN()}}}, "payload.A[1].f (float64): it is NaN"},

		{loopPtr, "payload.Next.Next"},
		{loopSlice, "payload[0][0]"},
		{loopMap, "payload[*][*]"},
		{loopList, "payload[0][0]"},
		{loopKey, "payload[key][key]"},
		{loopAny, "payload ("},
	} {
		frozen, size, err := freeze(test.v)
		require.ErrorContains(t, err, test.want)
		require.Truef(t, strings.HasPrefix(err.Error(), test.want), "got %v, want %s", err, test.want)
		var refusal *payload.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, plugbus.ReasonInvalidPayload, refusal.Reason, err)
		require.Nil(t, frozen)
		require.Zero(t, size)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, loop := range []any{loopPtr, loopSlice, loopMap, loopList, loopKey, loopAny} {
		_, _, err := freeze(loop)
		require.ErrorContains(t, err, "it contains itself")
	}
}

// TestBudgets checks that the limits come before the work that they bound (S13).
func TestBudgets(t *testing.T) {
	deep := func(levels int) any {
		var v any = 1
		for range levels {
			v = []any{v}
		}
		return v
	}
	var dag any = "leaf"
	for range 60 {
		dag = []any{dag, dag}
	}
	chain := &node{}
	for range 100_000 {
		chain = &node{chain}
	}
	limits := plugbus.PayloadRules{MaxBytes: 64, MaxNodes: 8, MaxDepth: 3}
	large := plugbus.PayloadRules{MaxBytes: math.MaxInt64, MaxNodes: math.MaxInt, MaxDepth: math.MaxInt}
	for _, test := range []struct {
		v     any
		rules plugbus.PayloadRules
		want  string // "" if it fits
	}{
		{strings.Repeat("x", 64), limits, ""},
		{strings.Repeat("x", 65), limits, "payload (string): the payload has more than 64 bytes"},
		{make([]byte, 64), limits, ""},
		{make([]byte, 65), limits, "payload ([]uint8): the payload has more than 64 bytes"},
		{json.RawMessage(make([]byte, 65)), limits, "payload (json.RawMessage): the payload has more than 64 bytes"},
		{[65]byte{}, limits, "more than 64 bytes"},
		{&[65]byte{}, limits, "more than 64 bytes"},
		{[]string{strings.Repeat("x", 49)}, limits, "payload[0] (string): the payload has more than 64 bytes"},
		{make([]struct{ A, B int }, 5), limits, "more than 64 bytes"},
		{map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5}, limits, "more than 64 bytes"},
		{map[string]bool{strings.Repeat("k", 49): true}, limits, "payload[key] (string): the payload has more than 64 bytes"},
		{time.Now().In(time.FixedZone(strings.Repeat("Z", 41), 0)), limits, "more than 64 bytes"},

		{make([]struct{}, 7), limits, ""},
		{make([]struct{}, 8), limits, "payload ([]struct {}): the payload has more than 8 values"},
		{[8]struct{}{}, limits, "payload ([8]struct {}): the payload has more than 8 values"},
		{make([]int8, 64), limits, ""}, // numbers in a row are bounded by their bytes
		{map[int8]struct{}{1: {}, 2: {}, 3: {}, 4: {}}, limits, "more than 8 values"},

		{deep(3), plugbus.PayloadRules{MaxDepth: 3}, ""},
		{deep(4), plugbus.PayloadRules{MaxDepth: 3}, "payload[0][0][0] ([]interface {}): the payload is nested deeper than 3 levels"},
		{deep(64), plugbus.PayloadRules{}, ""},
		{deep(65), plugbus.PayloadRules{}, "nested deeper than 64 levels"},
		{chain, plugbus.PayloadRules{}, "nested deeper than 64 levels"},
		{onion(65, 0), plugbus.PayloadRules{}, ""},
		{onion(66, 0), plugbus.PayloadRules{}, "nested deeper than 64 levels"},

		// No limit lets the stack overflow, from which Go does not recover.
		{chain, large, "nested deeper than 10000 levels"},
		{onion(10_001, 63), large, ""},
		{onion(10_002, 63), large, "nested deeper than 10000 levels"},

		{make([]byte, 1<<20), plugbus.PayloadRules{}, ""},
		{make([]byte, 1<<20+1), plugbus.PayloadRules{}, "more than 1048576 bytes"},
		{make([]struct{}, 1<<40), plugbus.PayloadRules{}, "more than 100000 values"},
		{make([][0]func(), 1<<40), plugbus.PayloadRules{}, "more than 100000 values"},
		{new([1 << 40][1 << 40]struct{}), large, "more than 9223372036854775807 values"},
		{new([1 << 62]struct{}), plugbus.PayloadRules{}, "more than 100000 values"},
		{make([][1 << 40]struct{}, 1<<40), large, "more than 9223372036854775807 values"}, // 2⁸⁰ of them
		{dag, plugbus.PayloadRules{}, "more than"},
		{-1, plugbus.PayloadRules{MaxBytes: -1, MaxNodes: -1, MaxDepth: -1}, ""}, // as 0
	} {
		_, _, err := payload.Freeze(test.v, &test.rules)
		if test.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, test.want)
		var refusal *payload.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, plugbus.ReasonTooLarge, refusal.Reason)
		require.LessOrEqual(t, len(err.Error()), 4*plugbus.MaxTextBytes)
	}
}

// onion returns structs that lie in interfaces of each other. Between a struct
// and its interface are as many arrays as inPlace says.
func onion(levels, inPlace int) any {
	held := reflect.TypeFor[any]()
	for range inPlace {
		held = reflect.ArrayOf(1, held)
	}
	layer := reflect.StructOf([]reflect.StructField{{Name: "Held", Type: held}})
	v := any("core")
	for range levels {
		outer := reflect.New(layer).Elem()
		at := outer.Field(0)
		for range inPlace {
			at = at.Index(0)
		}
		at.Set(reflect.ValueOf(v))
		v = outer.Interface()
	}
	return v
}

// TestNodes counts the values in payloads.
func TestNodes(t *testing.T) {
	type pair struct {
		A int
		B []any
	}
	for _, test := range []struct {
		v     any
		nodes int
	}{
		{1, 1},
		{"x", 1},
		{pair{}, 3},
		{[3]int{}, 1},
		{[3]string{}, 4},
		{[]byte("abc"), 1},
		{[]bool{true, false}, 1},
		{[]string{"a", "b"}, 3},
		{[]any{}, 1},
		{[]any{nil, 1}, 3},
		{[]any{[]any{1}}, 3},
		{[]pair{{}, {}}, 7},
		{map[string]int{"a": 1, "b": 2}, 5},
		{map[string]any{"a": 1, "b": nil}, 5},
		{map[string]string{"a": "b"}, 3},
		{&pair{B: []any{&pair{}}}, 8},
	} {
		_, _, err := payload.Freeze(test.v, &plugbus.PayloadRules{MaxNodes: test.nodes})
		require.NoError(t, err, "%#v", test.v)
		if test.nodes > 1 {
			_, _, err = payload.Freeze(test.v, &plugbus.PayloadRules{MaxNodes: test.nodes - 1})
			require.ErrorContains(t, err, "values; send less", "%#v", test.v)
		}
	}
}

// TestDepth checks that a level counts what lies inside each other, and not what
// lies side by side.
func TestDepth(t *testing.T) {
	type doc map[string]any
	m := map[string]string{}
	for _, v := range []any{
		[]any{[]any{}, []any{}, []any{}},
		[]any{[]byte{}, []byte{}, []byte{}},
		[]any{[]string{}, []string{}, []string{}},
		[]any{m, m, m},
		[]any{map[string]any{}, map[string]any{}, map[string]any{}},
		[]any{doc{}, doc{}, doc{}},
		[][]int{{1}, {2}, {3}},
		[]*int{new(int), new(int), new(int)},
		[]any{holder{}, [1]any{}, holder{}},
	} {
		_, _, err := payload.Freeze(v, &plugbus.PayloadRules{MaxDepth: 2})
		require.NoError(t, err, "%#v", v)
		_, _, err = payload.Freeze(v, &plugbus.PayloadRules{MaxDepth: 1})
		require.ErrorContains(t, err, "nested deeper than 1 levels", "%#v", v)
	}
}

// TestContent checks that every string is inspected, wherever it is (S17).
func TestContent(t *testing.T) {
	const attack = "<script>"
	zone := time.FixedZone(attack, 0)
	short, err := time.LoadLocationFromTZData("Name", []byte(
		"TZif"+strings.Repeat("\x00", 32)+ // the version, and four counts
			"\x00\x00\x00\x01\x00\x00\x00\x09"+ // one zone, nine bytes of names
			"\x00\x00\x00\x00\x00\x00"+attack+"\x00"))
	require.NoError(t, err)
	rules := &plugbus.PayloadRules{Content: plugbus.CheckScript}
	for _, test := range []struct {
		v    any
		path string
	}{
		{attack, "payload"},
		{name(attack), "payload"},
		{[]byte(attack), "payload"},
		{json.RawMessage(attack), "payload"},
		{[]name{"", attack}, "payload[1]"},
		{[]string{"", attack}, "payload[1]"},
		{[]any{"", []byte(attack)}, "payload[1]"},
		{[]json.RawMessage{nil, json.RawMessage(attack)}, "payload[1]"},
		{map[string]string{attack: ""}, "payload[key]"},
		{map[string]string{"": attack}, "payload[*]"},
		{map[string]any{attack: ""}, "payload[key]"},
		{map[string]any{"": attack}, "payload[*]"},
		{map[name]name{attack: ""}, "payload[key]"},
		{map[name]*string{"": new(attack)}, "payload[*]"},
		{[1]hidden{{word: attack}}, "payload[0].word"},
		{&item{Done: item{Done: attack}}, "payload.Done.Done"},
		{promoted{base: base{Tags: []string{attack}}}, "payload.base.Tags[0]"},
		{time.Now().In(zone), "payload"},
		{time.Now().In(short), "payload"},
		{[]stamp{stamp(time.Now().In(zone))}, "payload[0]"},
		{item{Done: netip.MustParseAddr("::1").WithZone(attack)}, "payload.Done"},
		{netip.AddrPortFrom(netip.MustParseAddr("::1").WithZone(attack), 1), "payload"},
	} {
		_, _, err := payload.Freeze(test.v, rules)
		var refusal *payload.Error
		require.ErrorAs(t, err, &refusal, "%T", test.v)
		require.Equal(t, plugbus.ReasonInvalidContent, refusal.Reason)
		require.Equal(t, test.path, refusal.Path, "%T", test.v)
		require.Contains(t, err.Error(), "the text holds a <script tag;")
		require.NotContains(t, err.Error(), attack)

		_, _, err = payload.Freeze(test.v, &plugbus.PayloadRules{Content: plugbus.CheckAll &^ plugbus.CheckScript})
		require.NoError(t, err)
	}
	_, _, err = payload.Freeze(`<a onx=1 href="javascript:`, &plugbus.PayloadRules{Content: plugbus.CheckAll})
	require.ErrorContains(t, err, "holds a javascript: URL and an on…= attribute inside a tag;")
}

// TestBrokenMemory freezes a string that points nowhere, as a data race can
// leave one: the check fails, and does not panic (S11).
func TestBrokenMemory(t *testing.T) {
	var broken string
	(*[2]uintptr)(unsafe.Pointer(&broken))[1] = 200
	for _, v := range []any{broken, []any{broken}, struct{ S string }{broken}} {
		frozen, _, err := payload.Freeze(v, &plugbus.PayloadRules{Content: plugbus.CheckAll})
		require.Nil(t, frozen)
		var refusal *payload.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, plugbus.ReasonCheckFailed, refusal.Reason)
	}
}
