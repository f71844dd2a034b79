package hub

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
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

	// Under hub.mu.
	state     State
	since     time.Time // of the state
	leaving   bool
	failures  []time.Time // the latest, as many as the budget has
	failed    uint64      // since it joined
	lastError string
	slow      uint64
	stuck     []string        // calls that have not returned
	lost      []string        // what it provided when it left
	telling   map[string]bool // the losses that it is being told of, and whether they happened again meanwhile
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
	fail := func(what string, err error) { m.failure(what, err, true) }
	s := &Session{
		hub: h, id: id, guard: g, logger: h.logger.With("plugin", id), tasks: newTasks(m.actor, fail), ctx: ctx, end: end,
		manifest: m.manifest, provided: map[string]*router.Route{}, goroutines: map[*goroutine]struct{}{}, quiet: make(chan struct{}), fail: fail,
	}
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
	if s.finder, err = h.index.Client(id, discovery.ClientOptions{Guard: g, Version: m.manifest.Version}); err != nil {
		_ = s.client.Close(ctx) // It has nothing yet.
		return err
	}
	if s.keeper, err = h.stores.Client(id, so); err != nil {
		_ = s.client.Close(ctx) // The same.
		s.finder.Close()
		return err
	}
	if s.mail, err = h.router.Client(id, ro); err != nil { // The last one, since it may have mail already.
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

// limited returns a context that ends with ctx and after the wait limit, and has
// no values.
func (h *Hub) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(valueless{ctx}, h.opts.WaitLimit)
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
//
//nolint:contextcheck // The call ends with the caller's context and with the session's.
func (m *member) call(ctx context.Context, name string, f func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(inside{ctx, m.actor.NewContext(ctx, chain.Chain{})}, m.hub.opts.WaitLimit)
	defer cancel()
	defer context.AfterFunc(m.session.ctx, cancel)()
	hung, err := m.session.tasks.do(limited, name, func() error { return cut(f(limited)) })
	if hung != nil {
		m.stick(name, func() { <-hung }) //nolint:errcheck // What comes too late is thrown away.
	}
	return err
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
}

// floodRefusals is how many refused acts count as one failure.
const floodRefusals = 200

// refused counts a refused act. That some may not have a broadcast is not its
// sender's fault, nor that the validator of a store fails.
func (m *member) refused(r plugbus.Refusal) {
	if r.Reason == plugbus.ReasonQuarantined || r.Reason == plugbus.ReasonRecipientCannotReceive ||
		r.Reason == plugbus.ReasonCheckFailed && r.Verb == plugbus.VerbWrite {
		return
	}
	if m.refusals.Add(1)%floodRefusals == 0 {
		m.failure("flood", fmt.Errorf("%d acts refused, the last for %s", floodRefusals, r.Reason), true)
	}
}

// failure notes that the plugin failed. If it counts, and the budget is used up,
// the plugin is quarantined.
func (m *member) failure(what string, err error, counts bool) {
	h := m.hub
	now, cause := h.clock.Now(), textOf(err)
	h.mu.Lock()
	m.failed++
	last := plugbus.CutText(what + ": " + cause)
	m.lastError = last
	over := counts && m.overBudget(now) && m.state == Ready && m != h.host
	if over {
		m.become(Quarantined)
		m.session.guard.turn()
	}
	h.mu.Unlock()
	attrs := []any{"what", what, "error", cause}
	if stack := stackOf(err); stack != "" {
		attrs = append(attrs, "stack", stack)
	}
	m.session.logger.Error("the plugin failed", attrs...)
	if !over {
		return
	}
	reason := fmt.Sprintf("more than %d failures a minute", h.opts.FailureBudget)
	m.session.logger.Error("the plugin is quarantined: it may do nothing more, and gets nothing more, until Hub.Restore", "reason", reason, "last", what)
	record := h.record(audit.Entry{
		Event: "plugin.quarantined", Actor: hubID, Target: m.manifest.ID, Admin: true,
		Details: []audit.Detail{{Key: "why", Value: reason}, {Key: "last", Value: last}},
	})
	h.announce(Notice{Event: EventQuarantined, Plugin: m.manifest.ID, Version: m.manifest.Version, Reason: reason})
	h.alert(security.Alert{
		Kind: security.PluginQuarantined, Severity: security.High, Plugin: m.manifest.ID,
		Count: uint64(h.opts.FailureBudget) + 1, Threshold: uint64(h.opts.FailureBudget), Time: now, Record: record,
	})
}

// stackOf returns the stack of a panic, or "". A plugin may return one of these errors
// itself, as a nil pointer too.
func stackOf(err error) string {
	switch p := err.(type) { //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
	case *PanicError:
		if p != nil {
			return p.Stack
		}
	case *events.PanicError:
		if p != nil {
			return p.Stack
		}
	case *router.PanicError:
		if p != nil {
			return p.Stack
		}
	case *store.PanicError:
		if p != nil {
			return p.Stack
		}
	}
	return ""
}

// overBudget counts a failure, and reports whether it is one more than the
// budget has for a minute. hub.mu is held.
func (m *member) overBudget(now time.Time) (over bool) {
	budget := m.hub.opts.FailureBudget
	if budget < 0 {
		return false
	}
	if len(m.failures) == budget {
		over = now.Sub(m.failures[0]) <= time.Minute
		m.failures = slices.Delete(m.failures, 0, 1)
	}
	m.failures = append(m.failures, now)
	return over
}

// Restore ends the quarantine of a plugin, which goes on with what it had
// subscribed to, and with what the stores that it watches still keep of the changes. The error matches [ErrUnknownPlugin] or [plugbus.ErrInvalid].
func (h *Hub) Restore(id string) error {
	m := h.member(id)
	if m == nil {
		return h.unknown("restore", id)
	}
	h.mu.Lock()
	if m.state != Quarantined {
		state := m.state
		h.mu.Unlock()
		return fmt.Errorf("hub: restore %q: the plugin is %v, not quarantined: %w", id, state, plugbus.ErrInvalid)
	}
	m.become(Ready)
	m.failures = nil
	m.session.guard.turn()
	h.mu.Unlock()
	m.session.keeper.Wake()
	h.record(audit.Entry{Event: "plugin.restored", Actor: security.HostID, Target: id, Admin: true})
	h.announce(Notice{Event: EventRestored, Plugin: id, Version: m.manifest.Version})
	return nil
}
