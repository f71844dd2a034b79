package hub_test

import (
	"fmt"
	"sync"
	"testing"

	EventBus "github.com/asaskevich/EventBus"
	"github.com/stretchr/testify/require"
)

// What BenchmarkGuardedEmit is compared with, in the same run: a bus that guards
// nothing and calls its handlers on the publisher's stack, and a channel for each
// subscriber.

func BenchmarkEventBus(b *testing.B) {
	for _, subs := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			bus := EventBus.New()
			got := make([]int64, subs*16)
			for i := range subs {
				require.NoError(b, bus.Subscribe("point.moved", func(r reading) { got[i*16] += r.N }))
			}
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				bus.Publish("point.moved", reading{N: 1})
				n++
			}
			for i := range subs {
				require.Equal(b, n, got[i*16])
			}
		})
	}
}

func BenchmarkChannels(b *testing.B) {
	for _, subs := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			var wait sync.WaitGroup
			channels := make([]chan reading, subs)
			got := make([]int64, subs*16)
			for i := range channels {
				channels[i] = make(chan reading, 1024)
				wait.Go(func() {
					for r := range channels[i] {
						got[i*16] += r.N
					}
				})
			}
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				for _, c := range channels {
					c <- reading{N: 1}
				}
				n++
			}
			for _, c := range channels {
				close(c)
			}
			wait.Wait()
			for i := range subs {
				require.Equal(b, n, got[i*16])
			}
		})
	}
}

// BenchmarkHandOff is the least that a lone event can cost: two goroutines that
// wake each other by channels.
func BenchmarkHandOff(b *testing.B) {
	there, back := make(chan reading), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for range there {
			back <- struct{}{}
		}
	})
	for b.Loop() {
		there <- reading{N: 1}
		<-back
	}
	close(there)
	wait.Wait()
}
