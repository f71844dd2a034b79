package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/router"
)

// eventFailed hears from the events of a delivery that did not go well. It runs on
// the plugin's worker.
func (h *Hub) eventFailed(f events.Failure) {
	m := h.owner(f.Plugin)
	if m == nil {
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
	m.failure(fmt.Sprintf("the handler of %q, subscribed at %s", f.Pattern, f.Site), cause, counts)
}

var errLeftBehind = errors.New("it had not returned when the plugin left; Hub.Leaks names it until it does")

// eventSlow hears of handlers of events that run long.
func (h *Hub) eventSlow(s events.Slow) {
	h.slow(s.Plugin, s.Site, s.For, "pattern", s.Pattern, "set events.Timeout")
}

// slow notes that a handler runs long, and says what may help.
func (h *Hub) slow(plugin, site string, d time.Duration, kind, name, remedy string) {
	m := h.owner(plugin)
	if m == nil {
		return
	}
	h.mu.Lock()
	m.slow++
	h.mu.Unlock()
	m.session.logger.Warn("a handler has not returned; unless it is concurrent, the plugin handles nothing else while it runs: let it obey its context, or "+remedy,
		kind, name, "site", site, "for", d)
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

// messageFailed hears from the router of a delivery that did not go well. It runs
// on the plugin's worker, or where the handler was abandoned.
func (h *Hub) messageFailed(f router.Failure) {
	m := h.owner(f.Plugin)
	if m == nil {
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
		m.session.logger.Info("a handler did not end well, for which the plugin is not to blame", "what", what, "from", f.From, "error", textOf(cause))
		return
	}
	m.failure(what, cause, counts)
}

// messageSlow hears of handlers of messages that run long.
func (h *Hub) messageSlow(s router.Slow) {
	h.slow(s.Plugin, s.Site, s.For, "type", s.Type, "set router.Timeout or router.Concurrent")
}

// served hears from the router of calls of capabilities.
func (h *Hub) served(s router.Served) {
	h.index.Observe(discovery.Sample{Provider: s.Plugin, Capability: s.Type, Caller: s.From, OK: s.OK, Took: s.Took})
}
