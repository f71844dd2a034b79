package hub_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// TestIdentity shows that no call of a session takes a sender (H1): its methods
// take names, payloads and options, and no option takes more. What is sent to one
// plugin, or known of it, has two names, that plugin's and its own.
func TestIdentity(t *testing.T) {
	session := reflect.TypeFor[*hub.Session]()
	addressed := map[string]bool{"Send": true, "Stream": true, "Post": true, "Capability": true}
	for m := range session.Methods() {
		strs := 0
		for j := 1; j < m.Type.NumIn(); j++ {
			if m.Type.In(j).Kind() == reflect.String {
				strs++
			}
		}
		names := 1
		if addressed[m.Name] {
			names = 2
		}
		require.LessOrEqual(t, strs, names, "%s takes more than its names", m.Name)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[hub.Session]()) {
		require.False(t, f.IsExported(), "%s of Session can be set", f.Name)
	}
}

// TestH1ForgedSource shows that what a plugin claims in payload, headers and
// options changes nothing in whose event it is (E3).
func TestH1ForgedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		mallory := join(t, h, "mallory")
		box := listen(t, h.Host(), "word.*")
		lie := map[string]string{"source": "alice", "from": "alice", "plugin": "alice", "seq": "1", "id": "x", "replayed": "true"}
		for _, data := range []any{lie, hub.Notice{Plugin: "alice"}, struct{ Source, ID, Time string }{"alice", "x", "0"}} {
			_, err := mallory.Emit(t.Context(), "word.said", data, events.Headers(lie), events.CorrelationID("alice"))
			require.NoError(t, err)
		}
		idle(t, h)
		require.Len(t, box.events, 3)
		for _, e := range box.events {
			require.Equal(t, "mallory", e.Source())
			require.Equal(t, []string{"mallory"}, e.Chain().Plugins())
			require.False(t, e.Replayed())
		}
		require.Equal(t, "mallory", mallory.ID())
	})
}

// TestH7ReservedNames shows that nobody but the hub emits under the hub's own
// names, not even the host, and that an attempt is recorded.
func TestH7ReservedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a := join(t, h, "a")
		box := listen(t, h.Host(), "plugin:**")
		for _, s := range []*hub.Session{a, h.Host()} {
			for _, name := range []string{hub.EventRegistered, "plugin:x", "hub:x", "store:x.y", hub.EventAlert} {
				_, err := s.Emit(t.Context(), name, hub.Notice{Event: name, Plugin: "b"})
				refusal := refusalOf(t, err, plugbus.ReasonReservedName)
				entry, ok := h.Audit().Get(refusal.Record)
				require.True(t, ok)
				require.Equal(t, s.ID(), entry.Actor)
				require.Equal(t, plugbus.ReasonReservedName, entry.Reason)
				_, err = s.Broadcast(t.Context(), name, 1, events.Audience{})
				denied(t, err, plugbus.ReasonReservedName)
			}
		}
		idle(t, h)
		require.Empty(t, box.names())
		emit(t, a, "plugins:x", 1) // It only looks alike.
	})
}

// TestH8Announcements shows that what the hub tells of a plugin is its id and
// version, and not what it provides or may do, and that it comes from the hub.
func TestH8Announcements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		box := listen(t, h.Host(), "plugin:*")
		m := caps("a", "secret.capability", "")
		m.Version = "1.2.3"
		require.NoError(t, h.Register(t.Context(), hub.Func(m, nil)))
		require.NoError(t, h.Unregister(t.Context(), "a"))
		idle(t, h)
		require.Equal(t, []string{hub.EventRegistered, hub.EventUnregistered}, box.names())
		for _, e := range box.events {
			notice, ok := e.Data().(hub.Notice)
			require.True(t, ok)
			require.Equal(t, hub.Notice{Event: e.Name(), Plugin: "a", Version: "1.2.3", Time: notice.Time}, notice)
			require.Equal(t, "hub", e.Source())
		}
		require.Len(t, entries(t, h, audit.Query{Event: "plugin.*", Target: "a"}), 2)
	})
}

// TestSessionYieldsNothing shows that nothing that the methods of a session return, nor
// those of what it gets of stores, leads to the hub, another session, a store itself, the
// policy or the audit log (A9, D3).
func TestSessionYieldsNothing(t *testing.T) {
	for _, of := range []reflect.Type{
		reflect.TypeFor[*hub.Session](), reflect.TypeFor[*store.View](), reflect.TypeFor[store.TypedView[int]](), reflect.TypeFor[*store.Tx](),
		reflect.TypeFor[*store.Watch](), reflect.TypeFor[store.Change](), reflect.TypeFor[store.Entry](), reflect.TypeFor[*store.Proposal](),
	} {
		for m := range of.Methods() {
			for out := range m.Type.Outs() {
				for _, forbidden := range []string{"hub.Hub", "hub.Session", "security.", "events.Client", "events.Bus", "audit.", "store.DB", "store.Client"} {
					require.False(t, strings.Contains(out.String(), forbidden), "%v.%s returns a %v", of, m.Name, out)
				}
			}
		}
	}
}
