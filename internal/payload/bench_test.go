package payload_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// benchmarks are the payloads of BenchmarkFreeze and BenchmarkThaw.
func benchmarks() []struct {
	name string
	v    any
} {
	long := strings.Repeat("The quick brown fox leaps over the lazy dogs. ", 1500)[:1<<16]
	m := map[string]any{}
	for i := range 10 {
		m["field"+strconv.Itoa(i)] = i
	}
	return []struct {
		name string
		v    any
	}{
		{"int", 1 << 40},
		{"struct=32B", struct{ A, B, C, D int }{1, 2, 3, 4}},
		{"struct=float", struct {
			A int
			B float64
		}{1, 2}},
		{"struct=string", struct {
			ID   int
			Name string
		}{1, "a name of some length"}},
		{"string=24B", "a text of 24 bytes, yes."},
		{"string=64KiB", long},
		{"time", time.Now()},
		{"bytes=64KiB", []byte(long)},
		{"strings=10", strings.Fields("one two three four five six seven eight nine ten")},
		{"map=10", m},
		{"pointer", &struct {
			ID   int
			Name string
			Tags []string
		}{1, "a name", []string{"a", "b"}}},
	}
}

func BenchmarkFreeze(b *testing.B) {
	rules := &plugbus.PayloadRules{Content: plugbus.CheckAll}
	for _, bench := range benchmarks() {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := payload.Freeze(bench.v, rules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkThaw(b *testing.B) {
	for _, bench := range benchmarks() {
		b.Run(bench.name, func(b *testing.B) {
			frozen, _, err := payload.Freeze(bench.v, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				payload.Thaw(frozen)
			}
		})
	}
}

// BenchmarkScan publishes the time for ordinary and for hostile text. The bytes a
// second do not depend on the size: no text makes Scan slow by being long (S18).
func BenchmarkScan(b *testing.B) {
	prose := strings.Join(texts(b, "testdata/prose.txt"), " ")
	for _, bench := range []struct{ name, unit string }{
		{"prose", prose},
		{"json", `{"id":12345,"name":"Anne","tags":["a","b"],"score":0.75,"ok":true,"when":"2026-11-05T10:00:00Z"},`},
		{"html", `<p class="note">One <b>two</b> <a href="https://example.org/?q=1">three</a>.</p>`},
		{"opens", "<"},
		{"opens-apart", "<12345678"},
		{"script", "<script-"},
		{"tags", "<a "},
		{"quotes", `<a b="`},
		{"values", `<a b="<"c="<"d="<"e="<"`},
		{"on", "on"},
		{"handlers", "<a on1="},
		{"j", "j"},
		{"javascript", "javascript"},
		{"spaces", "                               j"},
		{"controls", "J\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"},
	} {
		for _, size := range []int{1 << 16, 1 << 20} {
			b.Run(fmt.Sprintf("text=%s/size=%dKiB", bench.name, size>>10), func(b *testing.B) {
				text := strings.Repeat(bench.unit, size/len(bench.unit)+1)[:size]
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if tripped := payload.Scan(text, plugbus.CheckAll); tripped != 0 {
						b.Fatal(tripped)
					}
				}
			})
		}
	}
}
