package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/plugbus/plugbus"
)

// RetryOptions configure [Retry]. Values out of range count as the nearest that
// is in it.
type RetryOptions struct {
	// Attempts bounds the tries, the first included. If zero, it is 3. At most 100.
	Attempts int

	// Base is the wait before the second try. Each further wait is twice as long.
	// If zero, it is 50 ms.
	Base time.Duration

	// Max bounds each of these waits. If zero, it is 5 seconds. At least Base.
	Max time.Duration

	// Jitter is the part of each wait that is left to chance, so that senders
	// which failed together do not try again together: up to 1. If zero, it is
	// 0.5; if negative, none.
	Jitter float64
}

func (o RetryOptions) bounded() RetryOptions {
	o.Attempts = min(max(cmp.Or(o.Attempts, 3), 1), 100)
	o.Base = max(cmp.Or(o.Base, 50*time.Millisecond), 1)
	o.Max = max(cmp.Or(o.Max, 5*time.Second), o.Base)
	o.Jitter = min(max(cmp.Or(o.Jitter, 0.5), 0), 1)
	return o
}

// wait returns how long to wait after a try, of which the first is 1.
func (o RetryOptions) wait(try int) time.Duration {
	wait := o.Base
	for range try - 1 {
		if wait > o.Max/2 {
			wait = o.Max
			break
		}
		wait *= 2
	}
	return wait - time.Duration(rand.Float64()*o.Jitter*float64(wait)) //nolint:gosec // No secret.
}

// Retry tries a message again that was not handled, if the error says that this
// may help: it matches [ErrQueueFull], is a [*plugbus.RemoteError] that is
// Retryable, or a [*plugbus.DeniedError] with a RetryAfter, after which the next
// try waits at least that long. So a handler that had started is called again only
// if its error said that it may be.
//
// Each try is a message of its own, which passes the door. All of them together
// have the time that one would have; where nothing bounds that, as for a Post, the
// last one begins within Options.RequestTimeout. Of a stream only the opening is tried again. For a
// publication it is of use with [ForTarget]: the sender then waits for one recipient
// before the next gets its turn.
func Retry(o RetryOptions) Middleware {
	o = o.bounded()
	return func(next Deliver) Deliver {
		return func(ctx context.Context, m *Draft) (Response, error) {
			end := m.trip.retryUntil(ctx)
			for try := 1; ; try++ {
				response, err := next(ctx, m.Clone())
				after, again := retryable(err)
				switch {
				case !again:
					return response, err
				case try == o.Attempts:
					return Response{}, fmt.Errorf("after %d tries: %w", try, err)
				}
				if why := m.trip.pause(ctx, max(o.wait(try), after), end); why != nil {
					return Response{}, fmt.Errorf("after %d tries, and %w: %w", try, why, err)
				}
			}
		}
	}
}

// retryable reports whether the error of a message says that another try may do,
// and after which time.
func retryable(err error) (after time.Duration, again bool) {
	if _, accepted := errors.AsType[*DeliveryError](err); err == nil || accepted {
		return 0, false
	}
	if remote, ok := errors.AsType[*plugbus.RemoteError](err); ok {
		return 0, remote.Retryable
	}
	if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok {
		return denied.RetryAfter, denied.RetryAfter > 0
	}
	return 0, errors.Is(err, ErrQueueFull)
}

// errNoTime is why there is no further try.
var errNoTime = errors.New("with no time for another")

// retryUntil returns until when a try may begin.
func (t *trip) retryUntil(ctx context.Context) time.Time {
	end, limited := ctx.Deadline()
	switch by := t.options.by; {
	case !by.IsZero() && (!limited || by.Before(end)):
		return by
	case limited:
		return end
	}
	r := t.client.router
	return r.clock.Now().Add(r.opts.RequestTimeout)
}

// pause waits, and returns nil; or returns why there is no use in waiting.
func (t *trip) pause(ctx context.Context, wait time.Duration, end time.Time) error {
	if time.Until(end) <= wait {
		return errNoTime
	}
	clock := time.NewTimer(wait)
	defer clock.Stop()
	select {
	case <-clock.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.client.session.Done():
		return ErrClosed
	}
}
