package disk

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked matches the error of opening a directory that is open already, in
	// this process or in another.
	ErrLocked = errors.New("in use")

	// ErrDamaged matches the error of opening a directory with a file that is not as
	// it was written: cut off, overwritten, or missing.
	ErrDamaged = errors.New("damaged")

	// ErrForeign matches the error of opening a directory with a file that something
	// else has made, or that belongs to another directory.
	ErrForeign = errors.New("foreign")

	// ErrNewer matches the error of opening a directory that was written by a newer
	// version of this package.
	ErrNewer = errors.New("of a newer format")
)

// A FileError reports a file that was refused. Nothing in its directory was changed.
type FileError struct {
	Path    string
	Problem string // what is wrong with it
	Err     error  // ErrDamaged, ErrForeign or ErrNewer
}

// Error says which file is refused, why, and what to do.
func (e *FileError) Error() string {
	remedy := "restore a backup into an empty directory"
	switch {
	case errors.Is(e.Err, ErrForeign):
		remedy = "move it away, or choose another directory"
	case errors.Is(e.Err, ErrNewer):
		remedy = "open it with the version that wrote it"
	}
	return fmt.Sprintf("disk: file %q is %v: %s; nothing was changed: %s", e.Path, e.Err, e.Problem, remedy)
}

// Unwrap returns the kind of the problem.
func (e *FileError) Unwrap() error { return e.Err }

// damaged returns a FileError that has no path yet.
func damaged(format string, args ...any) error {
	return &FileError{Problem: fmt.Sprintf(format, args...), Err: ErrDamaged}
}

// at completes an error that has no path yet.
func at(path string, err error) error {
	if wrong, ok := errors.AsType[*FileError](err); ok {
		wrong.Path = path
	}
	return err
}
