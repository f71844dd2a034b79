package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// An illness is what a probe meets: a Health that takes its time, or less if its context
// ends and it obeys that, and then says nil, returns an error, or panics.
type illness struct {
	takes time.Duration
	obeys bool
	ends  string // "well", "ill" or "panic"
}

// A wardPlan is a life of a plugin.
type wardPlan struct {
	budget      int
	after, most time.Duration
	answers     []illness // of the probes, again and again
	steps       []wardStep
}

type wardStep struct {
	act  string
	wait time.Duration // before it
}

// The waits and the times of answers are whole seconds, and each step begins another
// millisecond, so that no act is at the time of a probe, of its end, or of the end of a
// probation.
func drawWardPlan(t *rapid.T) wardPlan {
	seconds := func(label string, of ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(of).Draw(t, label)) * time.Second
	}
	p := wardPlan{budget: rapid.IntRange(1, 3).Draw(t, "budget"), after: seconds("after", 5, 10, 30, 100)}
	p.most = p.after * time.Duration(rapid.SampledFrom([]int{1, 3, 16}).Draw(t, "most"))
	p.answers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) illness {
		return illness{seconds("takes", 0, 0, 0, 1, 7, 29, 31, 100, 7200), rapid.Bool().Draw(t, "obeys"), rapid.SampledFrom([]string{"well", "well", "ill", "panic"}).Draw(t, "ends")}
	}), 1, 12).Draw(t, "answers")
	p.steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wardStep {
		acts := []string{"fail", "fail", "fail", "fail", "fail", "fail", "look", "look", "restore", "quarantine", "replace", "rejoin"}
		return wardStep{rapid.SampledFrom(acts).Draw(t, "act"), seconds("wait", 0, 0, 0, 1, 10, 29, 31, 59, 61, 300, 1800)}
	}), 1, 80).Draw(t, "steps")
	return p
}

// A wardModel says what is to become of the plugin. Its times are since the beginning.
type wardModel struct {
	wardPlan
	now         time.Duration
	quarantined bool
	byHost      bool
	failures    []time.Duration // since it joined or was restored
	probation   time.Duration
	wait        time.Duration
	next        time.Duration // 0 for no probe
	probe       *modelProbe
	asked       int // of all plugins of the id

	times, probes  uint64 // of the plugin that is there
	audit, notices []string
}

// A modelProbe is a probe that has not returned.
type modelProbe struct {
	illness
	result, returns time.Duration // when it has a result, and when it returns
	told, ignored   bool
}

const wardLimit = 30 * time.Second // of a probe

func (m *wardModel) tell(event, who string) {
	m.audit = append(m.audit, "plugin."+event+" "+who)
}

func (m *wardModel) announce(event, reason string) {
	m.notices = append(m.notices, "plugin:"+event+" "+reason)
}

// advance lets time pass.
func (m *wardModel) advance(to time.Duration) {
	for {
		type event struct {
			at time.Duration
			do func()
		}
		var all []event
		if m.next > 0 {
			all = append(all, event{m.next, m.begin})
		}
		if p := m.probe; p != nil && !p.told && !p.ignored {
			all = append(all, event{p.result, m.result})
		}
		if p := m.probe; p != nil {
			all = append(all, event{p.returns, m.returned})
		}
		if len(all) == 0 {
			break
		}
		first := slices.MinFunc(all, func(a, b event) int { return int(a.at - b.at) })
		if first.at > to {
			break
		}
		m.now = first.at
		first.do()
	}
	m.now = to
}

// plan sets the next probe.
func (m *wardModel) plan() {
	if m.quarantined && !m.byHost && m.probe == nil {
		m.wait = max(m.wait, m.after)
		m.next = m.now + m.wait
	}
}

func (m *wardModel) begin() {
	p := &modelProbe{illness: m.answers[m.asked%len(m.answers)]}
	m.asked++
	m.next = 0
	p.returns = m.now + p.takes
	p.result = min(p.returns, m.now+wardLimit)
	if p.obeys {
		p.returns = p.result
	}
	m.probe = p
}

func (m *wardModel) result() {
	p := m.probe
	p.told = true
	m.probes++
	if p.takes < wardLimit && p.ends == "well" {
		m.tell("probed", "hub well")
		m.tell("restored", "hub")
		m.announce("restored", "probe")
		m.release()
		m.probation = m.now + time.Minute
		return
	}
	m.tell("probed", "hub ill")
	m.wait = min(2*m.wait, m.most)
}

func (m *wardModel) returned() {
	m.probe = nil
	m.plan()
}

// callOff stops what was planned.
func (m *wardModel) callOff() {
	m.next = 0
	if m.probe != nil {
		m.probe.ignored = true
		if m.probe.obeys {
			m.probe = nil
		}
	}
}

func (m *wardModel) release() {
	m.quarantined, m.failures, m.probation = false, nil, 0
	m.callOff()
}

func (m *wardModel) enter(who, reason string, byHost bool) {
	m.callOff()
	m.quarantined, m.byHost, m.probation = true, byHost, 0
	m.times++
	m.tell("quarantined", who)
	m.announce("quarantined", reason)
	m.plan()
}

func (m *wardModel) act(act string) {
	switch act {
	case "fail":
		if m.quarantined {
			return
		}
		m.failures = append(m.failures, m.now)
		recent := 0
		for _, at := range m.failures {
			if m.now-at <= time.Minute {
				recent++
			}
		}
		onProbation := m.now < m.probation
		switch {
		case recent > m.budget:
			m.setWait(onProbation)
			m.enter("hub", fmt.Sprintf("more than %d failures a minute", m.budget), false)
		case onProbation:
			m.setWait(true)
			m.enter("hub", "a failure on probation", false)
		}
	case "restore":
		if m.quarantined {
			m.release()
			m.tell("restored", "host")
			m.announce("restored", "host")
		}
	case "quarantine":
		switch {
		case m.quarantined && m.byHost:
		case m.quarantined:
			m.callOff()
			m.byHost = true
			m.tell("quarantined", "host")
			m.announce("quarantined", "host")
		default:
			m.enter("host", "host", true)
		}
	case "replace", "rejoin":
		m.tell(map[string]string{"replace": "replaced", "rejoin": "unregistered"}[act], "host")
		m.announce(map[string]string{"replace": "replaced", "rejoin": "unregistered"}[act], "")
		if act == "rejoin" {
			m.tell("registered", "host")
			m.announce("registered", "")
		}
		*m = wardModel{wardPlan: m.wardPlan, now: m.now, asked: m.asked, audit: m.audit, notices: m.notices}
	}
}

// setWait sets the wait for the first probe of a quarantine.
func (m *wardModel) setWait(onProbation bool) {
	if !onProbation {
		m.wait = 0
		return
	}
	m.wait = min(2*m.wait, m.most)
}

// String returns what can be seen of the plugin.
func (m *wardModel) String() string {
	probation := time.Duration(0)
	if m.now < m.probation {
		probation = m.probation
	}
	byHost := m.byHost && m.times > 0
	return fmt.Sprintf("quarantined %t, by host %t, times %d, probes %d, probing %t, next %v, probation %v, asked %d",
		m.quarantined, byHost, m.times, m.probes, m.probe != nil, m.next, probation, m.asked)
}

// A probed plugin answers by the plan. It has no Stop, which would wait for a probe that
// hangs.
type probed struct {
	plan    *wardPlan
	asked   *atomic.Int64 // of all plugins of the id
	session *hub.Session
}

func (*probed) Manifest() hub.Manifest { return hub.Manifest{ID: "a"} }

func (p *probed) Start(_ context.Context, s *hub.Session) error {
	p.session = s
	return nil
}

func (p *probed) Health(ctx context.Context) error {
	answer := p.plan.answers[(p.asked.Add(1)-1)%int64(len(p.plan.answers))]
	var done <-chan struct{}
	if answer.obeys {
		done = ctx.Done()
	}
	if answer.takes > 0 {
		select {
		case <-time.After(answer.takes):
		case <-done:
			return ctx.Err()
		}
	}
	switch answer.ends {
	case "ill":
		return errPlugin
	case "panic":
		panic("boo")
	}
	return nil
}

// A lineBox keeps lines until they are taken.
type lineBox struct {
	mu    sync.Mutex
	lines []string
}

func (b *lineBox) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *lineBox) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	return lines
}

// live lives a plan, and returns where the hub and the model first differ, or "".
func (plan wardPlan) live(t *testing.T) (differs string) {
	var audited, told lineBox
	keep := audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
		if !strings.HasPrefix(e.Event, "plugin.") || e.Event == "plugin.failed" {
			return nil
		}
		line := e.Event + " " + e.Actor
		if e.Event == "plugin.probed" {
			line += map[bool]string{true: " well", false: " ill"}[detail(e, "result") == "well"]
		}
		audited.add(line)
		return nil
	})
	h := open(t, hub.Options{
		FailureBudget: plan.budget, ProbeAfter: plan.after, ProbeMax: plan.most, WaitLimit: wardLimit,
		Audit: audit.Options{CoalesceWithin: -1, Sinks: []audit.SinkOptions{{Name: "lines", Sink: keep}}},
	})
	_, err := h.Host().Subscribe("plugin:*", func(_ context.Context, e events.Event) error {
		told.add(e.Name() + " " + e.Data().(hub.Notice).Reason)
		return nil
	})
	require.NoError(t, err)
	p, m := &probed{plan: &plan, asked: new(atomic.Int64)}, &wardModel{wardPlan: plan}
	defer func() { // Nothing is probed any more, and what hangs ends.
		_, _ = h.Close(context.Background())
		synctest.Wait()
		asked := p.asked.Load()
		<-time.After(3 * time.Hour)
		synctest.Wait()
		require.Empty(t, h.Leaks())
		require.Equal(t, asked, p.asked.Load())
	}()
	t0 := time.Now()
	require.NoError(t, h.Register(t.Context(), p))
	m.tell("registered", "host")
	m.announce("registered", "")
	since := func(at time.Time) time.Duration {
		if at.IsZero() {
			return 0
		}
		return at.Sub(t0)
	}
	for i, step := range plan.steps {
		<-time.After(step.wait + time.Millisecond)
		synctest.Wait()
		m.advance(time.Since(t0))
		var err error
		switch step.act {
		case "fail":
			err = p.session.Go("panics", func(context.Context) { panic("boo") })
		case "restore":
			if err = h.Restore("a"); !m.quarantined {
				require.Error(t, err)
				err = nil
			}
		case "quarantine":
			if err = h.Quarantine("a", "why"); m.quarantined && m.byHost {
				require.ErrorIs(t, err, hub.ErrQuarantined)
				err = nil
			}
		case "replace", "rejoin":
			next := &probed{plan: &plan, asked: p.asked}
			if step.act == "replace" {
				err = h.Replace(t.Context(), next)
			} else {
				_ = h.Unregister(t.Context(), "a")
				err = h.Register(t.Context(), next)
			}
			p = next
		}
		require.NoError(t, err)
		m.act(step.act)
		synctest.Wait()
		m.advance(time.Since(t0))

		info, _ := snapshotOf(h, "a")
		for _, other := range h.Inspect().Plugins { // One that left may have something that runs.
			if other.ID == "a" && other.State != hub.Stopped {
				info = other
			}
		}
		q := info.Quarantine
		got := fmt.Sprintf("quarantined %t, by host %t, times %d, probes %d, probing %t, next %v, probation %v, asked %d",
			info.State == hub.Quarantined, q.ByHost, q.Times, q.Probes, q.Probing, since(q.NextProbe), since(q.Probation), p.asked.Load())
		if got != m.String() {
			return fmt.Sprintf("after step %d, %v:\n got %s\nwant %v", i, step, got, m)
		}
		if lines := audited.take(); !slices.Equal(lines, m.audit) {
			return fmt.Sprintf("after step %d, %v, the audit log:\n got %q\nwant %q", i, step, lines, m.audit)
		}
		if lines := told.take(); !slices.Equal(lines, m.notices) {
			return fmt.Sprintf("after step %d, %v, the notices:\n got %q\nwant %q", i, step, lines, m.notices)
		}
		m.audit, m.notices = nil, nil
	}
	return ""
}

// TestQuarantineModel lives random lives of a plugin that fails, is probed with all kinds
// of answers, restored and quarantined by the host, replaced, and leaves and joins again,
// over hours: its state, the time of the next probe, the number of probes and quarantines,
// every audit entry and every notice are at every step those of a model.
func TestQuarantineModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		plan := drawWardPlan(r)
		differs := ""
		synctest.Test(t, func(t *testing.T) { differs = plan.live(t) })
		if differs != "" {
			r.Fatal(differs)
		}
	})
}
