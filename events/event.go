package events

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/ids"
	"github.com/plugbus/plugbus/internal/payload"
)

// An Event is a fact that one plugin told to whoever subscribed. It is a value,
// and immutable: the bus keeps the only copy of its payload, and every [Event.Data]
// is a copy of that copy. The zero Event has no name.
//
// It is seven words long, and a handler's context two, so that both travel in
// registers; one word more, and both would go through memory.
type Event struct { //nolint:recvcheck // Users have values; kept spares the history a copy.
	frozen any
	seq    uint64
	nanos  int64 // since the epoch
	origin *origin
	meta   *meta
	info   info
}

// An origin is what the events of one name by one plugin under one policy have
// in common. It holds on to nothing, since the history keeps it.
type origin struct {
	name, source string
	salt         uint32 // of the bus's ids
	version      uint64 // of the policy that admitted the event
}

// A meta is what travels with an event besides its payload. Most events of a
// plugin share one, which holds only the chain.
type meta struct {
	chain       plugbus.Chain // the source is its last plugin
	headers     map[string]string
	correlation string
	expires     int64    // unix nanoseconds; 0 for never
	audience    []uint64 // the numbers of clients, in order; nil for everybody
	noHistory   bool
}

// isFor reports whether the event is meant for a client.
func (m *meta) isFor(c *Client) bool {
	if m.audience == nil {
		return true
	}
	_, ok := slices.BinarySearch(m.audience, c.number)
	return ok
}

// info packs what differs between the deliveries of one event, and its size,
// into one word.
type info uint64

const (
	infoReplayed  info = 1 << 0
	infoTruncated info = 1 << 1

	missedShift = 2
	missedMax   = 1<<30 - 1
	sizeShift   = 32
)

func (i info) missing(n uint64) info {
	return i | info(min(n, missedMax))<<missedShift
}

func sized(size int) info { return info(min(uint64(size), math.MaxUint32)) << sizeShift }

// Name returns the name of the event.
func (e Event) Name() string {
	if e.origin == nil {
		return ""
	}
	return e.origin.name
}

// Source returns the id of the plugin that emitted the event. The bus stamps
// it; no payload, header or option can change it.
func (e Event) Source() string {
	if e.origin == nil {
		return ""
	}
	return e.origin.source
}

// Seq returns the place of the event in the one order of its bus. The first
// event has 1. A subscription sees a part of this order.
func (e Event) Seq() uint64 { return e.seq }

// Time returns when the event was emitted. It is never before the time of an
// event with a lower Seq by more than a concurrent emitter's head start, and
// it does not follow steps of the wall clock.
func (e Event) Time() time.Time { return time.Unix(0, e.nanos) }

// ID returns the id of the event, which is unique, and sorts by time.
func (e Event) ID() plugbus.ID {
	if e.origin == nil {
		return plugbus.ID{}
	}
	return ids.At(e.nanos, e.seq, e.origin.salt)
}

// Data returns the payload: the value itself if its type holds no references,
// and otherwise a copy that belongs to the caller. Each call makes a new copy.
// A [plugbus.Shared] payload is returned as it is.
func (e Event) Data() any { return payload.Thaw(e.frozen) }

// Size returns the size of the payload and the headers in bytes, as the door
// measured it.
func (e Event) Size() int { return int(e.info >> sizeShift) }

// kept returns how many bytes an event in the history keeps alive.
func (e *Event) kept() int64 { return int64(e.Size()) + 8*int64(len(e.meta.audience)) }

// Chain returns the plugins that led to the event. The last one is its source.
func (e Event) Chain() plugbus.Chain {
	if e.meta == nil {
		return plugbus.Chain{}
	}
	return e.meta.chain
}

// Header returns one header, or "".
func (e Event) Header(key string) string {
	if e.meta == nil {
		return ""
	}
	return e.meta.headers[key]
}

// Headers returns a copy of the headers.
func (e Event) Headers() map[string]string {
	if e.meta == nil {
		return nil
	}
	return maps.Clone(e.meta.headers)
}

// CorrelationID returns what the emitter gave with [CorrelationID], or "".
func (e Event) CorrelationID() string {
	if e.meta == nil {
		return ""
	}
	return e.meta.correlation
}

// Replayed reports whether the event comes from the history. Only the bus sets
// this mark.
func (e Event) Replayed() bool { return e.info&infoReplayed != 0 }

// Missed returns how many events the subscription lost to its overflow rule
// since the one before this. [Subscription.Stats] counts them by source.
func (e Event) Missed() int { return int(e.info >> missedShift & missedMax) }

// Truncated reports that the history no longer held everything that was asked
// of it before this event.
func (e Event) Truncated() bool { return e.info&infoTruncated != 0 }
