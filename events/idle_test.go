package events_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestIdleWaitsForOnFailure shows that whoever waited for Idle finds that the host
// has heard of every failure, whatever the kind.
func TestIdleWaitsForOnFailure(t *testing.T) {
	for what, fail := range map[string]struct {
		handler events.Handler
		outcome plugbus.Outcome
	}{
		"error":     {func(context.Context, events.Event) error { return errHandler }, plugbus.Failed},
		"panic":     {func(context.Context, events.Event) error { panic("boom") }, plugbus.Failed},
		"Goexit":    {func(context.Context, events.Event) error { runtime.Goexit(); return nil }, plugbus.Failed},
		"timed out": {func(ctx context.Context, _ events.Event) error { <-ctx.Done(); <-time.After(time.Second); return nil }, plugbus.Abandoned},
		"closed":    {func(ctx context.Context, _ events.Event) error { <-ctx.Done(); return nil }, plugbus.Abandoned},
	} {
		for kind, options := range kinds {
			synctest.Test(t, func(t *testing.T) {
				what := fmt.Sprintf("%s, kind %d", what, kind)
				hook := closedGate(t)
				var heard []events.Failure
				bus := openBus(t, events.Options{OnFailure: func(f events.Failure) {
					hook.pass() // A host must not, but it shows the moment.
					heard = append(heard, f)
				}})
				c := joinBus(t, bus, "plugin")
				if what[0] == 't' {
					options = append(options, events.Timeout(time.Second))
				}
				listen(t, c, "e", fail.handler, options...)
				tell(t, joinBus(t, bus, "emitter"), "e", nil)
				synctest.Wait()
				if what[0] == 'c' {
					ended, stop := context.WithCancel(t.Context())
					stop()
					go func() { _ = c.Close(ended) }()
				}
				pass(3 * time.Second)
				require.Zero(t, bus.Ledger().Running, what)
				idle := make(chan error, 1)
				go func() { idle <- bus.Idle(context.Background()) }()
				synctest.Wait()
				require.Empty(t, idle, what)
				hook.open()
				require.NoError(t, <-idle)
				require.Len(t, heard, 1, what)
				require.Equal(t, fail.outcome, heard[0].Outcome, what)
			})
		}
	}
}

// A fussyContext is a host's own kind of context. It asks the bus something when the
// bus asks it.
type fussyContext struct {
	context.Context //nolint:containedctx // It is one.
	asks            func()
}

func (c fussyContext) Value(key any) any {
	c.asks()
	return c.Context.Value(key)
}

func (c fussyContext) Done() <-chan struct{} {
	c.asks()
	return c.Context.Done()
}

// TestHostsContextRunsWithoutLock lets the context that ends a client use the bus. A
// client that cannot join lets go of it.
func TestHostsContextRunsWithoutLock(t *testing.T) {
	t.Parallel()
	bus := openBus(t, events.Options{})
	asked := 0
	ctx := fussyContext{t.Context(), func() { asked++; bus.Ledger() }}
	_, err := bus.Client("plugin", events.ClientOptions{Context: ctx})
	require.NoError(t, err)
	require.NotZero(t, asked)
	_, err = bus.Client("plugin", events.ClientOptions{Context: ctx})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	bus.CloseIntake()
	_, err = bus.Client("other", events.ClientOptions{Context: ctx})
	require.ErrorIs(t, err, events.ErrClosed)
}
