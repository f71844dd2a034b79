// Package panics describes what a plugin's code panicked with.
package panics

import (
	"fmt"

	"github.com/plugbus/plugbus"
)

// Text returns as text what recover returned, in at most MaxTextBytes. An Error or
// String method of it that panics in turn leaves the name of its type.
func Text(recovered any) string { return plugbus.CutText(describe(recovered)) }

func describe(recovered any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T", recovered)
		}
	}()
	if err, ok := recovered.(error); ok {
		return err.Error() // Sprint would put up with a panic in it, and say so at length.
	}
	return fmt.Sprint(recovered)
}
