package router

import (
	"context"
	"time"

	"github.com/plugbus/plugbus"
)

// Measured reports each request to the handler to [Options.OnServed].
func Measured() HandleOption { return measuredOption{} }

type measuredOption struct{}

func (measuredOption) applyHandle(o *handleOptions) error {
	o.measured = true
	return nil
}

// served returns what the host hears of a request to a measured handler, or nil if
// it says nothing of the handler: the sender went away or chose too short a time,
// or asked for what it may not have or what is not there. The mailbox's lock is
// held, and the mailbox is not at rest before report has been called.
func (d *delivery) served(v *verdict) *Served {
	r := d.box.router
	if d.route == nil || !d.route.opts.measured || !d.msg.address.kind.awaited() || r.opts.OnServed == nil {
		return nil
	}
	switch v.outcome {
	case plugbus.Handled:
	case plugbus.Failed:
		late := v.remote.Code == plugbus.CodeDeadline && d.excused(context.DeadlineExceeded)
		if _, returned := v.err.(*returnedError); !v.blames() || returned && (v.left || late) { //nolint:errorlint // It is never wrapped.
			return nil
		}
	case plugbus.Abandoned:
		if d.excused(v.err) {
			return nil
		}
	default:
		return nil
	}
	d.box.reports++
	a := d.msg.address
	return &Served{Plugin: a.to, Owner: d.runner.owner, From: a.from, Type: a.name, OK: v.outcome == plugbus.Handled, Took: d.took(r.clock.Now())}
}

// took returns how long the sender waited for the first reply: how long it takes over
// the others of a stream is its own affair.
func (d *delivery) took(now time.Time) time.Duration {
	if d.stream != nil {
		if first := d.stream.first.Load(); first != 0 {
			now = time.Unix(0, first)
		}
	}
	return now.Sub(d.msg.Time())
}

// blames reports whether a failure is the handler's fault, and not that of what it
// was asked.
func (v *verdict) blames() bool {
	if v.err == ErrIdle { //nolint:errorlint // It is never wrapped.
		return false
	}
	if _, refused := v.err.(*replyError); refused { //nolint:errorlint // The same.
		return true
	}
	switch v.remote.Code { //nolint:exhaustive // The others are the caller's.
	case plugbus.CodeInternal, plugbus.CodeUnknown, plugbus.CodeUnavailable, plugbus.CodeDeadline:
		return true
	}
	return false
}
