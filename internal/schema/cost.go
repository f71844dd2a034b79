package schema

import (
	"encoding/json"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/plugbus/plugbus"
)

const (
	maxDepth = 128 // of the objects and arrays of a value inside each other
	maxChain = 64  // schemas that one leads to without going into the value
)

// A cost is what a check takes at most: each for each value, and scan for each
// byte of text. A float has room for what is far too much.
type cost struct{ each, scan float64 }

func (c cost) plus(other cost) cost { return cost{c.each + other.each, c.scan + other.scan} }

func (c cost) max(other cost) cost { return cost{max(c.each, other.each), max(c.scan, other.scan)} }

// A form is what JSON Schema applies different keywords to.
type form int

const (
	scalar form = iota
	array
	object
	forms
)

// A node is what one schema takes by itself, and which others it leads to.
type node struct {
	own    cost
	takes  [forms]bool    // its type lets values of the form go on
	here   []*node        // all of them are applied to the same value
	all    [forms][]*node // all of them are applied to each child
	one    [forms][]*node // one of them at most is applied to each child
	height int            // of the longest chain of here

	before, now [forms]cost // what it takes of a value one level flatter, and of one as deep as the current
}

// estimate computes the costs of a schema.
//
// Let N(s, d) be how many checks the schema s causes at most on a path from a
// value of depth d down to a leaf: one of its own, N(t, d) for every schema t that
// it applies to the same value, and N(t, d-1) for those that it applies to one
// child. Every value is on such a path, so all values together take at most their
// number times N. It is computed for each form of the value apart, since schemas of
// another type end at once.
func (s *Schema) estimate() error {
	g := graph{nodes: map[*jsonschema.Schema]*node{}}
	root := g.node(s.root)
	for i := 0; i < len(g.found); i++ { //nolint:intrange // It grows.
		if err := g.link(g.found[i]); err != nil {
			return err
		}
	}
	for _, sch := range g.found {
		if err := g.sort(sch); err != nil {
			return err
		}
	}
	for depth := range s.costs {
		for _, n := range g.order {
			n.before = n.now
		}
		for _, n := range g.order {
			for f := range forms {
				n.now[f] = n.take(f, depth)
			}
		}
		for _, c := range root.now {
			s.costs[depth] = s.costs[depth].max(c)
		}
	}
	return nil
}

// take returns what n takes of a value of a form and a depth.
func (n *node) take(f form, depth int) cost {
	c := n.own
	if !n.takes[f] {
		return c
	}
	for _, t := range n.here {
		c = c.plus(t.now[f])
	}
	if depth == 0 {
		return c
	}
	var most cost // of one child
	for of := range forms {
		var child cost
		for _, t := range n.one[f] {
			child = child.max(t.before[of])
		}
		for _, t := range n.all[f] {
			child = child.plus(t.before[of])
		}
		most = most.max(child)
	}
	return c.plus(most)
}

// A graph has all schemas that a root leads to.
type graph struct {
	nodes map[*jsonschema.Schema]*node
	found []*jsonschema.Schema
	order []*node // each after those that it applies to the same value
}

// node returns the node of a schema.
func (g *graph) node(sch *jsonschema.Schema) *node {
	n := g.nodes[sch]
	if n == nil {
		n = &node{}
		g.nodes[sch] = n
		g.found = append(g.found, sch)
	}
	return n
}

// add appends the nodes of those schemas that there are.
func (g *graph) add(to *[]*node, schemas ...*jsonschema.Schema) {
	for _, sch := range schemas {
		if sch != nil {
			*to = append(*to, g.node(sch))
		}
	}
}

// addAny is add for what the library keeps as a schema, a list of them, or
// something else.
func (g *graph) addAny(to *[]*node, x any) {
	switch x := x.(type) {
	case *jsonschema.Schema:
		g.add(to, x)
	case []*jsonschema.Schema:
		g.add(to, x...)
	}
}

// link finds out where a schema leads, and what it takes by itself.
func (g *graph) link(s *jsonschema.Schema) error {
	if s.RecursiveRef != nil || s.DynamicRef != nil {
		return newError("schema", place(s.Location), "it uses $dynamicRef or $recursiveRef; expected $ref")
	}
	n := g.nodes[s]
	n.own, n.takes = own(s), taken(s)
	if s.UniqueItems {
		s.UniqueItems, s.Extensions = false, append(s.Extensions, unique{})
	}

	g.add(&n.here, s.Ref, s.Not, s.If, s.Then, s.Else)
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		g.add(&n.here, list...)
	}
	for _, dependent := range s.DependentSchemas {
		g.add(&n.here, dependent)
	}
	for _, dependent := range s.Dependencies {
		g.addAny(&n.here, dependent)
	}

	g.add(&n.all[object], s.PropertyNames, s.UnevaluatedProperties)
	for _, matching := range s.PatternProperties {
		g.add(&n.all[object], matching)
	}
	for _, named := range s.Properties {
		g.add(&n.one[object], named)
	}
	g.addAny(&n.one[object], s.AdditionalProperties)

	g.add(&n.all[array], s.Contains, s.UnevaluatedItems)
	g.addAny(&n.one[array], s.Items)
	g.addAny(&n.one[array], s.AdditionalItems)
	g.add(&n.one[array], s.PrefixItems...)
	g.add(&n.one[array], s.Items2020)
	return nil
}

// taken returns the forms of the values that the type of a schema lets go on.
func taken(s *jsonschema.Schema) (takes [forms]bool) {
	if s.Types == nil || s.Types.IsEmpty() {
		return [forms]bool{true, true, true}
	}
	for _, name := range s.Types.ToStrings() {
		switch name {
		case "object":
			takes[object] = true
		case "array":
			takes[array] = true
		default:
			takes[scalar] = true
		}
	}
	return takes
}

// own returns what a schema takes without those that it leads to.
func own(s *jsonschema.Schema) cost {
	c := cost{each: 1 + float64(len(s.Required)+len(s.Dependencies)+len(s.DependentSchemas)+len(s.PatternProperties)), scan: 1}
	for _, names := range s.DependentRequired {
		c.each += 1 + float64(len(names))
	}
	for _, names := range s.Dependencies {
		if names, ok := names.([]string); ok {
			c.each += float64(len(names))
		}
	}
	if s.Const != nil {
		c.each += compares(*s.Const)
	}
	if s.Enum != nil {
		c.each += compares(s.Enum.Values)
		c.scan += float64(len(s.Enum.Values)) / 8
	}
	if p, ok := s.Pattern.(*pattern); ok {
		c.scan += float64(p.steps)
	}
	for re := range s.PatternProperties {
		if p, ok := re.(*pattern); ok {
			c.scan += float64(p.steps)
		}
	}
	if s.Format != nil {
		c.scan += 16
		if s.Format.Name == "regex" {
			c.scan += 1000 // It compiles the text.
		}
	}
	return c
}

// compares returns how many comparisons it takes to compare something with v.
func compares(v any) float64 {
	switch v := v.(type) {
	case json.Number:
		weight, _ := numberWeight(v.String())
		return float64(weight)
	case []any:
		n := 1.0
		for _, elem := range v {
			n += compares(elem)
		}
		return n
	case map[string]any:
		n := 1.0
		for _, elem := range v {
			n += compares(elem)
		}
		return n
	}
	return 1
}

// sort puts a schema and those that it applies to the same value in order. It
// refuses one that applies itself, and one with so long a chain that the stack
// and the library's own search for circles would suffer.
func (g *graph) sort(sch *jsonschema.Schema) error {
	const underWay = -1
	var visit func(n *node) bool
	visit = func(n *node) bool {
		switch {
		case n.height == underWay:
			return false
		case n.height > 0:
			return true
		}
		n.height = underWay
		height := 0
		for _, t := range n.here {
			if !visit(t) {
				return false
			}
			height = max(height, t.height)
		}
		n.height = height + 1
		g.order = append(g.order, n)
		return n.height <= maxChain
	}
	if !visit(g.nodes[sch]) {
		return newError("schema", "", fmt.Sprintf("%q refers to itself without going into the value, or by way of more than %d others; expected fewer references", plugbus.CutText(place(sch.Location)), maxChain))
	}
	return nil
}
