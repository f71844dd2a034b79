package main

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A Question is the request of "weather.forecast" and "weather.days".
type Question struct {
	City string
	Days int
}

// A Forecast is the reply to one Question.
type Forecast struct {
	City    string
	Celsius []float64 // for each day
}

// A Day is one chunk of the stream that replies to the other.
type Day struct {
	Number  int
	Celsius float64
}

// Weather is the plugin that answers. It provides a capability and handles the
// messages of that name, and a stream.
type Weather struct{}

// Manifest implements [hub.Plugin].
func (Weather) Manifest() hub.Manifest {
	return hub.Manifest{ID: "weather", Version: "1.0.0", Provides: []hub.Capability{{Name: "weather.forecast"}}}
}

// Start implements [hub.Plugin].
func (w Weather) Start(_ context.Context, hub *hub.Session) error {
	if _, err := router.Handle(hub, "weather.forecast", w.forecast); err != nil {
		return err
	}
	_, err := hub.HandleStream("weather.days", w.days)
	return err
}

// forecast gets its request and gives its reply as what they are.
func (Weather) forecast(_ context.Context, q Question) (Forecast, error) {
	f := Forecast{City: q.City}
	for n := range q.Days {
		celsius, err := temperature(q.City, n)
		if err != nil {
			return Forecast{}, err
		}
		f.Celsius = append(f.Celsius, celsius)
	}
	return f, nil
}

// days has a stream's many replies, so it decodes its one request itself.
func (Weather) days(_ context.Context, m router.Message, yield func(chunk any) bool) error {
	q, err := router.Decode[Question](m)
	if err != nil {
		return err
	}
	for n := range q.Days {
		celsius, err := temperature(q.City, n)
		if err != nil {
			return err
		}
		if !yield(Day{Number: n + 1, Celsius: celsius}) {
			return nil // The reader has had enough.
		}
	}
	return nil
}

func temperature(city string, day int) (celsius float64, err error) {
	today, known := map[string]float64{"Oslo": 4, "Rome": 17}[city]
	if !known {
		return 0, &plugbus.RemoteError{Code: plugbus.CodeNotFound, Message: fmt.Sprintf("no weather for %q", city)}
	}
	return today + float64(day)/2, nil
}
