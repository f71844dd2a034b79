package audit

import "context"

// A Sink takes entries out of the log: into a file, to a collector. Write is
// called by one goroutine at a time. It may block, which delays nobody but this
// sink; its ctx ends when [Log.Close] gives up. It may keep the entry. A panic
// counts as an error.
type Sink interface {
	Write(ctx context.Context, e Entry) error
}

// SinkFunc is a function that is a [Sink].
type SinkFunc func(ctx context.Context, e Entry) error

// Write calls f.
func (f SinkFunc) Write(ctx context.Context, e Entry) error { return f(ctx, e) }

// SinkOptions say how a log feeds one sink.
type SinkOptions struct {
	// Name names the sink in Stats, errors and logs. It must be set, and be
	// unique in its log.
	Name string

	// Sink gets the entries. It must be set.
	Sink Sink

	// Queue is how many entries may wait for the sink, besides the one that it
	// writes; at most 1,000,000. If zero, it is 1,024. One actor may have half
	// of it, admin entries apart. What finds no room is dropped.
	Queue int

	// Required says that what this sink does not take must not happen: Record
	// returns ErrUnavailable while there is no room or the last write failed. A
	// failed write is tried again, after 100 ms at first and after 5 s at most,
	// until it succeeds or Close gives up.
	Required bool
}
