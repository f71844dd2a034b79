package hub_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// TestZeroOptions shows that the zero Options work and deny everything, and that
// the log of a hub without plugins in its policy says what to do.
func TestZeroOptions(t *testing.T) {
	h, err := hub.New(hub.Options{})
	require.NoError(t, err)
	require.ErrorIs(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "a"}, nil)), plugbus.ErrDenied)
	emit(t, h.Host(), "word.said", 1)
	report, err := h.Close(t.Context())
	require.NoError(t, err)
	require.True(t, report.Clean())

	for _, test := range []struct {
		policy *security.Policy
		says   string
	}{
		{nil, "the policy names no plugin, so none can join"},
		{policyOf(t, ""), "the policy names no plugin, so none can join"},
		{security.AllowAll(), "security.AllowAll() is in force"},
		{policyOf(t, `"a": {}`), ""},
	} {
		var log lines
		h, err := hub.New(hub.Options{Policy: test.policy, Logger: log.logger()})
		require.NoError(t, err)
		_, err = h.Close(t.Context())
		require.NoError(t, err)
		if test.says == "" {
			require.Empty(t, log.String())
		} else {
			require.Contains(t, log.String(), test.says)
		}
	}
}

// TestOptionMistakes shows that all mistakes are told at once, those of the
// parts included.
func TestOptionMistakes(t *testing.T) {
	h, err := hub.New(hub.Options{
		WaitLimit: -1, MaxPlugins: -1,
		Events: events.Options{Buffer: -1, OnFailure: func(events.Failure) {}},
		Audit:  audit.Options{Capacity: -1},
	})
	require.Nil(t, h)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, mistake := range []string{"Options.WaitLimit", "Options.MaxPlugins", "Options.Events.Actors, Clock, InAudience, OnFailure, OnSlow and Observe", "Buffer", "Capacity"} {
		require.ErrorContains(t, err, mistake)
	}
	for _, o := range []events.Options{
		{InAudience: func(string, events.Audience, string) bool { return true }},
		{OnSlow: func(events.Slow) {}},
	} {
		_, err := hub.New(hub.Options{Events: o})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	}
}

// TestOptionsReachTheParts shows that the options of the parts are theirs.
func TestOptionsReachTheParts(t *testing.T) {
	written := 0
	h := open(t, hub.Options{
		Events: events.Options{HistoryEvents: 3, HandlerTimeout: time.Millisecond},
		Audit: audit.Options{Sinks: []audit.SinkOptions{{Name: "count", Sink: audit.SinkFunc(func(context.Context, audit.Entry) error {
			written++
			return nil
		})}}},
	})
	release := make(chan struct{})
	_, err := h.Host().Subscribe("word.*", func(ctx context.Context, _ events.Event) error {
		<-ctx.Done()
		<-release
		return nil
	})
	require.NoError(t, err)
	for range 10 {
		_, err := h.Host().Emit(t.Context(), "other", 1)
		require.NoError(t, err)
	}
	require.Equal(t, 3, h.Inspect().History.Events)
	emit(t, h.Host(), "word.said", 1)
	idle(t, h)
	require.EqualValues(t, 1, h.Ledger().Abandoned)
	close(release)
	_, err = h.Close(t.Context())
	require.NoError(t, err)
	require.NotZero(t, written)
}
