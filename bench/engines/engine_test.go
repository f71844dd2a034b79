package engines_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/bench/engines"
)

// A durable engine is one of those that workloads write to.
type durable interface {
	Set(key string, value []byte) error
	Each(visit func(key string, value []byte) error) error
	Close() error
}

// A readable engine is one of those that workloads read from.
type readable interface {
	Fill(pairs []engines.Pair) error
	Sum(keys []string) (uint64, error)
	Each(visit func(key string, value []byte) error) error
	Close() error
}

// opener returns open without the type of its engine.
func opener[E, I any](open func(dir string) (E, error)) func(dir string) (I, error) {
	return func(dir string) (I, error) {
		engine, err := open(dir)
		as, _ := any(engine).(I)
		return as, err
	}
}

func durables() map[string]func(dir string) (durable, error) {
	return map[string]func(dir string) (durable, error){
		"plugbus":     opener[*engines.Plugbus, durable](engines.OpenPlugbus),
		"appender":    opener[*engines.Appender, durable](engines.OpenAppender),
		"bbolt":       opener[*engines.Bolt, durable](engines.OpenBolt),
		"bbolt Batch": func(dir string) (durable, error) { return engines.OpenBoltBatch(dir, 8) },
		"Pebble":      opener[*engines.Pebble, durable](engines.OpenPebble),
	}
}

func readables() map[string]func(dir string) (readable, error) {
	return map[string]func(dir string) (readable, error){
		"plugbus":  opener[*engines.Plugbus, readable](engines.OpenPlugbus),
		"sync.Map": opener[*engines.Map, readable](engines.OpenMap),
		"bbolt":    opener[*engines.Bolt, readable](engines.OpenBolt),
		"Pebble":   opener[*engines.Pebble, readable](engines.OpenPebble),
	}
}

// TestWhatWasSetIsThereWhenOpenedAgain sets by several writers.
func TestWhatWasSetIsThereWhenOpenedAgain(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 25
	pairs := engines.Pairs(writers * each)
	for name, open := range durables() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			engine, err := open(dir)
			require.NoError(t, err)
			var group sync.WaitGroup
			for i := range writers {
				group.Go(func() {
					for _, p := range pairs[i*each : (i+1)*each] {
						if err := engine.Set(p.Key, p.Value); err != nil {
							t.Errorf("set %q: %v", p.Key, err)
						}
					}
				})
			}
			group.Wait()
			requireHolds(t, engine.Each, pairs)
			require.NoError(t, engine.Close())

			engine, err = open(dir)
			require.NoError(t, err)
			requireHolds(t, engine.Each, pairs)
			stop := errors.New("enough")
			require.ErrorIs(t, engine.Each(func(string, []byte) error { return stop }), stop)
			require.NoError(t, engine.Close())
		})
	}
}

func TestSumGetsEachKey(t *testing.T) {
	t.Parallel()
	pairs := engines.Pairs(50)
	for name, open := range readables() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine, err := open(t.TempDir())
			require.NoError(t, err)
			require.NoError(t, engine.Fill(pairs))
			requireHolds(t, engine.Each, pairs)
			var keys []string
			var want uint64
			for _, p := range pairs[10:40] {
				keys = append(keys, p.Key, pairs[3].Key)
				want += engines.Number(p.Value) + engines.Number(pairs[3].Value)
			}
			got, err := engine.Sum(keys)
			require.NoError(t, err)
			require.Equal(t, want, got)
			_, err = engine.Sum([]string{pairs[0].Key, "no.such.key"})
			require.ErrorContains(t, err, `"no.such.key" is lost`)
			stop := errors.New("enough")
			require.ErrorIs(t, engine.Each(func(string, []byte) error { return stop }), stop)
			require.NoError(t, engine.Close())
		})
	}
}

// TestCopiesAreMade shows that the compiler does not see through the copies, as it
// does where they do not leave the loop; and that Sum makes none. It runs by itself,
// since the allocations of all goroutines count.
func TestCopiesAreMade(t *testing.T) {
	type copier interface {
		readable
		SumCopies(keys []string) (sum uint64, last []byte, _ error)
	}
	pairs := engines.Pairs(100)
	var keys []string
	var want uint64
	for _, p := range pairs {
		keys = append(keys, p.Key)
		want += engines.Number(p.Value)
	}
	for name, open := range map[string]func(dir string) (copier, error){
		"plugbus":  opener[*engines.Plugbus, copier](engines.OpenPlugbus),
		"sync.Map": opener[*engines.Map, copier](engines.OpenMap),
	} {
		engine, err := open(t.TempDir())
		require.NoError(t, err)
		require.NoError(t, engine.Fill(pairs))
		allocs := testing.AllocsPerRun(10, func() {
			sum, last, err := engine.SumCopies(keys)
			if err != nil || sum != want || !bytes.Equal(last, pairs[99].Value) {
				t.Errorf("%s: got %d and %x, %v; expected %d and %x", name, sum, last, err, want, pairs[99].Value)
			}
		})
		require.InDelta(t, len(keys), allocs, 5, name)
		allocs = testing.AllocsPerRun(10, func() { _, err = engine.Sum(keys) })
		require.NoError(t, err)
		require.InDelta(t, 0, allocs, 5, name)
		_, _, err = engine.SumCopies([]string{"no.such.key"})
		require.ErrorContains(t, err, `"no.such.key" is lost`)
		require.NoError(t, engine.Close())
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	pairs := engines.Pairs(1000)
	require.Equal(t, pairs, engines.Pairs(1000))
	keys, numbers := map[string]bool{}, map[uint64]bool{}
	for _, p := range pairs {
		require.Len(t, p.Key, engines.KeyBytes)
		require.Len(t, p.Value, engines.ValueBytes)
		keys[p.Key], numbers[engines.Number(p.Value)] = true, true
	}
	require.Len(t, keys, 1000)
	require.Len(t, numbers, 1000)
	require.Zero(t, engines.Number("short"))
	require.EqualValues(t, 0x0807060504030201, engines.Number("\x01\x02\x03\x04\x05\x06\x07\x08\x09"))
}

// requireHolds asserts that each visits the pairs, in any order, and nothing else.
func requireHolds(t *testing.T, each func(func(string, []byte) error) error, pairs []engines.Pair) {
	t.Helper()
	want := make(map[string][]byte)
	for _, p := range pairs {
		want[p.Key] = p.Value
	}
	got := make(map[string][]byte)
	require.NoError(t, each(func(key string, value []byte) error {
		if _, again := got[key]; again {
			return fmt.Errorf("key %q comes twice", key)
		}
		got[key] = bytes.Clone(value)
		return nil
	}))
	require.Equal(t, want, got)
}
