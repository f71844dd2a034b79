package events_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// An hListener is a plugin that subscribes and receives.
type hListener struct {
	*events.Client
	guard              *hGuard
	subscribed, direct hRecorder
}

// hListen returns a plugin that subscribed to a pattern, and receives
// broadcasts.
func hListen(t *testing.T, bus *events.Bus, id, pattern string, options ...events.SubscribeOption) *hListener {
	t.Helper()
	l := &hListener{guard: &hGuard{plugin: id}}
	l.Client = hGuarded(t, bus, id, l.guard)
	hSubscribe(t, l.Client, pattern, l.subscribed.handle, options...)
	_, err := l.Receive(l.direct.handle)
	require.NoError(t, err)
	return l
}

func hBroadcast(t *testing.T, c *events.Client, name string, to events.Audience, options ...events.EmitOption) events.Receipt {
	t.Helper()
	receipt, err := c.Broadcast(t.Context(), name, nil, to, options...)
	require.NoError(t, err)
	return receipt
}

// TestBroadcast shows whom a broadcast reaches (H14): an audience, by its
// subscriptions and by its handlers of broadcasts, and not the sender.
func TestBroadcast(t *testing.T) {
	inAudience := func(_ string, a events.Audience, id string) bool {
		can := map[string][]string{"a": {"index", "search"}, "b": {"index"}}[id]
		for _, c := range a.Capabilities {
			if !slices.Contains(can, c) {
				return false
			}
		}
		return map[string]plugbus.Trust{"a": plugbus.Basic, "b": plugbus.Trusted}[id] >= a.LeastTrust
	}
	for _, test := range []struct {
		to   events.Audience
		want string // of the plugins a, b and c
	}{
		{events.Audience{}, "abc"},
		{events.Audience{IDs: []string{"b"}}, "b"},
		{events.Audience{IDs: []string{"b", "c", "nobody"}}, "bc"},
		{events.Audience{IDs: []string{"nobody"}}, ""},
		{events.Audience{IDs: []string{"sender", "a"}}, "a"},
		{events.Audience{Capabilities: []string{"index"}}, "ab"},
		{events.Audience{Capabilities: []string{"index", "search"}}, "a"},
		{events.Audience{LeastTrust: plugbus.Basic}, "ab"},
		{events.Audience{LeastTrust: plugbus.Trusted}, "b"},
		{events.Audience{Capabilities: []string{"index"}, IDs: []string{"b", "c"}}, "b"},
		{events.Audience{Capabilities: []string{"search"}, LeastTrust: plugbus.Trusted}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{InAudience: inAudience})
			sender := hListen(t, bus, "sender", "**")
			others := []*hListener{
				hListen(t, bus, "a", "x.*"),
				hListen(t, bus, "b", "x.a", events.OnOverflow(events.DropNewest)),
				hListen(t, bus, "c", "y"), // has no subscription, but receives
			}
			receipt := hBroadcast(t, sender.Client, "x.a", test.to)
			synctest.Wait()
			got, deliveries := "", 0
			for _, l := range others {
				if n := len(l.direct.events()); n > 0 {
					require.Equal(t, 1, n)
					got += l.ID()
				}
				wantSubscribed := len(l.direct.events())
				if l.ID() == "c" {
					wantSubscribed = 0
				}
				require.Len(t, l.subscribed.events(), wantSubscribed, "%+v: %s", test, l.ID())
				deliveries += len(l.subscribed.events()) + len(l.direct.events())
			}
			require.Equal(t, test.want, got, "%+v", test)
			require.Empty(t, sender.direct.events())
			require.Empty(t, sender.subscribed.events())
			require.Equal(t, deliveries, receipt.Matched)
			require.Equal(t, deliveries, receipt.Accepted)
			require.Zero(t, receipt.Refused+receipt.Full)
			require.EqualValues(t, deliveries, bus.Ledger().Handled)
		})
	}
}

// TestBroadcastExcludesHandle is H15: it is the sender's handle that is left out,
// and not its id, which another plugin can have later.
func TestBroadcastExcludesHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		first := hListen(t, bus, "p", "x")
		require.NoError(t, first.Close(t.Context()))
		_, err := first.Broadcast(t.Context(), "x", nil, events.Audience{})
		require.ErrorIs(t, err, events.ErrClosed)

		second := hListen(t, bus, "p", "x")
		other := hClient(t, bus, "other")
		hBroadcast(t, other, "x", events.Audience{IDs: []string{"p"}})
		hBroadcast(t, second.Client, "x", events.Audience{IDs: []string{"p"}})
		synctest.Wait()
		require.Equal(t, []uint64{1}, second.direct.seqs())
		require.Equal(t, []uint64{1}, second.subscribed.seqs())
		require.Empty(t, first.direct.events())
	})
}

// TestBroadcastRefusesRecipients is H12 and H13: each recipient is asked for its
// own right, and one that may not have the event keeps it from nobody else. It
// is counted for the sender, and recorded.
func TestBroadcastRefusesRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "sender", hidden: []string{"hidden", "hidden-denied"}}
		sender := hGuarded(t, bus, "sender", guard)
		plugins := map[string]*hListener{}
		for _, id := range []string{"may", "denied", "hidden", "hidden-denied"} {
			plugins[id] = hListen(t, bus, id, "x.*")
		}
		bystander := hGuarded(t, bus, "bystander", &hGuard{}) // has nothing that the event could reach
		for _, id := range []string{"denied", "hidden-denied"} {
			plugins[id].guard.deny(plugbus.VerbSubscribe, "x.a")
		}
		receipt := hBroadcast(t, sender, "x.a", events.Audience{})
		synctest.Wait()
		require.Equal(t, 3, receipt.Matched, "two of may, and denied")
		require.Equal(t, 2, receipt.Accepted)
		require.Equal(t, 1, receipt.Refused)
		for id, l := range plugins {
			want := 1
			if l.guard.Version() > 0 {
				want = 0
			}
			require.Len(t, l.subscribed.events(), want, id)
			require.Len(t, l.direct.events(), want, id)
			require.Empty(t, l.guard.refusals(), "it is no act of the recipient")
		}
		refused := guard.refusals()
		require.Len(t, refused, 2)
		for _, r := range refused {
			require.Equal(t, plugbus.VerbBroadcast, r.Verb)
			require.Equal(t, "x.a", r.Object)
			require.Equal(t, plugbus.ReasonRecipientCannotReceive, r.Reason)
			require.ErrorContains(t, r.Cause, "denied")
		}
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.EqualValues(t, 2, l.Refused)
		require.EqualValues(t, 4, l.Handled)

		// What a recipient might not have then, it does not find in the history
		// later.
		plugins["denied"].guard.deny(plugbus.VerbSubscribe)
		require.Empty(t, hReplayed(t, plugins["denied"].Client, "**", events.All()))
		require.Equal(t, []uint64{1}, hReplayed(t, plugins["may"].Client, "**", events.All()))
		require.Equal(t, []uint64{1}, hReplayed(t, bystander, "**", events.All()))
	})
}

// TestBroadcastReceiptKeepsSilence shows that a receipt counts nothing of plugins
// that the sender may not know of, neither what they take nor what they have no
// room for.
func TestBroadcastReceiptKeepsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		sender := hGuarded(t, bus, "sender", &hGuard{hidden: []string{"hidden"}})
		gates := []*hGate{newHGate(), newHGate()}
		for i, id := range []string{"known", "hidden"} {
			hSubscribe(t, hClient(t, bus, id), "x", gates[i].handle, events.Buffer(1), events.OnOverflow(events.RefuseToEmitter))
		}
		for _, want := range []events.Receipt{
			{Seq: 1, Matched: 1, Accepted: 1}, // It runs,
			{Seq: 2, Matched: 1, Accepted: 1}, // waits,
			{Seq: 3, Matched: 1, Full: 1},     // and finds no room.
		} {
			got := hBroadcast(t, sender, "x", events.Audience{})
			require.NotZero(t, got.ID())
			require.Equal(t, want, events.Receipt{Seq: got.Seq, Matched: got.Matched, Accepted: got.Accepted, Refused: got.Refused, Full: got.Full})
			synctest.Wait()
		}
		require.Equal(t, 0, hBroadcast(t, sender, "x", events.Audience{IDs: []string{"hidden"}}).Matched)
		for _, g := range gates {
			g.open()
		}
		require.EqualValues(t, 3, bus.Ledger().Full)
	})
}

// TestBroadcastOrder shows that broadcasts and other events have one order, and
// that a plugin handles them in it, whatever its subscriptions are.
func TestBroadcastOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		broadcasts := rapid.SliceOfN(rapid.Bool(), 1, 200).Draw(rt, "broadcasts")
		pauses := rapid.SliceOfN(rapid.Bool(), len(broadcasts), len(broadcasts)).Draw(rt, "pauses")
		var follower, queued, reader, several, direct hRecorder
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			sender := hClient(t, bus, "sender")
			hSubscribe(t, hClient(t, bus, "follower"), "x", follower.handle)
			hSubscribe(t, hClient(t, bus, "queued"), "x", queued.handle, events.Fair())
			hSubscribe(t, hClient(t, bus, "reader"), "x", reader.handle, events.StartAt(events.All()))
			plugin := hClient(t, bus, "several")
			hSubscribe(t, plugin, "x", several.handle)
			hSubscribe(t, plugin, "*", several.handle, events.OnOverflow(events.RefuseToEmitter))
			_, err := plugin.Receive(direct.handle)
			require.NoError(t, err)
			for i, broadcast := range broadcasts {
				if broadcast {
					hBroadcast(t, sender, "x", events.Audience{})
				} else {
					hEmit(t, sender, "x")
				}
				if pauses[i] {
					synctest.Wait()
				}
			}
			require.NoError(t, bus.Idle(t.Context()))
		})
		var all, twice, told []uint64
		for i, broadcast := range broadcasts {
			seq := uint64(i + 1)
			all, twice = append(all, seq), append(twice, seq, seq)
			if broadcast {
				told = append(told, seq)
			}
		}
		require.Equal(rt, all, follower.seqs())
		require.Equal(rt, all, queued.seqs())
		require.Equal(rt, all, reader.seqs())
		require.Equal(rt, twice, several.seqs())
		require.Equal(rt, told, direct.seqs())
	})
}

// TestBroadcastOvertakesNothing is the least case of the order: a follower has
// claimed one event, and gets another by its log and a broadcast by its queue.
func TestBroadcastOvertakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		sender, got := hClient(t, bus, "sender"), newHGate()
		hSubscribe(t, hClient(t, bus, "follower"), "x", got.handle)
		hEmit(t, sender, "x")
		synctest.Wait()
		hEmit(t, sender, "x")
		hBroadcast(t, sender, "x", events.Audience{})
		hEmit(t, sender, "x")
		hBroadcast(t, sender, "x", events.Audience{})
		got.open()
		require.Equal(t, []uint64{1, 2, 3, 4, 5}, got.seqs())
	})
}

// TestBroadcastWhileReading shows that a subscription which still reads the
// history gets each broadcast once, from the history or beside it.
func TestBroadcastWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		sender, member := hClient(t, bus, "sender"), hClient(t, bus, "member")
		stranger := hClient(t, bus, "stranger")
		hEmitMany(t, sender, 100)
		mine, theirs := newHGate(), newHGate()
		hSubscribe(t, member, "x", mine.handle, events.StartAt(events.All()))
		hSubscribe(t, stranger, "x", theirs.handle, events.StartAt(events.All()))
		synctest.Wait()
		to := events.Audience{IDs: []string{"member"}}
		hBroadcast(t, sender, "x", to)
		hBroadcast(t, sender, "x", to, events.NoHistory())
		mine.open()
		theirs.open()
		hBroadcast(t, sender, "x", to)
		synctest.Wait()
		require.Len(t, mine.seqs(), 103)
		require.EqualValues(t, []uint64{100, 101, 102, 103}, mine.seqs()[99:])
		require.Len(t, theirs.seqs(), 100)
	})
}

// TestBroadcastInHistory shows that the history keeps a broadcast for its
// audience, and for nobody else: not for its sender, not for those who came
// later, and not for one who came back under the id of a member.
func TestBroadcastInHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		sender, member, stranger := hClient(t, bus, "sender"), hClient(t, bus, "member"), hClient(t, bus, "stranger")
		hBroadcast(t, sender, "x", events.Audience{IDs: []string{"member", "later"}})
		hEmit(t, sender, "x")
		hBroadcast(t, sender, "x", events.Audience{})
		later := hClient(t, bus, "later")
		for _, test := range []struct {
			reader *events.Client
			want   []uint64
		}{
			{member, []uint64{1, 2, 3}},
			{stranger, []uint64{2, 3}},
			{sender, []uint64{2}},
			{later, []uint64{2}},
		} {
			require.Equal(t, test.want, hReplayed(t, test.reader, "x", events.All()), test.reader.ID())
			require.Equal(t, test.want[len(test.want)-1:], hReplayed(t, test.reader, "x", events.Last(1)))
			var got hRecorder
			hSubscribe(t, test.reader, "x", got.handle, events.StartAt(events.All()))
			synctest.Wait()
			require.Equal(t, test.want, got.seqs(), test.reader.ID())
		}
		require.NoError(t, member.Close(t.Context()))
		again := hClient(t, bus, "member")
		require.Equal(t, []uint64{2}, hReplayed(t, again, "x", events.All()), "a reused id inherits nothing")
	})
}

// TestBroadcastOptions shows which options go with a broadcast.
func TestBroadcastOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		sender, l := hClient(t, bus, "sender"), hListen(t, bus, "listener", "x")
		for _, test := range []struct {
			to      events.Audience
			options []events.EmitOption
			option  string
		}{
			{events.Audience{}, []events.EmitOption{events.WaitForRoom()}, "WaitForRoom"},
			{events.Audience{}, []events.EmitOption{nil}, "EmitOption"},
			{events.Audience{}, []events.EmitOption{events.MaxAge(0)}, "MaxAge"},
			{events.Audience{Capabilities: []string{"index"}}, nil, "Audience"},
			{events.Audience{LeastTrust: plugbus.Basic}, nil, "Audience"},
		} {
			receipt, err := sender.Broadcast(t.Context(), "x", nil, test.to, test.options...)
			hRequireOptionError(t, err, test.option)
			require.Zero(t, receipt)
		}
		require.Zero(t, bus.Ledger().Offered)

		_, err := sender.Broadcast(t.Context(), "x", []string{"data"}, events.Audience{IDs: []string{"listener"}}, events.NoHistory(),
			events.Headers(map[string]string{"k": "v"}), events.CorrelationID("c"))
		require.NoError(t, err)
		synctest.Wait()
		for _, e := range append(l.subscribed.events(), l.direct.events()...) {
			require.Equal(t, "sender", e.Source())
			require.Equal(t, []string{"data"}, e.Data())
			require.Equal(t, "v", e.Header("k"))
			require.Equal(t, "c", e.CorrelationID())
			require.Equal(t, []string{"sender"}, e.Chain().Plugins())
			require.False(t, e.Replayed())
		}
		require.Len(t, l.direct.events(), 1)
		require.Empty(t, hReplayed(t, l.Client, "x", events.All()))
	})
}

// TestBroadcastPassesTheDoor is H12: a broadcast asks for a right of its own, and
// for rate and payload as every act does.
func TestBroadcastPassesTheDoor(t *testing.T) {
	bus := hBus(t, events.Options{MaxDepth: 2})
	meter := &hMeter{}
	meter.left.Store(3)
	guard := &hGuard{plugin: "sender", acts: meter}
	sender, l := hGuarded(t, bus, "sender", guard), hListen(t, bus, "listener", "**")
	guard.deny(plugbus.VerbBroadcast, "denied")
	for _, test := range []struct {
		name   string
		data   any
		reason plugbus.Reason
	}{
		{"denied", nil, plugbus.ReasonDeniedByRule},
		{"a..b", nil, plugbus.ReasonInvalidName},
		{"x", make(chan int), plugbus.ReasonInvalidPayload},
		{"x", plugbus.Shared(new(int)), plugbus.ReasonSharedNotGranted},
		{"x", make([]byte, 2<<20), plugbus.ReasonTooLarge},
		{"x", nil, plugbus.ReasonRateLimitExceeded},
	} {
		receipt, err := sender.Broadcast(t.Context(), test.name, test.data, events.Audience{})
		denied := hRequireDenied(t, err, test.reason)
		require.Equal(t, plugbus.VerbBroadcast, denied.Verb)
		require.Equal(t, test.name, denied.Object)
		require.Zero(t, receipt)
	}
	require.NoError(t, bus.Idle(t.Context()))
	require.Empty(t, l.direct.events())
	require.Empty(t, l.subscribed.events())
	require.EqualValues(t, 6, bus.Ledger().Refused)
	require.Zero(t, bus.History().Events)
	require.NoError(t, sender.Close(t.Context()))
	_, err := sender.Broadcast(t.Context(), "x", nil, events.Audience{})
	require.ErrorIs(t, err, plugbus.ErrClosed)
}

// TestBroadcastUnderNewPolicy shows that a broadcast which was admitted under a
// policy that changed before it got its place is asked for again.
func TestBroadcastUnderNewPolicy(t *testing.T) {
	var guard *hGuard
	asked := 0
	bus := hBus(t, events.Options{InAudience: func(string, events.Audience, string) bool {
		if asked++; asked == 1 {
			guard.deny(plugbus.VerbBroadcast, "x")
		}
		return true
	}})
	guard = &hGuard{plugin: "sender"}
	sender, l := hGuarded(t, bus, "sender", guard), hListen(t, bus, "listener", "x")
	_, err := sender.Broadcast(t.Context(), "x", nil, events.Audience{})
	hRequireDenied(t, err, plugbus.ReasonDeniedByRule)
	asked = 0
	receipt, err := sender.Broadcast(t.Context(), "y", nil, events.Audience{})
	require.NoError(t, err)
	require.EqualValues(t, 1, receipt.Seq)
	require.Equal(t, 2, asked, "once for each policy")
	require.NoError(t, bus.Idle(t.Context()))
	require.Equal(t, []uint64{1}, l.direct.seqs())
}

// TestBroadcastIsolatesFailures is H13: a handler that fails, panics or ends its
// goroutine keeps a broadcast from nobody else.
func TestBroadcastIsolatesFailures(t *testing.T) {
	bus := hBus(t, events.Options{})
	sender := hClient(t, bus, "sender")
	for i := range 3 {
		_, err := hClient(t, bus, fmt.Sprint("bad", i)).Receive(func(context.Context, events.Event) error { panic("no") })
		require.NoError(t, err)
	}
	var got hRecorder
	_, err := hClient(t, bus, "good").Receive(got.handle)
	require.NoError(t, err)
	require.Equal(t, 4, hBroadcast(t, sender, "x", events.Audience{}).Accepted)
	require.NoError(t, bus.Idle(t.Context()))
	require.Len(t, got.events(), 1)
	require.EqualValues(t, 3, bus.Ledger().Failed)
}

func TestReceiveNeedsHandler(t *testing.T) {
	bus := hBus(t, events.Options{})
	c := hClient(t, bus, "plugin")
	_, err := c.Receive(nil)
	require.ErrorIs(t, err, events.ErrNilHandler)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	s, err := c.Receive((&hRecorder{}).handle)
	require.NoError(t, err)
	require.Empty(t, s.Pattern())
	s.Unsubscribe()
	require.Zero(t, hBroadcast(t, hClient(t, bus, "sender"), "x", events.Audience{}).Matched)
	require.NoError(t, c.Close(t.Context()))
	_, err = c.Receive((&hRecorder{}).handle)
	require.ErrorIs(t, err, events.ErrClosed)
}
