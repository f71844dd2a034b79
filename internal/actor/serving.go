package actor

import (
	"sync"

	"github.com/plugbus/plugbus/internal/chain"
)

// A serving knows what the handlers of one plugin serve.
type serving struct {
	worker  chain.Cell // what the worker serves
	deepest chain.Cell // of beside

	mu     sync.Mutex // guards below
	beside map[chain.Chain]int
}

// Serving returns the chain of what the plugin is handling now, or the empty
// chain. Of several handlers at a time it is the deepest.
func (s *serving) Serving() chain.Chain {
	return chain.Deeper(s.worker.Load(), s.deepest.Load())
}

// Serves reports whether a handler serves c now.
func (s *serving) Serves(c chain.Chain) bool {
	if s.worker.Load() == c {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beside[c] > 0
}

// Serve says what the worker serves.
func (s *serving) Serve(c chain.Chain) {
	if s.worker.Load() != c {
		s.worker.Store(c)
	}
}

// Enter says that a handler beside the worker serves c, until Leave.
func (s *serving) Enter(c chain.Chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beside == nil {
		s.beside = map[chain.Chain]int{}
	}
	s.beside[c]++
	s.deepest.Store(chain.Deeper(s.deepest.Load(), c))
}

// Leave undoes one Enter.
func (s *serving) Leave(c chain.Chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beside[c]--; s.beside[c] > 0 {
		return
	}
	delete(s.beside, c)
	deepest := chain.Chain{}
	for other := range s.beside {
		deepest = chain.Deeper(deepest, other)
	}
	s.deepest.Store(deepest)
}
