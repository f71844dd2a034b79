package hubtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/plugbus/plugbus/events"
)

// A Recorder keeps the events that a plugin gets. Its methods but Wait may be
// called by several goroutines.
type Recorder struct {
	tb      testing.TB
	pattern string

	mu     sync.Mutex // guards below
	events []events.Event
	more   chan struct{} // closed at the next event
}

// Record subscribes to a pattern as the plugin of a session, or as a client of a
// bus, and records what comes, until the plugin leaves.
func Record(tb testing.TB, plugin events.Subscriber, pattern string, options ...events.SubscribeOption) *Recorder {
	tb.Helper()
	r := &Recorder{tb: tb, pattern: pattern, more: make(chan struct{})}
	if _, err := plugin.Subscribe(pattern, r.record, options...); err != nil {
		tb.Fatalf("hubtest: record %q: %v", pattern, err)
	}
	return r
}

func (r *Recorder) record(_ context.Context, e events.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

// Events returns the events until now.
func (r *Recorder) Events() []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

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
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		got, more := slices.Clone(r.events), r.more
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-timeout.C:
			r.tb.Fatalf("hubtest: got %d events of %q within %v: %q\nwant %d", len(got), r.pattern, WaitLimit, r.Names(), n)
		}
	}
}
