// Package panics describes how a plugin's code ended: what it panicked with, and the
// errors that it returned, whose methods may do anything.
package panics

import (
	"fmt"

	"github.com/plugbus/plugbus"
)

// Text returns as text what recover returned, in at most MaxTextBytes. An Error or
// String method of it that panics in turn, or ends its goroutine, leaves the name
// of its type.
func Text(recovered any) string {
	text, ok := Read(func() string {
		if err, ok := recovered.(error); ok {
			return err.Error() // Sprint would put up with a panic in it, and say so at length.
		}
		return fmt.Sprint(recovered)
	})
	if !ok {
		text = fmt.Sprintf("%T", recovered)
	}
	return plugbus.CutText(text)
}

// Read returns what read returns, and whether it did: it may panic or end its
// goroutine, which is not that of the caller.
func Read(read func() string) (text string, ok bool) {
	done := make(chan struct{})
	go func() { // Ends before Read returns.
		defer close(done)
		defer func() { _ = recover() }()
		text, ok = read(), true
	}()
	<-done
	return text, ok
}

// A returnedError is an error of a plugin, with its text as it was in the plugin's own
// call: to ask for it again may give another, a panic, or no end.
type returnedError struct {
	text string
	err  error
}

func (e *returnedError) Error() string { return e.text }
func (e *returnedError) Unwrap() error { return e.err }

// Returned returns the error that a plugin's code returned, with a text of at most
// MaxTextBytes that it reads now. It is called where the plugin's own limits hold: the
// text may have no end. If it cannot be had, the error says so, with its type.
func Returned(err error) error {
	if err == nil {
		return nil
	}
	return &returnedError{ErrorText(err), err}
}

// ErrorText returns the text of an error of a plugin, as [Returned] has it.
func ErrorText(err error) string {
	text, ok := Read(func() string { return err.Error() })
	if !ok {
		text = fmt.Sprintf("an error of type %T whose text cannot be had", err)
	}
	return plugbus.CutText(text)
}
