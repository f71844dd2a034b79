package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/panics"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// A State is what a plugin is about.
type State uint8

// The states.
const (
	Starting    State = iota + 1 // its Start runs
	Ready                        // it takes part
	Draining                     // it gets nothing new, and handles what it has
	Stopped                      // it has left
	Failed                       // its Start failed
	Quarantined                  // it failed too often, and may do nothing until it is restored
)

var stateNames = [...]string{
	Starting: "starting", Ready: "ready", Draining: "draining", Stopped: "stopped", Failed: "failed", Quarantined: "quarantined",
}

// String returns the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A member is a plugin that has joined, or tries to.
type member struct {
	hub      *Hub
	plugin   Plugin
	manifest Manifest
	actor    *actor.Actor
	session  *Session

	refusals atomic.Uint64 // toward the failure budget
	started  bool          // Start returned nil in time; of the worker
	left     chan struct{} // closed when it has left
	held     bool          // it was made to take the place of another
	settled  chan struct{} // closed when it has that place for itself; nil if it is not held

	turning sync.Mutex // held from a turn of its quarantine until that has been told; taken before hub.mu

	// Under hub.mu.
	state     State
	since     time.Time // of the state
	leaving   bool
	failures  []time.Time // the latest, as many as the budget has
	failed    uint64      // since it joined
	lastError string
	slow      uint64
	stuck     []string           // calls that have not returned
	lost      []string           // what it provided when it left
	undone    cutOff             // when it left
	problem   error              // what went wrong when it left
	telling   map[string]bool    // the losses that it is being told of, and whether they happened again meanwhile
	ward      ward               // its quarantine
	successor *member            // who starts, to take its place
	before    *member            // whose place it has taken, and who has not left
	hurry     context.CancelFunc // ends its Start, if it is held, or its leaving, if it was replaced
	yields    bool               // it was replaced, or did not get the place of another, and has not left
	barred    bool               // the host does not let it take the place of another
}

// join makes the member's session.
func (m *member) join(subject *security.Subject) (err error) {
	h, id := m.hub, m.manifest.ID
	g := &guard{Subject: subject, provides: &h.provides}
	if id != security.HostID {
		g.onRefusal = m.refused
	}
	o, ro, so := events.ClientOptions{Guard: g}, router.ClientOptions{Guard: g}, store.ClientOptions{Guard: g, Superuser: id == security.HostID}
	if grant, ok := h.authority.Policy().Grant(id); ok {
		o.MaxSubscriptions, o.MaxWildcards = orNone(grant.Limits.Subscriptions), orNone(grant.Limits.Wildcards)
		ro.MaxHandlers, ro.MaxWildcards = o.MaxSubscriptions, o.MaxWildcards
		so.MaxWatches = orNone(grant.Limits.Watches)
	}
	ctx, end := context.WithCancel(context.Background())
	m.actor = h.actors.New()
	o.Owner, ro.Owner, so.Owner = m, m, m
	o.Held, ro.Held, so.Held = m.held, m.held, m.held
	fail := m.broke
	s := &Session{
		hub: h, id: id, guard: g, logger: h.logger.With("plugin", id), tasks: newTasks(m.actor), ctx: ctx, end: end,
		manifest: m.manifest, provided: map[string]*router.Route{}, goroutines: map[*goroutine]struct{}{}, quiet: make(chan struct{}), fail: fail, listed: !m.held,
	}
	desk, voice := h.writes.desk(MaxLogCalls)
	s.writes, s.voice = desk, voice.With("plugin", id)
	o.Context, o.Actor = ctx, m.actor
	ro.Context, ro.Actor = ctx, m.actor
	so.Context, so.Actor = ctx, m.actor
	defer func() {
		if err != nil {
			end()
			m.actor.Retire()
			subject.Leave()
		}
	}()
	if s.client, err = h.bus.Client(id, o); err != nil {
		return err
	}
	if s.finder, err = h.index.Client(id, discovery.ClientOptions{Guard: g, Version: m.manifest.Version, Held: m.held}); err != nil {
		_ = s.client.Close(ctx) // It has nothing yet.
		return err
	}
	if s.keeper, err = h.stores.Client(id, so); err != nil {
		_ = s.client.Close(ctx) // The same.
		s.finder.Close()
		return err
	}
	if s.mail, err = h.router.Client(id, ro); err != nil {
		_ = s.client.Close(ctx) // The same.
		_ = s.keeper.Close(ctx)
		s.finder.Close()
		return err
	}
	m.session = s
	return nil
}

// orNone returns a limit of the policy as the events have it: there 0 means the
// default, and in a policy none.
func orNone(limit int) int {
	if limit == 0 {
		return -1
	}
	return limit
}

// A valueless is a context without its values, which do not travel into a
// plugin.
type valueless struct{ context.Context } //nolint:containedctx // It is a context.

func (valueless) Value(any) any { return nil }

// limited returns a context that ends with ctx, after the wait limit, and when the hub
// closes and has no more time for plugins. It has no values.
func (h *Hub) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, cut := context.WithCancelCause(valueless{ctx})
	stop := context.AfterFunc(h.cutoff, func() { cut(context.Cause(h.cutoff)) })
	limited, cancel := context.WithTimeout(limited, h.opts.WaitLimit)
	return because{limited}, func() {
		stop()
		cancel()
		cut(nil)
	}
}

// A because is a context whose end has the reason for which it was made to end: that there
// is no more time is not that somebody did not want to wait.
type because struct{ context.Context } //nolint:containedctx // It is a context.

func (c because) Err() error {
	err := c.Context.Err()
	if err != nil && context.Cause(c.Context) == context.DeadlineExceeded { //nolint:errorlint // It is the value.
		return context.DeadlineExceeded
	}
	return err
}

// An inside is the context of a call into a plugin. Its only value says whose
// worker it is on, so that what would wait for that worker is refused.
type inside struct {
	context.Context //nolint:containedctx // It is a context.
	worker          *actor.Context
}

func (c inside) Value(key any) any { return c.worker.Value(key) }

// ended returns ctx as one that is done, for those who do not wait.
func ended(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// call runs f of the plugin on its worker, with a context that ends with ctx,
// after the wait limit, and with the session. A call that does not return in
// time goes on, and Leaks names it.
func (m *member) call(ctx context.Context, name string, f func(ctx context.Context) error) error {
	_, err := m.attempt(ctx, name, m.session.fail, f)
	return err
}

// attempt is call, but that fail hears of it if f does not return by itself; and if it
// has not returned in time, over is closed when it has.
//
//nolint:contextcheck // The same.
func (m *member) attempt(ctx context.Context, name string, fail func(what string, err error), f func(ctx context.Context) error) (over <-chan struct{}, err error) {
	limited, cancel := context.WithTimeout(inside{ctx, m.actor.NewContext(ctx, chain.Chain{})}, m.hub.opts.WaitLimit)
	defer cancel()
	defer context.AfterFunc(m.session.ctx, cancel)()
	hung, err := m.session.tasks.do(limited, name, fail, func() error { return panics.Returned(f(limited)) })
	if hung == nil {
		return nil, err
	}
	returned := make(chan struct{})
	m.stick(name, func() {
		<-hung //nolint:errcheck // What comes too late is thrown away.
		close(returned)
	})
	return returned, err
}

// stick remembers a call that has not returned, until it does.
func (m *member) stick(name string, wait func()) {
	h := m.hub
	h.mu.Lock()
	m.stuck = append(m.stuck, name)
	h.mu.Unlock()
	h.actors.Go(func() { // Ends with the call.
		wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if i := slices.Index(m.stuck, name); i >= 0 {
			m.stuck = slices.Delete(m.stuck, i, i+1)
		}
	})
}

// become changes the state. hub.mu is held.
func (m *member) become(s State) {
	m.state = s
	m.since = m.hub.clock.Now()
	m.callOff()
	m.plan()
}
