package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
)

// An errand is a validator that is to be called on its owner's worker.
type errand struct {
	writer   *Client
	check    Validator
	proposal *Proposal
	led      plugbus.Chain
	deadline time.Time
	verdict  chan error // gets one

	// Under the lock of the owner.
	begun bool
}

// The bounds of the errands that wait for one owner, of all writers and of one.
const (
	maxErrands       = 1024
	maxErrandsOfEach = maxErrands / 4
)

var (
	// errNoVerdict matches the error of a validator that did not get to decide.
	errNoVerdict = errors.New("the validator did not decide")

	errOwnerLeft = fmt.Errorf("%w: its owner leaves, or has left", ErrNoValidator)
)

// ask has an errand done on the worker of c, and returns the verdict. It waits until the
// deadline for its turn, and then as long as a validator may take.
func (c *Client) ask(ctx context.Context, e *errand) error {
	e.verdict = make(chan error, 1)
	if err := c.queue(e); err != nil {
		return err
	}
	c.signal(nil)
	clock := time.NewTimer(time.Until(e.deadline))
	defer clock.Stop()
	var why error
	for why == nil {
		select {
		case verdict := <-e.verdict:
			return verdict
		case <-ctx.Done():
			why = ctx.Err()
		case <-e.writer.session.Done():
			why = ErrClosed
		case <-c.session.Done():
			why = errOwnerLeft
		case <-clock.C:
			if c.unqueue(e) {
				return fmt.Errorf("%w: %w: %s had no time for it; if that is the writer itself, pass on the context of its handler", errNoVerdict, ErrBusy, e.writer.called("its owner", c.id))
			}
		}
	}
	c.unqueue(e)
	return fmt.Errorf("%w: %w", errNoVerdict, why)
}

func (c *Client) queue(e *errand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := 0
	for _, other := range c.errands {
		if other.writer == e.writer {
			of++
		}
	}
	switch {
	case c.leaving:
		return fmt.Errorf("%w: %w", errNoVerdict, errOwnerLeft)
	case len(c.errands) == maxErrands || of == maxErrandsOfEach:
		return fmt.Errorf("%w: %w: too many writes wait for it", errNoVerdict, ErrBusy)
	}
	c.errands = append(c.errands, e)
	return nil
}

// unqueue takes an errand back, and reports whether it had not begun.
func (c *Client) unqueue(e *errand) bool {
	c.mu.Lock()
	c.errands = slices.DeleteFunc(c.errands, func(other *errand) bool { return other == e })
	begun := e.begun
	c.mu.Unlock()
	c.db.idle.Tell()
	return !begun
}

// do calls the validator. It runs on the worker of its owner.
func (e *errand) do(c *Client) {
	d := e.proposal.draft
	failure := d.failure(c)
	k := &call{what: failure.What, store: failure.Store}
	k.late = func() {
		failure.Abandoned, failure.Err = true, ErrTimedOut
		c.report(failure)
		e.verdict <- ErrTimedOut
	}
	call := func(ctx context.Context) error { return e.proposal.decide(ctx, c, e.check) }
	ran := c.run(k, e.led, c.db.opts.ValidateLimit, call, func(err error) {
		if faulty(err) {
			failure.Err = err
			c.report(failure)
		}
		e.verdict <- err
	})
	if !ran {
		e.verdict <- fmt.Errorf("%w: %w", errNoVerdict, errOwnerLeft)
	}
}
