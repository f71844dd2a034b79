package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/security"
)

// Replace puts a plugin in the place of the one that has joined under its id, and loses
// nothing: no event, message, publication or change of a store, and none comes twice.
//
// First the new plugin starts, while the old one keeps serving everything. Its session
// acts at once, as the id, with its grant and its rates. What it opens to be called is
// checked at once and held: subscriptions, handlers, capabilities, watches and
// validators, and no function of it is called but Start. If Start fails, or does not
// return in time, or the policy no longer lets the plugin have its place, or the hub
// closes, the new plugin is discarded with all that it has opened, its Stop being called
// if it had started, and the old one has not noticed; but what the new one did, such as
// to write to a store, is done.
//
// If Start succeeds, the place changes hands in one step. Of each event one of the two
// has all deliveries: the old one up to this step, the new one after it, for which a
// subscription that begins with the history begins here. Messages and publications that
// wait are for the new one, in their order; those of a type that it does not handle are
// undeliverable. The watches of the old one end with the revision that the store has,
// and those of the new one begin after it. What both provide is never absent from what
// others find, and a [Dependant] hears of what only the old one did.
//
// Then the old one handles the events and changes that it has, what it runs ends, its
// Stop is called, and it is fenced. Until that is done no handler of the new one begins.
// When ctx is done before, or the hub's wait limit is over, what waits for the old one is
// cancelled and what runs is abandoned, which is no error: Leaks names it. So is what
// waits and runs when a handler of the old one itself calls Replace with its own context,
// since nobody can wait for it. After Replace has returned no call of the old one starts,
// and the validators of its stores are those that the new one has set; there is none
// between them, and meanwhile those of the old one decide. To set them Replace may take a
// second more than ctx has; one that cannot be set by then is lost, which the log and the
// audit log tell.
//
// A plugin in quarantine can be replaced; the new one is ready. A plugin that is
// unregistered while the new one starts leaves, and the new one does not join. Nor does
// it if the host calls [Hub.Quarantine] meanwhile, from which on the new one may do
// nothing more either.
//
// The error has a [*RegisterError] if the new plugin does not join, as that of
// [Hub.Register]. It matches [ErrUnknownPlugin] for an id that has not joined or leaves,
// [ErrReplacing] for one that is being replaced already, [ErrQuarantined] for one that the
// host has put in quarantine meanwhile, or [ErrClosed].
func (h *Hub) Replace(ctx context.Context, p Plugin) error {
	m, err := h.newMember(ctx, p)
	if err != nil {
		return replacing(err)
	}
	starting, hurry := context.WithCancel(ctx)
	defer hurry()
	m.held, m.settled, m.hurry = true, make(chan struct{}), hurry
	old, err := h.engage(m) //nolint:contextcheck // A session outlives the call.
	if err != nil {
		return replacing(err)
	}
	failed := h.launch(starting, m)
	leaving, hurry := context.WithCancel(ctx)
	defer hurry()
	lost, err := h.succeed(old, m, failed, hurry)
	if err != nil {
		err = replacing(err)
		h.discard(ctx, m, err)
		return err
	}
	h.tellDependants(lost)
	h.tellMissing(m, lost)
	if actor.Owner(ctx) == old.actor {
		var cancel context.CancelFunc
		ctx, cancel = outlive(ctx) // The old one's contexts have ended when the new one settles.
		defer cancel()
	}
	err = h.leave(leaving, old)
	old.logLeft(err)
	if err := m.settle(ctx, old, err); err != nil {
		m.session.logger.WarnContext(ctx, "the new version of the plugin has its place, but not all validators that it has set are those of their stores", "problem", err.Error())
	}
	m.session.logger.InfoContext(ctx, "the plugin was replaced", "version", m.manifest.Version, "before", old.manifest.Version)
	return nil
}

// engage checks whether m may take the place of the plugin with its id, and gives it a
// session that is held.
func (h *Hub) engage(m *member) (old *member, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := m.manifest.ID
	old = h.members[id]
	switch {
	case h.closing:
		return nil, fmt.Errorf("replace %q: %w", id, ErrClosed)
	case old == nil:
		return nil, fmt.Errorf("replace %q: %w has joined under this id; Register this one, or give it the id of the one whose place it takes", id, ErrUnknownPlugin)
	case old.state != Ready && old.state != Quarantined:
		return nil, fmt.Errorf("replace %q: %w has its place there: it is %v; wait until Register or Unregister has returned", id, ErrUnknownPlugin, old.state)
	case old.successor != nil || old.before != nil:
		return nil, fmt.Errorf("replace %q: %w; wait until that is done", id, ErrReplacing)
	}
	subject, err := h.authority.Join(id)
	if err != nil { // The policy no longer has it.
		return nil, &RegisterError{id, "policy", err}
	}
	err = h.mayDeclare(subject, m.manifest)
	if err == nil {
		_, err = h.sort([]*member{m}, old)
	}
	if err != nil {
		subject.Leave()
		return nil, err
	}
	if err := m.join(subject); err != nil {
		return nil, &RegisterError{id, "policy", err}
	}
	m.become(Starting)
	old.successor = m
	return old, nil
}

// succeed puts m, whose Start has returned failed, in the place of old, and returns what
// nobody of the id provides any more. From then on hurry cuts the leaving of old short.
func (h *Hub) succeed(old, m *member, failed error, hurry context.CancelFunc) (lost []string, err error) {
	lost, err = h.change(old, m, failed, hurry)
	if e, ok := errors.AsType[*RegisterError](err); ok && failed == nil && !errors.Is(err, ErrClosed) {
		h.recordFailed(m, e.Stage, e.Err)
	}
	return lost, err
}

// change is succeed, but for the record: one step, under hub.mu.
func (h *Hub) change(old, m *member, failed error, hurry context.CancelFunc) (lost []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := m.manifest.ID
	old.successor = nil
	switch {
	case h.closing && failed != nil:
		err = &RegisterError{id, "start", fmt.Errorf("%w: %w", ErrClosed, failed)}
	case h.closing:
		err = &RegisterError{id, "start", ErrClosed}
	case old.state != Ready && old.state != Quarantined:
		err = &RegisterError{id, "start", fmt.Errorf("%w: the one whose place it was to take has left meanwhile", ErrUnknownPlugin)}
	case m.barred:
		err = &RegisterError{id, "start", fmt.Errorf("%w: the host has put it there meanwhile; replace it again, or call Hub.Restore", ErrQuarantined)}
	case failed != nil:
		err = &RegisterError{id, "start", failed}
	default:
		err = h.maySucceed(m)
	}
	s, was := m.session, old.session
	for _, take := range []func() error{ // All of them can, or the first cannot.
		func() error { return s.client.Succeed(was.client) },
		func() error { return s.mail.Succeed(was.mail) },
		func() error { return s.keeper.Succeed(was.keeper) },
		func() error { return s.finder.Succeed(was.finder) },
	} {
		if err == nil {
			err = take()
		}
	}
	if err != nil {
		if m.state == Starting {
			m.become(Draining)
		}
		if failed != nil && !h.closing {
			m.become(Failed)
		}
		m.yields = !m.leaving  // Unless Close has it leave, or has had it.
		h.gone[m] = struct{}{} // So that whoever closes the hub, or looks at it, finds it.
		return nil, err
	}
	old.become(Draining)
	m.become(Ready)
	h.members[id] = m
	h.order[slices.Index(h.order, old)] = m
	m.before, old.yields, old.hurry = old, true, hurry
	h.gone[old] = struct{}{}
	return s.list(was), nil
}

// maySucceed asks once more what engage has asked, since the policy may have changed.
// hub.mu is held.
func (h *Hub) maySucceed(m *member) error {
	subject, err := h.authority.Join(m.manifest.ID)
	if err != nil {
		return &RegisterError{m.manifest.ID, "policy", err}
	}
	defer subject.Leave()
	return h.mayDeclare(subject, m.manifest)
}

// discard takes a member that did not get its place, for which err says why, out again.
// One that had started is stopped; what still runs is left to Leaks.
func (h *Hub) discard(ctx context.Context, m *member, err error) {
	m.session.tasks.settle()
	attrs := []any{"version", m.manifest.Version, "error", textOf(err)}
	if problem := h.leave(context.WithoutCancel(ctx), m); problem != nil {
		attrs = append(attrs, "problem", problem.Error())
	}
	m.session.logger.WarnContext(ctx, "the new version of the plugin did not join", attrs...)
}

// settleGrace is how long after the end of its context [Hub.Replace] may still wait until
// the validators of the new plugin are those of their stores.
const settleGrace = time.Second

// settle lets the plugin be called, after old, whose place it has taken, has left with a
// problem or none, and tells of that. The error is about its validators.
func (m *member) settle(ctx context.Context, old *member, problem error) error {
	h, s := m.hub, m.session
	later, cancelLater := graced(ctx, settleGrace) // For old may have used up all the time.
	defer cancelLater()
	limited, cancel := h.limited(later)
	defer cancel()
	s.client.Settle() //nolint:contextcheck // A handler's context comes from its plugin.
	s.mail.Settle()
	err := s.keeper.Settle(limited)
	s.tasks.settle()
	h.record(audit.Entry{ // Before anybody can hear that the new one leaves.
		Event: "plugin.replaced", Actor: security.HostID, Target: m.manifest.ID, Admin: true,
		Details: []audit.Detail{
			{Key: "version", Value: m.manifest.Version},
			{Key: "before", Value: old.manifest.Version},
			{Key: "problem", Value: text(errors.Join(problem, err))},
		},
	})
	h.announce(Notice{Event: EventReplaced, Plugin: m.manifest.ID, Version: m.manifest.Version})
	h.mu.Lock()
	m.before = nil
	h.mu.Unlock()
	close(m.settled)
	return err
}

// mayDeclare reports whether the policy lets a plugin provide and require what its
// manifest says. hub.mu is held.
func (h *Hub) mayDeclare(subject *security.Subject, manifest Manifest) error {
	for _, c := range manifest.Provides {
		if p := subject.Permit(plugbus.VerbProvide, c.Name); !p.Allowed() {
			return &RegisterError{manifest.ID, "policy", h.refuse(subject, plugbus.Refusal{Verb: plugbus.VerbProvide, Object: c.Name, Reason: p.Reason})}
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(manifest.Requires))) {
		if p := subject.Permit(plugbus.VerbDiscover, name); !p.Allowed() {
			return &RegisterError{manifest.ID, "policy", h.refuse(subject, plugbus.Refusal{Verb: plugbus.VerbDiscover, Object: name, Reason: p.Reason})}
		}
	}
	return nil
}
