package security_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// BenchmarkTake compares the stock of a meter with asking the limiter for each
// act. With a burst below eight there is no stock.
func BenchmarkTake(b *testing.B) {
	now := time.Now()
	b.Run("by=limiter", func(b *testing.B) {
		l := rate.NewLimiter(1e9, 1e9)
		b.ReportAllocs()
		for b.Loop() {
			l.AllowN(now, 1)
		}
	})
	for _, burst := range []int64{1_000_000_000, 100, 7} {
		b.Run(fmt.Sprintf("by=meter/burst=%d", burst), func(b *testing.B) {
			m := security.NewMeter(security.Rate{Limit: 1e12, Per: time.Second, Burst: burst}, now)
			at := now
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(100)
				m.Take(at, 1)
			}
		})
	}
	b.Run("by=meter/refused", func(b *testing.B) {
		m := security.NewMeter(security.Rate{Limit: 1, Per: time.Hour, Burst: 1}, now)
		m.Take(now, 1)
		b.ReportAllocs()
		for b.Loop() {
			m.Take(now, 1)
		}
	})
	b.Run("by=limiter/goroutines=2", func(b *testing.B) {
		l := rate.NewLimiter(1e9, 1e9)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.AllowN(now, 1)
			}
		})
	})
	b.Run("by=meter/goroutines=2", func(b *testing.B) {
		m := security.NewMeter(security.Rate{Limit: 1e12, Per: time.Second, Burst: 1e9}, now)
		b.RunParallel(func(pb *testing.PB) {
			at := now
			for pb.Next() {
				at = at.Add(100)
				m.Take(at, 1)
			}
		})
	})
}

func BenchmarkPermit(b *testing.B) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(b, err)
	a := authority(b, p)
	s := join(b, a, "indexer")
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Permit(plugbus.VerbEmit, "index.done")
		}
	})
	names := make([]string, 4096) // more than are kept
	for i := range names {
		names[i] = fmt.Sprintf("index.n%d", i)
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			s.Permit(plugbus.VerbEmit, names[i%len(names)])
			i++
		}
	})
	b.Run("refused/new", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			s.Permit(plugbus.VerbPublish, names[i%len(names)])
			i++
		}
	})
	b.Run("version", func(b *testing.B) {
		for b.Loop() {
			s.Version()
		}
	})
}

func BenchmarkRefuse(b *testing.B) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(b, err)
	for _, recorded := range []bool{false, true} {
		b.Run(fmt.Sprintf("recorded=%t", recorded), func(b *testing.B) {
			a := authority(b, p)
			if recorded {
				a, _ = audited(b, security.Options{Policy: p})
			}
			s := join(b, a, "indexer")
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: "index.private.x", Reason: plugbus.ReasonDeniedByRule})
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, plugins := range []int{1, 100, 10_000} {
		var list []string
		for i := range plugins {
			list = append(list, fmt.Sprintf(`"p%d":{"trust":"basic","canSendMessages":true,"emit":{"allow":["a%d.**","b.*"],"deny":["a.x"]},
				"dataAccess":{"s%d":{"read":true}},"rates":{"messages":{"limit":100,"per":"1m","burst":20}}}`, i, i, i))
		}
		text := []byte(`{"version":1,"plugins":{` + strings.Join(list, ",") + `}}`)
		b.Run(fmt.Sprintf("plugins=%d", plugins), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := security.Parse(text, "p.json")
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkSwap(b *testing.B) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(b, err)
	a := authority(b, p)
	join(b, a, "indexer")
	for b.Loop() {
		_, err := a.Swap("admin", p)
		require.NoError(b, err)
	}
}
