package topic_test

import (
	"fmt"
	"testing"

	"github.com/plugbus/plugbus/internal/topic"
)

func BenchmarkCheckName(b *testing.B) {
	for _, name := range []string{"orders.eu.new.item20", "größe.表.orders.new"} {
		b.Run(fmt.Sprintf("name=%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := topic.CheckName(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, text := range []string{"orders.eu.new", "orders.eu.*", "*.*.new", "orders.**", "**"} {
		b.Run("pattern="+text, func(b *testing.B) {
			p := topic.MustParse(text)
			b.ReportAllocs()
			for b.Loop() {
				if !p.Match("orders.eu.new") {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkCompare(b *testing.B) {
	p, q := topic.MustParse("orders.*.new"), topic.MustParse("orders.**")
	b.Run("op=subset", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			topic.Subset(p, q)
		}
	})
	b.Run("op=overlap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			topic.Overlap(p, q)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		x := crowd(n)
		for _, test := range []struct {
			name    string
			matches int
		}{
			{"orders.eu.new", 10},
			{"plugin:none", 0},
		} {
			b.Run(fmt.Sprintf("patterns=%d/matches=%d", n, test.matches), func(b *testing.B) {
				dst := make([]int, 0, 10)
				b.ReportAllocs()
				for b.Loop() {
					if dst = x.Append(dst[:0], test.name); len(dst) != test.matches {
						b.Fatal(dst)
					}
				}
			})
		}
	}
}

func BenchmarkAddRemove(b *testing.B) {
	p, all := topic.MustParse("orders.asia.new"), topic.MustParse("**")
	x := crowd(100_000)
	for i := range 100_000 {
		x.Add(all, -i)
	}
	for _, p := range []topic.Pattern{p, all} {
		b.Run("pattern="+p.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Add(p, 1<<30)
				x.Remove(p, 1<<30)
			}
		})
	}
}
