package events

import (
	"context"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
)

// An Audience selects the recipients of a broadcast. The zero Audience is
// everybody. A plugin belongs to it if it meets every condition that is set.
type Audience struct {
	// IDs names plugins. If empty, any plugin will do.
	IDs []string

	// Capabilities must all be provided by the plugin.
	Capabilities []string

	// LeastTrust is the lowest trust level that will do.
	LeastTrust plugbus.Trust
}

// includes reports whether a client belongs to the audience.
func (a *Audience) includes(b *Bus, sender, id string) bool {
	if len(a.IDs) > 0 && !slices.Contains(a.IDs, id) {
		return false
	}
	return b.opts.InAudience == nil || b.opts.InAudience(sender, *a, id)
}

// Broadcast tells an event to an audience, but not to its sender: to the
// matching subscriptions of its plugins, and to their handlers of [Client.Receive].
// A recipient needs the right to subscribe to the name. Recipients without it
// are counted as refused, and the others are served.
//
// The history keeps the event for this audience. Otherwise Broadcast does what
// [Client.Emit] does, and returns the same errors; it does not take
// [WaitForRoom].
func (c *Client) Broadcast(ctx context.Context, name string, data any, to Audience, options ...EmitOption) (Receipt, error) {
	if ctx == nil {
		return Receipt{}, c.noContext("broadcasts", name)
	}
	var o emitOptions
	if err := o.apply(name, options); err != nil {
		return Receipt{}, err
	}
	b := c.bus
	switch {
	case o.wait:
		return Receipt{}, &OptionError{"WaitForRoom", "set", "no WaitForRoom with Broadcast"}
	case b.opts.InAudience == nil && (len(to.Capabilities) > 0 || to.LeastTrust > 0):
		return Receipt{}, &OptionError{"Audience", "Capabilities or LeastTrust", "IDs only, in a bus without a hub"}
	}
	for range maxMoves {
		r := c.newRoute(plugbus.VerbBroadcast, name)
		var e Event
		if err := c.admit(ctx, plugbus.VerbBroadcast, r, data, &o, &e); err != nil {
			return Receipt{}, err
		}
		receipt, refused, err := c.publishTo(c.audience(&to), &e) //nolint:contextcheck // A handler's context comes from its plugin.
		for _, id := range refused {
			_ = c.guard.Refuse(plugbus.Refusal{ // For the record; the others are served.
				Verb: plugbus.VerbBroadcast, Object: name, Reason: plugbus.ReasonRecipientCannotReceive, Chain: e.meta.chain,
				Cause: fmt.Errorf("plugin %q may not subscribe to %q", id, name),
			})
		}
		if err != errPolicyMoved { //nolint:errorlint // It is never wrapped.
			return receipt, err
		}
	}
	return Receipt{}, c.refuseMoving(plugbus.VerbBroadcast, name)
}

// audience returns the clients that belong to an audience, but for c. What
// decides about them belongs to the hub, and is asked without a lock.
func (c *Client) audience(to *Audience) []*Client {
	b := c.bus
	b.mu.Lock()
	all := make([]*Client, 0, len(b.clients))
	for _, other := range b.clients {
		if other.id != c.id { // It may be another version of the same plugin.
			all = append(all, other)
		}
	}
	b.mu.Unlock()
	return slices.DeleteFunc(all, func(other *Client) bool { return !to.includes(b, c.id, other.id) })
}

// publishTo is publish for an audience. It returns the ids of recipients that
// may not have the event.
func (c *Client) publishTo(audience []*Client, e *Event) (receipt Receipt, refused []string, err error) {
	b := c.bus
	m := *e.meta
	m.audience = make([]uint64, 0, len(audience))
	e.meta = &m
	var wakes actor.Wakes
	b.mu.Lock()
	switch {
	case b.closed || c.ended.Load():
		b.mu.Unlock()
		return receipt, nil, fmt.Errorf("plugin %q broadcasts %q: %w", c.id, e.Name(), ErrClosed)
	case c.guard.Version() != e.origin.version:
		b.mu.Unlock()
		return receipt, nil, errPolicyMoved
	}
	b.seq++
	e.seq = b.seq
	c.emitted++
	if b.opts.Observe != nil {
		c.observeEvent(plugbus.VerbBroadcast, e)
	}
	receipt = Receipt{Seq: e.seq, nanos: e.nanos, salt: b.salt}
	recipients := b.recipients(e.Name())
	for _, other := range audience {
		other = other.latest() // Which may have succeeded it since we looked.
		subs := recipients[other]
		if may := other.guard.Permit(plugbus.VerbSubscribe, e.Name()); !may.Allowed() {
			if len(subs) > 0 {
				refused = append(refused, other.id)
				b.door.Count(plugbus.Refused, 1)
				if b.opts.Observe != nil {
					c.observeKept(other.id, e, may.Reason)
				}
				if c.knows(other.id) {
					receipt.Matched++
					receipt.Refused++
				}
			}
			continue
		}
		m.audience = append(m.audience, other.number)
		for _, s := range subs {
			if !s.reading.Load() || m.noHistory { // Otherwise it comes by the history.
				c.offer(s, e, &receipt, &wakes)
			}
		}
	}
	if !m.noHistory {
		slices.Sort(m.audience)
		b.history.add(e)
	}
	b.mu.Unlock()
	wakes.Wake()
	return receipt, refused, nil
}

// recipients returns the subscriptions that a broadcast of a name reaches, by
// client. bus.mu is held.
func (b *Bus) recipients(name string) map[*Client][]*Subscription {
	found := map[*Client][]*Subscription{}
	add := func(s *Subscription) { found[s.client] = append(found[s.client], s) }
	for _, l := range b.index.Append(nil, name) {
		for s := range l.followers {
			add(s)
		}
		for _, s := range l.queued {
			add(s)
		}
		for _, s := range l.catching {
			add(s)
		}
	}
	for _, c := range b.clients {
		for s := range c.subs {
			if s.opts.receiver && s.attached {
				add(s)
			}
		}
	}
	return found
}
