package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// A storeAct is one way through the door to a store: with a view that the plugin has
// had before, or by its session.
type storeAct struct {
	name    string
	verb    plugbus.Verb
	right   store.Rights // that the lists have to give
	carries bool         // it hands a value in
	do      func(ctx context.Context, s *hub.Session, v *store.View, value string) error
}

var storeActs = []storeAct{
	{"Get", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		_, err := v.Get(ctx, "old")
		return err
	}},
	{"Entries", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) (err error) {
		for _, e := range v.Entries(ctx, store.All()) {
			err = errors.Join(err, e)
		}
		return err
	}},
	{"Keys", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) (err error) {
		for _, e := range v.Keys(ctx, store.Prefix("o")) {
			err = errors.Join(err, e)
		}
		return err
	}},
	{"Watch", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		w, err := v.Watch(ctx, "**", (&storebox{}).watch, store.Snapshot())
		if err == nil {
			w.Stop()
		}
		return err
	}},
	{"Tx.Get", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Get("old"); return err })
	}},
	{"Tx.Entries", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Entries(store.All()); return err })
	}},
	{"TypedView.Get", plugbus.VerbRead, store.Read, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		_, _, err := store.Typed[string](v).Get(ctx, "old")
		return err
	}},
	{"OpenStore", plugbus.VerbRead, store.Read, false, func(ctx context.Context, s *hub.Session, v *store.View, _ string) error {
		_, err := s.OpenStore(ctx, v.Name())
		return err
	}},
	{"Set", plugbus.VerbWrite, store.Write, true, func(ctx context.Context, _ *hub.Session, v *store.View, value string) error {
		_, err := v.Set(ctx, "new", []byte(value))
		return err
	}},
	{"Create", plugbus.VerbWrite, store.Write, true, func(ctx context.Context, _ *hub.Session, v *store.View, value string) error {
		_, err := v.Create(ctx, "new", []byte(value))
		return err
	}},
	{"Update", plugbus.VerbWrite, store.Write, true, func(ctx context.Context, _ *hub.Session, v *store.View, value string) error {
		_, err := v.Update(ctx, "old", []byte(value), 1)
		return err
	}},
	{"Delete", plugbus.VerbWrite, store.Write, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Delete(ctx, "old")
	}},
	{"Tx.Set", plugbus.VerbWrite, store.Write, true, func(ctx context.Context, _ *hub.Session, v *store.View, value string) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Set("new", []byte(value)) })
	}},
	{"Tx.Delete", plugbus.VerbWrite, store.Write, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Delete("old") })
	}},
	{"TypedView.Set", plugbus.VerbWrite, store.Write, true, func(ctx context.Context, _ *hub.Session, v *store.View, value string) error {
		_, err := store.TypedBy[string](v, asIs{}).Set(ctx, "new", value)
		return err
	}},
	{"Grant", plugbus.VerbWrite, store.Admin, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Grant(ctx, store.Read, "stranger")
	}},
	{"Revoke", plugbus.VerbWrite, store.Admin, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Revoke(ctx, store.Read, "reader")
	}},
	{"Access", plugbus.VerbWrite, store.Admin, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		_, err := v.Access(ctx)
		return err
	}},
	{"Drop", plugbus.VerbWrite, store.Admin, false, func(ctx context.Context, _ *hub.Session, v *store.View, _ string) error {
		return v.Drop(ctx)
	}},
	{"CreateStore", plugbus.VerbCreate, 0, true, func(ctx context.Context, s *hub.Session, v *store.View, value string) error {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text)))
		_, err = s.CreateStore(ctx, v.Name()+".more", store.Config{Schema: fmt.Appendf(nil, `{"title": %s}`, text)})
		return err
	}},
	{"EnsureStore", plugbus.VerbCreate, 0, true, func(ctx context.Context, s *hub.Session, v *store.View, value string) error {
		_, err := s.EnsureStore(ctx, v.Name()+".more", store.Config{Schema: fmt.Appendf(nil, `{"title": %q}`, value)})
		return err
	}},
}

// asIs is a codec of strings.
type asIs struct{}

func (asIs) Encode(value any) ([]byte, error) { return fmt.Append(nil, value), nil }

func (asIs) Decode(data []byte, into any) error {
	*into.(*string) = string(data)
	return nil
}

// TestOneDoorOfStores takes every act on a store through every refusal, most of them
// with a view that the plugin has had from better times: each returns the right reason
// and is recorded once, with the rules of the policy and those of the lists (H10, D4,
// D8, D10, S4, S10); nothing changes, and no watch hears of anything. What is written is
// measured and inspected, also in strings that JSON escapes (S20).
func TestOneDoorOfStores(t *testing.T) {
	const (
		free    = `{"read": true, "write": true, "create": true}`
		limited = `"rates": {"data_access": {"limit": %d}, "bytes": {"limit": %d}}, "limits": {"messageBytes": 1000}`
	)
	policy := func(t testing.TB, access, trust string, acts, bytes int) string {
		t.Helper()
		return fmt.Sprintf(`"owner": {"dataAccess": {"**": %s}, "trust": "trusted"},
			"actor": {"trust": %q, "dataAccess": {"words": %s, "words.more": %s}, %s}`, free, trust, access, access, fmt.Sprintf(limited, acts, bytes))
	}
	type refusal struct {
		reason plugbus.Reason
		access string // what the policy says
		trust  string
		acts   int // of the rates
		bytes  int
		value  string
		rule   string // of the entry
		lists  store.Rights
		before func(t testing.TB, h *hub.Hub, s *hub.Session)
	}
	const all = store.Read | store.Write | store.Admin
	generous := refusal{access: free, trust: "trusted", acts: 1000, bytes: 100_000, value: "7", lists: all}
	with := func(reason plugbus.Reason, rule string, change func(*refusal)) refusal {
		r := generous
		r.reason, r.rule = reason, rule
		change(&r)
		return r
	}
	const ofLists = `the lists of store "words" give "actor" no right to`
	refusals := []refusal{
		with("", "", func(*refusal) {}),
		with(plugbus.ReasonInsufficientPermissions, "plugins.actor.dataAccess", func(r *refusal) {
			r.access = `{"read": false, "write": false, "create": false}`
		}),
		with(plugbus.ReasonInsufficientTrustLevel, "requiresTrust", func(r *refusal) {
			r.trust, r.access = "basic", `{"read": true, "write": true, "create": true, "requiresTrust": true}`
		}),
		with(plugbus.ReasonInsufficientPermissions, ofLists, func(r *refusal) { r.lists = 0 }),
		with(plugbus.ReasonInsufficientTrustLevel, "requiresTrust of "+`"words" in plugins.actor.dataAccess`, func(r *refusal) {
			r.trust, r.access, r.lists = "basic", `{"read": true, "write": true, "create": true, "requiresTrust": true}`, 0
		}),
		with(plugbus.ReasonRateLimitExceeded, "data_access", func(r *refusal) { r.acts = 0 }),
		with(plugbus.ReasonInvalidContent, "content checks", func(r *refusal) { r.value = "say <script src=x>" }),
		with(plugbus.ReasonInvalidContent, "content checks", func(r *refusal) { r.value = `{"a": ["<scrip\u0074 src=x>"]}` }),
		with(plugbus.ReasonInvalidContent, "content checks", func(r *refusal) { r.value = `{"<script src=x\u003e": 1}` }),
		with(plugbus.ReasonTooLarge, "payloads", func(r *refusal) { r.value = strings.Repeat("x", 2000) }),
		with(plugbus.ReasonByteRateExceeded, "bytes", func(r *refusal) { r.value, r.bytes = strings.Repeat("x", 500), 100 }),
		with(plugbus.ReasonQuarantined, "", func(r *refusal) { r.before = quarantine }),
	}
	ofPayload := []plugbus.Reason{plugbus.ReasonInvalidContent, plugbus.ReasonTooLarge, plugbus.ReasonByteRateExceeded}
	for _, act := range storeActs {
		for _, r := range refusals {
			switch {
			case slices.Contains(ofPayload, r.reason) && !act.carries,
				act.verb == plugbus.VerbCreate && (r.lists == 0 || r.reason == plugbus.ReasonByteRateExceeded || strings.Contains(r.value, `\u`)):
				continue // There is nothing to refuse it for.
			}
			synctest.Test(t, func(t *testing.T) {
				t.Logf("%s: %s, lists %v, value %.20q", act.name, r.reason, r.lists, r.value)
				h := open(t, hub.Options{Policy: policyOf(t, policy(t, free, "trusted", 1000, 100_000))})
				owner, s := join(t, h, "owner"), join(t, h, "actor")
				words := create(t, owner, "words", store.Config{Read: []string{"reader"}, Admin: []string{"actor"}})
				set(t, words, "old", `"1"`)
				box, _ := follow(t, words, "**")
				v := view(t, s, "words")
				require.NoError(t, v.Grant(t.Context(), store.Read|store.Write, "actor"))
				if r.lists == 0 {
					require.NoError(t, words.Revoke(t.Context(), all, "actor"))
				}
				idle(t, h)
				swap(t, h, policyOf(t, policy(t, r.access, r.trust, r.acts, r.bytes)))
				if r.before != nil {
					r.before(t, h, s)
				}
				idle(t, h)
				used := func(op security.Operation) uint64 {
					usage, _ := h.Security().Usage("actor")
					for _, u := range usage.Operations {
						if u.Operation == op {
							return u.Admitted
						}
					}
					return 0
				}
				before, acts, bytes := h.Inspect().Stores, used(security.DataAccess), used(security.Bytes)
				err := act.do(t.Context(), s, v, r.value)
				idle(t, h)
				after := h.Inspect().Stores
				found := entries(t, h, audit.Query{Actor: "actor", Outcome: plugbus.Refused})
				if r.reason == "" {
					require.NoError(t, err)
					require.Empty(t, found)
					require.Equal(t, acts+1, used(security.DataAccess), "it is one act (D10)")
					require.Equal(t, act.carries && act.verb == plugbus.VerbWrite, used(security.Bytes) > bytes)
					return
				}
				name := "words"
				if act.verb == plugbus.VerbCreate {
					name = "words.more"
				}
				refused := refusalOf(t, err, r.reason)
				require.Equal(t, [3]any{"actor", act.verb, name}, [3]any{refused.Plugin, refused.Verb, refused.Object})
				require.Empty(t, refused.Explanation)
				require.Len(t, found, 1)
				require.Equal(t, [3]any{refused.Record, r.reason, act.verb}, [3]any{found[0].Seq, found[0].Reason, found[0].Verb})
				require.Equal(t, [2]any{name, uint64(1)}, [2]any{found[0].Target, found[0].Count})
				require.Contains(t, detail(found[0], "rule"), r.rule)
				if r.lists == 0 {
					require.Contains(t, detail(found[0], "rule"), fmt.Sprintf("%s %v", ofLists, act.right))
					require.Contains(t, detail(found[0], "remedy"), "let an admin of the store grant it")
				}
				require.EqualValues(t, 1, must(snapshotOf(h, "actor")).Refused)
				require.Equal(t, before.Refused+1, after.Refused)
				require.Equal(t, before.Stores, after.Stores, "nothing has changed")
				require.Empty(t, box.texts())
				switch r.reason {
				case plugbus.ReasonInsufficientPermissions, plugbus.ReasonInsufficientTrustLevel, plugbus.ReasonQuarantined:
					if act.right != store.Admin || r.lists == all {
						require.Equal(t, r.reason, h.Explain("actor", act.verb, name).Reason, "what enforces and what explains agree")
					}
				}
			})
		}
	}
}

// detail returns a detail of an entry, "" if it has none of this key.
func detail(e audit.Entry, key string) string {
	for _, d := range e.Details {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// TestIdentityOfWrites shows that whoever holds a view writes as its plugin, whatever
// keys, values and codecs claim, and whoever's views are in the store (H1, D3).
func TestIdentityOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		alice, mallory := join(t, h, "alice"), join(t, h, "mallory")
		words := create(t, alice, "words", store.Config{Read: []string{store.Everyone}, Write: []string{store.Everyone}})
		box, _ := follow(t, words, "**")
		set(t, words, "a", "1")
		set(t, view(t, mallory, "words"), "writer:alice", `{"writer": "alice", "plugin": "alice"}`)
		require.NoError(t, view(t, mallory, "words").Txn(t.Context(), func(tx *store.Tx) error {
			e, err := tx.Get("a")
			if err != nil {
				return err
			}
			require.Equal(t, "alice", e.Writer())
			return tx.Set("a", e.Value())
		}))
		idle(t, h)
		var writers []string
		for _, c := range box.changes {
			require.Equal(t, c.Writer(), c.Entry().Writer())
			require.Equal(t, []string{c.Writer()}, c.Chain().Plugins())
			writers = append(writers, c.Writer())
		}
		require.Equal(t, []string{"alice", "mallory", "mallory"}, writers)
		for _, a := range entries(t, h, audit.Query{Event: "store.created"}) {
			require.Equal(t, [2]string{"alice", "words"}, [2]string{a.Actor, a.Target})
		}
	})
}

// TestFenceOfStores shows that after a plugin has left every call of its session and of
// its views returns ErrClosed, whatever it asks for, that no watch of it hears of
// anything, and that nothing is recorded, counted or changed.
func TestFenceOfStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `"owner": {"dataAccess": {"**": {"read": true, "write": true, "create": true}}},
			"actor": {"dataAccess": {"words": {"read": true, "write": true}}}`)})
		owner, s := join(t, h, "owner"), join(t, h, "actor")
		words := create(t, owner, "words", store.Config{Admin: []string{"actor"}})
		set(t, words, "old", "1")
		v := view(t, s, "words")
		box, w := follow(t, v, "**")
		var kept *store.Tx
		require.NoError(t, v.Txn(t.Context(), func(tx *store.Tx) error { kept = tx; return nil }))
		require.NoError(t, h.Unregister(t.Context(), "actor"))
		require.ErrorIs(t, w.Err(), plugbus.ErrClosed)
		records := len(entries(t, h, audit.Query{}))
		before := h.Inspect().Stores
		try := func(what string, err error) {
			require.ErrorIs(t, err, plugbus.ErrClosed, what)
			require.NotErrorIs(t, err, plugbus.ErrDenied, what)
		}
		for _, act := range storeActs {
			for _, value := range []string{"7", "<script src=x>"} {
				try(act.name, act.do(t.Context(), s, v, value))
			}
		}
		_, err := s.Stores(t.Context())
		try("Stores", err)
		_, err = s.OpenStore(t.Context(), "no such store")
		try("OpenStore", err)
		_, err = s.CreateStore(t.Context(), "more", store.Config{})
		try("CreateStore", err)
		_, err = s.EnsureStore(t.Context(), "more", store.Config{})
		try("EnsureStore", err)
		try("SetValidator", v.SetValidator(t.Context(), nil))
		try("Txn", v.Txn(t.Context(), func(*store.Tx) error { return nil }))
		_, err = kept.Get("old")
		require.ErrorIs(t, err, store.ErrTxDone)
		require.Equal(t, before, h.Inspect().Stores)
		require.Len(t, entries(t, h, audit.Query{}), records)
		set(t, words, "old", "2")
		idle(t, h)
		require.Empty(t, box.texts())
	})
}

// TestFenceInATransaction shows that a transaction whose plugin leaves before it commits
// changes nothing.
func TestFenceInATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "actor")
		words := create(t, s, "words", store.Config{})
		err := words.Txn(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, tx.Set("a", []byte("1")))
			require.NoError(t, h.Unregister(t.Context(), "actor"))
			require.ErrorIs(t, tx.Set("b", []byte("1")), plugbus.ErrClosed)
			return nil
		})
		require.ErrorIs(t, err, plugbus.ErrClosed)
		require.Zero(t, h.Inspect().Stores.Stores[0].Keys)
	})
}
