// Package notice lets many wait for a change of something, at no cost for whoever
// changes it while nobody waits.
//
//	for {
//		changed := n.Next() // first this, then the look, or a change is missed
//		if done() {
//			return
//		}
//		<-changed
//	}
package notice

import (
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

// Next returns a channel that is closed at the next Tell.
func (n *Notice) Next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
		n.waiting.Store(true)
	}
	return n.changed
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
