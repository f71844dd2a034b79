package hub_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// TestH11OneHub shows that one hub wires all parts: what one part sees, all see.
func TestH11OneHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy, err := security.Parse([]byte(`{"version": 1, "plugins": {
			"reader":  {"emit": {"allow": ["files.*"]}},
			"indexer": {"subscribe": {"allow": ["files.*"], "deny": ["files.secret"]}}}}`), "p.json")
		require.NoError(t, err)
		h, err := hub.New(hub.Options{Policy: policy})
		require.NoError(t, err)
		var reader *hub.Session
		var got []string
		require.NoError(t, h.Register(t.Context(),
			hub.Func(hub.Manifest{ID: "reader"}, func(_ context.Context, s *hub.Session) error {
				reader = s
				return nil
			}),
			hub.Func(hub.Manifest{ID: "indexer"}, func(_ context.Context, s *hub.Session) error {
				_, err := s.Subscribe("files.*", func(_ context.Context, e events.Event) error {
					got = append(got, e.Name())
					return nil
				})
				return err
			})))
		before := h.Ledger()
		_, err = reader.Emit(t.Context(), "files.added", "a")
		require.NoError(t, err)
		_, err = reader.Emit(t.Context(), "files.secret", "b")
		require.NoError(t, err)
		_, err = reader.Emit(t.Context(), "mail.sent", "c")
		require.ErrorIs(t, err, plugbus.ErrDenied)
		synctest.Wait()

		// The subscriber, whose deny filters each delivery.
		require.Equal(t, []string{"files.added"}, got)
		// The history.
		var replayed []string
		for e, err := range h.Host().Replay(t.Context(), "files.*", events.All()) {
			require.NoError(t, err)
			replayed = append(replayed, e.Name())
		}
		require.Equal(t, []string{"files.added", "files.secret"}, replayed)
		// The ledger.
		after := h.Ledger()
		require.NoError(t, after.Check())
		require.EqualValues(t, 1, after.Handled-before.Handled)
		require.EqualValues(t, 1, after.Undeliverable-before.Undeliverable)
		require.EqualValues(t, 1, after.Refused-before.Refused)
		// The audit log.
		page, err := h.Audit().Search(audit.Query{Actor: "reader", Outcome: plugbus.Refused})
		require.NoError(t, err)
		require.Len(t, page.Entries, 1)
		require.Equal(t, "mail.sent", page.Entries[0].Target)
		// The figures of the security layer.
		usage, ok := h.Security().Usage("reader")
		require.True(t, ok)
		require.Equal(t, "reader", usage.Plugin)

		report, err := h.Close(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean(), "%+v", report)
	})
}
