package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

var errDisk = errors.New("the disk is gone")

// faults are the ways in which a commit can fail, with what is known then of its writes.
var faults = map[string]struct {
	gate    func() error
	outcome error
	other   error
}{
	"not done": {func() error { return fmt.Errorf("%w: %w", store.ErrNotDone, errDisk) }, store.ErrNotDone, store.ErrUnknown},
	"unknown":  {func() error { return errDisk }, store.ErrUnknown, store.ErrNotDone},
	"panic":    {func() error { panic(errDisk.Error()) }, store.ErrUnknown, store.ErrNotDone},
}

// TestFailedCommit shows what a commit that fails does to its writers, to those behind
// them, and to everything after: what could be read can still be read, and nothing lies
// (D12).
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				sh := newShelf()
				var logged bytes.Buffer
				db, err := store.Open(store.Options{
					Backend: sh, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
					OwnerQuota: func(string) (int, int64) { return 10, 100 },
				})
				require.NoError(t, err)
				a := as(t, db, "a")
				notes, err := a.Create(ctx, "notes", store.Config{Persistent: true, MaxKeys: 3})
				require.NoError(t, err)
				other := durable(t, a, "other")
				_, err = notes.Set(ctx, "key", []byte("before"))
				require.NoError(t, err)
				_, err = notes.Set(ctx, "ttl", []byte("x"), store.TTL(time.Minute))
				require.NoError(t, err)
				memory, err := a.Create(ctx, "memory", store.Config{})
				require.NoError(t, err)
				var watched []store.Kind
				_, err = notes.Watch(ctx, "**", func(_ context.Context, c store.Change) error {
					watched = append(watched, c.Kind())
					return nil
				})
				require.NoError(t, err)
				bytesBefore := db.Stats().Bytes

				hold := make(turnstile)
				sh.gate = func() error { return errors.Join(<-hold, fault.gate()) }
				failed, errs := make(chan error, 1), make(chan error, 2)
				go func() { _, err := notes.Set(ctx, "key", []byte("after")); failed <- err }()
				synctest.Wait()
				go func() {
					errs <- notes.Txn(ctx, func(tx *store.Tx) error {
						return errors.Join(tx.Set("a", []byte("much more")), tx.Set("b", nil), tx.Delete("key"))
					})
				}()
				go func() { _, err := other.Set(ctx, "key", []byte("x")); errs <- err }()
				synctest.Wait()
				require.Greater(t, db.Stats().Bytes, bytesBefore)
				hold <- nil

				err = <-failed
				require.ErrorIs(t, err, fault.outcome)
				require.NotErrorIs(t, err, fault.other)
				require.NotErrorIs(t, err, store.ErrReadOnly, "it was the one that failed")
				require.ErrorContains(t, err, errDisk.Error())
				for range 2 { // They were behind it, and were never begun.
					err := <-errs
					require.ErrorIs(t, err, store.ErrNotDone)
					require.NotErrorIs(t, err, store.ErrUnknown)
					require.ErrorIs(t, err, store.ErrReadOnly)
				}

				synctest.Wait()
				require.ErrorContains(t, db.Stats().Broken, errDisk.Error())
				require.Contains(t, logged.String(), errDisk.Error())
				require.Equal(t, bytesBefore, db.Stats().Bytes, "the quota was not given back")
				require.Empty(t, watched)
				for _, s := range db.Stats().Stores {
					require.Zero(t, s.Waiting)
				}
				for range 2 {
					e, err := notes.Get(ctx, "key")
					require.NoError(t, err)
					require.Equal(t, "before", e.Text())
					_, err = notes.Set(ctx, "key", []byte("again"))
					require.ErrorIs(t, err, store.ErrReadOnly)
					require.NotErrorIs(t, err, store.ErrUnknown)
					require.ErrorContains(t, err, errDisk.Error())
					_, err = notes.Set(ctx, "new", nil)
					require.ErrorIs(t, err, store.ErrReadOnly, "there is room for it")
					require.ErrorIs(t, notes.Delete(ctx, "key"), store.ErrReadOnly)
					require.NoError(t, notes.Delete(ctx, "nothing"), "there was nothing to do")
					require.Equal(t, bytesBefore, db.Stats().Bytes)
				}
				_, err = memory.Set(ctx, "key", make([]byte, 100-bytesBefore-3))
				require.NoError(t, err, "a store in memory goes on, with all of the quota")

				<-time.After(time.Hour)
				_, err = notes.Get(ctx, "ttl")
				require.ErrorIs(t, err, store.ErrNotFound, "time goes on")
				require.NoError(t, db.Idle(ctx))
				require.NoError(t, db.Close(ctx))
				require.Equal(t, 1, sh.closed)

				again := shelved(t, sh.copy())
				v, err := as(t, again, "a").Open(ctx, "notes")
				require.NoError(t, err)
				e, err := v.Get(ctx, "key")
				require.NoError(t, err)
				require.Equal(t, "before", e.Text())
				_, err = v.Set(ctx, "key", []byte("again"))
				require.NoError(t, err)
			})
		})
	}
}

// administer are the acts on stores that the backend has to know of.
var administer = map[string]func(ctx context.Context, c *store.Client, v *store.View) error{
	"create": func(ctx context.Context, c *store.Client, _ *store.View) error {
		_, err := c.Create(ctx, "new", store.Config{Persistent: true})
		return err
	},
	"drop":   func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Drop(ctx) },
	"grant":  func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Grant(ctx, store.Read, "b") },
	"revoke": func(ctx context.Context, _ *store.Client, v *store.View) error { return v.Revoke(ctx, store.Read, "c") },
	"set the validator": func(ctx context.Context, _ *store.Client, v *store.View) error {
		return v.SetValidator(ctx, func(context.Context, *store.Proposal) error { return errDisk })
	},
}

// TestFailedAdministration shows that what the backend did not take is not in force,
// neither now nor later, and takes nothing from a quota (D6).
func TestFailedAdministration(t *testing.T) {
	t.Parallel()
	for name, act := range administer {
		for kind, fault := range faults {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					sh := newShelf()
					var told []string
					db, err := store.Open(store.Options{Backend: sh, OnChange: func(a store.Administration) { told = append(told, a.Act) }})
					require.NoError(t, err)
					a := as(t, db, "a")
					v, err := a.Create(ctx, "notes", store.Config{Persistent: true, Read: []string{"c"}})
					require.NoError(t, err)
					_, err = v.Set(ctx, "key", []byte("x"))
					require.NoError(t, err)
					before := db.Stats()

					sh.gate = fault.gate
					err = act(ctx, a, v)
					require.ErrorIs(t, err, fault.outcome)
					require.NotErrorIs(t, err, fault.other)
					require.ErrorContains(t, err, errDisk.Error())
					for name, act := range administer {
						require.ErrorIs(t, act(ctx, a, v), store.ErrReadOnly, name)
					}
					after := db.Stats()
					require.Equal(t, before.Stores, after.Stores)
					require.Equal(t, before.Bytes, after.Bytes)
					require.Equal(t, []string{"store.created"}, told)
					for i := range 15 { // The quota is 16 stores.
						_, err := a.Create(ctx, fmt.Sprint("memory", i), store.Config{})
						require.NoError(t, err)
					}
					_, err = v.Get(ctx, "key")
					require.NoError(t, err)
					require.NoError(t, db.Close(ctx))
					after = shelved(t, sh.copy()).Stats()
					after.Stores[0].History = before.Stores[0].History // It is in memory only.
					require.Equal(t, before.Stores, after.Stores)
				})
			})
		}
	}
}

// TestHungCommit shows that a backend that does not answer holds nobody whose context
// ends, that reads go on, and that what it did in the end is seen.
func TestHungCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db, err := store.Open(store.Options{Backend: sh})
		require.NoError(t, err)
		a, b := as(t, db, "a"), as(t, db, "b")
		v, err := a.Create(t.Context(), "notes", store.Config{Persistent: true, Write: []string{"b"}})
		require.NoError(t, err)
		theirs, err := b.Open(t.Context(), "notes")
		require.NoError(t, err)
		gate := make(turnstile)
		sh.gate = gate.gate

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = v.Set(ctx, "key", []byte("1"))
		require.ErrorIs(t, err, store.ErrUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = v.Set(ctx, "key", []byte("2"))
		require.NotErrorIs(t, err, store.ErrUnknown, "it was never begun")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		errs := make(chan error, 3)
		go func() { _, err := theirs.Set(t.Context(), "their", []byte("1")); errs <- err }()
		synctest.Wait()
		require.NoError(t, b.Close(t.Context()))
		err = <-errs
		require.ErrorIs(t, err, store.ErrUnknown)
		require.ErrorIs(t, err, store.ErrClosed)

		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = v.Create(late, "key", nil) // It waits for the answer of the first.
		require.ErrorIs(t, err, store.ErrNotDone)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = v.Get(t.Context(), "key")
		require.ErrorIs(t, err, store.ErrNotFound)
		require.ErrorIs(t, db.Idle(late), context.DeadlineExceeded)

		closing, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, db.Close(closing), context.DeadlineExceeded)
		require.Zero(t, sh.closed)
		_, err = v.Set(t.Context(), "key", nil)
		require.ErrorIs(t, err, plugbus.ErrClosed)
		gate <- nil
		gate <- nil
		require.NoError(t, db.Close(t.Context()))
		require.NoError(t, db.Close(t.Context()))
		require.Equal(t, 1, sh.closed)

		v, err = as(t, shelved(t, sh.copy()), "a").Open(t.Context(), "notes")
		require.NoError(t, err)
		for _, key := range []string{"key", "their"} {
			e, err := v.Get(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, "1", e.Text())
		}
	})
}

// TestHungAdministration shows the same for acts on stores: they hold nobody whose
// context ends, and take effect when they are done.
func TestHungAdministration(t *testing.T) {
	t.Parallel()
	for name, act := range administer {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sh := newShelf()
				told := 0
				db, err := store.Open(store.Options{Backend: sh, OnChange: func(store.Administration) { told++ }})
				require.NoError(t, err)
				a := as(t, db, "a")
				v, err := a.Create(t.Context(), "notes", store.Config{Persistent: true, Read: []string{"c"}})
				require.NoError(t, err)
				before := db.Stats().Stores
				gate := make(turnstile)
				sh.gate = gate.gate
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, act(ctx, a, v), store.ErrUnknown)
				require.Equal(t, before, db.Stats().Stores)
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, act(ctx, a, v), store.ErrNotDone, "it waited for its turn")
				require.Equal(t, 1, told)
				gate <- nil
				synctest.Wait()
				require.NotEqual(t, before, db.Stats().Stores)
				require.Equal(t, 2, told, "the host has not heard of it")
				sh.gate = nil
				require.NoError(t, db.Close(t.Context()))
			})
		})
	}
}

// TestBackendEndsItsGoroutine shows that nobody waits for ever for a backend whose Commit
// does not return.
func TestBackendEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		v := durable(t, as(t, db, "a"), "notes")
		sh.gate = func() error { runtime.Goexit(); return nil }
		_, err := v.Set(t.Context(), "key", nil)
		require.ErrorIs(t, err, store.ErrUnknown)
		_, err = v.Set(t.Context(), "key", nil)
		require.ErrorIs(t, err, store.ErrReadOnly)
		require.NoError(t, db.Idle(t.Context()))
	})
}

// TestQueueIsBounded shows that writers who leave before the backend has answered do not
// fill the memory; and that what expires or is administered meanwhile is not lost.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		v := durable(t, as(t, db, "a"), "notes")
		gate := make(turnstile)
		fill := func(most int, write func(ctx context.Context) error) {
			_, err := v.Set(t.Context(), "brief", nil, store.TTL(time.Second))
			require.NoError(t, err)
			sh.gate = gate.gate
			for n := 0; ; n++ {
				synctest.Wait() // The backend has the first alone.
				require.LessOrEqual(t, n, most)
				err := write(&impatient{Context: t.Context()})
				if errors.Is(err, store.ErrBusy) {
					require.Equal(t, most, n)
					break
				}
				require.ErrorIs(t, err, store.ErrUnknown)
			}
			before := db.Stats().Bytes
			_, err = v.Set(t.Context(), "other", make([]byte, 1<<20))
			require.ErrorIs(t, err, store.ErrBusy)
			require.Equal(t, before, db.Stats().Bytes, "it took something from the quota")
			<-time.After(time.Second)
			synctest.Wait()
			require.Zero(t, db.Stats().Expiring)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, v.Grant(ctx, store.Read, fmt.Sprint("b", most)), store.ErrUnknown)
			sh.gate = nil
			gate <- nil
			require.NoError(t, db.Idle(t.Context()))
			_, err = v.Set(t.Context(), "key", nil)
			require.NoError(t, err)
			_, ok := sh.copy().pairs[spot{"of/notes", "brief"}]
			require.False(t, ok, "what has expired is there for ever")
			require.Contains(t, db.Stats().Stores[0].Access.Read, fmt.Sprint("b", most))
		}
		fill(1+1<<16, func(ctx context.Context) error {
			_, err := v.Set(ctx, "key", nil)
			return err
		})
		fill(1+256/15, func(ctx context.Context) error {
			return v.Txn(ctx, func(tx *store.Tx) error {
				for i := range 15 {
					if err := tx.Set(fmt.Sprint("large", i), make([]byte, 1<<20)); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
}

// An impatient context ends when its end is first asked for, which is when a write waits.
type impatient struct {
	context.Context //nolint:containedctx // It is one.

	ended bool
}

func (c *impatient) Done() <-chan struct{} {
	c.ended = true
	done := make(chan struct{})
	close(done)
	return done
}

func (c *impatient) Err() error {
	if c.ended {
		return context.Canceled
	}
	return nil
}
