package payload_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// FuzzWalk freezes values of all types that the bytes of the fuzzer make: cyclic,
// huge, shared, nested and hidden ones. Freeze takes what the naive walk finds
// nothing wrong with, and refuses the rest where that finds a fault. The copy equals
// what was sent, shares no memory with it, and stays as it is whoever writes to the
// value or to another copy. The three budgets hold to the last unit (E12, S13).
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{
		"", "\x06\x1b\x02\x01\x03", "\x06\x1c\x00\x02\x01\x01\x00", "\x00\x06\x22\x02", "\x02\x04\x06\x06\x05\x03", "\x04\x03\x06\x09\x06\x0a\x05\x00",
	} {
		f.Add([]byte(seed), uint16(0))
	}
	f.Fuzz(func(t *testing.T, bytes []byte, limits uint16) {
		m := newMaker(bytes)
		v := m.value(3)
		rules := plugbus.PayloadRules{
			MaxBytes: []int64{1 << 20, 1 << 20, 300, 20}[limits&3], MaxNodes: []int{2000, 2000, 60, 5}[limits>>2&3],
			MaxDepth: []int{64, 64, 9, 2}[limits>>4&3], Content: plugbus.ContentChecks(limits>>6) & plugbus.CheckAll, Shared: limits>>9&1 == 1,
		}
		frozen, size, err := payload.Freeze(v, &rules)
		_, again, errAgain := payload.Freeze(v, &rules)
		require.Equal(t, size, again)
		require.Equal(t, err == nil, errAgain == nil, "%v\n%v", err, errAgain)
		if shared, ok := v.(plugbus.SharedValue); ok {
			requireShared(t, shared, &rules, frozen, err)
			return
		}
		n := naiveWalk(v, rules)
		if err != nil {
			requireFault(t, v, n, err)
			return
		}
		require.False(t, n.over || n.cyclic || len(n.faults) > 0, "a %T was taken: %s", v, n.says())
		require.EqualValues(t, n.size, size, "%T", v)
		requireBudgets(t, v, n)
		requireKept(t, v, frozen)
	})
}

// requireShared demands that what is passed by reference is granted, and arrives as it is.
func requireShared(t *testing.T, v plugbus.SharedValue, rules *plugbus.PayloadRules, frozen any, err error) {
	t.Helper()
	bad, refused := errors.AsType[*payload.Error](err)
	switch {
	case !rules.Shared:
		require.True(t, refused)
		require.Equal(t, plugbus.ReasonSharedNotGranted, bad.Reason)
	case reflect.TypeOf(v.Value()) == reflect.TypeFor[map[string]func()]():
		require.True(t, refused)
		require.Equal(t, plugbus.ReasonInvalidPayload, bad.Reason)
	default:
		require.NoError(t, err)
		require.Equal(t, v.Value(), payload.Thaw(frozen))
	}
}

// requireFault demands that a refusal is one for what is wrong, at the place.
func requireFault(t *testing.T, v any, n *naive, err error) {
	t.Helper()
	bad, ok := errors.AsType[*payload.Error](err)
	require.True(t, ok, "%v", err)
	require.True(t, strings.HasPrefix(bad.Path, "payload"), bad.Path)
	require.NotEmpty(t, bad.Type)
	require.NotEmpty(t, bad.Problem)
	require.NotEqual(t, plugbus.ReasonCheckFailed, bad.Reason, "%v", err)
	switch {
	case bad.Reason == plugbus.ReasonTooLarge: // Of what is refused, the naive walk counts nothing.
		require.True(t, n.over || n.cyclic || len(n.faults) > 0, "%v", err)
	case n.over && bad.Reason == plugbus.ReasonInvalidPayload && len(n.faults) == 0: // It stands behind where the naive walk stopped.
		more := naiveWalk(v, plugbus.PayloadRules{MaxBytes: 1 << 40, MaxNodes: 20_000, MaxDepth: 400})
		require.True(t, more.cyclic || len(more.faults) > 0, "%v", err)
	case !n.over && !n.cyclic:
		require.Contains(t, n.faults, string(bad.Reason)+" at "+bad.Path, "%v", err)
	}
}

// requireBudgets demands that a payload passes within exactly what it takes, and
// not within less.
func requireBudgets(t *testing.T, v any, n *naive) {
	t.Helper()
	least := plugbus.PayloadRules{MaxBytes: max(1, int64(n.size)), MaxNodes: max(1, int(n.nodes)), MaxDepth: max(1, n.depth)}
	_, _, err := payload.Freeze(v, &least)
	require.NoError(t, err, "%T within %+v", v, least)
	for i, less := range []plugbus.PayloadRules{
		{MaxBytes: least.MaxBytes - 1, MaxNodes: least.MaxNodes, MaxDepth: least.MaxDepth},
		{MaxBytes: least.MaxBytes, MaxNodes: least.MaxNodes - 1, MaxDepth: least.MaxDepth},
		{MaxBytes: least.MaxBytes, MaxNodes: least.MaxNodes, MaxDepth: least.MaxDepth - 1},
	} {
		if less.MaxBytes == 0 || less.MaxNodes == 0 || less.MaxDepth == 0 {
			continue // Zero means the default.
		}
		_, _, err := payload.Freeze(v, &less)
		bad, ok := errors.AsType[*payload.Error](err)
		require.True(t, ok, "%T within %+v, budget %d", v, less, i)
		require.Equal(t, plugbus.ReasonTooLarge, bad.Reason)
	}
}

// requireKept demands that nobody can change what was frozen.
func requireKept(t *testing.T, v, frozen any) {
	t.Helper()
	first, second := payload.Thaw(frozen), payload.Thaw(frozen)
	require.True(t, same(reflect.ValueOf(v), reflect.ValueOf(first)), "%T: got %#v, want %#v", v, first, v)
	requireApart(t, v, first, second)
	for _, whose := range []any{v, first} {
		scribble(reflect.ValueOf(whose), map[uintptr]bool{})
		require.True(t, same(reflect.ValueOf(second), reflect.ValueOf(payload.Thaw(frozen))), "%T", v)
	}
}

// same reports whether two values are equal all the way down. Keys of maps that are
// pointers are equal if what they point to is, unlike to reflect.DeepEqual.
func same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() || a.Type() != b.Type() {
		return a.IsValid() == b.IsValid() && !a.IsValid()
	}
	switch a.Kind() { //nolint:exhaustive // The other kinds can be compared.
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Slice, reflect.Array:
		if a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		if frozenType(a.Type()) {
			return a.Equal(b)
		}
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.IsNil() == b.IsNil() && a.Len() == b.Len() && sameEntries(a, b)
	}
	return a.Equal(b)
}

func sameEntries(a, b reflect.Value) bool {
	rest := b.MapKeys()
	for it := a.MapRange(); it.Next(); {
		i := slices.IndexFunc(rest, func(key reflect.Value) bool { return same(it.Key(), key) && same(it.Value(), b.MapIndex(key)) })
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return true
}

// scribble writes to everything that v refers to.
func scribble(v reflect.Value, seen map[uintptr]bool) {
	if !v.IsValid() {
		return
	}
	switch v.Kind() { //nolint:exhaustive // The other kinds refer to nothing that could be written to.
	case reflect.Pointer, reflect.Map:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		if v.Kind() == reflect.Pointer {
			scribble(v.Elem(), seen)
			v.Elem().SetZero()
			return
		}
		for it := v.MapRange(); it.Next(); {
			scribble(it.Key(), seen)
			scribble(it.Value(), seen)
		}
		v.Clear()
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			scribble(v.Index(i), seen)
			if v.Kind() == reflect.Slice {
				v.Index(i).SetZero()
			}
		}
	case reflect.Interface:
		scribble(v.Elem(), seen)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() || v.Type().Field(i).Anonymous {
				scribble(v.Field(i), seen)
			}
		}
	}
}
