package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/security"
)

// Replace puts a plugin in the place of the one that has joined under its id. The
// old one gets nothing new, handles the events that it has, is stopped, and is
// fenced; the new one starts with a session of its own. Messages and publications
// that come meanwhile, and those that still waited, are kept for the new one; but
// messages of a type that it does not handle are undeliverable. Events are not
// kept: a plugin that needs those of the meantime starts its subscription with the
// history. Nor are its capabilities found until the new plugin provides them.
//
// When ctx is done before the old plugin has ended, or the hub's wait limit is
// over, what runs is abandoned, which is no error: Leaks names it. If the new
// plugin does not start, neither of them is there any more, what waited is
// cancelled, and the error is a [*RegisterError]. The error also matches
// [ErrUnknownPlugin] for an id that has not joined, or [ErrClosed].
func (h *Hub) Replace(ctx context.Context, p Plugin) error {
	m, err := h.newMember(ctx, p)
	if err != nil {
		return err
	}
	old, err := h.makeWay(m)
	if err != nil {
		return err
	}
	id := m.manifest.ID
	if actor.Owner(ctx) == old.actor {
		var cancel context.CancelFunc
		ctx, cancel = outlive(ctx) // The new plugin starts when the old one's contexts have ended.
		defer cancel()
	}
	_, err = h.leave(ctx, old, true)
	old.logLeft(err)
	problem := text(err)
	if err := h.succeed(ctx, old, m); err != nil {
		h.router.Drop(id)
		h.record(audit.Entry{
			Event: "plugin.unregistered", Actor: security.HostID, Target: id, Admin: true,
			Details: []audit.Detail{{Key: "version", Value: old.manifest.Version}, {Key: "problem", Value: "its successor has not started: " + textOf(err)}},
		})
		h.announce(Notice{Event: EventUnregistered, Plugin: id, Version: old.manifest.Version})
		h.tellDependants(old.lost)
		return err
	}
	h.record(audit.Entry{
		Event: "plugin.replaced", Actor: security.HostID, Target: id, Admin: true,
		Details: []audit.Detail{{Key: "version", Value: m.manifest.Version}, {Key: "before", Value: old.manifest.Version}, {Key: "problem", Value: problem}},
	})
	m.session.logger.InfoContext(ctx, "the plugin was replaced", "version", m.manifest.Version, "before", old.manifest.Version)
	h.announce(Notice{Event: EventReplaced, Plugin: id, Version: m.manifest.Version})
	h.tellDependants(old.lost) // Of which the new one may lack some.
	return nil
}

// makeWay checks whether m may take the place of the plugin with its id, and lets
// that one drain.
func (h *Hub) makeWay(m *member) (old *member, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := m.manifest.ID
	old = h.members[id]
	switch {
	case h.closing:
		return nil, fmt.Errorf("replace %q: %w", id, ErrClosed)
	case old == nil || old.state != Ready && old.state != Quarantined:
		return nil, fmt.Errorf("replace %q: %w", id, ErrUnknownPlugin)
	}
	probe, err := h.authority.Join(id)
	if err != nil { // The policy no longer has it.
		return nil, &RegisterError{id, "policy", err}
	}
	defer probe.Leave()
	if err := h.mayDeclare(probe, m.manifest); err != nil {
		return nil, err
	}
	if _, err := h.sort([]*member{m}, old); err != nil {
		return nil, err
	}
	old.become(Draining)
	return old, nil
}

// succeed enters and starts m in the place of old, which has left.
func (h *Hub) succeed(ctx context.Context, old, m *member) error {
	id := m.manifest.ID
	h.mu.Lock()
	if h.members[id] == old {
		delete(h.members, id)
	}
	if h.closing {
		h.mu.Unlock()
		return fmt.Errorf("replace %q: %w", id, ErrClosed)
	}
	err := h.enter(m) //nolint:contextcheck // A session outlives the call.
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if err := h.start(ctx, m); err != nil {
		_, left := h.leave(context.WithoutCancel(ctx), m, false)
		return errors.Join(err, left)
	}
	return nil
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
