package hub_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// typed is a capability with schemas: a number in, a text out.
func typed(name string) hub.Capability {
	return hub.Capability{Name: name, Input: json.RawMessage(`{"type": "number"}`), Output: json.RawMessage(`{"type": "string"}`)}
}

// TestV19SchemasOfCalls shows that what does not satisfy the schemas of a
// capability neither reaches the handler nor the caller, in whatever way the
// capability was declared and is called.
func TestV19SchemasOfCalls(t *testing.T) {
	for _, way := range []string{"Provide", "Handle", "HandleDefault", "HandleStream"} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(way)
			h := open(t, hub.Options{})
			asker, calls := join(t, h, "asker"), 0
			handler := func(_ context.Context, m router.Message) (any, error) { //nolint:unparam // It is a handler.
				calls++
				if m.Data() == 1 {
					return "one", nil
				}
				return m.Data(), nil // It breaks the promise.
			}
			m := hub.Manifest{ID: "p"}
			if way != "Provide" {
				m.Provides = []hub.Capability{typed("doing")}
			}
			require.NoError(t, h.Register(t.Context(), hub.Func(m, func(_ context.Context, s *hub.Session) (err error) {
				switch way {
				case "Provide":
					err = s.Provide(typed("doing"), handler)
				case "Handle":
					_, err = s.Handle("doing", handler)
				case "HandleDefault":
					_, err = s.HandleDefault(handler)
				case "HandleStream":
					_, err = s.HandleStream("doing", func(ctx context.Context, m router.Message, yield func(any) bool) error {
						reply, err := handler(ctx, m)
						for range 2 {
							_ = yield(reply)
						}
						return err
					})
				}
				return err
			})))
			act := func(data any) error {
				if way == "HandleStream" {
					return readAll(t.Context(), asker, "p", "doing", data)
				}
				_, err := asker.Call(t.Context(), "doing", data)
				_, direct := asker.Send(t.Context(), "p", "doing", data)
				require.Equal(t, err, direct)
				return err
			}
			require.NoError(t, act(1))
			was := calls
			require.Equal(t, plugbus.CodeInvalid, remote(t, act("two")).Code)
			require.Equal(t, was, calls, "the handler got nothing")
			require.Equal(t, plugbus.CodeInternal, remote(t, act(3)).Code)
		})
	}
}

// TestV19BeforeStartHasReturned shows that a handler that runs beside Start is
// guarded by its schema too.
func TestV19BeforeStartHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		m := hub.Manifest{ID: "p", Provides: []hub.Capability{typed("doing")}}
		var err error
		require.NoError(t, h.Register(t.Context(), hub.Func(m, func(_ context.Context, s *hub.Session) error {
			serve(t, s, "doing", func(context.Context, router.Message) (any, error) { return "done", nil }, router.Concurrent(1))
			_, err = h.Host().Send(t.Context(), "p", "doing", "no number") //nolint:contextcheck // The host acts here, not the plugin.
			return nil
		})))
		require.Equal(t, plugbus.CodeInvalid, remote(t, err).Code)
	})
}

// TestV19BadSchemas shows that a schema that cannot be used is refused where it
// is declared.
func TestV19BadSchemas(t *testing.T) {
	h := open(t, hub.Options{})
	bad := hub.Capability{Name: "doing", Input: json.RawMessage(`{"type": 5}`)}
	err := h.Register(t.Context(), hub.Func(hub.Manifest{ID: "p", Provides: []hub.Capability{bad}}, nil))
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorIs(t, join(t, h, "p").Provide(bad, echo), plugbus.ErrInvalid)
}

// TestAccessOfADefaultHandler shows that the access list of a declared capability
// holds for the handler of all types, and that the refusal is the caller's (V16).
func TestAccessOfADefaultHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		asker, friend, box := join(t, h, "asker"), join(t, h, "friend"), &letterbox{}
		m := hub.Manifest{ID: "p", Provides: []hub.Capability{{Name: "doing", Allowed: []string{"friend"}}, {Name: "acting", Denied: []string{"asker"}}}}
		require.NoError(t, h.Register(t.Context(), hub.Func(m, func(_ context.Context, s *hub.Session) error {
			_, err := s.HandleDefault(box.handle)
			return err
		})))
		for _, name := range []string{"doing", "acting"} {
			_, err := asker.Send(t.Context(), "p", name, 1)
			require.Equal(t, plugbus.CodeDenied, remote(t, err).Code)
			_, err = friend.Call(t.Context(), name, 1)
			require.NoError(t, err)
		}
		_, err := asker.Send(t.Context(), "p", "other", 1)
		require.NoError(t, err)
		require.Equal(t, []string{"doing", "acting", "other"}, box.types())
		found := entries(t, h, audit.Query{Actor: "asker", Outcome: plugbus.Refused})
		require.Len(t, found, 1)
		require.EqualValues(t, 2, found[0].Count)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, found[0].Reason)
	})
}

// TestProvideAgain shows that to provide a capability again replaces all of it,
// that Withdraw leaves nothing, and what a Provide that fails leaves.
func TestProvideAgain(t *testing.T) {
	h := open(t, hub.Options{})
	asker := join(t, h, "asker")
	m := hub.Manifest{ID: "p", Provides: []hub.Capability{typed("declared")}}
	p := &plug{manifest: func() hub.Manifest { return m }}
	require.NoError(t, h.Register(t.Context(), p))
	s := p.session
	one := func(context.Context, router.Message) (any, error) { return "one", nil }
	two := func(context.Context, router.Message) (any, error) { return "two", nil }
	call := func(name string, data any) (any, error) {
		reply, err := asker.Call(t.Context(), name, data)
		if err != nil {
			return nil, err
		}
		return reply.Data(), nil
	}
	provide(t, s, typed("doing"), one)
	got, err := call("doing", 1)
	require.NoError(t, err)
	require.Equal(t, "one", got)
	provide(t, s, hub.Capability{Name: "doing", Denied: []string{"friend"}}, two)
	got, err = call("doing", "no number")
	require.NoError(t, err, "the old schema is gone")
	require.Equal(t, "two", got)
	_, err = join(t, h, "friend").Send(t.Context(), "p", "doing", 1)
	denied(t, err, plugbus.ReasonRecipientCannotReceive)
	info, _ := snapshotOf(h, "p")
	require.Equal(t, []string{"declared", "doing"}, namesOf(info.Capabilities))

	require.NoError(t, s.Withdraw("doing"))
	_, err = call("doing", 1)
	require.ErrorIs(t, err, hub.ErrNoProvider)
	_, err = asker.Send(t.Context(), "p", "doing", 1)
	require.ErrorIs(t, err, router.ErrNoHandler)
	require.ErrorIs(t, s.Withdraw("doing"), discovery.ErrNotProvided)
	require.NotContains(t, namesOf(must(snapshotOf(h, "p")).Capabilities), "doing")

	// What the manifest declares, and Handle handles, survives a Provide that fails.
	_, err = call("declared", 1)
	require.ErrorIs(t, err, hub.ErrNoProvider, "nothing handles it (V17)")
	serve(t, s, "declared", one)
	require.ErrorIs(t, s.Provide(hub.Capability{Name: "declared"}, two), router.ErrHandlerExists)
	got, err = call("declared", 1)
	require.NoError(t, err)
	require.Equal(t, "one", got)
	_, err = call("declared", "no number")
	require.Equal(t, plugbus.CodeInvalid, remote(t, err).Code)

	// Of one that Provide provided, a Provide that fails leaves nothing behind.
	provide(t, s, typed("doing"), one)
	require.ErrorIs(t, s.Provide(typed("doing"), two, router.Concurrent(-1)), plugbus.ErrInvalid)
	_, err = call("doing", 1)
	require.ErrorIs(t, err, hub.ErrNoProvider)
	require.Equal(t, []string{"declared"}, namesOf(must(snapshotOf(h, "p")).Capabilities))
	provide(t, s, typed("doing"), two)
	require.ErrorIs(t, s.Provide(typed("doing"), nil), plugbus.ErrInvalid)
	got, err = call("doing", 1)
	require.NoError(t, err)
	require.Equal(t, "two", got)
}

func snapshotOf(h *hub.Hub, id string) (hub.PluginInfo, bool) {
	s := h.Inspect()
	return s.Plugin(id)
}

func must(info hub.PluginInfo, _ bool) hub.PluginInfo { return info }

func namesOf(capabilities []hub.Capability) (names []string) {
	for _, c := range capabilities {
		names = append(names, c.Name)
	}
	return names
}

// TestV17Availability shows that a provider which cannot take a call is left out,
// and that Candidates says why.
func TestV17Availability(t *testing.T) {
	for name, test := range map[string]struct {
		make func(t testing.TB, h *hub.Hub, p *plug, look func())
		why  string
	}{
		"starting":   {nil, "starting"},
		"no handler": {func(_ testing.TB, _ *hub.Hub, _ *plug, look func()) { look() }, "handler"},
		"handler removed": {func(t testing.TB, _ *hub.Hub, p *plug, look func()) {
			serve(t, p.session, "doing", echo).Remove()
			look()
		}, "handler"},
		"quarantined": {func(t testing.TB, h *hub.Hub, p *plug, look func()) {
			serve(t, p.session, "doing", echo)
			quarantine(t, h, p.session)
			look()
		}, ""}, // It may not provide anything, so that there is nothing to see.
		"draining": {func(t testing.TB, h *hub.Hub, p *plug, look func()) {
			serve(t, p.session, "doing", echo)
			p.stop = func(context.Context) error { look(); return nil }
			require.NoError(t, h.Unregister(t.Context(), "p"))
		}, "draining"},
		"full": {func(t testing.TB, h *hub.Hub, p *plug, look func()) {
			gate := make(chan struct{})
			serve(t, p.session, "doing", func(context.Context, router.Message) (any, error) { <-gate; return nil, nil })
			for range 2 {
				require.NoError(t, h.Host().Post(t.Context(), "p", "doing", 1))
				synctest.Wait()
			}
			look()
			close(gate)
		}, "full"},
		"may not send": {func(t testing.TB, h *hub.Hub, p *plug, look func()) {
			serve(t, p.session, "doing", echo)
			swap(t, h, policyOf(t, `"asker": {"discover": true}, "p": {"provide": true, "receive": true}`))
			look()
		}, "send"},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := open(t, hub.Options{
				Policy: policyOf(t, `"asker": {"discover": true, "send": true}, "p": {"provide": true, "receive": true}`),
				Router: router.Options{MailboxMessages: 1},
			})
			asker, looked := join(t, h, "asker"), false
			look := func() {
				looked = true
				_, err := asker.Call(t.Context(), "doing", 1)
				require.ErrorIs(t, err, hub.ErrNoProvider)
				matches, err := asker.Providers("doing")
				require.NoError(t, err)
				require.Empty(t, matches)
				candidates, err := asker.Candidates(discovery.Criteria{Require: discovery.Terms{Capabilities: []string{"doing"}}})
				require.NoError(t, err)
				if test.why == "" {
					require.Empty(t, candidates)
					return
				}
				require.Len(t, candidates, 1)
				require.Len(t, candidates[0].Excluded, 1)
				require.Contains(t, candidates[0].Excluded[0], test.why)
			}
			p := &plug{manifest: func() hub.Manifest { return caps("p", "doing", "") }}
			if test.make == nil {
				p.start = func(_ context.Context, s *hub.Session) error {
					serve(t, s, "doing", echo, router.Concurrent(1))
					look()
					return nil
				}
			}
			require.NoError(t, h.Register(t.Context(), p))
			if test.make != nil {
				test.make(t, h, p, look)
			}
			require.True(t, looked)
		})
	}
}

// TestMeasuredFigures shows that what was measured replaces what was declared once
// there is enough of it (V5), and whom failures count against: the provider for its
// errors, panics and own time-outs; nobody for a deadline that the caller chose,
// for calls of a plugin to itself, and for what was refused; the caller for what
// does not fit the schema. A deadline of 1 ns changes no score and quarantines
// nobody.
func TestMeasuredFigures(t *testing.T) {
	hangs := func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
	fails := func(context.Context, router.Message) (any, error) { return nil, errPlugin }
	takes := func(context.Context, router.Message) (any, error) { <-time.After(time.Second); return "done", nil }
	send := func(ctx context.Context, s *hub.Session) { _, _ = s.Send(ctx, "p", "doing", 1) }
	for name, test := range map[string]struct {
		handler     router.Handler
		options     []router.HandleOption
		act         func(ctx context.Context, s *hub.Session)
		asker       string
		samples     int
		reliability float64
		took        time.Duration
		quarantined bool
	}{
		"well":         {takes, nil, send, "", 6, 1, time.Second, false},
		"by Call":      {takes, nil, func(ctx context.Context, s *hub.Session) { _, _ = s.Call(ctx, "doing", 1) }, "", 6, 1, time.Second, false},
		"fails":        {fails, nil, send, "", 6, 0, 0, false},
		"panics":       {func(context.Context, router.Message) (any, error) { panic("boo") }, nil, send, "", 6, 0, 0, true},
		"own time-out": {hangs, []router.HandleOption{router.Timeout(time.Second)}, send, "", 6, 0, 0, true},
		"our time-out": {hangs, nil, send, "", 6, 0, 0, true},
		"caller's deadline": {hangs, nil, func(ctx context.Context, s *hub.Session) {
			ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
			defer cancel()
			send(ctx, s)
		}, "", 0, 0.5, 0, false},
		"caller's timeout": {hangs, nil, func(ctx context.Context, s *hub.Session) {
			_, _ = s.Send(ctx, "p", "doing", 1, router.Timeout(time.Nanosecond))
		}, "", 0, 0.5, 0, false},
		"caller's time to call": {hangs, nil, func(ctx context.Context, s *hub.Session) {
			_, _ = s.Call(ctx, "doing", 1, discovery.Timeout(time.Nanosecond))
		}, "", 0, 0.5, 0, false},
		"itself":  {takes, nil, send, "p", 0, 0.5, 0, false},
		"invalid": {takes, nil, func(ctx context.Context, s *hub.Session) { _, _ = s.Send(ctx, "p", "doing", "x") }, "", 0, 0.5, 0, false},
		"refused": {takes, nil, func(ctx context.Context, s *hub.Session) { _, _ = s.Send(ctx, "p", "doing", func() {}) }, "", 0, 0.5, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := open(t, hub.Options{
				Discovery: discovery.Options{MinSamples: 3, Window: 100}, FailureBudget: 5,
				Router: router.Options{RequestTimeout: 2 * time.Second},
			})
			asker, p, half := join(t, h, "asker"), join(t, h, "p"), 0.5
			provide(t, p, hub.Capability{Name: "doing", Reliability: &half, Input: json.RawMessage(`{"type": "number"}`)}, test.handler, test.options...)
			by := asker
			if test.asker != "" {
				by = p
			}
			for range 6 {
				test.act(t.Context(), by)
				<-time.After(time.Millisecond)
			}
			synctest.Wait()
			require.Equal(t, test.quarantined, state(h, "p") == hub.Quarantined)
			if test.quarantined {
				require.NoError(t, h.Restore("p"))
			}
			matches, err := asker.Providers("doing")
			require.NoError(t, err)
			require.Len(t, matches, 1)
			f := matches[0].Figures
			require.Equal(t, test.samples, f.Reliability.Samples)
			require.Equal(t, test.samples > 0, f.Reliability.Measured)
			require.Equal(t, test.reliability, f.Reliability.Value) //nolint:testifylint // It is exact.
			require.Equal(t, test.took, f.ResponseTime.Value)
		})
	}
}

// TestCapability shows what a plugin may read of a capability of another: all of it
// but the access list, and nothing if it may not know of it (V15).
func TestCapability(t *testing.T) {
	h := open(t, hub.Options{})
	p := join(t, h, "p")
	c := hub.Capability{Name: "doing", Description: "does it", Input: json.RawMessage(`{"type": "number"}`), Denied: []string{"stranger"}}
	provide(t, p, c, echo)
	own, ok := p.Capability("p", "doing")
	require.True(t, ok)
	require.Equal(t, c, own)
	seen, ok := join(t, h, "asker").Capability("p", "doing")
	require.True(t, ok)
	c.Denied = nil
	require.Equal(t, c, seen)
	_, ok = join(t, h, "stranger").Capability("p", "doing")
	require.False(t, ok)
}

// TestAccessBesideSenders shows that the access list of a capability does not take
// the place of what the plugin says of its handler: both hold.
func TestAccessBesideSenders(t *testing.T) {
	h := open(t, hub.Options{})
	p, asker := join(t, h, "p"), join(t, h, "asker")
	provide(t, p, hub.Capability{Name: "doing", Denied: []string{"other"}}, echo, router.Senders([]string{"asker", "other"}, nil))
	for _, id := range []string{"other", "third"} {
		_, err := join(t, h, id).Send(t.Context(), "p", "doing", 1)
		denied(t, err, plugbus.ReasonRecipientCannotReceive)
	}
	_, err := asker.Send(t.Context(), "p", "doing", 1)
	require.NoError(t, err)
}

// TestOutputOfAReplyPassedOn shows that the schema holds for the payload of a reply
// that a handler got from another plugin and returns as it is (V19).
func TestOutputOfAReplyPassedOn(t *testing.T) {
	h := open(t, hub.Options{})
	p, q, asker := join(t, h, "p"), join(t, h, "q"), join(t, h, "asker")
	serve(t, q, "echo", echo)
	provide(t, p, hub.Capability{Name: "doing", Output: json.RawMessage(`{"type": "string"}`)}, func(ctx context.Context, m router.Message) (any, error) {
		return p.Send(ctx, "q", "echo", m.Data())
	})
	reply, err := asker.Call(t.Context(), "doing", "done")
	require.NoError(t, err)
	require.Equal(t, "done", reply.Data())
	_, err = asker.Call(t.Context(), "doing", 1)
	require.Equal(t, plugbus.CodeInternal, remote(t, err).Code)
	require.ErrorContains(t, err, "not what the capability promises")
}
