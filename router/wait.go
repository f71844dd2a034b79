package router

import (
	"context"
	"time"

	"github.com/plugbus/plugbus"
)

// await waits for the reply to a request that was accepted.
func (c *Client) await(ctx context.Context, d *delivery) (Response, error) {
	select {
	case <-d.done: // It was handled inline.
		reply, err := d.reply, d.err
		d.release()
		return reply, err
	default:
	}
	own := callOf(ctx)
	own.wait()
	defer own.resume()
	d.startClock(time.Until(d.deadline))
	select {
	case <-d.done:
	case <-ctx.Done():
		c.giveUp(d, ctx.Err())
	case <-d.clock.C:
		c.giveUp(d, context.DeadlineExceeded)
	case <-c.session.Done():
		c.giveUp(d, ErrClosed)
	}
	d.clock.Stop()
	reply, err := d.reply, d.err
	d.release()
	return reply, err
}

// startClock sets the timer of the sender, which is kept for the next use.
func (d *delivery) startClock(wait time.Duration) {
	if d.clock == nil {
		d.clock = time.NewTimer(wait)
		return
	}
	d.clock.Reset(wait)
}

// giveUp is leave, for a sender that waits: if a reply came at the same time, that
// counts.
func (c *Client) giveUp(d *delivery, why error) (gone bool) {
	gone = c.leave(d, why)
	if !gone {
		<-d.done
	}
	return gone
}

// leave releases the sender before there is a reply, and reports whether it did,
// or there was one. What waits is taken out of the mailbox. What runs is
// abandoned if the time is over; if only the sender has gone, its context ends and
// its result is its outcome.
func (c *Client) leave(d *delivery, why error) bool {
	b := d.box
	b.mu.Lock()
	if d.gone {
		b.mu.Unlock()
		return false
	}
	d.gone = true
	if why == context.DeadlineExceeded && (d.deadline.IsZero() || c.router.clock.Now().Before(d.deadline)) { //nolint:errorlint // The same.
		d.chosen = true // The sender's context has ended earlier than it said.
	}
	late := why == context.DeadlineExceeded || why == ErrIdle //nolint:errorlint // They are never wrapped here.
	var failed Failure
	var served *Served
	var ctx *callContext
	switch d.phase {
	case waiting:
		outcome := plugbus.Cancelled
		if late {
			outcome = plugbus.Expired
		}
		d.err = d.lost(outcome, why, false)
		b.drop(d, b.lanesOf(d), outcome)
		if why == ErrClosed && b.state == draining && b.client != nil { //nolint:errorlint // The same.
			b.client.orphans++
		}
		b.settled()
		d.holders.Add(-1) // The mailbox has let go; the sender does so itself.
	case running:
		ctx = d.ctx
		v := unserved(0, why)
		if late && !d.abandoned {
			v.outcome = plugbus.Abandoned
			failed, served = b.failure(d, v.outcome, why), d.served(&v)
			failed.Blameless = d.excused(why)
			b.abandon(d, why)
		}
		d.err = d.lost(v.outcome, why, true)
	case over: // It would have told the sender.
	}
	b.mu.Unlock()
	if ctx != nil {
		ctx.end(why)
	}
	c.router.idle.Tell()
	b.report(failed, served)
	return true
}

// undone lets go of messages that were cancelled.
func (r *Router) undone(cut []*delivery) {
	for _, d := range cut {
		d.release()
	}
	if len(cut) > 0 {
		r.idle.Tell()
	}
}
