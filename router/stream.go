package router

import (
	"cmp"
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// A stream carries chunks from a handler to a reader.
type stream struct {
	chunks chan Response
	idle   time.Duration // how long the reader waits for a chunk
	chosen bool          // the reader chose that
	cut    bool          // the reader's time was over; written before done gets its token
	first  atomic.Int64  // when the handler gave its first chunk; 0 if it has not

	mu    sync.Mutex // makes yields of several goroutines one after the other; guards below
	next  int
	fault error // why yield returned false; nil if the context said so
	over  bool  // the handler has returned
}

// Stream sends a message to a plugin, and returns the replies as they come. The
// message is sent when the loop begins, and again for another loop. An error is
// the last element; it is one that [Client.Send] may return, or matches [ErrIdle]
// if no chunk came in time. The loop may end at any time: the handler's context
// ends then.
//
// The chunks of a stream may come for as long as ctx and [Timeout] allow, each
// within [Idle].
func (c *Client) Stream(ctx context.Context, to, typ string, data any, options ...SendOption) iter.Seq2[Response, error] {
	return func(yield func(Response, error) bool) {
		if ctx == nil {
			yield(Response{}, c.noContext(KindStream, typ))
			return
		}
		o, err := c.options(KindStream, typ, options)
		if err != nil {
			yield(Response{}, err)
			return
		}
		var d *delivery
		if c.router.middleware.Load() != nil {
			d, err = c.streamThrough(ctx, to, typ, data, o)
		} else {
			d, err = c.openStream(ctx, to, typ, data, o)
		}
		if err != nil {
			yield(Response{}, err)
			return
		}
		c.read(ctx, d, yield)
	}
}

func (c *Client) openStream(ctx context.Context, to, typ string, data any, o *sendOptions) (*delivery, error) {
	d := c.router.newDelivery(2)
	d.stream = &stream{
		chunks: make(chan Response, StreamWindow),
		idle:   cmp.Or(o.idle, c.router.opts.StreamIdle), chosen: o.idle > 0,
	}
	return d, c.dispatch(ctx, KindStream, to, typ, data, o, d)
}

// read gives the chunks to the reader, and then what ended the stream.
func (c *Client) read(ctx context.Context, d *delivery, yield func(Response, error) bool) {
	s, left := d.stream, true
	defer func() { // The loop has ended, or panicked.
		if left {
			c.giveUp(d, context.Canceled)
		}
		d.release()
	}()
	defer c.watch(ctx, d)()
	own := callOf(ctx)
	clock := time.NewTimer(s.idle)
	defer clock.Stop()
	for {
		var gone bool
		own.wait()
		select {
		case chunk := <-s.chunks:
			own.resume()
			if !yield(chunk, nil) {
				return
			}
			clock.Reset(s.idle)
			continue
		case <-d.done:
			gone = s.cut
		case <-clock.C:
			gone = c.giveUp(d, ErrIdle)
		case <-c.session.Done():
			gone = c.giveUp(d, ErrClosed)
		}
		own.resume()
		left = false
		if (gone || s.rest(yield)) && d.err != nil {
			yield(Response{}, d.err)
		}
		return
	}
}

// watch ends the stream when the time of its reader is over, who may be busy with a
// chunk. The caller calls stop.
func (c *Client) watch(ctx context.Context, d *delivery) (stop func()) {
	var stops []func() bool
	cut := func(why error) {
		if c.leave(d, why) {
			d.stream.cut = true
			d.done <- struct{}{}
		}
		d.release()
	}
	if ctx.Done() != nil {
		d.holders.Add(1)
		stops = append(stops, context.AfterFunc(ctx, func() { cut(ctx.Err()) }))
	}
	if !d.deadline.IsZero() {
		d.holders.Add(1)
		stops = append(stops, time.AfterFunc(time.Until(d.deadline), func() { cut(context.DeadlineExceeded) }).Stop)
	}
	return func() {
		for _, stop := range stops {
			if stop() {
				d.release()
			}
		}
	}
}

// rest gives the reader what was in the window when the handler returned.
func (s *stream) rest(yield func(Response, error) bool) bool {
	for {
		select {
		case chunk := <-s.chunks:
			if !yield(chunk, nil) {
				return false
			}
		default:
			return true
		}
	}
}

// run calls the handler of a stream. The fault is what ended the stream besides the
// handler; then what that returned does not matter.
func (s *stream) run(ctx context.Context, d *delivery) (fault, err error) {
	idle := cmp.Or(d.route.opts.idle, d.runner.router.opts.StreamIdle)
	defer func() { _ = s.end() }() // Also if the handler panics.
	err = d.route.stream(ctx, d.msg, func(chunk any) bool { return s.yield(ctx, d, chunk, idle) })
	return s.end(), err
}

// end lets no yield that the handler left somewhere do anything, and returns what
// went wrong before.
func (s *stream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.fault
}

// yield gives one chunk to the reader, and reports whether to go on. When the
// reader goes, the context ends. Whether both may is asked for each chunk, since a
// stream may take long.
func (s *stream) yield(ctx context.Context, d *delivery, data any, idle time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || ctx.Err() != nil {
		return false
	}
	accept, err := d.runner.permitted(d)
	if err != nil {
		return s.fail(d, err)
	}
	chunk, err := d.runner.reply(d, accept, data, s.next)
	if err != nil {
		return s.fail(d, err)
	}
	if s.next++; s.next == 1 {
		s.first.Store(d.runner.router.clock.Now().UnixNano())
	}
	select {
	case s.chunks <- chunk:
		return true
	default:
	}
	clock := time.NewTimer(idle)
	defer clock.Stop()
	select {
	case s.chunks <- chunk:
		return true
	case <-ctx.Done():
	case <-clock.C:
		return s.fail(d, ErrIdle)
	}
	return false
}

// fail ends the stream for a reason of its own. s.mu is held.
func (s *stream) fail(d *delivery, err error) bool {
	s.fault = err
	d.ctx.end(context.Canceled)
	return false
}
