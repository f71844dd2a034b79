package hubtest

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// A kept keeps what comes, for a test that waits for it. Its zero value is empty.
type kept[T any] struct {
	mu    sync.Mutex // guards below
	items []T
	more  chan struct{} // closed at the next item; nil if nobody waits
}

func (k *kept[T]) add(item T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items = append(k.items, item)
	if k.more != nil {
		close(k.more)
		k.more = nil
	}
}

func (k *kept[T]) all() []T {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.items)
}

// wait waits until there are n items, and returns all there are. It fails the test
// if they do not come, with what names says of those that did.
func (k *kept[T]) wait(tb testing.TB, n int, what string, names func() []string) []T {
	tb.Helper()
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	for {
		k.mu.Lock()
		got := slices.Clone(k.items)
		if k.more == nil {
			k.more = make(chan struct{})
		}
		more := k.more
		k.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-timeout.C:
			tb.Fatalf("hubtest: got %d %s within %v: %q\nwant %d", len(got), what, WaitLimit, names(), n)
		}
	}
}
