package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
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
	h.mu.Unlock()
	_, err := h.leave(ctx, m, false)
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

// leave drains, stops and fences a member, and takes it out of the hub; or, with
// handover, all but that its mail stays for its successor, for which it keeps the
// place. It waits no longer than ctx and the wait limit. If the member leaves
// already, it only waits for that. What was cut off is returned apart, so that
// nobody looks for it in the error, which may be the plugin's own.
func (h *Hub) leave(ctx context.Context, m *member, handover bool) (undone cutOff, err error) {
	limited, cancel := h.limited(ctx)
	defer cancel()
	if actor.Owner(ctx) == m.actor {
		cancel() // A handler of the plugin lets its own plugin go, and cannot wait for itself.
	}
	h.mu.Lock()
	leaving, failed := m.leaving, m.state == Failed
	m.leaving = true
	h.mu.Unlock()
	if leaving {
		if err := await(limited, m.left); err != nil {
			return undone, fmt.Errorf("it is leaving already, and has not left: %w", err)
		}
		return undone, nil
	}
	defer close(m.left)
	var errs []error
	if failed {
		m.session.closeClients(limited) // What waits for it is cancelled: it never joined.
	} else {
		errs = append(errs, m.stop(limited, handover), undone.add(m.session.client.Close(limited)))
		if handover {
			errs = append(errs, undone.add(m.session.mail.Handover(limited)))
		} else {
			errs = append(errs, undone.add(m.session.mail.Close(limited)))
		}
		errs = append(errs, undone.shut(limited, m.session.keeper))
		m.session.finder.Close()
	}
	m.session.close()
	_ = await(limited, m.session.quiet) // The names say it better.
	if names := m.session.names(); len(names) > 0 {
		errs = append(errs, fmt.Errorf("functions of Session.Go have not returned: %q", names))
	}
	m.session.guard.Leave()
	m.actor.Retire()
	h.mu.Lock()
	if !failed {
		m.become(Stopped)
	}
	if h.members[m.manifest.ID] == m && !handover {
		delete(h.members, m.manifest.ID)
	}
	h.order = slices.DeleteFunc(h.order, func(other *member) bool { return other == m })
	m.lost = h.provides.forget(m.manifest.ID)
	h.gone[m] = struct{}{}
	h.forget()
	h.mu.Unlock()
	if !handover && !failed { // What failed to start was not there for anybody.
		h.tellDependants(m.lost)
	}
	return undone, errors.Join(errs...)
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
func (m *member) stop(ctx context.Context, handover bool) error {
	m.beginDrain(handover)
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

// beginDrain ends the flow of events, messages and changes of stores to the plugin, or
// with handover keeps the messages for its successor.
func (m *member) beginDrain(handover bool) {
	m.session.client.BeginDrain()
	m.session.keeper.BeginDrain()
	if handover {
		m.session.mail.Hold()
		return
	}
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
		if len(m.stuck) == 0 && len(m.session.names()) == 0 && m.session.client.Ended() && m.session.mail.Ended() && m.session.keeper.Ended() {
			delete(h.gone, m)
		}
	}
}

// A Report says what was not done when a hub closed.
type Report struct {
	// Cancelled counts the deliveries that waited until there was no more time.
	Cancelled int

	// Abandoned counts the handlers that had not returned by then.
	Abandoned int

	// Problems say what went wrong, plugin by plugin.
	Problems []Problem

	// Leaks are what still runs.
	Leaks []Leak

	// Ledger is the final state of the books.
	Ledger plugbus.Ledger
}

// A Problem is what went wrong when a plugin left.
type Problem struct {
	Plugin string
	Err    error
}

// with returns the report with how a plugin left.
func (r Report) with(id string, undone cutOff, err error) Report {
	if err == nil {
		return r
	}
	r.Problems = append(r.Problems, Problem{id, err})
	r.Cancelled += undone.cancelled
	r.Abandoned += undone.abandoned
	return r
}

// Clean reports whether everything was done and nothing is left.
func (r Report) Clean() bool {
	return r.Cancelled == 0 && r.Abandoned == 0 && len(r.Problems) == 0 && len(r.Leaks) == 0
}

// Close ends the hub: nothing is accepted any more, what waits is handled, the
// plugins are stopped in the reverse order of their start, and the audit log is
// flushed. It waits no longer than ctx and, for each plugin, the wait limit. The
// report says what was not done; the error is ctx.Err() if ctx was done before
// all was, or that of a sink of the audit log. Later calls wait for the first and
// return the same; but one with the context of a call into a plugin, for which the
// first may wait, returns [ErrClosed] until that is done.
func (h *Hub) Close(ctx context.Context) (Report, error) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return h.awaitClose(ctx)
	}
	h.closing = true
	h.unclosed.Store(false)
	leaving := slices.Clone(h.order)
	for _, m := range h.members {
		if m.state == Starting && !slices.Contains(leaving, m) {
			leaving = append(leaving, m)
		}
	}
	for _, m := range leaving {
		m.become(Draining)
	}
	h.mu.Unlock()
	if actor.Owner(ctx) != nil {
		var cancel context.CancelFunc
		ctx, cancel = outlive(ctx)
		defer cancel()
	}

	h.bus.CloseIntake()
	h.router.CloseIntake()
	for _, m := range leaving {
		m.beginDrain(false)
	}
	var report Report
	for _, m := range slices.Backward(leaving) {
		undone, err := h.leave(ctx, m, false)
		m.logLeft(err)
		report = report.with(m.manifest.ID, undone, err)
	}
	undone, err := h.leave(ctx, h.host, false)
	report = report.with(security.HostID, undone, err)
	err = h.shut(ctx)
	report.Leaks = h.Leaks()
	report.Ledger = h.Ledger()
	h.report, h.closeErr = report, err
	close(h.closed)
	if !report.Clean() {
		h.logger.WarnContext(ctx, "the hub has closed, but not everything was done",
			"cancelled", report.Cancelled, "abandoned", report.Abandoned, "problems", len(report.Problems), "leaks", len(report.Leaks))
	}
	return report, err
}

// awaitClose returns what the first call of Close returned.
func (h *Hub) awaitClose(ctx context.Context) (Report, error) {
	inside := actor.Owner(ctx) != nil
	if inside {
		ctx = ended(ctx)
	}
	err := await(ctx, h.closed)
	if inside && err != nil {
		return Report{}, fmt.Errorf("the hub closes already, and may wait for this very call: %w", ErrClosed)
	}
	if err != nil {
		return Report{}, fmt.Errorf("hub: wait for the hub to close: %w", err)
	}
	return h.report, h.closeErr
}

// outlive returns the context for a handler that closes the hub: its own ends
// when its plugin leaves, which must not cut off those that come after.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	if limited {
		return context.WithDeadline(ctx, deadline)
	}
	return ctx, func() {}
}

// shut ends the parts.
func (h *Hub) shut(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, h.opts.WaitLimit)
	defer cancel()
	var errs []error
	told := h.desk.close()
	_ = h.self.Close(limited) // It has no subscriptions.
	_ = h.bus.Close(limited)  // Its clients have left.
	_ = h.router.Close(limited)
	errs = append(errs, h.stores.Close(limited))
	if len(h.Leaks()) > 0 || actor.Owner(ctx) != nil {
		_ = h.actors.Close(ended(limited)) // Who leaks, or closes the hub, is not waited for again.
	} else if err := h.actors.Close(limited); err != nil {
		errs = append(errs, fmt.Errorf("hub: a worker has not ended: %w", err))
	}
	h.record(audit.Entry{Event: "hub.closed", Actor: security.HostID, Admin: true})
	errs = append(errs, h.log.Close(limited))
	if err := await(limited, told); err != nil { // Last, so that the host's own code keeps nothing else from its end.
		errs = append(errs, fmt.Errorf("hub: a callback of the host (NoticeBoard or OnAlert) has not returned: %w", err))
	}
	return cmp.Or(ctx.Err(), errors.Join(errs...))
}
