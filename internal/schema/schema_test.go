package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/schema"
)

func compile(t testing.TB, text string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile([]byte(text))
	require.NoError(t, err, "%.200s", text)
	return s
}

// requireInvalid asserts the type of an error, what it says, and that it is
// short.
func requireInvalid(t testing.TB, err error, says string) {
	t.Helper()
	_, ok := errors.AsType[*schema.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, says)
	require.Less(t, len(err.Error()), 3*plugbus.MaxTextBytes)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type request struct {
		Path string   `json:"path"`
		Size *int     `json:"size,omitempty"`
		Tags []string `json:"tags,omitempty"`
		When any      `json:"when,omitempty"`
	}
	negative := -1
	const text = `{
		"type": "object", "required": ["path"], "additionalProperties": false,
		"properties": {
			"path": {"type": "string", "pattern": "^[a-z/]+$", "maxLength": 20},
			"size": {"type": "integer", "minimum": 0},
			"tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "uniqueItems": true},
			"when": {"format": "date-time"}
		},
		"$defs": {"tag": {"enum": ["new", "old", 7]}}
	}`
	s := compile(t, text)
	for _, test := range []struct {
		v    any
		says string // "" if it is valid
	}{
		{request{Path: "a/b"}, ""},
		{&request{Path: "a", Tags: []string{"new", "old"}, When: time.Now()}, ""},
		{map[string]any{"path": "a", "size": 7.0, "tags": []any{7, "new"}}, ""},
		{json.RawMessage(`{"path":"a","size":1e2}`), ""},

		{request{Path: "A"}, `at "/path": 'A' does not match pattern`},
		{request{Path: "a", Size: &negative}, `at "/size": minimum: got -1, want 0`},
		{request{Path: "a", Tags: []string{"new", "x"}}, `at "/tags/1": value must be one of 'new', 'old', 7`},
		{request{Path: "a", Tags: []string{"new", "old", "new"}}, `at "/tags": items at 0 and 2 are equal`},
		{request{Path: "a", When: "today"}, `at "/when": it is no valid date-time`},
		{map[string]any{"path": "a", "size": 1.5}, `at "/size": got number, want integer`},
		{map[string]any{"b": 1, "a": 1, "path": "a"}, `additional properties 'a', 'b' not allowed`},
		{map[string]any{}, "missing property 'path'"},
		{map[string]any{"path": strings.Repeat("a/", 1<<19)}, `maxLength: got 1,048,576, want 20`},
		{[]byte(`{"path":"a"}`), "got string, want object"},
		{json.RawMessage(`{"path":"a","path":"b"}`), "stands twice"},
		{nil, "got null, want object"},
		{func() {}, "has no form in JSON"},
	} {
		err := s.Validate(test.v)
		if test.says == "" {
			require.NoError(t, err, "%v", test.v)
		} else {
			requireInvalid(t, err, test.says)
		}
	}
}

// TestDrafts shows that each draft is read by its own rules, and that $ref
// reaches meta-schemas that need nothing dynamic.
func TestDrafts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		schema string
		v      any
		valid  bool
	}{
		{`true`, 1, true},
		{`false`, 1, false},
		{`{}`, nil, true},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","maximum":5,"exclusiveMaximum":true}`, 5, false},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}],"additionalItems":false}`, []any{"a", 1}, false},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema","unevaluatedProperties":false,"allOf":[{"properties":{"a":{}}}]}`, map[string]int{"a": 1}, true},
		{`{"prefixItems":[{"type":"string"}],"items":false}`, []any{"a", 1}, false},
		{`{"if":{"type":"string"},"then":{"minLength":2},"else":{"minimum":2}}`, 1, false},
		{`{"$ref":"http://json-schema.org/draft-07/schema"}`, map[string]any{"type": "string"}, true},
		{`{"$ref":"http://json-schema.org/draft-07/schema"}`, map[string]any{"type": "text"}, false},
		{`{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}`, json.RawMessage(`{"next":{"next":{"then":1}}}`), false},
		{`{"uniqueItems":true}`, []any{1, 1.0}, false},
		{`{"uniqueItems":true}`, []any{1, "1", []int{1}, map[string]int{"1": 1}, nil, true, "true", 1.5, -1}, true},
		{`{"uniqueItems":true}`, []any{json.RawMessage(`{"a":1,"b":2}`), json.RawMessage(`{"b":2,"a":10e-1}`)}, false},
		{`{"not":{"uniqueItems":true}}`, []any{"a", "a"}, true},
		{`{"multipleOf":0.01}`, 0.07, true},
		{`{"const":{"a":1}}`, map[string]float64{"a": 1}, true},
	} {
		err := compile(t, test.schema).Validate(test.v)
		require.Equal(t, test.valid, err == nil, "%s of %v: %v", test.schema, test.v, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret.json")
	require.NoError(t, os.WriteFile(secret, []byte(`{"type":"string"}`), 0o600))
	for _, test := range []struct{ schema, says string }{
		{``, "EOF"},
		{`7`, "invalid schema"},
		{`{"type":"text"}`, `at "/type"`},
		{`{"properties":{"a":{"minLength":-1}}}`, `at "/properties/a/minLength"`},
		{`{"type":"string","type":"number"}`, "stands twice"},
		{`{"type":"string"} {}`, "more after"},
		{`{"multipleOf":0}`, `at "/multipleOf"`},
		{`{"maximum":1e999}`, `at "/maximum": a number has more than`},
		{`{"pattern":"("}`, "missing closing"},
		{`{"$ref":"#/$defs/none"}`, "#/$defs/none"},
		{`{"$ref":"#none"}`, "not found"},

		// Nothing is loaded.
		{`{"$ref":"file://` + secret + `"}`, "expected references within the schema"},
		{`{"$ref":"` + secret + `"}`, "expected references within the schema"},
		{`{"$ref":"https://example.com/schema.json"}`, "expected references within the schema"},
		{`{"$schema":"https://example.com/schema.json"}`, "expected references within the schema"},
		{`{"$id":"file://` + secret + `","$ref":"other.json"}`, "expected references within the schema"},

		// What is dynamic cannot be estimated.
		{`{"$dynamicRef":"#a","$dynamicAnchor":"a"}`, "$dynamicRef"},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveRef":"#"}`, "$recursiveRef"},
		{`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, "$dynamicRef"},
	} {
		_, err := schema.Compile([]byte(test.schema))
		requireInvalid(t, err, test.says)
		require.NotContains(t, err.Error(), "plugbus:///")
	}
}

// nested returns n levels of a schema that names the one below it twice.
func nested(n int, level string) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/s0","$defs":{`)
	for i := range n {
		fmt.Fprintf(&b, `"s%d":%s,`, i, strings.ReplaceAll(level, "NEXT", fmt.Sprintf(`{"$ref":"#/$defs/s%d"}`, i+1)))
	}
	fmt.Fprintf(&b, `"s%d":{"type":"string"}}}`, n)
	return b.String()
}

// TestBombs shows that a small schema cannot ask for endless work: it is refused
// when it is compiled, or what it would take too long for is (V19).
func TestBombs(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 60 {
		deep = map[string]any{"a": deep, "b": []any{deep}}
		deep = map[string]any{"a": deep.(map[string]any)["a"]}
	}
	for _, test := range []struct {
		schema string
		v      any
		says   string
	}{
		// Refused when compiled.
		{`{"$ref":"#"}`, nil, "refers to itself"},
		{`{"allOf":[{"$ref":"#"}]}`, nil, "refers to itself"},
		{`{"not":{"$ref":"#/$defs/a"},"$defs":{"a":{"anyOf":[true,{"$ref":"#"}]}}}`, nil, "refers to itself"},
		{`{"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"$ref":"#/$defs/c"},"c":{"$ref":"#/$defs/b"}}}`, nil, "refers to itself"},
		{nested(70, `NEXT`), nil, "by way of more than 64 others"},
		{`{"pattern":"((((a{1,100}){1,100}){1,100}){1,100})"}`, nil, "pattern"},
		{`{"pattern":"(a{1,100}){1,9}(b{1,100}){1,9}(c{1,100}){1,9}"}`, nil, "has more than 2000 parts"},
		{`{"patternProperties":{"` + strings.Repeat("a", 1025) + `":{}}}`, nil, "more than 1024 bytes"},
		{`{"pattern":"` + strings.Repeat("a", 1025) + `"}`, nil, "it has 1025 bytes"},
		{strings.Repeat(`{"not":`, 65) + `{}` + strings.Repeat(`}`, 65), nil, "more than 64 levels"},
		{`{"allOf":[` + strings.Repeat(`{},`, 8000) + `{}]}`, nil, "more than 8000 values"},
		{`{"title":"` + strings.Repeat("a", 256<<10) + `"}`, nil, "expected at most 262144"},
		{`{"$defs":{` + strings.Repeat(" ", 10) + manyLong(4) + `}}`, nil, "pointers to its parts"},

		// Refused with the value.
		{nested(30, `{"allOf":[NEXT,NEXT]}`), "x", "too large or nested too deep for this schema"},
		{nested(30, `{"anyOf":[NEXT,NEXT]}`), 1, "too large or nested too deep for this schema"},
		{nested(30, `{"oneOf":[NEXT,NEXT]}`), 1, "too large or nested too deep for this schema"},
		{nested(30, `{"if":NEXT,"then":NEXT,"else":NEXT}`), "x", "too large or nested too deep for this schema"},
		{nested(30, `{"dependentSchemas":{"a":NEXT,"b":NEXT}}`), "x", "too large or nested too deep for this schema"},
		{`{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, deep, "too large or nested too deep for this schema"},
		{`{"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}}}`, deep, "too large or nested too deep for this schema"},
		{`{"pattern":"(a|b){1,400}c"}`, strings.Repeat("ab", 1<<19), "too large or nested too deep for this schema"},
		{`{"items":{"format":"regex"}}`, slices.Repeat([]string{`\pL`}, 100_000), "too large or nested too deep for this schema"},
		{`{"items":{"enum":[` + strings.Repeat("1,", 1000) + `1]}}`, make([]int, 10_000), "too large or nested too deep for this schema"},
		{`{"items":{"type":"string"}}`, make([]int, 1_000_000), "too large to say where"},
		{`{}`, make([]int, 5_000_000), "more than 4000000 values"},

		// Cheap after all.
		{nested(10, `{"allOf":[NEXT,NEXT]}`), "x", ""},
		{`{"anyOf":[{"properties":{"l":{"$ref":"#"},"r":{"$ref":"#"}}},{"type":"string"}]}`, deep, ""},
		{`{"anyOf":[{"type":"object","$ref":"#/$defs/x"},{"type":"array","$ref":"#/$defs/x"},{"type":"string"}],"$defs":{"x":{"additionalProperties":{"$ref":"#"},"items":{"$ref":"#"}}}}`, deep, ""},
		{`{"items":{"type":"integer"},"uniqueItems":true}`, numbers(200_000), ""},
		{`{"pattern":"^a*$"}`, strings.Repeat("a", 1<<20), ""},
		{`{"$ref":"http://json-schema.org/draft-07/schema"}`, deep, ""},
	} {
		s, err := schema.Compile([]byte(test.schema))
		if err == nil {
			err = s.Validate(test.v)
		}
		if test.says == "" {
			require.NoError(t, err, "%.100s", test.schema)
		} else {
			requireInvalid(t, err, test.says)
		}
	}
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// manyLong returns definitions inside each other whose names are long.
func manyLong(n int) string {
	name := strings.Repeat("n", 1000)
	text := `"a":{"allOf":[` + strings.Repeat("{},", 1999) + `{}]}`
	for range n {
		text = `"` + name + `":{"properties":{` + text + `}}`
	}
	return text
}

// TestFloats shows that numbers that JSON cannot carry never reach a limit.
func TestFloats(t *testing.T) {
	t.Parallel()
	s := compile(t, `{"maximum":5}`)
	require.NoError(t, s.Validate(5.0))
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		requireInvalid(t, s.Validate(f), "has no form in JSON")
	}
}

func FuzzSchema(f *testing.F) {
	for _, text := range []string{
		`{"type":"object","properties":{"a":{"$ref":"#"}},"uniqueItems":true}`, `{"$id":"x/","$defs":{"a":{"$anchor":"b"}},"$ref":"#b"}`,
		`{"dependencies":{"a":["b"],"c":{}},"patternProperties":{"^x":false}}`, `{"if":{},"then":{},"oneOf":[{},{"const":1e3}]}`,
		`{"$schema":"http://json-schema.org/draft-04/schema#","id":"http://x/#a","items":[{}]}`,
	} {
		f.Add([]byte(text), []byte(`{"a":{"b":[1,1,"x"]}}`))
	}
	f.Fuzz(func(t *testing.T, text, value []byte) {
		s, err := schema.Compile(text)
		if err != nil {
			requireInvalid(t, err, "invalid schema")
			return
		}
		first := s.Validate(json.RawMessage(value))
		if first != nil {
			requireInvalid(t, first, "invalid value")
		}
		second := s.Validate(json.RawMessage(value))
		require.Equal(t, first == nil, second == nil)
	})
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compile(b, `{"type":"object","required":["path"],"properties":{"path":{"type":"string","maxLength":20},"tags":{"items":{"type":"string"}}}}`)
	}
}

func BenchmarkValidate(b *testing.B) {
	s := compile(b, `{"type":"object","required":["path"],"properties":{"path":{"type":"string","maxLength":20},"tags":{"items":{"type":"string"}}}}`)
	v := struct {
		Path string   `json:"path"`
		Tags []string `json:"tags"`
	}{"README.md", []string{"new", "doc"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Validate(v); err != nil {
			b.Fatal(err)
		}
	}
}
