package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
)

var (
	// ErrClosed is returned by every call of a router that was closed, or of a
	// client that has left. It matches [plugbus.ErrClosed].
	ErrClosed = fmt.Errorf("router: %w", plugbus.ErrClosed)

	// ErrUnknownTarget matches the error of a message to a plugin that has not
	// joined, or is leaving.
	ErrUnknownTarget = errors.New("router: no such plugin")

	// ErrNoHandler matches the error of a message of a type that the recipient
	// does not handle.
	ErrNoHandler = errors.New("router: the plugin has no handler for this type")

	// ErrQueueFull matches the error of a message for which the recipient's
	// mailbox has no room.
	ErrQueueFull = errors.New("router: the mailbox is full")

	// ErrTargetLeft matches the error of a message whose recipient left before
	// it had replied.
	ErrTargetLeft = errors.New("router: the plugin has left")

	// ErrTimedOut is the failure of a handler that did not return within its
	// [Timeout].
	ErrTimedOut = errors.New("router: the handler did not return in time")

	// ErrIdle is the failure of a stream one side of which waited too long for
	// the other.
	ErrIdle = errors.New("router: the stream was idle for too long")

	// ErrGoexit is the failure of a handler that ended its goroutine by
	// runtime.Goexit, as the Fatal methods of package testing do.
	ErrGoexit = errors.New("router: the handler ended its goroutine (runtime.Goexit)")

	// ErrDuplicate matches the error of a message that [Deduplicate] dropped.
	ErrDuplicate = errors.New("router: a message with this client id was sent already")

	// ErrHandlerExists matches the error of Handle for a type that the plugin
	// handles already.
	ErrHandlerExists = errors.New("router: the plugin handles this type already")

	// ErrNoLetter matches the error of calls about a dead letter that is not
	// there.
	ErrNoLetter = errors.New("router: no such dead letter")
)

// A misfit is the error of a message that is handled, but not so.
type misfit string

func (e misfit) Error() string { return "router: " + string(e) }

func (e misfit) Is(target error) bool { return target == ErrNoHandler }

const (
	errIsStream   misfit = "the plugin replies to this type with a stream; use Stream"
	errIsNoStream misfit = "the plugin replies to this type once; use Send or Post"
)

// A SendError reports a message that was not accepted. It matches
// [ErrUnknownTarget], [ErrNoHandler] or [ErrQueueFull].
type SendError struct {
	From, To string
	Type     string // or the topic
	Err      error
	Hint     string // what to do
}

// Error says what was sent to whom, why not, and what to do.
func (e *SendError) Error() string {
	s := fmt.Sprintf("plugin %q sends %q to %q: %v", e.From, e.Type, e.To, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns why the message was not accepted.
func (e *SendError) Unwrap() error { return e.Err }

// A DeliveryError reports a message that was accepted and has no reply. It
// matches the cause: the error of the caller's context, [context.DeadlineExceeded]
// for the default deadline, [ErrTargetLeft], [ErrTimedOut], [ErrIdle],
// [ErrNoHandler], or [plugbus.ErrDenied] if the policy changed meanwhile.
type DeliveryError struct {
	From, To string
	Type     string

	// Outcome is how the delivery ended, or zero if the caller did not wait for
	// that.
	Outcome plugbus.Outcome

	// Started says that the handler had started: what it does may have been
	// done.
	Started bool

	// After is how long the caller waited.
	After time.Duration

	Err error
}

// Error says what became of the message.
func (e *DeliveryError) Error() string {
	state := "its handler had not started"
	if e.Started {
		state = "its handler had started, so its work may yet be done"
	}
	return fmt.Sprintf("plugin %q sends %q to %q: no reply after %v; %s: %v",
		e.From, e.Type, e.To, e.After.Round(time.Millisecond), state, e.Err)
}

// Unwrap returns the cause.
func (e *DeliveryError) Unwrap() error { return e.Err }

// A PanicError is the failure of a handler or middleware that panicked.
type PanicError struct {
	What  string // "the handler", or which middleware
	Value string // what it panicked with, as text of at most MaxTextBytes
	Stack string // of the goroutine, at the panic
}

// Error says what it panicked with.
func (e *PanicError) Error() string { return "router: " + e.What + " panicked: " + e.Value }

// A MiddlewareError is the Cause of a refusal for which the middleware itself is to
// blame, and neither the message nor its sender: it panicked, ended its goroutine, or
// did what no middleware may.
type MiddlewareError struct{ Err error }

// Error says what the middleware did.
func (e *MiddlewareError) Error() string { return e.Err.Error() }

// Unwrap returns what the middleware did, such as a [*PanicError].
func (e *MiddlewareError) Unwrap() error { return e.Err }

// A returnedError is an error that a handler returned, with its text as it was read
// once: to ask for it again may give another, a panic, or no end.
type returnedError struct{ err, text error }

func (e *returnedError) Error() string { return e.text.Error() }
func (e *returnedError) Unwrap() error { return e.err }

// An OptionError reports an option out of its range. It matches
// [plugbus.ErrInvalid].
type OptionError struct {
	Option string // such as "Timeout"
	Got    any
	Want   string // such as "more than 0"
}

// Error says what the option was and what it may be.
func (e *OptionError) Error() string {
	return fmt.Sprintf("router: option %s is %v; expected %s", e.Option, e.Got, e.Want)
}

// Is reports whether target is [plugbus.ErrInvalid].
func (e *OptionError) Is(target error) bool { return target == plugbus.ErrInvalid }

// A CloseError reports what a client had not done when its time to close was
// over. It matches the error of the context that ended.
type CloseError struct {
	Client    string
	Cancelled int // messages that waited
	Abandoned int // handlers that still ran
	Err       error
}

// Error says what was not done.
func (e *CloseError) Error() string {
	return fmt.Sprintf("router: close client %q: messages cancelled: %d, handlers abandoned: %d: %v", e.Client, e.Cancelled, e.Abandoned, e.Err)
}

// Unwrap returns why there was no more time.
func (e *CloseError) Unwrap() error { return e.Err }
