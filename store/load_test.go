package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// fullShelf returns a shelf with at least two of everything, and what it was before the
// latest change of each.
func fullShelf(t *testing.T) (sh, before *shelf) {
	t.Helper()
	sh = newShelf()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := shelved(t, sh)
		a, b := as(t, db, "a"), as(t, db, "b")
		notes, err := a.Create(ctx, "notes", store.Config{
			Persistent: true, Read: []string{"b", store.Everyone}, Admin: []string{"c"}, TTL: time.Hour, Schema: []byte(`{"type":"object"}`),
			MaxKeys: 5, MaxBytes: 500, MaxValueBytes: 50, History: 7, HistoryBytes: 70,
		})
		require.NoError(t, err)
		words, bare := durable(t, b, "words"), durable(t, b, "bare")
		_, err = bare.Set(ctx, "key", nil)
		require.NoError(t, err)
		require.NoError(t, bare.Delete(ctx, "key"))
		require.NoError(t, words.SetValidator(ctx, func(context.Context, *store.Proposal) error { return nil }))
		for range 2 {
			before = sh.copy()
			for _, name := range []string{"gone", "lost"} {
				v := durable(t, a, name)
				_, err := v.Set(ctx, "key", []byte("x"))
				require.NoError(t, err)
				require.NoError(t, v.Drop(ctx))
			}
			for _, key := range []string{"one", "two"} {
				_, err := notes.Set(ctx, key, []byte(`{"key":"`+key+`"}`), store.TTL(1000*time.Hour))
				require.NoError(t, err)
				_, err = words.Set(ctx, key, []byte("same"))
				require.NoError(t, err)
			}
			<-time.After(time.Second)
		}
		require.NoError(t, notes.Grant(ctx, store.Write, "d"))
		require.NoError(t, words.Grant(ctx, store.Write, "d"))
	})
	return sh.copy(), before
}

// reopened opens a DB on a shelf only to look at it.
func reopened(t *testing.T, sh *shelf) store.Stats {
	t.Helper()
	db, err := store.Open(store.Options{Backend: sh})
	require.NoError(t, err)
	st := db.Stats()
	require.NoError(t, db.Close(t.Context()))
	return st
}

// damagedAt opens a DB on a shelf that is damaged, and returns what it says of it. It has
// to leave the shelf as it is.
func damagedAt(t *testing.T, sh *shelf, what string, args ...any) *store.DamageError {
	t.Helper()
	before := maps.Clone(sh.pairs)
	_, err := store.Open(store.Options{Backend: sh})
	damage, ok := errors.AsType[*store.DamageError](err)
	require.True(t, ok, "%s: %v", fmt.Sprintf(what, args...), err)
	require.Equal(t, before, sh.pairs)
	require.Zero(t, sh.count())
	return damage
}

// TestReopening shows that all that is known of stores and entries is there again (D12).
func TestReopening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		sh := newShelf()
		db, err := store.Open(store.Options{Backend: sh})
		require.NoError(t, err)
		config := store.Config{
			Persistent: true, Read: []string{"b"}, Write: []string{"b", "c"}, Admin: []string{"d"}, TTL: time.Hour,
			Schema: []byte(`{"type":"object"}`), MaxKeys: 2, MaxBytes: 60, MaxValueBytes: 30, History: 3, HistoryBytes: 1000,
			Validator: func(context.Context, *store.Proposal) error { return nil },
		}
		a := as(t, db, "a")
		v, err := a.Create(ctx, "notes", config)
		require.NoError(t, err)
		require.NoError(t, v.Grant(ctx, store.Read, store.Everyone))
		_, err = v.Set(ctx, "first", []byte("{}"))
		require.NoError(t, err)
		second, err := v.Set(ctx, "second", []byte(`{"é":"\u0000"}`), store.TTL(0))
		require.NoError(t, err)
		require.NoError(t, v.Delete(ctx, "first"))
		first, err := v.Set(ctx, "first", []byte("{}"))
		require.NoError(t, err)
		before := db.Stats()
		require.NoError(t, db.Close(ctx))

		db = shelved(t, sh.copy())
		after := db.Stats()
		for i := range after.Stores {
			before.Stores[i].Away = true // The validator is a function, and waits for its owner.
			before.Stores[i].History = store.HistoryStats{Floor: before.Stores[i].Revision}
		}
		require.Equal(t, before.Stores, after.Stores)
		require.Equal(t, before.Bytes, after.Bytes)
		a = as(t, db, "a")
		v, err = a.Open(ctx, "notes")
		require.NoError(t, err)
		for _, was := range []store.Entry{first, second} {
			is, err := v.Get(ctx, was.Key())
			require.NoError(t, err)
			require.Equal(t, was.Text(), is.Text())
			require.Equal(t, was.Revision(), is.Revision())
			require.Equal(t, "a", is.Writer())
			require.True(t, was.Time().Equal(is.Time()))
			require.True(t, was.Expires().Equal(is.Expires()))
		}
		write := func(key, value string) error { _, err := v.Set(ctx, key, []byte(value)); return err }
		require.ErrorIs(t, write("first", "{}"), store.ErrNoValidator)
		require.NoError(t, v.SetValidator(ctx, nil))
		require.ErrorIs(t, write("first", "1"), store.ErrRejected)
		require.ErrorIs(t, write("third", "{}"), store.ErrQuota)
		require.ErrorIs(t, write("first", `{"a":"`+strings.Repeat("x", 30)+`"}`), store.ErrQuota)
		require.NoError(t, write("first", "{}"))
		e, err := v.Get(ctx, "first")
		require.NoError(t, err)
		require.Equal(t, first.Revision()+1, e.Revision())
		require.Equal(t, time.Now().Add(time.Hour).UTC(), e.Expires())
		_, err = a.Create(ctx, "notes", store.Config{Persistent: true})
		require.ErrorIs(t, err, store.ErrExists)
	})
}

// TestRevisionsNeverGoBack shows so for what leaves no entry: neither the key nor even
// the store is there when the DB is opened again.
func TestRevisionsNeverGoBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		last := uint64(0)
		again := func(act func(ctx context.Context, c *store.Client, v *store.View) *store.View) {
			sh = sh.copy()
			db, err := store.Open(store.Options{Backend: sh})
			require.NoError(t, err)
			c := as(t, db, "a")
			v, err := c.Open(t.Context(), "notes")
			if err != nil {
				v = durable(t, c, "notes")
			}
			v = act(t.Context(), c, v)
			e, err := v.Set(t.Context(), "key", nil)
			require.NoError(t, err)
			require.Greater(t, e.Revision(), last)
			last = e.Revision()
			require.NoError(t, v.Delete(t.Context(), "key"))
			last++
			require.NoError(t, db.Close(t.Context()))
		}
		nothing := func(_ context.Context, _ *store.Client, v *store.View) *store.View { return v }
		again(nothing)
		again(nothing)
		again(func(ctx context.Context, c *store.Client, v *store.View) *store.View {
			require.NoError(t, v.Drop(ctx))
			return durable(t, c, "notes") //nolint:contextcheck // It is that of no plugin.
		})
		again(func(ctx context.Context, _ *store.Client, v *store.View) *store.View {
			_, err := v.Set(ctx, "other", nil, store.TTL(time.Second))
			require.NoError(t, err)
			<-time.After(time.Minute)
			last += 2
			return v
		})
	})
}

// TestDamage shows that no byte of what the backend has can be other than it was written,
// and that the error says where it is.
func TestDamage(t *testing.T) {
	t.Parallel()
	full, _ := fullShelf(t)
	reopened(t, full.copy())
	for _, at := range full.spots() {
		t.Run(at.bucket+"/"+at.key, func(t *testing.T) {
			t.Parallel()
			value := full.pairs[at]
			check := func(damaged, what string, args ...any) {
				sh := full.copy()
				sh.pairs[at] = damaged
				e := damagedAt(t, sh, what, args...)
				require.Equal(t, at, spot{e.Bucket, e.Key})
				require.ErrorContains(t, e, fmt.Sprintf("%q", at.key))
			}
			for i := range len(value) {
				for _, mask := range []byte{1, 0x80, 0xff} {
					flipped := []byte(value)
					flipped[i] ^= mask
					check(string(flipped), "byte %d ^ %d", i, mask)
				}
				check(value[:i], "cut off at %d", i)
			}
			check(value+"\x00", "longer")
			newer := "\x02" + value[1:]
			check(newer, "of another format")
			sh := full.copy()
			sh.pairs[at] = newer
			require.ErrorContains(t, damagedAt(t, sh, "of another format"), "its format is 2, and this version of plugbus knows 1")
		})
	}
}

// TestMisplaced shows that nothing can be missing, or be where it does not belong, even if
// each value is as it was once written.
func TestMisplaced(t *testing.T) {
	t.Parallel()
	full, before := fullShelf(t)
	reopened(t, before.copy())
	all := full.spots()
	check := func(change func(pairs map[spot]string), what string, args ...any) store.DamageError {
		sh := full.copy()
		change(sh.pairs)
		return *damagedAt(t, sh, what, args...)
	}
	stale := 0
	for _, at := range all {
		e := check(func(pairs map[spot]string) { delete(pairs, at) }, "%v is missing", at)
		switch name, entry := strings.CutPrefix(at.bucket, "of/"); {
		case entry:
			require.Equal(t, spot{at.bucket, ""}, spot{e.Bucket, e.Key}, "%v is missing", at)
		case at.bucket == "heads" || at.bucket == "metas" && at.key == "bare":
			require.Equal(t, at, spot{e.Bucket, e.Key}, "%v is missing", at)
		case at.bucket == "metas":
			require.Equal(t, "of/"+at.key, e.Bucket, "there is no store for these entries")
		default:
			require.Equal(t, "census", e.Bucket, name)
		}
		check(func(pairs map[spot]string) {
			pairs[spot{at.bucket, at.key + "x"}] = pairs[at]
			delete(pairs, at)
		}, "%v has another key", at)
		check(func(pairs map[spot]string) { pairs[spot{at.bucket, at.key + "x"}] = pairs[at] }, "%v is there twice", at)
		for _, bucket := range []string{"census", "graves", "heads", "metas", "of/notes", "of/words", "of/none", "foreign", ""} {
			if to := (spot{bucket, at.key}); to != at {
				check(func(pairs map[spot]string) {
					pairs[to] = pairs[at]
					delete(pairs, at)
				}, "%v is in bucket %q", at, bucket)
				check(func(pairs map[spot]string) { pairs[to] = pairs[at] }, "%v is in bucket %q, too", at, bucket)
			}
		}
		if was, ok := before.pairs[at]; ok && was != full.pairs[at] {
			stale++
			check(func(pairs map[spot]string) { pairs[at] = was }, "%v is as it was before", at)
		}
	}
	require.Equal(t, 11, stale, "two entries, head and meta of each store, two graves, and the census")
	check(func(pairs map[spot]string) {
		maps.DeleteFunc(pairs, func(at spot, _ string) bool { return strings.Contains(at.bucket+at.key, "notes") })
	}, "a whole store is missing")
	check(func(pairs map[spot]string) {
		maps.DeleteFunc(pairs, func(at spot, _ string) bool { return at.bucket == "of/notes" })
	}, "all entries of a store are missing")
	one := spot{"of/words", "one"}
	for _, other := range []spot{{"of/words", "two"}, {"of/notes", "one"}} {
		e := check(func(pairs map[spot]string) { pairs[one], pairs[other] = pairs[other], pairs[one] }, "two values have changed places")
		require.Equal(t, "one", e.Key)
		require.ErrorContains(t, &e, "its checksum is wrong")
	}
}

// TestDropInTheCommitOfAWrite shows that a store leaves nothing behind when it is dropped
// by the same commit that has the last writes to it.
func TestDropInTheCommitOfAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := newShelf()
		db := shelved(t, sh)
		a := as(t, db, "a")
		notes, other := durable(t, a, "notes"), durable(t, a, "other")
		gate := make(turnstile)
		sh.gate = gate.gate
		set := func(v *store.View) {
			go func() { _, err := v.Set(t.Context(), "key", nil); require.NoError(t, err) }()
			synctest.Wait()
		}
		set(other)
		set(notes)
		set(other)
		go func() { require.NoError(t, notes.Drop(t.Context())) }()
		synctest.Wait()
		set(other)
		gate <- nil
		gate <- nil
		synctest.Wait()
		sh.gate = nil
		st := reopened(t, sh.copy())
		require.Len(t, st.Stores, 1)
		require.EqualValues(t, 3, st.Stores[0].Revision)
		v := durable(t, a, "notes")
		e, err := v.Set(t.Context(), "key", nil)
		require.NoError(t, err)
		require.EqualValues(t, 2, e.Revision())
	})
}

// TestEveryCommitIsWhole shows that after each single commit the backend has something
// that can be opened, with all of each transaction, while several plugins write, make and
// drop stores at the same time.
func TestEveryCommitIsWhole(t *testing.T) {
	t.Parallel()
	const accounts, writers, rounds = 5, 6, 40
	sh := newShelf()
	sh.gate = func() error { // So that there are commits of one write, and of many.
		for range rand.IntN(20) {
			runtime.Gosched()
		}
		return nil
	}
	db := shelved(t, sh)
	a := as(t, db, "a")
	fixed := durable(t, a, "accounts")
	move := func(ctx context.Context, from, to string) error {
		return fixed.Txn(ctx, func(tx *store.Tx) error {
			read := func(key string) int {
				e, _ := tx.Get(key)
				return len(e.Text())
			}
			x, y := read(from), read(to)
			return errors.Join(tx.Set(from, make([]byte, max(0, x-1))), tx.Set(to, make([]byte, y+min(x, 1))))
		})
	}
	require.NoError(t, fixed.Txn(t.Context(), func(tx *store.Tx) error {
		for i := range accounts {
			require.NoError(t, tx.Set(fmt.Sprint(i), make([]byte, 10)))
		}
		return nil
	}))
	opened := sh.count()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				from := rand.IntN(accounts)
				if err := move(t.Context(), fmt.Sprint(from), fmt.Sprint((from+1)%accounts)); err != nil && !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
				name := fmt.Sprint("store", i%3)
				v, err := a.Open(t.Context(), name)
				if err != nil {
					v, err = a.Create(t.Context(), name, store.Config{Persistent: true})
				}
				if err != nil {
					continue // Another was faster.
				}
				switch (w + i) % 4 {
				case 0:
					err = v.Drop(t.Context())
				case 1:
					err = v.Grant(t.Context(), store.Read, fmt.Sprint("p", w, "-", i))
				case 2:
					err = v.Delete(t.Context(), "key")
				case 3:
					_, err = v.Set(t.Context(), "key", fmt.Append(nil, i))
				}
				if err != nil && !errors.Is(err, store.ErrDropped) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, db.Idle(t.Context()))

	replayed := newShelf()
	last := map[string]uint64{}
	for i, ops := range sh.commits {
		for _, op := range ops {
			replayed.apply(op)
		}
		st := reopened(t, replayed.copy())
		for _, s := range st.Stores {
			require.GreaterOrEqual(t, s.Revision, last[s.Name])
			last[s.Name] = s.Revision
			if s.Name == "accounts" && i >= opened {
				require.EqualValues(t, accounts+accounts*10, s.Bytes, "half of a transaction is there")
			}
		}
	}
	is, was := reopened(t, replayed), db.Stats()
	require.Len(t, is.Stores, len(was.Stores))
	for i := range is.Stores {
		require.Equal(t, was.Stores[i].Info, is.Stores[i].Info)
	}
}
