package payload_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// drawType makes a type at run time.
func drawType(t *rapid.T, depth int) reflect.Type {
	leaves := []reflect.Type{
		reflect.TypeFor[bool](), reflect.TypeFor[int16](), reflect.TypeFor[uint8](), reflect.TypeFor[float32](),
		reflect.TypeFor[string](), reflect.TypeFor[name](), reflect.TypeFor[time.Time](), reflect.TypeFor[hidden](),
		reflect.TypeFor[[]byte](), reflect.TypeFor[[]string](), reflect.TypeFor[map[string]string](),
	}
	if depth == 0 {
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
	below := func() reflect.Type { return drawType(t, depth-1) }
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return reflect.SliceOf(below())
	case 1:
		return reflect.ArrayOf(rapid.IntRange(0, 3).Draw(t, "len"), below())
	case 2:
		return reflect.PointerTo(below())
	case 3:
		return reflect.MapOf(reflect.TypeFor[name](), below())
	case 4:
		return reflect.TypeFor[any]()
	case 5:
		var fields []reflect.StructField
		for i := range rapid.IntRange(0, 3).Draw(t, "fields") {
			fields = append(fields, reflect.StructField{Name: fmt.Sprint("F", i), Type: below()})
		}
		return reflect.StructOf(fields)
	case 6:
		return rapid.SampledFrom([]reflect.Type{reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any]()}).Draw(t, "any")
	default:
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
}

// fill sets v to a value of its type.
func fill(t *rapid.T, v reflect.Value, depth int) {
	n := rapid.IntRange(0, 3).Draw(t, "n")
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(n), 0)))
		return
	}
	if v.Type() == reflect.TypeFor[hidden]() {
		v.Set(reflect.ValueOf(hidden{n: n, word: "word"}))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n%2 == 0)
	case reflect.Int16:
		v.SetInt(int64(n))
	case reflect.Uint8:
		v.SetUint(uint64(n))
	case reflect.Float32:
		v.SetFloat(float64(n))
	case reflect.String:
		v.SetString("text"[:n])
	case reflect.Slice:
		if n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n))
		}
		for i := range v.Len() {
			fill(t, v.Index(i), depth)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), depth)
		}
	case reflect.Pointer:
		if n > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth)
		}
	case reflect.Map:
		if n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for range n {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, depth)
			fill(t, elem, depth)
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(t, f, depth)
		}
	case reflect.Interface:
		if depth > 0 {
			held := reflect.New(drawType(t, depth-1)).Elem()
			fill(t, held, depth-1)
			v.Set(held)
		}
	default:
		t.Fatalf("no values of type %v", v.Type())
	}
}

func drawValue(t *rapid.T) any {
	v := reflect.New(drawType(t, 3)).Elem()
	fill(t, v, 3)
	return v.Interface()
}

// TestLaws holds for values of every type: a copy equals what was sent, shares
// no memory with it or with another copy (E12), and has one size, which is the
// smallest byte limit that admits it.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t)
		frozen, size, err := freeze(v)
		require.NoError(t, err)
		first, second := payload.Thaw(frozen), payload.Thaw(frozen)
		require.Equal(t, v, first)
		require.Equal(t, v, second)
		requireApart(t, v, first, second)

		_, again, err := freeze(first)
		require.NoError(t, err)
		require.Equal(t, size, again)
		_, twice, err := freeze([]any{v, v})
		require.NoError(t, err)
		require.GreaterOrEqual(t, twice, 2*size)

		_, _, err = payload.Freeze(v, &plugbus.PayloadRules{MaxBytes: max(1, int64(size))})
		require.NoError(t, err)
		if size > 1 {
			_, _, err = payload.Freeze(v, &plugbus.PayloadRules{MaxBytes: int64(size) - 1})
			require.ErrorContains(t, err, "bytes; send less")
		}
	})
}

// TestFastWalks compares the walks that need no reflection with the general
// ones, which types of the same structure take.
func TestFastWalks(t *testing.T) {
	type (
		anyMap    map[string]any
		stringMap map[string]string
		anys      []any
		stringsT  []string
		bytesT    []byte
	)
	general := []reflect.Type{
		reflect.TypeFor[anyMap](), reflect.TypeFor[stringMap](),
		reflect.TypeFor[anys](), reflect.TypeFor[stringsT](), reflect.TypeFor[bytesT](),
	}
	fast := []reflect.Type{
		reflect.TypeFor[map[string]any](), reflect.TypeFor[map[string]string](),
		reflect.TypeFor[[]any](), reflect.TypeFor[[]string](), reflect.TypeFor[[]byte](),
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(fast)-1).Draw(t, "type")
		v := reflect.New(fast[i]).Elem()
		fill(t, v, 3)
		rules := &plugbus.PayloadRules{
			MaxBytes: rapid.Int64Range(1, 200).Draw(t, "bytes"),
			MaxNodes: rapid.IntRange(1, 20).Draw(t, "nodes"),
			MaxDepth: rapid.IntRange(1, 4).Draw(t, "depth"),
		}
		frozen, size, err := payload.Freeze(v.Interface(), rules)
		other, otherSize, otherErr := payload.Freeze(v.Convert(general[i]).Interface(), rules)
		require.Equal(t, err == nil, otherErr == nil, "%v\n%v", err, otherErr)
		require.Equal(t, size, otherSize)
		if err == nil {
			require.Equal(t, v.Interface(), payload.Thaw(frozen))
			require.Equal(t, payload.Thaw(frozen), reflect.ValueOf(payload.Thaw(other)).Convert(fast[i]).Interface())
		}
	})
}

// FuzzFreeze freezes what JSON can say, and compares the verdict with that of a
// walk that only collects strings. The verdict never changes (S19).
func FuzzFreeze(f *testing.F) {
	for _, text := range []string{`null`, `[[[[1]]]]`, `{"a":{"b":["<script>",{"c":null}]}}`, `{"javascript:":1e300}`, `"\u003cscript "`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v any
		if json.Unmarshal(text, &v) != nil {
			return
		}
		rules := &plugbus.PayloadRules{Content: plugbus.CheckAll, MaxBytes: math.MaxInt64, MaxNodes: math.MaxInt, MaxDepth: math.MaxInt}
		frozen, size, err := payload.Freeze(v, rules)
		_, sizeAgain, again := payload.Freeze(v, rules)
		require.Equal(t, err == nil, again == nil)
		require.Equal(t, size, sizeAgain)

		var tripped plugbus.ContentChecks
		var length int
		for _, s := range collect(v) {
			tripped |= naiveScan(s)
			length += len(s)
		}
		require.Equal(t, tripped == 0, err == nil, "%v", err)
		if err == nil {
			require.GreaterOrEqual(t, size, length)
			require.Equal(t, v, payload.Thaw(frozen))
			requireApart(t, v, payload.Thaw(frozen), payload.Thaw(frozen))
		}
	})
}

func collect(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			all = append(all, collect(e)...)
		}
	case map[string]any:
		for k, e := range v {
			all = append(append(all, k), collect(e)...)
		}
	}
	return all
}

// TestConcurrent freezes and thaws from several goroutines, beginning with types
// that have no plan yet.
func TestConcurrent(t *testing.T) {
	type fresh struct {
		M    map[string][]*fresh
		When []time.Time
	}
	v := &fresh{M: map[string][]*fresh{"a": {{}, nil}}, When: []time.Time{time.Unix(1, 0)}}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			frozen, _, err := freeze(v)
			if err != nil {
				t.Error(err)
				return
			}
			for range 2 {
				all.Go(func() { payload.Thaw(frozen).(*fresh).M["a"][0].M = nil })
			}
		})
	}
	all.Wait()
}
