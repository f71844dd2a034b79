package security_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A checker is as much of JSON Schema as the schema of policies needs. What it
// does not know is a failure of the test.
type checker struct {
	t    testing.TB
	root map[string]any
}

func newChecker(t testing.TB) checker {
	t.Helper()
	c := checker{t: t}
	require.NoError(t, json.Unmarshal(security.Schema(), &c.root))
	return c
}

// resolve follows the reference of a schema.
func (c checker) resolve(schema map[string]any) map[string]any {
	ref, ok := schema["$ref"].(string)
	if !ok {
		return schema
	}
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	require.True(c.t, ok, ref)
	target, ok := c.root["$defs"].(map[string]any)[name].(map[string]any)
	require.True(c.t, ok, ref)
	return target
}

// accepts reports whether the schema accepts a value.
func (c checker) accepts(schema map[string]any, value any) bool {
	if _, ok := schema["$ref"]; ok && !c.accepts(c.resolve(schema), value) {
		return false
	}
	object, _ := value.(map[string]any)
	list, _ := value.([]any)
	text, isText := value.(string)
	number, _ := value.(float64)
	for keyword, want := range schema {
		ok := true
		switch keyword {
		case "$schema", "$defs", "$ref", "title", "description":
		case "type":
			ok = map[string]bool{
				"object": object != nil, "array": list != nil, "string": isText,
				"boolean": value == true || value == false,
				"integer": reflect.TypeOf(value) == reflect.TypeFor[float64]() && number == math.Trunc(number),
			}[want.(string)]
		case "const":
			ok = reflect.DeepEqual(value, want)
		case "enum":
			ok = slices.Contains(want.([]any), value)
		case "minimum":
			ok = number >= want.(float64)
		case "maximum":
			ok = number <= want.(float64)
		case "minLength":
			ok = !isText || utf8.RuneCountInString(text) >= int(want.(float64))
		case "maxLength":
			ok = !isText || utf8.RuneCountInString(text) <= int(want.(float64))
		case "pattern":
			ok = !isText || regexp.MustCompile(want.(string)).MatchString(text)
		case "items":
			for _, item := range list {
				ok = ok && c.accepts(want.(map[string]any), item)
			}
		case "required":
			for _, name := range want.([]any) {
				_, there := object[name.(string)]
				ok = ok && there
			}
		case "minProperties":
			ok = len(object) >= int(want.(float64))
		case "properties":
			for name, property := range want.(map[string]any) {
				if v, there := object[name]; there {
					ok = ok && c.accepts(property.(map[string]any), v)
				}
			}
		case "propertyNames":
			for name := range object {
				ok = ok && c.accepts(want.(map[string]any), name)
			}
		case "additionalProperties":
			properties, _ := schema["properties"].(map[string]any)
			for name, v := range object {
				if _, there := properties[name]; !there {
					other, allowed := want.(map[string]any)
					ok = ok && allowed && c.accepts(other, v)
				}
			}
		case "dependentSchemas":
			for name, then := range want.(map[string]any) {
				if _, there := object[name]; there {
					ok = ok && c.accepts(then.(map[string]any), value)
				}
			}
		case "oneOf":
			n := 0
			for _, option := range want.([]any) {
				if c.accepts(option.(map[string]any), value) {
					n++
				}
			}
			ok = n == 1
		default:
			c.t.Fatalf("the schema has the keyword %q, which this test does not know", keyword)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (c checker) acceptsText(text []byte) bool {
	var value any
	return json.Unmarshal(text, &value) == nil && c.accepts(c.root, value)
}

// TestSchemaFields shows that the schema has the fields that the parser knows,
// no others, and a description of each.
func TestSchemaFields(t *testing.T) {
	c := newChecker(t)
	var same func(path string, typ reflect.Type, schema map[string]any)
	same = func(path string, typ reflect.Type, schema map[string]any) {
		description, _ := schema["description"].(string)
		schema = c.resolve(schema)
		if description == "" {
			description, _ = schema["description"].(string)
		}
		require.NotEmpty(t, description, path)
		switch {
		case typ.Kind() == reflect.Pointer:
			same(path, typ.Elem(), schema)
		case typ == reflect.TypeFor[security.Rule]():
			options, ok := schema["oneOf"].([]any)
			require.True(t, ok, path)
			lists := options[1].(map[string]any)["properties"].(map[string]any)
			require.ElementsMatch(t, []string{"allow", "deny"}, slices.Collect(maps.Keys(lists)), path)
		case typ == reflect.TypeFor[plugbus.Trust](), typ == reflect.TypeFor[plugbus.Priority]():
			require.Contains(t, schema, "enum", path)
			for _, name := range schema["enum"].([]any) {
				into := reflect.New(typ).Interface().(interface{ UnmarshalText(text []byte) error })
				require.NoError(t, into.UnmarshalText([]byte(name.(string))), path)
			}
		case typ.Kind() == reflect.Struct:
			require.Equal(t, false, schema["additionalProperties"], path)
			properties, _ := schema["properties"].(map[string]any)
			var fields []string
			for field := range typ.Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				fields = append(fields, name)
				property, ok := properties[name].(map[string]any)
				require.True(t, ok, "the schema lacks %s.%s", path, name)
				same(path+"."+name, field.Type, property)
			}
			require.ElementsMatch(t, fields, slices.Collect(maps.Keys(properties)), path)
		case typ.Kind() == reflect.Map:
			require.Contains(t, schema, "propertyNames", path)
			same(path+"[]", typ.Elem(), schema["additionalProperties"].(map[string]any))
		case typ.Kind() == reflect.Slice:
			require.Equal(t, "array", schema["type"], path)
			same(path+"[]", typ.Elem(), schema["items"].(map[string]any))
		case path == ".version":
			require.InDelta(t, 1, schema["const"], 0)
		case path == ".plugins[].bridge":
			require.Equal(t, []any{"process"}, schema["enum"])
		default:
			want := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int64: "integer"}
			require.Equal(t, want[typ.Kind()], schema["type"], path)
		}
	}
	same("", reflect.TypeFor[security.Document](), c.root)
}

// TestSchemaExamples shows that the schema accepts the policies that the parser
// accepts, and refuses what a schema can.
func TestSchemaExamples(t *testing.T) {
	c := newChecker(t)
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, c.acceptsText(data), file)
	}
	for _, text := range []string{
		`{}`, `{"version":2}`, `{"version":1,"plugin":{}}`, `{"version":1,"plugins":[]}`,
		`{"version":1,"plugins":{"a.b":{}}}`, `{"version":1,"levels":{"root":{}}}`,
		plugin(`"trsut":"basic"`), plugin(`"trust":"root"`), plugin(`"emit":["x"]`), plugin(`"emit":{}`),
		plugin(`"emit":{"deny":["x"]}`), plugin(`"emit":{"allow":[""]}`), plugin(`"send":{}`), plugin(`"send":{"allow":["a.b"]}`),
		plugin(`"rates":{"messages":{}}`), plugin(`"rates":{"messages":{"limit":-1}}`), plugin(`"rates":{"messages":{"limit":1.5}}`),
		plugin(`"limits":{"wildcards":33}`), plugin(`"limits":{"messageBytes":0}`), plugin(`"priority":"urgent"`),
		plugin(`"bridge":"http"`), plugin(`"networkAccess":false`), plugin(`"dataAccess":{"s":{"admin":true}}`),
		plugin(`"content":{"scripts":true}`), plugin(`"inline":["*"]`),
	} {
		_, err := security.Parse([]byte(text), "")
		require.Error(t, err, text)
		require.False(t, c.acceptsText([]byte(text)), text)
	}
}

// TestSchemaNumbers shows that the ranges of the schema are those of the parser.
func TestSchemaNumbers(t *testing.T) {
	c := newChecker(t)
	ranges := 0
	for name, format := range map[string]string{
		"limits": `"limits":{%q:%d}`,
		"rate":   `"rates":{"bytes":{"limit":1,%q:%d}}`,
	} {
		schema := c.root["$defs"].(map[string]any)[name].(map[string]any)
		for field, property := range schema["properties"].(map[string]any) {
			least, ok := property.(map[string]any)["minimum"].(float64)
			if !ok {
				continue
			}
			most := property.(map[string]any)["maximum"].(float64)
			ranges++
			if field == "limit" { // it is in the format already
				format = `"rates":{"bytes":{%q:%d}}`
			}
			for value, want := range map[int64]bool{int64(least) - 1: false, int64(least): true, int64(most): true, int64(most) + 1: false} {
				text := plugin(fmt.Sprintf(format, field, value))
				_, err := security.Parse([]byte(text), "")
				require.Equal(t, want, err == nil, "%s: %v", text, err)
				require.Equal(t, want, c.acceptsText([]byte(text)), text)
			}
			if name == "rate" {
				format = `"rates":{"bytes":{"limit":1,%q:%d}}`
			}
		}
	}
	require.Equal(t, 10, ranges)
}

// TestSchemaIsACopy shows that nobody can change the schema for others.
func TestSchemaIsACopy(t *testing.T) {
	security.Schema()[0] = 'x'
	require.Equal(t, byte('{'), security.Schema()[0])
}
