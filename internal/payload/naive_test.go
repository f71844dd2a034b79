package payload_test

import (
	"context"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
)

// A naive walk says what the package comment says, in the plainest way: it copies
// nothing, has no plans, and finds every fault.
type naive struct {
	rules  plugbus.PayloadRules // every limit is set
	faults map[string]bool      // reasons and paths
	size   uint64
	nodes  uint64
	depth  int
	over   bool // a budget is used up; it looks no further
	cyclic bool // it met what it was in
	within map[[3]any]bool
}

func naiveWalk(v any, rules plugbus.PayloadRules) *naive {
	n := &naive{rules: rules, faults: map[string]bool{}, within: map[[3]any]bool{}}
	if v == nil {
		return n
	}
	whole := reflect.ValueOf(v)
	switch whole.Kind() { // These have no size of their own.
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer:
	default:
		n.take(1, uint64(whole.Type().Size()))
	}
	if n.fitting(whole.Type(), "payload") {
		n.value(whole, "payload", 0, false)
	}
	return n
}

func (n *naive) take(count int, size uint64) {
	if size > 0 && uint64(count) > math.MaxInt64/size {
		n.over = true
		return
	}
	n.size += uint64(count) * size
	n.over = n.over || n.size > uint64(n.rules.MaxBytes)
}

func (n *naive) fault(path string, reason plugbus.Reason) {
	n.faults[string(reason)+" at "+plugbus.CutText(path)] = true
}

// fitting reports whether values of a type may be sent, and notes why not.
func (n *naive) fitting(t reflect.Type, path string) bool {
	before := len(n.faults)
	switch t.Kind() { //nolint:exhaustive // The other kinds fit.
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		n.fault(path, plugbus.ReasonInvalidPayload)
	case reflect.Interface:
		if t.Implements(reflect.TypeFor[context.Context]()) {
			n.fault(path, plugbus.ReasonInvalidPayload)
		}
	case reflect.Struct:
		pkg := t.PkgPath()
		switch {
		case frozenType(t):
		case t == reflect.TypeFor[plugbus.SharedValue](), pkg == "sync", pkg == "sync/atomic", pkg == "math/big":
			n.fault(path, plugbus.ReasonInvalidPayload)
		default:
			for f := range t.Fields() {
				switch {
				case !n.fitting(f.Type, path+"."+f.Name):
				case !f.IsExported() && (!f.Anonymous || f.Type.Kind() != reflect.Struct) && refers(f.Type):
					n.fault(path+"."+f.Name, plugbus.ReasonInvalidPayload)
				}
			}
		}
	case reflect.Array:
		if t.Len() > 0 {
			n.fitting(t.Elem(), path+"[0]")
		}
	}
	return len(n.faults) == before
}

// frozenType reports whether values of t never change.
func frozenType(t reflect.Type) bool {
	return slices.ContainsFunc([]reflect.Type{
		reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](),
		reflect.TypeFor[netip.Prefix](), reflect.TypeFor[plugbus.Chain](),
	}, t.ConvertibleTo)
}

// refers reports whether values of t hold references.
func refers(t reflect.Type) bool {
	switch t.Kind() { //nolint:exhaustive // The other kinds hold none.
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		return true
	case reflect.Array:
		return t.Len() > 0 && refers(t.Elem())
	case reflect.Struct:
		if frozenType(t) {
			return false
		}
		for f := range t.Fields() {
			if refers(f.Type) {
				return true
			}
		}
	}
	return false
}

func plainNumber(k reflect.Kind) bool { return reflect.Bool <= k && k <= reflect.Complex128 }

// value walks a value whose own memory is counted. One in a row with others is not
// counted as a node if it is a number.
func (n *naive) value(v reflect.Value, path string, depth int, inRow bool) {
	if !inRow || !plainNumber(v.Kind()) {
		n.nodes++
		n.over = n.over || n.nodes > uint64(n.rules.MaxNodes)
	}
	if n.over || n.cyclic {
		return
	}
	switch v.Kind() { //nolint:exhaustive // The other kinds are numbers, or do not fit.
	case reflect.Float32, reflect.Float64:
		n.finite(path, v.Float())
	case reflect.Complex64, reflect.Complex128:
		n.finite(path, real(v.Complex()))
		n.finite(path, imag(v.Complex()))
	case reflect.String:
		n.take(1, uint64(v.Len()))
		n.text(path, v.String())
	case reflect.Array:
		n.row(v, path, depth)
	case reflect.Struct:
		if frozenType(v.Type()) {
			n.zone(v, path)
			return
		}
		for i := range v.NumField() {
			n.value(v.Field(i), path+"."+v.Type().Field(i).Name, depth, false)
		}
	case reflect.Interface:
		n.held(v.Elem(), path, depth)
	case reflect.Slice, reflect.Map, reflect.Pointer:
		if !v.IsNil() {
			n.reference(v, path, depth)
		}
	}
}

func (n *naive) finite(path string, f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		n.fault(path, plugbus.ReasonInvalidPayload)
	}
}

func (n *naive) text(path, s string) {
	if naiveScan(s)&n.rules.Content != 0 {
		n.fault(path, plugbus.ReasonInvalidContent)
	}
}

// row walks what lies in a row.
func (n *naive) row(v reflect.Value, path string, depth int) {
	elem := v.Type().Elem().Kind()
	if !plainNumber(elem) && v.Len() > n.rules.MaxNodes {
		n.over = true
	}
	for i := 0; i < v.Len() && !n.over; i++ {
		n.value(v.Index(i), path+"["+strconv.Itoa(i)+"]", depth, true)
	}
}

// held walks what is in an interface, which is one node with it.
func (n *naive) held(v reflect.Value, path string, depth int) {
	if !v.IsValid() || !n.fitting(v.Type(), path) {
		return
	}
	n.take(1, uint64(v.Type().Size()))
	if k := v.Kind(); (k == reflect.Struct || k == reflect.Array) && refers(v.Type()) {
		depth = n.enter(depth)
	}
	n.nodes--
	n.value(v, path, depth, false)
}

func (n *naive) enter(depth int) int {
	n.depth = max(n.depth, depth+1)
	n.over = n.over || depth+1 > n.rules.MaxDepth
	return depth + 1
}

func (n *naive) reference(v reflect.Value, path string, depth int) {
	depth = n.enter(depth)
	me := [3]any{v.Type(), v.Pointer(), 1}
	if v.Kind() != reflect.Pointer {
		me[2] = v.Len()
	}
	if n.within[me] {
		n.cyclic = true
		return
	}
	n.within[me] = true
	defer delete(n.within, me)
	t := v.Type()
	switch t.Kind() { //nolint:exhaustive // There are three.
	case reflect.Pointer:
		if n.fitting(t.Elem(), path) {
			n.take(1, uint64(t.Elem().Size()))
			n.value(v.Elem(), path, depth, false)
		}
	case reflect.Slice:
		if v.Len() == 0 || !n.fitting(t.Elem(), path+"[0]") {
			return
		}
		n.take(v.Len(), uint64(t.Elem().Size()))
		if t.Elem().Kind() == reflect.Uint8 && !n.over {
			n.text(path, string(v.Bytes()))
			return
		}
		n.row(v, path, depth)
	case reflect.Map:
		if v.Len() == 0 || !n.fitting(t.Key(), path+"[key]") || !n.fitting(t.Elem(), path+"[*]") {
			return
		}
		n.take(v.Len(), uint64(t.Key().Size()+t.Elem().Size()))
		for it := v.MapRange(); it.Next(); {
			n.value(it.Key(), path+"[key]", depth, false)
			n.value(it.Value(), path+"[*]", depth, false)
		}
	}
}

// zone counts and looks at the zone of a time or an address, where it can be read.
func (n *naive) zone(v reflect.Value, path string) {
	if !v.CanInterface() {
		return
	}
	as := func(t reflect.Type) any { return v.Convert(t).Interface() }
	name, short := "", ""
	switch t := v.Type(); {
	case t.ConvertibleTo(reflect.TypeFor[time.Time]()):
		at, _ := as(reflect.TypeFor[time.Time]()).(time.Time)
		if loc := at.Location(); loc != time.UTC && loc != time.Local {
			name = loc.String()
			short, _ = at.Zone()
		}
	case t.ConvertibleTo(reflect.TypeFor[netip.Addr]()):
		addr, _ := as(reflect.TypeFor[netip.Addr]()).(netip.Addr)
		name = addr.Zone()
	case t.ConvertibleTo(reflect.TypeFor[netip.AddrPort]()):
		addr, _ := as(reflect.TypeFor[netip.AddrPort]()).(netip.AddrPort)
		name = addr.Addr().Zone()
	}
	n.take(1, uint64(len(name)))
	n.text(path, short)
	n.text(path, name)
}

// says describes what it found, for failures.
func (n *naive) says() string {
	return strings.Join(slices.Sorted(maps.Keys(n.faults)), "; ") + " size " + strconv.FormatUint(n.size, 10) + " over " + strconv.FormatBool(n.over) + " cyclic " + strconv.FormatBool(n.cyclic)
}
