// Package schema checks values against a JSON Schema that somebody else wrote,
// at a bounded cost.
//
//	s, err := schema.Compile([]byte(`{"type": "object", "required": ["path"]}`))
//	if err != nil {
//		return err // says where, and what is wrong
//	}
//	err = s.Validate(request)
//
// # Schemas
//
// Drafts 4, 6, 7, 2019-09 and 2020-12 are read, the latest where $schema does not
// say. Formats are checked. The text is JSON without a key twice. Nothing is ever
// loaded: a $ref leads to a place in the same schema or to a published
// meta-schema. $dynamicRef and $recursiveRef, which only extensible schemas need,
// are refused; so is a schema that refers to itself without going into the value,
// for such a check would never end.
//
// # Values
//
// [Schema.Validate] takes any Go value that package payload lets through, and
// looks at it as encoding/json would show it: structs by their json tags, slices
// of bytes as base64, a json.RawMessage as the JSON in it, which is read strictly.
// No method of the value runs. Values of the types [time.Time], [netip.Addr],
// [netip.AddrPort], [netip.Prefix] and [uuid.UUID] count as text; those of any
// other type with a MarshalJSON or MarshalText count as the kind that they are,
// and so does a struct that embeds one of these.
//
// # Cost
//
// A small schema can ask for very much work: one that names another twice, which
// names another twice, and so on. What a schema asks for at most of a value of
// each depth is computed when it is compiled, so a value for which that is too
// much is refused before any work is done. Texts, numbers, patterns and schemas
// have limits of their own.
//
// # Errors
//
// Every error is an [*Error], and matches plugbus.ErrInvalid.
package schema
