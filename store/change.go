package store

import (
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
)

// A Kind says what a [Change] is.
type Kind uint8

// The kinds. The last five are not about one key, and say how the watch fares.
const (
	Set     Kind = iota + 1 // the key has a new value
	Deleted                 // the key was deleted
	Expired                 // the key's time was over
	Current                 // the key has this value; part of a snapshot

	Synced    // the snapshot was complete, as of Revision; changes follow
	Lagged    // Lost changes are missing, since they came faster than the watch took them
	Truncated // the revision from which the watch was to go on is too old; a snapshot follows
	Revoked   // the plugin may no longer read the store: the last change
	Dropped   // the store was dropped: the last change
)

var kindNames = [...]string{
	Set: "set", Deleted: "deleted", Expired: "expired", Current: "current", Synced: "synced",
	Lagged: "lagged", Truncated: "truncated", Revoked: "revoked", Dropped: "dropped",
}

// String returns the kind in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MarshalText returns what String returns.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A Change is what a watch tells. It is immutable.
type Change struct {
	kind     Kind
	store    string
	key      string
	entry    Entry
	old      Entry
	revision uint64
	at       int64
	writer   string
	lost     uint64
	led      plugbus.Chain
}

// Kind says what the change is.
func (c Change) Kind() Kind { return c.kind }

// Store returns the name of the store.
func (c Change) Store() string { return c.store }

// Key returns the key, or "" for a change that is not about one.
func (c Change) Key() string { return c.key }

// Entry returns what the key has now, for Set and Current. Otherwise it does not exist.
func (c Change) Entry() Entry { return c.entry }

// Old returns what the key had before, for Set, Deleted and Expired: that of the
// revision before. It does not exist if there was none, and for a Current.
func (c Change) Old() Entry { return c.old }

// Revision returns the number of the change, which grows from one change of a store to
// the next. For Synced it is that of the snapshot, for Lagged that of the last change
// that is missing. To go on later, give it to [After].
func (c Change) Revision() uint64 { return c.revision }

// Time returns when the change was made, or the zero time if it is not about a key.
func (c Change) Time() time.Time { return timeOf(c.at) }

// Writer returns the id of the plugin that made the change. It is "" if time did.
func (c Change) Writer() string { return c.writer }

// Lost returns how many changes of the store are missing, for Lagged. Some of them may
// not have concerned the watch.
func (c Change) Lost() uint64 { return c.lost }

// Chain returns the plugins that led to the change, its writer the last.
func (c Change) Chain() plugbus.Chain { return c.led }

// String says what changed, without values.
func (c Change) String() string {
	if c.key == "" {
		return fmt.Sprintf("%s of store %q at %d", c.kind, c.store, c.revision)
	}
	return fmt.Sprintf("%s %q of store %q at %d", c.kind, c.key, c.store, c.revision)
}
