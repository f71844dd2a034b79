package router_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/router"
)

// BenchmarkSend measures a request and its reply without a guard, beside a pair of
// channels, which is what a plugin would use without a router, and beside a handler
// on the sender's stack.
func BenchmarkSend(b *testing.B) {
	r, err := router.New(router.Options{})
	require.NoError(b, err)
	rules := newRules()
	rules.inline["inline"] = true
	from := join(b, r, "from", rules.guard("from"))
	for _, id := range []string{"to", "inline"} {
		handle(b, join(b, r, id), "same", echo)
	}
	var data any = 7
	cancellable, cancel := context.WithCancel(b.Context())
	defer cancel()
	for _, bench := range []struct {
		name, to string
		ctx      context.Context //nolint:containedctx // It is the case.
	}{
		{"background", "to", context.Background()},
		{"cancellable", "to", cancellable},
		{"inline", "inline", context.Background()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := from.Send(bench.ctx, bench.to, "same", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("channels", func(b *testing.B) {
		b.ReportAllocs()
		requests, replies := make(chan any), make(chan any)
		go func() { // Ends with requests.
			for x := range requests {
				replies <- x
			}
		}()
		for b.Loop() {
			requests <- data
			<-replies
		}
		close(requests)
	})
	require.NoError(b, r.Close(context.Background()))
}

// BenchmarkPost measures a message without a reply, the sender being as fast as
// the mailbox lets it.
func BenchmarkPost(b *testing.B) {
	r, err := router.New(router.Options{})
	require.NoError(b, err)
	from, to := join(b, r, "from"), join(b, r, "to")
	got := 0
	handle(b, to, "count", func(context.Context, router.Message) (any, error) { got++; return nil, nil })
	var data any = 7
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := from.Post(context.Background(), "to", "count", data, router.WaitForRoom()); err != nil {
			b.Fatal(err)
		}
		n++
	}
	require.NoError(b, r.Close(context.Background()))
	require.Equal(b, n, got)
}
