package hub

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/security"
)

// TestQuarantineOfTheLatest has a plugin replaced between the moment at which Quarantine or
// Restore finds it and that at which it may turn it: they mean the one that has the id. It is
// of the package, since that moment is too short to be met from outside.
func TestQuarantineOfTheLatest(t *testing.T) {
	for name, act := range map[string]func(h *Hub) error{
		"quarantine": func(h *Hub) error { return h.Quarantine("a", "the test") },
		"restore":    func(h *Hub) error { return h.Restore("a") },
	} {
		t.Run(name, func(t *testing.T) {
			h, err := New(Options{Policy: security.AllowAll()})
			require.NoError(t, err)
			defer func() { _, _ = h.Close(context.Background()) }()
			require.NoError(t, h.Register(t.Context(), Func(Manifest{ID: "a"}, nil)))
			old := h.member("a")
			old.turning.Lock() // So both the turn and the leave wait, after what comes before.
			turned, replaced := make(chan error, 1), make(chan error, 1)
			go func() { turned <- act(h) }()
			for range 1000 { // It gets as far as that; if not, the test finds nothing out, and does not fail.
				runtime.Gosched()
			}
			go func() { replaced <- h.Replace(context.Background(), Func(Manifest{ID: "a"}, nil)) }()
			for h.member("a") == old {
				runtime.Gosched()
			}
			old.turning.Unlock()
			if err := <-turned; name == "quarantine" {
				require.NoError(t, err)
				require.Equal(t, Quarantined, snapshotOf(h, "a").State)
			} else {
				require.ErrorContains(t, err, "ready")
			}
			require.NoError(t, <-replaced)
		})
	}
}

func snapshotOf(h *Hub, id string) PluginInfo {
	s := h.Inspect()
	info, _ := s.Plugin(id)
	return info
}
