package typed_test

import (
	"encoding/json"
	"fmt"

	"github.com/plugbus/plugbus/internal/typed"
)

func ExampleAs() {
	type reading struct{ Celsius float64 }
	for _, data := range []any{
		reading{20.5},
		json.RawMessage(`{"Celsius": 20.5}`),
		json.RawMessage(`{"Celsius": 20.5, "Unit": "C"}`),
		"20.5",
	} {
		value, err := typed.As[reading](`event "room.read"`, data)
		fmt.Println(value.Celsius, err)
	}
	// Output:
	// 20.5 <nil>
	// 20.5 <nil>
	// 0 event "room.read" carries a json.RawMessage, but a typed_test.reading was asked for: json: unknown field "Unit"
	// 0 event "room.read" carries a string, but a typed_test.reading was asked for
}
