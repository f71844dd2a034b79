package payload

import (
	"context"
	"math"
	"math/bits"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/plugbus/plugbus"
)

// An op is what a walk does at a value.
type op uint8

const (
	pass op = iota // nothing: the bits are all there is, and every pattern of them will do
	floats
	complexes
	text
	zoned // a time or an address, which may name a zone
	fields
	array
	slice
	mapping
	pointer
	dynamic // an interface: the plan of what it holds
	refuse
)

// A plan says how to walk the values of one type. It is complete and immutable
// before a second goroutine sees it.
type plan struct {
	typ   reflect.Type
	word  uintptr // the type word, in plans that the cache found
	op    op
	fixed bool // holds no references, so that it may pass as it is
	fast  bool // has a typed walk in fast.go

	size  uint64 // bytes in place, without what references lead to
	root  uint64 // the same for a whole payload, whose own reference does not count
	nodes uint64 // values in place

	inPlace int // how deep structs and arrays that need a walk lie inside each other

	fields []field      // of a struct, those that need a walk
	elem   *plan        // of arrays, slices, maps and pointers
	key    *plan        // of maps
	base   reflect.Type // of a zoned value, time.Time or its like

	path    string       // if refused: the way to the culprit,
	culprit reflect.Type // its type,
	problem string       // and what is wrong with it

	shareable func() *Error // set by the cache: why plugbus.Shared is refused, or nil
}

type field struct {
	index int
	name  string
	plan  *plan
}

// A builder makes the plans that one type needs. A type can meet itself only
// behind a reference, so plans of references are complete but for what is behind
// them before the builder goes on there.
type builder map[reflect.Type]*plan

var (
	contextType = reflect.TypeFor[context.Context]()
	sharedType  = reflect.TypeFor[plugbus.SharedValue]()

	// Immutable structs that hold unexported references. So are types that are
	// defined as one of them, as in type Stamp time.Time.
	immutable = []struct {
		typ reflect.Type
		op  op
	}{
		{reflect.TypeFor[time.Time](), zoned},
		{reflect.TypeFor[netip.Addr](), zoned},
		{reflect.TypeFor[netip.AddrPort](), zoned},
		{reflect.TypeFor[netip.Prefix](), pass}, // has no zone
		{reflect.TypeFor[plugbus.Chain](), pass},
	}
)

func (b builder) plan(t reflect.Type) *plan {
	if p := b[t]; p != nil {
		return p
	}
	size := uint64(t.Size())
	p := &plan{typ: t, size: size, root: size, nodes: 1, fixed: true, fast: isFast(t)}
	b[t] = p
	if problem := forbidden(t); problem != "" {
		p.refuse("", t, problem)
		return p
	}
	switch t.Kind() { //nolint:exhaustive // The other kinds are booleans and integers, which pass.
	case reflect.Float32, reflect.Float64:
		p.op = floats
	case reflect.Complex64, reflect.Complex128:
		p.op = complexes
	case reflect.String:
		p.op, p.root = text, 0
	case reflect.Struct:
		b.structure(p)
	case reflect.Array:
		b.array(p)
	case reflect.Slice:
		p.op, p.root, p.fixed = slice, 0, false
		p.elem = b.plan(t.Elem())
	case reflect.Map:
		p.op, p.root, p.fixed = mapping, 0, false
		p.key, p.elem = b.plan(t.Key()), b.plan(t.Elem())
	case reflect.Pointer:
		p.op, p.root, p.fixed = pointer, 0, false
		p.elem = b.plan(t.Elem())
	case reflect.Interface:
		p.op, p.fixed = dynamic, false
	}
	if p.inPlace > maxInPlace {
		p.refuse("", t, "its structs and arrays lie more than "+strconv.Itoa(maxInPlace)+" deep inside each other; send it flatter")
	}
	return p
}

func (b builder) structure(p *plan) {
	for _, known := range immutable {
		if p.typ.ConvertibleTo(known.typ) {
			p.op, p.base = known.op, known.typ
			return
		}
	}
	switch p.typ.PkgPath() {
	case "sync", "sync/atomic":
		p.refuse("", p.typ, "a lock or an atomic value must not be copied; "+sendData)
		return
	case "math/big":
		p.refuse("", p.typ, "its digits are unexported; send its text")
		return
	}
	for i := range p.typ.NumField() {
		f := p.typ.Field(i)
		fp := b.plan(f.Type)
		promotes := f.Anonymous && f.Type.Kind() == reflect.Struct
		switch {
		case fp.op == refuse:
			p.refuse("."+f.Name+fp.path, fp.culprit, fp.problem)
			return
		case !fp.fixed && !f.IsExported() && !promotes:
			p.refuse("."+f.Name, f.Type, "an unexported field that holds references cannot be copied; "+sendData)
			return
		case fp.op != pass:
			p.fields = append(p.fields, field{i, f.Name, fp})
			p.inPlace = max(p.inPlace, fp.inPlace+1)
		}
		p.fixed = p.fixed && fp.fixed
		p.nodes = add(p.nodes, fp.nodes)
	}
	if p.fields != nil {
		p.op = fields
	}
}

func (b builder) array(p *plan) {
	n := uint64(p.typ.Len())
	p.elem = b.plan(p.typ.Elem())
	if n == 0 {
		return
	}
	if p.elem.op == refuse {
		p.refuse("[0]"+p.elem.path, p.elem.culprit, p.elem.problem)
		return
	}
	p.fixed = p.elem.fixed
	if p.elem.op != pass {
		p.op, p.inPlace = array, p.elem.inPlace+1
	}
	p.nodes = add(p.nodes, mul(n, p.elem.nodesInRow()))
}

// nodesInRow returns how many nodes each element of a slice or an array counts.
// Numbers and booleans count none: the bytes bound them.
func (p *plan) nodesInRow() uint64 {
	if k := p.typ.Kind(); k >= reflect.Bool && k <= reflect.Complex128 {
		return 0
	}
	return p.nodes
}

func (p *plan) refuse(path string, culprit reflect.Type, problem string) {
	p.op, p.fixed = refuse, true
	p.path, p.culprit, p.problem = path, culprit, problem
}

// refusal returns the error of a plan that refuses.
func (p *plan) refusal() *Error {
	return fault(plugbus.ReasonInvalidPayload, p.culprit, p.problem).in(p.path)
}

// add and mul stop at the largest number.
func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func mul(a, b uint64) uint64 {
	over, product := bits.Mul64(a, b)
	if over != 0 {
		return math.MaxUint64
	}
	return product
}
