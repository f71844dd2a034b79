package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/internal/strictjson"
)

type order struct {
	ID    int    `json:"id"`
	Lines []line `json:"lines"`
}

type line struct {
	SKU string `json:"sku"`
}

func TestDecode(t *testing.T) {
	for _, test := range []struct{ text, problem string }{
		{`{"id": 1, "lines": [{"sku": "a"}, {"sku": "b"}]}`, ""},
		{` {"lines": null} `, ""},
		{`{}`, ""},

		{`{"id": 1, "id": 2}`, `"id" stands twice`},
		{`{"id": 1, "ID": 2}`, `"ID" stands twice`}, // one field to encoding/json
		{`{"id": 1, "\u0069d": 2}`, `"id" stands twice`},
		{`{"lines": [{"sku": "a", "ſku": "b"}]}`, `"ſku" stands twice`}, // likewise
		{`{"lines": [{"sku": "a"}, {"sku": "a", "Sku": "b"}]}`, `"Sku" stands twice`},

		{`{"id": 1, "name": "x"}`, "unknown field"},
		{`{"id": "1"}`, "cannot unmarshal"},
		{`{"id": 1} {}`, "more after the value"},
		{`{"id": 1} x`, "more after the value"},
		{`{"id": 1}]`, "more after the value"},
		{`{"id": 1`, "unexpected EOF"},
		{`[`, "unexpected EOF"},
		{``, "unexpected EOF"},
		{`{"id"}`, "invalid character"},
		{strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "nested more than 1000 levels"},
	} {
		var o order
		err := strictjson.Decode([]byte(test.text), &o)
		if test.problem == "" {
			require.NoError(t, err, test.text)
		} else {
			require.ErrorContains(t, err, test.problem, test.text)
		}
	}
}

// FuzzDecode holds that what passes is what encoding/json makes of it, and that what
// passes is what the naive definition lets pass.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{`{"a":[1,{"b":null}]}`, `[]`, `1e9`, `"x"`, `{"a":1,"a":2}`, `{`, `[1]]`, `{"k":1,"\u212a":2}`, `{"\ud800":1,"\ufffd":2}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, lenient any
		err := strictjson.Decode(data, &strict)
		require.Equal(t, naiveStrict(string(data)), err == nil || outOfRange(data), "%q: %v", data, err)
		if err != nil {
			return
		}
		require.NoError(t, json.Unmarshal(data, &lenient))
		require.Equal(t, lenient, strict)
	})
}

// outOfRange reports whether the only thing wrong with a text is that a number in it is
// too large for a float64, which is a question of what it is decoded into.
func outOfRange(data []byte) bool {
	var raw json.RawMessage
	return strictjson.Decode(data, &raw) == nil && json.Unmarshal(data, new(any)) != nil
}
