package hub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/security"
)

// TestOvertakenProbe shows that a probe which has returned, but is not noted yet when the
// plugin is restored and goes into quarantine again, says nothing any more, and that the
// new quarantine has a probe all the same. It is of the package, since that moment is too
// short to be met from outside.
func TestOvertakenProbe(t *testing.T) {
	for _, byHost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, err := New(Options{Policy: security.AllowAll()})
			require.NoError(t, err)
			defer func() { _, _ = h.Close(context.Background()) }()
			require.NoError(t, h.Register(t.Context(), Func(Manifest{ID: "a"}, nil)))
			m := h.member("a")
			h.mu.Lock()
			m.confine(h.clock.Now(), "the test", "the first failure")
			plan := m.ward.plan
			m.ward.timer.Stop()
			m.ward.Probing, m.ward.cancel = true, func() {} // As if the probe were under way.
			h.mu.Unlock()
			require.NoError(t, h.Restore("a"))
			if byHost {
				require.NoError(t, h.Quarantine("a", "the test"))
			} else {
				h.mu.Lock()
				m.confine(h.clock.Now(), "the test", "the second failure")
				h.mu.Unlock()
			}
			look := func() PluginInfo {
				snapshot := h.Inspect()
				info, _ := snapshot.Plugin("a")
				return info
			}
			require.Zero(t, look().Quarantine.NextProbe, "one probe at a time")
			m.probed(plan, nil, false)
			require.Equal(t, Quarantined, look().State)
			require.Zero(t, look().Quarantine.Probes)
			require.Equal(t, byHost, look().Quarantine.NextProbe.IsZero())
			<-time.After(30 * time.Second)
			synctest.Wait()
			require.Equal(t, byHost, look().State == Quarantined)
		})
	}
}
