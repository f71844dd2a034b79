package events

import (
	"errors"
	"fmt"

	"github.com/plugbus/plugbus"
)

var (
	// ErrClosed is returned by every call of a bus that was closed, or of a
	// client that has left. It matches [plugbus.ErrClosed].
	ErrClosed = fmt.Errorf("events: %w", plugbus.ErrClosed)

	// ErrNilHandler is returned by Subscribe without a handler. It matches
	// [plugbus.ErrInvalid].
	ErrNilHandler = fmt.Errorf("events: the handler is nil: %w", plugbus.ErrInvalid)

	// ErrGoexit is the failure of a handler or filter that ended its goroutine
	// by runtime.Goexit, as the Fatal methods of package testing do.
	ErrGoexit = errors.New("events: the handler ended its goroutine (runtime.Goexit)")

	// ErrTimedOut is the failure of a handler that did not return within its
	// [Timeout].
	ErrTimedOut = errors.New("events: the handler did not return in time")

	// ErrNoRoom is returned by an Emit with [WaitForRoom] whose wait ended
	// before there was room.
	ErrNoRoom = errors.New("events: no room in a queue of a subscriber")
)

// A PanicError is the failure of a handler or filter that panicked.
type PanicError struct {
	Value string // what it panicked with, as text of at most MaxTextBytes
	Stack string // of the goroutine, at the panic
}

// Error says what the handler panicked with.
func (e *PanicError) Error() string { return "events: the handler panicked: " + e.Value }

// An OptionError reports an option out of its range. It matches
// [plugbus.ErrInvalid].
type OptionError struct {
	Option string // such as "Buffer"
	Got    any
	Want   string // such as "1 to 1048576"
}

// Error says what the option was and what it may be.
func (e *OptionError) Error() string {
	return fmt.Sprintf("events: option %s is %v; expected %s", e.Option, e.Got, e.Want)
}

// Is reports whether target is [plugbus.ErrInvalid].
func (e *OptionError) Is(target error) bool { return target == plugbus.ErrInvalid }

// A TruncatedError is the element of a [Client.Replay] that says that the history
// cannot answer in full: events that were asked for have been evicted.
type TruncatedError struct {
	After uint64 // events after this Seq were asked for
	Lost  uint64 // the highest Seq among those known to be gone
}

// Error says what is gone.
func (e *TruncatedError) Error() string {
	return fmt.Sprintf("events: the history no longer holds all events after %d: some up to %d are gone", e.After, e.Lost)
}

// A CloseError reports what a client had not done when its time to close was
// over. It matches the error of the context that ended.
type CloseError struct {
	Client    string
	Cancelled int // events that waited
	Abandoned int // handlers that still ran
	Err       error
}

// Error says what was not done.
func (e *CloseError) Error() string {
	return fmt.Sprintf("events: close client %q: events cancelled: %d, handlers abandoned: %d: %v", e.Client, e.Cancelled, e.Abandoned, e.Err)
}

// Unwrap returns why there was no more time.
func (e *CloseError) Unwrap() error { return e.Err }
