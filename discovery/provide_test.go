package discovery_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// full returns a capability with everything set.
func full() discovery.Capability {
	return discovery.Capability{
		Name: "pdf.render", Description: "renders", Documentation: "at length", Version: "1.2.3",
		Categories: []string{"documents", "a", "documents"}, Rank: 3,
		Cost: new(2.5), Reliability: new(0.5), ResponseTime: new(time.Second), Idempotent: true,
		Input: json.RawMessage(`{"type":"object"}`), Output: json.RawMessage(`{"type":"string"}`),
		Examples: []json.RawMessage{json.RawMessage(`{"page":1}`)}, Metadata: map[string]string{"a": "b"},
		Allowed: []string{"reader"}, Denied: []string{"writer"},
	}
}

// TestProvideOnlyForOneself shows that a capability is its provider's, within the
// grant, and that a refusal is the guard's (V1).
func TestProvideOnlyForOneself(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	guard := newRules("printer", "provide secrets")
	printer := newClient(t, x, "printer", guard)
	provide(t, printer, named("pdf")...)
	require.Equal(t, "printer", x.Snapshot()[0].Plugin)
	require.Equal(t, "printer", printer.ID())

	denied := requireDenied(t, printer.Provide(discovery.Capability{Name: "secrets"}), plugbus.ReasonDeniedByRule)
	require.Equal(t, plugbus.VerbProvide, denied.Verb)
	require.Equal(t, "secrets", denied.Object)
	err := printer.Provide(discovery.Capability{Name: "a..b"})
	_ = requireDenied(t, err, plugbus.ReasonInvalidName)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_ = requireDenied(t, printer.Provide(discovery.Capability{}), plugbus.ReasonInvalidName)
	require.Len(t, guard.refused, 3)
	require.Len(t, x.Snapshot(), 1)

	other := newClient(t, x, "other", nil)
	require.ErrorIs(t, other.Withdraw("pdf"), discovery.ErrNotProvided)
	require.Len(t, x.Snapshot(), 1)
}

// TestProvidePassesTheDoor shows that what a plugin declares is checked as
// everything else that it hands in: by rate, size and content.
func TestProvidePassesTheDoor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		permit plugbus.Permit
		reason plugbus.Reason
	}{
		{plugbus.Permit{Acts: never{}}, plugbus.ReasonRateLimitExceeded},
		{plugbus.Permit{Bytes: never{}}, plugbus.ReasonByteRateExceeded},
		{plugbus.Permit{Payload: plugbus.PayloadRules{MaxBytes: 100}}, plugbus.ReasonTooLarge},
		{plugbus.Permit{Payload: plugbus.PayloadRules{Content: plugbus.CheckAll}}, plugbus.ReasonInvalidContent},
	} {
		guard := newRules("printer")
		guard.permit = test.permit
		x := newIndex(t, discovery.Options{})
		c := full()
		c.Metadata["page"] = "<script>"
		_ = requireDenied(t, newClient(t, x, "printer", guard).Provide(c), test.reason)
		require.Empty(t, x.Snapshot())
	}
}

// TestProvideAgain shows that a capability is replaced as a whole, in every
// index, and that withdrawing it and leaving remove it from all of them (V2).
func TestProvideAgain(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer, reader := newClient(t, x, "printer", nil), newClient(t, x, "reader", nil)
	in := func(categories ...string) discovery.Criteria {
		return discovery.Criteria{Require: discovery.Terms{Categories: categories}}
	}
	provide(t, printer, discovery.Capability{Name: "pdf", Categories: []string{"old", "both"}}, discovery.Capability{Name: "ps", Categories: []string{"both"}})
	first := x.Snapshot()[0].Revision
	provide(t, printer, discovery.Capability{Name: "pdf", Categories: []string{"new", "both"}})
	require.Greater(t, x.Snapshot()[0].Revision, first)
	require.Len(t, x.Snapshot(), 2)
	require.Empty(t, find(t, reader, in("old")))
	require.Equal(t, []string{"printer"}, ids(find(t, reader, in("new"))))
	require.Equal(t, []string{"printer"}, ids(find(t, reader, requiring("pdf"))))

	require.NoError(t, printer.Withdraw("pdf"))
	require.ErrorIs(t, printer.Withdraw("pdf"), discovery.ErrNotProvided)
	require.Empty(t, find(t, reader, in("new")))
	require.Empty(t, find(t, reader, requiring("pdf")))
	require.Equal(t, []string{"printer"}, ids(find(t, reader, in("both"))), "ps is still in it")

	printer.Close()
	printer.Close()
	require.Empty(t, find(t, reader, in("both")))
	require.Empty(t, x.Snapshot())
	newClient(t, x, "printer", nil) // The id is free.
}

// TestRecordsAreCopies shows that nobody can change what was checked: neither who
// gave it nor who got it (V4).
func TestRecordsAreCopies(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer, reader := newClient(t, x, "printer", nil), newClient(t, x, "reader", nil)
	spoil := func(c discovery.Capability) {
		*c.Cost, *c.Reliability, *c.ResponseTime = -1, math.Inf(1), -1
		c.Categories[0], c.Input[0], c.Output[0], c.Examples[0][0] = "x", 'x', 'x', 'x'
		c.Examples[0], c.Metadata["a"] = nil, "x"
		for _, list := range [][]string{c.Allowed, c.Denied} {
			clear(list)
		}
	}
	want := full()
	want.Categories = []string{"a", "documents"} // (V12) once each
	given := full()
	provide(t, printer, given)
	spoil(given)
	for range 2 {
		got := x.Snapshot()[0].Capability
		require.Equal(t, want, got)
		spoil(got)
		got, ok := printer.Capability("printer", "pdf.render")
		require.True(t, ok)
		require.Equal(t, want, got, "its own it sees in full")
		spoil(got)

		got, ok = reader.Capability("printer", "pdf.render")
		require.True(t, ok)
		shown := want
		shown.Allowed, shown.Denied = nil, nil
		require.Equal(t, shown, got)
		spoil(got)
		m := find(t, reader, discovery.Criteria{})[0]
		require.Equal(t, 2.5, m.Figures.Cost.Value)
		m.Capabilities[0], m.Reasons[0] = "x", "x"
	}
}

// TestMistakes shows that all that is wrong with a capability is said at once, and
// that figures are finite and in range (V5, V6).
func TestMistakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300_000)
	for _, test := range []struct {
		c    discovery.Capability
		says []string
	}{
		{discovery.Capability{Cost: new(-0.1)}, []string{"Cost: it is -0.1; expected 0 to 1e+09"}},
		{discovery.Capability{Cost: new(2e9), Rank: math.MaxInt}, []string{"Cost: it is 2e+09", "Rank: it is 9223372036854775807"}},
		{discovery.Capability{Reliability: new(1e9)}, []string{"Reliability: it is 1e+09; expected 0 to 1"}},
		{discovery.Capability{Reliability: new(-0.01), ResponseTime: new(-time.Second)}, []string{"Reliability: it is -0.01", "ResponseTime: it is -1s; expected 0 to 24h0m0s"}},
		{discovery.Capability{ResponseTime: new(25 * time.Hour)}, []string{"ResponseTime: it is 25h"}},
		{discovery.Capability{Version: "1.2", Categories: []string{"a b"}, Allowed: []string{"*"}, Denied: []string{""}}, []string{`Version: it is "1.2"`, "Categories: expected names", "Allowed: expected ids", "Denied: expected ids"}},
		{discovery.Capability{Description: long[:1025], Documentation: long[:65<<10]}, []string{"Description: it has 1025 bytes; expected at most 1024", "Documentation: it has 66560 bytes"}},
		{discovery.Capability{Description: "\xff"}, []string{"Description: it is not valid UTF-8"}},
		{discovery.Capability{Input: json.RawMessage(`"` + long + `"`)}, []string{"Input: it has 300002 bytes"}},
		{discovery.Capability{Metadata: map[string]string{"a": long[:17<<10]}}, []string{"Metadata: it has 17409 bytes"}},
		{discovery.Capability{Categories: many(33), Allowed: many(1001), Denied: many(1001)}, []string{"there are 33 categories; expected at most 32", "Allowed: there are 1001 ids", "Denied: there are 1001 ids"}},
		{discovery.Capability{Examples: make([]json.RawMessage, 33)}, []string{"there are 33 examples"}},

		// (V19) Schemas are compiled, and examples satisfy them.
		{discovery.Capability{Input: json.RawMessage(`{"type":"text"}`), Output: json.RawMessage(`{"$ref":"#"}`)}, []string{`Input: expected a JSON Schema: invalid schema: at "/type"`, "Output: expected a JSON Schema: invalid schema: \"#\" refers to itself"}},
		{discovery.Capability{Input: json.RawMessage(`{"type":"object"}`), Examples: []json.RawMessage{json.RawMessage(`{}`), json.RawMessage(`7`)}}, []string{"Examples: example 1; expected JSON that satisfies Input: invalid value: got number, want object"}},
		{discovery.Capability{Examples: []json.RawMessage{json.RawMessage(`{"a":1,"a":2}`), nil}}, []string{"example 0", "stands twice", "example 1"}},
	} {
		x := newIndex(t, discovery.Options{})
		test.c.Name = "pdf"
		err := newClient(t, x, "printer", nil).Provide(test.c)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		_, ok := errors.AsType[*discovery.InvalidError](err)
		require.True(t, ok)
		require.ErrorContains(t, err, `plugin "printer" provides "pdf": discovery: capability "pdf": `)
		for _, says := range test.says {
			require.ErrorContains(t, err, says)
			require.ErrorContains(t, test.c.Check(), says)
		}
		require.Empty(t, x.Snapshot())
	}

	// What JSON cannot carry does not pass the door.
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, c := range []discovery.Capability{{Name: "pdf", Cost: &f}, {Name: "pdf", Reliability: &f}} {
			x := newIndex(t, discovery.Options{})
			err := newClient(t, x, "printer", nil).Provide(c)
			_ = requireDenied(t, err, plugbus.ReasonInvalidPayload)
			require.ErrorIs(t, err, plugbus.ErrInvalid)
			require.ErrorIs(t, c.Check(), plugbus.ErrInvalid)
			require.Empty(t, x.Snapshot())
		}
	}
}

// TestCheck shows that a capability can be checked before there is a client, and
// stays what it is.
func TestCheck(t *testing.T) {
	t.Parallel()
	c := full()
	require.NoError(t, c.Check())
	require.Equal(t, full(), c)
	require.ErrorIs(t, discovery.Capability{Name: "a..b"}.Check(), plugbus.ErrInvalid)
}

// many returns n different names.
func many(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "a" + strings.Repeat("b", i%60) + strings.Repeat("c", i/60)
	}
	return all
}

// TestCheckInput shows that the schemas of the moment hold for calls (V19).
func TestCheckInput(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer, other := newClient(t, x, "printer", nil), newClient(t, x, "other", nil)
	provide(t, printer, full())
	type page struct{ Number int }
	require.NoError(t, printer.CheckInput("pdf.render", page{1}))
	require.NoError(t, printer.CheckOutput("pdf.render", "text"))
	require.NoError(t, printer.CheckOutput("pdf.render", plugbus.Shared("text")))
	for _, err := range []error{
		printer.CheckInput("pdf.render", "text"), printer.CheckInput("pdf.render", plugbus.Shared("text")), printer.CheckOutput("pdf.render", page{1}),
	} {
		_, ok := errors.AsType[*discovery.SchemaError](err)
		require.True(t, ok, "%v", err)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	}
	require.NoError(t, printer.CheckInput("none", 1))
	require.NoError(t, other.CheckInput("pdf.render", "text"), "it is not its own")

	provide(t, printer, named("pdf.render")...)
	require.NoError(t, printer.CheckInput("pdf.render", "text"))
	require.NoError(t, printer.CheckOutput("pdf.render", page{1}))
}

// TestQuotas shows that what is provided is bounded for each client and for all,
// and that replacing and withdrawing make room.
func TestQuotas(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{MaxCapabilities: 4})
	a, err := x.Client("a", discovery.ClientOptions{MaxCapabilities: 2, MaxBytes: 1000})
	require.NoError(t, err)
	b := newClient(t, x, "b", nil)
	none, err := x.Client("none", discovery.ClientOptions{MaxCapabilities: -1})
	require.NoError(t, err)

	provide(t, a, named("x", "y", "x")...)
	denied := requireDenied(t, a.Provide(discovery.Capability{Name: "z"}), plugbus.ReasonQuotaExceeded)
	require.Contains(t, denied.Hint, "at most 2 capabilities")
	provide(t, a, discovery.Capability{Name: "x", Documentation: strings.Repeat("a", 900)})
	denied = requireDenied(t, a.Provide(discovery.Capability{Name: "y", Documentation: strings.Repeat("a", 100)}), plugbus.ReasonQuotaExceeded)
	require.Contains(t, denied.Hint, "at most 1000 bytes")
	provide(t, a, discovery.Capability{Name: "x", Documentation: strings.Repeat("a", 901)})
	provide(t, a, named("x")...)
	provide(t, a, discovery.Capability{Name: "y", Documentation: strings.Repeat("a", 900)})
	_ = requireDenied(t, none.Provide(discovery.Capability{Name: "x"}), plugbus.ReasonQuotaExceeded)

	provide(t, b, named("x", "y")...)
	denied = requireDenied(t, b.Provide(discovery.Capability{Name: "z"}), plugbus.ReasonQuotaExceeded)
	require.Contains(t, denied.Hint, "the index is full")
	provide(t, b, named("y")...)
	require.NoError(t, a.Withdraw("y"))
	provide(t, b, named("z")...)
	b.Close()
	provide(t, a, discovery.Capability{Name: "y", Documentation: strings.Repeat("a", 900)})
	require.Len(t, x.Snapshot(), 2)
}

// TestNoNameIsSpecial shows that names which are special elsewhere are names
// (V21).
func TestNoNameIsSpecial(t *testing.T) {
	t.Parallel()
	names := []string{"__proto__", "constructor", "hasOwnProperty", "prototype", "toString", "nil", "null"}
	x := newIndex(t, discovery.Options{})
	printer, reader := newClient(t, x, "printer", nil), newClient(t, x, "reader", nil)
	require.Empty(t, find(t, reader, requiring(names[0])))
	for _, name := range names {
		provide(t, printer, discovery.Capability{Name: name, Categories: []string{name}, Metadata: map[string]string{name: name}})
		m := find(t, reader, discovery.Criteria{Require: discovery.Terms{Capabilities: []string{name}, Categories: []string{name}}})
		require.Equal(t, []string{"printer"}, ids(m))
		require.True(t, reader.MayCall("printer", name))
	}
	require.Len(t, x.Snapshot(), len(names))
	for _, name := range names {
		require.NoError(t, printer.Withdraw(name))
		require.Empty(t, find(t, reader, requiring(name)))
	}
}

// TestClosed shows that a client that has left can do nothing.
func TestClosed(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	printer, gone := newClient(t, x, "printer", nil), newClient(t, x, "gone", nil)
	provide(t, printer, named("pdf")...)
	provide(t, gone, named("pdf")...)
	gone.Close()
	_, findErr := gone.Find(discovery.Criteria{})
	_, candidatesErr := gone.Candidates(discovery.Criteria{})
	_, providersErr := gone.Providers("pdf")
	for _, err := range []error{findErr, candidatesErr, providersErr, gone.Provide(full()), gone.Withdraw("pdf")} {
		require.ErrorIs(t, err, discovery.ErrClosed)
		require.ErrorIs(t, err, plugbus.ErrClosed)
		require.ErrorContains(t, err, `"gone"`)
	}
	require.False(t, gone.MayCall("printer", "pdf"))
	_, ok := gone.Capability("printer", "pdf")
	require.False(t, ok)
	require.NoError(t, gone.CheckInput("pdf", 1))

	again := newClient(t, x, "gone", nil)
	provide(t, again, full())
	require.NoError(t, gone.CheckInput("pdf.render", "no object"), "what a namesake provides is not its own")
	_, err := x.Client("printer", discovery.ClientOptions{})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = x.Client("a b", discovery.ClientOptions{})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
}

// TestConcurrent provides, withdraws, finds and leaves from many goroutines.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	reader := newClient(t, x, "reader", nil)
	var all sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d"} {
		c := newClient(t, x, id, nil)
		for range 2 {
			all.Go(func() {
				for range 50 {
					_ = c.Provide(full())
					_, _ = reader.Find(requiring("pdf.render"))
					x.Observe(discovery.Sample{Provider: id, Capability: "pdf.render", Caller: "reader"})
					_ = c.Withdraw("pdf.render")
					_, _ = c.Candidates(discovery.Criteria{})
					x.Snapshot()
				}
				c.Close()
			})
		}
	}
	all.Wait()
	require.Empty(t, x.Snapshot())
}
