package audit

import (
	"context"
	"log/slog"

	"github.com/plugbus/plugbus"
)

// Slog returns a sink that writes each entry as a record of logger: its time,
// its event as the message, and what it holds as attributes. Refusals, and
// whatever has a reason, are warnings; the rest is information. Without a
// logger there is no sink, which [New] reports.
func Slog(logger *slog.Logger) Sink {
	if logger == nil {
		return nil
	}
	handler := logger.Handler()
	return SinkFunc(func(ctx context.Context, e Entry) error {
		level := slog.LevelInfo
		if e.Outcome == plugbus.Refused || e.Reason != "" {
			level = slog.LevelWarn
		}
		if !handler.Enabled(ctx, level) {
			return nil
		}
		r := slog.NewRecord(e.Time, level, e.Event, 0)
		r.AddAttrs(slog.Uint64("seq", e.Seq), slog.String("actor", e.Actor))
		if e.Target != "" {
			r.AddAttrs(slog.String("target", e.Target))
		}
		if e.Verb != 0 {
			r.AddAttrs(slog.String("verb", e.Verb.String()))
		}
		if e.Outcome != 0 {
			r.AddAttrs(slog.String("outcome", e.Outcome.String()))
		}
		if e.Reason != "" {
			r.AddAttrs(slog.String("reason", string(e.Reason)))
		}
		if e.Admin {
			r.AddAttrs(slog.Bool("admin", true))
		}
		if e.Unconfirmed {
			r.AddAttrs(slog.Bool("unconfirmed", true))
		}
		if e.Count > 1 {
			r.AddAttrs(slog.Uint64("count", e.Count), slog.Time("last", e.Last))
		}
		if len(e.Details) > 0 {
			details := make([]any, len(e.Details))
			for i, d := range e.Details {
				details[i] = slog.String(d.Key, d.Value)
			}
			r.AddAttrs(slog.Group("details", details...))
		}
		return handler.Handle(ctx, r)
	})
}
