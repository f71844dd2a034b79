package hub

import (
	"context"
	"time"

	"github.com/plugbus/plugbus/audit"
)

// longer returns the wait for a probe after one of d.
func (h *Hub) longer(d time.Duration) time.Duration {
	d = max(d, h.opts.ProbeAfter)
	if d > h.opts.ProbeMax/2 {
		return h.opts.ProbeMax
	}
	return 2 * d
}

// plan sets the time of the next probe, if there is to be one. A probe that runs, or
// hangs, plans the next when it has returned. hub.mu is held.
func (m *member) plan() {
	h, w := m.hub, &m.ward
	if m.state != Quarantined || w.ByHost || h.opts.ProbeAfter < 0 || w.Probing {
		return
	}
	w.wait = max(w.wait, h.opts.ProbeAfter)
	w.NextProbe = h.clock.Now().Add(w.wait)
	plan := w.plan
	w.timer = time.AfterFunc(w.wait, func() { m.probeIsDue(plan) })
}

// callOff stops the plan for the next probe, and the probe that runs. hub.mu is held.
func (m *member) callOff() {
	w := &m.ward
	w.plan++
	w.NextProbe = time.Time{}
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.cancel != nil {
		w.cancel()
	}
}

// probeIsDue begins a probe, unless that was called off.
//
//nolint:contextcheck,nolintlint // A probe ends with the session; the linters disagree about whether that has to be said.
func (m *member) probeIsDue(plan uint64) {
	h, w := m.hub, &m.ward
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.plan != plan {
		return
	}
	ctx, cancel := context.WithCancel(m.session.ctx)
	w.NextProbe, w.Probing, w.cancel = time.Time{}, true, cancel
	h.actors.Go(func() { m.probe(ctx, plan) }) // Ends with the call; under the lock, so that the hub does not close before.
}

// probe asks the plugin on its own worker whether it is well. If it is no
// [HealthChecker], it is well when its worker gets to the question.
func (m *member) probe(ctx context.Context, plan uint64) {
	what, ask := "probe", func(context.Context) error { return nil }
	if checker, ok := m.plugin.(HealthChecker); ok {
		what, ask = "Health", checker.Health
	}
	fail := func(_ string, err error) { // It is told as a probe that failed, and counts no further.
		if stack := stackOf(err); stack != "" {
			m.session.logger.ErrorContext(ctx, "the plugin failed in a probe", "what", what, "error", textOf(err), "stack", stack)
		}
	}
	over, err := m.attempt(ctx, what, fail, ask)
	m.probed(plan, err, over != nil)
	if over == nil {
		return
	}
	<-over
	h, w := m.hub, &m.ward
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Probing, w.hangs = false, false
	m.plan()
}

// probed notes how a probe ended, and restores a plugin that is well. What a probe says
// that was called off, nobody asks any more.
func (m *member) probed(plan uint64, err error, hangs bool) {
	h, w := m.hub, &m.ward
	m.turning.Lock()
	h.mu.Lock()
	now := h.clock.Now()
	w.cancel()
	w.cancel = nil
	w.Probing, w.hangs = hangs, hangs
	if w.plan != plan {
		m.plan() // If it is in quarantine again.
		h.mu.Unlock()
		m.turning.Unlock()
		return
	}
	w.Probes++
	w.LastProbe, w.ProbeError = now, ""
	result := "well"
	if err == nil {
		m.release()
		w.Probation = now.Add(Probation)
	} else {
		result = textOf(err)
		w.ProbeError = result
		w.wait = h.longer(w.wait)
		m.plan()
	}
	after := w.wait
	h.mu.Unlock()
	h.record(audit.Entry{
		Event: "plugin.probed", Actor: hubID, Target: m.manifest.ID, Admin: true,
		Details: []audit.Detail{{Key: "result", Value: result}},
	})
	if err == nil {
		m.tellRestored(hubID, "probe")
	}
	m.turning.Unlock()
	if err == nil {
		m.session.logger.Info("the plugin is restored: a probe found it well", "probation", Probation)
		return
	}
	m.session.logger.Warn("the plugin stays in quarantine: a probe did not find it well", "error", result, "next", after, "hangs", hangs)
}
