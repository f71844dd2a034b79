package events_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// TestOptions shows the bounds of each option of a bus.
func TestOptions(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, test := range []struct {
		options events.Options
		wrong   string
	}{
		{events.Options{}, ""},
		{events.Options{HistoryEvents: 10_000_000}, ""},
		{events.Options{HistoryEvents: 10_000_001}, "HistoryEvents"},
		{events.Options{HistoryEvents: -1}, ""}, // none
		{events.Options{HistoryEvents: math.MinInt}, ""},
		{events.Options{HistoryBytes: 1}, ""},
		{events.Options{HistoryBytes: -1}, "HistoryBytes"},
		{events.Options{HistoryBytes: 1<<40 + 1}, "HistoryBytes"},
		{events.Options{HistoryAge: 1}, ""},
		{events.Options{HistoryAge: -1}, "HistoryAge"},
		{events.Options{HistoryAge: 100*year + 1}, "HistoryAge"},
		{events.Options{Buffer: 1}, ""},
		{events.Options{Buffer: events.MaxBuffer}, ""},
		{events.Options{Buffer: -1}, "Buffer"},
		{events.Options{Buffer: events.MaxBuffer + 1}, "Buffer"},
		{events.Options{QueueBytes: 1}, ""},
		{events.Options{QueueBytes: -1}, "QueueBytes"},
		{events.Options{MaxDepth: 1024}, ""},
		{events.Options{MaxDepth: 1025}, "MaxDepth"},
		{events.Options{MaxDepth: -1}, "MaxDepth"},
		{events.Options{MaxSubscriptions: 1}, ""},
		{events.Options{MaxSubscriptions: -1}, "MaxSubscriptions"},
		{events.Options{WaitLimit: year}, ""},
		{events.Options{WaitLimit: year + 1}, "WaitLimit"},
		{events.Options{WaitLimit: -1}, "WaitLimit"},
		{events.Options{HandlerTimeout: 1}, ""},
		{events.Options{HandlerTimeout: -1}, "HandlerTimeout"},
		{events.Options{SlowAfter: 1}, ""},
		{events.Options{SlowAfter: -1}, "SlowAfter"},
	} {
		bus, err := events.New(test.options)
		if test.wrong == "" {
			require.NoError(t, err, "%+v", test.options)
			require.NoError(t, bus.Close(t.Context()))
			continue
		}
		require.Nil(t, bus)
		bad := hRequireOptionError(t, err, test.wrong)
		require.ErrorContains(t, err, fmt.Sprintf("option %s is %v; expected %s", test.wrong, bad.Got, bad.Want))
	}
}

// TestOptionsReportsAllMistakes shows that one call of New names all that is
// wrong.
func TestOptionsReportsAllMistakes(t *testing.T) {
	_, err := events.New(events.Options{
		HistoryEvents: 1 << 60, HistoryBytes: -1, HistoryAge: -1, Buffer: -1, QueueBytes: -1, MaxDepth: -1,
		MaxSubscriptions: -1, WaitLimit: -1, HandlerTimeout: -1, SlowAfter: -1,
	})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, option := range []string{
		"HistoryEvents", "HistoryBytes", "HistoryAge", "Buffer", "QueueBytes", "MaxDepth",
		"MaxSubscriptions", "WaitLimit", "HandlerTimeout", "SlowAfter",
	} {
		require.ErrorContains(t, err, "option "+option+" is ")
	}
}

func TestClientOptions(t *testing.T) {
	bus := hBus(t, events.Options{})
	for _, test := range []struct {
		id      string
		options events.ClientOptions
		ok      bool
	}{
		{"plain", events.ClientOptions{}, true},
		{"least", events.ClientOptions{MaxSubscriptions: 1, MaxWildcards: 1}, true},
		{"none", events.ClientOptions{MaxSubscriptions: -1, MaxWildcards: -1}, true},
		{"", events.ClientOptions{}, false},
		{"a.b", events.ClientOptions{}, false},
		{"ä", events.ClientOptions{}, false},
		{"*", events.ClientOptions{}, false},
		{"plain", events.ClientOptions{}, false}, // in use
	} {
		c, err := bus.Client(test.id, test.options)
		if test.ok {
			require.NoError(t, err, "%+v", test)
			require.Equal(t, test.id, c.ID())
		} else {
			require.ErrorIs(t, err, plugbus.ErrInvalid, "%+v", test)
		}
	}
}

// TestSubscribeOptions shows what each option of a subscription takes.
func TestSubscribeOptions(t *testing.T) {
	bus := hBus(t, events.Options{})
	c := hClient(t, bus, "plugin")
	with := func(options ...events.SubscribeOption) []events.SubscribeOption { return options }
	for _, test := range []struct {
		options []events.SubscribeOption
		wrong   string
	}{
		{with(), ""},
		{with(nil), "SubscribeOption"},
		{with(events.Once(), nil), "SubscribeOption"},
		{with(events.Once(), events.Narrow(), events.Fair()), ""},
		{with(events.Filter(nil)), "Filter"},
		{with(events.Filter(func(events.Event) bool { return true })), ""},
		{with(events.Priority(math.MinInt)), ""},
		{with(events.Priority(math.MaxInt)), ""},
		{with(events.Timeout(0)), "Timeout"},
		{with(events.Timeout(-1)), "Timeout"},
		{with(events.Timeout(math.MaxInt64)), ""},
		{with(events.Expires(0)), "Expires"},
		{with(events.Expires(-1)), "Expires"},
		{with(events.Expires(math.MaxInt64)), ""},
		{with(events.Buffer(0)), "Buffer"},
		{with(events.Buffer(-1)), "Buffer"},
		{with(events.Buffer(1)), ""},
		{with(events.Buffer(events.MaxBuffer)), ""},
		{with(events.Buffer(events.MaxBuffer + 1)), "Buffer"},
		{with(events.OnOverflow(events.RefuseToEmitter)), ""},
		{with(events.OnOverflow(events.RefuseToEmitter + 1)), "OnOverflow"},
		{with(events.OnOverflow(255)), "OnOverflow"},
		{with(events.Fair(), events.OnOverflow(events.DropNewest)), ""},
		{with(events.Fair(), events.OnOverflow(events.RefuseToEmitter)), "Fair"},
		{with(events.OnOverflow(events.RefuseToEmitter), events.Fair()), "Fair"},
		{with(events.Fair(), events.Buffer(events.MaxFairBuffer)), ""},
		{with(events.Fair(), events.Buffer(events.MaxFairBuffer+1)), "Buffer"},
		{with(events.Concurrent(0)), "Concurrent"},
		{with(events.Concurrent(-1)), "Concurrent"},
		{with(events.Concurrent(1)), ""},
		{with(events.Concurrent(events.MaxConcurrent)), ""},
		{with(events.Concurrent(events.MaxConcurrent + 1)), "Concurrent"},
		{with(events.StartAt(events.From{})), ""},
		{with(events.StartAt(events.Last(0))), "Last"},
		{with(events.StartAt(events.Last(-1))), "Last"},
		{with(events.StartAt(events.Last(math.MaxInt))), ""},
		{with(events.StartAt(events.After(math.MaxUint64))), ""},
	} {
		s, err := c.Subscribe("x", (&hRecorder{}).handle, test.options...)
		if test.wrong == "" {
			require.NoError(t, err, "%#v", test.options)
			s.Unsubscribe()
			continue
		}
		require.Nil(t, s)
		hRequireOptionError(t, err, test.wrong)
	}
	_, err := c.Subscribe("x", nil)
	require.ErrorIs(t, err, events.ErrNilHandler)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, `"x"`)
	require.Zero(t, bus.Ledger().Offered)
}

// TestEmitOptions shows what each option of an event takes. An event with a wrong
// one is not emitted.
func TestEmitOptions(t *testing.T) {
	bus := hBus(t, events.Options{})
	c := hClient(t, bus, "plugin")
	headers := func(n int) events.EmitOption {
		all := map[string]string{}
		for i := range n {
			all[fmt.Sprint(i)] = "value"
		}
		return events.Headers(all)
	}
	for _, test := range []struct {
		option events.EmitOption
		wrong  string
	}{
		{nil, "EmitOption"},
		{events.Headers(nil), ""},
		{headers(0), ""},
		{headers(events.MaxHeaders), ""},
		{headers(events.MaxHeaders + 1), "Headers"},
		{events.MaxAge(1), ""},
		{events.MaxAge(math.MaxInt64), ""},
		{events.MaxAge(0), "MaxAge"},
		{events.MaxAge(-1), "MaxAge"},
		{events.CorrelationID("c"), ""},
		{events.CorrelationID(strings.Repeat("c", 255)), ""},
		{events.CorrelationID(strings.Repeat("c", 256)), "CorrelationID"},
		{events.CorrelationID(""), "CorrelationID"},
		{events.NoHistory(), ""},
		{events.WaitForRoom(), ""},
	} {
		before := bus.Ledger()
		receipt, err := c.Emit(t.Context(), "x", nil, test.option)
		if test.wrong == "" {
			require.NoError(t, err, "%#v", test.option)
			require.NotZero(t, receipt.Seq)
			continue
		}
		hRequireOptionError(t, err, test.wrong)
		require.Zero(t, receipt)
		require.Equal(t, before, bus.Ledger())
	}
}

// TestHeaders shows that headers are copied, measured and inspected like a
// payload.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hContentGuard{hGuard{plugin: "emitter"}}
		emitter, err := bus.Client("emitter", events.ClientOptions{Guard: guard})
		require.NoError(t, err)
		reader := hClient(t, bus, "reader")
		var got hRecorder
		hSubscribe(t, reader, "x", got.handle)

		headers := map[string]string{"key": "value"}
		_, err = emitter.Emit(t.Context(), "x", "data", events.Headers(headers))
		require.NoError(t, err)
		headers["key"], headers["other"] = "changed", "added"
		synctest.Wait()
		e := got.events()[0]
		require.Equal(t, map[string]string{"key": "value"}, e.Headers())
		require.Equal(t, "value", e.Header("key"))
		require.Empty(t, e.Header("other"))
		require.Greater(t, e.Size(), len("data"), "the size has the headers")
		e.Headers()["key"] = "changed"
		require.Equal(t, "value", e.Header("key"))
		require.Equal(t, "value", got.events()[0].Headers()["key"])

		for _, test := range []struct {
			headers map[string]string
			reason  plugbus.Reason
		}{
			{map[string]string{"key": "<script>"}, plugbus.ReasonInvalidContent},
			{map[string]string{"<script>": "value"}, plugbus.ReasonInvalidContent},
			{map[string]string{"key": strings.Repeat("long", 1<<20)}, plugbus.ReasonTooLarge},
		} {
			_, err := emitter.Emit(t.Context(), "x", nil, events.Headers(test.headers))
			hRequireDenied(t, err, test.reason)
		}
		synctest.Wait()
		require.Len(t, got.events(), 1)
		require.Len(t, hReplayed(t, reader, "x", events.All()), 1)

		// An event without headers has none, and so has no event at all.
		hEmit(t, emitter, "x")
		synctest.Wait()
		require.Nil(t, got.events()[1].Headers())
		require.Nil(t, events.Event{}.Headers())
		require.Empty(t, events.Event{}.Header("key"))
	})
}

// An hContentGuard has all content checks on.
type hContentGuard struct{ hGuard }

func (g *hContentGuard) Permit(verb plugbus.Verb, object string) *plugbus.Permit {
	p := g.hGuard.Permit(verb, object)
	p.Payload.Content = plugbus.CheckAll
	return p
}

// TestStampedFields is E3: what the bus stamps on an event comes neither from the
// payload nor from an option.
func TestStampedFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter := hClient(t, bus, "emitter")
		var got hRecorder
		hSubscribe(t, hClient(t, bus, "reader"), "**", got.handle)
		type forged struct {
			Name, Source, ID string
			Seq              uint64
			Time             time.Time
			Replayed         bool
		}
		claims := map[string]string{
			"name": "forged", "source": "forged", "id": "forged", "seq": "99", "time": "never", "replayed": "true",
			"correlation": "forged", "chain": "forged", "Source": "forged",
		}
		var receipts []events.Receipt
		for _, data := range []any{claims, forged{"forged", "forged", "forged", 99, time.Time{}, true}} {
			receipt, err := emitter.Emit(t.Context(), "x", data, events.Headers(claims))
			require.NoError(t, err)
			receipts = append(receipts, receipt)
		}
		synctest.Wait()
		for i, e := range got.events() {
			require.Equal(t, "x", e.Name())
			require.Equal(t, "emitter", e.Source())
			require.EqualValues(t, i+1, e.Seq())
			require.Equal(t, receipts[i].Seq, e.Seq())
			require.Equal(t, receipts[i].ID(), e.ID())
			require.WithinDuration(t, time.Now(), e.Time(), 0)
			require.False(t, e.Replayed())
			require.Empty(t, e.CorrelationID())
			require.Equal(t, []string{"emitter"}, e.Chain().Plugins())
			require.Equal(t, claims, e.Headers())
		}
		require.Len(t, got.events(), 2)
		require.NotEqual(t, receipts[0].ID(), receipts[1].ID())
		require.Zero(t, events.Receipt{}.ID())
	})
}

func TestCorrelationID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		emitter := hClient(t, bus, "emitter")
		var got hRecorder
		hSubscribe(t, hClient(t, bus, "reader"), "x", got.handle)
		hEmit(t, emitter, "x", events.CorrelationID("first"))
		hEmit(t, emitter, "x")
		hEmit(t, emitter, "x", events.CorrelationID("second"), events.CorrelationID("last wins"))
		synctest.Wait()
		var ids []string
		for _, e := range got.events() {
			ids = append(ids, e.CorrelationID())
		}
		require.Equal(t, []string{"first", "", "last wins"}, ids)
	})
}

// TestMaxAge shows that a delivery which has not started when the event's time is
// over ends as expired, by every kind of subscription.
func TestMaxAge(t *testing.T) {
	for _, option := range []events.SubscribeOption{
		events.OnOverflow(events.DropOldest), events.OnOverflow(events.DropNewest), events.Concurrent(2), events.Once(),
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader, got := hClient(t, bus, "emitter"), hClient(t, bus, "reader"), newHGate()
			busy := newHGate()
			hSubscribe(t, reader, "busy", busy.handle)
			if option == events.Concurrent(2) {
				hSubscribe(t, reader, "x", got.handle, option)
				hEmit(t, emitter, "x")
				hEmit(t, emitter, "x") // Both calls are taken.
			} else {
				hEmit(t, emitter, "busy") // The worker is.
				synctest.Wait()
				hSubscribe(t, reader, "x", got.handle, option)
			}
			synctest.Wait()
			taken := len(got.events())
			hEmit(t, emitter, "x", events.MaxAge(time.Minute))
			last := hEmit(t, emitter, "x", events.MaxAge(time.Minute+1))
			hAdvance(time.Minute)
			busy.open()
			got.open()
			require.Equal(t, []uint64{last}, got.seqs()[taken:], "%#v", option)
			require.EqualValues(t, 1, bus.Ledger().Expired)
		})
	}
}

// TestNarrow is E11: a pattern that is wider than the grant is refused, or
// narrowed where the plugin asks for it. Then each name is asked for.
func TestNarrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := hBus(t, events.Options{})
		guard := &hGuard{plugin: "reader"}
		guard.deny(plugbus.VerbSubscribe, "x.*", "x.secret")
		emitter, reader := hClient(t, bus, "emitter"), hGuarded(t, bus, "reader", guard)
		var got hRecorder
		_, err := reader.Subscribe("x.*", got.handle)
		denied := hRequireDenied(t, err, plugbus.ReasonDeniedByRule)
		require.Equal(t, "x.*", denied.Object)
		hSubscribe(t, reader, "x.*", got.handle, events.Narrow())
		hEmit(t, emitter, "x.a")
		hEmit(t, emitter, "x.secret")
		hEmit(t, emitter, "x.b")
		synctest.Wait()
		require.Equal(t, []uint64{1, 3}, got.seqs())
		require.EqualValues(t, 1, bus.Ledger().Undeliverable)
	})
}

// TestWildcardQuota shows that patterns with many wildcards, which make names dear
// to look up, are refused.
func TestWildcardQuota(t *testing.T) {
	bus := hBus(t, events.Options{})
	c, err := bus.Client("plugin", events.ClientOptions{MaxWildcards: 2})
	require.NoError(t, err)
	handler := func(context.Context, events.Event) error { return errors.New("not called") }
	hSubscribe(t, c, "*.a.**", handler)
	_, err = c.Subscribe("*.*.**", handler)
	hRequireDenied(t, err, plugbus.ReasonQuotaExceeded)
	_, err = hClient(t, bus, "other").Subscribe("*.*.*.*.*.*.*.*.**", handler)
	hRequireDenied(t, err, plugbus.ReasonQuotaExceeded)
	hSubscribe(t, hClient(t, bus, "third"), "*.*.*.*.*.*.*.**", handler)
}
