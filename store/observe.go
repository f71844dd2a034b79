package store

import (
	"errors"
	"time"

	"github.com/plugbus/plugbus"
)

// What Options.Observe hears of: each act at the door, what came of a write that the
// door let in, and each call of a watcher. The callers look first whether anybody
// listens.

// observeAct tells of an act that was let in, or not.
func (c *Client) observeAct(verb plugbus.Verb, name string, outcome plugbus.Outcome, reason plugbus.Reason, led plugbus.Chain, bytes int) {
	c.db.opts.Observe(plugbus.Observation{
		Time: c.db.clock.Now(), Stage: plugbus.StageAct, Kind: plugbus.TrafficStore, Verb: verb, From: c.id, Name: plugbus.CutText(name),
		Outcome: outcome, Reason: reason, Count: 1, Bytes: bytes, Depth: led.Depth() + 1,
	})
}

// observeRefusal tells of an act that was let in, and refused after all.
func (c *Client) observeRefusal(r *plugbus.Refusal) {
	c.db.opts.Observe(plugbus.Observation{
		Time: c.db.clock.Now(), Stage: plugbus.StageResult, Kind: plugbus.TrafficStore, Verb: r.Verb, From: c.id, Name: r.Object,
		Outcome: plugbus.Refused, Reason: r.Reason, Count: 1, Depth: r.Chain.Depth() + 1,
	})
}

// observe tells what came of a write, unless it was refused, which was told where that
// happened.
func (d *draft) observe(err error) {
	if errors.Is(err, plugbus.ErrDenied) || errors.Is(err, ErrQuota) {
		return
	}
	now := d.client.db.clock.Now()
	o := plugbus.Observation{
		Time: now, Stage: plugbus.StageResult, Kind: plugbus.TrafficStore, Verb: plugbus.VerbWrite, From: d.client.id, Name: d.space.name,
		Outcome: plugbus.Handled, Count: 1, Depth: d.led.Depth(), Ran: now.Sub(timeOf(d.now)),
	}
	for i := range d.edits {
		e := &d.edits[i]
		o.Bytes += len(e.key) + len(e.value)
		if err == nil && e.made != nil {
			o.Seq = e.made.revision
		}
	}
	if err != nil {
		o.Outcome = plugbus.Failed
	}
	d.client.db.opts.Observe(o)
}

// observe tells how a call of the watcher ended.
func (w *Watch) observe(outcome plugbus.Outcome, c *Change, began time.Time) {
	now := w.client.db.clock.Now()
	o := plugbus.Observation{
		Time: now, Stage: plugbus.StageDelivery, Kind: plugbus.TrafficStore, Verb: plugbus.VerbRead,
		From: c.writer, To: w.client.id, Name: w.space.name, Pattern: w.pattern, Outcome: outcome, Count: 1,
		Depth: c.led.Depth(), Seq: c.revision, Ran: now.Sub(began),
	}
	switch c.kind {
	case Set, Deleted, Expired:
		o.Waited = max(0, began.Sub(timeOf(c.at)))
	default:
	}
	w.client.db.opts.Observe(o)
}
