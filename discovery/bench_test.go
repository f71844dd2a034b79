package discovery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/plugbus/plugbus/discovery"
)

// crowd returns a client of an index with n providers of "common", of which ten
// provide "rare" too.
func crowd(b *testing.B, n int) (*discovery.Index, *discovery.Client) {
	x := newIndex(b, discovery.Options{})
	for i := range n {
		c := newClient(b, x, fmt.Sprint("p", i), nil)
		provide(b, c, discovery.Capability{Name: "common", Version: "1.2.3", Categories: []string{"many"}, Reliability: new(0.5)})
		if i%max(1, n/10) == 0 {
			provide(b, c, discovery.Capability{Name: "rare", Version: "1.2.3", Categories: []string{"few"}, Reliability: new(0.5)})
		}
	}
	return x, newClient(b, x, "reader", nil)
}

// BenchmarkFind finds the ten of many that provide something, and, to compare,
// all of them.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		_, reader := crowd(b, n)
		for _, name := range []string{"rare", "common"} {
			b.Run(fmt.Sprintf("providers=%d/require=%s", n, name), func(b *testing.B) {
				k := requiring(name)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := reader.Find(k); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkResolve looks for who can be called, as each call does.
func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("providers=%d", n), func(b *testing.B) {
			_, reader := crowd(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reader.Resolve("common", discovery.CallOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMayCall(b *testing.B) {
	_, reader := crowd(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if !reader.MayCall("p7", "common") {
			b.Fatal("it may not")
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	x, _ := crowd(b, 10)
	callers := [8]string{"a", "b", "c", "d", "e", "f", "g", "h"}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		x.Observe(discovery.Sample{Provider: "p7", Capability: "common", Caller: callers[i%8], OK: true, Took: time.Millisecond})
		i++
	}
}
