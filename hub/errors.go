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

	// ErrQuarantined matches what [Hub.Health] says of a plugin in quarantine, the error
	// of [Hub.Quarantine] for one that the host has put there already, and that of
	// [Hub.Replace] for one that it puts there meanwhile.
	ErrQuarantined = errors.New("hub: the plugin is in quarantine")

	// ErrReplacing matches the error of a [Hub.Replace] of a plugin that is being
	// replaced already.
	ErrReplacing = errors.New("hub: the plugin is being replaced")

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
func (e *RegisterError) Error() string { return e.during("register") }

func (e *RegisterError) during(act string) string {
	if e.Plugin == "" {
		return fmt.Sprintf("%s a plugin: %s: %v", act, e.Stage, e.Err)
	}
	return fmt.Sprintf("%s plugin %q: %s: %v", act, e.Plugin, e.Stage, e.Err)
}

// Unwrap returns why the plugin did not join.
func (e *RegisterError) Unwrap() error { return e.Err }

// A replaceError is the [RegisterError] of a plugin that was to take the place of another.
type replaceError struct{ *RegisterError }

func (e replaceError) Error() string { return e.during("replace") }
func (e replaceError) Unwrap() error { return e.RegisterError }

// replacing returns the error of [Hub.Replace].
func replacing(err error) error {
	if e, ok := err.(*RegisterError); ok { //nolint:errorlint // It is ours, and nothing wraps it.
		return replaceError{e}
	}
	return err
}

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

// textOf returns the text of an error of a plugin, whose methods may panic, or end
// their goroutine.
func textOf(err error) string { return panics.ErrorText(err) }
