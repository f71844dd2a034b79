package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/topic"
	"github.com/plugbus/plugbus/security"
)

// Register takes plugins in, all or none. It starts them in the order of what
// they require of each other, and otherwise in the order given. When it returns
// nil, all have started and have been announced. Otherwise those that had started
// have been stopped again, and the error is a [*RegisterError] that matches, for
// an id in use, [ErrDuplicate]; for one that the policy does not know, or that
// may not provide or require what it says, [plugbus.ErrDenied]; for a missing
// requirement, a [*RequirementError]; or what Start returned. On a closed hub it
// is [ErrClosed].
func (h *Hub) Register(ctx context.Context, plugins ...Plugin) error {
	if h.isClosing() {
		return fmt.Errorf("register: %w", ErrClosed)
	}
	members := make([]*member, len(plugins))
	for i, p := range plugins {
		m, err := h.newMember(ctx, p)
		if err != nil {
			return err
		}
		members[i] = m
	}
	ordered, err := h.reserve(members) //nolint:contextcheck // A session outlives the call.
	if err != nil {
		return err
	}
	for _, m := range ordered {
		if err := h.start(ctx, m); err != nil {
			undo := context.WithoutCancel(ctx) // What has started is stopped, even if ctx is why.
			for _, m := range slices.Backward(ordered) {
				_ = h.leave(undo, m) // The error of Start is what matters.
			}
			return err
		}
	}
	for _, m := range ordered {
		h.record(audit.Entry{
			Event: "plugin.registered", Actor: security.HostID, Target: m.manifest.ID, Admin: true,
			Details: []audit.Detail{{Key: "version", Value: m.manifest.Version}},
		})
		m.session.logger.InfoContext(ctx, "the plugin has joined", "version", m.manifest.Version)
		h.announce(Notice{Event: EventRegistered, Plugin: m.manifest.ID, Version: m.manifest.Version})
	}
	return nil
}

// newMember asks a plugin for its manifest, and checks it.
func (h *Hub) newMember(ctx context.Context, p Plugin) (*member, error) {
	if p == nil {
		return nil, &RegisterError{Stage: "manifest", Err: fmt.Errorf("the plugin is nil: %w", plugbus.ErrInvalid)}
	}
	m := &member{hub: h, plugin: p, left: make(chan struct{}), telling: map[string]bool{}}
	if err := h.manifest(ctx, m); err != nil {
		return nil, &RegisterError{Stage: "manifest", Err: err}
	}
	id := m.manifest.ID
	if err := topic.CheckID(id); err != nil {
		return nil, &RegisterError{Plugin: plugbus.CutText(id), Stage: "manifest", Err: err}
	}
	if err := m.manifest.check(); err != nil {
		return nil, &RegisterError{Plugin: id, Stage: "manifest", Err: err}
	}
	return m, nil
}

// manifest calls Manifest once, on a goroutine of its own, since the plugin has
// no worker yet.
func (h *Hub) manifest(ctx context.Context, m *member) error {
	limited, cancel := context.WithTimeout(ctx, h.opts.WaitLimit)
	defer cancel()
	type result struct {
		manifest Manifest
		err      error
	}
	got := make(chan result, 1)
	a := &asked{name: fmt.Sprintf("Manifest of %T", m.plugin)}
	if !h.ask(a) {
		return ErrClosed
	}
	h.actors.Go(func() { // Ends with Manifest.
		orderly := false
		defer func() {
			if !orderly {
				err := failure("Manifest", recover())
				h.answered(a)
				got <- result{err: err}
			}
		}()
		manifest := m.plugin.Manifest().clone()
		orderly = true
		h.answered(a)
		got <- result{manifest: manifest}
	})
	select {
	case r := <-got:
		m.manifest = r.manifest
		return r.err
	case <-h.begun:
		return fmt.Errorf("Manifest has not returned: %w", ErrClosed)
	case <-limited.Done():
		h.mu.Lock()
		a.late = true
		h.mu.Unlock()
		return fmt.Errorf("Manifest has not returned: %w", limited.Err())
	}
}

// An asked is a call of Manifest that has not returned.
type asked struct {
	name string
	late bool // nobody waits for it any more; under hub.mu
}

// ask notes a call of Manifest, unless the hub closes: then there is none.
func (h *Hub) ask(a *asked) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closing {
		h.asked[a] = struct{}{}
	}
	return !h.closing
}

func (h *Hub) answered(a *asked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.asked, a)
}

func (h *Hub) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

// reserve checks the plugins against the policy, the hub and each other, and
// enters them as starting. It returns them in the order in which to start them.
func (h *Hub) reserve(members []*member) (ordered []*member, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return nil, fmt.Errorf("register: %w", ErrClosed)
	}
	if len(h.members)+len(members) > h.opts.MaxPlugins {
		return nil, fmt.Errorf("hub: register %d plugins: the hub has %d, and may have %d (Options.MaxPlugins): %w",
			len(members), len(h.members), h.opts.MaxPlugins, plugbus.ErrInvalid)
	}
	var errs []error
	ids := map[string]bool{}
	for _, m := range members {
		id := m.manifest.ID
		if old := h.members[id]; old != nil {
			errs = append(errs, &RegisterError{id, "manifest", fmt.Errorf("%w by a plugin that is %v; Replace that one, Unregister it first, or choose another id", ErrDuplicate, old.state)})
		} else if ids[id] {
			errs = append(errs, &RegisterError{id, "manifest", fmt.Errorf("%w by another plugin of the same call", ErrDuplicate)})
		}
		ids[id] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if ordered, err = h.sort(members, nil); err != nil {
		return nil, err
	}
	for i, m := range ordered {
		if err := h.enter(m); err != nil {
			for _, entered := range ordered[:i] {
				h.remove(entered)
			}
			return nil, err
		}
	}
	return ordered, nil
}

// enter gives a member its session. hub.mu is held.
func (h *Hub) enter(m *member) error {
	id := m.manifest.ID
	subject, err := h.authority.Join(id)
	if err != nil {
		return &RegisterError{id, "policy", err}
	}
	if err := h.mayDeclare(subject, m.manifest); err != nil {
		subject.Leave()
		return err
	}
	if err := m.join(subject); err != nil {
		return &RegisterError{id, "policy", err}
	}
	m.become(Starting)
	h.members[id] = m
	return nil
}

// refuse records a refusal, and returns an error for the host, which may know
// the remedy.
func (h *Hub) refuse(subject *security.Subject, r plugbus.Refusal) error {
	err := subject.Refuse(r)
	remedy := h.authority.Explain(subject.ID(), r.Verb, r.Object).Remedy
	if remedy == "" || h.opts.ExplainToPlugins { // Then it is in the error.
		return err
	}
	return fmt.Errorf("%w; to allow it: %s", err, remedy)
}

// sort returns the members so that each comes after those that provide what it
// requires. What only the leaving one provides, which may be nil, does not count.
// hub.mu is held.
func (h *Hub) sort(members []*member, leaving *member) ([]*member, error) {
	present := map[string]bool{}
	for _, m := range append([]*member{h.host}, h.order...) {
		if m == leaving || m.state == Draining {
			continue
		}
		for _, name := range h.provides.of(m.manifest.ID) {
			present[name] = true
		}
	}
	providers := map[string][]*member{}
	for _, m := range members {
		for _, c := range m.manifest.Provides {
			providers[c.Name] = append(providers[c.Name], m)
		}
	}
	var ordered []*member
	done := map[*member]bool{}
	var path []*member
	var visit func(m *member) error
	visit = func(m *member) error {
		if done[m] {
			return nil
		}
		if i := slices.Index(path, m); i >= 0 {
			var ids []string
			for _, other := range path[i:] {
				ids = append(ids, other.manifest.ID)
			}
			return &RegisterError{m.manifest.ID, "requires", &RequirementError{Circle: ids}}
		}
		path = append(path, m)
		defer func() { path = path[:len(path)-1] }()
		var missing []string
		for _, name := range m.manifest.Requires {
			if len(providers[name]) == 0 && !present[name] {
				missing = append(missing, name)
			}
			if present[name] {
				continue
			}
			for _, provider := range providers[name] {
				if err := visit(provider); provider != m && err != nil {
					return err
				}
			}
		}
		if len(missing) > 0 {
			return &RegisterError{m.manifest.ID, "requires", &RequirementError{Missing: missing}}
		}
		done[m] = true
		ordered = append(ordered, m)
		return nil
	}
	for _, m := range members {
		if err := visit(m); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// launch has the plugin's Start called, and records it if that fails.
func (h *Hub) launch(ctx context.Context, m *member) error {
	err := m.call(ctx, "Start", m.begin)
	if err != nil {
		h.recordFailed(m, "start", err)
	}
	return err
}

func (h *Hub) recordFailed(m *member, stage string, err error) {
	h.record(audit.Entry{
		Event: "plugin.failed", Actor: m.manifest.ID, Admin: true,
		Details: []audit.Detail{{Key: "stage", Value: stage}, {Key: "error", Value: textOf(err)}},
	})
}

// start starts a plugin that has been entered.
func (h *Hub) start(ctx context.Context, m *member) error {
	err := h.launch(ctx, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.state != Starting { // The hub was closed meanwhile.
		return &RegisterError{m.manifest.ID, "start", cmp.Or(err, ErrClosed)}
	}
	if err != nil {
		m.become(Failed)
		return &RegisterError{m.manifest.ID, "start", err}
	}
	m.become(Ready)
	h.order = append(h.order, m)
	return nil
}

// begin starts the plugin. It runs on the plugin's worker, so that no handler
// runs before it has returned; if it fails, none ever does.
func (m *member) begin(ctx context.Context) (err error) {
	defer func() {
		if !m.started {
			undone := m.session.closeClients(ctx)
			m.hub.mu.Lock()
			m.undone.cancelled += undone.cancelled // If the hub closes, its report has it.
			m.undone.abandoned += undone.abandoned
			m.hub.mu.Unlock()
		}
	}()
	if r, ok := m.plugin.(EventReceiver); ok {
		if _, err := m.session.client.Receive(r.ReceiveEvent); err != nil {
			return err
		}
	}
	if err := m.session.declare(); err != nil {
		return err
	}
	if err := m.plugin.Start(ctx, m.session); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.started = true
	if m.held {
		m.session.tasks.hold() // Nothing more is called before it has its place.
	}
	return nil
}

// remove takes a member that never started, and of a new id, out again. It has no
// mail, so that nobody is told of any. hub.mu is held.
func (h *Hub) remove(m *member) {
	delete(h.members, m.manifest.ID)
	m.session.close()
	h.provides.forget(m.manifest.ID)
	m.session.closeClients(m.session.ctx)
	m.session.guard.Leave()
	m.actor.Retire()
}
