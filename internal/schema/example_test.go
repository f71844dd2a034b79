package schema_test

import (
	"fmt"

	"github.com/plugbus/plugbus/internal/schema"
)

func Example() {
	s, err := schema.Compile([]byte(`{"properties": {"size": {"type": "integer", "minimum": 0}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	type file struct {
		Size int `json:"size"`
	}
	fmt.Println(s.Validate(file{7}))
	fmt.Println(s.Validate(file{-7}))
	// Output:
	// <nil>
	// invalid value: at "/size": minimum: got -7, want 0
}
