package payload_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
)

// requireApart checks that no two of the values share memory that could change.
func requireApart(t require.TestingT, values ...any) {
	if h, ok := t.(*testing.T); ok {
		h.Helper()
	}
	owner := map[uintptr]int{}
	for i, v := range values {
		mine := map[uintptr]bool{}
		memory(reflect.ValueOf(v), mine)
		for addr := range mine {
			other, taken := owner[addr]
			require.Falsef(t, taken, "values %d and %d share memory: %#v", other, i, v)
			owner[addr] = i
		}
	}
}

// memory collects the addresses of everything that v refers to and that a
// recipient could write to.
func memory(v reflect.Value, into map[uintptr]bool) {
	if !v.IsValid() {
		return
	}
	switch v.Kind() { //nolint:exhaustive // The other kinds hold no memory that could change.
	case reflect.Pointer:
		if v.IsNil() || v.Type().Elem().Size() == 0 {
			return
		}
		into[v.Pointer()] = true
		memory(v.Elem(), into)
	case reflect.Interface:
		memory(v.Elem(), into)
	case reflect.Slice:
		if v.Cap() == 0 || v.Type().Elem().Size() == 0 {
			return
		}
		into[v.Pointer()] = true
		for i := range v.Len() {
			memory(v.Index(i), into)
		}
	case reflect.Array:
		for i := range v.Len() {
			memory(v.Index(i), into)
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		into[v.Pointer()] = true
		for it := v.MapRange(); it.Next(); {
			memory(it.Key(), into)
			memory(it.Value(), into)
		}
	case reflect.Struct:
		switch immutable := v.Type(); {
		case immutable.ConvertibleTo(reflect.TypeFor[time.Time]()), immutable.PkgPath() == "net/netip",
			immutable == reflect.TypeFor[plugbus.Chain]():
			return
		}
		for _, f := range v.Fields() {
			memory(f, into)
		}
	}
}
