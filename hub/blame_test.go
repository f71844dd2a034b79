package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A court is a hub in which something goes wrong between two plugins.
type court struct {
	testing.TB
	h                     *hub.Hub
	caller, callee, third *hub.Session
	ctx                   context.Context //nolint:containedctx // Of the test.
}

// A deed goes wrong, and is done again and again.
type deed func()

// The ways in which a handler of any kind can end, or not.
func boo(context.Context) error      { panic("boo") }
func goexit(context.Context) error   { runtime.Goexit(); return nil }
func sorry(context.Context) error    { return errPlugin }
func obey(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
func nap(context.Context) error      { <-time.After(time.Second); return nil }
func fine(context.Context) error     { return nil }

// within returns a context that ends after d. The deed is over by then.
func (c *court) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.ctx, d)
	c.Cleanup(cancel)
	return ctx
}

// event has a handler of the callee get events of the caller.
func event(f func(context.Context) error, options ...events.SubscribeOption) func(c *court) deed {
	return func(c *court) deed {
		_, err := c.callee.Subscribe("word.*", func(ctx context.Context, _ events.Event) error { return f(ctx) }, options...)
		require.NoError(c, err)
		return func() { _, _ = c.caller.Emit(c.ctx, "word.said", 1) }
	}
}

// emits has the caller emit to a callee that is slow and has no room.
func emits(name string, data any, options ...events.EmitOption) func(c *court) deed {
	return func(c *court) deed {
		_ = event(nap, events.Buffer(1), events.OnOverflow(events.RefuseToEmitter))(c)
		return func() { _, _ = c.caller.Emit(c.within(time.Millisecond), name, data, options...) }
	}
}

// asked has a handler of the callee get what the caller sends.
func asked(f func(context.Context) error, act func(c *court), options ...router.HandleOption) func(c *court) deed {
	return func(c *court) deed {
		serve(c, c.callee, "ask", func(ctx context.Context, _ router.Message) (any, error) { return nil, f(ctx) }, options...)
		return func() { act(c) }
	}
}

// request is asked for a request.
func request(f func(context.Context) error, options ...router.HandleOption) func(c *court) deed {
	return asked(f, func(c *court) { _, _ = c.caller.Send(c.ctx, "callee", "ask", 1) }, options...)
}

// sends has the caller send to a callee for which everything is fine.
func sends(to, typ string, data any) func(c *court) deed {
	return asked(fine, func(c *court) { _, _ = c.caller.Send(c.ctx, to, typ, data) })
}

// replies has the callee reply with something.
func replies(data any) func(c *court) deed {
	return func(c *court) deed {
		serve(c, c.callee, "ask", func(context.Context, router.Message) (any, error) { return data, nil })
		return func() { _, _ = c.caller.Send(c.ctx, "callee", "ask", 1) }
	}
}

// stream has the caller read a stream of the callee.
func stream(f router.StreamHandler, options ...router.SendOption) func(c *court) deed {
	return func(c *court) deed {
		_, err := c.callee.HandleStream("ask", f)
		require.NoError(c, err)
		return func() {
			for _, err := range c.caller.Stream(c.ctx, "callee", "ask", 1, options...) {
				_ = err // The verdict is what counts.
			}
		}
	}
}

// reader is stream for a reader that takes its time for each chunk, or leaves.
func reader(pause time.Duration, leaves bool) func(c *court) deed {
	return func(c *court) deed {
		_, err := c.callee.HandleStream("ask", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			for yield(1) { // Until the reader has gone, or is too slow.
			}
			return nil
		})
		require.NoError(c, err)
		return func() {
			for _, err := range c.caller.Stream(c.ctx, "callee", "ask", 1) {
				_ = err // The same.
				<-time.After(pause)
				if leaves {
					return
				}
			}
		}
	}
}

// publication has a handler of a topic of the callee get what the caller publishes.
func publication(topic string, f func(context.Context) error, options ...router.HandleOption) func(c *court) deed {
	return func(c *court) deed {
		_, err := c.callee.HandleTopic("news.*", func(ctx context.Context, _ router.Message) error { return f(ctx) }, options...)
		require.NoError(c, err)
		return func() { _, _ = c.caller.Publish(c.ctx, topic, 1) }
	}
}

// capability has the caller call a capability of the callee, from a number to a number.
func capability(f func(ctx context.Context) (any, error), data any, options ...discovery.CallOption) func(c *court) deed {
	return func(c *court) deed {
		number := json.RawMessage(`{"type": "number"}`)
		provide(c, c.callee, hub.Capability{Name: "count", Input: number, Output: number}, func(ctx context.Context, _ router.Message) (any, error) { return f(ctx) })
		return func() { _, _ = c.caller.Call(c.ctx, "count", data, options...) }
	}
}

// written has the caller write to a store of the callee.
func written(config store.Config, act func(c *court, v *store.View)) func(c *court) deed {
	return func(c *court) deed {
		config.Write, config.Read = []string{"caller"}, []string{"caller"}
		create(c, c.callee, "words", config)
		v := view(c, c.caller, "words")
		return func() { act(c, v) }
	}
}

// validated is written with a validator.
func validated(f func(context.Context) error) func(c *court) deed {
	return written(store.Config{Validator: func(ctx context.Context, _ *store.Proposal) error { return f(ctx) }}, write)
}

func write(c *court, v *store.View) { _, _ = v.Set(c.ctx, "a", []byte(`"x"`)) }

// watched has a watch of the callee see what the caller writes.
func watched(f func(context.Context) error, options ...store.WatchOption) func(c *court) deed {
	return func(c *court) deed {
		v := create(c, c.caller, "words", store.Config{Read: []string{"callee"}})
		_, err := view(c, c.callee, "words").Watch(c.ctx, "**", func(ctx context.Context, _ store.Change) error { return f(ctx) }, options...)
		require.NoError(c, err)
		return func() { write(c, v) }
	}
}

// through has the caller send through a middleware of the host.
func through(m func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error)) func(c *court) deed {
	return func(c *court) deed {
		require.NoError(c, c.h.Use("m", func(next router.Deliver) router.Deliver {
			return func(ctx context.Context, d *router.Draft) (router.Response, error) { return m(ctx, d, next) }
		}))
		deeds := []deed{sends("callee", "ask", 1)(c), publication("news.new", fine)(c)}
		return func() {
			for _, deed := range deeds {
				deed()
			}
		}
	}
}

// checkup has the host ask for the health of a plugin "callee" that answers by f.
func checkup(f func(context.Context) error, patience time.Duration) func(c *court) deed {
	return func(c *court) deed {
		require.NoError(c, c.h.Replace(c.ctx, &plug{manifest: named("callee"), health: f}))
		return func() { c.h.Health(c.within(patience)) }
	}
}

// comesAndGoes has a guest join, and leave if it could.
func comesAndGoes(p *plug) func(c *court) deed {
	p.manifest = named("guest")
	return func(c *court) deed {
		return func() {
			if c.h.Register(c.within(time.Second), p) == nil {
				_ = c.h.Unregister(c.within(time.Second), "guest")
			}
		}
	}
}

// quarantined has the callee in quarantine by the host, to begin with.
func quarantined(next func(c *court) deed) func(c *court) deed {
	return func(c *court) deed {
		deed := next(c)
		return func() {
			_ = c.h.Quarantine("callee", "the test")
			deed()
			synctest.Wait()
			_ = c.h.Restore("callee")
		}
	}
}

// verdicts are who is charged for what: one of the two plugins with failures or refusals
// of its own, or nobody.
var verdicts = []struct {
	deed    string
	charged string // "caller", "callee", "third" or ""
	set     func(c *court) deed
}{
	// Events.
	{"a handler of events returns an error", "", event(sorry)},
	{"a handler of events panics", "callee", event(boo)},
	{"a handler of events ends its goroutine", "callee", event(goexit)},
	{"a concurrent handler of events panics", "callee", event(boo, events.Concurrent(2))},
	{"a filter panics", "callee", event(fine, events.Filter(func(events.Event) bool { panic("boo") }))},
	{"a handler of events exceeds its time", "callee", event(obey, events.Timeout(time.Second))},
	{"a handler of events exceeds a time of 1 ns, which is its own", "callee", event(obey, events.Timeout(1))},
	{"a handler of events is slow", "", event(func(context.Context) error { <-time.After(25 * time.Second); return nil })},
	{"an event expires", "", emits("word.said", 1, events.MaxAge(1))},
	{"there is no room for an event", "", emits("word.said", 1)},
	{"an emitter does not wait long for room", "", emits("word.said", 1, events.WaitForRoom())},
	{"an event has no name", "caller", emits("", 1)},
	{"an event has a name of the hub's", "caller", emits("hub:x", 1)},
	{"an event cannot be copied", "caller", emits("word.said", func() {})},
	{"an event is too large", "caller", emits("word.said", strings.Repeat("x", 2<<20))},
	{"a subscriber is in quarantine", "", quarantined(event(fine))},
	{"a broadcast is for one in quarantine", "", quarantined(func(c *court) deed {
		return func() { _, _ = c.caller.Broadcast(c.ctx, "word.said", 1, events.Audience{IDs: []string{"callee"}}) }
	})},

	// Messages.
	{"a handler returns an error", "", request(sorry)},
	{"a handler says that it failed", "", request(func(context.Context) error { return &plugbus.RemoteError{Code: plugbus.CodeInternal} })},
	{"a handler says that it was asked badly", "", request(func(context.Context) error { return &plugbus.RemoteError{Code: plugbus.CodeInvalid} })},
	{"a handler panics", "callee", request(boo)},
	{"a handler ends its goroutine", "callee", request(goexit)},
	{"a concurrent handler panics", "callee", request(boo, router.Concurrent(2))},
	{"a handler exceeds its own time", "callee", request(obey, router.Timeout(time.Second))},
	{"a handler exceeds the hub's time", "callee", request(obey)},
	{"a caller's deadline is 1 ns", "", asked(obey, func(c *court) { _, _ = c.caller.Send(c.within(1), "callee", "ask", 1) })},
	{"a caller's deadline is most of the hub's time", "", asked(obey, func(c *court) { _, _ = c.caller.Send(c.within(8*time.Second), "callee", "ask", 1) })},
	{"a caller's time-out is 1 ns", "", asked(obey, func(c *court) { _, _ = c.caller.Send(c.ctx, "callee", "ask", 1, router.Timeout(1)) })},
	{"a caller goes away", "", asked(obey, func(c *court) {
		ctx, cancel := context.WithCancel(c.ctx)
		time.AfterFunc(time.Second, cancel)
		_, _ = c.caller.Send(ctx, "callee", "ask", 1)
	})},
	{"a handler waits for another that hangs", "third", func(c *court) deed {
		serve(c, c.third, "hang", func(ctx context.Context, _ router.Message) (any, error) { return nil, obey(ctx) })
		return request(func(ctx context.Context) error { _, err := c.callee.Send(ctx, "third", "hang", 1); return err })(c)
	}},
	{"a handler hands its caller's deadline on", "", func(c *court) deed {
		serve(c, c.third, "hang", func(ctx context.Context, _ router.Message) (any, error) { return nil, obey(ctx) })
		return asked(func(ctx context.Context) error { _, err := c.callee.Send(ctx, "third", "hang", 1); return err },
			func(c *court) { _, _ = c.caller.Send(c.within(time.Second), "callee", "ask", 1) })(c)
	}},
	{"a reply cannot be copied", "callee", replies(func() {})},
	{"a reply is too large", "callee", replies(strings.Repeat("x", 2<<20))},
	{"a message cannot be copied", "caller", sends("callee", "ask", func() {})},
	{"a message has no type", "caller", sends("callee", "", 1)},
	{"a message is for a malformed id", "caller", sends("*", "ask", 1)},
	{"a message is for nobody", "", sends("nobody", "ask", 1)},
	{"a message has no handler", "", sends("callee", "other", 1)},
	{"a handler is not for this sender", "", request(fine, router.Senders(nil, []string{"caller"}))},
	{"a request would wait for itself", "caller", func(c *court) deed {
		serve(c, c.caller, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			return c.caller.Send(ctx, "caller", "ask", 1)
		})
		return func() { _, _ = c.third.Send(c.ctx, "caller", "ask", 1) }
	}},
	{"a mailbox is full", "", asked(nap, func(c *court) { _ = c.caller.Post(c.ctx, "callee", "ask", 1) })},
	{"a post panics its handler", "callee", asked(boo, func(c *court) { _ = c.caller.Post(c.ctx, "callee", "ask", 1) })},
	{"a post expires", "", asked(nap, func(c *court) { _ = c.caller.Post(c.ctx, "callee", "ask", 1, router.MaxAge(1)) })},
	{"a recipient is in quarantine", "", quarantined(request(fine))},
	{"a middleware panics", "", through(func(context.Context, *router.Draft, router.Deliver) (router.Response, error) { panic("boo") })},
	{"a middleware panics afterwards", "", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
		_, _ = next(ctx, d)
		panic("boo")
	})},
	{"a middleware forgets", "", through(func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
		return router.Response{}, nil
	})},
	{"a middleware makes nonsense", "", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
		d.Priority = 99
		return next(ctx, d)
	})},
	{"a middleware says no", "caller", through(func(context.Context, *router.Draft, router.Deliver) (router.Response, error) {
		return router.Response{}, errors.New("no")
	})},

	// Streams.
	{"a handler of streams panics", "callee", stream(func(context.Context, router.Message, func(any) bool) error { panic("boo") })},
	{"a handler of streams gives nothing", "callee", stream(func(ctx context.Context, _ router.Message, _ func(any) bool) error { return obey(ctx) })},
	{"a reader has 1 ns for each chunk", "", stream(func(ctx context.Context, _ router.Message, _ func(any) bool) error { return obey(ctx) }, router.Idle(1))},
	{"a chunk cannot be copied", "callee", stream(func(_ context.Context, _ router.Message, yield func(any) bool) error { yield(func() {}); return nil })},
	{"a reader does not read", "", reader(25*time.Second, false)},
	{"a reader leaves", "", reader(0, true)},

	// Publications.
	{"a handler of topics returns an error", "", publication("news.new", sorry)},
	{"a handler of topics panics", "callee", publication("news.new", boo)},
	{"a handler of topics exceeds its time", "callee", publication("news.new", obey, router.Timeout(time.Second))},
	{"a topic is malformed", "caller", publication("news..new", fine)},
	{"a publication is for one in quarantine", "", quarantined(publication("news.new", fine))},

	// Capabilities.
	{"a provider panics", "callee", capability(func(context.Context) (any, error) { panic("boo") }, 1)},
	{"a provider returns an error", "", capability(func(context.Context) (any, error) { return nil, errPlugin }, 1)},
	{"a caller of a capability has 1 ns", "", capability(func(ctx context.Context) (any, error) { return nil, obey(ctx) }, 1, discovery.Timeout(1))},
	{"a request does not fit", "caller", capability(func(context.Context) (any, error) { return 1, nil }, "one")},
	{"a reply does not fit", "", capability(func(context.Context) (any, error) { return "one", nil }, 1)},
	{"a provider says that a request does not fit", "", capability(func(context.Context) (any, error) {
		return nil, &plugbus.RemoteError{Code: plugbus.CodeInvalid, Message: "the request does not fit the capability: no"}
	}, 1)},
	{"nobody provides", "", func(c *court) deed { return func() { _, _ = c.caller.Call(c.ctx, "count", 1) } }},

	// Stores.
	{"a watcher returns an error", "", watched(sorry)},
	{"a watcher panics", "callee", watched(boo)},
	{"a watcher ends its goroutine", "callee", watched(goexit)},
	{"a watcher exceeds its time", "callee", watched(obey, store.Timeout(time.Second))},
	{"a validator rejects", "caller", validated(sorry)},
	{"a validator panics", "callee", validated(boo)},
	{"a validator ends its goroutine", "callee", validated(goexit)},
	{"a validator exceeds its time", "callee", validated(obey)},
	{"a validator exceeds its time for a handler of its own", "callee", func(c *court) deed {
		v := create(c, c.callee, "words", store.Config{Validator: func(ctx context.Context, _ *store.Proposal) error { return obey(ctx) }})
		return request(func(ctx context.Context) error { _, err := v.Set(ctx, "a", nil); return err })(c)
	}},
	{"a writer has 1 ns", "", written(store.Config{Validator: func(ctx context.Context, _ *store.Proposal) error { return nap(ctx) }}, func(c *court, v *store.View) {
		_, _ = v.Set(c.within(1), "a", nil)
	})},
	{"a value does not fit the schema", "caller", written(store.Config{Schema: []byte(`{"type": "number"}`)}, write)},
	{"a write comes too late", "", written(store.Config{}, func(c *court, v *store.View) { _, _ = v.Update(c.ctx, "a", nil, 99) })},
	{"an owner is in quarantine", "", quarantined(validated(fine))},

	// The life of a plugin.
	{"a Start panics", "", comesAndGoes(&plug{start: func(ctx context.Context, _ *hub.Session) error { return boo(ctx) }})},
	{"a Start returns too late", "", comesAndGoes(&plug{start: func(ctx context.Context, _ *hub.Session) error { return obey(ctx) }})},
	{"a Stop panics", "", comesAndGoes(&plug{stop: boo})},
	{"a Stop returns too late", "", comesAndGoes(&plug{stop: obey})},
	{"a Health says that something is wrong", "", checkup(sorry, time.Second)},
	{"a Health panics", "callee", checkup(boo, time.Second)},
	{"a Health ends its goroutine", "callee", checkup(goexit, time.Second)},
	{"a Health is asked for with 1 ns", "", checkup(obey, 1)},
	{"a Health takes all of the hub's time", "", checkup(obey, time.Hour)},
	{"a function of Go panics", "callee", func(c *court) deed {
		return func() { require.NoError(c, c.callee.Go("f", func(ctx context.Context) { _ = boo(ctx) })) }
	}},
	{"a function of Go returns", "", func(c *court) deed {
		return func() { require.NoError(c, c.callee.Go("f", func(context.Context) {})) }
	}},
}

// TestBlame shows who is charged for what: a plugin for what its own code does, and for
// what it asks for that is refused or invalid; nobody for a deadline that the caller chose,
// for a recipient that cannot receive, or for the host's middleware. Each deed is done
// often enough that whoever is charged with it is put in quarantine, which shows that
// nobody else is. No deed takes half a minute, so that two of them count together.
func TestBlame(t *testing.T) {
	for _, test := range verdicts {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{FailureBudget: 1, ProbeAfter: -1, WaitLimit: 10 * time.Second, Router: router.Options{RequestTimeout: 10 * time.Second, StreamIdle: 10 * time.Second}})
			c := &court{TB: t, h: h, ctx: t.Context()}
			c.caller, c.callee, c.third = join(t, h, "caller"), join(t, h, "callee"), join(t, h, "third")
			deed := test.set(c)
			const refusals = 400 // As many as two failures.
			for range refusals {
				deed()
				synctest.Wait()
			}
			<-time.After(24 * time.Hour)
			var charged []string
			for _, p := range h.Inspect().Plugins {
				if p.State == hub.Quarantined {
					charged = append(charged, p.ID)
				}
			}
			require.Equal(t, test.charged, strings.Join(charged, ", "), test.deed)
			require.NoError(t, h.Ledger().Check())
		})
	}
}
