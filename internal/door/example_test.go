package door_test

import (
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/payload"
)

func ExampleCheck() {
	const plugin, verb = "crawler", plugbus.VerbEmit
	guard, c := door.Open(plugin), clock.New()
	for _, name := range []string{"files.added", "files..added"} {
		act := door.Act{
			Plugin: plugin, Verb: verb, Object: name, MaxDepth: 32,
			Permit: door.Sound(guard.Permit(verb, name), verb, name),
		}
		parcel := door.Parcel{Data: []string{"README.md"}}
		if _, refusal := door.Check(c, &act, &parcel); refusal != nil {
			fmt.Println(refusal.Reason)
			continue
		}
		fmt.Println("admitted:", payload.Thaw(parcel.Data))
	}
	// Output:
	// admitted: [README.md]
	// invalid_name
}
