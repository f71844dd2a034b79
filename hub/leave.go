package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/security"
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
	if m == nil || m.state == Starting || m.state == Draining {
		h.mu.Unlock()
		return fmt.Errorf("unregister %q: %w", id, ErrUnknownPlugin)
	}
	m.become(Draining)
	h.mu.Unlock()
	err := h.leave(ctx, m, Stopped)
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

// leave drains, stops and fences a member, and takes it out of the hub. It waits
// no longer than ctx and the wait limit.
func (h *Hub) leave(ctx context.Context, m *member, end State) error {
	limited, cancel := m.limited(ctx)
	defer cancel()
	if actor.Owner(ctx) == m.actor {
		cancel() // A handler of the plugin lets its own plugin go, and cannot wait for itself.
	}
	var errs []error
	m.session.client.BeginDrain()
	if stopper, ok := m.plugin.(Stopper); ok && end == Stopped {
		if err := m.session.client.Drained(limited); err == nil {
			if err := m.call(limited, "Stop", stopper.Stop); err != nil {
				errs = append(errs, fmt.Errorf("stop: %w", err))
			}
		} else {
			errs = append(errs, fmt.Errorf("stop was not called: %w", err))
		}
	}
	errs = append(errs, m.session.client.Close(limited))
	m.session.close()
	select {
	case <-m.session.quiet:
	default:
		select {
		case <-m.session.quiet:
		case <-limited.Done():
		case <-ctx.Done():
		}
	}
	if names := m.session.names(); len(names) > 0 {
		errs = append(errs, fmt.Errorf("functions of Session.Go have not returned: %q", names))
	}
	m.session.guard.Leave()
	m.actor.Retire()
	h.mu.Lock()
	defer h.mu.Unlock()
	m.become(end)
	if h.members[m.manifest.ID] == m {
		delete(h.members, m.manifest.ID)
	}
	h.order = slices.DeleteFunc(h.order, func(other *member) bool { return other == m })
	h.provide(m.manifest.ID, nil)
	h.gone[m] = struct{}{}
	h.forget()
	return errors.Join(errs...)
}

// forget lets go of members that have left and of which nothing runs. hub.mu is
// held.
func (h *Hub) forget() {
	for m := range h.gone {
		if len(m.stuck) == 0 && len(m.session.names()) == 0 && m.session.client.Ended() {
			delete(h.gone, m)
		}
	}
}

// A Report says what was not done when a hub closed.
type Report struct {
	// Cancelled are deliveries that had been accepted and were not started.
	Cancelled uint64

	// Abandoned are deliveries whose handler had not returned.
	Abandoned uint64

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

// Clean reports whether everything was done and nothing is left.
func (r Report) Clean() bool {
	return r.Cancelled == 0 && r.Abandoned == 0 && len(r.Problems) == 0 && len(r.Leaks) == 0
}

// Close ends the hub: nothing is accepted any more, what waits is handled, the
// plugins are stopped in the reverse order of their start, and the audit log is
// flushed. It waits no longer than ctx and, for each plugin, the wait limit. The
// report says what was not done; the error is ctx.Err() if ctx was done before
// all was, or that of a sink of the audit log. Later calls wait for the first and
// return the same.
func (h *Hub) Close(ctx context.Context) (Report, error) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		select {
		case <-h.closed:
			return h.report, h.closeErr
		case <-ctx.Done():
			return Report{}, fmt.Errorf("hub: wait for the hub to close: %w", ctx.Err())
		}
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

	before := h.Ledger()
	h.bus.CloseIntake()
	for _, m := range leaving {
		m.session.client.BeginDrain()
	}
	var report Report
	for _, m := range slices.Backward(leaving) {
		if err := h.leave(ctx, m, Stopped); err != nil {
			report.Problems = append(report.Problems, Problem{m.manifest.ID, err})
		}
	}
	if err := h.leave(ctx, h.host, Stopped); err != nil {
		report.Problems = append(report.Problems, Problem{security.HostID, err})
	}
	err := h.shut(ctx)
	report.Leaks = h.Leaks()
	report.Ledger = h.Ledger()
	report.Cancelled = report.Ledger.Cancelled - before.Cancelled
	report.Abandoned = report.Ledger.Abandoned - before.Abandoned
	h.report, h.closeErr = report, err
	close(h.closed)
	if !report.Clean() {
		h.logger.Warn("the hub has closed, but not everything was done",
			"cancelled", report.Cancelled, "abandoned", report.Abandoned, "problems", len(report.Problems), "leaks", len(report.Leaks))
	}
	return report, err
}

// shut ends the parts.
func (h *Hub) shut(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, h.opts.WaitLimit)
	defer cancel()
	var errs []error
	_ = h.self.Close(limited) // It has no subscriptions.
	_ = h.bus.Close(limited)  // Its clients have left.
	select {
	case <-h.desk.close():
	case <-limited.Done():
		errs = append(errs, fmt.Errorf("hub: a callback of the host (NoticeBoard or OnAlert) has not returned: %w", limited.Err()))
	}
	h.record(audit.Entry{Event: "hub.closed", Actor: security.HostID, Admin: true})
	errs = append(errs, h.log.Close(limited))
	if err := h.actors.Close(limited); err != nil && len(h.Leaks()) == 0 {
		errs = append(errs, fmt.Errorf("hub: a worker has not ended: %w", err))
	}
	return cmp.Or(ctx.Err(), errors.Join(errs...))
}
