package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/plugbus/plugbus"
)

var (
	// ErrClosed is returned by every call of a DB that was closed, or of a client
	// that has left. It matches [plugbus.ErrClosed].
	ErrClosed = fmt.Errorf("%w", plugbus.ErrClosed)

	// ErrNotFound matches the error of reading a key that is not there, and of
	// opening a store that is not there, for those who may create it.
	ErrNotFound = errors.New("not found")

	// ErrExists matches the error of creating a store or a key that is there: of
	// [Client.Create] and [View.Create].
	ErrExists = errors.New("it exists already")

	// ErrConflict matches every [*ConflictError].
	ErrConflict = errors.New("conflict")

	// ErrDropped matches the error of every call on a store that was dropped.
	ErrDropped = errors.New("the store was dropped")

	// ErrQuota matches every [*QuotaError].
	ErrQuota = errors.New("quota exceeded")

	// ErrRejected matches the error of a write that a validator or a schema does not
	// accept.
	ErrRejected = errors.New("rejected")

	// ErrNoValidator matches the error of a write to a store whose validator is a
	// function of a plugin that has not joined, or has not set it again.
	ErrNoValidator = errors.New("the validator is away")

	// ErrBusy matches the error of a call for which a bounded queue has no room.
	ErrBusy = errors.New("busy")

	// ErrNotPersistent matches the error of creating a persistent store where there
	// is no backend, or of backing one up.
	ErrNotPersistent = errors.New("there is no place for persistent stores")

	// ErrReadOnly matches the error of writing to persistent stores after a commit
	// failed. They can be read; to write again, close the DB and open it anew.
	ErrReadOnly = errors.New("read-only since a commit failed")

	// ErrNotDone matches the error of a write that was begun and will never be seen.
	ErrNotDone = errors.New("not done")

	// ErrUnknown matches the error of a write that was begun, and of which it is
	// unknown whether it will be seen.
	ErrUnknown = errors.New("unknown whether it was done")

	// ErrTxDone is returned by the methods of a [Tx] after its function has returned.
	ErrTxDone = errors.New("the transaction has ended")

	// ErrTimedOut is the failure of a watcher or validator that did not return in its
	// time.
	ErrTimedOut = errors.New("it did not return in time")

	// ErrGoexit is the failure of a watcher or validator that ended its goroutine by
	// runtime.Goexit, as the Fatal methods of package testing do.
	ErrGoexit = errors.New("it ended its goroutine (runtime.Goexit)")
)

// A KeyError reports an act on one key that failed. It matches what Err does.
type KeyError struct {
	Plugin string
	Act    string // such as "get"
	Store  string
	Key    string
	Err    error
}

// Error says who did what.
func (e *KeyError) Error() string {
	why := inside(e.Err)
	if c, ok := e.Err.(*ConflictError); ok { //nolint:errorlint // One that is wrapped has more to say.
		why = "conflict: " + c.problem()
	}
	return fmt.Sprintf("plugin %q: %s %q of store %q: %s", e.Plugin, e.Act, e.Key, e.Store, why)
}

// Unwrap returns why it failed.
func (e *KeyError) Unwrap() error { return e.Err }

// A StoreError reports an act on a store that failed. It matches what Err does.
type StoreError struct { //nolint:revive // It is about a store, as KeyError is about a key.
	Plugin string
	Act    string // such as "create"
	Store  string
	Err    error
	Hint   string // what to do
}

// Error says who did what, and what to do.
func (e *StoreError) Error() string {
	s := fmt.Sprintf("plugin %q: %s store %q: %s", e.Plugin, e.Act, e.Store, inside(e.Err))
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns why it failed.
func (e *StoreError) Unwrap() error { return e.Err }

// inside returns the text of an error for one that says already whose store it is.
func inside(err error) string {
	switch e := err.(type) { //nolint:errorlint // One that is wrapped has more to say.
	case *ConflictError:
		return fmt.Sprintf("conflict on key %q: %s", e.Key, e.problem())
	case *CommitError:
		return e.problem()
	}
	const ours = "store: "
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), ours), "\n"+ours, "\n")
}

// A ConflictError reports a key that is not as a write expected it. It matches
// [ErrConflict], and [ErrExists] if it is of [View.Create].
type ConflictError struct {
	Store string
	Key   string // of a range in a transaction, the first key that has changed

	Expected, Actual uint64 // revisions; 0 means no entry

	create bool // it is of Create
}

// Error names the key, says how it is, and what to do.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict on key %q of store %q: %s", e.Key, e.Store, e.problem())
}

func (e *ConflictError) problem() string {
	const anew = "read it again and decide anew"
	switch {
	case e.create:
		return fmt.Sprintf("there is an entry already; use Set, or Update with revision %d", e.Actual)
	case e.Expected == 0:
		return fmt.Sprintf("no entry was expected, but there is one of revision %d; %s", e.Actual, anew)
	case e.Actual == 0:
		return fmt.Sprintf("revision %d was expected, but there is no entry; to make it anew, use Create", e.Expected)
	}
	return fmt.Sprintf("revision %d was expected, but it is %d; %s", e.Expected, e.Actual, anew)
}

// Is reports whether target is [ErrConflict], or [ErrExists] where it fits.
func (e *ConflictError) Is(target error) bool {
	return target == ErrConflict || target == ErrExists && e.create
}

// A QuotaError reports what a write would have exceeded. It is the cause of a
// [*plugbus.DeniedError], and matches [ErrQuota].
type QuotaError struct {
	Store string
	Quota string // such as "keys of the store"
	Limit int64
	Would int64 // what it would have become, or 0 if that would tell of stores of others
}

// Error names the quota.
func (e *QuotaError) Error() string {
	s := fmt.Sprintf("store %q: the %s may be at most %d", e.Store, e.Quota, e.Limit)
	if e.Would != 0 {
		s += fmt.Sprintf(", and would be %d", e.Would)
	}
	return s
}

// Is reports whether target is [ErrQuota].
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// A RejectedError reports a write that a validator or a schema does not accept. It is
// the cause of a [*plugbus.DeniedError], and matches [ErrRejected].
type RejectedError struct {
	Store string
	Key   string // if it is one key's fault
	Err   error  // of a schema, or a *plugbus.RemoteError of the owner
}

// Error says what was rejected, and why.
func (e *RejectedError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("store %q does not accept this value of %q: %v", e.Store, e.Key, e.Err)
	}
	return fmt.Sprintf("store %q does not accept this write: %v", e.Store, e.Err)
}

// Unwrap returns why.
func (e *RejectedError) Unwrap() error { return e.Err }

// Is reports whether target is [ErrRejected].
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// A CommitError reports a write that was begun and did not end well. It matches
// [ErrNotDone] or [ErrUnknown], which says what is known of it.
type CommitError struct {
	Store   string
	Outcome error // ErrNotDone or ErrUnknown
	Err     error // why
}

// Error says what is known.
func (e *CommitError) Error() string {
	return fmt.Sprintf("commit to store %q: %s", e.Store, e.problem())
}

func (e *CommitError) problem() string { return fmt.Sprintf("%v: %v", e.Outcome, e.Err) }

// Unwrap returns what is known, and why.
func (e *CommitError) Unwrap() []error { return []error{e.Outcome, e.Err} }

// A DamageError reports content of a backend that is not what a DB wrote. Nothing of
// the backend is changed then.
type DamageError struct {
	Bucket, Key string
	Problem     string
}

// Error says what is damaged, and where.
func (e *DamageError) Error() string {
	return fmt.Sprintf("store: the backend is damaged at %q in bucket %q: %s; restore a backup", e.Key, e.Bucket, e.Problem)
}

// A PanicError reports a watcher or validator that panicked.
type PanicError struct {
	Value string // at most plugbus.MaxTextBytes
	Stack string
}

// Error says what the panic was about.
func (e *PanicError) Error() string { return "it panicked: " + e.Value }

// Error says what was given, and what was expected.
func (e *OptionError) Error() string {
	return fmt.Sprintf("store: %s is %v; expected %s", e.Option, e.Got, e.Want)
}

// Is reports whether target is [plugbus.ErrInvalid].
func (e *OptionError) Is(target error) bool { return target == plugbus.ErrInvalid }
