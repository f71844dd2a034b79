package events_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// hTree is a payload with every kind of reference.
type hTree struct {
	Name  string
	List  []int
	Map   map[string][]string
	Next  *hTree
	Any   any
	Bytes []byte
}

func newHTree() *hTree {
	return &hTree{
		Name: "root", List: []int{1, 2, 3}, Map: map[string][]string{"k": {"v"}}, Bytes: []byte("bytes"),
		Next: &hTree{Name: "leaf", List: []int{4}}, Any: []any{"a", map[string]any{"b": 1}},
	}
}

// spoil changes all that can be changed.
func (h *hTree) spoil() {
	h.Name = "spoilt"
	h.List[0] = -1
	h.List = append(h.List[:1], -2)
	h.Map["k"][0] = "spoilt"
	h.Map["new"] = nil
	h.Bytes[0] = 'X'
	h.Next.Name = "spoilt"
	h.Next.List[0] = -1
	h.Any.([]any)[0] = "spoilt"
	h.Any.([]any)[1].(map[string]any)["b"] = "spoilt"
}

// TestPayloadIsFrozen is E12: what was sent is what everybody gets, whatever the
// sender or a recipient does with its own.
func TestPayloadIsFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter := hClient(t, bus, "emitter")
		want := newHTree()
		var handled atomic.Int64
		spoil := func(_ context.Context, e events.Event) error {
			first, second := e.Data().(*hTree), e.Data().(*hTree)
			require.Equal(t, want, first)
			first.spoil()
			require.Equal(t, want, second, "each Data is a copy of its own")
			second.spoil()
			require.Equal(t, want, e.Data())
			handled.Add(1)
			return nil
		}
		filter := events.Filter(func(e events.Event) bool {
			e.Data().(*hTree).spoil()
			return true
		})
		for _, id := range []string{"a", "b"} {
			c := hClient(t, bus, id)
			hSubscribe(t, c, "x", spoil, filter)
			hSubscribe(t, c, "x", spoil, events.OnOverflow(events.DropNewest))
			hSubscribe(t, c, "*", spoil)
			_, err := c.Receive(spoil)
			require.NoError(t, err)
		}
		sent := newHTree()
		_, err := emitter.Emit(t.Context(), "x", sent)
		require.NoError(t, err)
		sent.spoil()
		sent = newHTree()
		_, err = emitter.Broadcast(t.Context(), "x", sent, events.Audience{})
		require.NoError(t, err)
		sent.spoil()
		synctest.Wait()
		require.EqualValues(t, 2*3+2*4, handled.Load())

		late := hClient(t, bus, "late")
		hSubscribe(t, late, "x", spoil, events.StartAt(events.All()))
		synctest.Wait()
		for _, e := range hReplayedEvents(t, late, "x", events.All()) {
			require.Equal(t, want, e.Data())
		}
		require.EqualValues(t, 2*3+2*4+1, handled.Load())
		require.Equal(t, uint64(handled.Load()), bus.Ledger().Handled, "no check failed in a handler")
	})
}

// TestPayloadIsNobodysElse has many recipients write to what they got, while the
// sender writes to what it sent: under the race detector this proves that they
// share nothing.
func TestPayloadIsNobodysElse(t *testing.T) {
	const plugins, each = 4, 200
	bus := hBus(t, events.Options{Buffer: 1024})
	var handled atomic.Int64
	spoil := func(_ context.Context, e events.Event) error {
		tree := e.Data().(*hTree)
		if tree.Name != "root" || tree.List[0] != 1 {
			return errors.New("somebody changed it")
		}
		tree.spoil()
		handled.Add(1)
		return nil
	}
	for i := range plugins {
		c := hClient(t, bus, string(rune('a'+i)))
		hSubscribe(t, c, "x", spoil, events.Buffer(events.MaxBuffer))
		hSubscribe(t, c, "x", spoil, events.Buffer(events.MaxBuffer), events.Concurrent(3))
	}
	var wg sync.WaitGroup
	for i := range plugins {
		c := hClient(t, bus, string(rune('A'+i)))
		wg.Go(func() {
			for range each {
				tree := newHTree()
				if _, err := c.Emit(t.Context(), "x", tree); err != nil {
					t.Error(err)
				}
				tree.spoil()
			}
		})
	}
	wg.Wait()
	require.NoError(t, bus.Idle(t.Context()))
	require.EqualValues(t, plugins*each*plugins*2, handled.Load())
	require.Zero(t, bus.Ledger().Failed)
}

// TestShared shows the way around the copies: recipients get the very value, if
// the policy grants it, and the history never does.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "emitter"}
		emitter, reader := hGuarded(t, bus, "emitter", guard), hClient(t, bus, "reader")
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle)
		reading := newHGate()
		hEmit(t, emitter, "y")
		hSubscribe(t, hClient(t, bus, "slow"), "*", reading.handle, events.StartAt(events.All()))
		synctest.Wait()

		tree := newHTree()
		_, err := emitter.Emit(t.Context(), "x", plugbus.Shared(tree))
		denied := hRequireDenied(t, err, plugbus.ReasonSharedNotGranted)
		require.Equal(t, "x", denied.Object)
		require.ErrorContains(t, err, "plugbus.Shared")

		guard.shared = true
		guard.deny(plugbus.VerbSend) // Another version.
		_, err = emitter.Emit(t.Context(), "x", plugbus.Shared(tree))
		require.NoError(t, err)
		_, err = emitter.Broadcast(t.Context(), "x", plugbus.Shared(tree), events.Audience{})
		require.NoError(t, err)
		_, err = emitter.Emit(t.Context(), "x", plugbus.Shared(make(chan int)))
		hRequireDenied(t, err, plugbus.ReasonInvalidPayload)
		synctest.Wait()
		reading.open()
		for _, e := range append(got.events(), reading.events()[1:]...) {
			require.Same(t, tree, e.Data())
			require.False(t, e.Replayed())
		}
		require.Len(t, got.events(), 2)
		require.Len(t, reading.events(), 3)
		require.Empty(t, hReplayed(t, reader, "x", events.All()))
		require.Equal(t, 1, bus.History().Events)
	})
}

// TestPayloadRefused shows that a payload which cannot be frozen is refused with
// the place and the reason, and leaves nothing behind (E14).
func TestPayloadRefused(t *testing.T) {
	bus := hBus(t, events.Options{})
	emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
	var got hRecorder
	hSubscribe(t, reader, "**", got.handle)
	type ring struct{ Next *ring }
	cycle := &ring{&ring{}}
	cycle.Next.Next = cycle
	type hidden struct {
		Shown  int
		secret *int
	}
	deep := &hTree{}
	for range 100 {
		deep = &hTree{Next: deep}
	}
	for _, test := range []struct {
		data   any
		reason plugbus.Reason
		path   string
	}{
		{make(chan int), plugbus.ReasonInvalidPayload, "payload"},
		{func() {}, plugbus.ReasonInvalidPayload, "payload"},
		{t.Context(), plugbus.ReasonInvalidPayload, "payload"},
		{[]any{1, make(chan int)}, plugbus.ReasonInvalidPayload, "payload[1]"},
		{&hTree{Any: func() {}}, plugbus.ReasonInvalidPayload, "payload.Any"},
		{map[string]any{"k": math.NaN()}, plugbus.ReasonInvalidPayload, "payload[*]"},
		{[]float64{1, math.Inf(-1)}, plugbus.ReasonInvalidPayload, "payload[1]"},
		{cycle, plugbus.ReasonInvalidPayload, "payload.Next"},
		{hidden{1, new(int)}, plugbus.ReasonInvalidPayload, "payload.secret"},
		{&sync.Mutex{}, plugbus.ReasonInvalidPayload, "payload"},
		{bus, plugbus.ReasonInvalidPayload, "payload"},
		{reader, plugbus.ReasonInvalidPayload, "payload"},
		{events.Event{}, plugbus.ReasonInvalidPayload, "payload"},
		{[]any{plugbus.Shared(1)}, plugbus.ReasonInvalidPayload, "payload[0]"},
		{strings.Repeat("x", 1<<20+1), plugbus.ReasonTooLarge, "payload"},
		{make([]struct{}, 1<<40), plugbus.ReasonTooLarge, "payload"},
		{deep, plugbus.ReasonTooLarge, "payload.Next"},
	} {
		receipt, err := emitter.Emit(t.Context(), "x", test.data)
		denied := hRequireDenied(t, err, test.reason)
		require.Equal(t, plugbus.VerbEmit, denied.Verb)
		require.Equal(t, "x", denied.Object)
		require.ErrorContains(t, denied.Cause, test.path, "%T", test.data)
		require.Equal(t, test.reason == plugbus.ReasonInvalidPayload, errors.Is(err, plugbus.ErrInvalid))
		require.Zero(t, receipt)
	}
	require.NoError(t, bus.Idle(t.Context()))
	require.Empty(t, got.events())
	require.Empty(t, hReplayed(t, reader, "**", events.All()))
	require.Zero(t, bus.History().Events)
	require.EqualValues(t, 17, bus.Ledger().Refused)
	require.EqualValues(t, 1, hEmit(t, emitter, "x"), "a refused event takes no Seq")
}

// TestPayloadSizes shows the size that bounds count by.
func TestPayloadSizes(t *testing.T) {
	for _, test := range []struct {
		data any
		want int
	}{
		{nil, 0},
		{"", 0},
		{"four", 4},
		{int64(7), 8},
		{struct{ A, B int32 }{}, 8},
		{[]byte("four"), 4},
	} {
		require.Equal(t, test.want, hDelivered(t, test.data).Size(), "%#v", test.data)
		require.Equal(t, test.data, hDelivered(t, test.data).Data())
	}
}
