package hub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/panics"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A Session is a plugin's own door to the hub: its identity, what it may do, and
// everything that it opened. The hub makes it, and ends it with the plugin; then
// its methods return [plugbus.ErrClosed]. Its methods may be called by several
// goroutines.
type Session struct {
	hub      *Hub
	id       string
	client   *events.Client
	mail     *router.Client
	finder   *discovery.Client
	keeper   *store.Client
	manifest Manifest // of the plugin
	guard    *guard
	logger   *slog.Logger // with which the hub speaks of the plugin
	voice    *slog.Logger // with which the plugin speaks
	writes   *logDesk     // of the voice
	tasks    *tasks
	ctx      context.Context //nolint:containedctx // The life of the session, which Go hands out.
	end      context.CancelFunc
	fail     func(what string, err error) // tells the hub of a failure

	providing sync.Mutex // of Provide and Withdraw, each of which is several steps

	mu         sync.Mutex // guards below
	goroutines map[*goroutine]struct{}
	provided   map[string]*router.Route // by capability
	listed     bool                     // what it provides is what its id provides
	offers     []string                 // capabilities that it provides, if it is not listed
	ended      bool
	quiet      chan struct{} // closed when ended and without goroutines
}

type goroutine struct{ name string }

// MaxGoroutines bounds the functions that one session runs at a time by
// [Session.Go].
const MaxGoroutines = 256

// ID returns the id of the plugin.
func (s *Session) ID() string { return s.id }

// Logger returns a logger that names the plugin, and writes to that of the host. A call
// waits until the record is written, but for no more than a second: if the host's handler,
// or a value's LogValue, has not returned then, what the plugin logs until it does is
// dropped and counted, and [Hub.Leaks] names it. What it logs while [MaxLogCalls] of its
// records are being written is dropped too.
func (s *Session) Logger() *slog.Logger { return s.voice }

// Go runs f on a goroutine that belongs to the session. Its context ends with
// the session, and f must return then: the hub waits for it. A panic is recovered,
// logged, and counts as a failure of the plugin. The name is for logs and leaks.
//
// The error is [plugbus.ErrClosed], or a [*plugbus.DeniedError] if the session
// runs [MaxGoroutines] already.
func (s *Session) Go(name string, f func(ctx context.Context)) error {
	if f == nil {
		return fmt.Errorf("plugin %q: go %q: the function is nil: %w", s.id, plugbus.CutText(name), plugbus.ErrInvalid)
	}
	g := &goroutine{plugbus.CutText(name)}
	s.mu.Lock()
	switch {
	case s.ended:
		s.mu.Unlock()
		return fmt.Errorf("plugin %q: go %q: %w: the plugin has left", s.id, g.name, ErrClosed)
	case len(s.goroutines) >= MaxGoroutines:
		s.mu.Unlock()
		return s.guard.Refuse(plugbus.Refusal{
			Verb: plugbus.VerbCreate, Object: g.name, Reason: plugbus.ReasonQuotaExceeded,
			Hint: fmt.Sprintf("at most %d functions of a session run at a time", MaxGoroutines),
		})
	}
	s.goroutines[g] = struct{}{}
	s.mu.Unlock()
	go func() { // Ends with f; the hub waits for quiet.
		orderly := false
		defer func() {
			if !orderly {
				s.fail("goroutine "+g.name, failure("the function of Go", recover()))
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.goroutines, g)
			if s.ended && len(s.goroutines) == 0 {
				close(s.quiet)
			}
		}()
		f(s.ctx)
		orderly = true
	}()
	return nil
}

// failure returns the error of a call into a plugin that did not return, from
// what its deferred function recovered.
func failure(what string, recovered any) error {
	if recovered == nil {
		return events.ErrGoexit
	}
	return &PanicError{What: what, Value: panics.Text(recovered), Stack: string(debug.Stack())}
}

// close ends the session for everything but its clients: later calls of Go are
// refused, and the context of the running ones is done.
func (s *Session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	s.tasks.close()
	s.end()
	if len(s.goroutines) == 0 {
		close(s.quiet)
	}
}

// names returns the names of the functions that run.
func (s *Session) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for g := range s.goroutines {
		names = append(names, g.name)
	}
	return names
}

// closeClients ends the session's clients at once, and returns what they had not done.
func (s *Session) closeClients(ctx context.Context) (undone cutOff) {
	ctx = ended(ctx) // Nothing is drained.
	_ = undone.add(s.client.Close(ctx))
	_ = undone.add(s.mail.Close(ctx))
	_ = s.keeper.Close(ctx)
	s.finder.Close()
	return undone
}
