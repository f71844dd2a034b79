package hubtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/plugbus/plugbus/store"
)

// A Changes keeps the changes of a store that a watch gets. Its methods but Wait may be
// called by several goroutines.
type Changes struct {
	tb      testing.TB
	what    string
	changes kept[store.Change]
}

// Watch watches the keys that a pattern matches, as the plugin of the view, and records
// what comes, until the plugin leaves.
func Watch(tb testing.TB, view *store.View, pattern string, options ...store.WatchOption) *Changes {
	tb.Helper()
	c := &Changes{tb: tb, what: fmt.Sprintf("changes of %q in store %q", pattern, view.Name())}
	if _, err := view.Watch(context.Background(), pattern, c.record, options...); err != nil { // It bounds only the call.
		tb.Fatalf("hubtest: watch %q of store %q: %v", pattern, view.Name(), err)
	}
	return c
}

func (c *Changes) record(_ context.Context, got store.Change) error {
	c.changes.add(got)
	return nil
}

// Changes returns the changes until now.
func (c *Changes) Changes() []store.Change { return c.changes.all() }

// Texts returns the changes until now for people: each as its kind, the key and the value,
// as far as it has them, such as "set plug 7", "deleted plug" and "synced".
func (c *Changes) Texts() []string {
	var texts []string
	for _, got := range c.Changes() {
		text := got.Kind().String()
		if got.Key() != "" {
			text += " " + got.Key()
		}
		if got.Entry().Exists() {
			text += " " + got.Entry().Text()
		}
		texts = append(texts, text)
	}
	return texts
}

// Wait waits until there are n changes, and returns all there are. It fails the test if
// they do not come. It is for what goroutines of a plugin write, and time lets expire;
// for the rest [Hub.Settle] will do.
func (c *Changes) Wait(n int) []store.Change {
	c.tb.Helper()
	return c.changes.wait(c.tb, n, c.what, c.Texts)
}
