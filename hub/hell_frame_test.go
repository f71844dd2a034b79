package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/internal/panics"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// Handlers from hell: every place where code of a plugin or of the host runs, with
// everything bad that it can do there. Each pair is a cell: a hub of its own in simulated
// time, in which the plugin "devil", or the host, sins once, while a plugin "bystander"
// gets an event, a request and a change of a store each second, and must get each at that
// second. What is a sin is in hell_sins_test.go, and the places are in the other files.

// A need is what a sin must find at a place.
type need string

const (
	aContext need = "context"
	aPayload need = "payload"
	aHandle  need = "handle"
)

// A place is where code of a plugin or of the host runs.
type place struct {
	name  string
	lacks map[need]string // why there is no such thing here
	host  bool            // it is code of the host, and no plugin is to blame for it
	never string          // why no code runs here, if none does

	options func(c *cell, o *hub.Options)            // before the hub is made
	before  func(c *cell)                            // when the hub is there, and the devil is not
	start   func(c *cell, s *hub.Session)            // in the devil's Start
	provoke func(c *cell, ctx context.Context) error // has the code run, and returns when whoever waits for it is released
	method  string                                   // of the plugin, if the code is one
	bad     func(c *cell) error                      // what the methods of the plugin return; for the texts of errors
	joins   bool                                     // provoke registers the devil
	leaves  bool                                     // provoke lets the devil go
	once    bool                                     // provoke can be done once
	stack   string                                   // why the code holds whoever waits, if it does
	text    string                                   // what the host reads in place of the text of a panic, since it is a text that panics
	unnamed string                                   // why the code has no outcome of its own to blame anybody for, if it has none
	leak    string                                   // what Leaks says while the code hangs: kind and name
	early   bool                                     // and it does so when those who wait have been released, not only when the plugin has left
	own     bool                                     // the host calls its own code, and gets its own panic
	endless bool                                     // who waits has a context without an end, and is released by the limit of the hub
	idle    bool                                     // the idle limit of streams is one of those that end it
	charge  uint64                                   // failures that the sinner is charged with, if more than one
	deaf    string                                   // why the log says nothing of it, if it does not
	says    string                                   // what the error of Close says while the code hangs
}

// A hook is one run of the code at a place, with what it has there.
type hook struct {
	ctx    context.Context //nolint:containedctx // It is what the code gets.
	data   any             // its payload, which has references
	remove func()          // ends the place: unsubscribes, or takes the handler away
}

const (
	patience = 3 * time.Second  // of those who have the code run
	atTheEnd = 10 * time.Second // for Close
)

// A cell is one place with one sin.
type cell struct {
	t     *testing.T
	place *place
	sin   *sin

	h        *hub.Hub
	devil    atomic.Pointer[hub.Session] // of the latest
	peer     *hub.Session
	friend   *hub.Session // that may be inline with the devil
	words    *store.View  // of the peer, in which everybody writes
	log      lines
	gate     chan struct{} // opens when what blocks for ever is let go
	payload  map[string]any
	armed    atomic.Bool
	runs     atomic.Int32
	pings    atomic.Int32
	ticks    atomic.Int32
	heard    [3]atomic.Int32 // ticks that the bystander got: events, requests, changes
	closing  atomic.Bool     // the sin closes the hub
	released chan struct{}   // whoever waits is released
	took     time.Duration
	answer   error
	mu       sync.Mutex // guards below
	faults   []string
}

// run is the code at the place. Its first run sins.
func (c *cell) run(k hook) error {
	if !c.armed.Load() || c.runs.Add(1) > 1 {
		return nil
	}
	return c.sin.commit(c, k)
}

func (c *cell) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// trial is the cell that is on, for code whose receiver cannot say so.
var trial atomic.Pointer[cell]

// a goodPayload has references.
func goodPayload() map[string]any { return map[string]any{"list": []any{"a", "b"}, "text": "good"} }

// intact reports a payload that has been changed.
func (c *cell) intact(whose string, data any) {
	if got, want := fmt.Sprint(data), fmt.Sprint(goodPayload()); got != want {
		c.fault("what %s has of the payload was changed: %s", whose, got)
	}
}

const hellRates = `"rates": {"messages": {"limit": 1000000, "per": "1s", "burst": 1000000}, "data_access": {"limit": 1000000, "per": "1s", "burst": 1000000}}`

func hellPolicy(t testing.TB) *security.Policy {
	t.Helper()
	var grants []string
	for _, id := range []string{"devil", "peer", "bystander", "friend", "source", "provider", "imp"} {
		inline := map[string]string{"devil": `"inline": ["friend"],`, "friend": `"inline": ["devil"],`}[id]
		grants = append(grants, fmt.Sprintf(`%q: {"trust": "trusted", %s "canSendMessages": true, "canReceiveMessages": true,
			"emit": true, "broadcast": true, "subscribe": {"allow": ["**", "plugin:**"]}, "publish": true, "consume": true, "provide": true, "discover": true,
			"dataAccess": {"**": {"read": true, "write": true, "create": true}}, %s}`, id, inline, hellRates))
	}
	return policyOf(t, strings.Join(grants, ","))
}

// setUp opens the hub, with all plugins but the devil.
func (c *cell) setUp() {
	t := c.t
	o := hub.Options{Policy: hellPolicy(t), Logger: c.log.logger(), WaitLimit: ownTime}
	if c.place.options != nil {
		c.place.options(c, &o)
	}
	c.h = open(t, o)
	c.peer, c.friend = join(t, c.h, "peer"), join(t, c.h, "friend")
	c.words = create(t, c.peer, "words", store.Config{Read: []string{"bystander", "devil", "source"}, Write: []string{"devil"}})
	c.seatBystander()
	source := join(t, c.h, "source")
	_, err := source.HandleStream("flow", func(_ context.Context, m router.Message, yield func(any) bool) error {
		for range 100 {
			if !yield(m.Data()) {
				return nil
			}
		}
		return nil
	})
	require.NoError(t, err)
	serve(t, source, "echo", echo)
	serve(t, source, "slow", func(context.Context, router.Message) (any, error) { <-time.After(time.Millisecond); return nil, nil })
	if c.place.before != nil {
		c.place.before(c)
	}
	if !c.place.joins {
		require.NoError(t, c.h.Register(t.Context(), &devil{c}))
	}
}

// seatBystander registers the plugin that must not be harmed.
func (c *cell) seatBystander() {
	t, s := c.t, join(c.t, c.h, "bystander")
	got := func(what int, sent any) {
		c.heard[what].Add(1)
		if late := time.Since(sent.(time.Time)); late != 0 { //nolint:forcetypeassert // It is ours.
			c.fault("the bystander got tick %d of kind %d late by %v", c.heard[what].Load(), what, late)
		}
	}
	_, err := s.Subscribe("tick", func(_ context.Context, e events.Event) error { got(0, e.Data()); return nil })
	require.NoError(t, err)
	_, err = s.Subscribe("job", func(_ context.Context, e events.Event) error { c.look("the bystander", e.Data()); return nil })
	require.NoError(t, err)
	serve(t, s, "tick", func(_ context.Context, m router.Message) (any, error) { got(1, m.Data()); return m.Data(), nil })
	serve(t, s, "flood", echo)
	_, err = view(t, s, "words").Watch(t.Context(), "tick", func(_ context.Context, change store.Change) error {
		sent, err := time.Parse(time.RFC3339Nano, change.Entry().Text())
		require.NoError(t, err)
		got(2, sent)
		return nil
	})
	require.NoError(t, err)
}

// look checks a payload that somebody else got.
func (c *cell) look(whose string, data any) {
	if m, ok := data.(map[string]any); ok {
		c.intact(whose, m)
	}
}

// live has the bystander get something each second, and looks at the books, until stop.
func (c *cell) live(stop <-chan struct{}) {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case <-stop:
			return
		case <-clock.C:
		}
		if c.closing.Load() {
			return
		}
		c.tick()
	}
}

func (c *cell) tick() {
	ctx, now := context.Background(), time.Now()
	_, err := c.peer.Emit(ctx, "tick", now)
	if err != nil {
		c.fault("emit a tick: %v", err)
	}
	if _, err := c.peer.Send(ctx, "bystander", "tick", now); err != nil {
		c.fault("send a tick: %v", err)
	}
	if _, err := c.words.Set(ctx, "tick", []byte(now.Format(time.RFC3339Nano))); err != nil {
		c.fault("write a tick: %v", err)
	}
	c.ticks.Add(1)
	if late := time.Since(now); late != 0 {
		c.fault("tick %d took %v", c.ticks.Load(), late)
	}
	c.books()
}

// books looks whether all ledgers balance.
func (c *cell) books() hub.Snapshot {
	if err := c.h.Ledger().Check(); err != nil {
		c.fault("the hub: %v", err)
	}
	snapshot := c.h.Inspect()
	for _, p := range snapshot.Plugins {
		if err := p.Mailbox.Ledger.Check(); err != nil {
			c.fault("the mailbox of %s: %v", p.ID, err)
		}
		for _, s := range p.Subscriptions {
			if err := s.Ledger.Check(); err != nil {
				c.fault("the subscription of %s to %s: %v", p.ID, s.Pattern, err)
			}
		}
	}
	return snapshot
}

// ask has the code run, and notes when whoever waits for it is released, also by the end
// of the goroutine.
func (c *cell) ask() {
	c.released = make(chan struct{})
	released, begin := c.released, time.Now()
	go func() { // Ends when it is released, at the latest with the gate.
		defer close(released)
		defer func() {
			if r := recover(); r != nil {
				if !c.place.own {
					c.fault("whoever waited got the panic: %s", panics.Text(r))
				}
			}
			c.took = time.Since(begin)
		}()
		ctx := context.Background()
		if !c.place.endless {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		c.answer = c.place.provoke(c, ctx)
	}()
}

// finish closes the hub, and requires that this takes no longer than it may.
func (c *cell) finish() (hub.Report, error) {
	ctx, cancel := context.WithTimeout(context.Background(), atTheEnd)
	defer cancel()
	begin := time.Now()
	report, err := c.h.Close(ctx)
	if took := time.Since(begin); took > atTheEnd+hub.CloseGrace {
		c.fault("Close took %v, with a context that ends after %v", took, atTheEnd)
	}
	return report, err
}

// leakNames returns what Leaks says, each as plugin, kind and name.
func leakNames(list []hub.Leak) (said []string) {
	for _, l := range list {
		said = append(said, l.Plugin+": "+l.Kind+" "+l.Name)
	}
	return said
}

// expectedLeak returns what Leaks must say while the code hangs.
func (p *place) expectedLeak() []string {
	if p.leak == "" {
		return nil
	}
	return []string{p.leak}
}

// holds returns how long the code may hold whoever waits.
func (p *place) holds() time.Duration {
	if p.endless {
		return ownTime
	}
	return patience
}

// limits returns a time after which all limits are over that release anybody.
func (p *place) limits() time.Duration {
	if p.idle {
		return patience + 35*time.Second
	}
	return patience + ownTime
}

// charged returns with how many failures the plugin is charged.
func (p *place) charged(s *sin) uint64 {
	if s.panics && p.charge > 0 {
		return p.charge
	}
	return 1
}

// A devil is the plugin whose code sins.
type devil struct{ c *cell }

func (d *devil) Manifest() hub.Manifest {
	m := hub.Manifest{ID: "devil"}
	if d.c.place.method == "RequirementLost" {
		m.Requires = []string{"need"}
	}
	_ = d.do("Manifest", hook{})
	return m
}

// do is the code of a method.
func (d *devil) do(method string, k hook) error {
	if d.c.place.method != method {
		return nil
	}
	if d.c.place.bad != nil {
		return d.c.place.bad(d.c)
	}
	return d.c.run(k)
}

func (d *devil) Start(ctx context.Context, s *hub.Session) error {
	c := d.c
	c.devil.Store(s)
	serveFor(c, s, "ping", func(context.Context, router.Message) (any, error) { return "pong", nil })
	if _, err := s.Subscribe("ping", func(context.Context, events.Event) error { c.pings.Add(1); return nil }); err != nil {
		c.fault("the devil cannot subscribe: %v", err)
	}
	if c.place.start != nil {
		c.place.start(c, s)
	}
	return d.do("Start", hook{ctx: ctx})
}

func (d *devil) Stop(ctx context.Context) error   { return d.do("Stop", hook{ctx: ctx}) }
func (d *devil) Health(ctx context.Context) error { return d.do("Health", hook{ctx: ctx}) }

func (d *devil) ReceiveEvent(ctx context.Context, e events.Event) error {
	return d.do("ReceiveEvent", hook{ctx: ctx, data: e.Data()})
}

func (d *devil) RequirementLost(ctx context.Context, _ string) error {
	return d.do("RequirementLost", hook{ctx: ctx})
}

// serveFor is serve where a failure is a fault of the cell.
func serveFor(c *cell, s *hub.Session, typ string, handler router.Handler, options ...router.HandleOption) *router.Route {
	r, err := s.Handle(typ, handler, options...)
	if err != nil {
		c.fault("the devil cannot handle %q: %v", typ, err)
	}
	return r
}

// traced reports whether an entry of the audit log about somebody, or everybody with "", says something.
func (c *cell) traced(about string, says func(text string) bool) bool {
	page, err := c.h.Audit().Search(audit.Query{Either: about, Limit: 1000})
	if err != nil {
		c.fault("search the audit log: %v", err)
	}
	for _, e := range page.Entries {
		for _, d := range e.Details {
			if says(d.Value) {
				return true
			}
		}
	}
	return false
}

// well requires that the devil, which is there, does what else it is for.
func (c *cell) well() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	pings := c.pings.Load()
	reply, err := c.peer.Send(ctx, "devil", "ping", nil)
	if err != nil || reply.Data() != "pong" {
		c.fault("another handler of the devil: %v", err)
	}
	if _, err := c.peer.Emit(ctx, "ping", nil); err != nil {
		c.fault("emit a ping: %v", err)
	}
	synctest.Wait()
	if c.pings.Load() != pings+1 {
		c.fault("another subscription of the devil got nothing")
	}
}

// fenced requires that what is left of the devil's session does nothing any more.
func (c *cell) fenced() {
	if _, err := c.devil.Load().Emit(context.Background(), "late", nil); !errors.Is(err, plugbus.ErrClosed) {
		c.fault("the devil has left, and can emit: %v", err)
	}
}
