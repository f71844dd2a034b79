package events_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestStartAtEnds shows the ends of a subscription that still reads the history:
// what it has is handled or cancelled, and nothing else comes.
func TestStartAtEnds(t *testing.T) {
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		time.AfterFunc(time.Minute, cancel)
		return ctx
	}
	for _, test := range []struct {
		act       string
		end       func(t *testing.T, bus *events.Bus, c *events.Client, s *events.Subscription)
		handled   uint64 // of a page of 64 and an event beside the history, when the first call is released
		cancelled uint64
		abandoned uint64
	}{
		{"unsubscribe", func(_ *testing.T, _ *events.Bus, _ *events.Client, s *events.Subscription) { s.Unsubscribe() }, 1, 64, 0},
		{"drain", func(_ *testing.T, _ *events.Bus, c *events.Client, _ *events.Subscription) { c.BeginDrain() }, 65, 0, 0},
		{"close the client", func(t *testing.T, _ *events.Bus, c *events.Client, _ *events.Subscription) {
			require.ErrorIs(t, c.Close(short()), context.DeadlineExceeded)
		}, 0, 64, 1},
		{"close the bus", func(t *testing.T, bus *events.Bus, _ *events.Client, _ *events.Subscription) {
			require.ErrorIs(t, bus.Close(short()), context.DeadlineExceeded)
		}, 0, 64, 1},
	} {
		for _, option := range []events.SubscribeOption{
			events.OnOverflow(events.DropOldest), events.OnOverflow(events.RefuseToEmitter), events.Concurrent(2),
		} {
			synctest.Test(t, func(t *testing.T) {
				bus := hBus(t, events.Options{})
				emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
				hEmitMany(t, emitter, 200)
				got := newHGate()
				s := hSubscribe(t, reader, "x", got.handle, option, events.StartAt(events.All()))
				synctest.Wait()
				hEmit(t, emitter, "x", events.NoHistory())
				running := uint64(len(got.events()))

				test.end(t, bus, reader, s)
				require.NoError(t, bus.Ledger().Check())
				got.open()
				require.NoError(t, reader.Close(t.Context()))
				require.NoError(t, s.Wait(t.Context()))
				l := bus.Ledger()
				require.NoError(t, l.Check())
				require.Zero(t, l.Waiting+l.Running, test.act)
				want := plugbus.Ledger{Handled: test.handled, Cancelled: test.cancelled, Abandoned: test.abandoned}
				if extra := running - 1; test.cancelled > 0 { // A concurrent one has more calls that run.
					want.Cancelled -= extra
					if test.abandoned > 0 {
						want.Abandoned += extra
					} else {
						want.Handled += extra
					}
				}
				require.Equal(t, want, plugbus.Ledger{Handled: l.Handled, Cancelled: l.Cancelled, Abandoned: l.Abandoned}, "%s with %#v", test.act, option)
				require.EqualValues(t, 65, l.Accepted)
			})
		}
	}
}

// TestStartAtEndsUnread shows that an event which came beside the history is
// handled, although the subscription was drained before it read any.
func TestStartAtEndsUnread(t *testing.T) {
	for _, option := range []events.SubscribeOption{
		events.OnOverflow(events.DropOldest), events.OnOverflow(events.RefuseToEmitter), events.Concurrent(2),
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader, busy := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), newHGate()
			hSubscribe(t, reader, "busy", busy.handle)
			hEmit(t, emitter, "busy")
			synctest.Wait()
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, option, events.StartAt(events.All()))
			want := []uint64{hEmit(t, emitter, "x", events.NoHistory())}
			reader.BeginDrain()
			busy.open()
			require.Equal(t, want, got.seqs(), "%#v", option)
			require.NoError(t, reader.Close(t.Context()))
			require.Zero(t, bus.Ledger().Cancelled)
		})
	}
}

// TestStartAtBeyondTheEnd shows that a place which the bus has not reached is the
// end of the history: what comes after the subscription is not skipped, however
// late its plugin gets to it.
func TestStartAtBeyondTheEnd(t *testing.T) {
	for _, from := range []events.From{events.After(1 << 60), events.Since(time.Now().AddDate(1000, 0, 0)), events.Last(9)} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader, busy := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), newHGate()
			hSubscribe(t, reader, "busy", busy.handle)
			hEmit(t, emitter, "busy")
			synctest.Wait()
			var got hRecorder
			hSubscribe(t, reader, "x", got.handle, events.StartAt(from))
			want := hEmitMany(t, emitter, 3)
			busy.open()
			require.Equal(t, want, got.seqs(), "%+v", from)
		})
	}
}

// TestStartAtWithOptions shows that the other options hold for the history as
// they do for what follows it.
func TestStartAtWithOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []events.Failure
		bus := hBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
		emitter := hClient(t, bus, "emitter")
		hEmitMany(t, emitter, 150)
		fromAll := events.StartAt(events.All())

		var once hRecorder
		s := hSubscribe(t, hClient(t, bus, "once"), "x", once.handle, fromAll, events.Once())
		synctest.Wait()
		require.Equal(t, []uint64{1}, once.seqs())
		require.NoError(t, s.Wait(t.Context()))

		once = hRecorder{}
		s = hSubscribe(t, hClient(t, bus, "once-filtered"), "x", once.handle, fromAll, events.Once(), events.Concurrent(4),
			events.Filter(func(e events.Event) bool { return e.Seq() >= 100 }))
		synctest.Wait()
		require.Len(t, once.seqs(), 1)
		require.GreaterOrEqual(t, once.seqs()[0], uint64(100))
		require.NoError(t, s.Wait(t.Context()))

		var filtered hRecorder
		s = hSubscribe(t, hClient(t, bus, "filter"), "x", filtered.handle, fromAll, events.Filter(func(e events.Event) bool {
			return e.Replayed() && e.Seq()%50 == 0
		}))
		synctest.Wait()
		hEmitMany(t, emitter, 50)
		synctest.Wait()
		require.Equal(t, []uint64{50, 100, 150}, filtered.seqs())
		require.EqualValues(t, 200, s.Stats().Ledger.Handled)

		// A time-out ends one call, and the next event follows when it returns.
		var late hRecorder
		s = hSubscribe(t, hClient(t, bus, "late"), "x", func(ctx context.Context, e events.Event) error {
			_ = late.handle(ctx, e)
			if e.Seq() == 70 {
				hAdvance(2 * time.Second)
			}
			return nil
		}, fromAll, events.Timeout(time.Second))
		hAdvance(3 * time.Second)
		synctest.Wait()
		require.Len(t, late.seqs(), 200)
		require.True(t, slices.IsSorted(late.seqs()))
		require.EqualValues(t, 1, s.Stats().Ledger.Abandoned)
		require.EqualValues(t, 199, s.Stats().Ledger.Handled)
		require.ErrorIs(t, failures[0].Err, events.ErrTimedOut)

		// A subscription that expires does so in the history too.
		expiring := newHGate()
		s = hSubscribe(t, hClient(t, bus, "expiring"), "x", expiring.handle, fromAll, events.Expires(time.Second))
		hAdvance(time.Second)
		synctest.Wait()
		expiring.open()
		require.Equal(t, []uint64{1}, expiring.seqs())
		require.NoError(t, s.Wait(t.Context()))

		// Of two handlers of one plugin for one event the one with the higher
		// priority comes first, and both follow the order.
		var both hRecorder
		plugin, busy := hClient(t, bus, "priority"), newHGate()
		hSubscribe(t, plugin, "busy", busy.handle)
		hEmit(t, emitter, "busy", events.NoHistory())
		synctest.Wait()
		for p := range 2 {
			hSubscribe(t, plugin, "x", func(ctx context.Context, e events.Event) error {
				_ = both.handle(ctx, e)
				if len(both.events())%2 != p {
					return errors.New("not the turn of this one")
				}
				return nil
			}, events.StartAt(events.Last(3)), events.Priority(p))
		}
		failures = nil
		busy.open()
		require.Equal(t, []uint64{198, 198, 199, 199, 200, 200}, both.seqs())
		require.Empty(t, failures)
	})
}

// TestStartAtKeepsTheBuffer shows that the queue of a subscription that reads the
// history is bounded, and what its overflow rule does.
func TestStartAtKeepsTheBuffer(t *testing.T) {
	for _, test := range []struct {
		option  events.SubscribeOption
		missing []uint64 // of the events beside the history, 66 to 70
		full    int
		dropped uint64
	}{
		{events.OnOverflow(events.DropOldest), []uint64{66, 67, 68}, 0, 3},
		{events.OnOverflow(events.DropNewest), []uint64{68, 69, 70}, 0, 3},
		{events.OnOverflow(events.RefuseToEmitter), []uint64{68, 69, 70}, 3, 0},
		{events.Fair(), []uint64{66, 67, 68}, 0, 3},
		{events.Concurrent(2), []uint64{66, 67, 68}, 0, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			want := hEmitMany(t, emitter, 65)
			got := newHGate()
			s := hSubscribe(t, reader, "x", got.handle, test.option, events.Buffer(2), events.StartAt(events.All()))
			synctest.Wait()
			full := 0
			for range 5 {
				receipt, err := emitter.Emit(t.Context(), "x", nil, events.NoHistory())
				require.NoError(t, err)
				require.Equal(t, 1, receipt.Matched)
				full += receipt.Full
				if !slices.Contains(test.missing, receipt.Seq) {
					want = append(want, receipt.Seq)
				}
			}
			require.Equal(t, test.full, full)

			// An emitter that waits for room waits for this queue too.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := emitter.Emit(ctx, "x", nil, events.NoHistory(), events.WaitForRoom())
			require.ErrorIs(t, err, events.ErrNoRoom)

			got.open()
			seqs := got.seqs()
			slices.Sort(seqs)
			require.Equal(t, want, seqs, "%#v", test.option)
			require.Equal(t, test.dropped, s.Stats().Ledger.Dropped)
			if test.dropped > 0 {
				require.Equal(t, map[string]uint64{"emitter": test.dropped}, s.Stats().Lost)
			}
		})
	}
}

// TestStartAtLetsOthersPass is E20: while one plugin takes its time over the
// history, live events reach all others, and emitters do not wait.
func TestStartAtLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter := hClient(t, bus, "emitter")
		hEmitMany(t, emitter, 500)
		slow := newHGate()
		hSubscribe(t, hClient(t, bus, "slow"), "x", slow.handle, events.StartAt(events.All()))
		var live hRecorder
		hSubscribe(t, hClient(t, bus, "live"), "x", live.handle)
		synctest.Wait()
		require.Equal(t, []uint64{501}, hEmitMany(t, emitter, 1))
		synctest.Wait()
		require.Equal(t, []uint64{501}, live.seqs())
		require.Equal(t, []uint64{1}, slow.seqs())
		slow.open()
		require.Len(t, slow.seqs(), 501)
	})
}
