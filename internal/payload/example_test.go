package payload_test

import (
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// What the sender changes after the door, nobody sees.
func ExampleFreeze() {
	words := map[string]any{"count": 1, "tags": []string{"new"}}
	frozen, size, err := payload.Freeze(words, &plugbus.PayloadRules{Content: plugbus.CheckAll})
	fmt.Println(size, err)

	words["count"] = 2
	words["tags"].([]string)[0] = "<script>"
	fmt.Println(payload.Thaw(frozen))

	_, _, err = payload.Freeze(words, &plugbus.PayloadRules{Content: plugbus.CheckAll})
	fmt.Println(err)
	// Output:
	// 124 <nil>
	// map[count:1 tags:[new]]
	// payload[*][0] (string): the text holds a <script tag; send plain text, or have the policy switch this check off
}

// A value that cannot be copied is refused with the path to it.
func ExampleError() {
	type job struct {
		Name string
		Done func()
	}
	_, _, err := payload.Freeze([]job{{Name: "a"}}, nil)
	fmt.Println(err)
	// Output:
	// payload[0].Done (func()): a function may not be sent, not even by plugbus.Shared; send the data that it stands for
}

func ExampleScan() {
	fmt.Println(payload.Scan("month=3 and ?session_id=5", plugbus.CheckAll) == 0)
	fmt.Println(payload.Scan("<img src=x onerror\n=alert(1)>", plugbus.CheckAll) == plugbus.CheckAttribute)
	// Output:
	// true
	// true
}
