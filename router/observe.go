package router

import (
	"errors"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/ids"
)

// What Options.Observe hears of. Each act and delivery is told where it is counted, so
// that whoever sees the count of an outcome knows that it was told. The callers look
// first whether anybody listens.

// traffic returns what the deliveries of a kind are to those who observe.
func (k Kind) traffic() plugbus.Traffic {
	switch k {
	case KindStream:
		return plugbus.TrafficStream
	case KindPost:
		return plugbus.TrafficPost
	case KindPublish:
		return plugbus.TrafficPublication
	default:
		return plugbus.TrafficSend
	}
}

// verb returns what the sender does.
func (k Kind) verb() plugbus.Verb {
	if k == KindPublish {
		return plugbus.VerbPublish
	}
	return plugbus.VerbSend
}

// observeAct tells of a message that was let in, or for which there was no room.
func (c *Client) observeAct(outcome plugbus.Outcome, a *address, m *Message) {
	o := plugbus.Observation{
		Time: m.Time(), Stage: plugbus.StageAct, Kind: a.kind.traffic(), Verb: a.kind.verb(),
		From: c.id, To: a.to, Name: a.name, Outcome: outcome, Count: 1, Bytes: int(m.size),
		Depth: m.meta.chain.Depth(), Correlation: m.meta.correlation,
	}
	if outcome == 0 {
		o.Seq, o.ID = m.seq, ids.At(m.nanos, m.seq, a.salt)
	}
	c.router.opts.Observe(o)
}

// observeRefusal tells of a message that was not let in.
func (c *Client) observeRefusal(kind Kind, to, name string, reason plugbus.Reason, led plugbus.Chain) {
	c.router.opts.Observe(plugbus.Observation{
		Time: c.router.clock.Now(), Stage: plugbus.StageAct, Kind: kind.traffic(), Verb: kind.verb(),
		From: c.id, To: plugbus.CutText(to), Name: plugbus.CutText(name), Outcome: plugbus.Refused, Reason: reason, Count: 1, Depth: led.Depth() + 1,
	})
}

// observe tells how a delivery ended, and for a refusal why.
func (d *delivery) observe(outcome plugbus.Outcome, reason plugbus.Reason) {
	a, r := d.msg.address, d.from.router
	now := r.clock.Now()
	o := plugbus.Observation{
		Time: now, Stage: plugbus.StageDelivery, Kind: a.kind.traffic(), Verb: plugbus.VerbReceive,
		From: a.from, To: a.to, Name: a.name, Outcome: outcome, Reason: reason, Count: 1, Bytes: int(d.msg.size),
		Depth: d.msg.meta.chain.Depth(), Seq: d.msg.seq, ID: d.msg.ID(), Correlation: d.msg.meta.correlation,
	}
	if a.kind == KindPublish {
		o.Verb, o.Pattern = plugbus.VerbConsume, d.msg.meta.pattern
	}
	waited := now
	switch outcome {
	case plugbus.Handled, plugbus.Failed, plugbus.Abandoned:
		waited, o.Ran = d.started, now.Sub(d.started)
	default:
	}
	o.Waited = max(0, waited.Sub(d.msg.Time()))
	r.opts.Observe(o)
}

// observes reports whether somebody hears of how deliveries end.
func (d *delivery) observes() bool { return d.from.router.opts.Observe != nil }

// mark notes when the handler was called, for observe.
func (d *delivery) mark() {
	if d.observes() {
		d.started = d.from.router.clock.Now()
	}
}

// reasonOf returns why a delivery could not be put before its handler, for those who
// observe. That there is no handler means that the plugin cannot receive it.
func reasonOf(outcome plugbus.Outcome, why error) plugbus.Reason {
	if outcome != plugbus.Undeliverable {
		return ""
	}
	if denied, ok := errors.AsType[*plugbus.DeniedError](why); ok { // It is ours.
		return denied.Reason
	}
	return plugbus.ReasonRecipientCannotReceive
}

// observeKept tells of a recipient that did not get a publication.
func (c *Client) observeKept(p *publication, t target, outcome plugbus.Outcome, reason plugbus.Reason) {
	if c.router.opts.Observe == nil {
		return
	}
	d := &delivery{msg: p.msg, from: c}
	m := *p.msg.meta
	m.pattern = t.route.pattern.String()
	d.msg.address, d.msg.meta = t.address, &m
	d.observe(outcome, reason)
}
