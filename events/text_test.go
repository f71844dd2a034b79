package events_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A mute error has a text that cannot be had before a channel is closed.
type mute chan struct{}

func (m mute) Error() string {
	<-m
	return "at last"
}

// A fickle error has another text each time.
type fickle struct{ reads int }

func (f *fickle) Error() string {
	f.reads++
	return []string{"first", "second", "third"}[f.reads-1]
}

// TestTextOfAnErrorIsPartOfTheCall shows that the text of a handler's error is read in the
// time of the handler: if it hangs the handler hangs, is abandoned, named by Leaks, and
// cut off by Close, like any other (E6, E10).
func TestTextOfAnErrorIsPartOfTheCall(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { _ = f.Err.Error() }})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			hold := make(mute)
			listen(t, c, "*", func(context.Context, events.Event) error { return hold }, options...)
			_, err := emitter.Emit(t.Context(), "word", 1)
			require.NoError(t, err)
			synctest.Wait()
			require.EqualValues(t, 1, bus.Ledger().Running, "kind %d", i)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var cut *events.CloseError
			require.ErrorAs(t, c.Close(ctx), &cut, "kind %d", i)
			require.Equal(t, 1, cut.Abandoned)
			require.Len(t, bus.Leaks(), 1, "kind %d", i)
			close(hold)
			synctest.Wait()
			require.Empty(t, bus.Leaks())
			require.EqualValues(t, 1, bus.Ledger().Abandoned)
		})
	}
}

// TestTextOfAnErrorIsReadOnce shows that the host finds one text of a handler's error,
// however often it asks, and the error itself behind it; one that the bus has for its own
// purposes too, since it is the plugin's all the same.
func TestTextOfAnErrorIsReadOnce(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			var failures []events.Failure
			bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
			c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
			odd := &fickle{}
			answers := []error{odd, events.ErrGoexit, blunt{}}
			listen(t, c, "*", func(_ context.Context, e events.Event) error { return answers[e.Data().(int)] }, options...)
			for n := range answers {
				_, err := emitter.Emit(t.Context(), "word", n)
				require.NoError(t, err)
				synctest.Wait()
			}
			require.Len(t, failures, 3, "kind %d", i)
			for range 2 {
				require.Equal(t, "first", failures[0].Err.Error())
			}
			require.ErrorIs(t, failures[0].Err, odd)
			require.NotEqual(t, events.ErrGoexit, failures[1].Err)
			require.True(t, errors.Is(failures[1].Err, events.ErrGoexit))
			require.Equal(t, "an error of type events_test.blunt whose text cannot be had", failures[2].Err.Error())
			require.Equal(t, plugbus.Failed, failures[2].Outcome)
		})
	}
}
