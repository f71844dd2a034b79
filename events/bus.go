package events

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/ids"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/internal/notice"
	"github.com/plugbus/plugbus/internal/topic"
)

// Options configure a [Bus]. The zero value is ready to use.
type Options struct {
	// HistoryEvents bounds the events that the history keeps. If zero, it is
	// 10,000; if negative, there is no history. At most 10 million.
	HistoryEvents int

	// HistoryBytes bounds the payloads, headers and audiences in the history,
	// which keeps one event whatever its size. If zero, it is 32 MiB.
	HistoryBytes int64

	// HistoryAge bounds how long an event stays in the history. If zero, it is
	// 24 hours.
	HistoryAge time.Duration

	// Buffer is how many events may wait for a handler, unless the subscription
	// says otherwise. If zero, it is 1,024. At most MaxBuffer.
	Buffer int

	// QueueBytes bounds the payloads and headers that wait for a handler. A
	// queue that is empty takes any event. Subscriptions with the rule
	// DropOldest may hold 64 KiB and one event more. If zero, it is 16 MiB.
	QueueBytes int64

	// MaxDepth bounds the chain of plugins that led to an event. A longer
	// cascade is cut: the emit is refused with ReasonChainTooDeep. If zero, it
	// is 32.
	MaxDepth int

	// MaxSubscriptions bounds the subscriptions of all clients together. If
	// zero, it is 1 million.
	MaxSubscriptions int

	// WaitLimit bounds the wait of an emitter that asks for room, beside its
	// context. If zero, it is 30 seconds.
	WaitLimit time.Duration

	// HandlerTimeout bounds one call of a handler, unless the subscription says
	// otherwise. If zero, there is no bound; a time-out costs a timer for each
	// call.
	HandlerTimeout time.Duration

	// SlowAfter is how long a handler may run before OnSlow hears of it. The
	// handler is looked at that often, so OnSlow hears of it before twice that
	// time. If zero, it is 10 seconds.
	SlowAfter time.Duration

	// ReplayNeedsRightOfThen makes replay ask for the reader's permission under
	// the policy that admitted the event too, and not only under that of now.
	ReplayNeedsRightOfThen bool

	// InAudience decides about the audiences that name capabilities or trust,
	// which the bus does not know. If nil, these are refused.
	InAudience func(sender string, a Audience, id string) bool

	// OnFailure hears of every handler or filter that failed, was abandoned or
	// got something undeliverable. It runs on the plugin's worker, or where a
	// handler was abandoned, with no lock held, and must neither block nor panic.
	OnFailure func(Failure)

	// OnSlow hears of handlers that run long. It must neither block nor panic.
	OnSlow func(Slow)

	// Observe hears of every act at the door, and of every delivery when it has ended:
	// the sums of both are the ledger. It is called with locks held, so it must not
	// block, panic, or call the bus. If nil, nothing is spent on it.
	Observe func(plugbus.Observation)

	// Actors and Clock are the hub's. If nil, the bus has its own.
	Actors *actor.Group
	Clock  *clock.Clock
}

// A Failure is what [Options.OnFailure] hears of.
type Failure struct {
	Plugin  string // whose handler it was
	Owner   any    // the Owner of its client
	Source  string // who emitted the event
	Pattern string // of the subscription
	Site    string // where the plugin subscribed, as file:line
	Event   string // this, Seq and Source are empty for a handler without a time-out that its client's end abandoned
	Seq     uint64
	Outcome plugbus.Outcome // Failed, Abandoned or Undeliverable
	Err     error           // a *PanicError, ErrGoexit, ErrTimedOut, or wraps what the handler returned, with the text that this had then
}

// A Slow is what [Options.OnSlow] hears of.
type Slow struct {
	Plugin, Pattern, Site string
	Owner                 any           // of the client
	For                   time.Duration // at least; it may run up to twice as long
}

// A Bus carries events between its clients.
type Bus struct {
	opts      Options
	clock     *clock.Clock
	salt      uint32
	actors    *actor.Group
	ownActors bool
	idle      notice.Notice // told when a worker has run out of work
	watching  atomic.Bool   // whether the watch is set
	telling   atomic.Int32  // failures that may be in the ledger, and that OnFailure has not heard of

	mu         sync.Mutex // the order: guards below
	seq        uint64
	topology   uint64 // grows when a route may lead elsewhere
	closed     bool
	clients    map[string]*Client
	aside      map[*Client]struct{} // held for the place of one of clients, or succeeded by one
	gone       map[*Client]struct{} // ended, with a handler that still runs
	logs       map[topic.Pattern]*log
	index      topic.Index[*log]
	subs       int
	nextSub    uint64
	nextClient uint64
	history    history
	door       plugbus.Ledger // offered, refused, full, accepted
	past       plugbus.Ledger // the outcomes of subscriptions that have ended
	watch      *time.Timer    // looks for slow handlers
}

// New returns a bus without clients. It has no goroutine of its own while
// nothing happens; Close ends those that linger.
func New(o Options) (*Bus, error) {
	const year = 365 * 24 * time.Hour
	wrong := limits.List{Fault: func(option string, got any, want string) error { return &OptionError{option, got, want} }}
	o.HistoryEvents = max(0, limits.Within(&wrong, "HistoryEvents", max(o.HistoryEvents, -1), 10_000, -1, 10_000_000))
	o.HistoryBytes = limits.Within(&wrong, "HistoryBytes", o.HistoryBytes, 32<<20, 1, 1<<40)
	o.HistoryAge = limits.Within(&wrong, "HistoryAge", o.HistoryAge, 24*time.Hour, 1, 100*year)
	o.Buffer = limits.Within(&wrong, "Buffer", o.Buffer, 1024, 1, MaxBuffer)
	o.QueueBytes = limits.Within(&wrong, "QueueBytes", o.QueueBytes, 16<<20, 1, 1<<40)
	o.MaxDepth = limits.Within(&wrong, "MaxDepth", o.MaxDepth, 32, 1, 1024)
	o.MaxSubscriptions = limits.Within(&wrong, "MaxSubscriptions", o.MaxSubscriptions, 1_000_000, 1, 1_000_000_000)
	o.WaitLimit = limits.Within(&wrong, "WaitLimit", o.WaitLimit, 30*time.Second, 1, year)
	o.HandlerTimeout = limits.Within(&wrong, "HandlerTimeout", o.HandlerTimeout, 0, 1, year)
	o.SlowAfter = limits.Within(&wrong, "SlowAfter", o.SlowAfter, 10*time.Second, 1, year)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	b := &Bus{
		opts: o, clock: o.Clock, salt: ids.Salt(), actors: o.Actors,
		clients: map[string]*Client{}, aside: map[*Client]struct{}{}, gone: map[*Client]struct{}{},
		logs: map[topic.Pattern]*log{}, history: newHistory(o), topology: 1,
	}
	if b.clock == nil {
		b.clock = clock.New()
	}
	if b.actors == nil {
		b.actors, b.ownActors = actor.NewGroup(), true
	}
	return b, nil
}

// CloseIntake refuses further events with [ErrClosed]. What waits is still
// delivered.
func (b *Bus) CloseIntake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.topology++
}

// Close refuses further events, delivers what waits, and ends all clients. When
// ctx is done before that, what still waits is cancelled, handlers that still
// run are abandoned, and the error matches ctx.Err(). The bus keeps no
// goroutine but those in handlers that did not return, which [Bus.Leaks] names.
func (b *Bus) Close(ctx context.Context) error {
	b.CloseIntake()
	b.mu.Lock()
	clients := make([]*Client, 0, len(b.clients))
	for _, c := range b.clients {
		clients = append(clients, c)
	}
	for c := range b.aside {
		clients = append(clients, c)
	}
	b.mu.Unlock()
	owner, last := actor.Owner(ctx), len(clients)-1
	if own := slices.IndexFunc(clients, func(c *Client) bool { return c.actor == owner }); own >= 0 {
		clients[own], clients[last] = clients[last], clients[own] // The ctx of a handler ends with its client.
	}
	for _, c := range clients {
		c.BeginDrain()
	}
	var err error
	for _, c := range clients {
		if e := c.Close(ctx); e != nil {
			err = e
		}
	}
	b.mu.Lock()
	if b.watch != nil {
		b.watch.Stop() // Not earlier: a handler that is slow to end is to be named.
	}
	b.mu.Unlock()
	if b.ownActors {
		if e := b.actors.Close(ctx); err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("events: close the bus: %w", err)
	}
	return nil
}

// Idle waits until no event waits, no handler runs and OnFailure has heard of those
// that failed, and returns nil; or until ctx is done, and returns its error. Handlers
// that were abandoned do not count. OnFailure itself cannot wait for Idle.
func (b *Bus) Idle(ctx context.Context) error {
	quiet := func() bool {
		l := b.Ledger()
		return l.Waiting == 0 && l.Running == 0 && !b.catchingUp() &&
			b.telling.Load() == 0 // After the ledger, since a failure is told of later than it counts.
	}
	if err := b.idle.Until(ctx, quiet); err != nil {
		return fmt.Errorf("events: wait until idle: %w", err)
	}
	return nil
}

// catchingUp reports whether a subscription still reads the history.
func (b *Bus) catchingUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.logs {
		if len(l.catching) > 0 {
			return true
		}
	}
	for c := range b.aside {
		for s := range c.subs {
			if s.finishing() {
				return true
			}
		}
	}
	return false
}
