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
	"github.com/plugbus/plugbus/internal/site"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Subscription delivers the events that match a pattern to a handler. It ends
// by Unsubscribe, by its own options, or with its client.
//
// Events come to it by one of two ways. A follower (the rule DropOldest, one
// call at a time) reads them in the log of its pattern, which all followers of
// the pattern share. Every other subscription has a queue of its own. A follower
// has a queue too, for what the log does not bring: broadcasts, and events that
// came while it read the history.
type Subscription struct {
	client  *Client
	pattern topic.Pattern
	handler Handler
	opts    subscribeOptions
	id      uint64
	site    string
	special bool // each event needs more than a call of the handler
	log     *log // nil for a receiver of broadcasts

	// word is the position of a follower in its log, and flags. To add
	// one<<posShift and keep the running flag, in one compare-and-swap, is to end
	// one handler call and start the next: whoever sets a flag makes it fail.
	// Flags are set under mu.
	word    atomic.Uint64
	claimed atomic.Uint64 // the end of what the worker has claimed of the log

	missed  atomic.Uint64 // to be announced with the next event
	cut     atomic.Bool   // likewise: the history did not hold all that was asked for
	private atomic.Int32  // events in queue and page

	ready     atomic.Bool // in the inbox, in the heap, or with its worker
	nextReady *Subscription
	reading   atomic.Bool // the history; it has not caught up yet
	pinned    atomic.Bool // has a chunk, for those who do not have s in the worker's place
	fired     atomic.Bool // has handled the event of Once

	// Under log.mu.
	listed      bool
	nextResting *Subscription
	chunk       *chunk // pinned; read by the worker, and written by it or in its place

	// Of the worker.
	key     uint64  // the Seq of the next event, as the heap knows it
	batch   []Event // claimed of chunk
	now     *Event  // the one that is being handled
	taken   Event   // where it is, if not in chunk
	seen    *meta   // the last meta that asked for nothing special
	context *actor.Context
	allowed allowance
	reader  *reader // while it reads the history

	// Under bus.mu.
	waits     bool // for its client to succeed another
	attached  bool // events come to it
	following bool // it reads its log
	watched   [2]uint64
	warned    bool

	mu      sync.Mutex     // guards below; taken after the bus's and the log's
	joined  uint64         // the position at which s began to follow
	slow    uint64         // positions since then whose outcome is in counts
	counts  plugbus.Ledger // all outcomes but those of the positions that are not slow
	queue   queue
	page    ring   // from the history
	readTo  uint64 // events of the queue up to this Seq may be handled
	lost    map[string]uint64
	refused uint64 // events that the overflow rule refused to the emitter
	call    *call  // the running one, if it has a time-out
	current Event  // the running one, and when it began, if the host observes
	began   time.Time
	active  map[*call]struct{} // the calls of a concurrent subscription
	room    chan struct{}      // closed when emitters that wait for room are to try again
	timer   *time.Timer        // of Expires
	quiet   chan struct{}      // closed when no call runs and none will start
}

// An allowance is what a worker knows of its plugin's permission.
type allowance struct {
	version uint64
	all     bool   // every name of the pattern
	name    string // or this one
}

// The flags of a word.
const (
	running   = 1 << iota // a handler call runs
	outside               // its event is not of the log
	abandoned             // its outcome has been decided already
	closed                // no call starts any more
	detached              // nothing more comes
	crowded               // emitters wait for room

	flags    = 1<<posShift - 1
	posShift = 6
	one      = 1 << posShift
)

// Subscribe calls handler for every event whose name matches pattern and that
// the plugin may have. It refuses a pattern that is wider than the plugin's
// grant, unless told to [Narrow]. The error is [ErrNilHandler], [ErrClosed], an
// [*OptionError], or a [*plugbus.DeniedError]; a malformed pattern is a
// DeniedError that matches [plugbus.ErrInvalid].
func (c *Client) Subscribe(pattern string, handler Handler, options ...SubscribeOption) (*Subscription, error) {
	return c.subscribe(pattern, handler, site.Caller(), options)
}

func (c *Client) subscribe(pattern string, handler Handler, site string, options []SubscribeOption) (*Subscription, error) {
	if handler == nil {
		return nil, fmt.Errorf("subscribe to %q: %w", plugbus.CutText(pattern), ErrNilHandler)
	}
	o := subscribeOptions{timeout: c.bus.opts.HandlerTimeout}
	for _, option := range options {
		if option == nil {
			return nil, &OptionError{"SubscribeOption", nil, "an option of package events"}
		}
		if err := option.applySubscribe(&o); err != nil {
			return nil, fmt.Errorf("subscribe to %q: %w", plugbus.CutText(pattern), err)
		}
	}
	if o.fair && o.overflow == RefuseToEmitter {
		return nil, fmt.Errorf("subscribe to %q: %w", plugbus.CutText(pattern),
			&OptionError{"Fair", "set", "DropOldest or DropNewest with it, since what was accepted cannot make way"})
	}
	if o.fair && o.buffer > MaxFairBuffer {
		return nil, fmt.Errorf("subscribe to %q: %w", plugbus.CutText(pattern),
			&OptionError{"Buffer", o.buffer, "at most 4096 with Fair"})
	}
	if o.buffer == 0 {
		o.buffer = c.bus.opts.Buffer
		if o.fair {
			o.buffer = min(o.buffer, MaxFairBuffer)
		}
	}
	if c.ended.Load() {
		return nil, fmt.Errorf("plugin %q subscribes to %q: %w: the plugin has left", c.id, plugbus.CutText(pattern), ErrClosed)
	}
	p, err := topic.Parse(pattern)
	if err != nil {
		return nil, c.refuse(plugbus.Refusal{Verb: plugbus.VerbSubscribe, Object: pattern, Reason: plugbus.ReasonInvalidName, Cause: err})
	}
	if n := p.Wildcards(); n > c.wildcards {
		return nil, c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbSubscribe, Object: pattern, Reason: plugbus.ReasonQuotaExceeded,
			Hint: fmt.Sprintf("the pattern has %d wildcards; at most %d are allowed", n, c.wildcards),
		})
	}
	permit := c.guard.PermitPattern(plugbus.VerbSubscribe, pattern, o.narrow)
	if !permit.Allowed() {
		return nil, c.refuse(plugbus.Refusal{Verb: plugbus.VerbSubscribe, Object: pattern, Reason: permit.Reason})
	}
	if err := c.takeAct(permit, pattern); err != nil {
		return nil, err
	}
	s := &Subscription{client: c, pattern: p, handler: handler, opts: o, site: site, quiet: make(chan struct{})}
	s.special = o.once || o.filter != nil || o.timeout > 0 || c.bus.opts.Observe != nil
	if o.from.kind != fromNow {
		s.reader = &reader{client: c, pattern: p, from: o.from}
	}
	return s, c.add(s)
}

// takeAct takes one act that is not an emit from the rate of a permit.
func (c *Client) takeAct(permit *plugbus.Permit, pattern string) error {
	if permit.Acts == nil {
		return nil
	}
	wait := permit.Acts.Take(c.bus.clock.Now(), 1)
	if wait == 0 {
		return nil
	}
	return c.refuse(plugbus.Refusal{
		Verb: plugbus.VerbSubscribe, Object: pattern, Reason: plugbus.ReasonRateLimitExceeded, RetryAfter: max(wait, 0),
	})
}

// Receive calls handler for every broadcast of others whose audience the client
// belongs to, and that it may subscribe to, without a pattern.
func (c *Client) Receive(handler Handler) (*Subscription, error) {
	if handler == nil {
		return nil, fmt.Errorf("receive broadcasts: %w", ErrNilHandler)
	}
	s := &Subscription{client: c, handler: handler, site: site.Caller(), quiet: make(chan struct{})}
	s.opts = subscribeOptions{timeout: c.bus.opts.HandlerTimeout, buffer: c.bus.opts.Buffer, receiver: true}
	return s, c.add(s)
}

// add puts s into the bus.
func (c *Client) add(s *Subscription) error {
	if s.opts.fair {
		s.queue.share = map[string]int{}
	}
	b := c.bus
	b.mu.Lock()
	if b.closed || c.draining || c.ended.Load() {
		b.mu.Unlock()
		return fmt.Errorf("plugin %q subscribes to %q: %w", c.id, s.pattern, ErrClosed)
	}
	if len(c.subs) >= c.quota || b.subs >= b.opts.MaxSubscriptions {
		b.mu.Unlock()
		return c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbSubscribe, Object: s.pattern.String(), Reason: plugbus.ReasonQuotaExceeded,
			Hint: "unsubscribe from what is no longer needed, or use one wider pattern",
		})
	}
	b.nextSub++
	s.id = b.nextSub
	b.subs++
	c.subs[s] = struct{}{}
	c.open.Add(1)
	if s.waits = c.understudy; !s.waits {
		s.attach()
	}
	if s.opts.expires > 0 {
		s.timer = time.AfterFunc(s.opts.expires, s.Unsubscribe)
	}
	c.observeAsked(s.pattern.String())
	b.mu.Unlock()
	return nil
}

// attach has events come to s from now on. bus.mu is held.
func (s *Subscription) attach() {
	b := s.client.bus
	b.topology++
	s.attached = true
	switch {
	case s.opts.receiver:
		s.readTo = nothing
	case s.reader != nil:
		s.log = b.logFor(s.pattern)
		s.reader.live = b.seq
		s.reading.Store(true)
		s.log.catching = append(s.log.catching, s)
	default:
		s.log = b.logFor(s.pattern)
		s.readTo = nothing
		s.join()
	}
	if s.wants() {
		s.signal(nil)
	}
}

// logFor returns the log of a pattern, which it makes if there is none. bus.mu
// is held.
func (b *Bus) logFor(p topic.Pattern) *log {
	l := b.logs[p]
	if l == nil {
		l = &log{
			pattern: p, maxBytes: b.opts.QueueBytes,
			followers: map[*Subscription]struct{}{}, readers: map[string]int{},
		}
		b.logs[p] = l
		b.index.Add(p, l)
	}
	return l
}

// join makes s part of its log: it gets every event from now on. bus.mu is
// held.
func (s *Subscription) join() {
	l := s.log
	if s.opts.overflow != DropOldest || s.opts.fair || s.opts.concurrent > 1 {
		l.queued = append(l.queued, s)
		return
	}
	l.join(s)
	s.following = true
	s.mu.Lock()
	s.joined = l.next
	s.claimed.Store(l.next)
	s.word.Store(l.next<<posShift | s.word.Load()&flags)
	s.mu.Unlock()
	l.settle(s)
}

// Unsubscribe ends the subscription: what waits is cancelled, and no new call
// of the handler starts after it returned. It may be called by the handler, and
// more than once.
func (s *Subscription) Unsubscribe() {
	b := s.client.bus
	b.mu.Lock()
	s.close()
	b.mu.Unlock()
	b.idle.Tell()
}

// Wait waits until the subscription has ended and its last handler call has
// returned, or until ctx is done, and then returns an error that matches
// ctx.Err(). A handler cannot wait for its own plugin: that is refused with a
// [*plugbus.DeniedError] for the reason cycle.
func (s *Subscription) Wait(ctx context.Context) error {
	if actor.Owner(ctx) == s.client.actor {
		return s.client.refuse(plugbus.Refusal{
			Verb: plugbus.VerbSubscribe, Object: s.pattern.String(), Reason: plugbus.ReasonCycle,
			Hint: "a handler cannot wait for itself to return; call Unsubscribe without Wait",
		})
	}
	select {
	case <-s.quiet:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("events: wait for the end of the subscription to %q: %w", s.pattern, ctx.Err())
	}
}

// Pattern returns the pattern of the subscription.
func (s *Subscription) Pattern() string { return s.pattern.String() }

// detach ends the flow of new events to s; what it has is still to be handled.
// bus.mu is held.
func (s *Subscription) detach() {
	if !s.attached {
		return
	}
	s.leaveBus()
	if s.following {
		s.takeOver()
	}
	s.mu.Lock()
	s.flag(detached)
	s.welcome()
	s.mu.Unlock()
	s.leaveLog()
	if s.ready.CompareAndSwap(false, true) { // Not the worker's, so ours.
		s.release()
		s.ready.Store(false)
		if s.wants() {
			s.signal(nil)
		}
	}
}

// leaveBus has no more emitters look for s. bus.mu is held.
func (s *Subscription) leaveBus() {
	s.attached = false
	s.client.bus.subs--
	s.client.bus.topology++
}

// leaveLog takes s out of its log, and the log out of the bus if nobody else needs it.
// bus.mu is held.
func (s *Subscription) leaveLog() {
	b, l := s.client.bus, s.log
	if l == nil {
		return
	}
	l.catching = without(l.catching, s)
	l.queued = without(l.queued, s)
	if s.following {
		s.following = false
		l.leave(s)
	}
	if len(l.followers) == 0 && len(l.queued) == 0 && len(l.catching) == 0 {
		b.index.Remove(l.pattern, l)
		delete(b.logs, l.pattern)
	}
}

// close ends s: it cancels what waits, and retires s unless a call still runs.
// It returns how many events it cancelled, and whether a call runs. bus.mu is
// held.
func (s *Subscription) close() (cancelled int, stillRunning bool) {
	if s.waits {
		s.waits = false
		s.client.bus.subs--
	}
	s.detach()
	s.mu.Lock()
	before := s.word.Load()
	stillRunning = s.flag(closed)&running != 0 || len(s.active) > 0
	if before&closed != 0 {
		s.mu.Unlock()
		return 0, stillRunning
	}
	cancelled = s.queue.count + s.page.count + s.cancelSpawned()
	stillRunning = before&running != 0 || len(s.active) > 0
	s.counts.Cancelled += uint64(cancelled)
	if s.client.bus.opts.Observe != nil {
		for i := range s.page.count {
			s.observe(plugbus.Cancelled, s.page.at(i), time.Time{})
		}
		for i := range s.queue.count {
			s.observe(plugbus.Cancelled, s.queue.at(i), time.Time{})
		}
	}
	s.queue, s.page = queue{}, ring{}
	s.private.Store(0)
	s.welcome()
	s.mu.Unlock()
	s.client.open.Add(-1) // Not earlier: until the flag is set, the worker may start what waits.
	if s.timer != nil {
		s.timer.Stop()
	}
	if !stillRunning {
		s.retire()
	} else {
		s.client.checkDrained() // What runs may have been abandoned.
	}
	return cancelled, stillRunning
}

// retire takes s out of the books. It is closed, and no call of it runs. bus.mu
// is held.
func (s *Subscription) retire() {
	c := s.client
	if _, here := c.subs[s]; !here {
		return
	}
	s.client.bus.past.Add(s.ledger())
	delete(c.subs, s)
	s.handler, s.opts.filter = nil, nil // Routes of emitters may hold on to s, but not to its plugin.
	close(s.quiet)
	c.checkDrained()
	if len(c.subs) == 0 {
		delete(c.bus.gone, c)
	}
}

// flag sets flags of the word, which a worker may be moving, and returns the
// word with them. s.mu is held.
func (s *Subscription) flag(f uint64) uint64 {
	return s.word.Or(f) | f
}

// losses returns the counts of lost events by source. s.mu is held.
func (s *Subscription) losses() map[string]uint64 {
	if s.lost == nil {
		s.lost = map[string]uint64{}
	}
	return s.lost
}

// welcome tells the emitters that wait for room to try again. s.mu is held.
func (s *Subscription) welcome() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

func without(subs []*Subscription, s *Subscription) []*Subscription {
	i := slices.Index(subs, s)
	if i < 0 {
		return subs
	}
	return slices.Delete(subs, i, i+1)
}
