package schema

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/plugbus/plugbus"
)

// location is our name for the schema, from which its references start.
const location = "plugbus:///schema"

// The budgets of one validation.
const (
	maxWork  = 4_000_000   // checks of a schema on a value
	maxScan  = 1 << 27     // steps of regular expressions
	maxProof = maxWork / 8 // checks of which the reasons are collected, which takes memory for each
)

// A Schema is a compiled JSON Schema. It may be used by several goroutines.
type Schema struct {
	root    *jsonschema.Schema
	refutes *jsonschema.Schema // is satisfied by what root is not, at a lower cost
	costs   [maxDepth + 1]cost // by the depth of the value
}

// Compile reads a schema. The error is an [*Error].
func Compile(text []byte) (s *Schema, err error) {
	doc, err := parse(text)
	if err != nil {
		return nil, err
	}
	defer recovered("schema", &err)
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(compilePattern)
	c.AssertFormat()
	if err := c.AddResource(location, doc); err != nil {
		return nil, compileError(err)
	}
	root, err := c.Compile(location)
	if err != nil {
		return nil, compileError(err)
	}
	s = &Schema{root: root, refutes: &jsonschema.Schema{DraftVersion: 7, Not: root}}
	if err := s.estimate(); err != nil {
		return nil, err
	}
	return s, nil
}

// A noLoader loads nothing: neither files nor what is in the network.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(string) (any, error) {
	return nil, errors.New("expected references within the schema, or to a published meta-schema")
}

// Validate checks a value. The error is an [*Error].
func (s *Schema) Validate(v any) (err error) {
	defer recovered("value", &err)
	shown, size, err := look(v)
	if err != nil {
		return err
	}
	c := s.costs[size.depth]
	work := float64(size.values) * c.each
	if scan := float64(size.bytes+1) * c.scan; work > maxWork || scan > maxScan {
		return wrong("value", "it is too large or nested too deep for this schema, which would take %.2g steps to check; expected a smaller or flatter one", max(work, scan))
	}
	if s.refutes.Validate(shown) != nil {
		return nil
	}
	if work > maxProof {
		return wrong("value", "it does not satisfy the schema, and is too large to say where")
	}
	if invalid, ok := s.root.Validate(shown).(*jsonschema.ValidationError); ok { //nolint:errorlint // It is never wrapped.
		return explain("value", invalid)
	}
	return nil
}

// ValidatePayload checks a value as those may see it who get it as a payload: what
// plugbus.Shared passes on; and of a []byte that is JSON, which they may decode, both
// the JSON and the text that encoding/json makes of it.
func (s *Schema) ValidatePayload(v any) error {
	if shared, ok := v.(plugbus.SharedValue); ok {
		v = shared.Value()
	}
	if text, ok := v.([]byte); ok && json.Valid(text) {
		if err := s.Validate(json.RawMessage(text)); err != nil {
			return err
		}
	}
	return s.Validate(v)
}

// recovered makes an error of a panic of the library, which reads what others
// wrote.
func recovered(what string, err *error) {
	if r := recover(); r != nil {
		*err = wrong(what, "it cannot be checked: %s", plugbus.CutText(fmt.Sprint(r)))
	}
}
