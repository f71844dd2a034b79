package payload_test

import (
	"context"
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/plugbus/plugbus"
)

// A maker makes types and values of the bytes of a fuzzer: the same bytes make the
// same value, and when they are used up, it takes the simplest of everything.
type maker struct {
	bytes  []byte
	values int // that may still be made
	made   map[reflect.Type][]reflect.Value
}

func newMaker(bytes []byte) *maker {
	return &maker{bytes: bytes, values: 300, made: map[reflect.Type][]reflect.Value{}}
}

// pick chooses one of n.
func (m *maker) pick(n int) int {
	if len(m.bytes) == 0 || m.values <= 0 {
		return 0
	}
	b := m.bytes[0]
	m.bytes = m.bytes[1:]
	return int(b) % n
}

// web has every way to lead to itself, and a key that need not equal itself.
type web struct {
	Next *web
	Any  any
	List []any
	Map  map[string]any
	Kids []web
	At   map[float64]*web
}

// loud has methods, which nobody is to call.
type loud struct{ Tags []string }

func (loud) MarshalJSON() ([]byte, error) { panic("it ran") }
func (loud) MarshalText() ([]byte, error) { panic("it ran") }
func (loud) String() string               { panic("it ran") }
func (loud) Error() string                { panic("it ran") }

type (
	quiet     struct{ f float64 }
	kept      struct{ when time.Time }
	talks     struct{ Ctx context.Context } //nolint:containedctx // It is to be refused.
	deepFunc  struct{ In [1]struct{ F func() } }
	atomicInt struct{ N atomic.Int64 }
)

var sendable = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[bool](), reflect.TypeFor[int8](), reflect.TypeFor[uint8](), reflect.TypeFor[int64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[complex64](), reflect.TypeFor[complex128](),
	reflect.TypeFor[name](), reflect.TypeFor[time.Time](), reflect.TypeFor[stamp](), reflect.TypeFor[netip.Addr](),
	reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[uuid.UUID](), reflect.TypeFor[hidden](),
	reflect.TypeFor[json.RawMessage](), reflect.TypeFor[[]byte](), reflect.TypeFor[loud](), reflect.TypeFor[promoted](),
	reflect.TypeFor[quiet](), reflect.TypeFor[kept](), reflect.TypeFor[order](), reflect.TypeFor[plugbus.Chain](),
	reflect.TypeFor[any](), reflect.TypeFor[error](), reflect.TypeFor[node](), reflect.TypeFor[web](), reflect.TypeFor[*web](),
	reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[map[string]string](), reflect.TypeFor[[]string](),
	reflect.TypeFor[[1 << 40]struct{}](), reflect.TypeFor[[1 << 40][0]int](), reflect.TypeFor[[0]func()](),
}

var refused = []reflect.Type{
	reflect.TypeFor[chan int](), reflect.TypeFor[func()](), reflect.TypeFor[unsafe.Pointer](), reflect.TypeFor[sync.Mutex](),
	reflect.TypeFor[atomicInt](), reflect.TypeFor[big.Int](), reflect.TypeFor[context.Context](), reflect.TypeFor[talks](),
	reflect.TypeFor[hidesMap](), reflect.TypeFor[hidesNested](), reflect.TypeFor[embedsPtr](), reflect.TypeFor[guarded](),
	reflect.TypeFor[deepFunc](), reflect.TypeFor[plugbus.SharedValue](),
}

var keys = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[name](), reflect.TypeFor[int8](), reflect.TypeFor[bool](), reflect.TypeFor[float64](),
	reflect.TypeFor[[2]string](), reflect.TypeFor[struct {
		A float32
		B string
	}](), reflect.TypeFor[any](), reflect.TypeFor[time.Time](), reflect.TypeFor[*node](), reflect.TypeFor[chan int](),
}

// typ makes a type.
func (m *maker) typ(depth int) reflect.Type {
	m.values--
	if depth == 0 {
		return sendable[m.pick(len(sendable))]
	}
	switch m.pick(10) {
	case 0:
		return reflect.SliceOf(m.typ(depth - 1))
	case 1:
		return reflect.PointerTo(m.typ(depth - 1))
	case 2:
		return reflect.MapOf(keys[m.pick(len(keys))], m.typ(depth-1))
	case 3:
		elem := m.typ(depth - 1)
		if elem.Size() > 1<<20 {
			return elem
		}
		return reflect.ArrayOf(m.pick(4), elem)
	case 4:
		var fields []reflect.StructField
		for _, name := range []string{"A", "B", "C"}[:m.pick(4)] {
			fields = append(fields, reflect.StructField{Name: name, Type: m.typ(depth - 1)})
		}
		return reflect.StructOf(fields)
	case 5:
		return refused[m.pick(len(refused))]
	default:
		return sendable[m.pick(len(sendable))]
	}
}

// value makes a value of any type.
func (m *maker) value(depth int) any {
	v := reflect.New(m.typ(depth)).Elem()
	m.fill(v, depth)
	return v.Interface()
}

var words = []string{
	"", "a", "text", "é\xff", "<script>", "java\tscript:", "<a onx=1", "month=3", strings.Repeat("long ", 100), strings.Repeat("x", 1<<14),
}

var numbers = []float64{0, 1, -2.5, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.MaxFloat64}

// fill sets v to a value of its type, as far as it can be set.
func (m *maker) fill(v reflect.Value, depth int) {
	if m.values--; m.values <= 0 || m.special(v) {
		return
	}
	switch v.Kind() { //nolint:exhaustive // The other kinds are refused, whatever they are.
	case reflect.Bool:
		v.SetBool(m.pick(2) == 1)
	case reflect.Int8, reflect.Int64:
		v.SetInt(int64(m.pick(7)))
	case reflect.Uint8:
		v.SetUint(uint64(m.pick(7)))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(numbers[m.pick(len(numbers)-1)])
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(numbers[m.pick(7)], numbers[m.pick(7)]))
	case reflect.String:
		v.SetString(words[m.pick(len(words))])
	case reflect.Slice, reflect.Map, reflect.Pointer:
		m.reference(v, depth)
	case reflect.Array:
		for i := range min(v.Len(), 4) {
			m.fill(v.Index(i), depth)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				m.fill(f, depth)
			}
		}
	case reflect.Interface:
		m.dynamic(v, depth)
	case reflect.Chan:
		v.Set(reflect.MakeChan(v.Type(), 0))
	}
}

// special sets values of types that reflection cannot make.
func (m *maker) special(v reflect.Value) bool {
	zone := time.FixedZone(words[m.pick(8)], 3600)
	of := map[reflect.Type][]any{
		reflect.TypeFor[time.Time]():      {time.Time{}, time.Unix(7, 0), time.Unix(7, 0).UTC(), time.Unix(7, 0).In(zone)},
		reflect.TypeFor[stamp]():          {stamp{}, stamp(time.Unix(7, 0).In(zone))},
		reflect.TypeFor[kept]():           {kept{}, kept{time.Unix(7, 0).In(zone)}},
		reflect.TypeFor[netip.Addr]():     {netip.Addr{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1").WithZone("<script>")},
		reflect.TypeFor[netip.AddrPort](): {netip.AddrPort{}, netip.MustParseAddrPort("[fe80::1%eth0]:7")},
		reflect.TypeFor[netip.Prefix]():   {netip.Prefix{}, netip.MustParsePrefix("10.0.0.0/8")},
		reflect.TypeFor[hidden]():         {hidden{}, hidden{n: 1, word: "word"}, hidden{word: "<script>"}},
		reflect.TypeFor[quiet]():          {quiet{}, quiet{1}, quiet{math.NaN()}},
		reflect.TypeFor[plugbus.Chain]():  {plugbus.Chain{}, plugbus.Chain{}.Then("a").Then("b")},
		reflect.TypeFor[uuid.UUID]():      {uuid.UUID{}, uuid.Max},
		reflect.TypeFor[error]():          {loud{}, loud{[]string{"a"}}},
		reflect.TypeFor[sync.Mutex]():     {sync.Mutex{}},
		reflect.TypeFor[plugbus.SharedValue](): {
			plugbus.Shared(1), plugbus.Shared([]string{"a"}), plugbus.Shared(map[string]func(){}), plugbus.Shared(nil),
		},
	}[v.Type()]
	if len(of) == 0 {
		return false
	}
	v.Set(reflect.ValueOf(of[m.pick(len(of))]))
	return true
}

// reference sets v to nothing, to what another place refers to, or to something new.
func (m *maker) reference(v reflect.Value, depth int) {
	t := v.Type()
	n := m.pick(6)
	switch old := m.made[t]; {
	case n == 0:
		return
	case n == 1 && len(old) > 0:
		v.Set(old[m.pick(len(old))])
		return
	}
	switch t.Kind() { //nolint:exhaustive // There are three.
	case reflect.Pointer:
		if t.Elem().Size() > 1<<20 {
			return
		}
		v.Set(reflect.New(t.Elem()))
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
	case reflect.Slice:
		switch size := t.Elem().Size(); {
		case size == 0 && n == 2:
			v.Set(reflect.MakeSlice(t, 1<<40, 1<<40))
			return
		case size > 1<<20:
			return
		case t.Elem().Kind() == reflect.Uint8 && n == 3:
			v.Set(reflect.ValueOf([]byte(words[m.pick(len(words))])).Convert(t))
			return
		}
		v.Set(reflect.MakeSlice(t, max(n-2, 0), n))
	}
	m.made[t] = append(m.made[t], reflect.ValueOf(v.Interface()))
	switch t.Kind() { //nolint:exhaustive // The same.
	case reflect.Pointer:
		m.fill(v.Elem(), depth)
	case reflect.Map:
		for range n - 1 {
			m.entry(v, depth)
		}
	case reflect.Slice:
		for i := range v.Len() {
			m.fill(v.Index(i), depth)
		}
	}
}

// entry puts an entry into a map.
func (m *maker) entry(v reflect.Value, depth int) {
	key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	if key.Kind() == reflect.Interface {
		key.Set(reflect.ValueOf([]any{"k", 1, math.NaN(), [1]string{"<script>"}, struct{ A, B int8 }{}}[m.pick(5)]))
	} else {
		m.fill(key, depth)
	}
	m.fill(elem, depth)
	v.SetMapIndex(key, elem)
}

// dynamic sets an interface to nothing, to what another place refers to, or to
// something new.
func (m *maker) dynamic(v reflect.Value, depth int) {
	var old []reflect.Value
	for _, t := range []reflect.Type{reflect.TypeFor[*web](), reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]byte]()} {
		old = append(old, m.made[t]...)
	}
	switch n := m.pick(4); {
	case v.NumMethod() > 0 || n == 0:
	case n == 1 && len(old) > 0:
		v.Set(old[m.pick(len(old))])
	default:
		held := reflect.New(m.typ(max(depth-1, 0))).Elem()
		if held.Type().Size() > 1<<20 {
			return
		}
		m.fill(held, max(depth-1, 0))
		if held.Kind() == reflect.Interface {
			return
		}
		v.Set(held)
	}
}
