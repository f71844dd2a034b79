package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
)

// A refusal is recorded, and found by the number that the plugin was told or by
// what it was about.
func Example() {
	log, err := audit.New(audit.Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = log.Close(context.Background()) }()

	seq, err := log.Record(audit.Entry{
		Event: "emit.refused", Actor: "indexer", Target: "billing.paid",
		Verb: plugbus.VerbEmit, Outcome: plugbus.Refused, Reason: plugbus.ReasonDeniedByRule,
	})
	fmt.Println("record", seq, err)

	page, err := log.Search(audit.Query{Event: "*.refused", Either: "billing.paid"})
	if err != nil {
		panic(err)
	}
	for _, e := range page.Entries {
		fmt.Println(e.Seq, e.Event, e.Actor, e.Verb, e.Target, e.Reason)
	}
	// Output:
	// record 1 <nil>
	// 1 emit.refused indexer emit billing.paid denied_by_rule
}

// A flood joins into few entries, and what does not join pushes out only the
// flood's own.
func Example_flood() {
	log, err := audit.New(audit.Options{Capacity: 4})
	if err != nil {
		panic(err)
	}
	defer func() { _ = log.Close(context.Background()) }()

	now := time.Now()
	tryEmit := func(actor, event string, reason plugbus.Reason) {
		_, _ = log.Record(audit.Entry{
			Time: now, Event: "emit.refused", Actor: actor, Target: event, Outcome: plugbus.Refused, Reason: reason,
		})
	}
	tryEmit("thief", "vault.open", plugbus.ReasonDeniedByRule)
	for i := range 10_000 {
		tryEmit("flood", fmt.Sprint("name-", i), plugbus.ReasonDeniedByRule)
	}
	for i := range 10_000 {
		tryEmit("flood", "x", plugbus.Reason(fmt.Sprint("reason-", i)))
	}

	page, err := log.Search(audit.Query{})
	if err != nil {
		panic(err)
	}
	for _, e := range page.Entries {
		fmt.Println(e.Actor, e.Target, e.Reason, e.Count)
	}
	fmt.Println("no longer kept:", page.Missed)
	// Output:
	// flood x reason-9999 1
	// flood x reason-9998 1
	// flood x reason-9997 1
	// thief vault.open denied_by_rule 1
	// no longer kept: 9998
}

// A sink that is required makes the log say when it cannot be trusted to
// record. What was to be recorded must then not be done.
func ExampleSinkOptions_required() {
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan struct{})
	log, err := audit.New(audit.Options{Sinks: []audit.SinkOptions{{
		Name: "vault", Required: true,
		Sink: audit.SinkFunc(func(ctx context.Context, _ audit.Entry) error {
			select {
			case failed <- struct{}{}:
			case <-ctx.Done():
			}
			return errors.New("no space left")
		}),
	}}})
	if err != nil {
		panic(err)
	}
	deploy := audit.Entry{Event: "policy.swapped", Actor: "host", Admin: true}
	_, err = log.Record(deploy)
	fmt.Println("first:", err)

	<-failed
	<-failed // it is tried again

	_, err = log.Record(deploy) // is kept, and queued, as unconfirmed
	fmt.Println("second:", errors.Is(err, audit.ErrUnavailable))

	cancel()
	fmt.Println(log.Close(ctx))
	// Output:
	// first: <nil>
	// second: true
	// audit: close: a sink of the audit log is unavailable: sink "vault" did not write 2 entries in time: context canceled
}

// Entries can go to a logger, a line each.
func ExampleSlog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	log, err := audit.New(audit.Options{Sinks: []audit.SinkOptions{{Name: "slog", Sink: audit.Slog(logger)}}})
	if err != nil {
		panic(err)
	}
	_, _ = log.Record(audit.Entry{Event: "plugin.registered", Actor: "host", Target: "indexer", Admin: true})
	if err := log.Close(context.Background()); err != nil { // writes what is queued
		panic(err)
	}
	// Output:
	// level=INFO msg=plugin.registered seq=1 actor=host target=indexer admin=true
}
