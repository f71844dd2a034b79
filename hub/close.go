package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/security"
)

// A Report says what was not done when a hub closed.
type Report struct { //nolint:recvcheck // It is a value to those who read it.
	// Cancelled counts the deliveries that waited until there was no more time, or until
	// their sender had left.
	Cancelled int

	// Abandoned counts the handlers that had not returned by then.
	Abandoned int

	// Problems say what went wrong, plugin by plugin, in the order in which they were
	// to stop. The host's own session is the last.
	Problems []Problem

	// Leaks are what still runs.
	Leaks []Leak

	// Ledger is the final state of the books: nothing waits and nothing runs, and
	// nothing that returns later changes them.
	Ledger plugbus.Ledger
}

// A Problem is what went wrong when a plugin left.
type Problem struct {
	Plugin string
	Err    error

	// Cancelled and Abandoned are the plugin's part of those of the [Report].
	Cancelled, Abandoned int
}

// add adds how a plugin left.
func (r *Report) add(id string, undone cutOff, err error) {
	if undone == (cutOff{}) && err == nil {
		return
	}
	if err == nil {
		err = errors.New("it had not started, and what waited for it was cancelled")
	}
	r.Problems = append(r.Problems, Problem{id, err, undone.cancelled, undone.abandoned})
	r.Cancelled += undone.cancelled
	r.Abandoned += undone.abandoned
}

// Clean reports whether everything was done and nothing is left.
func (r Report) Clean() bool {
	return r.Cancelled == 0 && r.Abandoned == 0 && len(r.Problems) == 0 && len(r.Leaks) == 0
}

// CloseGrace is how long after the end of its context [Hub.Close] may still return.
// Functions of Session.Go have half of it to end in; and persistent stores and the sinks
// of the audit log have it to write what they have, however little was left for them.
const CloseGrace = time.Second

// Close ends the hub: nothing is accepted any more; what waits is handled, by all plugins
// at once; when that is done, or after half of the time that there is, the plugins are
// stopped and fenced in the reverse order of their start. Then the stores are closed, the
// audit log is flushed, and the host's own callbacks get the rest of what they are owed.
//
// The time ends when ctx is done, or after one wait limit for all plugins together. A
// plugin holds up those before it for an equal share of what is left of it, and goes on
// beside them after that. At the end what waits is cancelled and what runs is
// abandoned; what has not returned a tenth of CloseGrace later is a leak. So however many
// hang, Close returns at most [CloseGrace] after ctx is done, and at most three times the wait limit and CloseGrace after the call: one limit for the
// plugins, one for the stores and workers, and one for the sinks and callbacks. An
// Options.Logger that is slow, or does not return, makes it a second more: what it has not
// taken by then is dropped and counted.
//
// The report says what was not done, by plugins that were leaving already too. A plugin
// that hangs until the wait limit is over is no error: see [Report.Clean]. The error
// matches ctx.Err() if ctx was done before all was, and tells of sinks, stores and
// callbacks that did not end. When Close has returned, every call of every session
// returns [ErrClosed], and what returns late changes nothing.
//
// A handler may close the hub. Its plugin is not waited for, if ctx is that of the
// handler; which ends with the plugin, so that only its deadline counts.
//
// Later calls wait for the first and return the same; but one with the context of a call
// into a plugin, for which the first may wait, returns [ErrClosed] until that is done.
func (h *Hub) Close(ctx context.Context) (Report, error) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return h.awaitClose(ctx)
	}
	h.closing = true
	close(h.begun)
	h.unclosed.Store(false)
	leaving := h.everybody()
	h.mu.Unlock()
	if actor.Owner(ctx) != nil {
		var cancel context.CancelFunc
		ctx, cancel = outlive(ctx)
		defer cancel()
	}
	h.bus.CloseIntake()
	h.router.CloseIntake()
	for _, m := range leaving {
		if m != h.host {
			m.beginDrain()
		}
	}
	parts, cancelParts := graced(ctx, CloseGrace/2)
	defer cancelParts()
	last, cancelLast := graced(ctx, CloseGrace)
	defer cancelLast()
	moment, cancelMoment := graced(h.cutoff, obedience)
	defer cancelMoment()
	h.dismiss(ctx, leaving)
	report := h.departures(parts, leaving)
	if len(report.Problems) == 0 {
		cancelMoment() // All ended in time: what leaks is from before.
	}
	err := h.shut(moment, parts, last)
	err = errors.Join(ctx.Err(), err)
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

// everybody returns the members that have not left, those that are joining included, in
// the reverse of the order in which they are to stop. They drain from now on. hub.mu is
// held.
func (h *Hub) everybody() []*member {
	all := append([]*member{h.host}, h.order...)
	for _, m := range h.members {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
		if m.successor != nil {
			all = append(all, m.successor)
		}
	}
	for m := range h.gone {
		if m.yields {
			all = append(all, m)
		}
	}
	for _, m := range all {
		if m != h.host && m.state != Failed {
			m.become(Draining)
		}
	}
	return all
}

// dismiss lets members leave: it waits for all to handle what they have, for half of the
// time at most, and then has them stop, the last first. None waits for one before it for
// longer than its share of the time, and none of them has more time than all have.
func (h *Hub) dismiss(ctx context.Context, leaving []*member) {
	limited, cancel := context.WithTimeout(ctx, h.opts.WaitLimit)
	defer cancel()
	cut := func(why error) {
		h.cut(why)
		h.writes.hurry()
	}
	defer cut(nil)
	defer context.AfterFunc(limited, func() { cut(limited.Err()) })() // Who was leaving already has no more time either.
	end, _ := limited.Deadline()
	h.drain(limited, time.Until(end)/2, leaving)
	var wait sync.WaitGroup
	for i, m := range slices.Backward(leaving) {
		gone := make(chan struct{})
		wait.Go(func() { // Ends with limited.
			defer close(gone)
			err := h.leave(limited, m)
			if m != h.host {
				m.logLeft(err)
			}
		})
		turn := time.NewTimer(time.Until(end) / time.Duration(i+1))
		select {
		case <-gone:
		case <-turn.C:
		case <-limited.Done():
		}
		turn.Stop()
	}
	wait.Wait()
}

// drain waits until the plugins have handled what they have, all at once, so that none
// leaves while another still has something for it, such as a reply.
func (h *Hub) drain(ctx context.Context, limit time.Duration, leaving []*member) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, m := range leaving {
		if m == h.host || m.actor == actor.Owner(ctx) { // The host is the last, and who closes the hub waits for us.
			continue
		}
		for _, drained := range []func(context.Context) error{m.session.client.Drained, m.session.mail.Drained, m.session.keeper.Drained} {
			if drained(limited) != nil {
				break
			}
		}
	}
}

// departures returns the report of how members have left. Those that were leaving already
// are waited for: they have no more time, so it takes none.
func (h *Hub) departures(ctx context.Context, leaving []*member) (report Report) {
	for _, m := range slices.Backward(leaving) {
		late := await(ctx, m.left)
		h.mu.Lock()
		undone, err := m.undone, m.problem
		h.mu.Unlock()
		if late != nil {
			err = fmt.Errorf("it was leaving already, and has not left: %w", late)
		}
		undone.cancelled += m.session.mail.Orphans()
		report.add(m.manifest.ID, undone, err)
	}
	return report
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

// graced returns a context that ends some time after ctx has ended.
func graced(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { // Ends with later, which its owner cancels.
		select {
		case <-time.After(grace):
			cancel(context.Cause(ctx))
		case <-later.Done():
		}
	})
	return later, func() {
		stop()
		cancel(nil)
	}
}

// fading returns the context for functions of Session.Go to end in, when their session
// has ended after limited. While the hub closes they have a grace, since the sessions of
// all may end at its last moment.
func (h *Hub) fading(limited context.Context) (context.Context, context.CancelFunc) {
	if !h.isClosing() {
		return limited, func() {}
	}
	return graced(limited, CloseGrace/2)
}

// obedience is how long what was abandoned at the end of the time has to return, since its
// context has ended only then. What does not is a leak.
const obedience = CloseGrace / 10

// shut ends the parts. The audit log comes after all that is recorded, with a time of its
// own; and the host's own code comes last, so that it keeps nothing else from its end. Until
// moment ends what obeys its context may still return.
func (h *Hub) shut(moment, parts, last context.Context) error {
	parts, cancel := context.WithTimeout(parts, h.opts.WaitLimit)
	defer cancel()
	told := h.desk.close()
	_ = h.self.Close(parts) // It has no subscriptions.
	_ = h.bus.Close(parts)  // Its clients have left.
	_ = h.router.Close(parts)
	errs := []error{h.stores.Close(parts)}
	h.observer.retire()
	if actor.Owner(parts) != nil {
		_ = h.actors.Close(ended(parts)) // Who closes the hub is not waited for.
	} else if len(h.Leaks()) > 0 {
		_ = h.actors.Close(moment) // Who leaks is not waited for again.
	} else if err := h.actors.Close(parts); err != nil {
		errs = append(errs, fmt.Errorf("hub: a worker has not ended: %w", err))
	}
	h.record(audit.Entry{Event: "hub.closed", Actor: security.HostID, Admin: true})
	last, cancelLast := context.WithTimeout(last, h.opts.WaitLimit)
	defer cancelLast()
	errs = append(errs, h.log.Close(last), h.writes.quiet(last))
	if err := await(last, told); err != nil {
		h.desk.giveUp()
		errs = append(errs, fmt.Errorf("hub: a callback of the host (NoticeBoard or OnAlert) has not returned: %w", err))
	}
	errs = append(errs, h.observer.close(last))
	return errors.Join(errs...)
}

// callbacks returns the names of the host's callbacks that Close, or for the Logger
// whoever logged, has given up on and that have not returned.
func (h *Hub) callbacks() (names []string) {
	if h.desk.hangs() {
		names = append(names, "NoticeBoard or OnAlert")
	}
	if h.observer.hangs() {
		names = append(names, "Observer")
	}
	if h.writes.sticks() {
		names = append(names, "Logger")
	}
	return names
}
