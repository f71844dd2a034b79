package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	EventBus "github.com/asaskevich/EventBus"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/notice"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// Options configure a [Hub]. The zero value is ready to use, and denies
// everything.
type Options struct {
	// Policy says what each plugin may do. If nil, no plugin can join.
	Policy *security.Policy

	// Logger gets what the host should know: plugins that come and go, fail or
	// hang, alerts. If nil, nothing is logged. Its handler is called on goroutines of
	// their own; whoever logs waits for that, a plugin too, but for no more than a second.
	// Until it has returned then, what else the hub, or the same plugin, logs is dropped
	// and counted. Its Enabled is called where something is logged, and must neither
	// block nor end its goroutine.
	Logger *slog.Logger

	// Events configures the events. Its Actors, Clock, InAudience, OnFailure,
	// OnSlow and Observe belong to the hub, and must be nil.
	Events events.Options

	// Router configures the messages. Its Actors, Clock, OnFailure, OnServed,
	// OnSlow and Observe belong to the hub, and must be nil.
	Router router.Options

	// StoreDir is the directory of the persistent stores, those that were made with
	// store.Config.Persistent. It is made if it is not there. One hub has it at a time,
	// in this process or another. If empty, there are no persistent stores, unless Store
	// has a Backend.
	StoreDir string

	// Store configures the stores. Its Actors, Clock, Logger, OwnerQuota, OnFailure,
	// OnSlow, OnChange and Observe belong to the hub, and must be nil; so must its Backend if
	// there is a StoreDir. The hub closes the Backend, also if New fails.
	Store store.Options

	// Discovery configures the index of capabilities. Its Clock and Availability
	// belong to the hub, and must be nil.
	Discovery discovery.Options

	// Audit configures the audit log. If its Logger is nil, it is Logger.
	Audit audit.Options

	// ExplainToPlugins puts the rule and the remedy of a refusal into the error
	// that the plugin gets, and hides nothing from plugins. It is for tests and
	// development.
	ExplainToPlugins bool

	// NoticeBoard gets a [Notice] for each event of the hub, under the event's
	// name. Its handlers have the form func(hub.Notice), and are called one at a
	// time by a goroutine of their own. Close waits for that goroutine, so what it
	// calls must not wait for Close.
	NoticeBoard EventBus.BusPublisher

	// OnAlert is called with each alert, by that goroutine too.
	OnAlert func(security.Alert)

	// Observer gets what is needed for metrics and traces. If nil, nothing is spent on
	// it. What it is owed when the hub closes it still gets; what it calls must not wait
	// for Close, unless with its own context.
	Observer Observer

	// ObserverQueue bounds the observations that wait for the Observer, of about 250
	// bytes each; the hub keeps room for twice as many. If zero, it is 8,192. At most
	// 1,048,576.
	ObserverQueue int

	// FailureBudget is how many failures a minute a plugin may have before it is
	// quarantined. A failure is a panic, an end of the goroutine (runtime.Goexit), a
	// time-out of a handler that its sender did not choose, or 200 refused acts. If
	// zero, it is 5; if negative, no plugin is quarantined but by [Hub.Quarantine].
	FailureBudget int

	// ProbeAfter is how long after the beginning of a quarantine the hub probes the
	// plugin, on its own worker: one that is a [HealthChecker] is well if Health returns
	// nil within the WaitLimit, and another if its worker is free by then. One that is
	// well is restored, on probation (see [Probation]). After a probe that fails the wait
	// for the next is doubled. If zero, it is 30 seconds; if negative, there are no
	// probes, and only [Hub.Restore] and [Hub.Replace] end a quarantine.
	ProbeAfter time.Duration

	// ProbeMax bounds the wait between two probes. If zero, it is 30 minutes, or
	// ProbeAfter if that is longer; otherwise at least ProbeAfter.
	ProbeMax time.Duration

	// WaitLimit bounds every wait for a plugin, beside the caller's context:
	// for Start, Stop, and what a plugin that leaves still has to handle. If
	// zero, it is 30 seconds.
	WaitLimit time.Duration

	// MaxPlugins bounds the plugins that have joined. If zero, it is 10,000.
	MaxPlugins int
}

// hubID is the id under which the hub itself emits and is audited. No plugin
// can have it.
const hubID = "hub"

// A Hub joins plugins. Only the host holds it. Its methods may be called by
// several goroutines.
type Hub struct {
	opts      Options
	logger    *slog.Logger
	writes    *logDesk // of the logger
	clock     *clock.Clock
	log       *audit.Log
	authority *security.Authority
	bus       *events.Bus
	router    *router.Router
	index     *discovery.Index
	stores    *store.DB
	actors    *actor.Group
	desk      *desk
	observer  *observatory // nil without Options.Observer
	host      *member
	self      *events.Client  // emits the hub's own events
	begun     chan struct{}   // closed when Close begins
	cutoff    context.Context //nolint:containedctx // Done when no plugin has any more time to leave.
	cut       context.CancelCauseFunc
	unclosed  *atomic.Bool // shared with the clean-up of a hub that was forgotten

	provides providers
	losses   atomic.Int64  // of requirements, of which a plugin is being told
	heard    notice.Notice // that it has been

	mu       sync.Mutex // guards below
	members  map[string]*member
	order    []*member            // as they became ready
	gone     map[*member]struct{} // that left, with something that still runs
	asked    map[*asked]struct{}  // plugins for their manifests
	closing  bool
	closed   chan struct{} // when Close has ended
	report   Report
	closeErr error
}

// New returns a hub without plugins. The host ends it by [Hub.Close].
func New(o Options) (*Hub, error) {
	var errs []error
	if e := &o.Events; e.Actors != nil || e.Clock != nil || e.InAudience != nil || e.OnFailure != nil || e.OnSlow != nil || e.Observe != nil {
		errs = append(errs, fmt.Errorf("hub: Options.Events.Actors, Clock, InAudience, OnFailure, OnSlow and Observe belong to the hub, and must be nil: %w", plugbus.ErrInvalid))
	}
	if r := &o.Router; r.Actors != nil || r.Clock != nil || r.OnFailure != nil || r.OnServed != nil || r.OnSlow != nil || r.Observe != nil {
		errs = append(errs, fmt.Errorf("hub: Options.Router.Actors, Clock, OnFailure, OnServed, OnSlow and Observe belong to the hub, and must be nil: %w", plugbus.ErrInvalid))
	}
	if o.Discovery.Availability != nil || o.Discovery.Clock != nil {
		errs = append(errs, fmt.Errorf("hub: Options.Discovery.Availability and Clock belong to the hub, and must be nil: %w", plugbus.ErrInvalid))
	}
	if s := &o.Store; s.Actors != nil || s.Clock != nil || s.Logger != nil || s.OwnerQuota != nil || s.OnFailure != nil || s.OnSlow != nil || s.OnChange != nil || s.Observe != nil {
		errs = append(errs, fmt.Errorf("hub: Options.Store.Actors, Clock, Logger, OwnerQuota, OnFailure, OnSlow, OnChange and Observe belong to the hub, and must be nil: %w", plugbus.ErrInvalid))
	}
	if o.StoreDir != "" && o.Store.Backend != nil {
		errs = append(errs, fmt.Errorf("hub: both Options.StoreDir and Options.Store.Backend are set; expected one of them: %w", plugbus.ErrInvalid))
	}
	if o.WaitLimit < 0 {
		errs = append(errs, fmt.Errorf("hub: Options.WaitLimit is %v; expected more than 0, or 0 for 30s: %w", o.WaitLimit, plugbus.ErrInvalid))
	}
	if o.MaxPlugins < 0 {
		errs = append(errs, fmt.Errorf("hub: Options.MaxPlugins is %d; expected at least 1, or 0 for 10000: %w", o.MaxPlugins, plugbus.ErrInvalid))
	}
	o.ProbeAfter = cmp.Or(o.ProbeAfter, 30*time.Second)
	if o.ProbeMax < 0 || o.ProbeMax > 0 && o.ProbeMax < o.ProbeAfter {
		errs = append(errs, fmt.Errorf("hub: Options.ProbeMax is %v; expected at least ProbeAfter, which is %v, or 0 for %v: %w", o.ProbeMax, o.ProbeAfter, max(30*time.Minute, o.ProbeAfter), plugbus.ErrInvalid))
	}
	o.ProbeMax = cmp.Or(o.ProbeMax, max(30*time.Minute, o.ProbeAfter))
	if o.ObserverQueue < 0 || o.ObserverQueue > maxObserverQueue {
		errs = append(errs, fmt.Errorf("hub: Options.ObserverQueue is %d; expected 1 to %d, or 0 for %d: %w", o.ObserverQueue, maxObserverQueue, defaultObserverQueue, plugbus.ErrInvalid))
	}
	o.WaitLimit = cmp.Or(o.WaitLimit, 30*time.Second)
	o.MaxPlugins = cmp.Or(o.MaxPlugins, 10_000)
	o.FailureBudget = cmp.Or(o.FailureBudget, 5)
	room := newLogRoom(o.Logger)
	writes, logger := room.desk(0)
	if o.Audit.Logger == nil {
		o.Audit.Logger = logger
	}
	h := &Hub{
		opts: o, logger: logger, writes: writes, clock: clock.New(), actors: actor.NewGroup(), desk: newDesk(logger), unclosed: new(atomic.Bool),
		members: map[string]*member{}, gone: map[*member]struct{}{}, closed: make(chan struct{}),
	}
	if o.Observer != nil {
		h.observer = newObservatory(o.Observer, cmp.Or(max(0, o.ObserverQueue), defaultObserverQueue), logger)
	}
	h.begun, h.asked = make(chan struct{}), map[*asked]struct{}{}
	h.cutoff, h.cut = context.WithCancelCause(context.Background())
	errs = append(errs, h.open())
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, h.discardStores())
	}
	if err := h.openStores(); err != nil { // Last, so that nothing is touched for nothing.
		return nil, err
	}
	if err := h.seatHost(); err != nil {
		return nil, errors.Join(err, h.discardStores())
	}
	switch p := o.Policy; {
	case p == nil || !p.Permissive() && len(p.Plugins()) == 0:
		logger.Warn("the policy names no plugin, so none can join; add them under \"plugins\", or use security.AllowAll() to try things out")
	case p.Permissive():
		logger.Warn("security.AllowAll() is in force: every plugin may do everything; use a policy in earnest")
	}
	h.record(audit.Entry{
		Event: "policy.loaded", Actor: security.HostID, Admin: true,
		Details: []audit.Detail{{Key: "policy", Value: o.Policy.String()}, {Key: "digest", Value: o.Policy.Digest()}},
	})
	h.unclosed.Store(true)
	runtime.AddCleanup(h, func(forgotten *atomic.Bool) {
		if forgotten.Load() {
			logger.Warn("a hub was dropped without Close; its plugins were never told to stop: call Hub.Close")
		}
	}, h.unclosed)
	return h, nil
}

// open makes the parts, but for the stores, of which it only checks the options.
func (h *Hub) open() (err error) {
	var errs []error
	h.log, err = audit.New(h.opts.Audit)
	errs = append(errs, err)
	h.authority, err = security.New(security.Options{
		Policy: h.opts.Policy, Audit: h.log, Alert: h.alert, ExplainToPlugins: h.opts.ExplainToPlugins,
		Provides: h.provides.of, Changed: func() { h.stores.Wake() },
	})
	errs = append(errs, err)
	eo := h.opts.Events
	eo.Actors, eo.Clock = h.actors, h.clock
	eo.Observe = h.observer.taker()
	eo.InAudience, eo.OnFailure, eo.OnSlow = h.inAudience, h.eventFailed, h.eventSlow
	h.bus, err = events.New(eo)
	errs = append(errs, err)
	ro := h.opts.Router
	ro.Actors, ro.Clock = h.actors, h.clock
	ro.Observe = h.observer.taker()
	ro.OnFailure, ro.OnServed, ro.OnSlow = h.messageFailed, h.served, h.messageSlow
	h.router, err = router.New(ro)
	errs = append(errs, err)
	do := h.opts.Discovery
	do.Availability, do.Clock = h.availability, h.clock
	h.index, err = discovery.New(do)
	errs = append(errs, err, h.opts.Store.Check())
	return errors.Join(errs...)
}

// seatHost makes the hub's own client and the host's session.
func (h *Hub) seatHost() (err error) {
	if h.self, err = h.bus.Client(hubID, events.ClientOptions{Guard: hubGuard{h.authority}}); err != nil {
		return err
	}
	h.host = &member{hub: h, manifest: Manifest{ID: security.HostID}, left: make(chan struct{}), state: Ready, since: h.clock.Now()}
	return h.host.join(h.authority.JoinHost())
}

// Host returns the host's own session: its id is "host", it may do everything
// but emit the hub's own events, and it is audited like the others.
func (h *Hub) Host() *Session { return h.host.session }

// Audit returns the audit log.
func (h *Hub) Audit() *audit.Log { return h.log }

// Security returns the authority, which holds the policy in force.
func (h *Hub) Security() *security.Authority { return h.authority }

// Explain says whether a plugin may do verb to object now, by which rule, and
// what is the smallest change that would allow it. Reading and writing stores also
// needs what the store's own lists say.
func (h *Hub) Explain(id string, verb plugbus.Verb, object string) security.Explanation {
	e := h.authority.Explain(id, verb, object)
	h.explainStore(&e)
	if m := h.member(id); m != nil && m.session.guard.quarantined() {
		h.mu.Lock()
		story := m.story(h.clock.Now())
		h.mu.Unlock()
		e.Allowed, e.Reason = false, plugbus.ReasonQuarantined
		e.Layers = append([]security.Layer{{Name: "quarantine", Reason: plugbus.ReasonQuarantined, Detail: story}}, e.Layers...)
		e.Remedy = fmt.Sprintf("let the plugin go on: Hub.Restore(%q)", id)
	}
	return e
}

// Idle waits until no event or message waits, no watch of a store has a change to tell,
// no handler runs, and no [Dependant] is being told of a loss, and returns nil; or until
// ctx is done, and returns its error. With the context of a call into a plugin it would wait for that call, and
// returns an error that matches [plugbus.ErrInvalid].
func (h *Hub) Idle(ctx context.Context) error {
	if actor.Owner(ctx) != nil {
		return fmt.Errorf("hub: a handler cannot wait until no handler runs; call Idle from outside of plugins: %w", plugbus.ErrInvalid)
	}
	for {
		before := h.Ledger().Accepted
		if err := h.bus.Idle(ctx); err != nil {
			return err
		}
		if err := h.router.Idle(ctx); err != nil {
			return err
		}
		if err := h.stores.Idle(ctx); err != nil {
			return err
		}
		if err := h.heard.Until(ctx, func() bool { return h.losses.Load() == 0 }); err != nil {
			return fmt.Errorf("hub: wait until idle: %w", err)
		}
		// Each was idle at one moment between these two looks. If nothing was accepted
		// between them, and the stores, which count in another way, are idle still, all
		// were idle at the last.
		if h.stores.Idle(ended(ctx)) == nil && h.Ledger().Accepted == before {
			return nil
		}
	}
}

// Ledger returns the figures of all deliveries, which balance.
func (h *Hub) Ledger() plugbus.Ledger {
	l := h.bus.Ledger()
	l.Add(h.router.Ledger())
	return l
}

func (h *Hub) member(id string) *member {
	if id == security.HostID {
		return h.host
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members[id]
}

// unknown returns the error of a call about a plugin that has not joined.
func (h *Hub) unknown(act, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return fmt.Errorf("%s %q: %w", act, id, ErrClosed)
	}
	return fmt.Errorf("%s %q: %w; none has joined under this id, or it leaves", act, id, ErrUnknownPlugin)
}

// inAudience decides about the conditions of an audience that the events do not
// know.
func (h *Hub) inAudience(_ string, a events.Audience, id string) bool {
	for _, capability := range a.Capabilities {
		if !h.provides.has(id, capability) {
			return false
		}
	}
	if a.LeastTrust == plugbus.Untrusted || id == security.HostID {
		return true
	}
	grant, ok := h.authority.Policy().Grant(id)
	return ok && grant.Trust >= a.LeastTrust
}

// announce tells the plugins and the host what happened.
func (h *Hub) announce(n Notice) {
	n.Time = h.clock.Now()
	if _, err := h.self.Emit(h.host.session.ctx, n.Event, n); err != nil && !errors.Is(err, plugbus.ErrClosed) {
		h.logger.Error("the hub could not emit its own event", "event", n.Event, "error", err)
	}
	h.desk.post(h.opts.NoticeBoard, n)
}

// record adds an entry to the audit log, and returns its number.
func (h *Hub) record(e audit.Entry) uint64 {
	seq, err := h.log.Record(e)
	if err != nil && !errors.Is(err, plugbus.ErrClosed) {
		h.logger.Error("the audit log did not take an entry", "event", e.Event, "error", err)
	}
	return seq
}

// alert is called by the authority, in the middle of an act.
func (h *Hub) alert(a security.Alert) {
	h.desk.put(func() {
		h.logger.Warn("security alert", "alert", a.String(), "record", a.Record)
		h.announce(Notice{Event: EventAlert, Plugin: a.Plugin, Reason: a.String()})
		if h.opts.OnAlert != nil {
			h.opts.OnAlert(a)
		}
	})
}
