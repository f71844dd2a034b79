package hub_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

const silent = `
	"spy": {"emit": true, "broadcast": true, "send": {"allow": ["friend"]}, "discover": {"allow": ["shown.*"]}},
	"friend": {"subscribe": true}, "stranger": {"subscribe": true}, "refused": {},
	"shown": {"subscribe": true, "provide": true}, "hidden": {"subscribe": true, "provide": true}`

// TestSilence shows that what a plugin may not know of does not show in its
// receipts: those count only plugins that its send right names, or of which it
// may discover a capability.
func TestSilence(t *testing.T) {
	for _, test := range []struct {
		present hub.Plugin
		counted bool
	}{
		{&plug{manifest: named("friend")}, true},
		{&plug{manifest: named("stranger")}, false},
		{hub.Func(caps("shown", "shown.thing", ""), nil), true},
		{hub.Func(caps("hidden", "hidden.thing", ""), nil), false},
	} {
		for _, private := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{Policy: policyOf(t, silent)})
				spy := join(t, h, "spy")
				var box *inbox
				id := test.present.Manifest().ID
				require.NoError(t, h.Register(t.Context(), hub.Func(test.present.Manifest(), nil)))
				require.NoError(t, h.Unregister(t.Context(), id))
				p := &plug{manifest: test.present.Manifest}
				require.NoError(t, h.Register(t.Context(), p))
				var options []events.SubscribeOption
				if private {
					options = append(options, events.OnOverflow(events.RefuseToEmitter), events.Buffer(1))
				}
				box = listen(t, p.session, "word.*", options...)

				want := 0
				if test.counted {
					want = 1
				}
				receipt, err := spy.Emit(t.Context(), "word.said", 1)
				require.NoError(t, err)
				require.Equal(t, [4]int{want, want, 0, 0}, [4]int{receipt.Matched, receipt.Accepted, receipt.Refused, receipt.Full}, id)
				idle(t, h)
				receipt, err = spy.Broadcast(t.Context(), "word.said", 1, events.Audience{})
				require.NoError(t, err)
				require.Equal(t, want, receipt.Matched, id)
				idle(t, h)
				require.Len(t, box.names(), 2)
			})
		}
	}
}

// TestSilenceOfRefusedRecipients shows that a broadcast to a named plugin has
// the same receipt whether that one does not exist, or may not have it, where
// the sender may not know of it.
func TestSilenceOfRefusedRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, silent)})
		spy := join(t, h, "spy")
		require.NoError(t, h.Register(t.Context(), &receiver{plug{manifest: named("refused")}, (&inbox{}).handle}))
		var receipts []events.Receipt
		for _, id := range []string{"refused", "nobody", "stranger"} {
			receipt, err := spy.Broadcast(t.Context(), "word.said", 1, events.Audience{IDs: []string{id}})
			require.NoError(t, err)
			require.Equal(t, receipts == nil, h.Ledger().Refused == 1 && len(receipts) == 0)
			receipts = append(receipts, receipt)
		}
		for _, r := range receipts {
			require.Equal(t, [4]int{}, [4]int{r.Matched, r.Accepted, r.Refused, r.Full})
		}
		require.EqualValues(t, 1, h.Ledger().Refused, "the host's books have it")
	})
}

// TestExplainToPlugins shows that the rule and the remedy of a refusal are the
// host's, unless it shares them.
func TestExplainToPlugins(t *testing.T) {
	for _, explain := range []bool{false, true} {
		h := open(t, hub.Options{ExplainToPlugins: explain, Policy: policyOf(t, `"a": {"emit": {"allow": ["word.*"], "deny": ["word.bad"]}}`)})
		a := join(t, h, "a")
		for _, name := range []string{"word.bad", "other"} {
			_, err := a.Emit(t.Context(), name, 1)
			refusal, ok := err.(*plugbus.DeniedError) //nolint:errorlint // The error itself is what the plugin gets.
			require.True(t, ok)
			require.Equal(t, explain, refusal.Explanation != "")
			require.Equal(t, explain, len(refusal.Error()) > 100, "%v", err)
			e := h.Explain("a", plugbus.VerbEmit, name)
			require.False(t, e.Allowed)
			require.Equal(t, refusal.Reason, e.Reason)
			require.NotEmpty(t, e.Remedy)
			entry, found := h.Audit().Get(refusal.Record)
			require.True(t, found)
			require.Contains(t, entry.Details[0].Value, e.Rule)
		}
	}
}

// TestSilenceFollowsCapabilities shows that a plugin which a sender may know of by a
// capability alone counts while it provides that, and no longer.
func TestSilenceFollowsCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `
			"spy": {"emit": true, "publish": true, "discover": true},
			"p": {"subscribe": true, "consume": true, "provide": true}`)})
		spy, p, box := join(t, h, "spy"), join(t, h, "p"), &letterbox{}
		_, err := p.HandleTopic("word.*", box.consume)
		require.NoError(t, err)
		heard := listen(t, p, "word.*")
		look := func(known int) {
			t.Helper()
			emitted, err := spy.Emit(t.Context(), "word.said", 1)
			require.NoError(t, err)
			published, err := spy.Publish(t.Context(), "word.said", 1)
			require.NoError(t, err)
			require.Equal(t, []int{known, known, known, known}, []int{emitted.Matched, emitted.Accepted, published.Matched, published.Accepted})
		}
		look(0)
		require.NoError(t, p.Provide(hub.Capability{Name: "shown"}, box.handle))
		look(1)
		require.NoError(t, p.Withdraw("shown"))
		look(0)
		idle(t, h)
		require.Len(t, box.types(), 3)
		require.Len(t, heard.names(), 3)
	})
}
