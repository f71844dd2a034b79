package router

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
)

// A Draft is a message on its way to the door. Middleware may change all of it but
// its kind and its sender: what the door checks is what middleware made of it. It
// may also pass on a Draft of its own; the middlewares of this package take those
// only from a router.
type Draft struct {
	To            string            // "" for a publication, but for middleware of one recipient
	Type          string            // or the topic
	Data          any               // the sender's own value, which others must not change
	Headers       map[string]string // a copy; nil if there are none
	Priority      plugbus.Priority
	CorrelationID string
	ClientID      string

	trip *trip
}

// From returns the id of the plugin that sends.
func (d *Draft) From() string {
	if d.trip == nil {
		return ""
	}
	return d.trip.client.id
}

// Kind returns how the message is sent.
func (d *Draft) Kind() Kind {
	if d.trip == nil {
		return 0
	}
	return d.trip.kind
}

// Clone returns a copy with headers of its own. Middleware that calls next more
// than once passes a copy each time, since the middleware after it may change what
// it gets.
func (d *Draft) Clone() *Draft {
	c := *d
	c.Headers = maps.Clone(d.Headers)
	return &c
}

// A trip is the way of one message, or of a publication to one handler, through
// the middlewares. Their drafts of it share it.
type trip struct {
	client  *Client
	kind    Kind
	to, typ string      // as the sender gave them
	options sendOptions // likewise
	in      *middlewares
	route   *Route // of a publication's way to one handler

	mu       sync.Mutex // guards below: middleware may call next from several goroutines
	over     bool       // the sender has its answer
	passed   bool       // the door let it through, once at least
	accepted int        // by how many mailboxes
	stream   *delivery
	receipt  Receipt
}

// embark begins the way of a message, and returns what middleware sees of it.
func (c *Client) embark(ctx context.Context, kind Kind, to, typ string, data any, o *sendOptions) (*trip, *Draft) {
	t := &trip{client: c, kind: kind, to: to, typ: typ, options: *o, in: c.router.middleware.Load()}
	t.options.by = c.lastCall(ctx, kind, o)
	return t, &Draft{
		To: to, Type: typ, Data: data, Headers: maps.Clone(o.headers), Priority: o.priority,
		CorrelationID: o.correlation, ClientID: o.clientID, trip: t,
	}
}

// lastCall returns when the time of a message is over, which all that middleware
// does with it shares; zero for never.
func (c *Client) lastCall(ctx context.Context, kind Kind, o *sendOptions) time.Time {
	by, limited := ctx.Deadline()
	limit := o.timeout
	if !limited && kind == KindSend {
		limit = cmp.Or(limit, c.router.opts.RequestTimeout)
	}
	if limit > 0 {
		if own := c.router.clock.Now().Add(limit); !limited || own.Before(by) {
			return own
		}
	}
	return by
}

// sendOptions returns the options that a draft stands for.
func (t *trip) sendOptions(ctx context.Context, d *Draft) (*sendOptions, error) {
	o := t.options
	o.correlation, o.clientID = "", ""
	options := []SendOption{Headers(d.Headers), Priority(d.Priority)}
	if d.CorrelationID != "" {
		options = append(options, CorrelationID(d.CorrelationID))
	}
	if d.ClientID != "" {
		options = append(options, ClientID(d.ClientID))
	}
	for _, option := range options {
		if err := option.applySend(&o); err != nil {
			return nil, t.stop(ctx, &MiddlewareError{fmt.Errorf("a middleware made of the message what is none: %w", err)})
		}
	}
	return &o, nil
}

// stop refuses a message that the door has not seen.
func (t *trip) stop(ctx context.Context, why error) error {
	return t.client.refuse(t.kind, t.typ, t.refusal(ctx, why, "a middleware of the host did not let the message through"))
}

// spoil refuses a message of which the door has counted the outcome.
func (t *trip) spoil(ctx context.Context, why error) error {
	return t.client.guard.Refuse(t.refusal(ctx, why, "the message had left a middleware of the host, which did not say how it ended"))
}

func (t *trip) refusal(ctx context.Context, why error, hint string) plugbus.Refusal {
	r := plugbus.Refusal{
		Verb: plugbus.VerbSend, Object: t.to, Reason: plugbus.ReasonMiddleware,
		Chain: t.client.cause(ctx), Cause: why, Hint: hint,
	}
	if t.kind == KindPublish {
		r.Verb, r.Object = plugbus.VerbPublish, t.typ
	}
	return r
}

// arrive notes that the door let the message through, and how many mailboxes took
// it.
func (t *trip) arrive(accepted int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passed = true
	t.accepted += accepted
}

// arrived returns what arrive noted.
func (t *trip) arrived() (passed bool, accepted int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passed, t.accepted
}

// keep takes a stream that was opened, and returns the one that is not needed:
// the one before it, or itself if it comes too late.
func (t *trip) keep(stream *delivery) (needless *delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return stream
	}
	needless, t.stream = t.stream, stream
	return needless
}

// end ends the trip, and returns the stream if there is one.
func (t *trip) end() *delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	stream := t.stream
	t.over, t.stream = true, nil
	return stream
}
