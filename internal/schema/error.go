package schema

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/plugbus/plugbus"
)

// An Error reports a schema that cannot be used, or a value that does not
// satisfy one. It matches plugbus.ErrInvalid.
type Error struct {
	What    string // "schema" or "value"
	Pointer string // to the place in it, as a JSON pointer; "" is the whole, and a long one is cut
	Problem string // what is wrong there, and what is expected; a long one is cut

	steps []string // of the pointer, the last first
}

// Error says where and what is wrong.
func (e *Error) Error() string {
	if e.Pointer == "" {
		return fmt.Sprintf("invalid %s: %s", e.What, e.Problem)
	}
	return fmt.Sprintf("invalid %s: at %q: %s", e.What, e.Pointer, e.Problem)
}

// Is reports whether target is plugbus.ErrInvalid.
func (e *Error) Is(target error) bool { return target == plugbus.ErrInvalid }

func newError(what, pointer, problem string) *Error {
	return &Error{What: what, Pointer: plugbus.CutText(pointer), Problem: plugbus.CutText(problem)}
}

func wrong(what, format string, args ...any) *Error {
	return newError(what, "", fmt.Sprintf(format, args...))
}

// in puts a step in front of the pointer, on the way out of a walk.
func (e *Error) in(step string) *Error {
	e.steps = append(e.steps, step)
	return e
}

// done makes the error of a walk one for the caller.
func (e *Error) done() error {
	slices.Reverse(e.steps)
	return newError(e.What, pointer(e.steps), e.Problem)
}

// pointer joins the steps to a JSON pointer, as far as anybody reads it.
func pointer(steps []string) string {
	var b strings.Builder
	for _, step := range steps {
		if b.Len() > plugbus.MaxTextBytes {
			break
		}
		b.WriteByte('/')
		step = strings.ReplaceAll(plugbus.CutText(step), "~", "~0")
		b.WriteString(strings.ReplaceAll(step, "/", "~1"))
	}
	return b.String()
}

// compileError says what is wrong with a schema that does not compile.
func compileError(err error) error {
	if meta, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if invalid, ok := errors.AsType[*jsonschema.ValidationError](meta.Err); ok {
			return explain("schema", invalid)
		}
	}
	if bad, ok := errors.AsType[*jsonschema.InvalidRegexError](err); ok {
		return wrong("schema", "the pattern %q of %s: %v", plugbus.CutText(bad.Regex), place(bad.URL), bad.Err)
	}
	return wrong("schema", "%s", place(err.Error()))
}

// place says where in the schema a URL leads, and leaves out our name for it.
func place(url string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url, location, ""), "plugbus://", "")
}

// explain tells the deepest reason of an invalid value, the first of equals.
func explain(what string, err *jsonschema.ValidationError) error {
	leaves := appendLeaves(nil, err)
	first := slices.MinFunc(leaves, func(a, b *jsonschema.ValidationError) int {
		return cmp.Or(
			cmp.Compare(len(b.InstanceLocation), len(a.InstanceLocation)),
			slices.Compare(a.InstanceLocation, b.InstanceLocation),
			cmp.Compare(a.SchemaURL, b.SchemaURL),
		)
	})
	problem := reason(first)
	if more := len(leaves) - 1; more > 0 {
		problem = plugbus.CutText(problem)
		problem = problem[:min(len(problem), plugbus.MaxTextBytes-64)] + " (and " + strconv.Itoa(more) + " more)"
	}
	return newError(what, pointer(first.InstanceLocation), problem)
}

// appendLeaves appends the errors that have no causes.
func appendLeaves(to []*jsonschema.ValidationError, err *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(err.Causes) == 0 {
		return append(to, err)
	}
	for _, cause := range err.Causes {
		to = appendLeaves(to, cause)
	}
	return to
}

// reason is the text of a leaf without its place.
func reason(leaf *jsonschema.ValidationError) string {
	switch k := leaf.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
	case *kind.Format: // The value may be long, and would hide the cause.
		return fmt.Sprintf("it is no valid %s: %v", k.Want, k.Err)
	}
	alone := jsonschema.ValidationError{SchemaURL: leaf.SchemaURL, ErrorKind: leaf.ErrorKind}
	return strings.TrimPrefix(alone.Error(), "at '': ")
}
