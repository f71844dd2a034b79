package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// Provide lets others find a capability and call it: handler handles the messages
// of its name as their type, from those whom its access list admits, and its
// schemas are enforced on what comes in and goes out. Providing it again replaces
// all of it; what waits for the old handler is cancelled. If the new handler cannot
// be set, nothing is provided under the name any more, but what the manifest
// declared and another handler serves.
//
// The error is a [*plugbus.DeniedError], [plugbus.ErrClosed], or matches
// [plugbus.ErrInvalid] or [router.ErrHandlerExists].
func (s *Session) Provide(capability discovery.Capability, handler router.Handler, options ...router.HandleOption) error {
	if handler == nil {
		return fmt.Errorf("plugin %q provides %q: the handler is nil: %w", s.id, plugbus.CutText(capability.Name), plugbus.ErrInvalid)
	}
	lost, err := s.provide(capability, handler, options)
	if lost && s.isListed() {
		s.hub.tellDependants([]string{capability.Name})
	}
	return err
}

// provide is Provide, and reports whether what was provided under the name before
// is no longer.
func (s *Session) provide(c discovery.Capability, handler router.Handler, options []router.HandleOption) (lost bool, err error) {
	s.providing.Lock()
	defer s.providing.Unlock()
	before, had := s.finder.Capability(s.id, c.Name)
	if err := s.finder.Provide(c); err != nil {
		return false, err
	}
	old := s.routeOf(c.Name)
	if old != nil {
		old.Remove()
	}
	route, err := s.mail.Handle(c.Name, s.serving(c.Name, handler), withAccess(c, options)...)
	switch {
	case err == nil:
		return false, s.enlist(c.Name, route)
	case had && old == nil: // The manifest declared it, and something else handles it.
		_ = s.finder.Provide(before) // It was there.
		return false, err
	default:
		return s.delist(c.Name) == nil && old != nil, err
	}
}

func (s *Session) routeOf(name string) *router.Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.provided[name]
}

// enlist notes that the plugin provides a capability, unless it has left, since
// nobody would take the note away. The route is nil if there is none of Provide.
func (s *Session) enlist(name string, route *router.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fmt.Errorf("plugin %q provides %q: %w: the plugin has left", s.id, name, ErrClosed)
	}
	if route != nil {
		s.provided[name] = route
	}
	switch {
	case s.listed:
		s.hub.provides.add(s.id, name)
	case !slices.Contains(s.offers, name):
		s.offers = append(s.offers, name)
	}
	return nil
}

// delist takes a capability, and its handler if Provide set it.
func (s *Session) delist(name string) error {
	if err := s.finder.Withdraw(name); err != nil {
		return err
	}
	s.mu.Lock()
	route := s.provided[name]
	delete(s.provided, name)
	if s.listed {
		s.hub.provides.remove(s.id, name)
	} else {
		s.offers = slices.DeleteFunc(s.offers, func(other string) bool { return other == name })
	}
	s.mu.Unlock()
	if route != nil {
		route.Remove()
	}
	return nil
}

// Withdraw ends what [Session.Provide] began, or what the manifest declared. The
// error matches [discovery.ErrNotProvided] or [plugbus.ErrClosed].
func (s *Session) Withdraw(name string) error {
	s.providing.Lock()
	err := s.delist(name)
	s.providing.Unlock()
	if err == nil && s.isListed() {
		s.hub.tellDependants([]string{name})
	}
	return err
}

func (s *Session) isListed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// list makes what s provides what its id provides, in the place of what old does, and
// returns what nobody of the id provides any more.
func (s *Session) list(old *Session) (lost []string) {
	old.mu.Lock()
	old.listed = false
	old.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = true
	had := s.hub.provides.replace(s.id, s.offers)
	lost = slices.DeleteFunc(slices.Clone(had), func(name string) bool { return slices.Contains(s.offers, name) })
	s.offers = nil
	return lost
}

// withAccess adds to the options of a handler what its capability says.
func withAccess(c discovery.Capability, options []router.HandleOption) []router.HandleOption {
	options = append(slices.Clip(options), router.Measured())
	if len(c.Allowed)+len(c.Denied) > 0 {
		options = append(options, router.Senders(c.Allowed, c.Denied))
	}
	return options
}

// serving returns a handler that enforces the schemas of a capability. It runs on
// the worker of the plugin that declared them.
func (s *Session) serving(name string, handler router.Handler) router.Handler {
	return func(ctx context.Context, m router.Message) (any, error) {
		if err := s.finder.CheckInput(name, m.Data()); err != nil {
			return nil, misfit(err)
		}
		reply, err := handler(ctx, m)
		if err != nil {
			return nil, err
		}
		if err := s.finder.CheckOutput(name, payloadOf(reply)); err != nil {
			return nil, &plugbus.RemoteError{Code: plugbus.CodeInternal, Message: "the reply is not what the capability promises: " + reasonOf(err)}
		}
		return reply, nil
	}
}

// payloadOf returns what the requester gets of what a handler returns.
func payloadOf(reply any) any {
	if got, ok := reply.(router.Response); ok {
		return got.Data()
	}
	return reply
}

// servingAny is serving for a handler of all types, of which those that the
// manifest declares are checked. Their access lists are looked at here, since the
// route has none.
func (s *Session) servingAny(handler router.Handler) router.Handler {
	return func(ctx context.Context, m router.Message) (any, error) {
		c, ok := s.declared(m.Type())
		if !ok {
			return handler(ctx, m)
		}
		if slices.Contains(c.Denied, m.From()) || len(c.Allowed) > 0 && !slices.Contains(c.Allowed, m.From()) {
			if from := s.hub.member(m.From()); from != nil {
				_ = from.session.guard.Refuse(plugbus.Refusal{
					Verb: plugbus.VerbSend, Object: s.id, Reason: plugbus.ReasonRecipientCannotReceive, Chain: m.Chain(),
				})
			}
			return nil, &plugbus.RemoteError{Code: plugbus.CodeDenied, Message: "the capability is not for this sender"}
		}
		return s.serving(c.Name, handler)(ctx, m)
	}
}

// reasonOf returns what a schema has against a value.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*discovery.SchemaError](err); ok {
		return strings.TrimPrefix(e.Error(), "invalid "+e.What+": ")
	}
	return err.Error()
}

// servingStream is serving for a stream, whose chunks each fit the output.
func (s *Session) servingStream(name string, handler router.StreamHandler) router.StreamHandler {
	return func(ctx context.Context, m router.Message, yield func(any) bool) error {
		if err := s.finder.CheckInput(name, m.Data()); err != nil {
			return misfit(err)
		}
		var misfit error
		err := handler(ctx, m, func(chunk any) bool {
			if err := s.finder.CheckOutput(name, payloadOf(chunk)); err != nil {
				misfit = &plugbus.RemoteError{Code: plugbus.CodeInternal, Message: "a chunk is not what the capability promises: " + reasonOf(err)}
			}
			return misfit == nil && yield(chunk)
		})
		if misfit != nil {
			return misfit
		}
		return err
	}
}

// Find returns the providers that match the criteria and that the plugin may
// know of, the best first. See [discovery.Client.Find].
func (s *Session) Find(criteria discovery.Criteria) ([]discovery.Match, error) {
	return s.finder.Find(criteria)
}

// Providers returns the providers of one capability, the best first. A match is
// advice: whether a call is allowed is asked when it is made. See
// [discovery.Client.Providers].
func (s *Session) Providers(capability string) ([]discovery.Match, error) {
	return s.finder.Providers(capability)
}

// Capability returns what a plugin declares about a capability that it provides:
// its description, schemas and examples, but not its access list, unless it is the
// plugin's own. It is false if the plugin may not know of it. See
// [discovery.Client.Capability].
func (s *Session) Capability(provider, name string) (discovery.Capability, bool) {
	return s.finder.Capability(provider, name)
}

// Candidates returns every provider that the plugin may know of, with its score by
// part, or why it does not match. See [discovery.Client.Candidates].
func (s *Session) Candidates(criteria discovery.Criteria) ([]discovery.Candidate, error) {
	return s.finder.Candidates(criteria)
}

// availability says why a capability cannot be called now, "" if it can.
func (h *Hub) availability(asker, provider, capability string) string {
	m, state := h.memberNow(provider)
	if m == nil {
		return "not joined"
	}
	if state != Ready {
		return state.String()
	}
	if why := h.router.Room(asker, provider, capability); why != "" {
		return why
	}
	if a := h.member(asker); a != nil && a != m && !a.session.guard.Permit(plugbus.VerbSend, provider).Allowed() {
		return "the asker may not send to it"
	}
	return ""
}

// memberNow returns a member and its state of one moment: a little later another may have
// its place.
func (h *Hub) memberNow(id string) (*member, State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id == security.HostID {
		return h.host, h.host.state
	}
	if m := h.members[id]; m != nil {
		return m, m.state
	}
	return nil, 0
}

// declare declares what the manifest lists. That comes before Start, so that no
// handler runs without its schema.
func (s *Session) declare() error {
	for _, c := range s.manifest.Provides {
		if err := s.finder.Provide(c); err != nil {
			return err
		}
		if err := s.enlist(c.Name, nil); err != nil {
			return err
		}
	}
	return nil
}

// EventRequirementLost tells a plugin that nobody provides any more what it
// requires. Only that plugin gets it, as a broadcast.
const EventRequirementLost = "plugin:requirement-lost"

// tellDependants tells the plugins that require one of these capabilities, and
// now have nobody who provides it.
func (h *Hub) tellDependants(lost []string) {
	h.mu.Lock()
	told := map[*member][]string{}
	for _, m := range h.order {
		for _, name := range lost {
			if m.state != Draining && slices.Contains(m.manifest.Requires, name) && !h.provided(name) {
				told[m] = append(told[m], name)
			}
		}
	}
	h.mu.Unlock()
	for m, names := range told {
		for _, name := range names {
			h.tellDependant(m, name)
		}
	}
}

// tellMissing tells a plugin that has taken the place of another of what it requires and
// nobody provides, unless it has been told: that may have gone while it started.
func (h *Hub) tellMissing(m *member, told []string) {
	h.mu.Lock()
	missing := slices.DeleteFunc(slices.Clone(m.manifest.Requires), func(name string) bool { return h.provided(name) || slices.Contains(told, name) })
	h.mu.Unlock()
	for _, name := range missing {
		h.tellDependant(m, name)
	}
}

func (h *Hub) tellDependant(m *member, name string) {
	id := m.manifest.ID
	dependant, calls := m.plugin.(Dependant)
	if calls && h.telling(m, name) {
		return
	}
	m.session.logger.Warn("nobody provides any more what the plugin requires", "capability", name)
	h.record(audit.Entry{
		Event: "plugin.requirement-lost", Actor: hubID, Target: id,
		Details: []audit.Detail{{Key: "capability", Value: name}},
	})
	notice := Notice{Event: EventRequirementLost, Plugin: id, Version: m.manifest.Version, Reason: "nobody provides " + name, Time: h.clock.Now()}
	if _, err := h.self.Broadcast(h.host.session.ctx, notice.Event, notice, events.Audience{IDs: []string{id}}); err != nil && !h.isClosing() {
		h.logger.Error("the hub could not emit its own event", "event", notice.Event, "error", err)
	}
	h.desk.post(h.opts.NoticeBoard, notice)
	if !calls {
		return
	}
	h.losses.Add(1)
	h.actors.Go(func() { // Ends with the call, or with the wait limit.
		defer func() {
			h.told(m, name)
			h.losses.Add(-1)
			h.heard.Tell()
		}()
		if m.held { // It can be called when the one whose place it has taken has left, however long that takes.
			_ = await(m.session.ctx, m.settled)
		}
		err := m.call(m.session.ctx, "RequirementLost", func(ctx context.Context) error { return dependant.RequirementLost(ctx, name) })
		if err != nil {
			m.session.logger.Warn("the plugin did not take it well that a requirement was lost", "capability", name, "error", textOf(err))
		}
	})
}

// telling reports whether a plugin is being told of a loss. Then it will be told once
// more: a provider may come and go faster than others hear of it.
func (h *Hub) telling(m *member, name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, already := m.telling[name]
	m.telling[name] = already
	return already
}

// told notes that a plugin has been told of a loss, and tells it of one that came
// meanwhile.
func (h *Hub) told(m *member, name string) {
	h.mu.Lock()
	again := m.telling[name] && m.state != Draining && m.state != Stopped && !h.provided(name)
	delete(m.telling, name)
	h.mu.Unlock()
	if again {
		h.tellDependant(m, name)
	}
}

// provided reports whether the host or a plugin that has joined and does not leave
// provides a capability. hub.mu is held.
func (h *Hub) provided(name string) bool {
	return h.provides.has(security.HostID, name) || slices.ContainsFunc(h.order, func(m *member) bool {
		return m.state != Draining && h.provides.has(m.manifest.ID, name)
	})
}

// declared returns what the manifest says of a capability, and whether it does.
func (s *Session) declared(typ string) (discovery.Capability, bool) {
	i := slices.IndexFunc(s.manifest.Provides, func(c discovery.Capability) bool { return c.Name == typ })
	if i < 0 {
		return discovery.Capability{}, false
	}
	return s.manifest.Provides[i], true
}
