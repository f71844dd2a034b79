package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/store"
)

const benchKeys = 100_000

// A gate is a guard with a meter like that of a policy: a counter that many share.
type gate struct {
	plugbus.Guard

	permit plugbus.Permit
	left   atomic.Int64
}

func newGate(id string) *gate {
	g := &gate{Guard: door.Open(id)}
	g.permit.Acts = g
	g.left.Store(1 << 60)
	return g
}

func (g *gate) PermitVia(plugbus.Chain, plugbus.Verb, string) *plugbus.Permit { return &g.permit }

func (g *gate) Take(time.Time, int) time.Duration {
	if g.left.Add(-1) < 0 {
		return time.Second
	}
	return 0
}

// benchStore returns a view of a store with many keys, of a plugin with a guard, a meter
// and a place in the list, and the keys in no order.
func benchStore(b *testing.B) (*store.View, []string) {
	b.Helper()
	db := openDB(b, store.Options{})
	v := made(b, member(b, db, "owner"), "words", store.Config{Read: []string{"reader"}, Write: []string{"reader"}})
	keys := make([]string, benchKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("key/%06d", i)
		_, err := v.Set(b.Context(), keys[i], []byte("value"))
		require.NoError(b, err)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	c, err := db.Client("reader", store.ClientOptions{Guard: newGate("reader")})
	require.NoError(b, err)
	return opened(b, c, "words"), keys
}

// benchMap returns a sync.Map with these keys.
func benchMap(keys []string) *sync.Map {
	var m sync.Map
	for _, key := range keys {
		value := "value"
		m.Store(key, &value)
	}
	return &m
}

// BenchmarkGet shows what all checks of a get cost, beside a bare sync.Map: "all" with
// every key in turn, "hot" with one, "parallel" with all by as many goroutines as there
// are processors.
func BenchmarkGet(b *testing.B) {
	v, keys := benchStore(b)
	m := benchMap(keys)
	ctx := context.Background()
	for _, by := range []struct {
		name string
		get  func(key string) bool
	}{
		{"sync.Map", func(key string) bool { _, ok := m.Load(key); return ok }},
		{"store", func(key string) bool { _, err := v.Get(ctx, key); return err == nil }},
	} {
		b.Run("all/"+by.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !by.get(keys[i%benchKeys]) {
					b.Fatal("no entry")
				}
			}
		})
		b.Run("hot/"+by.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !by.get(keys[0]) {
					b.Fatal("no entry")
				}
			}
		})
		b.Run("parallel/"+by.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(benchKeys); pb.Next(); i++ {
					if !by.get(keys[i%benchKeys]) {
						b.Fail()
					}
				}
			})
		})
	}
}

// BenchmarkSet is the same for writing, in memory.
func BenchmarkSet(b *testing.B) {
	v, keys := benchStore(b)
	m := benchMap(keys)
	ctx, value := context.Background(), []byte("other")
	for _, by := range []struct {
		name string
		set  func(key string) bool
	}{
		{"sync.Map", func(key string) bool { s := string(value); m.Store(key, &s); return true }},
		{"store", func(key string) bool { _, err := v.Set(ctx, key, value); return err == nil }},
	} {
		b.Run(by.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !by.set(keys[i%benchKeys]) {
					b.Fatal("not set")
				}
			}
		})
	}
}

// BenchmarkEntries reads all entries in pages.
func BenchmarkEntries(b *testing.B) {
	v, _ := benchStore(b)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range v.Entries(b.Context(), store.All()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != benchKeys {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchKeys), "ns/entry")
}

// BenchmarkTxn reads and writes two keys.
func BenchmarkTxn(b *testing.B) {
	v, keys := benchStore(b)
	ctx, value := context.Background(), []byte("other")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		err := v.Txn(ctx, func(tx *store.Tx) error {
			for _, key := range []string{keys[i%benchKeys], keys[(i+1)%benchKeys]} {
				if _, err := tx.Get(key); err != nil {
					return err
				}
				if err := tx.Set(key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
