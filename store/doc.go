// Package store keeps named key-value spaces that plugins share, with permissions,
// revisions, transactions and watches, in memory and on disk.
//
//	db, err := store.Open(store.Options{}) // in memory; with a Backend, also on disk
//	indexer, err := db.Client("indexer", store.ClientOptions{})
//	reader, err := db.Client("reader", store.ClientOptions{})
//
//	words, err := indexer.Create(ctx, "words", store.Config{Read: []string{"reader"}})
//	entry, err := words.Set(ctx, "plug", []byte("7"))
//
//	view, err := reader.Open(ctx, "words")
//	entry, err = view.Get(ctx, "plug")
//	fmt.Println(entry.Text(), entry.Revision(), entry.Writer()) // 7 1 indexer
//
// A hub makes the DB and its clients; plugins use the methods of the client on their
// session. A DB without a hub allows what the lists of its stores allow: see
// [plugbus.Guard].
//
// # Stores
//
// A store belongs to the plugin that made it, and outlives it; [Client.Ensure] finds it
// again, or makes it. It has a name, with the
// grammar of event names, and keys with the grammar of package topic: 1 to 512 bytes of
// UTF-8 without control characters. Values are bytes, so that they mean the same in
// memory and on disk; [Typed] makes them values of a Go type, as JSON or by another
// [Codec]. An [Entry] is immutable, and its Value is a copy.
//
// Plugins hold views that are bound to them, never the store. A view asks at each call
// whether the plugin may, so it can be kept.
//
// # Access
//
// An act needs the right that the host's policy gives, and that which the store's own
// lists give: the owner, and the lists of those who may read, write and administer. The
// owner always has all rights; an empty list means the owner alone; an admin may do what
// the owner may, but for [View.SetValidator]. Watching is reading; [View.Grant],
// [View.Revoke], [View.Access] and [View.Drop] need the policy's right to write and the
// list's to administer. Each call is an act for the policy's rates, and what is written
// is copied, measured and inspected as a message is, with the strings inside JSON. To
// those who may not create a store, one that is not there and one that they may not use
// look alike. Whoever may write hears by conflicts which keys there are, and of what
// revision; and nobody hears the id of an owner of whom the policy lets him not know.
//
// # Writing
//
// The writes to a store are serialised. Each change of a key has a revision, one more
// than the change before it in that store, and revisions do not go back: not when a key
// is deleted, nor when the process dies, nor when the store is dropped and made again.
// [View.Set] takes the last word; [View.Create] and [View.Update] fail with a
// [*ConflictError] if the key is not as expected. [View.Txn] reads and writes several
// keys: all that it read is still so when all that it wrote is done, or nothing is done.
//
// A store can have a JSON Schema, which is checked in the call of the writer at a bounded
// cost, and a [Validator], a function of the owner that is asked on the owner's worker
// before the write can be seen, and asked again if what it saw has changed meanwhile.
// A store with a validator takes no writes while its owner is away, or may not read it. A
// validator that panics, or does not return in its time, rejects the write.
//
// Entries can have a lifetime. When it is over nobody sees them, and [Expired] tells the
// watches. Keys, values, stores and watches have quotas, for each store, for each owner
// and for the whole DB; what is over one is refused with a [*QuotaError].
//
// # Watching
//
// [View.Watch] calls a function on the plugin's worker for each change of the keys that
// a pattern matches, in the order of revisions, with the value before it. It can begin
// with a snapshot, or go on after a revision: without a gap, and nothing twice. No write
// waits for a watch: the store keeps a bounded history of changes, and a watch that is
// slower gets [Lagged] with the number of those it missed, or with [Latest] the latest
// change of each key. The right to read is asked for at each change; a watch whose plugin
// may no longer read ends with [Revoked], and nobody sees a value that was overwritten
// before he could read it. A change carries the chain of plugins that led to it, so that
// watchers which write in a circle are stopped where the chain is too deep; so does an
// expiry.
//
// # Taking over
//
// A client that is made with ClientOptions.Held is to take the place of the one with its
// id: it reads and writes beside it, and [Client.Succeed] gives it the place in one step.
// In each store the watches of the old one then end, and those of the new one begin, at
// one revision. The validators of the old one decide until it is closed, and those of the
// new one from then on. [Client.Settle] has the functions of the new one called.
//
// # Durability
//
// A persistent store is kept on the [Backend] of the DB. When a write to it has returned
// nil, it survives the death of the process; how far beyond that is the backend's matter.
// Reads come from memory, and see nothing that is not durable. Writers that come while
// the backend syncs share the next sync. If a commit fails, its writers get an error that
// matches [ErrNotDone] or [ErrUnknown], and the persistent stores are read-only from then
// on, with [ErrReadOnly]; what could be read can still be read. A caller whose context
// ends while the backend works gets [ErrUnknown].
//
// What is loaded is verified: each value has a checksum of its place and content, and each
// store a sum over its entries. If anything is wrong, [Open] says where, and changes
// nothing.
//
// # Time
//
// Times are those of the DB's clock, which follows the wall clock of the moment at which
// it was made; so lifetimes do not follow a wall clock that is set meanwhile, and go on by
// the wall clock when the DB is opened again.
package store
