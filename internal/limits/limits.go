// Package limits checks the numbers in an Options struct, and collects all that
// are wrong, so that a caller hears of them at once.
//
//	wrong := limits.List{Fault: newOptionError}
//	o.Buffer = limits.Within(&wrong, "Buffer", o.Buffer, 1024, 1, 1<<20)
//	o.WaitLimit = limits.Within(&wrong, "WaitLimit", o.WaitLimit, 30*time.Second, 1, time.Hour)
//	if err := wrong.Err(); err != nil {
//		return nil, err
//	}
package limits

import (
	"errors"
	"fmt"
	"time"
)

// A List collects what is wrong.
type List struct {
	// Fault makes the error of one option, in the type that its package exports.
	Fault func(option string, got any, want string) error

	errs []error
}

// Within returns the value of an option, or what zero means; this also for a value
// that is out of its range, which it notes, so that what depends on the value is
// not blamed too. What zero means may be outside of the range, as where it stands
// for no limit.
func Within[T int | int64 | time.Duration](l *List, option string, value, zero, least, most T) T {
	if value == 0 {
		return zero
	}
	if value < least || value > most {
		standard := fmt.Sprint(zero)
		if zero == 0 {
			standard = "none"
		}
		l.errs = append(l.errs, l.Fault(option, value, fmt.Sprintf("%v to %v, or 0 for %s", least, most, standard)))
		return zero
	}
	return value
}

// Err returns all faults together, or nil if there is none.
func (l *List) Err() error { return errors.Join(l.errs...) }
