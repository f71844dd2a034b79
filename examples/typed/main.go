// Command typed shows messages whose requests and replies have Go types. The
// typed functions stand over the untyped ones: who uses them and who does not can
// talk to each other.
//
//	go run ./examples/typed
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

const rules = `{ "version": 1, "plugins": {
	"weather":   { "trust": "basic", "receive": { "allow": ["traveller"] }, "provide": { "allow": ["weather.*"] } },
	"traveller": { "trust": "basic", "send": { "allow": ["weather"] }, "discover": { "allow": ["weather.*"] } } } }`

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	policy, err := security.Parse([]byte(rules), "rules")
	if err != nil {
		return err
	}
	h, err := hub.New(hub.Options{Policy: policy}) //nolint:contextcheck // A hub lives until Close, whatever becomes of a context.
	if err != nil {
		return err
	}
	defer func() {
		_, closing := h.Close(ctx)
		err = errors.Join(err, closing)
	}()
	var traveller *hub.Session
	plugin := hub.Func(hub.Manifest{ID: "traveller"}, func(_ context.Context, s *hub.Session) error {
		traveller = s
		return nil
	})
	if err := h.Register(ctx, Weather{}, plugin); err != nil {
		return err
	}
	if err := answers(ctx, traveller); err != nil {
		return err
	}
	return mistakes(ctx, traveller)
}

// answers shows the ways to ask, and that the reply has its type.
func answers(ctx context.Context, hub *hub.Session) error {
	// To a plugin that is known by its id.
	oslo, err := router.Send[Forecast](ctx, hub, "weather", "weather.forecast", Question{"Oslo", 3})
	if err != nil {
		return err
	}
	fmt.Println("sent:    ", oslo.City, oslo.Celsius)

	// To whoever provides the capability.
	rome, err := discovery.Call[Forecast](ctx, hub, "weather.forecast", Question{"Rome", 2})
	if err != nil {
		return err
	}
	fmt.Println("called:  ", rome.City, rome.Celsius)

	// With many replies, of which the reader takes what it needs.
	for day, err := range router.Stream[Day](ctx, hub, "weather", "weather.days", Question{"Oslo", 365}) {
		if err != nil {
			return err
		}
		fmt.Println("streamed:", day.Number, day.Celsius)
		if day.Celsius >= 5 {
			break
		}
	}

	// As JSON, which is decoded strictly: what comes through a bridge looks so.
	oslo, err = router.Send[Forecast](ctx, hub, "weather", "weather.forecast", json.RawMessage(`{"City": "Oslo", "Days": 1}`))
	if err != nil {
		return err
	}
	fmt.Println("as JSON: ", oslo.City, oslo.Celsius)
	return nil
}

// mistakes shows the errors of those who differ over a type, and who finds out.
func mistakes(ctx context.Context, hub *hub.Session) error {
	// The asker finds that the reply is not what it wanted.
	_, err := router.Send[float64](ctx, hub, "weather", "weather.forecast", Question{"Oslo", 1})
	wrong, ok := errors.AsType[*plugbus.TypeError](err)
	if !ok {
		return errors.Join(errors.New("a Forecast is no float64"), err)
	}
	fmt.Printf("\nwrong reply:   %v\n", wrong)

	// The handler's side finds that the request is not what it handles, or that its
	// JSON does not fit. The handler itself does not run.
	for _, request := range []any{"Oslo", json.RawMessage(`{"City": "Oslo", "Until": "Monday"}`)} {
		_, err = router.Send[Forecast](ctx, hub, "weather", "weather.forecast", request)
		remote, ok := errors.AsType[*plugbus.RemoteError](err)
		if !ok || remote.Code != plugbus.CodeInvalid {
			return errors.Join(fmt.Errorf("%v is no Question", request), err)
		}
		fmt.Println("wrong request:", remote)
	}

	// The handler's own errors cross with their code.
	_, err = router.Send[Forecast](ctx, hub, "weather", "weather.forecast", Question{"Atlantis", 1})
	remote, ok := errors.AsType[*plugbus.RemoteError](err)
	if !ok || remote.Code != plugbus.CodeNotFound {
		return errors.Join(errors.New("nobody knows the weather of Atlantis"), err)
	}
	fmt.Println("no answer:    ", remote)
	return nil
}
