package hub

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// TestEnlistAfterTheEnd shows that a Provide that is overtaken by the end of its
// session notes nothing: the note would be for the next plugin with this id. It is
// inside of the package because the moment lies between two steps of Provide.
func TestEnlistAfterTheEnd(t *testing.T) {
	h, err := New(Options{Policy: security.AllowAll()})
	require.NoError(t, err)
	defer h.Close(context.Background()) //nolint:errcheck // It has nothing to do.
	var s *Session
	require.NoError(t, h.Register(t.Context(), Func(Manifest{ID: "p"}, func(_ context.Context, session *Session) error {
		s = session
		return nil
	})))
	require.NoError(t, s.enlist("x", nil))
	require.Equal(t, []string{"x"}, h.provides.of("p"))
	require.NoError(t, h.Unregister(t.Context(), "p"))
	require.ErrorIs(t, s.enlist("x", nil), plugbus.ErrClosed)
	require.Empty(t, h.provides.of("p"))
}
