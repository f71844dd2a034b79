package actor

import (
	"context"
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

// Cause returns what led to an act of the plugin with ctx: what the handler serves
// whose context that is. If no handler serves that now, it is the deepest of all that
// the plugin does, and of ctx; and the others, which may have led to it, are joined to
// that, so that nobody acts by a plugin that serves several.
func (s *serving) Cause(ctx context.Context) chain.Chain {
	own, worker := chain.From(ctx), s.worker.Load()
	none := chain.Chain{}
	if own != none && own == worker {
		return own
	}
	if own == none && s.deepest.Load() == none {
		return worker
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own != none && s.beside[own] > 0 {
		return own
	}
	cause := chain.Deeper(chain.Deeper(own, worker), s.deepest.Load())
	for other := range s.beside {
		cause = chain.Join(cause, other)
	}
	return chain.Join(chain.Join(cause, own), worker)
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
