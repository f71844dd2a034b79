package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/storetest"
)

// An op is a call of one of several plugins that act at a time, and what came of it.
type op struct {
	kind  string
	key   string // of the txn, the key from which it takes
	to    string // of the txn, the key to which it gives
	value string
	rev   uint64 // expected, of update and delete

	found    string // what get found, or the txn
	revision uint64 // that it found, or made
	missing  bool
	conflict bool
}

// A cell is what a key has in the sequential model.
type cell struct {
	value    string
	revision uint64
}

// state is what the store has in the sequential model. It is never changed.
type state struct {
	cells    map[string]cell
	revision uint64
}

// with returns the state after a write, of "" to delete.
func (s state) with(key, value string) state {
	s.cells = maps.Clone(s.cells)
	if s.cells == nil {
		s.cells = map[string]cell{}
	}
	if value == "" {
		if s.cells[key].revision != 0 {
			s.revision++
			delete(s.cells, key)
		}
		return s
	}
	s.revision++
	s.cells[key] = cell{value, s.revision}
	return s
}

// step reports whether an op can have come out so, and the state after it.
func step(before, input, output any) (bool, any) {
	s, _ := before.(state)
	in, _ := input.(op)
	out, _ := output.(op)
	is := s.cells[in.key]
	switch in.kind {
	case "get":
		return out.missing == (is.revision == 0) && out.found == is.value && out.revision == is.revision, s
	case "set":
	case "create":
		if out.conflict {
			return is.revision != 0, s
		}
		if is.revision != 0 {
			return false, s
		}
	case "update", "delete":
		if out.conflict {
			return is.revision != in.rev, s
		}
		if is.revision != in.rev {
			return false, s
		}
	case "move": // Takes a value from one key to another, if it is there.
		if out.conflict {
			return true, s // Nothing is done; that something has changed is for the conflict's own test.
		}
		if out.missing || is.revision == 0 {
			return out.missing && is.revision == 0, s
		}
		return out.found == is.value, s.with(in.key, "").with(in.to, is.value)
	}
	next := s.with(in.key, in.value)
	return in.value == "" || out.revision == next.revision, next
}

func sameState(a, b any) bool {
	x, _ := a.(state)
	y, _ := b.(state)
	return x.revision == y.revision && maps.Equal(x.cells, y.cells)
}

// do does an op, and returns it with what came of it.
func (o op) do(ctx context.Context, v *store.View) (op, error) {
	var e store.Entry
	var err error
	switch o.kind {
	case "get":
		e, err = v.Get(ctx, o.key)
		o.found = e.Text()
	case "set":
		e, err = v.Set(ctx, o.key, []byte(o.value))
	case "create":
		e, err = v.Create(ctx, o.key, []byte(o.value))
	case "update":
		e, err = v.Update(ctx, o.key, []byte(o.value), o.rev)
	case "delete":
		err = v.Delete(ctx, o.key, store.IfRevision(o.rev))
	case "move":
		err = v.Txn(ctx, func(tx *store.Tx) error {
			e, err := tx.Get(o.key)
			if err != nil {
				return err
			}
			o.found = e.Text()
			return errors.Join(tx.Delete(o.key), tx.Set(o.to, e.Value()))
		})
	}
	o.revision = e.Revision()
	o.missing, o.conflict = errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict)
	if o.missing || o.conflict {
		err = nil
	}
	return o, err
}

// TestLinearizable records what several plugins do at a time, and looks for an order in
// which a map with revisions would have answered so, transactions included (D14, D15).
func TestLinearizable(t *testing.T) {
	t.Parallel()
	for _, persistent := range []bool{false, true} {
		t.Run(fmt.Sprintf("persistent=%t", persistent), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				requireLinearizable(t, persistent, seed)
			}
		})
	}
}

func requireLinearizable(t *testing.T, persistent bool, seed uint64) {
	t.Helper()
	const plugins, ops = 4, 25
	db := openDB(t, store.Options{Backend: &storetest.Memory{}})
	owner := made(t, member(t, db, "owner"), "s", store.Config{Persistent: persistent, Read: []string{"*"}, Write: []string{"*"}})
	begun := time.Now()
	histories, fails := make([][]porcupine.Operation, plugins), make([]error, plugins)
	var all sync.WaitGroup
	for i := range plugins {
		v := opened(t, member(t, db, fmt.Sprint("p", i)), owner.Name())
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			seen := uint64(1)
			for n := range ops {
				in := op{
					kind: []string{"get", "set", "create", "update", "delete", "move"}[random.IntN(6)],
					key:  []string{"a", "b", "c"}[random.IntN(3)], rev: seen,
				}
				switch in.kind {
				case "set", "create", "update":
					in.value = fmt.Sprint(i, ".", n)
				case "move":
					in.to = "a" + in.key // Another key than it takes from.
				}
				called := time.Since(begun)
				out, err := in.do(t.Context(), v)
				if err != nil {
					fails[i] = err
					return
				}
				seen = max(1, out.revision)
				histories[i] = append(histories[i], porcupine.Operation{
					ClientId: i, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(begun)),
				})
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(fails...))
	model := porcupine.Model{Init: func() any { return state{} }, Step: step, Equal: sameState}
	history := slices.Concat(histories...)
	require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(model, history, time.Minute), "seed %d: %v", seed, history)
}

// TestTransactionsAreSeenWhole reads while transactions write: nobody sees a half.
func TestTransactionsAreSeenWhole(t *testing.T) {
	t.Parallel()
	for _, persistent := range []bool{false, true} {
		db := openDB(t, store.Options{Backend: &storetest.Memory{}})
		v := made(t, member(t, db, "a"), "s", store.Config{Persistent: persistent})
		ctx := t.Context()
		write := func(value string) error {
			return v.Txn(ctx, func(tx *store.Tx) error {
				return errors.Join(tx.Set("x", []byte(value)), tx.Set("y", []byte(value)))
			})
		}
		require.NoError(t, write("0"))
		var done atomic.Bool
		var all sync.WaitGroup
		var wrote error
		all.Go(func() {
			defer done.Store(true)
			for n := range 500 {
				if wrote = write(fmt.Sprint(n)); wrote != nil {
					return
				}
			}
		})
		for !done.Load() {
			var values []string
			for e, err := range v.Entries(ctx, store.All()) {
				require.NoError(t, err)
				values = append(values, e.Text())
			}
			require.Len(t, values, 2)
			require.Equal(t, values[0], values[1])
			x, err := v.Get(ctx, "x")
			require.NoError(t, err)
			y, err := v.Get(ctx, "y")
			require.NoError(t, err)
			require.Greater(t, y.Revision(), x.Revision(), "what is read later is not of before")
		}
		all.Wait()
		require.NoError(t, wrote)
	}
}

// TestQuotasUnderConcurrency fills stores of one owner from all sides: the quotas hold at
// every moment, and what is left at the end is what is there (D16).
func TestQuotasUnderConcurrency(t *testing.T) {
	t.Parallel()
	const totalBytes, ownerBytes, storeKeys = 300, 200, 7
	ctx := t.Context()
	db := openDB(t, store.Options{
		Backend: &storetest.Memory{}, MaxBytes: totalBytes,
		OwnerQuota: func(string) (int, int64) { return 16, ownerBytes },
	})
	var views []*store.View
	for i := range 4 {
		for _, id := range []string{"a", "b"} {
			c := member(t, db, fmt.Sprint(id, i))
			views = append(views, made(t, c, "of."+c.ID(), store.Config{Persistent: i%2 == 0, MaxKeys: storeKeys}))
		}
	}
	fails := make([]error, 8)
	var all sync.WaitGroup
	for i := range fails {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			for range 300 {
				v, key := views[random.IntN(len(views))], fmt.Sprint(random.IntN(10))
				var err error
				if random.IntN(3) == 0 {
					err = v.Delete(ctx, key)
				} else {
					_, err = v.Set(ctx, key, []byte(strings.Repeat("x", random.IntN(30))))
				}
				if err != nil && !errors.Is(err, store.ErrQuota) {
					fails[i] = err
					return
				}
				st := db.Stats()
				if st.Bytes > totalBytes {
					fails[i] = fmt.Errorf("all stores have %d bytes", st.Bytes)
					return
				}
				for _, s := range st.Stores {
					if s.Keys > storeKeys || s.Bytes > ownerBytes {
						fails[i] = fmt.Errorf("over the quota: %+v", s.Info)
						return
					}
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(fails...))
	require.NoError(t, db.Idle(ctx))
	total := int64(0)
	for _, v := range views {
		for e, err := range v.Entries(ctx, store.All()) {
			require.NoError(t, err)
			total += int64(len(e.Key()) + len(e.Text()))
		}
	}
	require.Equal(t, total, db.Stats().Bytes)
	require.LessOrEqual(t, total, int64(totalBytes))
	for _, v := range views {
		require.NoError(t, v.Drop(ctx))
	}
	require.Zero(t, db.Stats().Bytes)
}

// TestGetAllocatesNothing holds for a plugin with a guard, a meter and a place in a list.
func TestGetAllocatesNothing(t *testing.T) {
	db := openDB(t, store.Options{})
	made(t, member(t, db, "owner"), "s", store.Config{Read: []string{"a"}, Write: []string{"a"}})
	v := opened(t, member(t, db, "a", newLaw("a")), "s")
	ctx := context.Background()
	_, err := v.Set(ctx, "k", []byte("value"))
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if e, err := v.Get(ctx, "k"); err != nil || e.Text() != "value" {
			t.Error(err)
		}
	}))
}
