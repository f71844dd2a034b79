package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// A snare is a context of a plugin's own making, which panics at a later question.
type snare struct {
	context.Context //nolint:containedctx // It is one.

	after int
}

func (c *snare) look() {
	if c.after--; c.after < 0 {
		panic("caught")
	}
}

func (c *snare) Err() error {
	c.look()
	return c.Context.Err()
}

func (c *snare) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

func (c *snare) Value(key any) any {
	c.look()
	return c.Context.Value(key)
}

// TestSnares shows that no code of a plugin runs while others wait for it to have
// changed a store: not even that of its context.
func TestSnares(t *testing.T) {
	t.Parallel()
	for _, persistent := range []bool{false, true} {
		for act, do := range map[string]func(ctx context.Context, c *store.Client, v *store.View) error{
			"create": func(ctx context.Context, c *store.Client, _ *store.View) error {
				_, err := c.Create(ctx, "new", store.Config{Persistent: persistent})
				return err
			},
			"grant": func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Grant(ctx, store.Read, "x") },
			"revoke": func(ctx context.Context, _ *store.Client, v *store.View) error {
				return v.Revoke(ctx, store.Read, "reader")
			},
			"validate": func(ctx context.Context, _ *store.Client, v *store.View) error {
				return v.SetValidator(ctx, func(context.Context, *store.Proposal) error { return nil })
			},
			"drop": func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Drop(ctx) },
		} {
			t.Run(fmt.Sprintf("%s %v", act, persistent), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					for after, caught := 0, true; caught; after++ {
						db := shelved(t, newShelf())
						evil, good := as(t, db, "evil"), as(t, db, "good")
						v := create(t, evil, "s", store.Config{Persistent: persistent, Read: []string{"reader"}})
						func() {
							defer func() { caught = recover() != nil }()
							require.NoError(t, do(&snare{t.Context(), after}, evil, v))
						}()
						limited, cancel := context.WithTimeout(t.Context(), time.Hour)
						defer cancel()
						_, err := good.Create(limited, "good", store.Config{})
						require.NoError(t, err, "after %d questions", after)
						if _, err := v.Set(t.Context(), "k", nil); act != "drop" {
							require.NoError(t, err)
						} else if err != nil {
							require.Empty(t, db.Stats().Stores[1:], "it was dropped, and not only closed: after %d questions", after)
						}
						require.Less(t, after, 100)
					}
				})
			})
		}
	}
}

// TestCreateAsksAgain shows that whoever had to wait for another's change of what stores
// there are must still have the right to create one when it is its turn.
func TestCreateAsksAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, hold := newShelf(), make(turnstile)
		sh.gate = hold.gate
		st := newStage(t, store.Options{Backend: sh})
		policy := newStatute("late")
		first, late := st.join(t, "first"), st.join(t, "late", store.ClientOptions{Guard: policy})
		go func() { _, _ = first.Create(t.Context(), "first", store.Config{Persistent: true}) }()
		synctest.Wait()
		errs := make(chan error)
		go func() {
			_, err := late.Create(t.Context(), "late", store.Config{})
			errs <- err
		}()
		synctest.Wait()
		policy.deny(plugbus.VerbCreate)
		hold <- nil
		require.Equal(t, plugbus.VerbCreate, denied(t, <-errs).Verb)
		require.Len(t, policy.refusals(), 1)
		require.Len(t, st.Stats().Stores, 1)
	})
}

// TestNobodyIsNamed shows that a plugin which may not know of the owner of a store hears
// its name from no error and no view, and that others do (D9).
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, strange := range []bool{true, false} {
			st := newStage(t, store.Options{ValidateLimit: time.Second})
			owner := st.join(t, "mole")
			create(t, owner, "s", store.Config{Write: []string{"p"}, Validator: func(context.Context, *store.Proposal) error {
				return errors.New("not today")
			}})
			l := newLaw("p")
			l.strange = map[string]bool{"mole": strange}
			v := view(t, st.join(t, "p", store.ClientOptions{Guard: l}), "s")
			var said []string
			said = append(said, v.Owner())
			write := func() {
				_, err := v.Set(t.Context(), "k", nil)
				require.Error(t, err)
				said = append(said, err.Error())
				if rejected, ok := errors.AsType[*store.RejectedError](err); ok {
					said = append(said, rejected.Err.Error(), fmt.Sprintf("%+v", rejected.Err))
				}
			}
			write()
			thaw := st.freeze(t, "mole")
			write()
			for range 256 {
				go func() { _, _ = v.Set(t.Context(), "k", nil) }()
			}
			synctest.Wait()
			write()
			thaw()
			require.NoError(t, owner.Close(t.Context()))
			write()
			require.Len(t, said, 7)
			for i, text := range said {
				const tooMany = 5 // It speaks of nobody.
				require.Equal(t, !strange && i != tooMany, strings.Contains(text, "mole"), text)
			}
		}
	})
}

// TestQuotaTellsNothingOfOthers shows that a plugin which is over a quota that it shares
// with others does not hear what these have (D9).
func TestQuotaTellsNothingOfOthers(t *testing.T) {
	t.Parallel()
	db := openDB(t, store.Options{MaxBytes: 100, MaxStores: 3, OwnerQuota: func(owner string) (int, int64) {
		return 10, map[string]int64{"a": 50, "b": 1000}[owner]
	}})
	a, b := member(t, db, "a"), member(t, db, "b")
	made(t, a, "secret", store.Config{})
	set(t, opened(t, a, "secret"), "k", strings.Repeat("x", 30))
	made(t, a, "shared", store.Config{Write: []string{"b"}})
	made(t, b, "own", store.Config{})
	quota := func(_ any, err error) store.QuotaError {
		q, ok := errors.AsType[*store.QuotaError](err)
		require.True(t, ok, "%v", err)
		require.NotContains(t, q.Error(), "would")
		return *q
	}
	require.Equal(t, store.QuotaError{Store: "shared", Quota: "bytes of all stores of its owner", Limit: 50},
		quota(opened(t, b, "shared").Set(t.Context(), "k", make([]byte, 30))))
	require.Equal(t, store.QuotaError{Store: "own", Quota: "bytes of all stores", Limit: 100},
		quota(opened(t, b, "own").Set(t.Context(), "k", make([]byte, 90))))
	require.Equal(t, store.QuotaError{Store: "more", Quota: "stores of all plugins", Limit: 3},
		quota(b.Create(t.Context(), "more", store.Config{})))
}

// A mute error has a text that cannot be had before a channel is closed.
type mute chan struct{}

func (m mute) Error() string {
	<-m
	return "at last"
}

// TestMuteError shows that to read the error of a watcher is part of its call: if it hangs
// it is abandoned in the time of the watcher, and a leak, and a hang of nobody else (D17).
func TestMuteError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner"), "s", store.Config{})
		hold := make(mute)
		_, err := v.Watch(t.Context(), "k", func(context.Context, store.Change) error { return hold }, store.Timeout(time.Second))
		require.NoError(t, err)
		set(t, v, "k", "")
		synctest.Wait()
		require.Equal(t, "watch k of s", st.Stats().Clients[0].Running)
		pause(time.Second)
		require.Len(t, st.Leaks(), 1)
		require.Equal(t, []string{`owner: watch k of s for owner "k": abandoned: ` + store.ErrTimedOut.Error()}, st.failed())
		st.rest(t)
		close(hold)
		set(t, v, "k", "")
		synctest.Wait()
		require.Empty(t, st.Leaks())
		require.Equal(t, `owner: watch k of s for owner "k": at last`, st.failed()[1])
		require.ErrorIs(t, st.failures[1].Err, hold)
	})
}

// TestManyChangesWait shows that a plugin which has more and more to change of its stores
// keeps others from that for as long as a bounded number of its changes take (D16).
func TestManyChangesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, hold := newShelf(), make(turnstile)
		db := shelved(t, sh)
		evil, good := as(t, db, "evil"), as(t, db, "good")
		v := durable(t, evil, "s")
		sh.gate = hold.gate
		errs := make(chan error, 1000)
		for i := range cap(errs) {
			go func() { errs <- v.Grant(t.Context(), store.Read, fmt.Sprint("p", i)) }()
		}
		synctest.Wait()
		require.Len(t, errs, 1000-65, "one is being done, and 64 wait")
		require.ErrorIs(t, <-errs, store.ErrBusy)
		made := make(chan error, 1)
		go func() {
			_, err := good.Create(t.Context(), "good", store.Config{})
			made <- err
		}()
		synctest.Wait()
		for range 65 {
			hold <- nil
		}
		require.NoError(t, <-made)
	})
}

// TestHistoryTakesFromTheQuota shows that a plugin cannot have the store keep in histories,
// or in very many very small entries, what its quota does not let it keep in keys and
// values: what is more than the default counts (D16).
func TestHistoryTakesFromTheQuota(t *testing.T) {
	t.Parallel()
	const most = 10 << 20
	sh := newShelf()
	o := store.Options{Backend: sh, OwnerQuota: func(string) (int, int64) { return 10, most }, MaxBytes: most + 100}
	db, err := store.Open(o)
	require.NoError(t, err)
	a := as(t, db, "a")
	full := func(_ any, err error) {
		t.Helper()
		require.ErrorIs(t, err, plugbus.ErrDenied)
		require.ErrorIs(t, err, store.ErrQuota)
	}
	full(a.Create(t.Context(), "s", store.Config{HistoryBytes: 1<<20 + most + 1}))
	full(a.Create(t.Context(), "s", store.Config{History: 1024 + most/256 + 1}))
	full(a.Create(t.Context(), "s", store.Config{MaxKeys: 100_000 + most/256 + 1}))
	v := create(t, a, "s", store.Config{Persistent: true, HistoryBytes: 1<<20 + most - 256 - 100, History: 1025})
	require.Zero(t, db.Stats().Bytes)
	full(v.Set(t.Context(), "k", make([]byte, 100)))
	set(t, v, "k", strings.Repeat("x", 99))
	full(a.Create(t.Context(), "more", store.Config{History: 1025}))
	create(t, a, "none", store.Config{})
	full(as(t, db, "b").Create(t.Context(), "other", store.Config{History: 1025}))
	require.NoError(t, db.Close(t.Context()))

	o.Backend = sh.copy()
	db = openDB(t, o)
	a = as(t, db, "a")
	v = view(t, a, "s")
	full(v.Set(t.Context(), "k", make([]byte, 100)))
	require.NoError(t, v.Drop(t.Context()))
	v = create(t, a, "s", store.Config{})
	set(t, v, "k", strings.Repeat("x", 1<<20))
	large := create(t, a, "large", store.Config{HistoryBytes: most - 100})
	require.NoError(t, large.Drop(t.Context()))
	create(t, a, "many", store.Config{MaxKeys: 100_000 + 8<<20/256})
}

// TestTxnReadsByRight shows that a transaction tells nothing of what it has read to a
// plugin that may no longer read it when the transaction commits (D4).
func TestTxnReadsByRight(t *testing.T) {
	t.Parallel()
	for law, end := range map[string]func(t *testing.T, policy *statute, v *store.View){
		"policy": func(_ *testing.T, policy *statute, _ *store.View) { policy.deny(plugbus.VerbRead) },
		"list": func(t *testing.T, _ *statute, v *store.View) {
			t.Helper()
			require.NoError(t, v.Revoke(t.Context(), store.Read, "p"))
		},
	} {
		for read, do := range map[string]func(tx *store.Tx) error{
			"get": func(tx *store.Tx) error {
				_, err := tx.Get("secret")
				return err
			},
			"list": func(tx *store.Tx) error {
				_, err := tx.Entries(store.All())
				return err
			},
			"nothing": func(*store.Tx) error { return nil },
		} {
			for _, when := range []string{"before the last act", "after it", "at the commit"} {
				st := newStage(t, store.Options{})
				owner := st.join(t, "owner")
				v := create(t, owner, "s", store.Config{Read: []string{"p"}, Write: []string{"p"}})
				set(t, v, "secret", "1")
				policy := newStatute("p")
				p := view(t, st.join(t, "p", store.ClientOptions{Guard: policy}), "s")
				err := p.Txn(t.Context(), func(tx *store.Tx) error {
					require.NoError(t, do(tx))
					over := func() {
						end(t, policy, v)
						set(t, v, "secret", "2")
					}
					switch when {
					case "before the last act":
						over()
					case "after it":
						defer over()
					case "at the commit":
						if read != "nothing" {
							defer policy.then(over) // When the first question has its answer.
						}
					}
					return tx.Set("mine", nil)
				})
				if read == "nothing" {
					require.NoError(t, err)
					continue
				}
				require.NotErrorIs(t, err, store.ErrConflict, "%s %s %s", law, read, when)
				require.Equal(t, plugbus.VerbRead, denied(t, err).Verb)
				require.NotContains(t, content(t, v), "mine")
			}
		}
	}
}

// TestContentOfManyDocuments shows that strings are inspected also if there is more than
// one JSON document in a value, or something else behind the first (S17).
func TestContentOfManyDocuments(t *testing.T) {
	t.Parallel()
	l := newLaw("a")
	v := made(t, member(t, openDB(t, store.Options{}), "a", l), "s", store.Config{})
	l.payload = plugbus.PayloadRules{Content: plugbus.CheckAll}
	for value, bad := range map[string]bool{
		`{"a":"\u003cscript>"}`:                     true,
		`{"a":"\u003cscript>"}` + "\n" + `{"b":1}`:  true,
		`{"b":1}` + "\n" + `{"a":"\u003cscript>"}`:  true,
		`{"a":"\u003cscript>"} and so on`:           true,
		`{"\u003cscript>":1, `:                      true,
		`{"a":"\u003cb>"}` + "\n" + `C:\new\folder`: false,
		`C:\new\folder "\u003cscript>"`:             false, // It is no JSON.
	} {
		_, err := v.Set(t.Context(), "k", []byte(value))
		require.Equal(t, bad, err != nil, "%s: %v", value, err)
		if bad {
			require.Equal(t, plugbus.ReasonInvalidContent, denied(t, err).Reason)
		}
	}
}

// TestPublishedUnderOtherRules shows that a value which came to be seen when a plugin might
// not read the store, and was overwritten then, is not for it, also if it was accepted when
// the plugin might (D4).
func TestPublishedUnderOtherRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		st := newStage(t, store.Options{Backend: sh})
		policy := newStatute("reader")
		v := create(t, st.join(t, "owner", store.ClientOptions{Guard: bystander{policy}}), "s", store.Config{Persistent: true, Read: []string{"reader"}})
		reader := view(t, st.join(t, "reader", store.ClientOptions{Guard: policy}), "s")
		var d diary
		watch(t, reader, d.watcher)
		thaw := st.freeze(t, "reader")
		hold := make(turnstile)
		sh.gate = hold.gate
		go func() { _, _ = v.Set(t.Context(), "k", []byte("secret")) }()
		synctest.Wait()
		policy.deny(plugbus.VerbRead)
		st.Wake()
		hold <- nil
		synctest.Wait()
		sh.gate = nil
		set(t, v, "k", "over it")
		policy.allow(plugbus.VerbRead)
		st.Wake()
		thaw()
		st.rest(t)
		require.Equal(t, []string{"lagged @2 -2"}, d.lines())
	})
}
