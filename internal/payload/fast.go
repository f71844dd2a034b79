package payload

import "reflect"

// The types that most payloads are made of have walks of their own, without
// reflection. They do exactly what slice and mapping do.

// isFast reports whether t is one of these types.
func isFast(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[[]byte](), reflect.TypeFor[[]string](), reflect.TypeFor[[]any](),
		reflect.TypeFor[map[string]string](), reflect.TypeFor[map[string]any]():
		return true
	}
	return false
}

// fast returns a copy of x, which is of one of these types.
func (w *walk) fast(p *plan, x any) (any, *Error) {
	switch x := x.(type) {
	case []byte:
		return boxed(w.byteSlice(p, x))
	case []string:
		return boxed(w.stringSlice(p, x))
	case []any:
		return boxed(w.anySlice(p, x))
	case map[string]string:
		return boxed(w.stringMap(p, x))
	case map[string]any:
		return boxed(w.anyMap(p, x))
	}
	return nil, nil
}

func boxed[T any](x T, err *Error) (any, *Error) { return x, err }

// fastInPlace puts a copy into the variable that at points to.
func (w *walk) fastInPlace(p *plan, at any) (err *Error) {
	switch at := at.(type) {
	case *[]byte:
		*at, err = w.byteSlice(p, *at)
	case *[]string:
		*at, err = w.stringSlice(p, *at)
	case *[]any:
		*at, err = w.anySlice(p, *at)
	case *map[string]string:
		*at, err = w.stringMap(p, *at)
	case *map[string]any:
		*at, err = w.anyMap(p, *at)
	}
	return err
}

// openSlice is the part of slice that its fast forms share: it goes one level
// deeper and returns a copy to walk, or nil if there is nothing to walk.
func openSlice[E any](w *walk, p *plan, src []E) ([]E, *Error) {
	if src == nil {
		return nil, nil
	}
	if !w.enter() {
		return nil, w.tooDeep(sliceRef(p, src))
	}
	if err := w.roomInSlice(p, len(src)); err != nil {
		return nil, err
	}
	c := make([]E, len(src))
	copy(c, src)
	return c, nil
}

// openMap is the same for mapping. The map that it returns has no entries yet.
func openMap[E any](w *walk, p *plan, src map[string]E) (map[string]E, *Error) {
	if src == nil {
		return nil, nil
	}
	if !w.enter() {
		return nil, w.tooDeep(mapRef(p, src))
	}
	if err := w.roomInMap(p, len(src)); err != nil {
		return nil, err
	}
	return make(map[string]E, len(src)), nil
}

func (w *walk) byteSlice(p *plan, src []byte) ([]byte, *Error) {
	c, err := openSlice(w, p, src)
	if c == nil {
		return nil, err
	}
	w.depth--
	return c, w.inspect(p.typ, asText(c))
}

func (w *walk) stringSlice(p *plan, src []string) ([]string, *Error) {
	c, err := openSlice(w, p, src)
	if c == nil {
		return nil, err
	}
	for i, s := range c {
		if err := w.text(p.elem.typ, s); err != nil {
			return nil, err.in(index(i))
		}
	}
	w.depth--
	return c, nil
}

func (w *walk) anySlice(p *plan, src []any) ([]any, *Error) {
	c, err := openSlice(w, p, src)
	if c == nil {
		return nil, err
	}
	for i, x := range c {
		if c[i], err = w.held(x); err != nil {
			return nil, err.under(sliceRef(p, src), index(i))
		}
	}
	w.depth--
	return c, nil
}

func (w *walk) stringMap(p *plan, src map[string]string) (map[string]string, *Error) {
	c, err := openMap(w, p, src)
	if c == nil {
		return nil, err
	}
	for k, s := range src {
		if err := w.text(p.key.typ, k); err != nil {
			return nil, err.in("[key]")
		}
		if err := w.text(p.elem.typ, s); err != nil {
			return nil, err.in("[*]")
		}
		c[k] = s
	}
	w.depth--
	return c, nil
}

func (w *walk) anyMap(p *plan, src map[string]any) (map[string]any, *Error) {
	c, err := openMap(w, p, src)
	if c == nil {
		return nil, err
	}
	for k, x := range src {
		if err := w.text(p.key.typ, k); err != nil {
			return nil, err.in("[key]")
		}
		if c[k], err = w.held(x); err != nil {
			return nil, err.under(mapRef(p, src), "[*]")
		}
	}
	w.depth--
	return c, nil
}

// sliceRef and mapRef allocate, so they are only for the way to an error.

func sliceRef[E any](p *plan, s []E) ref {
	return ref{p.typ, reflect.ValueOf(s).Pointer(), len(s)}
}

func mapRef[E any](p *plan, m map[string]E) ref {
	return ref{p.typ, reflect.ValueOf(m).Pointer(), len(m)}
}
