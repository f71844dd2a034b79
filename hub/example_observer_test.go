package hub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// An Observer counts what happens, as for a page of metrics. It is called by one goroutine,
// and has everything when Close returns.
func ExampleObserver() {
	counts := map[string]int{}
	h, err := hub.New(hub.Options{
		Policy: security.AllowAll(),
		Observer: hub.ObserverFunc(func(_ context.Context, batch []plugbus.Observation) {
			for _, o := range batch {
				if o.Kind == plugbus.TrafficEvent && o.From == "reader" {
					counts[fmt.Sprintf("%v %s", o.Stage, o.Result())] += o.Count
				}
			}
		}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	reader := hub.Func(hub.Manifest{ID: "reader"}, func(ctx context.Context, hub *hub.Session) error {
		for _, name := range []string{"files.read", "files.read", "files.lost"} {
			if _, err := hub.Emit(ctx, name, "notes.txt"); err != nil {
				return err
			}
		}
		return nil
	})
	indexer := hub.Func(hub.Manifest{ID: "indexer"}, func(_ context.Context, hub *hub.Session) error {
		_, err := hub.Subscribe("files.*", func(_ context.Context, e events.Event) error {
			if e.Name() == "files.lost" {
				return errors.New("there is nothing to index")
			}
			return nil
		})
		return err
	})
	if err := h.Register(context.Background(), indexer, reader); err != nil {
		fmt.Println(err)
	}
	if _, err := h.Close(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Println(what, counts[what])
	}
	// Output:
	// act accepted 3
	// delivery failed 1
	// delivery handled 2
}
