// Package typed is the typed edge of an untyped bus: it turns a payload into the
// type that a plugin asked for.
//
//	file, err := typed.As[File](`event "files.added"`, data)
//
// A value of that type passes as it is. JSON in a json.RawMessage or a []byte is
// decoded strictly: no field unknown, no key twice, nothing after the value.
// Everything else is a [*plugbus.TypeError] that names both types. No method of
// a value that passes as it is runs.
package typed
