package plugbus

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	// ErrClosed matches the error of every call on something that has ended: a
	// hub or a bus that was closed, a session whose plugin left.
	ErrClosed = errors.New("closed")

	// ErrDenied matches every [*DeniedError].
	ErrDenied = errors.New("denied")

	// ErrInvalid matches every error about an argument that could never be
	// accepted: a malformed name, a nil handler, an option out of its range.
	ErrInvalid = errors.New("invalid argument")
)

// A DeniedError reports that the door refused an act. The plugin gets what it
// may know: what it asked for, a reason code, and the number of the audit
// record under which the host finds the rule and the remedy.
type DeniedError struct {
	Plugin string // who asked
	Verb   Verb
	Object string // as the plugin gave it
	Reason Reason

	// Record is the sequence number of the audit entry. Refusals that repeat
	// share an entry. It is 0 where nothing is recorded, as in a part that is
	// used without a hub.
	Record uint64

	// RetryAfter is how long to wait before a rate would admit the act. It is 0
	// where waiting does not help.
	RetryAfter time.Duration

	// Hint says what to do, in words that give away nothing of the policy.
	Hint string

	// Explanation is the rule that decided and the smallest change that would
	// allow the act. It is empty unless the host explains to plugins.
	Explanation string

	// Chain is the chain of plugins that led to the act, if it matters here.
	Chain Chain

	// Cause is the error behind the refusal, such as the place in a payload
	// that cannot be copied. It may be nil.
	Cause error
}

// Error says who asked for what, why not, and where the host finds more.
func (e *DeniedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %q may not %s %q: %s", e.Plugin, e.Verb.Phrase(), e.Object, e.Reason)
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; try again in %v", e.RetryAfter.Round(time.Millisecond))
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; %s", e.Hint)
	}
	if e.Explanation != "" {
		fmt.Fprintf(&b, "; %s", e.Explanation)
	}
	if e.Record != 0 {
		fmt.Fprintf(&b, " (audit record %d)", e.Record)
	}
	return b.String()
}

// Is reports whether target is [ErrDenied], or [ErrInvalid] where no policy
// could ever allow the act.
func (e *DeniedError) Is(target error) bool {
	switch target {
	case ErrDenied:
		return true
	case ErrInvalid:
		return e.Reason == ReasonInvalidName || e.Reason == ReasonInvalidPayload
	}
	return false
}

// Unwrap returns the cause.
func (e *DeniedError) Unwrap() error { return e.Cause }

// A RemoteError is an error that another plugin's handler returned. It carries
// a code and text, never the cause itself, so that plugins inside and outside
// the process behave alike; it matches none of the hub's own errors.
type RemoteError struct {
	Plugin    string // whose handler failed; "" if the caller may not know of it
	Code      Code
	Message   string // at most MaxTextBytes
	Retryable bool
}

// Error says which plugin failed, and how.
func (e *RemoteError) Error() string {
	if e.Plugin == "" {
		return fmt.Sprintf("another plugin: %s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("plugin %q: %s: %s", e.Plugin, e.Code, e.Message)
}

// A TypeError reports a value of the wrong type at a typed edge, such as a
// subscription for one type that gets an event of another.
type TypeError struct {
	What string // such as the name of the event
	Got  string // the type that came
	Want string // the type that was asked for
	Err  error  // why it does not convert; may be nil
}

// Error names both types.
func (e *TypeError) Error() string {
	s := fmt.Sprintf("%s carries a %s, but a %s was asked for", e.What, e.Got, e.Want)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns why the value does not convert.
func (e *TypeError) Unwrap() error { return e.Err }

// CutText returns s in at most MaxTextBytes of valid UTF-8. It is for text of
// plugins on its way into errors, logs and audit entries, so it reads no more of
// s than that.
func CutText(s string) string {
	const mark = "…"
	long := len(s) > MaxTextBytes
	if long {
		s = beginning(s, MaxTextBytes)
	}
	s = strings.ToValidUTF8(s, "\uFFFD") // can make it longer
	if !long && len(s) <= MaxTextBytes {
		return s
	}
	return beginning(s, MaxTextBytes-len(mark)) + mark
}

// beginning returns at most n bytes of s, and cuts no rune in two.
func beginning(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
