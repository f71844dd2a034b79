package hub_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
)

// drawRule draws a rule of a policy over some patterns.
func drawRule(t *rapid.T, label string, patterns ...string) any {
	list := func(what string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(patterns), 0, 2, rapid.ID[string]).Draw(t, label+" "+what)
	}
	switch rapid.IntRange(0, 3).Draw(t, label) {
	case 0:
		return false
	case 1:
		return true
	}
	return map[string]any{"allow": append(list("allow"), patterns[0]), "deny": list("deny")}
}

func drawPlugin(t *rapid.T, id string) map[string]any {
	ids, names := []string{"*", "a", "b"}, []string{"x.*", "x.y", "**", "z"}
	return map[string]any{
		"trust":   rapid.SampledFrom([]string{"untrusted", "basic", "trusted"}).Draw(t, id+" trust"),
		"send":    drawRule(t, id+" send", ids...),
		"receive": drawRule(t, id+" receive", ids...),
		"publish": drawRule(t, id+" publish", names...), "consume": drawRule(t, id+" consume", names...),
		"provide": drawRule(t, id+" provide", names...), "discover": drawRule(t, id+" discover", names...),
	}
}

// TestExplainAgrees compares, for random policies, what Explain and the matrix of
// hubtest say of a verb with what happens when a plugin acts: to send, publish,
// consume, provide and discover, and whether what was sent arrives, which needs the
// rights of both.
func TestExplainAgrees(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text, err := json.Marshal(map[string]any{"version": 1, "plugins": map[string]any{"a": drawPlugin(r, "a"), "b": drawPlugin(r, "b")}})
		require.NoError(r, err)
		policy, err := security.Parse(text, "")
		require.NoError(r, err)
		h, err := hub.New(hub.Options{Policy: policy, ExplainToPlugins: true})
		require.NoError(r, err)
		defer func() { _, _ = h.Close(t.Context()) }()
		a, b := join(t, h, "a"), join(t, h, "b")
		name := rapid.SampledFrom([]string{"x.y", "z", "w.w"}).Draw(r, "name")
		// agrees requires that an act ended as it is explained, and returns whether
		// it was allowed.
		agrees := func(s *hub.Session, verb plugbus.Verb, object string, err error) bool {
			e := h.Explain(s.ID(), verb, object)
			hubtest.RequireDecision(t, policy, s.ID(), verb, object, e.Reason)
			if refused, ok := errors.AsType[*plugbus.DeniedError](err); ok {
				require.Equal(r, e.Reason, refused.Reason, "%s %s %s in %s", s.ID(), verb, object, text)
				return false
			}
			require.NoError(r, err)
			require.True(r, e.Allowed, "%s %s %s in %s", s.ID(), verb, object, text)
			return true
		}
		box := &letterbox{}
		serve(t, b, "ask", box.handle)
		_, err = a.Send(t.Context(), "b", "ask", 1)
		sends := agrees(a, plugbus.VerbSend, "b", err)
		require.Equal(r, sends, len(box.types()) == 1)
		if sends {
			require.True(r, h.Explain("b", plugbus.VerbReceive, "a").Allowed)
		}

		news := &letterbox{}
		_, err = b.HandleTopic(name, news.consume)
		consumes := agrees(b, plugbus.VerbConsume, name, err)
		_, err = a.Publish(t.Context(), name, 1)
		publishes := agrees(a, plugbus.VerbPublish, name, err)
		idle(t, h)
		require.Equal(r, consumes && publishes, len(news.types()) == 1)

		calls := &letterbox{}
		provides := agrees(b, plugbus.VerbProvide, name, b.Provide(hub.Capability{Name: name}, calls.handle))
		_, err = a.Providers(name)
		discovers := agrees(a, plugbus.VerbDiscover, name, err)
		_, err = a.Call(t.Context(), name, 1)
		require.Equal(r, sends && provides && discovers, err == nil, "%v", err)
		require.Equal(r, err == nil, len(calls.types()) == 1)
	})
}
