package security

import (
	"errors"
	"fmt"
	"strings"
)

// maxMistakes bounds how many mistakes of one policy are reported.
const maxMistakes = 100

// A PolicyError is one mistake in a policy.
type PolicyError struct {
	File    string // as given to Parse; empty for a Document
	Line    int    // from 1; 0 for a Document, and where the file cannot be read
	Column  int    // in bytes, from 1; 0 where Line is
	Path    string // such as plugins.indexer.emit.allow[0]; empty at the top
	Problem string // what is wrong, and what was expected
	Err     error  // what lies behind it, such as an error of the file system; may be nil
}

// Error says where the mistake is, and what it is.
func (e *PolicyError) Error() string {
	var b strings.Builder
	switch {
	case e.Line > 0:
		fmt.Fprintf(&b, "%s: ", position(e.File, e.Line, e.Column))
	case e.File != "":
		fmt.Fprintf(&b, "%s: ", e.File)
	default:
		b.WriteString("policy: ")
	}
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Unwrap returns what lies behind the mistake.
func (e *PolicyError) Unwrap() error { return e.Err }

// mistakes collects the mistakes of one policy.
type mistakes struct {
	list []error
	more int
}

// full reports whether further mistakes are only counted.
func (m *mistakes) full() bool { return len(m.list) >= maxMistakes }

func (m *mistakes) count() int { return len(m.list) + m.more }

// err joins the mistakes, or returns nil.
func (m *mistakes) err(file string) error {
	if m.more > 0 {
		return errors.Join(append(m.list, &PolicyError{
			File:    file,
			Problem: fmt.Sprintf("there are %d more mistakes; correct these first", m.more),
		})...)
	}
	return errors.Join(m.list...)
}

// position writes a place in a file as compilers do.
func position(file string, line, column int) string {
	if file == "" {
		file = "policy"
	}
	return fmt.Sprintf("%s:%d:%d", file, line, column)
}
