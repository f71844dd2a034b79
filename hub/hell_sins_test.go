package hub_test

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A sin is something bad that code does.
type sin struct {
	name    string
	needs   need
	breaks  bool   // the code does not return, but ends
	panics  bool   // by a panic
	text    string // what the host must find of it
	blocks  bool
	late    bool // and is let go when everybody has given it up, and not only when the hub is closed
	obeys   bool // and returns when its context ends
	removes bool // the place is gone after it
	leaves  bool // the plugin is gone after it
	closes  bool // the hub is closed after it
	commit  func(c *cell, k hook) error
}

// brief is the time that calls get which sin.
const brief = time.Second

// near returns the context of the code, or one of its own if it gets none.
func (k hook) near() (context.Context, context.CancelFunc) {
	if k.ctx == nil {
		return k.far()
	}
	return context.WithTimeout(k.ctx, brief)
}

// far returns a context that has nothing to do with that of the code.
func (hook) far() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), brief)
}

// A grip returns the context with which the code sins.
type grip func(k hook) (context.Context, context.CancelFunc)

func sins() []sin {
	all := []sin{
		{name: "panics with a text", breaks: true, panics: true, text: "straight from hell", commit: func(*cell, hook) error { panic("straight from hell") }},
		{name: "panics with an error that panics", breaks: true, panics: true, text: "hub_test.awkward", commit: func(*cell, hook) error { panic(awkward{}) }},
		{name: "panics with an error that ends the goroutine", breaks: true, panics: true, text: "hub_test.trapdoor", commit: func(*cell, hook) error { panic(trapdoor{}) }},
		{name: "panics with nil", breaks: true, panics: true, text: "panic called with nil argument", commit: func(*cell, hook) error { panic(nil) }}, //nolint:govet // That is the sin.
		{name: "has a runtime error", breaks: true, panics: true, text: "assignment to entry in nil map", commit: func(*cell, hook) error {
			var none map[string]int
			none["x"] = 1 //nolint:staticcheck,govet // That is the sin.
			return nil
		}},
		{name: "ends its goroutine", breaks: true, text: "Goexit", commit: func(*cell, hook) error {
			runtime.Goexit()
			return nil
		}},
		{name: "blocks for ever", blocks: true, commit: func(c *cell, _ hook) error { <-c.gate; return nil }},
		{name: "returns late", blocks: true, late: true, commit: func(c *cell, _ hook) error { <-c.gate; return nil }},
		{name: "returns an error late", blocks: true, late: true, commit: func(c *cell, _ hook) error { <-c.gate; return errPlugin }},
		{name: "panics late", blocks: true, late: true, commit: func(c *cell, _ hook) error { <-c.gate; panic("too late") }},
		{name: "blocks until its context ends", blocks: true, obeys: true, needs: aContext, commit: func(c *cell, k hook) error {
			select {
			case <-k.ctx.Done():
				return k.ctx.Err()
			case <-c.gate: // The hub has closed, and the context has not ended.
				c.fault("the context never ended")
				return nil
			}
		}},
		{name: "takes itself away", needs: aHandle, removes: true, commit: func(_ *cell, k hook) error { k.remove(); return nil }},
		{name: "changes its payload", needs: aPayload, commit: func(_ *cell, k hook) error { spoil(k.data); return nil }},
	}
	for _, with := range []struct {
		name string
		grip grip
	}{{"", hook.near}, {", with a context of another's", hook.far}} {
		all = append(all,
			sin{name: "calls all methods of its session" + with.name, commit: with.grip.reenter},
			sin{name: "lets its plugin go" + with.name, leaves: true, commit: with.grip.unregister},
			sin{name: "replaces its plugin" + with.name, commit: with.grip.replace},
			sin{name: "closes the hub" + with.name, closes: true, leaves: true, commit: with.grip.closeHub},
			sin{name: "asks the hub everything" + with.name, commit: with.grip.question},
			sin{name: "floods" + with.name, commit: with.grip.flood},
		)
	}
	return all
}

// spoil changes what it can reach.
func spoil(data any) {
	switch d := data.(type) {
	case map[string]any:
		if list, ok := d["list"].([]any); ok {
			list[0] = "evil"
		}
		d["text"] = "evil"
		delete(d, "list")
	case []plugbus.Observation:
		for i := range d {
			d[i] = plugbus.Observation{}
		}
	case []byte:
		for i := range d {
			d[i] = 'x'
		}
	case audit.Entry:
		for i := range d.Details {
			d.Details[i].Value = "evil"
		}
	case []string:
		for i := range d {
			d[i] = "evil"
		}
	}
}

// reenter calls every method of the session that the code has.
func (g grip) reenter(c *cell, k hook) error {
	s := c.devil.Load()
	if s == nil || c.place.host {
		s = c.h.Host()
	}
	for _, call := range sessionCalls() {
		ctx, cancel := g(k)
		begin := time.Now()
		call(ctx, s)
		cancel()
		if took := time.Since(begin); took > brief {
			c.fault("a method took %v, with a context that ends after %v", took, brief)
		}
	}
	return nil
}

func (g grip) unregister(c *cell, k hook) error {
	ctx, cancel := g(k)
	defer cancel()
	_ = c.h.Unregister(ctx, "devil")
	return nil
}

func (g grip) replace(c *cell, k hook) error {
	ctx, cancel := g(k)
	defer cancel()
	_ = c.h.Replace(ctx, &devil{c})
	return nil
}

func (g grip) closeHub(c *cell, k hook) error {
	ctx, cancel := g(k)
	defer cancel()
	c.closing.Store(true)
	begin := time.Now()
	_, _ = c.h.Close(ctx)
	if took := time.Since(begin); took > brief+hub.CloseGrace {
		c.fault("Close took %v, with a context that ends after %v", took, brief)
	}
	return nil
}

// question asks the hub about everything, and does what a host does.
func (g grip) question(c *cell, k hook) error {
	ctx, cancel := g(k)
	defer cancel()
	h := c.h
	_ = h.Idle(ctx)
	_ = h.Health(ctx)
	_ = h.Inspect()
	_ = h.Leaks()
	_ = h.Ledger()
	_ = h.Explain("devil", plugbus.VerbEmit, "x")
	_ = h.Explain("devil", plugbus.VerbWrite, "words")
	_ = h.Plugins()
	_ = h.DeadLetters()
	_ = h.Restore("devil")
	_ = h.Resend(ctx, 1)
	_ = h.Discard(1)
	_ = h.CompactStores(ctx)
	_, _ = h.Audit().Search(audit.Query{})
	_ = h.Security().Policy()
	through := func(next router.Deliver) router.Deliver { return next }
	_ = h.Use("hell.more", through)
	h.Unuse("hell.more")
	begin := time.Now()
	ctx, cancel = g(k)
	defer cancel()
	_ = h.Register(ctx, hub.Func(hub.Manifest{ID: "imp"}, nil))
	_ = h.Unregister(ctx, "imp")
	if took := time.Since(begin); took > 0 {
		c.fault("another plugin that joins and leaves waits %v for the code", took)
	}
	return nil
}

// flood emits and sends until it is refused, or has done so often enough.
func (g grip) flood(c *cell, k hook) error {
	s := c.devil.Load()
	if s == nil || c.place.host {
		s = c.friend // The host has no limits.
	}
	ctx, cancel := g(k)
	defer cancel()
	until := func(act func() error) {
		for range 20_000 {
			if err := act(); err != nil {
				if !errors.Is(err, plugbus.ErrDenied) && !errors.Is(err, router.ErrQueueFull) && !errors.Is(err, plugbus.ErrClosed) && ctx.Err() == nil {
					c.fault("a flood ends with %v", err)
				}
				return
			}
		}
	}
	until(func() error { _, err := s.Emit(ctx, "job.flood", 1); return err })
	until(func() error { return s.Post(ctx, "bystander", "flood", 1) })
	return nil
}
