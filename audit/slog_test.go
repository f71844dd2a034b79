package audit_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

// TestSlog proves what an entry looks like in a log, and that it is one line
// whatever a plugin calls itself (A10).
func TestSlog(t *testing.T) {
	for _, test := range []struct {
		give audit.Entry
		want string
	}{
		{
			audit.Entry{Event: "plugin.registered", Actor: "host", Target: "indexer", Admin: true},
			"time=2026-11-21T01:02:03.000Z level=INFO msg=plugin.registered seq=1 actor=host target=indexer admin=true\n",
		},
		{
			audit.Entry{
				Event: "emit.refused", Actor: "a\nlevel=INFO", Verb: plugbus.VerbEmit, Outcome: plugbus.Refused,
				Reason: plugbus.ReasonCycle, Details: []audit.Detail{{"depth", "3"}}, Count: 4,
			},
			`time=2026-11-21T01:02:03.000Z level=WARN msg=emit.refused seq=1 actor="a\\nlevel=INFO" verb=emit outcome=refused reason=cycle ` +
				"count=4 last=2026-11-21T01:02:03.000Z details.depth=3\n",
		},
	} {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, nil))
		l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{Name: "log", Sink: audit.Slog(logger)}}})
		test.give.Time = time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
		record(t, l, test.give)
		require.NoError(t, l.Close(t.Context()))
		require.Equal(t, test.want, out.String())
	}
}

// TestSlogLevel proves that a level that is off costs no line, and that New
// reports a logger that is missing.
func TestSlogLevel(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{Name: "log", Sink: audit.Slog(logger)}}})
	record(t, l, audit.Entry{Event: "plugin.registered"})
	require.NoError(t, l.Close(t.Context()))
	require.Empty(t, out.String())

	require.NoError(t, audit.Slog(logger).Write(t.Context(), refused("a", "x")))
	require.Contains(t, out.String(), "msg=emit.refused")

	_, err := audit.New(audit.Options{Sinks: []audit.SinkOptions{{Name: "log", Sink: audit.Slog(nil)}}})
	require.ErrorContains(t, err, `Sinks[0] "log" is nil`)
}
