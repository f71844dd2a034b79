package security

import _ "embed" // for the schema

//go:embed policy.schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of a policy file, for editors
// and for checks without Go. It is a little more lenient than [Parse], which
// alone decides.
func Schema() []byte { return []byte(schema) }
