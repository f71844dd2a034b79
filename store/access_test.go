package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// An act is something that a plugin does with a store, and what right it needs.
type act struct {
	name  string
	needs store.Rights
	do    func(ctx context.Context, c *store.Client, v *store.View) error
}

var everyAct = []act{
	{"open", store.Read, func(ctx context.Context, c *store.Client, v *store.View) error {
		_, err := c.Open(ctx, v.Name())
		return err
	}},
	{"get", store.Read, func(ctx context.Context, _ *store.Client, v *store.View) error {
		_, err := v.Get(ctx, "k")
		return err
	}},
	{"entries", store.Read, func(ctx context.Context, _ *store.Client, v *store.View) error {
		for _, err := range v.Entries(ctx, store.All()) {
			return err
		}
		return nil
	}},
	{"watch", store.Read, func(ctx context.Context, _ *store.Client, v *store.View) error {
		w, err := v.Watch(ctx, "**", func(context.Context, store.Change) error { return nil })
		if err == nil {
			w.Stop()
		}
		return err
	}},
	{"tx.Get", store.Read, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Get("k"); return err })
	}},
	{"tx.Entries", store.Read, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { _, err := tx.Entries(store.All()); return err })
	}},
	{"set", store.Write, func(ctx context.Context, _ *store.Client, v *store.View) error {
		_, err := v.Set(ctx, "k", nil)
		return err
	}},
	{"delete", store.Write, func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Delete(ctx, "other") }},
	{"tx.Set", store.Write, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Set("k", nil) })
	}},
	{"tx.Delete", store.Write, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Txn(ctx, func(tx *store.Tx) error { return tx.Delete("other") })
	}},
	{"grant", store.Admin, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Grant(ctx, store.Read, "somebody")
	}},
	{"revoke", store.Admin, func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.Revoke(ctx, store.Read, "somebody")
	}},
	{"access", store.Admin, func(ctx context.Context, _ *store.Client, v *store.View) error {
		_, err := v.Access(ctx)
		return err
	}},
}

// TestAccess is D8: an act needs the policy and the lists, and the host hears of both. It
// is D10 too: what is let in costs a token, what is refused costs none and is recorded.
func TestAccess(t *testing.T) {
	t.Parallel()
	const reason = plugbus.ReasonInsufficientTrustLevel
	everything := store.Read | store.Write | store.Admin
	ctx := t.Context()
	db := openDB(t, store.Options{})
	owner := made(t, member(t, db, "owner"), "notes", store.Config{})
	_, err := owner.Set(ctx, "k", nil)
	require.NoError(t, err)
	l := newLaw("plugin")
	c := member(t, db, "plugin", l)
	require.NoError(t, owner.Grant(ctx, store.Read, "plugin"))
	v := opened(t, c, "notes")
	for _, a := range everyAct {
		verb := plugbus.VerbWrite
		if a.needs == store.Read {
			verb = plugbus.VerbRead
		}
		for policy := range 4 { // a bit for each verb
			for rights := range everything + 1 {
				require.NoError(t, owner.Revoke(ctx, everything, "plugin"))
				if rights != 0 {
					require.NoError(t, owner.Grant(ctx, rights, "plugin"))
				}
				for i, of := range []plugbus.Verb{plugbus.VerbRead, plugbus.VerbWrite} {
					l.allow(of.String() + " notes")
					if policy>>i&1 == 0 {
						l.deny(of.String()+" notes", reason)
					}
				}
				byPolicy := policy&1 != 0
				if verb == plugbus.VerbWrite {
					byPolicy = policy&2 != 0
				}
				byList := rights&(a.needs|store.Admin) != 0
				what := fmt.Sprintf("%s: policy %02b, lists %v", a.name, policy, rights)
				taken, refused := l.acts.taken.Load(), len(l.refused)
				err := a.do(ctx, c, v)
				if a.name == "open" && policy&2 != 0 && rights&(store.Write|store.Admin) != 0 {
					byPolicy, byList = true, true // Some right will do.
				}
				if byPolicy && byList {
					require.NoError(t, err, what)
					require.Greater(t, l.acts.taken.Load(), taken, what)
					require.Len(t, l.refused, refused, what)
					continue
				}
				denied, ok := errors.AsType[*plugbus.DeniedError](err)
				require.True(t, ok, "%s: %v", what, err)
				require.Equal(t, verb, denied.Verb, what)
				require.Equal(t, a.needs == store.Admin, strings.Contains(denied.Hint, "it needs Admin of the store"), what)
				require.Equal(t, "notes", denied.Object, what)
				require.Equal(t, taken, l.acts.taken.Load(), what)
				require.Len(t, l.refused, refused+1, what)
				told := l.last(t)
				if byPolicy {
					require.Equal(t, plugbus.ReasonInsufficientPermissions, denied.Reason, what)
				} else {
					require.Equal(t, reason, denied.Reason, what)
				}
				if byList {
					require.Empty(t, told.Rule, what)
				} else {
					require.Contains(t, told.Rule, fmt.Sprintf(`the lists of store "notes" give "plugin" no right to %v`, a.needs), what)
					require.Contains(t, told.Remedy, fmt.Sprintf("grant it %v", a.needs), what)
				}
			}
		}
	}
	require.EqualValues(t, len(l.refused), db.Stats().Refused)
}

// TestCreateNeedsPermission is D2.
func TestCreateNeedsPermission(t *testing.T) {
	t.Parallel()
	db := openDB(t, store.Options{})
	l := newLaw("a")
	c := member(t, db, "a", l)
	l.deny("create", plugbus.ReasonInsufficientPermissions)
	l.allow("create mine")
	_, err := c.Create(t.Context(), "other", store.Config{})
	require.ErrorIs(t, err, plugbus.ErrDenied)
	made(t, c, "mine", store.Config{})
	require.EqualValues(t, 1, l.acts.taken.Load())
}

// TestSilence is D9: a plugin that may not create stores cannot tell one that is not there
// from one that it may not use, by any field of the error, by the tokens that it has left,
// or by a list; nor can it tell whether its policy would let it.
func TestSilence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, store.Options{})
	owner := member(t, db, "owner")
	made(t, owner, "here", store.Config{})
	dropped := made(t, owner, "gone", store.Config{})
	require.NoError(t, dropped.Drop(ctx))
	for _, policy := range []plugbus.Reason{"", plugbus.ReasonInsufficientTrustLevel} {
		l := newLaw("plugin")
		l.deny("create", plugbus.ReasonInsufficientPermissions)
		l.deny("read", policy)
		l.deny("write", policy)
		c := member(t, db, "plugin", l)
		tell := func(name string) (all []plugbus.DeniedError) {
			_, errOpen := c.Open(ctx, name)
			_, errCreate := c.Create(ctx, name, store.Config{})
			for _, err := range []error{errOpen, errCreate} {
				denied, ok := errors.AsType[*plugbus.DeniedError](err)
				require.True(t, ok, "%q: %v", name, err)
				require.Equal(t, strings.ReplaceAll(denied.Error(), name, "NAME"), strings.ReplaceAll(err.Error(), name, "NAME"))
				require.Equal(t, name, denied.Object)
				denied.Object = ""
				all = append(all, *denied)
			}
			return all
		}
		want := tell("never")
		require.Equal(t, policy == "", strings.HasPrefix(want[0].Hint, "there is no such store yet, or "), want[0].Hint)
		require.Equal(t, want, tell("here"))
		require.Equal(t, want, tell("gone"))
		infos, err := c.List(ctx)
		require.NoError(t, err)
		require.Empty(t, infos)
		require.Zero(t, l.acts.taken.Load())
		require.Zero(t, l.bytes.taken.Load())

		l.allow("create")
		_, err = c.Open(ctx, "never")
		require.ErrorIs(t, err, store.ErrNotFound, "whoever may create it may know")
		require.EqualValues(t, 1, l.acts.taken.Load(), "and pays for it")
		l.acts.full.Store(true)
		_, err = c.Open(ctx, "never")
		require.ErrorIs(t, err, plugbus.ErrDenied, "or is told nothing")
		require.NoError(t, c.Close(ctx))
	}
}

// TestUnknownOwner shows that a list names no plugin that the reader may not know of.
func TestUnknownOwner(t *testing.T) {
	t.Parallel()
	db := openDB(t, store.Options{})
	for _, owner := range []string{"known", "secret"} {
		made(t, member(t, db, owner), "of."+owner, store.Config{Read: []string{"plugin"}})
	}
	l := newLaw("plugin")
	l.strange = map[string]bool{"secret": true}
	infos, err := member(t, db, "plugin", l).List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 2)
	require.Equal(t, "known", infos[0].Owner)
	require.Empty(t, infos[1].Owner)
	require.EqualValues(t, 1, l.acts.taken.Load(), "it is one act")
}

// TestContent is S20: keys and values pass the checks of the policy, also what is escaped
// in JSON (S17), and are measured.
func TestContent(t *testing.T) {
	t.Parallel()
	const bad = "<script>"
	ctx := t.Context()
	db := openDB(t, store.Options{})
	l := newLaw("a")
	v := made(t, member(t, db, "a", l), "notes", store.Config{})
	l.payload = plugbus.PayloadRules{Content: plugbus.CheckAll, MaxBytes: 1000}
	l.allow("write")
	for _, test := range []struct {
		key, value string
		reason     plugbus.Reason
	}{
		{"k", "fine", ""},
		{"k", bad, plugbus.ReasonInvalidContent},
		{bad, "fine", plugbus.ReasonInvalidContent},
		{"k", `"\u003cscript>"`, plugbus.ReasonInvalidContent},
		{"k", `{"a": [1, {"\u003cscript>": null}]}`, plugbus.ReasonInvalidContent},
		{"k", `{"a": [1, {"b": "x\u003Cscript\u003e"}]}`, plugbus.ReasonInvalidContent},
		{"k", `{"a": "\\u003cscript>"}`, ""}, // It says so, and is none.
		{"k", `no JSON \u003cscript>`, ""},
		{"k", strings.Repeat("x", 1000), ""},
		{"k", strings.Repeat("x", 1001), plugbus.ReasonTooLarge},
	} {
		bytes := l.bytes.taken.Load()
		_, err := v.Set(ctx, test.key, []byte(test.value))
		errTxn := v.Txn(ctx, func(tx *store.Tx) error { return tx.Set(test.key, []byte(test.value)) })
		for _, err := range []error{err, errTxn} {
			if test.reason == "" {
				require.NoError(t, err, "%+v", test)
				continue
			}
			denied, ok := errors.AsType[*plugbus.DeniedError](err)
			require.True(t, ok, "%+v: %v", test, err)
			require.Equal(t, test.reason, denied.Reason)
		}
		if test.reason == "" {
			require.EqualValues(t, 2*len(test.key+test.value), l.bytes.taken.Load()-bytes)
		}
	}
	_, err := member(t, db, "b", l).Create(ctx, "other", store.Config{Schema: []byte(`{"title": "<script>"}`)})
	require.ErrorIs(t, err, plugbus.ErrDenied)
}

// TestRates is D10: each call is an act for the rates, and each page of a list; over the
// rate nothing happens.
func TestRates(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, store.Options{})
	l := newLaw("a")
	c := member(t, db, "a", l)
	v := made(t, c, "notes", store.Config{})
	_, err := v.Set(ctx, "k", nil)
	require.NoError(t, err)
	for _, a := range everyAct {
		taken := l.acts.taken.Load()
		require.NoError(t, a.do(ctx, c, v), a.name)
		require.EqualValues(t, taken+1, l.acts.taken.Load(), a.name)
	}
	for i := range 300 {
		_, err := v.Set(ctx, fmt.Sprint(i), nil)
		require.NoError(t, err)
	}
	taken := l.acts.taken.Load()
	for _, err := range v.Entries(ctx, store.All()) {
		require.NoError(t, err)
	}
	require.EqualValues(t, taken+2, l.acts.taken.Load())
	changes := db.Changes()
	l.acts.full.Store(true)
	for _, a := range everyAct {
		denied, ok := errors.AsType[*plugbus.DeniedError](a.do(ctx, c, v))
		require.True(t, ok, a.name)
		require.Equal(t, plugbus.ReasonRateLimitExceeded, denied.Reason)
		require.Equal(t, time.Minute, denied.RetryAfter)
	}
	l.acts.full.Store(false)
	l.bytes.full.Store(true)
	_, err = v.Set(ctx, "k", []byte("v"))
	denied, ok := errors.AsType[*plugbus.DeniedError](err)
	require.True(t, ok)
	require.Equal(t, plugbus.ReasonByteRateExceeded, denied.Reason)
	require.Equal(t, changes, db.Changes())
}

// TestRevokedMeanwhile shows that a right that is taken while a transaction runs is asked
// for again at its end.
func TestRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, store.Options{})
	owner := made(t, member(t, db, "owner"), "notes", store.Config{Write: []string{"a"}})
	for _, test := range []struct {
		name         string
		revoke, give func(l *law)
	}{
		{
			"by the list", func(*law) { require.NoError(t, owner.Revoke(ctx, store.Write, "a")) },
			func(*law) { require.NoError(t, owner.Grant(ctx, store.Write, "a")) },
		},
		{
			"by the policy", func(l *law) { l.deny("write notes", plugbus.ReasonDeniedByRule) },
			func(l *law) { l.allow("write notes") },
		},
	} {
		l := newLaw("a")
		c := member(t, db, "a", l)
		v := opened(t, c, "notes")
		require.ErrorIs(t, v.Txn(ctx, func(tx *store.Tx) error {
			err := tx.Set(test.name, nil)
			test.revoke(l)
			return err
		}), plugbus.ErrDenied, test.name)
		_, err := owner.Get(ctx, test.name)
		require.ErrorIs(t, err, store.ErrNotFound, test.name)
		test.give(l)
		require.NoError(t, v.Txn(ctx, func(tx *store.Tx) error {
			err := tx.Set(test.name, nil)
			test.revoke(l)
			test.give(l)
			return err
		}), "%s, and given again", test.name)
		require.NoError(t, c.Close(ctx))
	}
}
