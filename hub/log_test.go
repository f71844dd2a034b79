package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// lineLogger returns a logger that calls f with each line.
func lineLogger(f lineFunc) *slog.Logger { return slog.New(slog.NewTextHandler(f, nil)) }

type lineFunc func(line string)

func (f lineFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

// TestLogger shows that the log says who came and went, and names those that did
// not leave in order.
func TestLogger(t *testing.T) {
	var log lines
	h := open(t, hub.Options{Logger: log.logger()})
	require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "a", Version: "1.2"}, nil)))
	require.Contains(t, log.String(), `level=INFO msg="the plugin has joined" plugin=a version=1.2`)
	require.NoError(t, h.Unregister(t.Context(), "a"))
	require.Contains(t, log.String(), `level=INFO msg="the plugin has left" plugin=a`)

	begun, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	_, err := join(t, h, "hung").Subscribe("word.*", func(context.Context, events.Event) error {
		close(begun)
		<-release
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "good"}, nil)))
	emit(t, h.Host(), "word.said", 1)
	<-begun
	_, err = h.Close(canceled())
	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, log.String(), `level=INFO msg="the plugin has left" plugin=good`)
	require.Contains(t, log.String(), `level=WARN msg="the plugin has left, but not everything was done" plugin=hung problem=`)
	require.Contains(t, log.String(), "it had not returned when the plugin left; Hub.Leaks names it until it does")
}
