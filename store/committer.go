package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/panics"
)

// A pending is something that waits for the backend.
type pending struct {
	name    string // of the store
	space   *space // nil if there are no changes
	changes []change
	grows   int64 // how many bytes they take from the quotas

	// These are for what is not about entries: what the backend gets, what happens when
	// it has it, and what happens in the end, whether it has or not.
	ops   []Op
	apply func()
	end   func(err error)

	done chan struct{} // closed when it is over
	err  error         // then nil if it is done
}

// changeOverhead is about what a change holds in memory beside its key and value.
const changeOverhead = 256

// size is what p holds in memory.
func (p *pending) size() int {
	n := len(p.changes) * changeOverhead
	for i := range p.changes {
		n += len(p.changes[i].key) + int(p.changes[i].record.size())
	}
	for i := range p.ops {
		n += len(p.ops[i].Key) + len(p.ops[i].Value)
	}
	return n
}

// writes reports whether p is a write of a plugin, and not only of what has expired, or of
// what there is to say about a store: these are few, and nobody does them again.
func (p *pending) writes() bool {
	return slices.ContainsFunc(p.changes, func(c change) bool { return c.kind != Expired })
}

// The bounds of the queue for the backend. Each writer waits for its own writes, so it
// gets long only if writers leave before the backend has answered.
const (
	maxQueue      = 1 << 16   // writes
	maxQueueBytes = 256 << 20 // of memory
	maxBatchBytes = 8 << 20   // of one commit, beside the last write in it
)

// A committer gives to the backend whatever waits as one commit: writers that come
// while it syncs share the next sync.
type committer struct {
	db      *DB
	backend Backend // nil if there is none
	census  census  // of its goroutine

	mu      sync.Mutex // guards below
	queue   []*pending
	bytes   int
	running bool
	closed  bool
	broken  error // why a commit failed
	commits uint64
	writes  uint64 // in them
	idle    chan struct{}
}

// enqueue queues a write. It does not block. The lock of its store is held, so that
// the order of the queue is that of the revisions.
func (c *committer) enqueue(p *pending) error {
	size := p.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken != nil:
		return fmt.Errorf("%w: %w", ErrReadOnly, c.broken)
	case c.closed:
		return ErrClosed
	case (len(c.queue) >= maxQueue || len(c.queue) > 0 && c.bytes+size > maxQueueBytes) && p.writes():
		return fmt.Errorf("%w: %d writes wait for the backend", ErrBusy, len(c.queue))
	}
	c.queue = append(c.queue, p)
	c.bytes += size
	if !c.running {
		c.running = true
		c.idle = make(chan struct{})
		go c.run() // Ends when nothing waits; close waits for it.
	}
	return nil
}

// run commits until nothing waits.
func (c *committer) run() {
	for {
		batch := c.take()
		if batch == nil {
			c.db.idle.Tell()
			return
		}
		c.commit(batch)
	}
}

// take takes what the next commit is to have, or nil if nothing waits.
func (c *committer) take() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.running = nil, false
		close(c.idle)
		return nil
	}
	n, bytes := 0, 0
	for n < len(c.queue) && (n == 0 || bytes < maxBatchBytes) {
		bytes += c.queue[n].size()
		n++
	}
	batch := c.queue[:n:n]
	c.queue = c.queue[n:]
	c.bytes -= bytes
	c.commits++
	c.writes += uint64(n)
	return batch
}

// commit gives a batch to the backend, and lets its writers know.
func (c *committer) commit(batch []*pending) {
	returned := false
	defer func() {
		if !returned {
			c.fail(batch, errors.New("the backend ended the goroutine that called it"))
			go c.run() // Takes the place of that one.
		}
	}()
	err := c.safely(c.opsOf(batch))
	returned = true
	if err != nil {
		c.fail(batch, err)
		return
	}
	for len(batch) > 0 {
		s, n := batch[0].space, 1
		for s != nil && n < len(batch) && batch[n].space == s {
			n++
		}
		s.publish(batch[:n])
		for _, p := range batch[:n] {
			p.finish(nil)
		}
		batch = batch[n:]
	}
}

// safely is the backend's Commit, whose panic is an error.
func (c *committer) safely(ops []Op) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the backend panicked: %s", panics.Text(r))
		}
	}()
	return c.backend.Commit(ops)
}

// publish makes done what the backend has. The writes are about one store, or it is
// one write about none.
func (s *space) publish(batch []*pending) {
	for _, p := range batch {
		if p.apply != nil {
			p.apply()
		}
	}
	if s == nil {
		return
	}
	var wakes actor.Wakes
	defer wakes.Wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.db.rules.Load()
	for _, p := range batch {
		for i := range p.changes { // What counts is who may read when it comes to be seen.
			p.changes[i].rules = max(p.changes[i].rules, rules)
		}
		s.apply(p.changes, &wakes)
		for _, change := range p.changes {
			if s.ahead.keys[change.key].by == p {
				delete(s.ahead.keys, change.key)
			}
		}
	}
}

// fail ends a batch that the backend did not take, and all that waits behind it.
// Nothing is committed any more: who knows what the backend has.
func (c *committer) fail(batch []*pending, err error) {
	c.mu.Lock()
	c.broken = err
	rest := c.queue
	c.queue, c.bytes = nil, 0
	c.mu.Unlock()
	outcome := ErrUnknown
	if errors.Is(err, ErrNotDone) {
		outcome = ErrNotDone
	}
	for _, p := range batch {
		p.fail(outcome, err)
	}
	for _, p := range rest {
		p.fail(ErrNotDone, fmt.Errorf("%w: %w", ErrReadOnly, err))
	}
	c.db.opts.Logger.Error("a commit failed; the persistent stores are read-only until they are opened anew", "error", err)
}

// fail ends p. What its store was to be is forgotten.
func (p *pending) fail(outcome, err error) {
	if s := p.space; s != nil {
		s.mu.Lock()
		clear(s.ahead.keys)
		s.ahead.count, s.ahead.bytes = len(s.entries), s.bytes
		s.mu.Unlock()
		s.db.usage.add(s.owner, -p.grows)
	}
	p.finish(&CommitError{Store: p.name, Outcome: outcome, Err: err})
}

// finish lets everybody know how p ended.
func (p *pending) finish(err error) {
	p.err = err
	if p.end != nil {
		p.end(err)
	}
	close(p.done)
}

// busy reports whether something waits.
func (c *committer) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// close takes nothing more, and returns a channel that is closed when nothing waits,
// or nil if nothing does.
func (c *committer) close() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.running {
		return c.idle
	}
	return nil
}
