// Package store will keep named key-value spaces that plugins share, with
// permissions, revisions and watches. It holds no code yet; this page is the
// contract that it will be written to.
//
// # Values
//
// Values will be bytes, so that memory, disk and network mean the same by them;
// a typed view will encode JSON. Reading will return a copy. An entry will know
// its key, value, revision, writer, time and expiry.
//
// # Writing
//
// Writes to one store will be serialised and numbered. There will be set, create
// only, update of a given revision, delete, and transactions across keys that
// happen wholly or not at all. A validator, which is a function or a JSON Schema,
// will see the proposed value before it is committed, and can reject it. Sizes,
// keys and lifetimes will have limits.
//
// # Watching
//
// A watch will match keys by a pattern. It can begin with a snapshot and will go
// on with the changes, without a gap, in the order of the revisions. What a
// watcher may not read will not reach it. One that lags will be told so, or get
// the latest value of each key; it will delay no writer.
//
// # Access
//
// Plugins will hold views that are bound to them, never the store. Access will be
// what the host's policy and the store's own lists both allow. The owner, which
// is whoever created the store, will always administer it. A store will outlive
// the session that created it.
//
// # Durability
//
// A write to a persistent store that returned nil will survive the death of the
// process. A file that is damaged will not be opened, and not be overwritten.
package store
