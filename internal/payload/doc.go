// Package payload keeps the promise of frozen payloads: what the door checked is
// what everyone gets, for ever.
//
//	frozen, size, err := payload.Freeze(data, &permit.Payload) // at the door
//	data = payload.Thaw(frozen)                                 // for each recipient
//
// # Copies
//
// [Freeze] makes a private copy that no plugin holds, and [Thaw] gives each
// recipient one of its own. A value whose type holds no references passes as it
// is, without an allocation; so do strings (of any bytes, UTF-8 or not), and
// [time.Time], [netip.Addr], [netip.AddrPort], [netip.Prefix] and [plugbus.Chain]
// with the types that are defined as one of them. Slices, maps, pointers, and
// what interfaces hold, are copied all the way down. A nil stays nil. Each
// reference leads to a copy of its own: two pointers to one value become pointers
// to two.
//
// No method of a payload runs. A type with a MarshalJSON, String or Error is
// copied as the kind that it is.
//
// # What is refused
//
// A refusal is an [*Error] with the path to the place, such as
// payload.Items[3].Done, which never shows a value or the key of a map.
//
//   - Functions, channels, contexts, unsafe pointers, and the handles of the hub:
//     they are no data, and are refused under plugbus.Shared too, as far as the
//     type of the value shows them. What interfaces and sync.Maps hold there is
//     not looked at, for others may be writing to it.
//   - Locks and atomic values, which must not be copied.
//   - An unexported field that holds references, which reflection cannot copy.
//     Unexported numbers and strings are copied with their struct, and so are the
//     exported fields of an embedded struct.
//   - A type whose structs and arrays lie more than 64 deep inside each other.
//   - NaN and infinities, which JSON cannot carry.
//   - A value that contains itself.
//   - plugbus.Shared inside a payload, or without a grant.
//
// A refusal for its type comes before anything at that place is read. A payload
// with several faults is refused for the one that is met first, and maps have no
// order; whether it is refused does not depend on that.
//
// # Size and budgets
//
// The size of a payload is the memory that its copy takes: structs and arrays
// count their own size, strings their bytes, slices and maps their elements, and
// every string, slice, map, pointer or interface in another value also its header.
// The reference that is the payload itself counts nothing, so a string of n bytes
// has the size n. The name of a time zone counts too, unless it is in an
// unexported field. What the runtime adds, such as the buckets of a map, does not;
// nor does what a value that passes as it is keeps in memory: the larger string
// from which a substring was cut, the table of a time zone.
//
// Three budgets bound the walk, and each is asked before the memory or the time
// that it bounds is spent: the size; the nodes, which are the values of the
// payload with all nested ones, except that numbers and booleans in an array or a
// slice are not counted one by one, since the size bounds them; and the depth,
// which is how many pointers, slices and maps lie inside each other, and, where an
// interface holds them, structs and arrays that hold references. A MaxDepth over
// 10,000 is taken as 10,000, for Go cannot recover from a full stack.
//
// # Content checks
//
// Every string and every slice of bytes of the copy is inspected, map keys
// included, as decoded text. A byte array is not, nor is the zone of a time or an
// address in an unexported field. The checks are:
//
//   - script: "<script", followed by white space, a '/', a '>' or the end of the
//     text.
//   - scheme: "javascript:" at the beginning of the text, or after a quote, a
//     backquote or a '='. White space and control characters are ignored in
//     front of it, between its letters and in front of the colon.
//   - attribute: inside a tag, an attribute whose name is "on" and one or more
//     letters, followed by a '=', with or without white space around it. A tag is
//     what a browser would read as one: it begins with a '<' and a letter, and
//     ends with a '>' that is not inside a quoted value, or with the text. A '<'
//     and a letter begin a tag anywhere, even inside another tag's value: in a
//     comment or a text area its quotes are none, and srcdoc holds a page.
//
// Letters are those of ASCII, in either case: browsers fold no other letters here,
// so that U+017F is no s. White space is that of HTML.
//
// [Scan] goes through a text a fixed number of times, whatever the text is. One
// MiB of prose or JSON takes less than 0.1 ms, one of HTML 3 ms, and the worst
// that we found, tags whose values are '<', 8 ms (BenchmarkScan).
//
// The checks are a tripwire and not output encoding. In testdata, they
// refuse 9 of 65 ordinary texts and miss 12 of 73 attacks: among the attacks,
// those that are encoded once more, that break out of an attribute which the text
// does not show, or that need neither script, scheme nor attribute.
//
// # Callers
//
// The sender must not change a payload while Freeze runs, as with every read in
// Go. If it does, what was inspected is still what is delivered, but for what no
// program can guard against: Go ends the process when a map is written to while it
// is read, and half of an old string, slice or interface with half of a new one
// may lead anywhere. Nor does a copy protect from a program that overwrites a
// [time.Location]: every time in that zone changes with it, as all local times do
// with time.Local.
//
// All functions may be called by several goroutines at once. Plans for copying are
// made once for each type and kept in a cache of the process, which is bounded.
package payload
