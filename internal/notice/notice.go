// Package notice lets many wait for a change of something, at no cost for whoever
// changes it while nobody waits.
//
//	err := n.Until(ctx, func() bool { return count.Load() == 0 })
package notice

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Notice tells those who wait that something may have changed. The zero value
// is ready to use, by several goroutines.
type Notice struct {
	waiting atomic.Bool // so that a Tell to nobody costs one load

	mu      sync.Mutex // guards below
	changed chan struct{}
}

// next returns a channel that is closed at the next Tell.
func (n *Notice) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
		n.waiting.Store(true)
	}
	return n.changed
}

// Until waits until done returns true, and returns nil; or until ctx is done, and
// returns its error. It calls done at the start and after each Tell, so that no
// change is missed of which a Tell follows.
func (n *Notice) Until(ctx context.Context, done func() bool) error {
	for {
		changed := n.next() // Before the look.
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Tell closes the channel that those who wait have. It does not block.
func (n *Notice) Tell() {
	if !n.waiting.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
		n.waiting.Store(false)
	}
}
