package hub

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/security"
)

// Probation is how long a plugin that a probe has restored is on probation: one failure
// in that time is enough for another quarantine, and the wait for the next probe is then
// twice the last one. After a probation without a failure the waits begin anew.
const Probation = time.Minute

// A Quarantine says how it stands with the quarantine of a plugin. It is about the one
// that lasts while the plugin's state is Quarantined, and otherwise about the last one.
type Quarantine struct {
	Since   time.Time // when it began; zero if there has been none
	Reason  string    // the hub's, or what the host gave as its own
	Failure string    // that led to it; "" if the host put the plugin there
	ByHost  bool      // the host decided, so that there are no probes
	Times   uint64    // that the plugin was put there since it joined

	Probes     uint64    // that have ended since the plugin joined
	LastProbe  time.Time // when the last of them did; zero if there was none
	ProbeError string    // why that did not find the plugin well; "" if it did
	Probing    bool      // a probe runs, or has not returned
	NextProbe  time.Time // zero if none is planned
	Probation  time.Time // until when one failure is enough; zero if the plugin is not on probation
}

// A ward is what the hub keeps of a plugin's quarantine. All of it is under hub.mu.
type ward struct {
	Quarantine
	wait   time.Duration      // before the next probe; 0 for the first
	timer  *time.Timer        // of the next probe
	plan   uint64             // numbers the plans; one that was called off is not the last
	hangs  bool               // the probe has not returned in its time
	cancel context.CancelFunc // of the probe that runs
}

// quarantine returns what the inspector sees. hub.mu is held.
func (m *member) quarantine(now time.Time) Quarantine {
	q := m.ward.Quarantine
	if !m.onProbation(now) {
		q.Probation = time.Time{}
	}
	return q
}

// onProbation reports whether one failure is enough. hub.mu is held.
func (m *member) onProbation(now time.Time) bool { return now.Before(m.ward.Probation) }

// confine puts the plugin into quarantine for a failure. hub.mu is held.
func (m *member) confine(now time.Time, why, failure string) {
	w := &m.ward
	if m.onProbation(now) {
		w.wait = m.hub.longer(w.wait)
	} else {
		w.wait = 0
	}
	m.enterWard(now, why, failure, false)
}

// enterWard puts the plugin into quarantine. hub.mu is held.
func (m *member) enterWard(now time.Time, why, failure string, byHost bool) {
	w := &m.ward
	w.Since, w.Reason, w.Failure, w.ByHost, w.Probation = now, why, failure, byHost, time.Time{}
	w.Times++
	m.become(Quarantined)
	m.session.guard.turn(m.hint())
}

// bar keeps a plugin that starts from the place of another, and from all else. hub.mu is
// held.
func (m *member) bar() {
	if m.barred {
		return
	}
	m.barred = true
	m.session.guard.turn("the host has put the plugin in quarantine, so that nothing takes its place")
}

// release ends the quarantine. hub.mu is held.
func (m *member) release() {
	m.become(Ready)
	m.failures = nil
	m.session.guard.turn("")
}

// hint returns what a plugin in quarantine learns with its refusals: no more than that
// and how it ends. hub.mu is held.
func (m *member) hint() string {
	switch {
	case m.ward.ByHost:
		return "the host has put the plugin in quarantine; it goes on when the host calls Hub.Restore"
	case m.hub.opts.ProbeAfter < 0:
		return "the plugin failed too often; it goes on when the host calls Hub.Restore"
	}
	return "the plugin failed too often; it goes on when a probe of the hub finds it well, or the host calls Hub.Restore"
}

// story says why the plugin is in quarantine, and how that may end. hub.mu is held.
func (m *member) story(now time.Time) string {
	w := &m.ward
	story := "the plugin failed too often: " + w.Reason + "; the last was " + w.Failure
	if w.ByHost {
		story = "the host put the plugin there: " + w.Reason
	}
	if w.ProbeError != "" && w.LastProbe.After(w.Since) {
		story += "; the last probe says " + w.ProbeError
	}
	return story + "; " + m.nextProbe(now)
}

// nextProbe says when there is a probe. hub.mu is held.
func (m *member) nextProbe(now time.Time) string {
	w := &m.ward
	switch {
	case w.hangs:
		return "the last probe has not returned, and there is no other before that"
	case w.Probing:
		return "a probe runs now"
	case w.NextProbe.IsZero():
		return "there are no probes"
	}
	return fmt.Sprintf("the next probe is in %v", w.NextProbe.Sub(now).Round(time.Millisecond))
}

// finishTelling waits until the plugins and the host have been told of the turns that the
// plugin has taken, so that they hear afterwards that it leaves.
func (m *member) finishTelling() {
	m.turning.Lock()
	defer m.turning.Unlock()
}

// tellQuarantine says that the plugin is in quarantine. m.turning is held.
func (m *member) tellQuarantine(actor, reason string, details ...audit.Detail) (record uint64) {
	h, id := m.hub, m.manifest.ID
	record = h.record(audit.Entry{Event: "plugin.quarantined", Actor: actor, Target: id, Admin: true, Details: details})
	h.announce(Notice{Event: EventQuarantined, Plugin: id, Version: m.manifest.Version, Reason: reason})
	return record
}

// tellRestored says that the plugin goes on, and wakes what rested. m.turning is held.
func (m *member) tellRestored(actor, reason string) {
	h, id := m.hub, m.manifest.ID
	m.session.keeper.Wake()
	h.record(audit.Entry{
		Event: "plugin.restored", Actor: actor, Target: id, Admin: true,
		Details: []audit.Detail{{Key: "why", Value: reason}},
	})
	h.announce(Notice{Event: EventRestored, Plugin: id, Version: m.manifest.Version, Reason: reason})
}

// Quarantine puts a plugin in quarantine by the host's own decision: it may do nothing
// more and gets nothing more, and is not probed, until [Hub.Restore] or [Hub.Replace]. A
// plugin that the hub has put there is kept there. What it runs goes on to its end. One
// that starts in its place, by a Replace that runs already, does not join, and may do
// nothing more either. The host alone sees why, of which [plugbus.MaxTextBytes] are kept;
// the plugins hear "host".
//
// The error matches [ErrUnknownPlugin], [ErrClosed], [ErrQuarantined] for one that the
// host has put there already, or [plugbus.ErrInvalid] for one that starts or leaves, and
// for the host itself.
func (h *Hub) Quarantine(id, why string) error {
	m, err := h.patient("quarantine", id)
	if err != nil {
		return err
	}
	hurry := func() {}
	defer func() { hurry() }() // With no lock held: the context may be of any type.
	defer m.turning.Unlock()
	why = plugbus.CutText(cmp.Or(why, "no reason was given"))
	if next := m.successor; next != nil {
		next.bar()
		hurry = next.hurry
	}
	switch {
	case m.state == Quarantined && m.ward.ByHost:
		h.mu.Unlock()
		return fmt.Errorf("quarantine %q: %w already, where the host has put it: %s; Restore it first to give another reason", id, ErrQuarantined, m.ward.Reason)
	case m.state == Quarantined:
		m.ward.Reason, m.ward.ByHost = why, true
		m.callOff()
		m.session.guard.hint.Store(new(m.hint()))
	case m.state == Ready:
		m.enterWard(h.clock.Now(), why, "", true)
	default:
		state := m.state
		h.mu.Unlock()
		return fmt.Errorf("hub: quarantine %q: the plugin is %v; expected one that is ready: %w", id, state, plugbus.ErrInvalid)
	}
	h.mu.Unlock()
	m.tellQuarantine(security.HostID, "host", audit.Detail{Key: "why", Value: why})
	return nil
}

// Restore ends the quarantine of a plugin, which goes on with what it had subscribed to,
// and with what the stores that it watches still keep of the changes. It has its whole
// failure budget again, and is not on probation; the figures of [PluginInfo] stay. The
// error matches [ErrUnknownPlugin], [ErrClosed], or [plugbus.ErrInvalid] for one that is
// not in quarantine, perhaps since a probe has restored it meanwhile.
func (h *Hub) Restore(id string) error {
	m, err := h.patient("restore", id)
	if err != nil {
		return err
	}
	defer m.turning.Unlock()
	if m.state != Quarantined {
		state := m.state
		h.mu.Unlock()
		return fmt.Errorf("hub: restore %q: the plugin is %v; expected one that is quarantined: %w", id, state, plugbus.ErrInvalid)
	}
	m.release()
	h.mu.Unlock()
	m.tellRestored(security.HostID, "host")
	return nil
}

// patient returns the member with an id, for Quarantine and Restore, with its turning and
// hub.mu locked: between a look and the locks another may have taken its place.
func (h *Hub) patient(act, id string) (*member, error) {
	for {
		m := h.member(id)
		switch {
		case m == nil:
			return nil, h.unknown(act, id)
		case m == h.host:
			return nil, fmt.Errorf("hub: %s %q: the host's own session is never in quarantine: %w", act, id, plugbus.ErrInvalid)
		case h.isClosing():
			return nil, fmt.Errorf("%s %q: %w", act, id, ErrClosed)
		}
		m.turning.Lock()
		h.mu.Lock()
		if h.members[id] == m {
			return m, nil
		}
		h.mu.Unlock()
		m.turning.Unlock()
	}
}
