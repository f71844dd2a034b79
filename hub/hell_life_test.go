package hub_test

import (
	"context"
	"log/slog"

	EventBus "github.com/asaskevich/EventBus"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// The places where code runs because a plugin lives, and those of the host.

// handleWrite has a handler of the devil write to its own store.
func handleWrite(c *cell, s *hub.Session, v *store.View) {
	serveFor(c, s, "job", func(ctx context.Context, _ router.Message) (any, error) {
		_, err := v.Set(ctx, "job", []byte("good"))
		return nil, err
	})
}

func lifePlaces() []place {
	method := func(name string) map[need]string {
		return map[need]string{aPayload: name + " gets nothing that has references", aHandle: name + " is the plugin itself"}
	}
	register := func(c *cell, ctx context.Context) error { return c.h.Register(ctx, &devil{c}) }
	unregister := func(c *cell, ctx context.Context) error { return c.h.Unregister(ctx, "devil") }
	health := func(c *cell, ctx context.Context) error {
		for _, p := range c.h.Health(ctx) {
			if p.Plugin == "devil" {
				return p.Err
			}
		}
		return nil
	}
	provider := func(c *cell) {
		provide(c.t, join(c.t, c.h, "provider"), hub.Capability{Name: "need"}, echo)
	}
	lose := func(c *cell, ctx context.Context) error { return c.h.Unregister(ctx, "provider") }
	return []place{
		{
			name: "function of Go", leak: "devil: goroutine f", lacks: method("a function"),
			provoke: func(c *cell, _ context.Context) error {
				return inGo(c, "f", func(ctx context.Context, _ *hub.Session) { _ = c.run(hook{ctx: ctx}) })
			},
		},
		{
			name: "Manifest", endless: true, method: "Manifest", joins: true, once: true, provoke: register, leak: "host: call Manifest of *hub_test.devil", early: true,
			lacks: bare("Manifest"), unnamed: "nobody knows whose Manifest it was",
		},
		{name: "Start", endless: true, method: "Start", joins: true, once: true, provoke: register, leak: "devil: call Start", early: true, lacks: method("Start")},
		{name: "Stop", endless: true, method: "Stop", leaves: true, once: true, provoke: unregister, leak: "devil: call Stop", early: true, lacks: method("Stop")},
		{name: "Health", endless: true, method: "Health", provoke: health, leak: "devil: call Health", early: true, lacks: method("Health")},
		{name: "RequirementLost", endless: true, method: "RequirementLost", once: true, before: provider, provoke: lose, leak: "devil: call RequirementLost", early: true, lacks: method("RequirementLost")},
		{name: "text of the error of Start", endless: true, method: "Start", bad: evil, joins: true, once: true, provoke: register, leak: "devil: call Start", early: true, lacks: bare("the text of an error"), text: unreadable, deaf: "the host gets it as the error of Register"},
		{name: "text of the error of Stop", endless: true, method: "Stop", bad: evil, leaves: true, once: true, provoke: unregister, leak: "devil: call Stop", early: true, lacks: bare("the text of an error"), text: unreadable},
		{name: "text of the error of Health", endless: true, method: "Health", bad: evil, provoke: health, leak: "devil: call Health", early: true, lacks: bare("the text of an error"), unnamed: "it is an answer to the host"},
		{name: "text of the error of RequirementLost", endless: true, method: "RequirementLost", bad: evil, once: true, before: provider, provoke: lose, leak: "devil: call RequirementLost", early: true, lacks: bare("the text of an error"), unnamed: "it is an answer to the hub, and in the log"},
	}
}

// An evilHandler of the host's logger is code.
type evilHandler struct {
	slog.Handler
	c *cell
}

func (h evilHandler) Handle(ctx context.Context, r slog.Record) error {
	if err := h.c.run(hook{ctx: ctx}); err != nil {
		return err
	}
	return h.Handler.Handle(ctx, r)
}

func (h evilHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return evilHandler{h.Handler.WithAttrs(attrs), h.c}
}

func hostPlaces() []place {
	boom := func(c *cell, s *hub.Session) {
		if _, err := s.Subscribe("job", func(context.Context, events.Event) error { return errPlugin }); err != nil {
			c.fault("the devil cannot subscribe: %v", err)
		}
	}
	flaw := func(c *cell, ctx context.Context) error { return c.h.Discard(1) }
	sink := func(write func(c *cell, ctx context.Context, e audit.Entry) error) func(c *cell, o *hub.Options) {
		return func(c *cell, o *hub.Options) {
			o.Audit.Sinks = []audit.SinkOptions{{Name: "hell", Sink: audit.SinkFunc(func(ctx context.Context, e audit.Entry) error { return write(c, ctx, e) })}}
		}
	}
	imp := func(c *cell, ctx context.Context) error {
		if err := c.h.Register(ctx, hub.Func(hub.Manifest{ID: "imp"}, nil)); err != nil {
			return err
		}
		return c.h.Unregister(ctx, "imp")
	}
	logs := func(c *cell, o *hub.Options) { o.Logger = slog.New(evilHandler{o.Logger.Handler(), c}) }
	record := map[need]string{aContext: "a logger is not waited for, so its context has no end", aPayload: "a record is the handler's own", aHandle: "a handler is the logger itself"}
	return []place{
		{
			name: "sink of the audit log", host: true, lacks: map[need]string{aHandle: "a sink stays as long as its log"}, provoke: flaw, says: `sink "hell"`, text: "ended its goroutine",
			options: sink(func(c *cell, ctx context.Context, e audit.Entry) error { return c.run(hook{ctx: ctx, data: e}) }),
		},
		{
			name: "text of the error of a sink", host: true, lacks: bare("the text of an error"), provoke: flaw, says: `sink "hell"`, text: "evilText",
			options: sink(func(c *cell, _ context.Context, _ audit.Entry) error {
				if !c.armed.Load() {
					return nil
				}
				return evilText{c}
			}),
		},
		{
			name: "handler of the notice board", host: true, lacks: bare("a notice handler"), provoke: imp, says: "a callback of the host", leak: "host: callback NoticeBoard or OnAlert",
			options: func(c *cell, o *hub.Options) {
				board := EventBus.New()
				if err := board.Subscribe(hub.EventRegistered, func(hub.Notice) { _ = c.run(hook{}) }); err != nil {
					c.fault("the board: %v", err)
				}
				o.NoticeBoard = board
			},
		},
		{
			name: "Observer", host: true, lacks: map[need]string{aHandle: "an Observer stays as long as its hub"}, provoke: emitJob, says: "Options.Observer has not returned", leak: "host: callback Observer",
			options: func(c *cell, o *hub.Options) {
				o.Observer = hub.ObserverFunc(func(ctx context.Context, batch []plugbus.Observation) { _ = c.run(hook{ctx: ctx, data: batch}) })
			},
		},
		{
			name: "OnAlert", host: true, lacks: bare("OnAlert"), says: "a callback of the host", leak: "host: callback NoticeBoard or OnAlert", once: true,
			options: func(c *cell, o *hub.Options) { o.OnAlert = func(security.Alert) { _ = c.run(hook{}) } },
			provoke: func(c *cell, ctx context.Context) error {
				for range 60 {
					_, _ = c.devil.Load().Emit(ctx, "plugin:forged", nil)
				}
				return nil
			},
		},
		{
			name: "handler of the logger, for what the hub does", host: true, options: logs, lacks: record, provoke: imp, deaf: "it is the log", says: "the handler of Options.Logger has not returned", leak: "host: callback Logger", early: true,
		},
		{
			name: "handler of the logger, for what a plugin does wrong", host: true, options: logs, lacks: record, provoke: emitJob, start: boom, deaf: "it is the log", says: "the handler of Options.Logger has not returned", leak: "host: callback Logger", early: true, charge: 1,
		},
		{
			name: "handler of the logger, for what a plugin says", host: true, options: logs, lacks: record, provoke: sendJob, deaf: "it is the log", leak: "devil: call Session.Logger", early: true,
			start: func(c *cell, s *hub.Session) {
				serveFor(c, s, "job", func(ctx context.Context, _ router.Message) (any, error) {
					s.Logger().InfoContext(ctx, "hello")
					return nil, nil
				})
			},
		},
	}
}
