// Package schema: the two ways to a verdict have no other doors.
package schema

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzVerdict compares the cheap verdict, for which no reason is collected, with
// that which has reasons.
func FuzzVerdict(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`, `{"a":{"a":1}}`},
		{`{"oneOf":[{"required":["a"]},{"required":["b"]}],"unevaluatedProperties":false}`, `{"a":1,"b":2}`},
		{`{"anyOf":[{"prefixItems":[{"const":1}]},{"contains":{"enum":["x",2]},"minContains":2}],"unevaluatedItems":false}`, `[1,"x",2]`},
		{`{"if":{"minimum":5},"then":{"multipleOf":2},"else":{"not":{"maximum":1}},"dependentSchemas":{"a":false}}`, `7`},
		{`{"dependentRequired":{"a":["b"]},"propertyNames":{"pattern":"^a"},"additionalProperties":{"type":["null","integer"]}}`, `{"a":1,"ab":null}`},
		{`{"allOf":[{"patternProperties":{"a":{"format":"date"}}},{"maxProperties":1}],"uniqueItems":true}`, `{"a":"2026-11-21"}`},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","dependencies":{"a":["b"]},"items":[{},{"minLength":2}],"additionalItems":false}`, `["a","b"]`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, text, value []byte) {
		s, err := Compile(text)
		if err != nil {
			return
		}
		v, err := decode("value", value)
		if err != nil {
			return
		}
		shown, size, err := look(v)
		if c := s.costs[size.depth]; err != nil || float64(size.values)*c.each > maxProof {
			return
		}
		require.Equal(t, s.root.Validate(shown) == nil, s.refutes.Validate(shown) != nil)
	})
}
