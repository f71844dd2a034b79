package hub_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// An act is one way through the door.
type act struct {
	name string
	verb plugbus.Verb
	do   func(ctx context.Context, s *hub.Session, name string, data any) error
}

var acts = []act{
	{"Emit", plugbus.VerbEmit, func(ctx context.Context, s *hub.Session, name string, data any) error {
		_, err := s.Emit(ctx, name, data)
		return err
	}},
	{"Emit with options", plugbus.VerbEmit, func(ctx context.Context, s *hub.Session, name string, data any) error {
		_, err := s.Emit(ctx, name, data, events.WaitForRoom(), events.Headers(map[string]string{"k": "v"}))
		return err
	}},
	{"Broadcast", plugbus.VerbBroadcast, func(ctx context.Context, s *hub.Session, name string, data any) error {
		_, err := s.Broadcast(ctx, name, data, events.Audience{})
		return err
	}},
	{"Subscribe", plugbus.VerbSubscribe, func(_ context.Context, s *hub.Session, name string, _ any) error {
		sub, err := s.Subscribe(name, func(context.Context, events.Event) error { return nil })
		if err == nil {
			sub.Unsubscribe()
		}
		return err
	}},
	{"Replay", plugbus.VerbSubscribe, func(ctx context.Context, s *hub.Session, name string, _ any) error {
		return drain(s.Replay(ctx, name, events.All()))
	}},
	{"Publish", plugbus.VerbPublish, func(ctx context.Context, s *hub.Session, name string, data any) error {
		_, err := s.Publish(ctx, name, data)
		return err
	}},
	{"Publish with options", plugbus.VerbPublish, func(ctx context.Context, s *hub.Session, name string, data any) error {
		_, err := s.Publish(ctx, name, data, router.Headers(map[string]string{"k": "v"}))
		return err
	}},
	{"HandleTopic", plugbus.VerbConsume, func(_ context.Context, s *hub.Session, name string, _ any) error {
		route, err := s.HandleTopic(name, func(context.Context, router.Message) error { return nil })
		if err == nil {
			route.Remove()
		}
		return err
	}},
	{"Provide", plugbus.VerbProvide, func(_ context.Context, s *hub.Session, name string, data any) error {
		c := hub.Capability{Name: name}
		switch data := data.(type) {
		case string:
			c.Documentation = data
		case map[string]any:
			c.Documentation = "<script src=x>"
		}
		return s.Provide(c, func(context.Context, router.Message) (any, error) { return nil, nil })
	}},
	{"Providers", plugbus.VerbDiscover, func(_ context.Context, s *hub.Session, name string, _ any) error {
		_, err := s.Providers(name)
		return err
	}},
	{"Call", plugbus.VerbDiscover, func(ctx context.Context, s *hub.Session, name string, _ any) error {
		if _, err := s.Call(ctx, name, nil); !errors.Is(err, hub.ErrNoProvider) {
			return err
		}
		return nil
	}},
}

// cannot are the reasons for which acts of a verb are not refused: what carries no
// payload has none to refuse, and some is not metered.
func cannot(verb plugbus.Verb) []plugbus.Reason {
	payload := []plugbus.Reason{
		plugbus.ReasonInvalidContent, plugbus.ReasonTooLarge, plugbus.ReasonInvalidPayload,
		plugbus.ReasonSharedNotGranted, plugbus.ReasonByteRateExceeded,
	}
	switch verb { //nolint:exhaustive // The others carry a payload and are metered.
	case plugbus.VerbSubscribe:
		return payload
	case plugbus.VerbConsume, plugbus.VerbDiscover:
		return append(payload, plugbus.ReasonRateLimitExceeded)
	case plugbus.VerbProvide: // It carries a type of its own.
		return []plugbus.Reason{
			plugbus.ReasonRateLimitExceeded, plugbus.ReasonByteRateExceeded, plugbus.ReasonInvalidPayload, plugbus.ReasonSharedNotGranted,
		}
	}
	return nil
}

// delivers reports whether acts of a verb reach others, and so are in the ledger.
func delivers(verb plugbus.Verb) bool {
	switch verb { //nolint:exhaustive // The others do.
	case plugbus.VerbSubscribe, plugbus.VerbConsume, plugbus.VerbProvide, plugbus.VerbDiscover:
		return false
	}
	return true
}

func drain(seq iter.Seq2[events.Event, error]) (err error) {
	for _, e := range seq {
		err = errors.Join(err, e)
	}
	return err
}

// TestOneDoor takes every act through every refusal: each returns the right
// reason and is recorded once (S4, S10, H10, H12), the ledger counts it, nobody
// gets anything, and the history does not have it. What carries no payload has
// no refusal for payloads; what does is inspected, whatever the act (S20, R15).
func TestOneDoor(t *testing.T) {
	const policy = `
		"actor": {
			"emit": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"broadcast": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"subscribe": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"publish": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"consume": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"provide": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"discover": {"allow": ["word.*", "free.*"], "deny": ["word.bad"]},
			"rates": {"events": {"limit": %[1]d, "burst": %[2]d}, "messages": {"limit": %[1]d, "burst": %[2]d}, "bytes": {"limit": %[3]d}},
			"limits": {"messageBytes": 1000}},
		"other": {"subscribe": true, "consume": true}`
	type refusal struct {
		reason plugbus.Reason
		name   string
		data   any
		acts   int // of the rate
		bytes  int
		before func(t testing.TB, h *hub.Hub, s *hub.Session)
	}
	generous := refusal{name: "word.said", data: "hello", acts: 1000, bytes: 100_000}
	with := func(reason plugbus.Reason, change func(*refusal)) refusal {
		r := generous
		r.reason = reason
		change(&r)
		return r
	}
	refusals := []refusal{
		with("", func(*refusal) {}),
		with(plugbus.ReasonInvalidName, func(r *refusal) { r.name = "word..said" }),
		with(plugbus.ReasonInsufficientPermissions, func(r *refusal) { r.name = "other.said" }),
		with(plugbus.ReasonDeniedByRule, func(r *refusal) { r.name = "word.bad" }),
		with(plugbus.ReasonRateLimitExceeded, func(r *refusal) { r.acts = 0 }),
		with(plugbus.ReasonInvalidContent, func(r *refusal) { r.data = map[string]any{"a": []string{"<script src=x>"}} }),
		with(plugbus.ReasonTooLarge, func(r *refusal) { r.data = strings.Repeat("x", 2000) }),
		with(plugbus.ReasonInvalidPayload, func(r *refusal) { r.data = make(chan int) }),
		with(plugbus.ReasonSharedNotGranted, func(r *refusal) { r.data = plugbus.Shared(new(int)) }),
		with(plugbus.ReasonByteRateExceeded, func(r *refusal) { r.data, r.bytes = strings.Repeat("x", 500), 100 }),
		with(plugbus.ReasonQuarantined, func(r *refusal) { r.before = quarantine }),
	}
	for _, act := range acts {
		for _, r := range refusals {
			if slices.Contains(cannot(act.verb), r.reason) {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				t.Logf("%s %q: %s", act.name, r.name, r.reason)
				burst := max(r.acts, 1)
				rates := fmt.Sprintf(policy, r.acts, burst, r.bytes)
				if r.acts == 0 {
					rates = strings.ReplaceAll(rates, `, "burst": 1`, "")
				}
				h := open(t, hub.Options{Policy: policyOf(t, rates)})
				s, other := join(t, h, "actor"), join(t, h, "other")
				box, letters := listen(t, other, "**"), &letterbox{}
				_, err := other.HandleTopic("**", letters.consume)
				require.NoError(t, err)
				if r.before != nil {
					r.before(t, h, s)
				}
				idle(t, h)
				before, history := h.Ledger(), h.Inspect().History.Sources["actor"]
				err = act.do(t.Context(), s, r.name, r.data)
				idle(t, h)
				after := h.Ledger()
				found := entries(t, h, audit.Query{Actor: "actor", Outcome: plugbus.Refused})
				if r.reason == "" {
					require.NoError(t, err)
					require.Empty(t, found)
					require.Equal(t, before.Refused, after.Refused)
					if delivers(act.verb) {
						require.Equal(t, []string{"word.said"}, append(box.names(), letters.types()...))
					}
					return
				}
				refused := refusalOf(t, err, r.reason)
				require.Equal(t, "actor", refused.Plugin)
				require.Equal(t, act.verb, refused.Verb)
				require.Equal(t, r.name, refused.Object)
				require.Empty(t, refused.Explanation)
				require.Len(t, found, 1)
				require.Equal(t, refused.Record, found[0].Seq)
				require.Equal(t, r.reason, found[0].Reason)
				require.Equal(t, act.verb, found[0].Verb)
				require.Equal(t, r.name, found[0].Target)
				require.EqualValues(t, 1, found[0].Count)
				if delivers(act.verb) {
					require.Equal(t, before.Refused+1, after.Refused)
					require.Equal(t, before.Offered+1, after.Offered)
				}
				require.Equal(t, before.Accepted, after.Accepted)
				if act.verb != plugbus.VerbProvide && act.verb != plugbus.VerbDiscover {
					require.EqualValues(t, 1, h.Inspect().Plugins[0].Refused)
				}
				require.Empty(t, append(box.names(), letters.types()...))
				require.Equal(t, history, h.Inspect().History.Sources["actor"])
			})
		}
	}
}

// quarantine makes a plugin fail until it is quarantined.
func quarantine(t testing.TB, h *hub.Hub, s *hub.Session) {
	t.Helper()
	for range 6 {
		require.NoError(t, s.Go("panics", func(context.Context) { panic("boo") }))
	}
	synctest.Wait()
	require.Equal(t, hub.Quarantined, state(h, s.ID()))
}

// TestFence shows that after a plugin has left every call of its session returns
// ErrClosed, whatever it asks for, and that nothing is recorded or counted.
func TestFence(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"actor": {"emit": {"allow": ["word.*"]}, "broadcast": {"allow": ["word.*"]}, "subscribe": {"allow": ["word.*"]}}`)})
	s := join(t, h, "actor")
	require.NoError(t, h.Unregister(t.Context(), "actor"))
	before := h.Ledger()
	for _, act := range acts {
		for _, name := range []string{"word.said", "not.permitted"} {
			err := act.do(t.Context(), s, name, 1)
			require.ErrorIs(t, err, plugbus.ErrClosed, "%s %q", act.name, name)
			require.NotErrorIs(t, err, plugbus.ErrDenied, "%s %q", act.name, name)
		}
	}
	require.ErrorIs(t, s.Go("late", func(context.Context) { panic("called") }), plugbus.ErrClosed)
	require.Equal(t, before, h.Ledger())
	require.Empty(t, entries(t, h, audit.Query{Actor: "actor"}))
}

// TestLimitsOfAPolicy shows that the limits of a grant bound the subscriptions of
// its plugin.
func TestLimitsOfAPolicy(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"actor": {"subscribe": true, "limits": {"subscriptions": 2, "wildcards": 1}}`)})
	s := join(t, h, "actor")
	listen(t, s, "a.*")
	_, err := s.Subscribe("a.*.*", (&inbox{}).handle)
	denied(t, err, plugbus.ReasonQuotaExceeded)
	listen(t, s, "b")
	_, err = s.Subscribe("c", (&inbox{}).handle)
	denied(t, err, plugbus.ReasonQuotaExceeded)

	h = open(t, hub.Options{Policy: policyOf(t, `"actor": {"subscribe": true, "limits": {"subscriptions": 0}}`)})
	_, err = join(t, h, "actor").Subscribe("a", (&inbox{}).handle)
	denied(t, err, plugbus.ReasonQuotaExceeded)
}

// TestReceivingIsChecked shows that a broadcast reaches only those who may
// subscribe to its name, with or without a subscription (S9, H13): the others
// count as refused, once for each, on the record of the sender, and do not count
// as its failures.
func TestReceivingIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{
			Policy:        policyOf(t, `"actor": {"broadcast": true, "send": true}, "may": {"subscribe": true}, "mayNot": {}`),
			FailureBudget: 1,
		})
		s := join(t, h, "actor")
		var may, mayNot inbox
		require.NoError(t, h.Register(t.Context(),
			&receiver{plug{manifest: named("may")}, may.handle},
			&receiver{plug{manifest: named("mayNot")}, mayNot.handle}))
		receipt, err := s.Broadcast(t.Context(), "word.said", 1, events.Audience{})
		require.NoError(t, err)
		require.Equal(t, []int{2, 1, 1}, []int{receipt.Matched, receipt.Accepted, receipt.Refused})
		idle(t, h)
		require.Equal(t, []string{"word.said"}, may.names())
		require.Empty(t, mayNot.names())
		found := entries(t, h, audit.Query{Actor: "actor", Outcome: plugbus.Refused})
		require.Len(t, found, 1)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, found[0].Reason)
		require.EqualValues(t, 1, h.Ledger().Refused)

		for range 999 {
			_, err := s.Broadcast(t.Context(), "word.said", 1, events.Audience{})
			require.NoError(t, err, "what others may not have is not the sender's fault")
		}
		require.Equal(t, hub.Ready, state(h, "actor"))
	})
}
