package hub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// eventFailed hears from the events of a delivery that did not go well. It runs on
// the plugin's worker.
func (h *Hub) eventFailed(f events.Failure) {
	m, ok := f.Owner.(*member)
	if !ok {
		return
	}
	entry := audit.Entry{
		Event: "delivery." + f.Outcome.String(), Actor: f.Plugin, Target: f.Event, Verb: plugbus.VerbSubscribe, Outcome: f.Outcome,
		Details: []audit.Detail{{Key: "source", Value: f.Source}, {Key: "pattern", Value: f.Pattern}, {Key: "site", Value: f.Site}, {Key: "error", Value: textOf(f.Err)}},
	}
	if f.Outcome == plugbus.Undeliverable { // The policy's doing, and no failure of the plugin.
		entry.Reason = m.session.guard.Permit(plugbus.VerbSubscribe, f.Event).Reason
		h.record(entry)
		return
	}
	h.record(entry)
	cause := f.Err
	if cause == events.ErrClosed { //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
		cause = errLeftBehind
	}
	counts := f.Err == events.ErrGoexit || f.Err == events.ErrTimedOut //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
	if _, panicked := f.Err.(*events.PanicError); panicked {           //nolint:errorlint // The same.
		counts = true
	}
	what := fmt.Sprintf("the handler of %q, subscribed at %s", f.Pattern, f.Site)
	if f.Pattern == "" {
		what = "ReceiveEvent"
	}
	m.failure(what, cause, counts)
}

var errLeftBehind = errors.New("it had not returned when the plugin left; Hub.Leaks names it until it does")

// eventSlow hears of handlers of events that run long.
func (h *Hub) eventSlow(s events.Slow) {
	h.slow(s.Owner, s.Site, s.For, "pattern", s.Pattern, "set events.Timeout")
}

// slow notes that a handler runs long, and says what may help.
func (h *Hub) slow(owner any, site string, d time.Duration, kind, name, remedy string) {
	m, ok := owner.(*member)
	if !ok {
		return
	}
	h.mu.Lock()
	m.slow++
	h.mu.Unlock()
	m.session.logger.Warn("a handler has not returned; unless it is concurrent, the plugin handles nothing else while it runs: let it obey its context, or "+remedy,
		kind, name, "site", site, "for", d)
}

// messageFailed hears from the router of a delivery that did not go well. It runs
// on the plugin's worker, or where the handler was abandoned.
func (h *Hub) messageFailed(f router.Failure) {
	m, ok := f.Owner.(*member)
	if !ok {
		return
	}
	entry := audit.Entry{
		Event: "delivery." + f.Outcome.String(), Actor: f.Plugin, Target: f.From, Verb: plugbus.VerbReceive, Outcome: f.Outcome,
		Details: []audit.Detail{
			{Key: "from", Value: f.From},
			{Key: "type", Value: f.Type},
			{Key: "kind", Value: f.Kind.String()},
			{Key: "message", Value: f.ID.String()},
			{Key: "site", Value: f.Site},
			{Key: "error", Value: textOf(f.Err)},
		},
	}
	if f.Kind == router.KindPublish {
		entry.Target, entry.Verb = f.Type, plugbus.VerbConsume
	}
	if f.Outcome == plugbus.Undeliverable { // The policy's doing, or a handler's that is gone, and no failure of the plugin.
		if denied, ok := errors.AsType[*plugbus.DeniedError](f.Err); ok { // It is the router's.
			entry.Reason = denied.Reason
		}
		h.record(entry)
		return
	}
	h.record(entry)
	cause := f.Err
	if cause == router.ErrTargetLeft { //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
		cause = errLeftBehind
	}
	counts := f.Outcome == plugbus.Abandoned && f.Err != router.ErrTargetLeft || f.Err == router.ErrGoexit //nolint:errorlint // The same.
	if _, panicked := f.Err.(*router.PanicError); panicked {                                               //nolint:errorlint // The same.
		counts = true
	}
	what := fmt.Sprintf("the handler of %q, set at %s", f.Type, f.Site)
	if f.Blameless {
		if sender, ok := f.Sender.(*member); ok && isMisfit(f.Err) {
			sender.session.guard.charge(plugbus.Refusal{Verb: plugbus.VerbSend, Object: f.Plugin, Reason: plugbus.ReasonInvalidPayload})
		}
		m.session.logger.Info("a handler did not end well, for which the plugin is not to blame", "what", what, "from", f.From, "error", textOf(cause))
		return
	}
	m.failure(what, cause, counts)
}

// A misfitError is that of a request that does not fit the schema of a capability. Only
// the hub makes it, so that no plugin can have another charged for it.
type misfitError struct{ remote *plugbus.RemoteError }

func (e *misfitError) Error() string { return e.remote.Message }
func (e *misfitError) Unwrap() error { return e.remote }

// misfit returns the error of a request, from what the schema has against it.
func misfit(err error) error {
	return &misfitError{&plugbus.RemoteError{Code: plugbus.CodeInvalid, Message: "the request does not fit the capability: " + reasonOf(err)}}
}

// isMisfit reports whether that is why a handler failed. The router wraps what it
// returned once.
func isMisfit(err error) bool {
	_, is := errors.Unwrap(err).(*misfitError) //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
	return is
}

// messageSlow hears of handlers of messages that run long.
func (h *Hub) messageSlow(s router.Slow) {
	h.slow(s.Owner, s.Site, s.For, "type", s.Type, "set router.Timeout or router.Concurrent")
}

// served hears from the router of calls of capabilities. What a plugin that was replaced
// still handles says nothing of the one that has its place.
func (h *Hub) served(s router.Served) {
	if m, ok := s.Owner.(*member); ok {
		m.session.finder.Observe(discovery.Sample{Capability: s.Type, Caller: s.From, OK: s.OK, Took: s.Took})
	}
}

// floodRefusals is how many refused acts count as one failure.
const floodRefusals = 200

// refused counts a refused act. That some may not have a broadcast is not its
// sender's fault, nor that the validator of a store fails, or a middleware of the host.
func (m *member) refused(r plugbus.Refusal) {
	_, broken := r.Cause.(*router.MiddlewareError) //nolint:errorlint // It is never wrapped.
	if broken || r.Reason == plugbus.ReasonQuarantined || r.Reason == plugbus.ReasonRecipientCannotReceive ||
		r.Reason == plugbus.ReasonCheckFailed && r.Verb == plugbus.VerbWrite {
		return
	}
	if m.refusals.Add(1)%floodRefusals == 0 {
		m.failure("flood", fmt.Errorf("%d acts refused, the last for %s", floodRefusals, r.Reason), true)
	}
}

// failure notes that the plugin failed. If it counts, and the budget is used up or the
// plugin is on probation, it is quarantined.
func (m *member) failure(what string, err error, counts bool) {
	h := m.hub
	cause := textOf(err)
	attrs := []any{"what", what, "error", cause}
	if stack := stackOf(err); stack != "" {
		attrs = append(attrs, "stack", stack)
	}
	m.session.logger.Error("the plugin failed", attrs...)
	last := plugbus.CutText(what + ": " + cause)
	m.turning.Lock()
	h.mu.Lock()
	now := h.clock.Now()
	m.failed++
	m.lastError = last
	why, count := "", 1
	if counts && m != h.host {
		why, count = m.tooMuch(now)
	}
	over := why != "" && m.state == Ready
	if over {
		m.confine(now, why, last)
	}
	plan := m.nextProbe(now)
	h.mu.Unlock()
	if over {
		record := m.tellQuarantine(hubID, why, audit.Detail{Key: "why", Value: why}, audit.Detail{Key: "last", Value: last})
		h.alert(security.Alert{
			Kind: security.PluginQuarantined, Severity: security.High, Plugin: m.manifest.ID,
			Count: uint64(count), Threshold: uint64(count - 1), Time: now, Record: record,
		})
	}
	m.turning.Unlock()
	if over {
		m.session.logger.Error("the plugin is quarantined: it may do nothing more, and gets nothing more, until a probe finds it well, or Hub.Restore",
			"reason", why, "last", what, "plan", plan)
	}
}

// tooMuch counts a failure, and returns why it is one too many, or "", and how many
// there were. hub.mu is held.
func (m *member) tooMuch(now time.Time) (why string, count int) {
	budget := m.hub.opts.FailureBudget
	if m.overBudget(now) {
		return fmt.Sprintf("more than %d failures a minute", budget), budget + 1
	}
	if m.onProbation(now) {
		return "a failure on probation", 1
	}
	return "", 0
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

// broke notes that a call into the plugin, or a function of its own, did not return. That
// Start did not is recorded with the other ways in which it fails.
func (m *member) broke(what string, err error) {
	if what != "Start" {
		m.hub.record(audit.Entry{
			Event: "plugin.failed", Actor: m.manifest.ID,
			Details: []audit.Detail{{Key: "stage", Value: what}, {Key: "error", Value: textOf(err)}},
		})
	}
	m.failure(what, err, true)
}
