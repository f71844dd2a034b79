package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
)

// The bounds of one entry, besides plugbus.MaxTextBytes for each of its texts.
const (
	MaxDetails     = 16   // details of one entry
	MaxDetailBytes = 4096 // keys and values of one entry's details together
)

// An Entry is one fact. The recorder fills in what it knows; the log stamps the
// rest. Text is escaped: what is not printable, such as a line break, is
// written as in a Go string literal.
type Entry struct {
	// Seq numbers the entries from 1, without a gap. The log stamps it.
	Seq uint64 `json:"seq"`

	// Time is when it happened, or first happened. The log stamps it if it is
	// zero. It keeps its monotonic reading.
	Time time.Time `json:"time"`

	// Event says what happened, such as "emit.refused" or "policy.swapped". It
	// is a name of the bus's grammar: tokens, separated by dots.
	Event string `json:"event"`

	Actor   string          `json:"actor"`             // the plugin that acted, or "host", or "hub"
	Target  string          `json:"target,omitempty"`  // what it was about: a plugin, a name, a store
	Verb    plugbus.Verb    `json:"verb,omitempty"`    // 0 if there is none
	Outcome plugbus.Outcome `json:"outcome,omitempty"` // 0 if there is none
	Reason  plugbus.Reason  `json:"reason,omitempty"`  // empty if there is none

	// Details hold what else matters: metadata, never payloads. What exceeds
	// MaxDetails or MaxDetailBytes is left out, and the last detail, with the
	// key "omitted", says how many.
	Details []Detail `json:"details,omitempty"`

	// Admin marks the acts of the host and of the hub, and what is too serious
	// to be flushed by plugins.
	Admin bool `json:"admin,omitempty"`

	// Count is how many times it happened, at least 1. Last is when it happened
	// last.
	Count uint64    `json:"count"`
	Last  time.Time `json:"last"`

	// Unconfirmed says that a required sink was unavailable when the entry was
	// recorded. If the entry announced an act, the act was not done. The log
	// stamps it.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// A Detail is a piece of text with a name.
type Detail struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// clone returns a copy that shares nothing that can change.
func (e *Entry) clone() Entry {
	c := *e
	c.Details = slices.Clone(e.Details)
	return c
}

// stamp fills in the times and the count, and brings the texts that make the
// key of the entry into their final form.
func (e *Entry) stamp() {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Last.Before(e.Time) {
		e.Last = e.Time
	}
	e.Count = max(e.Count, 1)
	e.Event = eventName(e.Event)
	e.Actor = escape(e.Actor)
	e.Reason = plugbus.Reason(escape(string(e.Reason)))
}

// own brings the other texts into their final form, and moves all of them into
// memory of their own: a short text may be a part of a long one, which the log
// would keep alive.
func (e *Entry) own() {
	e.Target = escape(e.Target)
	e.Details = boundDetails(e.Details)

	n := len(e.Event) + len(e.Actor) + len(e.Reason) + len(e.Target)
	for _, d := range e.Details {
		n += len(d.Key) + len(d.Value)
	}
	var all strings.Builder
	all.Grow(n) // one allocation, that what is taken shares
	take := func(s string) string {
		from := all.Len()
		all.WriteString(s)
		return all.String()[from:]
	}
	e.Event, e.Actor, e.Target = take(e.Event), take(e.Actor), take(e.Target)
	e.Reason = plugbus.Reason(take(string(e.Reason)))
	for i, d := range e.Details {
		e.Details[i] = Detail{take(d.Key), take(d.Value)}
	}
}

// boundDetails returns a copy of what may be kept of details, escaped.
func boundDetails(details []Detail) []Detail {
	if len(details) == 0 {
		return nil
	}
	kept := make([]Detail, 0, min(len(details), MaxDetails))
	bytes := 0
	for i, d := range details {
		d = Detail{escape(d.Key), escape(d.Value)}
		omitted := Detail{"omitted", strconv.Itoa(len(details) - i)}
		bytes += len(d.Key) + len(d.Value)
		last := i == len(details)-1
		if len(kept) == MaxDetails-1 && !last || bytes > MaxDetailBytes {
			return append(kept, omitted)
		}
		kept = append(kept, d)
	}
	return kept
}

// Detail returns the value of the first detail with a key, or "".
func (e *Entry) Detail(key string) string {
	for _, d := range e.Details {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}
