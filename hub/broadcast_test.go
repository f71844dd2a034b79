package hub_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// TestAudience shows whom a broadcast reaches: receivers and subscribers that
// meet every condition, by id, capability and trust, and never the sender (H15)
// nor the hub; it is in the history of those it was for (H14).
func TestAudience(t *testing.T) {
	for _, test := range []struct {
		to   events.Audience
		want []string
	}{
		{events.Audience{}, []string{"basic", "host", "sub", "trusted"}},
		{events.Audience{IDs: []string{"basic", "sub", "sender", "nobody", "hub"}}, []string{"basic", "sub"}},
		{events.Audience{Capabilities: []string{"x"}}, []string{"basic", "trusted"}},
		{events.Audience{Capabilities: []string{"x", "y"}}, []string{"trusted"}},
		{events.Audience{Capabilities: []string{"z"}}, nil},
		{events.Audience{LeastTrust: plugbus.Basic}, []string{"basic", "host", "trusted"}},
		{events.Audience{LeastTrust: plugbus.Trusted}, []string{"host", "trusted"}},
		{events.Audience{LeastTrust: plugbus.Verified}, []string{"host"}},
		{events.Audience{LeastTrust: plugbus.Basic, Capabilities: []string{"x"}, IDs: []string{"basic", "sub"}}, []string{"basic"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{Policy: policyOf(t, `
				"sender": {"broadcast": true, "subscribe": true, "trust": "verified", "provide": true, "send": true},
				"basic": {"trust": "basic", "subscribe": true, "provide": true},
				"trusted": {"trust": "trusted", "subscribe": true, "provide": true},
				"sub": {"subscribe": true}`)})
			got := map[string]*inbox{"host": {}}
			_, err := h.Host().Subscribe("word.*", got["host"].handle)
			require.NoError(t, err)
			var sender *hub.Session
			for _, m := range []hub.Manifest{caps("sender", "x y", ""), caps("basic", "x", ""), caps("trusted", "x y", ""), {ID: "sub"}} {
				box := &inbox{}
				got[m.ID] = box
				r := &receiver{plug{manifest: func() hub.Manifest { return m }}, box.handle}
				if m.ID == "sub" {
					require.NoError(t, h.Register(t.Context(), &r.plug))
					_, err := r.session.Subscribe("word.*", box.handle)
					require.NoError(t, err)
					continue
				}
				require.NoError(t, h.Register(t.Context(), r))
				if m.ID == "sender" {
					sender = r.session
				}
			}
			receipt, err := sender.Broadcast(t.Context(), "word.said", 1, test.to)
			require.NoError(t, err)
			idle(t, h)
			maps.DeleteFunc(got, func(_ string, box *inbox) bool { return len(box.names()) == 0 })
			require.Equal(t, test.want, slices.Sorted(maps.Keys(got)), "%+v", test.to)
			require.Equal(t, len(test.want), receipt.Accepted, "%+v", receipt)

			var replayed []string
			for e, err := range h.Host().Replay(t.Context(), "word.*", events.All()) {
				require.NoError(t, err)
				replayed = append(replayed, e.Name())
			}
			require.Equal(t, slices.Contains(test.want, "host"), len(replayed) == 1)
		})
	}
}

// TestAudienceIsOfNow shows that a capability counts while its plugin is there.
func TestAudienceIsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var box inbox
		r := &receiver{plug{manifest: func() hub.Manifest { return caps("a", "x", "") }}, box.handle}
		to := events.Audience{Capabilities: []string{"x"}}
		for round := range 3 {
			require.NoError(t, h.Register(t.Context(), r))
			receipt, err := h.Host().Broadcast(t.Context(), "word.said", 1, to)
			require.NoError(t, err)
			require.Equal(t, 1, receipt.Accepted)
			require.NoError(t, h.Unregister(t.Context(), "a"))
			require.Len(t, box.names(), round+1)
			receipt, err = h.Host().Broadcast(t.Context(), "word.said", 1, to)
			require.NoError(t, err)
			require.Zero(t, receipt.Matched)
		}
		r.manifest = named("a")
		r.start = func(ctx context.Context, _ *hub.Session) error {
			receipt, err := h.Host().Broadcast(ctx, "word.said", 1, to)
			require.NoError(t, err)
			require.Zero(t, receipt.Matched, "an id that joins again has not inherited the capability (H5)")
			return nil
		}
		require.NoError(t, h.Register(t.Context(), r))
	})
}
