package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/hub"
)

// TestReplaceMistakes shows what a host reads that replaces what it cannot: what was
// tried, and what to do. The log does not say that the plugin that serves on has left.
func TestReplaceMistakes(t *testing.T) {
	var log lines
	h := open(t, hub.Options{Logger: log.logger()})
	require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "a", Version: "1.0.0"}, nil)))
	next := func(start func(context.Context, *hub.Session) error) hub.Plugin {
		return hub.Func(hub.Manifest{ID: "a", Version: "2.0.0"}, start)
	}
	replace := func(ctx context.Context, p hub.Plugin) string { return fmt.Sprint(h.Replace(ctx, p)) }
	for name, test := range map[string]struct{ got, want string }{
		"nil": {replace(t.Context(), nil), `replace a plugin: manifest: the plugin is nil: invalid argument`},
		"id": {
			replace(t.Context(), hub.Func(hub.Manifest{ID: "b"}, nil)),
			`replace "b": hub: no such plugin has joined under this id; Register this one, or give it the id of the one whose place it takes`,
		},
		"start": {
			replace(t.Context(), next(func(context.Context, *hub.Session) error { return errPlugin })),
			`replace plugin "a": start: the plugin's own error`,
		},
		"inside": {
			replace(t.Context(), next(func(ctx context.Context, _ *hub.Session) error { return h.Replace(ctx, next(nil)) })),
			`replace plugin "a": start: replace "a": hub: the plugin is being replaced; wait until that is done`,
		},
		"starting": {fmt.Sprint(h.Register(t.Context(), hub.Func(hub.Manifest{ID: "c"}, func(ctx context.Context, _ *hub.Session) error {
			return h.Replace(ctx, hub.Func(hub.Manifest{ID: "c"}, nil))
		}))), `register plugin "c": start: replace "c": hub: no such plugin has its place there: it is starting; wait until Register or Unregister has returned`},
	} {
		require.Equal(t, test.want, test.got, name)
	}
	require.NotContains(t, log.String(), `the plugin has left`)
	require.Contains(t, log.String(), `level=WARN msg="the new version of the plugin did not join" plugin=a version=2.0.0 error="replace plugin \"a\": start: the plugin's own error"`)
	require.Equal(t, "1.0.0", must(snapshotOf(h, "a")).Version)
	require.NoError(t, h.Quarantine("a", "it is noisy"))
	require.EqualError(t, h.Quarantine("a", "again"), `quarantine "a": hub: the plugin is in quarantine already, where the host has put it: it is noisy; Restore it first to give another reason`)
	require.NoError(t, h.Restore("a"))
	before := len(log.String())
	require.NoError(t, h.Replace(t.Context(), next(nil)))
	require.Contains(t, log.String()[before:], `level=INFO msg="the plugin was replaced" plugin=a version=2.0.0 before=1.0.0`)
}
