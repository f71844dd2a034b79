package payload

import (
	"reflect"
	"slices"
	"strings"

	"github.com/plugbus/plugbus"
)

// An Error says why a payload was refused, and where in it. It names types,
// fields and indices; it never holds a value, a text or a map key of the payload.
type Error struct {
	// Reason is ReasonInvalidPayload, ReasonTooLarge, ReasonInvalidContent,
	// ReasonSharedNotGranted, or ReasonCheckFailed if the check itself failed.
	Reason plugbus.Reason

	// Path leads to the place, as in payload.Items[3].Done. The value under any
	// key of a map is [*], the key itself is [key]. A long path is cut.
	Path string

	Type    string // the Go type at that place; a long one is cut
	Problem string // what is wrong there, and what to do

	steps []string // of the path, the last first
	met   ref      // the reference that was too deep to follow
}

// Error gives the place, its type and the problem.
func (e *Error) Error() string { return e.Path + " (" + e.Type + "): " + e.Problem }

func fault(reason plugbus.Reason, t reflect.Type, problem string) *Error {
	return &Error{Reason: reason, Type: plugbus.CutText(t.String()), Problem: problem}
}

// in puts a step in front of the path. It returns e, for the way out of a walk.
func (e *Error) in(step string) *Error {
	e.steps = append(e.steps, step)
	return e
}

// done makes the error of a walk one for the caller. The path is put together
// only here, so that a deep payload costs no more to refuse than to accept.
func (e *Error) done() *Error {
	var path strings.Builder
	path.WriteString("payload")
	for _, step := range slices.Backward(e.steps) {
		if path.Len() > plugbus.MaxTextBytes {
			break
		}
		path.WriteString(step)
	}
	return &Error{Reason: e.Reason, Path: plugbus.CutText(path.String()), Type: e.Type, Problem: e.Problem}
}

// under is in for a step that followed the reference r. A reference that was
// too deep to follow, and stands on the way to itself, is a cycle.
func (e *Error) under(r ref, step string) *Error {
	if e.met == r {
		e.met = ref{}
		e.Reason = plugbus.ReasonInvalidPayload
		e.Problem = "it contains itself; send data without cycles, such as ids in place of pointers"
	}
	return e.in(step)
}

// A ref identifies what a pointer, a map or a slice refers to.
type ref struct {
	typ  reflect.Type
	addr uintptr
	n    int
}
