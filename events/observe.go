package events

import (
	"time"

	"github.com/plugbus/plugbus"
)

// What Options.Observe hears of. Each act and delivery is told where it is counted,
// under the lock of the count: so the order is that of the bus, and whoever sees a
// count knows that it was told. The callers look first whether anybody listens.

// observeEvent tells of an event that was let in. bus.mu is held.
func (c *Client) observeEvent(verb plugbus.Verb, e *Event) {
	o := c.observation(plugbus.TrafficEvent, verb, e.Name())
	o.Time, o.Bytes, o.Seq, o.ID = e.Time(), e.Size(), e.seq, e.ID()
	o.Depth, o.Correlation = e.meta.chain.Depth(), e.meta.correlation
	c.bus.opts.Observe(o)
}

// observeKept tells of a recipient that may not have a broadcast. bus.mu is held.
func (c *Client) observeKept(to string, e *Event, reason plugbus.Reason) {
	o := c.observation(plugbus.TrafficEvent, plugbus.VerbSubscribe, e.Name())
	o.Stage, o.Outcome, o.Reason, o.To = plugbus.StageDelivery, plugbus.Refused, reason, to
	o.Time, o.Bytes, o.Seq, o.ID = e.Time(), e.Size(), e.seq, e.ID()
	o.Depth, o.Correlation = e.meta.chain.Depth(), e.meta.correlation
	c.bus.opts.Observe(o)
}

// observeRefusal tells of an act that was not let in.
func (c *Client) observeRefusal(r *plugbus.Refusal) {
	kind := plugbus.TrafficEvent
	if r.Verb == plugbus.VerbSubscribe {
		kind = plugbus.TrafficSubscription
	}
	o := c.observation(kind, r.Verb, r.Object)
	o.Outcome, o.Reason, o.Depth = plugbus.Refused, r.Reason, r.Chain.Depth()+1
	c.bus.opts.Observe(o)
}

// observeNoRoom tells of an event whose emitter has waited for room in vain.
func (c *Client) observeNoRoom(e *Event) {
	o := c.observation(plugbus.TrafficEvent, plugbus.VerbEmit, e.Name())
	o.Outcome, o.Bytes, o.Depth, o.Correlation = plugbus.Full, e.Size(), e.meta.chain.Depth(), e.meta.correlation
	c.bus.opts.Observe(o)
}

// observeAsked tells of an act that asks for events, and that was let in.
func (c *Client) observeAsked(pattern string) {
	if c.bus.opts.Observe != nil {
		c.bus.opts.Observe(c.observation(plugbus.TrafficSubscription, plugbus.VerbSubscribe, pattern))
	}
}

// observation returns one of an act of now.
func (c *Client) observation(kind plugbus.Traffic, verb plugbus.Verb, name string) plugbus.Observation {
	return plugbus.Observation{
		Time: c.bus.clock.Now(), Stage: plugbus.StageAct, Kind: kind, Verb: verb, From: c.id, Name: plugbus.CutText(name), Count: 1, Depth: 1,
	}
}

// begun notes that a delivery starts, for those who tell how it ends: its worker, or
// whoever abandons it.
func (s *Subscription) begun(e *Event, concurrent *call) {
	now := s.client.bus.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if concurrent != nil {
		concurrent.began = now
		return
	}
	s.current, s.began = *e, now
}

// observe tells how a delivery ended. It began at a time, or never did. s.mu or
// bus.mu is held.
func (s *Subscription) observe(outcome plugbus.Outcome, e *Event, began time.Time) {
	now := s.client.bus.clock.Now()
	o := plugbus.Observation{
		Time: now, Stage: plugbus.StageDelivery, Kind: plugbus.TrafficEvent, Verb: plugbus.VerbSubscribe,
		From: e.Source(), To: s.client.id, Name: e.Name(), Pattern: s.pattern.String(), Outcome: outcome, Count: 1,
		Bytes: e.Size(), Depth: e.Chain().Depth(), Seq: e.seq, ID: e.ID(), Correlation: e.CorrelationID(),
	}
	if outcome == plugbus.Undeliverable {
		o.Reason = s.client.guard.Permit(plugbus.VerbSubscribe, e.Name()).Reason
	}
	waited := now
	switch outcome {
	case plugbus.Handled, plugbus.Failed, plugbus.Abandoned:
		waited, o.Ran = began, now.Sub(began)
	default:
	}
	if !e.Replayed() {
		o.Waited = max(0, waited.Sub(e.Time()))
	}
	s.client.bus.opts.Observe(o)
}

// observeDropped tells of events that the overflow rule dropped from the log. s.mu is
// held.
func (s *Subscription) observeDropped(n uint64) {
	if s.client.bus.opts.Observe == nil || n == 0 {
		return
	}
	s.client.bus.opts.Observe(plugbus.Observation{
		Time: s.client.bus.clock.Now(), Stage: plugbus.StageDelivery, Kind: plugbus.TrafficEvent, Verb: plugbus.VerbSubscribe,
		To: s.client.id, Pattern: s.pattern.String(), Outcome: plugbus.Dropped, Count: int(n),
	})
}
