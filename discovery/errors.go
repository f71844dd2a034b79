package discovery

import (
	"errors"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/schema"
)

var (
	// ErrClosed is returned by every call of a client that has left. It matches
	// [plugbus.ErrClosed].
	ErrClosed = fmt.Errorf("discovery: %w", plugbus.ErrClosed)

	// ErrNotProvided is returned by Withdraw of what the plugin does not provide.
	ErrNotProvided = errors.New("discovery: not provided")
)

// An InvalidError reports an option, a capability or criteria that cannot be
// accepted. It matches [plugbus.ErrInvalid].
type InvalidError struct {
	What    string // such as `capability "pdf.render"`
	Field   string // such as "Cost"
	Problem string // what is wrong, and what is expected
	Err     error  // why; may be nil
}

// Error says which field is wrong, and what was expected.
func (e *InvalidError) Error() string {
	text := fmt.Sprintf("discovery: %s: %s: %s", e.What, e.Field, e.Problem)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports whether target is [plugbus.ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == plugbus.ErrInvalid }

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

// A SchemaError reports a schema that cannot be used, or a value that does not
// satisfy one. It matches [plugbus.ErrInvalid].
type SchemaError = schema.Error

// mistakes collects all that is wrong with one thing.
type mistakes struct {
	what string
	errs []error
}

func (m *mistakes) add(field string, err error, format string, args ...any) {
	m.errs = append(m.errs, &InvalidError{m.what, field, fmt.Sprintf(format, args...), err})
}

// fault makes the error of a count, for package limits.
func (m *mistakes) fault(field string, got any, want string) error {
	return &InvalidError{m.what, field, fmt.Sprintf("it is %v; expected %s", got, want), nil}
}

func (m *mistakes) err() error { return errors.Join(m.errs...) }

// atMost notes a count that is too high.
func (m *mistakes) atMost(field string, n, most int, of string) {
	if n > most {
		m.add(field, nil, "there are %d %s; expected at most %d", n, of, most)
	}
}

// within notes a number that is out of its range, or no number.
func within[T int | float64](m *mistakes, field string, got, least, most T) {
	if !(got >= least && got <= most) { //nolint:staticcheck // NaN is neither, and the other way round it would pass.
		m.add(field, nil, "it is %v; expected %v to %v", got, least, most)
	}
}
