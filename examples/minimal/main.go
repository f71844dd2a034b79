// Command minimal is a whole host: a policy, two plugins, an event, a refusal.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

const rules = `{ "version": 1, "plugins": {
	"sensor":  { "emit":      { "allow": ["temperature.*"] } },
	"display": { "subscribe": { "allow": ["temperature.*"] } } } }`

func main() {
	ctx := context.Background()
	policy, err := security.Parse([]byte(rules), "rules")
	check(err)
	h, err := hub.New(hub.Options{Policy: policy})
	check(err)
	display := hub.Func(hub.Manifest{ID: "display"}, func(_ context.Context, hub *hub.Session) error {
		_, err := events.Subscribe(hub, "temperature.*", func(_ context.Context, celsius float64, e events.Event) error {
			_, err := fmt.Printf("%s says that %s is %.1f °C\n", e.Source(), e.Name(), celsius)
			return err
		})
		return err
	})
	var refusal error
	sensor := hub.Func(hub.Manifest{ID: "sensor"}, func(ctx context.Context, hub *hub.Session) error {
		_, err := hub.Emit(ctx, "temperature.kitchen", 21.5) // Nobody names a sender: the session is the sender.
		_, refusal = hub.Emit(ctx, "heating.off", true)      // The policy allows no such thing.
		return err
	})
	check(h.Register(ctx, display, sensor))
	check(h.Idle(ctx)) // Emit waits for no handler; the host may.
	fmt.Println(refusal)
	fmt.Println(h.Explain("sensor", plugbus.VerbEmit, "heating.off"))
	report, err := h.Close(ctx)
	check(err)
	fmt.Println("closed, with nothing left behind:", report.Clean())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
