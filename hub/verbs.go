package hub

import (
	"context"
	"iter"
	"slices"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/router"
)

// Subscribe calls handler for every event whose name matches pattern and that
// the plugin may have. See [events.Client.Subscribe].
func (s *Session) Subscribe(pattern string, handler events.Handler, options ...events.SubscribeOption) (*events.Subscription, error) {
	return s.client.Subscribe(pattern, handler, options...)
}

// Emit tells an event to whoever subscribed to its name. See
// [events.Client.Emit].
func (s *Session) Emit(ctx context.Context, name string, data any, options ...events.EmitOption) (events.Receipt, error) {
	return s.client.Emit(ctx, name, data, options...)
}

// Broadcast tells an event to an audience, but not to the plugin itself. See
// [events.Client.Broadcast].
func (s *Session) Broadcast(ctx context.Context, name string, data any, to events.Audience, options ...events.EmitOption) (events.Receipt, error) {
	return s.client.Broadcast(ctx, name, data, to, options...)
}

// Replay returns events of the history that match the pattern and that the
// plugin may have. See [events.Client.Replay].
func (s *Session) Replay(ctx context.Context, pattern string, from events.From) iter.Seq2[events.Event, error] {
	return s.client.Replay(ctx, pattern, from)
}

// Handle handles messages of a type. If the manifest declares a capability of this
// name, calls of it come here, with its schemas and access list enforced. See
// [router.Client.Handle].
func (s *Session) Handle(typ string, handler router.Handler, options ...router.HandleOption) (*router.Route, error) {
	if c, ok := s.declared(typ); ok && handler != nil {
		handler, options = s.serving(typ, handler), withAccess(c, options)
	}
	return s.mail.Handle(typ, handler, options...)
}

// HandleStream handles messages of a type that have many replies. If the manifest
// declares a capability of this name, its schemas and access list are enforced.
// See [router.Client.HandleStream].
func (s *Session) HandleStream(typ string, handler router.StreamHandler, options ...router.HandleOption) (*router.Route, error) {
	if c, ok := s.declared(typ); ok && handler != nil {
		handler, options = s.servingStream(typ, handler), withAccess(c, options)
	}
	return s.mail.HandleStream(typ, handler, options...)
}

// HandleDefault handles messages of the types that have no handler. If the manifest
// declares a capability of such a name, its schemas and access list are enforced.
// See [router.Client.HandleDefault].
func (s *Session) HandleDefault(handler router.Handler, options ...router.HandleOption) (*router.Route, error) {
	if handler != nil && len(s.manifest.Provides) > 0 {
		handler, options = s.servingAny(handler), append(slices.Clip(options), router.Measured())
	}
	return s.mail.HandleDefault(handler, options...)
}

// HandleTopic handles publications whose topic matches a pattern. See
// [router.Client.HandleTopic].
func (s *Session) HandleTopic(pattern string, handler router.TopicHandler, options ...router.HandleOption) (*router.Route, error) {
	return s.mail.HandleTopic(pattern, handler, options...)
}

// Send sends a message to a plugin, and waits for the reply. See
// [router.Client.Send].
func (s *Session) Send(ctx context.Context, to, typ string, data any, options ...router.SendOption) (router.Response, error) {
	return s.mail.Send(ctx, to, typ, data, options...)
}

// Stream sends a message to a plugin, and returns the replies as they come. See
// [router.Client.Stream].
func (s *Session) Stream(ctx context.Context, to, typ string, data any, options ...router.SendOption) iter.Seq2[router.Response, error] {
	return s.mail.Stream(ctx, to, typ, data, options...)
}

// Post sends a message to a plugin, and does not wait for its handler. See
// [router.Client.Post].
func (s *Session) Post(ctx context.Context, to, typ string, data any, options ...router.SendOption) error {
	return s.mail.Post(ctx, to, typ, data, options...)
}

// Publish sends a message to every handler of a topic, and does not wait for
// them. See [router.Client.Publish].
func (s *Session) Publish(ctx context.Context, topic string, data any, options ...router.SendOption) (router.Receipt, error) {
	return s.mail.Publish(ctx, topic, data, options...)
}
