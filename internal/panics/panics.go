// Package panics describes what a plugin's code panicked with.
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
