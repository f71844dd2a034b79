package payload

import (
	"reflect"
	"strings"

	"github.com/plugbus/plugbus"
)

const (
	sendData = "send a copy of its exported data, or plugbus.Shared where the policy grants it"
	notEven  = " may not be sent, not even by plugbus.Shared; send the data that it stands for"
)

// forbidden says why no value of the type itself may be sent, even by reference.
// It is "" for all other types.
func forbidden(t reflect.Type) string {
	switch t.Kind() { //nolint:exhaustive // The other kinds depend on what they are made of.
	case reflect.Func:
		return "a function" + notEven
	case reflect.Chan:
		return "a channel" + notEven
	case reflect.UnsafePointer:
		return "an unsafe pointer" + notEven
	}
	switch {
	case t == sharedType:
		return "plugbus.Shared wraps a whole payload, not a part of one"
	case t.Implements(contextType):
		return "a context" + notEven
	case isHandle(t.PkgPath(), t):
		return "a part of the hub" + notEven
	}
	return ""
}

// isHandle reports whether t, a type of the package at path, is a struct of the
// hub's with something unexported behind it: a session, a client, a view.
func isHandle(path string, t reflect.Type) bool {
	const module = "github.com/plugbus/plugbus/"
	part, ours := strings.CutPrefix(path, module)
	if !ours || t.Kind() != reflect.Struct {
		return false
	}
	switch part {
	default:
		return false
	case "hub", "events", "router", "store", "discovery", "security", "audit":
	}
	for f := range t.Fields() {
		if f.IsExported() {
			continue
		}
		switch f.Type.Kind() { //nolint:exhaustive // The other kinds refer to nothing.
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Func, reflect.Chan:
			return true
		}
	}
	return false
}

// shareable looks through everything that the type of a shared value reaches. It
// looks at types only: the value itself belongs to others, who may be writing
// to it.
func shareable(t reflect.Type) *Error {
	seen := map[reflect.Type]bool{}
	var look func(t reflect.Type) *Error
	look = func(t reflect.Type) *Error {
		if seen[t] {
			return nil
		}
		seen[t] = true
		if problem := forbidden(t); problem != "" {
			return fault(plugbus.ReasonInvalidPayload, t, problem)
		}
		switch t.Kind() { //nolint:exhaustive // The other kinds lead to nothing that a type can tell.
		case reflect.Struct:
			for f := range t.Fields() {
				if isInternal(t, f) {
					continue
				}
				if err := look(f.Type); err != nil {
					return err.in("." + f.Name)
				}
			}
		case reflect.Map:
			if err := look(t.Key()); err != nil {
				return err.in("[key]")
			}
			if err := look(t.Elem()); err != nil {
				return err.in("[*]")
			}
		case reflect.Slice, reflect.Array:
			if err := look(t.Elem()); err != nil {
				return err.in("[*]")
			}
		case reflect.Pointer:
			return look(t.Elem())
		}
		return nil
	}
	return look(t)
}

// isInternal reports whether the field is how a lock or an atomic value works
// inside. Shared values need these. The blank fields of atomic.Pointer and its
// like lead to the type that they point to, so they count.
func isInternal(t reflect.Type, f reflect.StructField) bool {
	switch t.PkgPath() {
	case "sync", "sync/atomic":
		return !f.IsExported() && f.Name != "_"
	}
	return false
}
