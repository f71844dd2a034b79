package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/security"
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

	// Under hub.mu.
	state     State
	since     time.Time // of the state
	failures  []time.Time
	failed    uint64 // since it joined
	lastError string
	slow      uint64
	stuck     []string // calls that have not returned
}

// join makes the member's session.
func (m *member) join(subject *security.Subject) (err error) {
	h, id := m.hub, m.manifest.ID
	g := &guard{Subject: subject}
	if id != security.HostID {
		g.onRefusal = m.refused
	}
	limits := security.Limits{}
	if grant, ok := h.authority.Policy().Grant(id); ok {
		limits = grant.Limits
	}
	ctx, end := context.WithCancel(context.Background())
	m.actor = h.actors.New()
	s := &Session{
		id: id, guard: g, logger: h.logger.With("plugin", id), tasks: newTasks(m.actor), ctx: ctx, end: end,
		goroutines: map[*goroutine]struct{}{}, quiet: make(chan struct{}),
		fail: func(what string, err error) { m.failure(what, err, true) },
	}
	s.client, err = h.bus.Client(id, events.ClientOptions{
		Guard: g, Context: ctx, Actor: m.actor, MaxSubscriptions: limits.Subscriptions, MaxWildcards: limits.Wildcards,
	})
	if err != nil {
		end()
		m.actor.Retire()
		subject.Leave()
		return err
	}
	m.session = s
	return nil
}

// limited returns a context for a call into the plugin: it ends with ctx, after
// the hub's wait limit, and with the session, and has no values.
func (m *member) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithTimeout(m.session.ctx, m.hub.opts.WaitLimit)
	if deadline, ok := ctx.Deadline(); ok {
		var end context.CancelFunc
		limited, end = context.WithDeadline(limited, deadline)
		cancel = both(end, cancel)
	}
	stop := context.AfterFunc(ctx, cancel)
	return limited, func() {
		stop()
		cancel()
	}
}

func both(a, b context.CancelFunc) context.CancelFunc {
	return func() {
		a()
		b()
	}
}

// call runs f of the plugin on its worker. A call that does not return in time
// goes on, and Leaks names it.
func (m *member) call(ctx context.Context, name string, f func(ctx context.Context) error) error {
	limited, cancel := m.limited(ctx)
	returned := make(chan struct{})
	begun, err := m.session.tasks.do(limited, name, func() error {
		defer close(returned)
		return f(limited)
	})
	cancel()
	if begun {
		select {
		case <-returned:
		default:
			m.stick(name, returned)
		}
	}
	return err
}

// stick remembers a call that has not returned, until it does.
func (m *member) stick(name string, returned <-chan struct{}) {
	h := m.hub
	h.mu.Lock()
	m.stuck = append(m.stuck, name)
	h.mu.Unlock()
	h.actors.Go(func() { // Ends with the call.
		<-returned
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

// refused counts a refused act.
func (m *member) refused(r plugbus.Refusal) {
	if r.Reason != plugbus.ReasonQuarantined && m.refusals.Add(1)%floodRefusals == 0 {
		m.failure("flood", fmt.Errorf("%d acts refused, the last for %s", floodRefusals, r.Reason), true)
	}
}

// failure notes that the plugin failed. If it counts, and the budget is used up,
// the plugin is quarantined.
func (m *member) failure(what string, err error, counts bool) {
	h := m.hub
	now := h.clock.Now()
	h.mu.Lock()
	m.failed++
	m.lastError = plugbus.CutText(what + ": " + err.Error())
	over := false
	if counts && h.opts.FailureBudget > 0 {
		m.failures = append(slices.DeleteFunc(m.failures, func(t time.Time) bool { return now.Sub(t) > time.Minute }), now)
		over = len(m.failures) > h.opts.FailureBudget && m.state == Ready && m != h.host
		if over {
			m.become(Quarantined)
			m.session.guard.quarantined.Store(true)
		}
	}
	h.mu.Unlock()
	attrs := []any{"what", what, "error", err}
	if p, ok := errors.AsType[*PanicError](err); ok {
		attrs = append(attrs, "stack", p.Stack)
	}
	if p, ok := errors.AsType[*events.PanicError](err); ok {
		attrs = append(attrs, "stack", p.Stack)
	}
	m.session.logger.Error("the plugin failed", attrs...)
	if !over {
		return
	}
	reason := fmt.Sprintf("more than %d failures a minute", h.opts.FailureBudget)
	m.session.logger.Error("the plugin is quarantined: it may do nothing more, and gets nothing more, until Hub.Restore", "reason", reason, "last", what)
	h.record(audit.Entry{Event: "plugin.quarantined", Actor: hubID, Target: m.manifest.ID, Admin: true, Details: []audit.Detail{{Key: "why", Value: reason}, {Key: "last", Value: m.lastErrorText()}}})
	h.announce(Notice{Event: EventQuarantined, Plugin: m.manifest.ID, Version: m.manifest.Version, Reason: reason})
	h.alert(security.Alert{
		Kind: security.PluginQuarantined, Severity: security.High, Plugin: m.manifest.ID,
		Count: uint64(h.opts.FailureBudget) + 1, Threshold: uint64(h.opts.FailureBudget), Time: now,
	})
}

func (m *member) lastErrorText() string {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.lastError
}

// Restore ends the quarantine of a plugin, which goes on with what it had
// subscribed to. The error matches [ErrUnknownPlugin] or [plugbus.ErrInvalid].
func (h *Hub) Restore(id string) error {
	m := h.member(id)
	if m == nil {
		return fmt.Errorf("restore %q: %w", id, ErrUnknownPlugin)
	}
	h.mu.Lock()
	if m.state != Quarantined {
		state := m.state
		h.mu.Unlock()
		return fmt.Errorf("hub: restore %q: the plugin is %v, not quarantined: %w", id, state, plugbus.ErrInvalid)
	}
	m.become(Ready)
	m.failures = nil
	m.session.guard.quarantined.Store(false)
	h.mu.Unlock()
	h.record(audit.Entry{Event: "plugin.restored", Actor: security.HostID, Target: id, Admin: true})
	h.announce(Notice{Event: EventRestored, Plugin: id, Version: m.manifest.Version})
	return nil
}

// failed hears from the events of a delivery that did not go well. It runs on
// the plugin's worker.
func (h *Hub) failed(f events.Failure) {
	m := h.owner(f.Plugin)
	if m == nil {
		return
	}
	_, panicked := errors.AsType[*events.PanicError](f.Err)
	counts := panicked || errors.Is(f.Err, events.ErrGoexit) || errors.Is(f.Err, events.ErrTimedOut)
	h.record(audit.Entry{
		Event: "delivery." + f.Outcome.String(), Actor: f.Plugin, Target: f.Event, Verb: plugbus.VerbSubscribe, Outcome: f.Outcome,
		Details: []audit.Detail{{Key: "source", Value: f.Source}, {Key: "pattern", Value: f.Pattern}, {Key: "site", Value: f.Site}, {Key: "error", Value: f.Err.Error()}},
	})
	if f.Outcome == plugbus.Undeliverable {
		return // The policy's doing, and no failure of the plugin.
	}
	m.failure(fmt.Sprintf("the handler of %q, subscribed at %s", f.Pattern, f.Site), f.Err, counts)
}

// slow hears of handlers that run long.
func (h *Hub) slow(s events.Slow) {
	m := h.owner(s.Plugin)
	if m == nil {
		return
	}
	h.mu.Lock()
	m.slow++
	h.mu.Unlock()
	m.session.logger.Warn("a handler has not returned; while it runs, the plugin handles nothing else: let it obey its context, or set events.Timeout",
		"pattern", s.Pattern, "site", s.Site, "for", s.For)
}

// owner returns the member with an id, also when it has left and something of
// it still runs.
func (h *Hub) owner(id string) *member {
	if m := h.member(id); m != nil {
		return m
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.gone {
		if m.manifest.ID == id {
			return m
		}
	}
	return nil
}
