package events_test

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus/events"
)

// A plugin hears of the events that match its pattern, in their order.
func Example() {
	ctx := context.Background()
	bus, _ := events.New(events.Options{})
	indexer, _ := bus.Client("indexer", events.ClientOptions{})
	reader, _ := bus.Client("reader", events.ClientOptions{})

	_, _ = indexer.Subscribe("files.*", func(_ context.Context, e events.Event) error {
		fmt.Println(e.Source(), "says", e.Name(), e.Data())
		return nil
	})
	_, _ = reader.Emit(ctx, "files.added", "README.md")
	_, _ = reader.Emit(ctx, "files.changed", "LICENSE")

	_ = bus.Close(ctx) // It delivers what waits.
	// Output:
	// reader says files.added README.md
	// reader says files.changed LICENSE
}

// A full queue drops events by its rule, and the next event says how many are
// missing.
func ExampleOnOverflow() {
	ctx := context.Background()
	bus, _ := events.New(events.Options{})
	sensor, _ := bus.Client("sensor", events.ClientOptions{})
	chart, _ := bus.Client("chart", events.ClientOptions{})

	started, goOn := make(chan bool, 9), make(chan bool)
	s, _ := chart.Subscribe("reading", func(_ context.Context, e events.Event) error {
		started <- true
		<-goOn
		fmt.Println("reading", e.Data(), "after", e.Missed(), "missed")
		return nil
	}, events.Buffer(2), events.OnOverflow(events.DropOldest))

	_, _ = sensor.Emit(ctx, "reading", 1)
	<-started
	for n := 2; n <= 6; n++ {
		_, _ = sensor.Emit(ctx, "reading", n)
	}
	close(goOn)
	_ = bus.Close(ctx)
	fmt.Println("lost by source:", s.Stats().Lost)
	// Output:
	// reading 1 after 0 missed
	// reading 5 after 3 missed
	// reading 6 after 0 missed
	// lost by source: map[sensor:3]
}

// An emitter that would rather wait than lose events says so.
func ExampleWaitForRoom() {
	ctx := context.Background()
	bus, _ := events.New(events.Options{})
	press, _ := bus.Client("press", events.ClientOptions{})
	archive, _ := bus.Client("archive", events.ClientOptions{})

	pages := 0
	_, _ = archive.Subscribe("page", func(context.Context, events.Event) error {
		pages++
		return nil
	}, events.Buffer(1))
	for n := range 100 {
		_, _ = press.Emit(ctx, "page", n, events.WaitForRoom())
	}
	_ = bus.Close(ctx)
	fmt.Println(pages, "pages,", bus.Ledger())
	// Output:
	// 100 pages, offered 100 = refused 0 + full 0 + accepted 100; accepted = handled 100
}

// A subscription ends by Unsubscribe, which a handler may call too.
func ExampleSubscription_Unsubscribe() {
	ctx := context.Background()
	bus, _ := events.New(events.Options{})
	c, _ := bus.Client("plugin", events.ClientOptions{})

	var s *events.Subscription
	s, _ = c.Subscribe("tick", func(_ context.Context, e events.Event) error {
		fmt.Println("tick", e.Data())
		if e.Data() == 2 {
			s.Unsubscribe()
		}
		return nil
	})
	for n := 1; n <= 4; n++ {
		_, _ = c.Emit(ctx, "tick", n)
	}
	_ = s.Wait(ctx)
	_ = bus.Close(ctx)
	// Output:
	// tick 1
	// tick 2
}
