package schema

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// unique is the keyword uniqueItems. The library's own compares in pairs what
// has one hash, and whoever knows the hash can choose items that all have it.
type unique struct{}

// Validate implements jsonschema.SchemaExt.
func (unique) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, _ := v.([]any)
	seen := make(map[string]int, len(items))
	for i, item := range items {
		key := string(appendCanonical(nil, item))
		if first, twice := seen[key]; twice {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{first, i}})
			return
		}
		seen[key] = i
	}
}

// appendCanonical appends a text that two values share only if they are equal as
// JSON.
func appendCanonical(to []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return strconv.AppendQuote(to, v)
	case []any:
		to = append(to, '[')
		for _, elem := range v {
			to = append(appendCanonical(to, elem), ',')
		}
		return append(to, ']')
	case map[string]any:
		to = append(to, '{')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			to = append(strconv.AppendQuote(to, key), ':')
			to = append(appendCanonical(to, v[key]), ',')
		}
		return append(to, '}')
	}
	text := fmt.Sprint(v)
	if number, ok := new(big.Rat).SetString(text); ok {
		text = number.RatString()
	}
	return append(to, text...)
}
