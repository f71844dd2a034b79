package store

import (
	"sync"
	"time"
)

// A slowWatch finds calls that run long. Its timer runs while calls do.
type slowWatch struct {
	db *DB

	mu      sync.Mutex // guards below
	timer   *time.Timer
	armed   bool
	closed  bool
	looking sync.WaitGroup
}

// arm sees to it that somebody looks after a while.
func (s *slowWatch) arm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set()
}

// set sets the timer, unless it is set. s.mu is held.
func (s *slowWatch) set() {
	switch {
	case s.closed || s.armed:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(s.db.opts.SlowAfter, s.look)
	default:
		s.timer.Reset(s.db.opts.SlowAfter)
	}
	s.armed = true
}

// look tells of the calls that run long, once for each.
func (s *slowWatch) look() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.armed = false
	s.looking.Add(1)
	defer s.looking.Done()
	s.mu.Unlock()
	runs := false
	now := s.db.clock.Now()
	for _, c := range s.db.everyClient() {
		c.mu.Lock()
		k := c.running
		runs = runs || k != nil
		tell := k != nil && !k.told && now.Sub(k.begun) >= s.db.opts.SlowAfter
		if tell {
			k.told = true
		}
		c.mu.Unlock()
		if tell && s.db.opts.OnSlow != nil {
			s.db.opts.OnSlow(Slow{Plugin: c.id, Owner: c.owner, Store: k.store, What: k.what, Site: k.site, For: now.Sub(k.begun)})
		}
	}
	if runs {
		s.arm()
	}
}

// close looks no more, and waits for a look that is on its way.
func (s *slowWatch) close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.looking.Wait()
}

// everyClient returns the clients, those that left and still run included.
func (db *DB) everyClient() []*Client {
	db.mu.RLock()
	defer db.mu.RUnlock()
	all := make([]*Client, 0, len(db.clients)+len(db.ending))
	for _, c := range db.clients {
		all = append(all, c)
	}
	for c := range db.aside {
		all = append(all, c)
	}
	for c := range db.ending {
		all = append(all, c)
	}
	return all
}
