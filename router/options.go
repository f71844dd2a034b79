package router

import (
	"strconv"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A SendOption changes one call of Send, Stream, Post or Publish.
type SendOption interface{ applySend(*sendOptions) error }

// A HandleOption changes one call of Handle, HandleStream, HandleDefault or
// HandleTopic.
type HandleOption interface{ applyHandle(*handleOptions) error }

// A TimeOption is a [SendOption] and a [HandleOption].
type TimeOption interface {
	SendOption
	HandleOption
}

type sendOptions struct {
	priority    plugbus.Priority
	timeout     time.Duration
	maxAge      time.Duration
	idle        time.Duration
	wait        bool
	headers     map[string]string
	correlation string
	clientID    string
	again       *plugbus.Chain // what led to the message that is sent again; nil for others
	by          time.Time      // when the time is over that a message and its way through middleware share; zero for never
}

// noOptions are the options of a call without any. Nobody writes to them.
var noOptions sendOptions

type handleOptions struct {
	concurrent int
	timeout    time.Duration
	idle       time.Duration
	narrow     bool
	senders    *senders
	measured   bool
}

// Priority sends a message with a priority. One above the normal needs a grant.
// By default it is plugbus.PriorityNormal.
func Priority(p plugbus.Priority) SendOption { return priorityOption{p} }

type priorityOption struct{ p plugbus.Priority }

func (opt priorityOption) applySend(o *sendOptions) error {
	if !opt.p.Valid() {
		return &OptionError{"Priority", opt.p, "low, normal or high"}
	}
	o.priority = opt.p
	return nil
}

// Timeout bounds, as an option of Send and Stream, the wait for the whole reply,
// beside the context; for Send it replaces the default of 30 seconds. It is no
// option of Post and Publish, which do not wait for handlers.
//
// As an option of Handle and its like, it bounds one call of the handler. When d
// has passed, the handler's context ends and the delivery is abandoned. By default
// a handler has as much time as the caller gives it, and the handler of a post or
// publication has no limit.
func Timeout(d time.Duration) TimeOption { return timeoutOption{d} }

type timeoutOption struct{ d time.Duration }

func (opt timeoutOption) check() error {
	if opt.d <= 0 {
		return &OptionError{"Timeout", opt.d, "more than 0"}
	}
	return nil
}

func (opt timeoutOption) applySend(o *sendOptions) error {
	o.timeout = opt.d
	return opt.check()
}

func (opt timeoutOption) applyHandle(o *handleOptions) error {
	o.timeout = opt.d
	return opt.check()
}

// Idle bounds how long each side of a stream waits for the other, as an option
// of Stream for its reader and of HandleStream for its handler. By default both
// wait for Options.StreamIdle.
func Idle(d time.Duration) TimeOption { return idleOption{d} }

type idleOption struct{ d time.Duration }

func (opt idleOption) check() error {
	if opt.d <= 0 {
		return &OptionError{"Idle", opt.d, "more than 0"}
	}
	return nil
}

func (opt idleOption) applySend(o *sendOptions) error {
	o.idle = opt.d
	return opt.check()
}

func (opt idleOption) applyHandle(o *handleOptions) error {
	o.idle = opt.d
	return opt.check()
}

// MaxAge lets the message expire if its handler has not started by then. That shows
// when its turn comes: who waits for a reply, and no longer, uses [Timeout].
func MaxAge(d time.Duration) SendOption { return maxAgeOption{d} }

type maxAgeOption struct{ d time.Duration }

func (opt maxAgeOption) applySend(o *sendOptions) error {
	if opt.d <= 0 {
		return &OptionError{"MaxAge", opt.d, "more than 0"}
	}
	o.maxAge = opt.d
	return nil
}

// expiry returns when a message of now expires, in nanoseconds of Unix time, or 0
// for never, which is also after more than that can count.
func (o *sendOptions) expiry(now time.Time) int64 {
	if o.maxAge <= 0 {
		return 0
	}
	return max(0, now.UnixNano()+int64(o.maxAge))
}

// WaitForRoom lets Send, Stream and Post wait while the recipient's mailbox is
// full, until the context is done or the deadline has passed; for a Post that is
// the router's WaitLimit. It is no option of Publish.
func WaitForRoom() SendOption { return waitOption{} }

type waitOption struct{}

func (waitOption) applySend(o *sendOptions) error {
	o.wait = true
	return nil
}

// MaxHeaders bounds how many headers a message has.
const MaxHeaders = 64

// Headers sends headers with the message, at most [MaxHeaders]. They are copied,
// checked and measured like the payload.
func Headers(h map[string]string) SendOption { return headersOption{h} }

type headersOption struct{ h map[string]string }

func (opt headersOption) applySend(o *sendOptions) error {
	if len(opt.h) > MaxHeaders {
		return &OptionError{"Headers", len(opt.h), "at most 64 headers"}
	}
	o.headers = opt.h
	return nil
}

// CorrelationID sends an id by which messages that belong together can be found:
// up to 255 bytes, as a name is.
func CorrelationID(id string) SendOption { return correlationOption{id} }

type correlationOption struct{ id string }

func (opt correlationOption) applySend(o *sendOptions) error {
	if opt.id == "" || len(opt.id) > topic.MaxBytes {
		return &OptionError{"CorrelationID", strconv.Quote(plugbus.CutText(opt.id)), "1 to 255 bytes"}
	}
	o.correlation = opt.id
	return nil
}

// ClientID sends the sender's own id of the message, by which [Deduplicate] finds
// duplicates: up to 255 bytes.
func ClientID(id string) SendOption { return clientIDOption{id} }

type clientIDOption struct{ id string }

func (opt clientIDOption) applySend(o *sendOptions) error {
	if opt.id == "" || len(opt.id) > topic.MaxBytes {
		return &OptionError{"ClientID", strconv.Quote(plugbus.CutText(opt.id)), "1 to 255 bytes"}
	}
	o.clientID = opt.id
	return nil
}

// MaxConcurrent is the most that [Concurrent] takes.
const MaxConcurrent = 1024

// Concurrent lets up to n calls of the handler run at a time, beside the other
// handlers of the plugin, which run one at a time. The handler then needs locks,
// and messages may overtake each other.
func Concurrent(n int) HandleOption { return concurrentOption{n} }

type concurrentOption struct{ n int }

func (opt concurrentOption) applyHandle(o *handleOptions) error {
	if opt.n < 1 || opt.n > MaxConcurrent {
		return &OptionError{"Concurrent", opt.n, "1 to 1024"}
	}
	o.concurrent = opt.n
	return nil
}

// Narrow lets a plugin handle a topic pattern that is wider than its grant. It
// gets the publications that the grant allows.
func Narrow() HandleOption { return narrowOption{} }

type narrowOption struct{}

func (narrowOption) applyHandle(o *handleOptions) error {
	o.narrow = true
	return nil
}

// MaxSenders bounds each of the lists of [Senders].
const MaxSenders = 1024

// Senders limits the handler to messages of some plugins: those in allowed, or
// everybody if that is empty, but nobody in denied. Others are refused, as by the
// recipient's policy. The lists hold ids. If it is given twice, both hold.
func Senders(allowed, denied []string) HandleOption { return sendersOption{allowed, denied} }

type sendersOption struct{ allowed, denied []string }

func (opt sendersOption) applyHandle(o *handleOptions) error {
	s := &senders{denied: map[string]bool{}, also: o.senders}
	if len(opt.allowed) > 0 {
		s.allowed = map[string]bool{}
	}
	if n := max(len(opt.allowed), len(opt.denied)); n > MaxSenders {
		return &OptionError{"Senders", n, "at most 1024 ids in a list"}
	}
	for set, list := range map[*map[string]bool][]string{&s.allowed: opt.allowed, &s.denied: opt.denied} {
		for _, id := range list {
			if err := topic.CheckID(id); err != nil {
				return err
			}
			(*set)[id] = true
		}
	}
	o.senders = s
	return nil
}

type senders struct {
	allowed, denied map[string]bool
	also            *senders // has to admit as well; may be nil
}

// admits reports whether a plugin is among the senders.
func (s *senders) admits(id string) bool {
	return s == nil || !s.denied[id] && (s.allowed == nil || s.allowed[id]) && s.also.admits(id)
}

// apply applies options to a call of kind about a type or topic.
func (o *sendOptions) apply(kind Kind, options []SendOption) error {
	for _, option := range options {
		if option == nil {
			return &OptionError{"SendOption", nil, "an option of package router"}
		}
		if err := option.applySend(o); err != nil {
			return err
		}
	}
	switch {
	case o.timeout > 0 && !kind.awaited():
		return &OptionError{"Timeout", o.timeout, "none with " + kind.String() + ", which does not wait; MaxAge bounds how long a message may wait"}
	case o.wait && kind == KindPublish:
		return &OptionError{"WaitForRoom", "set", "none with publish, which tells who had no room"}
	case o.idle > 0 && kind != KindStream:
		return &OptionError{"Idle", o.idle, "none with " + kind.String() + ", which is no stream"}
	}
	return nil
}
