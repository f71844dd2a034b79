package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// TestGuardVersionsGrow shows that a quarantine, its end, and each change in who
// provides what make a new version, as plugbus.Guard demands, and that an answer
// holds for one of them.
// It is in the package, since nobody else sees a guard.
func TestGuardVersionsGrow(t *testing.T) {
	authority, err := security.New(security.Options{Policy: security.AllowAll()})
	require.NoError(t, err)
	subject, err := authority.Join("a")
	require.NoError(t, err)
	g := &guard{Subject: subject, provides: &providers{}}
	last := uint64(0)
	for turn := range 6 {
		switch turn {
		case 3:
			g.provides.add("b", "x")
			require.Greater(t, g.Version(), last)
			last = g.Version()
			g.provides.add("b", "x")
			g.provides.remove("b", "y")
			require.Equal(t, last, g.Version(), "nothing has changed")
			g.provides.forget("b")
		case 4:
			_, err := authority.Swap(security.HostID, security.AllowAll())
			require.NoError(t, err)
		}
		require.Greater(t, g.Version(), last)
		last = g.Version()
		permit := g.Permit(plugbus.VerbEmit, "x")
		require.Equal(t, last, permit.Version)
		require.Equal(t, last, g.PermitPattern(plugbus.VerbSubscribe, "x.*", false).Version)
		require.Equal(t, turn%2 == 0, permit.Allowed())
		require.True(t, g.PermitAt(last, plugbus.VerbEmit, "x").Allowed())
		g.turn("")
	}
}
