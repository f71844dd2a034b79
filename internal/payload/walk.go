package payload

import (
	"reflect"
	"strconv"

	"github.com/plugbus/plugbus"
)

const (
	defaultBytes = 1 << 20
	defaultNodes = 100_000
	defaultDepth = 64

	// maxDepth bounds the stack that a walk takes, whatever the rules say: Go
	// cannot recover from a stack that has overflowed.
	maxDepth = 10_000

	// maxInPlace bounds it together with maxDepth: structs and arrays inside each
	// other take stack too, and no level.
	maxInPlace = 64
)

// A walk copies, measures and inspects one payload. What it inspects is always
// its own copy.
type walk struct {
	bytes, maxBytes uint64
	nodes, maxNodes uint64
	depth, maxDepth int

	content plugbus.ContentChecks
	thaw    bool // copy only: the walk that froze the value has done the rest
}

// orDefault returns limit, or the default where there is none.
func orDefault[T int | int64](limit, otherwise T) uint64 {
	if limit <= 0 {
		limit = otherwise
	}
	return uint64(limit)
}

func newWalk(rules *plugbus.PayloadRules) walk {
	return walk{
		maxBytes: orDefault(rules.MaxBytes, defaultBytes),
		maxNodes: orDefault(rules.MaxNodes, defaultNodes),
		maxDepth: int(min(orDefault(rules.MaxDepth, defaultDepth), maxDepth)),
		content:  rules.Content,
	}
}

// charge takes room for n values of size bytes and nodes nodes each, before
// anything is made for them. The values are what t holds.
func (w *walk) charge(t reflect.Type, n int, size, nodes uint64) *Error {
	size, nodes = mul(uint64(n), size), mul(uint64(n), nodes)
	if size > w.maxBytes-w.bytes {
		return fault(plugbus.ReasonTooLarge, t, "the payload has more than "+
			strconv.FormatUint(w.maxBytes, 10)+" bytes; send less, or in parts")
	}
	if nodes > w.maxNodes-w.nodes {
		return fault(plugbus.ReasonTooLarge, t, "the payload has more than "+
			strconv.FormatUint(w.maxNodes, 10)+" values; send less, or in parts")
	}
	w.bytes += size
	w.nodes += nodes
	return nil
}

// enter goes one level deeper, if the budget has one more. Whoever enters and
// meets no error leaves by w.depth--; an error ends the walk.
func (w *walk) enter() bool {
	if w.depth >= w.maxDepth {
		return false
	}
	w.depth++
	return true
}

// tooDeep is the error of not entering what r refers to.
func (w *walk) tooDeep(r ref) *Error {
	err := fault(plugbus.ReasonTooLarge, r.typ, "the payload is nested deeper than "+
		strconv.Itoa(w.maxDepth)+" levels; send it flatter")
	err.met = r
	return err
}

// room is charge for n elements of the type t. It refuses them here if their
// type is to be refused, so that nothing of them is touched.
func (w *walk) room(t reflect.Type, n int, elem *plan, nodes uint64, step string) *Error {
	if n > 0 && elem.op == refuse {
		return elem.refusal().in(step)
	}
	return w.charge(t, n, elem.size, nodes)
}

// whole walks a whole payload.
func (w *walk) whole(p *plan, x any) (any, *Error) {
	if err := w.charge(p.typ, 1, p.root, p.nodes); err != nil {
		return nil, err
	}
	return w.copied(p, x)
}

// held walks what an interface holds. The interface itself is charged already.
func (w *walk) held(x any) (any, *Error) {
	if x == nil {
		return nil, nil
	}
	p := plans.of(x)
	if err := w.charge(p.typ, 1, p.size, p.nodes-1); err != nil {
		return nil, err
	}
	if p.fixed || p.op != fields && p.op != array {
		return w.copied(p, x) // Nothing nests in it, or it enters by itself.
	}
	if !w.enter() {
		return nil, w.tooDeep(ref{typ: p.typ})
	}
	c, err := w.copied(p, x)
	w.depth--
	return c, err
}

// copied returns x itself if it holds no references, and otherwise a copy. In
// both cases it has inspected what it returns.
func (w *walk) copied(p *plan, x any) (any, *Error) {
	switch {
	case p.op == pass:
		return x, nil
	case p.op == refuse:
		return nil, p.refusal()
	case p.fixed:
		return x, w.walk(p, reflect.ValueOf(x))
	case p.fast:
		return w.fast(p, x)
	}
	c := reflect.New(p.typ).Elem()
	c.Set(reflect.ValueOf(x))
	err := w.walk(p, c)
	return c.Interface(), err
}

// walk inspects v, and puts a copy in the place of each reference in it. The
// memory of v is the walk's own, or immutable; what v refers to is not.
func (w *walk) walk(p *plan, v reflect.Value) *Error {
	if w.thaw && p.fixed { // To inspect it again would take time and find nothing.
		return nil
	}
	if p.fast {
		return w.fastInPlace(p, v.Addr().Interface())
	}
	switch p.op {
	case floats:
		return w.float(p.typ, v.Float())
	case complexes:
		c := v.Complex()
		if err := w.float(p.typ, real(c)); err != nil {
			return err
		}
		return w.float(p.typ, imag(c))
	case text:
		return w.text(p.typ, v.String())
	case zoned:
		return w.zone(p, v)
	case fields:
		for i := range p.fields {
			f := &p.fields[i]
			if err := w.walk(f.plan, v.Field(f.index)); err != nil {
				return err.in("." + f.name)
			}
		}
	case array:
		for i := range v.Len() {
			if err := w.walk(p.elem, v.Index(i)); err != nil {
				return err.in(index(i))
			}
		}
	case slice, mapping, pointer:
		return w.reference(p, v)
	case dynamic:
		if v.IsNil() {
			return nil
		}
		c, err := w.held(v.Elem().Interface())
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(c))
	case pass:
	case refuse: // Whoever leads here has refused it already.
		return p.refusal()
	}
	return nil
}

// reference goes one level deeper, and puts a copy of what v refers to in its
// place.
func (w *walk) reference(p *plan, v reflect.Value) *Error {
	if v.IsNil() {
		return nil
	}
	r := ref{p.typ, v.Pointer(), 1}
	if p.op != pointer {
		r.n = v.Len()
	}
	if !w.enter() {
		return w.tooDeep(r)
	}
	var err *Error
	switch p.op { //nolint:exhaustive // The other kinds are no references.
	case slice:
		err = w.slice(p, v, r)
	case mapping:
		err = w.mapping(p, v, r)
	case pointer:
		err = w.pointer(p, v, r)
	}
	w.depth--
	return err
}

func (w *walk) slice(p *plan, v reflect.Value, r ref) *Error {
	if err := w.roomInSlice(p, r.n); err != nil {
		return err
	}
	c := reflect.MakeSlice(p.typ, r.n, r.n)
	reflect.Copy(c, v)
	v.Set(c)
	switch {
	case p.elem.typ.Kind() == reflect.Uint8:
		return w.inspect(p.typ, asText(c.Bytes()))
	case p.elem.op != pass:
		for i := range r.n {
			if err := w.walk(p.elem, c.Index(i)); err != nil {
				return err.under(r, index(i))
			}
		}
	}
	return nil
}

func (w *walk) roomInSlice(p *plan, n int) *Error {
	return w.room(p.typ, n, p.elem, p.elem.nodesInRow(), "[0]")
}

func (w *walk) mapping(p *plan, v reflect.Value, r ref) *Error {
	if err := w.roomInMap(p, r.n); err != nil {
		return err
	}
	c := reflect.MakeMapWithSize(p.typ, r.n)
	key, elem := reflect.New(p.key.typ).Elem(), reflect.New(p.elem.typ).Elem()
	for entry := v.MapRange(); entry.Next(); {
		key.SetIterKey(entry)
		elem.SetIterValue(entry)
		if err := w.walk(p.key, key); err != nil {
			return err.under(r, "[key]")
		}
		if err := w.walk(p.elem, elem); err != nil {
			return err.under(r, "[*]")
		}
		c.SetMapIndex(key, elem)
	}
	v.Set(c)
	return nil
}

func (w *walk) roomInMap(p *plan, n int) *Error {
	if err := w.room(p.typ, n, p.key, p.key.nodes, "[key]"); err != nil {
		return err
	}
	return w.room(p.typ, n, p.elem, p.elem.nodes, "[*]")
}

func (w *walk) pointer(p *plan, v reflect.Value, r ref) *Error {
	if err := w.room(p.typ, 1, p.elem, p.elem.nodes, ""); err != nil {
		return err
	}
	c := reflect.New(p.elem.typ)
	c.Elem().Set(v.Elem())
	v.Set(c)
	if err := w.walk(p.elem, c.Elem()); err != nil {
		return err.under(r, "")
	}
	return nil
}
