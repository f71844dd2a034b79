package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// TestErrorTexts shows that an error says who did what, names the store and the key once,
// and what to do.
func TestErrorTexts(t *testing.T) {
	ctx := t.Context()
	db := openDB(t, store.Options{})
	c := member(t, db, "a")
	v := made(t, c, "s", store.Config{})
	_, err := v.Set(ctx, "k", nil)
	require.NoError(t, err)
	of := func(_ any, err error) error { return err }
	for _, test := range []struct {
		err  error
		want string
	}{
		{of(v.Get(ctx, "none")), `plugin "a": get "none" of store "s": not found`},
		{of(v.Create(ctx, "k", nil)), `plugin "a": create "k" of store "s": conflict: there is an entry already; use Set, or Update with revision 1`},
		{of(v.Update(ctx, "k", nil, 7)), `plugin "a": update "k" of store "s": conflict: revision 7 was expected, but it is 1; read it again and decide anew`},
		{of(v.Update(ctx, "none", nil, 7)), `plugin "a": update "none" of store "s": conflict: revision 7 was expected, but there is no entry; to make it anew, use Create`},
		{v.Txn(ctx, func(tx *store.Tx) error {
			_, _ = tx.Get("new")
			_, err := v.Set(ctx, "new", nil)
			return errors.Join(err, tx.Set("k", nil), tx.Set("l", nil))
		}), `plugin "a": commit a transaction of store "s": conflict on key "new": no entry was expected, but there is one of revision 2; read it again and decide anew`},
		{of(v.Set(ctx, "k", nil, store.TTL(1))), `plugin "a": set "k" of store "s": TTL is 1ns; expected 1ms to 876000h0m0s, or 0 for none`},
		{of(v.Watch(ctx, "**", nil, store.Snapshot(), store.After(1))), `plugin "a": watch "**" of store "s": the watcher is nil; expected a function` + "\n" +
			`the pair of options is Snapshot and After; expected one of the two`},
		{v.Grant(ctx, 0, "b"), `plugin "a": grant store "s": the value of rights is Rights(0); expected Read, Write, Admin or some of them`},
		{of(c.Create(ctx, "s", store.Config{})), `plugin "a": create store "s": it exists already; open it instead; its config is as it was made`},
		{of(c.Open(ctx, "t")), `plugin "a": open store "t": not found; create it first`},
		{
			&store.KeyError{Plugin: "a", Act: "set", Store: "s", Key: "k", Err: &store.CommitError{Store: "s", Outcome: store.ErrUnknown, Err: context.Canceled}},
			`plugin "a": set "k" of store "s": unknown whether it was done: context canceled`,
		},
		{&store.ConflictError{Store: "s", Key: "k", Expected: 1, Actual: 2}, `conflict on key "k" of store "s": revision 1 was expected, but it is 2; read it again and decide anew`},
	} {
		require.EqualError(t, test.err, test.want)
	}
	require.NoError(t, c.Close(ctx))
	_, err = v.Get(ctx, "k")
	require.EqualError(t, err, `plugin "a": get "k" of store "s": closed`)
	require.ErrorIs(t, err, plugbus.ErrClosed)
}
