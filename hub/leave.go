package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// Unregister lets a plugin leave: it gets nothing new, what waits for it is
// handled, its Stop is called, and it is fenced. When ctx is done before that, or
// the hub's wait limit is over, what waits is cancelled and what runs is
// abandoned: then the error says what. After Unregister has returned no call of
// the plugin starts, and everything that it opened is closed. The error also
// matches [ErrUnknownPlugin] for an id that has not joined.
func (h *Hub) Unregister(ctx context.Context, id string) error {
	h.mu.Lock()
	m := h.members[id]
	if m == nil || m.state != Ready && m.state != Quarantined {
		h.mu.Unlock()
		return h.unknown("unregister", id)
	}
	m.become(Draining)
	next := m.successor
	h.mu.Unlock()
	if next != nil {
		next.hurry()
	}
	err := h.leave(ctx, m)
	if next != nil { // It must not go on as a plugin that has left.
		limited, cancel := h.limited(ctx)
		defer cancel()
		err = errors.Join(err, await(limited, next.left))
	}
	m.logLeft(err)
	if err != nil {
		err = fmt.Errorf("hub: unregister %q: %w", id, err)
	}
	h.record(audit.Entry{
		Event: "plugin.unregistered", Actor: security.HostID, Target: id, Admin: true,
		Details: []audit.Detail{{Key: "version", Value: m.manifest.Version}, {Key: "problem", Value: text(err)}},
	})
	h.announce(Notice{Event: EventUnregistered, Plugin: id, Version: m.manifest.Version})
	return err
}

func text(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// leave drains, stops and fences a member, and takes it out of the hub, unless another
// has its place already. It waits no longer than ctx and the wait limit. If the member
// leaves already, it only waits for that; if it has taken the place of one that has not
// left, first for that. What was cut off is noted in the member, so that nobody looks for
// it in the error, which may be the plugin's own.
func (h *Hub) leave(ctx context.Context, m *member) error {
	limited, cancel := h.limited(ctx)
	defer cancel()
	fading, cancelFading := h.fading(limited)
	defer cancelFading()
	if actor.Owner(ctx) == m.actor {
		cancel() // A handler of the plugin lets its own plugin go, and cannot wait for itself.
	}
	h.mu.Lock()
	leaving, failed, before := m.leaving, m.state == Failed, m.before
	m.leaving = true
	if m.state == Ready || m.state == Quarantined {
		m.become(Draining) // Nobody takes its place any more.
	}
	h.mu.Unlock()
	if before != nil {
		if actor.Owner(ctx) == before.actor {
			cancel() // The same, from a handler of the one whose place it has.
		}
		if await(limited, m.settled) != nil {
			before.hurry()
			<-m.settled // It takes a second at most now.
		}
	}
	m.finishTelling()
	if leaving {
		if err := await(limited, m.left); err != nil {
			return fmt.Errorf("it is leaving already, and has not left: %w", err)
		}
		return nil
	}
	defer close(m.left)
	var errs []error
	var undone cutOff
	if failed {
		undone = m.session.closeClients(limited) // What waits for it is cancelled: it never joined.
	} else {
		errs = append(errs, m.stop(limited), undone.add(m.session.client.Close(limited)))
		errs = append(errs, undone.add(m.session.mail.Close(limited)), undone.shut(limited, m.session.keeper))
		m.session.finder.Close()
	}
	m.session.close()
	_ = await(fading, m.session.quiet) // The names say it better.
	if names := m.session.names(); len(names) > 0 {
		errs = append(errs, fmt.Errorf("functions of Session.Go have not returned: %q", names))
	}
	m.session.guard.Leave()
	m.actor.Retire()
	h.mu.Lock()
	if !failed {
		m.become(Stopped)
	}
	if h.members[m.manifest.ID] == m {
		delete(h.members, m.manifest.ID)
		m.lost = h.provides.forget(m.manifest.ID)
	}
	m.yields = false
	h.order = slices.DeleteFunc(h.order, func(other *member) bool { return other == m })
	m.undone.cancelled += undone.cancelled
	m.undone.abandoned += undone.abandoned
	m.problem = errors.Join(errs...)
	h.gone[m] = struct{}{}
	h.forget()
	h.mu.Unlock()
	if !failed { // What failed to start was not there for anybody.
		h.tellDependants(m.lost)
	}
	return errors.Join(errs...)
}

// cutOff counts what a plugin that left had not done.
type cutOff struct{ cancelled, abandoned int }

// add adds what closing one client cut off, and returns the error.
func (u *cutOff) add(err error) error {
	if e, ok := errors.AsType[*events.CloseError](err); ok {
		u.cancelled += e.Cancelled
		u.abandoned += e.Abandoned
	}
	if e, ok := errors.AsType[*router.CloseError](err); ok {
		u.cancelled += e.Cancelled
		u.abandoned += e.Abandoned
	}
	return err
}

// shut closes a client of the stores, of whose plugin one call at a time runs.
func (u *cutOff) shut(ctx context.Context, c *store.Client) error {
	err := c.Close(ctx)
	if err != nil && !c.Ended() {
		u.abandoned++
	}
	return err
}

// logLeft says that the plugin has left, and what went wrong.
func (m *member) logLeft(err error) {
	if err != nil {
		m.session.logger.Warn("the plugin has left, but not everything was done", "problem", err.Error())
		return
	}
	m.session.logger.Info("the plugin has left")
}

// stop drains the plugin and tells it that it leaves.
func (m *member) stop(ctx context.Context) error {
	m.beginDrain()
	stopper, ok := m.plugin.(Stopper)
	if !ok {
		return nil
	}
	for _, drained := range []func(context.Context) error{m.session.client.Drained, m.session.mail.Drained, m.session.keeper.Drained} {
		if err := drained(ctx); err != nil {
			return fmt.Errorf("stop was not called: %w", err)
		}
	}
	err := m.call(ctx, "Stop", func(ctx context.Context) error {
		if !m.started {
			return nil // The hub was closed before it had its turn.
		}
		return stopper.Stop(ctx)
	})
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// beginDrain ends the flow of events, messages and changes of stores to the plugin.
func (m *member) beginDrain() {
	m.session.client.BeginDrain()
	m.session.keeper.BeginDrain()
	m.session.mail.BeginDrain()
}

// await waits until done is closed, and returns nil; or until ctx is done, and
// returns its error.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forget lets go of members that have left and of which nothing runs. hub.mu is
// held.
func (h *Hub) forget() {
	for m := range h.gone {
		if !m.yields && len(m.stuck) == 0 && !m.session.writes.sticks() && m.session.tasks.runs() == "" && len(m.session.names()) == 0 && m.session.client.Ended() && m.session.mail.Ended() && m.session.keeper.Ended() {
			delete(h.gone, m)
		}
	}
}
