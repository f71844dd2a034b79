package router

import (
	"context"
	"time"
)

// TimeLimit bounds the time of a message from there on: the wait of Send for the
// reply, that of Stream for all chunks, and that of Post for room. It never extends
// the time that the message has without it. A limit of 0 or less lets nothing
// through.
func TimeLimit(d time.Duration) Middleware {
	return func(next Deliver) Deliver {
		return func(ctx context.Context, m *Draft) (Response, error) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return next(ctx, m)
		}
	}
}
