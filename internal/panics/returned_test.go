package panics_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/panics"
)

// A pit is an error whose text ends the goroutine.
type pit struct{ trapdoor }

func (p pit) Error() string { return p.String() }

var errOwn = errors.New("its own")

// TestReturned shows what becomes of an error of a plugin: its text is read once, and cut,
// and the error itself is behind it.
func TestReturned(t *testing.T) {
	t.Parallel()
	require.NoError(t, panics.Returned(nil))
	for _, test := range []struct {
		err  error
		want string
	}{
		{errOwn, "its own"},
		{errors.New(strings.Repeat("x", 5000)), plugbus.CutText(strings.Repeat("x", 5000))},
		{clumsyError{}, "an error of type panics_test.clumsyError whose text cannot be had"},
		{pit{}, "an error of type panics_test.pit whose text cannot be had"},
	} {
		got := panics.Returned(test.err)
		require.Equal(t, test.want, got.Error())
		require.Equal(t, test.err, errors.Unwrap(got))
	}
	text := "first"
	got := panics.Returned(clumsyError{&text})
	text = "second"
	require.Equal(t, "first", got.Error())
}
