package events_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
)

// TestE4WholeEvent shows that a handler gets all there is to know of an event
// (E4), and that the receipt names the same event (H9).
func TestE4WholeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := events.New(events.Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, bus.Close(t.Context())) }()
		reader, err := bus.Client("reader", events.ClientOptions{})
		require.NoError(t, err)
		var got []events.Event
		_, err = reader.Subscribe("files.*", func(_ context.Context, e events.Event) error {
			got = append(got, e)
			return nil
		})
		require.NoError(t, err)

		_, err = reader.Emit(t.Context(), "mail.came", nil)
		require.NoError(t, err)
		<-time.After(time.Second)
		now := time.Now()
		receipt, err := reader.Emit(t.Context(), "files.added", "README.md",
			events.Headers(map[string]string{"lang": "en"}), events.CorrelationID("job-7"))
		require.NoError(t, err)
		synctest.Wait()

		require.Len(t, got, 1)
		e := got[0]
		require.Equal(t, "files.added", e.Name())
		require.Equal(t, "reader", e.Source())
		require.EqualValues(t, 2, e.Seq())
		require.WithinDuration(t, now, e.Time(), 0)
		require.Equal(t, "README.md", e.Data())
		require.Equal(t, map[string]string{"lang": "en"}, e.Headers())
		require.Equal(t, "en", e.Header("lang"))
		require.Equal(t, "job-7", e.CorrelationID())
		require.Equal(t, []string{"reader"}, e.Chain().Plugins())
		require.Positive(t, e.Size())
		require.Equal(t, receipt.ID(), e.ID())
		require.Equal(t, receipt.Seq, e.Seq())
		require.EqualValues(t, 7, e.ID().Version())
		require.False(t, e.Replayed())
		require.False(t, e.Truncated())
		require.Zero(t, e.Missed())
	})
}

func TestZeroEvent(t *testing.T) {
	var e events.Event
	require.Empty(t, e.Name())
	require.Empty(t, e.Source())
	require.Nil(t, e.Data())
	require.Empty(t, e.Headers())
	require.Empty(t, e.Header("x"))
	require.Empty(t, e.CorrelationID())
	require.Zero(t, e.Chain().Depth())
	require.Zero(t, e.ID())
	require.Zero(t, events.Receipt{}.ID())
}
