package main

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	main()
	// Output:
	// sent:     Oslo [4 4.5 5]
	// called:   Rome [17 17.5]
	// streamed: 1 4
	// streamed: 2 4.5
	// streamed: 3 5
	// as JSON:  Oslo [4]
	//
	// wrong reply:   the reply of "weather" to "weather.forecast" carries a main.Forecast, but a float64 was asked for
	// wrong request: plugin "weather": invalid: message "weather.forecast" carries a string, but a main.Question was asked for
	// wrong request: plugin "weather": invalid: message "weather.forecast" carries a json.RawMessage, but a main.Question was asked for: json: unknown field "Until"
	// no answer:     plugin "weather": not_found: no weather for "Atlantis"
}
