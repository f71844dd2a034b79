package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A letter is one way to send a message to one plugin.
type letter struct {
	name string
	do   func(ctx context.Context, s *hub.Session, to string, data any) error
}

var letters = []letter{
	{"Send", func(ctx context.Context, s *hub.Session, to string, data any) error {
		_, err := s.Send(ctx, to, "say.it", data)
		return err
	}},
	{"Send with options", func(ctx context.Context, s *hub.Session, to string, data any) error {
		_, err := s.Send(ctx, to, "say.it", data, router.Headers(map[string]string{"k": "v"}), router.WaitForRoom())
		return err
	}},
	{"Post", func(ctx context.Context, s *hub.Session, to string, data any) error {
		return s.Post(ctx, to, "say.it", data)
	}},
	{"Stream", func(ctx context.Context, s *hub.Session, to string, data any) error {
		return readAll(ctx, s, to, "say.all", data)
	}},
	{"Call", func(ctx context.Context, s *hub.Session, to string, data any) error {
		_, err := s.Call(ctx, "of."+to, data)
		return err
	}},
}

// TestOneDoorOfMessages takes every way to send a message to one plugin through
// every refusal: each returns the right reason, is counted and recorded once, and
// nobody gets anything (H10, S4, S9, S10, S20, R6). A call of a capability is
// refused like a message to its provider, but that one to which the caller may not
// send is not available.
func TestOneDoorOfMessages(t *testing.T) {
	const policy = `
		"actor": {
			"trust": "%s", "send": {"allow": ["friend", "deaf", "noble", "quiet"], "deny": ["quiet"]}, "discover": true,
			"rates": {"messages": {"limit": %d}, "bytes": {"limit": %d}}, "limits": {"messageBytes": 1000}},
		"friend": {"receive": true, "provide": true}, "deaf": {"receive": {"allow": ["noble"]}, "provide": true},
		"noble": {"trust": "trusted", "receive": true, "provide": true}, "quiet": {"receive": true, "provide": true},
		"stranger": {"receive": true, "provide": true}`
	type refusal struct {
		reason plugbus.Reason
		to     string
		data   any
		trust  string
		acts   int // of the rate
		bytes  int
		before func(t testing.TB, h *hub.Hub, s *hub.Session)
	}
	generous := refusal{to: "friend", data: "hello", acts: 1000, bytes: 100_000, trust: "untrusted"}
	with := func(reason plugbus.Reason, change func(*refusal)) refusal {
		r := generous
		r.reason = reason
		change(&r)
		return r
	}
	unfit := map[plugbus.Reason]bool{ // For which no provider is available.
		plugbus.ReasonInvalidName: true, plugbus.ReasonNoSendPermission: true, plugbus.ReasonDeniedByRule: true,
		plugbus.ReasonTrustLevelMismatch: true, plugbus.ReasonRecipientCannotReceive: true, plugbus.ReasonUnknownPlugin: true,
		plugbus.ReasonQuarantined: true,
	}
	for _, r := range []refusal{
		with("", func(*refusal) {}),
		with("", func(r *refusal) { r.to, r.trust = "noble", "basic" }),
		with(plugbus.ReasonInvalidName, func(r *refusal) { r.to = "no.id" }),
		with(plugbus.ReasonNoSendPermission, func(r *refusal) { r.to = "stranger" }),
		with(plugbus.ReasonNoSendPermission, func(r *refusal) { r.to = "nobody" }),
		with(plugbus.ReasonDeniedByRule, func(r *refusal) { r.to = "quiet" }),
		with(plugbus.ReasonTrustLevelMismatch, func(r *refusal) { r.to = "noble" }),
		with(plugbus.ReasonRecipientCannotReceive, func(r *refusal) { r.to = "deaf" }),
		with(plugbus.ReasonRateLimitExceeded, func(r *refusal) { r.acts = 0 }),
		with(plugbus.ReasonInvalidContent, func(r *refusal) { r.data = map[string]any{"a": []string{"<script src=x>"}} }),
		with(plugbus.ReasonTooLarge, func(r *refusal) { r.data = strings.Repeat("x", 2000) }),
		with(plugbus.ReasonInvalidPayload, func(r *refusal) { r.data = make(chan int) }),
		with(plugbus.ReasonSharedNotGranted, func(r *refusal) { r.data = plugbus.Shared(new(int)) }),
		with(plugbus.ReasonByteRateExceeded, func(r *refusal) { r.data, r.bytes = strings.Repeat("x", 500), 100 }),
		with(plugbus.ReasonQuarantined, func(r *refusal) { r.before = quarantine }),
	} {
		for _, letter := range letters {
			synctest.Test(t, func(t *testing.T) {
				t.Logf("%s to %q: %s", letter.name, r.to, r.reason)
				h := open(t, hub.Options{Policy: policyOf(t, fmt.Sprintf(policy, r.trust, r.acts, r.bytes))})
				s, box := join(t, h, "actor"), &letterbox{}
				for _, id := range []string{"friend", "deaf", "noble", "quiet", "stranger"} {
					other := join(t, h, id)
					serve(t, other, "say.it", box.handle)
					_, err := other.HandleStream("say.all", box.stream)
					require.NoError(t, err)
					require.NoError(t, other.Provide(hub.Capability{Name: "of." + id}, box.handle))
				}
				if r.before != nil {
					r.before(t, h, s)
				}
				idle(t, h)
				before := h.Ledger()
				err := letter.do(t.Context(), s, r.to, r.data)
				idle(t, h)
				after, found := h.Ledger(), entries(t, h, audit.Query{Actor: "actor", Outcome: plugbus.Refused})
				switch {
				case r.reason == "":
					require.NoError(t, err)
					require.Empty(t, found)
					require.Equal(t, before.Handled+1, after.Handled)
					require.Len(t, box.types(), 1)
					return
				case letter.name == "Call" && r.reason == plugbus.ReasonQuarantined:
					require.Equal(t, plugbus.VerbDiscover, refusalOf(t, err, r.reason).Verb)
				case letter.name == "Call" && unfit[r.reason]:
					require.ErrorIs(t, err, hub.ErrNoProvider)
					require.Empty(t, found)
				default:
					refused := refusalOf(t, err, r.reason)
					require.Equal(t, [3]any{"actor", plugbus.VerbSend, r.to}, [3]any{refused.Plugin, refused.Verb, refused.Object})
					require.Len(t, found, 1)
					require.Equal(t, [3]any{refused.Record, r.reason, plugbus.VerbSend}, [3]any{found[0].Seq, found[0].Reason, found[0].Verb})
					require.Equal(t, [2]any{r.to, uint64(1)}, [2]any{found[0].Target, found[0].Count})
					require.Equal(t, before.Refused+1, after.Refused)
					require.Equal(t, before.Offered+1, after.Offered)
					require.EqualValues(t, 1, h.Inspect().Plugins[0].Refused)
				}
				require.Equal(t, before.Accepted, after.Accepted)
				require.Empty(t, box.types())
				if reason := h.Explain("actor", plugbus.VerbSend, r.to).Reason; unfit[r.reason] {
					require.Equal(t, r.reason, reason, "what enforces and what explains agree")
				}
			})
		}
	}
}

// TestFenceOfMessages shows that after a plugin has left everything that it could
// do with messages and capabilities returns ErrClosed, and that nothing is
// recorded or counted.
func TestFenceOfMessages(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"actor": {"send": {"allow": ["friend"]}}, "friend": {"receive": true}`)})
	s := join(t, h, "actor")
	require.NoError(t, h.Unregister(t.Context(), "actor"))
	before := h.Ledger()
	acts := map[string]func() error{
		"Handle":        func() error { _, err := s.Handle("a", echo); return err },
		"HandleDefault": func() error { _, err := s.HandleDefault(echo); return err },
		"HandleStream":  func() error { _, err := s.HandleStream("a", (&letterbox{}).stream); return err },
		"Withdraw":      func() error { return s.Withdraw("a") },
		"Find":          func() error { _, err := s.Find(discovery.Criteria{}); return err },
		"Candidates":    func() error { _, err := s.Candidates(discovery.Criteria{}); return err },
	}
	for _, to := range []string{"friend", "stranger"} {
		for _, letter := range letters {
			acts[letter.name+" "+to] = func() error { return letter.do(t.Context(), s, to, 1) }
		}
	}
	for name, act := range acts {
		err := act()
		require.ErrorIs(t, err, plugbus.ErrClosed, name)
		require.NotErrorIs(t, err, plugbus.ErrDenied, name)
	}
	require.Equal(t, before, h.Ledger())
	require.Empty(t, entries(t, h, audit.Query{Actor: "actor"}))
}

// TestReplies shows that a reply, a chunk, and what is provided by a capability
// pass the door (S20): content, size and kind are checked, and the refusal is the
// replier's, while the requester hears a code. That it replies at all needs no
// right to send (R14).
func TestReplies(t *testing.T) {
	const policy = `"asker": {"send": true, "discover": true},
		"replier": {"receive": true, "provide": true, "limits": {"messageBytes": 1000}, "rates": {"messages": {"limit": 0}}}`
	for _, test := range []struct {
		reply  any
		reason plugbus.Reason
		code   plugbus.Code
	}{
		{"fine", "", ""},
		{nil, "", ""},
		{[]string{"<script src=x>"}, plugbus.ReasonInvalidContent, plugbus.CodeInternal},
		{strings.Repeat("x", 2000), plugbus.ReasonTooLarge, plugbus.CodeExhausted},
		{func() {}, plugbus.ReasonInvalidPayload, plugbus.CodeInternal},
		{plugbus.Shared(new(int)), plugbus.ReasonSharedNotGranted, plugbus.CodeInternal},
	} {
		for _, way := range []string{"Send", "Stream", "Call"} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{Policy: policyOf(t, policy)})
				asker, replier := join(t, h, "asker"), join(t, h, "replier")
				reply := func(context.Context, router.Message) (any, error) { return test.reply, nil }
				serve(t, replier, "ask", reply)
				_, err := replier.HandleStream("ask.all", func(_ context.Context, _ router.Message, yield func(any) bool) error {
					yield(test.reply)
					return nil
				})
				require.NoError(t, err)
				require.NoError(t, replier.Provide(hub.Capability{Name: "asking"}, reply))
				switch way {
				case "Send":
					_, err = asker.Send(t.Context(), "replier", "ask", 1)
				case "Stream":
					err = readAll(t.Context(), asker, "replier", "ask.all", 1)
				case "Call":
					_, err = asker.Call(t.Context(), "asking", 1)
				}
				idle(t, h)
				found := entries(t, h, audit.Query{Actor: "replier", Outcome: plugbus.Refused})
				if test.reason == "" {
					require.NoError(t, err, "%s", way)
					require.Empty(t, found)
					return
				}
				require.Equal(t, test.code, remote(t, err).Code)
				require.NotErrorIs(t, err, plugbus.ErrDenied)
				require.Len(t, found, 1)
				require.Equal(t, test.reason, found[0].Reason)
				require.EqualValues(t, 1, h.Ledger().Failed)
			})
		}
	}
}
