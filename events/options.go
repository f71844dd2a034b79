package events

import (
	"context"
	"strconv"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// An Overflow is what a full queue does with one event more.
type Overflow uint8

// The overflow rules.
const (
	DropOldest      Overflow = iota // the oldest event in the queue is dropped; the default
	DropNewest                      // the new event is dropped
	RefuseToEmitter                 // the new event is not accepted, and the emitter's receipt says full
)

// A SubscribeOption changes one call of Subscribe.
type SubscribeOption interface{ applySubscribe(*subscribeOptions) error }

type subscribeOptions struct {
	once       bool
	narrow     bool
	fair       bool
	filter     func(Event) bool
	priority   int
	timeout    time.Duration
	expires    time.Duration
	buffer     int
	overflow   Overflow
	concurrent int
	from       From
	receiver   bool
}

// Once ends the subscription with its first event: the handler is called at
// most once. An event that the filter turns away does not count.
func Once() SubscribeOption { return onceOption{} }

type onceOption struct{}

func (onceOption) applySubscribe(o *subscribeOptions) error {
	o.once = true
	return nil
}

// Filter calls the handler only for events for which f returns true. It runs
// where the handler runs, on the subscriber's worker. A filtered event counts as
// handled. If f panics, the event counts as failed.
func Filter(f func(Event) bool) SubscribeOption { return filterOption{f} }

type filterOption struct{ f func(Event) bool }

func (opt filterOption) applySubscribe(o *subscribeOptions) error {
	if opt.f == nil {
		return &OptionError{"Filter", "nil", "a function"}
	}
	o.filter = opt.f
	return nil
}

// Priority orders the handlers that one plugin has for the same event: higher
// first, and of equal ones the older subscription. The default is 0.
func Priority(p int) SubscribeOption { return priorityOption{p} }

type priorityOption struct{ p int }

func (opt priorityOption) applySubscribe(o *subscribeOptions) error {
	o.priority = opt.p
	return nil
}

// Timeout bounds one call of the handler. When d has passed, the handler's
// context ends and the event counts as abandoned, whatever the handler returns
// later. The plugin's next handler starts only when this one has returned. By
// default it is the bus's HandlerTimeout.
func Timeout(d time.Duration) SubscribeOption { return timeoutOption{d} }

type timeoutOption struct{ d time.Duration }

func (opt timeoutOption) applySubscribe(o *subscribeOptions) error {
	if opt.d <= 0 {
		return &OptionError{"Timeout", opt.d, "more than 0"}
	}
	o.timeout = opt.d
	return nil
}

// Expires ends the subscription when d has passed.
func Expires(d time.Duration) SubscribeOption { return expiresOption{d} }

type expiresOption struct{ d time.Duration }

func (opt expiresOption) applySubscribe(o *subscribeOptions) error {
	if opt.d <= 0 {
		return &OptionError{"Expires", opt.d, "more than 0"}
	}
	o.expires = opt.d
	return nil
}

// MaxBuffer bounds [Buffer].
const MaxBuffer = 1 << 20

// Buffer bounds how many events may wait for the handler. By default it is the
// bus's Buffer. A subscription with the rule DropOldest may have up to an
// eighth more waiting, or one, which its worker has claimed already, and as many
// broadcasts beside; and one that reads the history has up to 64 events of that.
func Buffer(events int) SubscribeOption { return bufferOption{events} }

type bufferOption struct{ events int }

func (opt bufferOption) applySubscribe(o *subscribeOptions) error {
	if opt.events < 1 || opt.events > MaxBuffer {
		return &OptionError{"Buffer", opt.events, "1 to 1048576"}
	}
	o.buffer = opt.events
	return nil
}

// OnOverflow sets the rule for a full queue.
func OnOverflow(rule Overflow) SubscribeOption { return onOverflowOption{rule} }

type onOverflowOption struct{ rule Overflow }

func (opt onOverflowOption) applySubscribe(o *subscribeOptions) error {
	if opt.rule > RefuseToEmitter {
		return &OptionError{"OnOverflow", opt.rule, "DropOldest, DropNewest or RefuseToEmitter"}
	}
	o.overflow = opt.rule
	return nil
}

// MaxFairBuffer bounds [Buffer] together with [Fair], since a fair queue is
// searched for the event that makes way.
const MaxFairBuffer = 4096

// Fair gives every source its share of the queue: when the queue is full, the
// source that has most in it loses an event, the oldest or the newest as the
// rule says. It goes with a buffer of at most [MaxFairBuffer], and not with
// RefuseToEmitter.
func Fair() SubscribeOption { return fairOption{} }

type fairOption struct{}

func (fairOption) applySubscribe(o *subscribeOptions) error {
	o.fair = true
	return nil
}

// MaxConcurrent bounds [Concurrent].
const MaxConcurrent = 1024

// Concurrent lets up to n calls of the handler, if that is more than one, run at a time, beside the
// plugin's other handlers and in no order.
func Concurrent(n int) SubscribeOption { return concurrentOption{n} }

type concurrentOption struct{ n int }

func (opt concurrentOption) applySubscribe(o *subscribeOptions) error {
	if opt.n < 1 || opt.n > MaxConcurrent {
		return &OptionError{"Concurrent", opt.n, "1 to 1024"}
	}
	o.concurrent = opt.n
	return nil
}

// Narrow accepts a pattern that is wider than the plugin's grant, and delivers
// only what the grant covers. Without it such a pattern is refused.
func Narrow() SubscribeOption { return narrowOption{} }

type narrowOption struct{}

func (narrowOption) applySubscribe(o *subscribeOptions) error {
	o.narrow = true
	return nil
}

// StartAt delivers first what the history holds, from the given place on, and
// then what is emitted later, with no gap and no duplicate.
func StartAt(from From) SubscribeOption { return startAtOption{from} }

type startAtOption struct{ from From }

func (opt startAtOption) applySubscribe(o *subscribeOptions) error {
	if err := opt.from.check(); err != nil {
		return err
	}
	o.from = opt.from
	return nil
}

// An EmitOption changes one call of Emit or Broadcast.
type EmitOption interface{ applyEmit(*emitOptions) error }

type emitOptions struct {
	headers     map[string]string
	maxAge      time.Duration
	correlation string
	noHistory   bool
	wait        bool
}

// MaxHeaders bounds how many headers an event has.
const MaxHeaders = 64

// Headers sends key-value pairs with the event. They are copied, measured and
// inspected like the payload.
func Headers(headers map[string]string) EmitOption { return headersOption{headers} }

type headersOption struct{ headers map[string]string }

func (opt headersOption) applyEmit(o *emitOptions) error {
	if len(opt.headers) > MaxHeaders {
		return &OptionError{"Headers", len(opt.headers), "at most 64 headers"}
	}
	o.headers = opt.headers
	return nil
}

// MaxAge lets the event expire: a delivery that has not started by then ends as
// expired, and no replay shows the event.
func MaxAge(d time.Duration) EmitOption { return maxAgeOption{d} }

type maxAgeOption struct{ d time.Duration }

func (opt maxAgeOption) applyEmit(o *emitOptions) error {
	if opt.d <= 0 {
		return &OptionError{"MaxAge", opt.d, "more than 0"}
	}
	o.maxAge = opt.d
	return nil
}

// CorrelationID marks the event as belonging to something that the plugin
// names: up to 255 bytes, as a name is. It is measured and inspected like the
// payload.
func CorrelationID(id string) EmitOption { return correlationIDOption{id} }

type correlationIDOption struct{ id string }

func (opt correlationIDOption) applyEmit(o *emitOptions) error {
	if opt.id == "" || len(opt.id) > topic.MaxBytes {
		return &OptionError{"CorrelationID", strconv.Quote(plugbus.CutText(opt.id)), "1 to 255 bytes"}
	}
	o.correlation = opt.id
	return nil
}

// NoHistory keeps the event out of the history.
func NoHistory() EmitOption { return noHistoryOption{} }

type noHistoryOption struct{}

func (noHistoryOption) applyEmit(o *emitOptions) error {
	o.noHistory = true
	return nil
}

// WaitForRoom makes the emitter wait until every queue that the event goes to
// has room for it, whatever the queue's overflow rule. The wait ends with the
// context, or after the bus's WaitLimit; then nothing is emitted. A plugin
// cannot wait so in a handler for a queue of its own.
func WaitForRoom() EmitOption { return waitForRoomOption{} }

type waitForRoomOption struct{}

func (waitForRoomOption) applyEmit(o *emitOptions) error {
	o.wait = true
	return nil
}

// A Handler handles one event. The context carries the event's chain, ends with
// the plugin's session and with the handler's time-out, and has no other
// values. An error, like a panic, makes the delivery count as failed; it does
// not reach the emitter.
type Handler func(ctx context.Context, e Event) error
