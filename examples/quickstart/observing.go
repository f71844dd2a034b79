package main

import (
	"context"

	"github.com/plugbus/plugbus"
)

// An observer counts what the hub tells it. One goroutine calls it, and it has
// everything when the hub has closed: so it needs no lock.
type observer struct {
	kinds  [plugbus.TrafficStore + 1]observed
	ledger plugbus.Ledger
}

// observed is what an observer counts of one kind of traffic.
type observed struct {
	accepted, refused int // acts
	handled, other    int // deliveries
}

// Observe implements hub.Observer.
func (o *observer) Observe(_ context.Context, batch []plugbus.Observation) {
	for _, seen := range batch {
		o.ledger.Observe(seen)
		counts := &o.kinds[seen.Kind]
		switch {
		case seen.Stage == plugbus.StageAct && seen.Outcome == 0:
			counts.accepted++
		case seen.Stage == plugbus.StageAct:
			counts.refused++
		case seen.Stage == plugbus.StageDelivery && seen.Outcome == plugbus.Handled:
			counts.handled += seen.Count
		case seen.Stage == plugbus.StageDelivery:
			counts.other += seen.Count
		}
	}
}

// observing shows what the observer has counted all the time.
func (t *tour) observing(context.Context) error {
	t.say(`The host gave the hub an observer when it made it, as it would for metrics and
traces. That has heard of each act at the door, and of each delivery when it had
ended:
`)
	rows := [][]string{{"traffic", "acts let in", "refused", "deliveries handled", "not handled"}}
	for kind, c := range t.observer.kinds {
		if kind > 0 {
			rows = append(rows, []string{plugbus.Traffic(kind).String(), figure(c.accepted), figure(c.refused), figure(c.handled), figure(c.other)})
		}
	}
	t.table(rows...)
	stats := t.hub.Inspect().Observer
	t.check(stats.Dropped == 0 && stats.Observed > 0, "it missed nothing: %s observations, %s dropped", figure(stats.Observed), figure(stats.Dropped))
	t.check(t.observer.ledger == t.hub.Ledger(), "what it has counted is what the hub has in its books")
	return nil
}
