package hub

import (
	"errors"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/panics"
)

var (
	// ErrClosed is returned by every call that would change a hub that was
	// closed, and by [Session.Go] after the plugin left. It matches
	// [plugbus.ErrClosed].
	ErrClosed = fmt.Errorf("hub: %w", plugbus.ErrClosed)

	// ErrUnknownPlugin matches the error of calls about a plugin that has not
	// joined.
	ErrUnknownPlugin = errors.New("hub: no such plugin")

	// ErrBusy matches the error of a call into a plugin that could not begin,
	// because the plugin was busy with something else all the time.
	ErrBusy = errors.New("hub: the plugin's worker was busy")

	// ErrDuplicate matches the error of a registration under an id that is in
	// use. It matches nothing else: the plugin that has the id keeps it.
	ErrDuplicate = errors.New("hub: the id is in use")
)

// A RegisterError says why a plugin did not join. None of the plugins of the
// same call did.
type RegisterError struct {
	Plugin string // its id; "" if it has none
	Stage  string // "manifest", "policy", "requires" or "start"
	Err    error
}

// Error says which plugin did not join, and why.
func (e *RegisterError) Error() string {
	if e.Plugin == "" {
		return fmt.Sprintf("register a plugin: %s: %v", e.Stage, e.Err)
	}
	return fmt.Sprintf("register plugin %q: %s: %v", e.Plugin, e.Stage, e.Err)
}

// Unwrap returns why the plugin did not join.
func (e *RegisterError) Unwrap() error { return e.Err }

// A RequirementError reports capabilities that a plugin requires and nobody
// provides, or plugins that require each other in a circle.
type RequirementError struct {
	Missing []string // capabilities
	Circle  []string // ids, each of which requires something of the next, and the last of the first
}

// Error names what is missing.
func (e *RequirementError) Error() string {
	if len(e.Circle) > 0 {
		return fmt.Sprintf("the plugins %q require each other in a circle; at least one must start without the other", e.Circle)
	}
	return fmt.Sprintf("no plugin provides %q; register a provider before, or in the same call", e.Missing)
}

// A PanicError reports a plugin that panicked outside of a handler.
type PanicError struct {
	What  string // such as "Start"
	Value string // at most plugbus.MaxTextBytes
	Stack string
}

// Error says what panicked.
func (e *PanicError) Error() string { return fmt.Sprintf("%s panicked: %s", e.What, e.Value) }

// A cutError is an error of a plugin, with its text as it was on the plugin's
// worker: to ask for it again may give another, a panic, or no end.
type cutError struct {
	text string
	err  error
}

func (e *cutError) Error() string { return e.text }
func (e *cutError) Unwrap() error { return e.err }

// cut returns err with its text. It runs on the plugin's worker.
func cut(err error) error {
	if err == nil {
		return nil
	}
	return &cutError{textOf(err), err}
}

// textOf returns the text of an error of a plugin, whose methods may panic, or end
// their goroutine.
func textOf(err error) string {
	text, ok := panics.Read(func() string { return err.Error() })
	if !ok {
		text = fmt.Sprintf("an error of type %T whose text cannot be had", err)
	}
	return plugbus.CutText(text)
}
