package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// StreamWindow is how many chunks of a stream its reader may be behind.
const StreamWindow = 16

// Options configure a [Router]. The zero value is ready to use.
type Options struct {
	// MailboxMessages bounds the messages that wait for one plugin, of which
	// one sender can have a quarter. If zero, it is 1,024. At most 1 million.
	MailboxMessages int

	// MailboxBytes bounds the payloads and headers that wait for one plugin, of
	// which one sender can have a quarter. The first message of a sender may be
	// over that quarter, and the only one in a mailbox over the whole. If zero, it
	// is 16 MiB.
	MailboxBytes int64

	// RequestTimeout bounds the wait for a reply whose caller's context has no
	// deadline. If zero, it is 30 seconds.
	RequestTimeout time.Duration

	// StreamIdle bounds how long each side of a stream waits for the other,
	// unless it says otherwise. If zero, it is 30 seconds.
	StreamIdle time.Duration

	// WaitLimit bounds the wait of a Post with [WaitForRoom], beside its context.
	// If zero, it is 30 seconds.
	WaitLimit time.Duration

	// MaxDepth bounds the chain of plugins that led to a message. A message of a
	// longer one is refused with ReasonChainTooDeep. If zero, it is 32.
	MaxDepth int

	// DeadLetters bounds the dead letters that are kept. If zero, it is 1,000; if
	// negative, none are.
	DeadLetters int

	// DeadLetterBytes bounds their payloads and headers. If zero, it is 16 MiB.
	DeadLetterBytes int64

	// DeadLetterAge bounds how long one is kept. If zero, it is 24 hours.
	DeadLetterAge time.Duration

	// SlowAfter is how long a handler may run before OnSlow hears of it. The
	// handler is looked at that often, so OnSlow hears of it before twice that
	// time. If zero, it is 10 seconds.
	SlowAfter time.Duration

	// OnFailure hears of every delivery whose handler failed or was abandoned, or
	// that the recipient may no longer have. It runs on the plugin's worker, or
	// where the handler was abandoned, with no lock held, and must neither block
	// nor panic.
	OnFailure func(Failure)

	// OnServed hears of every request to a handler that is [Measured]. It runs
	// where OnFailure does, and must neither block nor panic.
	OnServed func(Served)

	// OnSlow hears of handlers that run long. It must neither block nor panic.
	OnSlow func(Slow)

	// Observe hears of every act at the door, and of every delivery when it has ended:
	// the sums of both are the ledger. It is called with locks held, so it must not
	// block, panic, or call the router. If nil, nothing is spent on it.
	Observe func(plugbus.Observation)

	// Actors and Clock are the hub's. If nil, the router has its own.
	Actors *actor.Group
	Clock  *clock.Clock
}

// A Failure is what [Options.OnFailure] hears of.
type Failure struct {
	Plugin  string // whose handler it was
	Owner   any    // the Owner of its client
	From    string // who sent the message
	Sender  any    // the Owner of the client that did
	Type    string // of the message, or the topic
	Kind    Kind
	Site    string // where the plugin set the handler, as file:line
	ID      plugbus.ID
	Outcome plugbus.Outcome // Failed, Abandoned or Undeliverable
	Err     error           // a *PanicError, ErrGoexit, ErrTimedOut, ErrTargetLeft, context.DeadlineExceeded, or what the handler returned

	// Blameless says that the handler's plugin is not to blame: the sender chose
	// the deadline, did not read the stream, asked for what cannot be had, or may
	// no longer send; or the message had waited until the handler had less than half
	// of Options.RequestTimeout; or the handler itself waited for another plugin.
	Blameless bool
}

// A Served is what [Options.OnServed] hears of.
type Served struct {
	Plugin string // whose handler it was
	Owner  any    // of its client
	From   string
	Type   string
	OK     bool          // the handler replied
	Took   time.Duration // from the sender's call to the reply, or the first chunk of a stream
}

// A Slow is what [Options.OnSlow] hears of.
type Slow struct {
	Plugin, Type, Site string
	Owner              any           // of the client
	For                time.Duration // at least; it may run up to twice as long
}

// A Router carries messages between its clients.
type Router struct {
	opts      Options
	clock     *clock.Clock
	salt      uint32
	actors    *actor.Group
	ownActors bool
	idle      notice.Notice
	watching  atomic.Bool // whether the watch is set
	closed    atomic.Bool

	seq        atomic.Uint64
	refused    atomic.Uint64 // messages that no mailbox has counted
	untraced   atomic.Uint64 // requests without their handler's context
	topology   atomic.Uint64 // grows when a cached way may lead elsewhere
	middleware atomic.Pointer[middlewares]
	letters    letters
	deliveries sync.Pool // not one of the process: their channels may belong to a bubble of synctest

	mu     sync.Mutex // guards below; before the lock of a mailbox
	boxes  map[string]*mailbox
	aside  map[*Client]struct{}  // held for the place of another, or succeeded by one
	gone   map[*mailbox]struct{} // closed, with a handler that still runs
	topics topic.Index[*Route]
	routes uint64         // ever made
	past   plugbus.Ledger // of mailboxes that are gone
	late   uint64         // replies, likewise
	watch  *time.Timer    // looks for slow handlers
	shut   bool           // the watch is not set again
}

// New returns a router without clients. It has no goroutine of its own while
// nothing happens; Close ends those that linger.
func New(o Options) (*Router, error) {
	const year = 365 * 24 * time.Hour
	wrong := limits.List{Fault: func(option string, got any, want string) error { return &OptionError{option, got, want} }}
	o.MailboxMessages = limits.Within(&wrong, "MailboxMessages", o.MailboxMessages, 1024, 1, 1_000_000)
	o.MailboxBytes = limits.Within(&wrong, "MailboxBytes", o.MailboxBytes, 16<<20, 1, 1<<40)
	o.RequestTimeout = limits.Within(&wrong, "RequestTimeout", o.RequestTimeout, 30*time.Second, 1, year)
	o.StreamIdle = limits.Within(&wrong, "StreamIdle", o.StreamIdle, 30*time.Second, 1, year)
	o.WaitLimit = limits.Within(&wrong, "WaitLimit", o.WaitLimit, 30*time.Second, 1, year)
	o.MaxDepth = limits.Within(&wrong, "MaxDepth", o.MaxDepth, 32, 1, 1024)
	o.DeadLetters = max(0, limits.Within(&wrong, "DeadLetters", max(o.DeadLetters, -1), 1000, -1, 1_000_000))
	o.DeadLetterBytes = limits.Within(&wrong, "DeadLetterBytes", o.DeadLetterBytes, 16<<20, 1, 1<<40)
	o.DeadLetterAge = limits.Within(&wrong, "DeadLetterAge", o.DeadLetterAge, 24*time.Hour, 1, 100*year)
	o.SlowAfter = limits.Within(&wrong, "SlowAfter", o.SlowAfter, 10*time.Second, 1, year)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	r := &Router{opts: o, clock: o.Clock, salt: ids.Salt(), actors: o.Actors, boxes: map[string]*mailbox{}, aside: map[*Client]struct{}{}, gone: map[*mailbox]struct{}{}}
	r.letters.init(o)
	r.topology.Store(1)
	if r.clock == nil {
		r.clock = clock.New()
	}
	if r.actors == nil {
		r.actors, r.ownActors = actor.NewGroup(), true
	}
	return r, nil
}

// CloseIntake refuses further messages with [ErrClosed]. What waits is still
// delivered.
func (r *Router) CloseIntake() { r.closed.Store(true) }

// Close refuses further messages, delivers what waits, and ends all clients. When
// ctx is done before that, what still waits is cancelled, handlers that still run
// are abandoned, and the error matches ctx.Err(). The router keeps no goroutine
// but those in handlers that did not return, which [Router.Leaks] names. It does
// not wait for the handler that calls it, if ctx is of that one.
func (r *Router) Close(ctx context.Context) error {
	r.CloseIntake()
	r.mu.Lock()
	r.shut = true
	if r.watch != nil {
		r.watch.Stop()
	}
	clients := slices.Collect(maps.Keys(r.aside))
	for _, id := range slices.Sorted(maps.Keys(r.boxes)) {
		clients = append(clients, r.boxes[id].owner())
	}
	r.mu.Unlock()
	// The ctx of a handler ends with its client, so that one is the last.
	owner := actor.Owner(ctx)
	slices.SortStableFunc(clients, func(a, b *Client) int { return cmp.Compare(a.rank(owner), b.rank(owner)) })
	for _, c := range clients {
		c.BeginDrain()
	}
	var errs []error
	for _, c := range clients {
		errs = append(errs, c.Close(ctx))
	}
	if r.ownActors {
		err := r.actors.Close(ctx)
		if owner == nil { // Or else it would be the handler that calls Close.
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("router: close: %w", err)
	}
	return nil
}

// rank is 1 for the client in whose handler something happens, and 0 for others.
func (c *Client) rank(owner *actor.Actor) int {
	if c.actor == owner {
		return 1
	}
	return 0
}

// Idle waits until no message waits and no handler runs, and returns nil; or
// until ctx is done, and returns its error. Handlers that were abandoned do not
// count; what waits for a client that has not settled does.
func (r *Router) Idle(ctx context.Context) error {
	if err := r.idle.Until(ctx, r.quiet); err != nil {
		return fmt.Errorf("router: wait until idle: %w", err)
	}
	return nil
}

func (r *Router) quiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.boxes {
		if !b.quiet() {
			return false
		}
	}
	return true
}

func (b *mailbox) quiet() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.active+b.reports+b.waiting == 0
}

// owner returns the client that handles, or nil if the mailbox is closed.
func (b *mailbox) owner() *Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.client
}

// Sent counts the messages and publications that the door let in since the router
// was made, whatever their mailboxes said.
func (r *Router) Sent() uint64 { return r.seq.Load() }
