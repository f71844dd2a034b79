package hubtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/plugbus/plugbus/events"
)

// A Recorder keeps the events that a plugin gets. Its methods but Wait may be
// called by several goroutines.
type Recorder struct {
	tb      testing.TB
	pattern string
	events  kept[events.Event]
}

// Record subscribes to a pattern as the plugin of a session, or as a client of a
// bus, and records what comes, until the plugin leaves.
func Record(tb testing.TB, plugin events.Subscriber, pattern string, options ...events.SubscribeOption) *Recorder {
	tb.Helper()
	r := &Recorder{tb: tb, pattern: pattern}
	if _, err := plugin.Subscribe(pattern, r.record, options...); err != nil {
		tb.Fatalf("hubtest: record %q: %v", pattern, err)
	}
	return r
}

func (r *Recorder) record(_ context.Context, e events.Event) error {
	r.events.add(e)
	return nil
}

// Events returns the events until now.
func (r *Recorder) Events() []events.Event { return r.events.all() }

// Names returns the names of the events until now.
func (r *Recorder) Names() []string {
	var names []string
	for _, e := range r.Events() {
		names = append(names, e.Name())
	}
	return names
}

// Data returns the payloads of the events until now.
func (r *Recorder) Data() []any {
	var data []any
	for _, e := range r.Events() {
		data = append(data, e.Data())
	}
	return data
}

// Wait waits until there are n events, and returns all there are. It fails the
// test if they do not come. It is for what comes from goroutines of a plugin;
// for the rest [Hub.Settle] will do.
func (r *Recorder) Wait(n int) []events.Event {
	r.tb.Helper()
	return r.events.wait(r.tb, n, fmt.Sprintf("events of %q", r.pattern), r.Names)
}
