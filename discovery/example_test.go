package discovery_test

import (
	"fmt"

	"github.com/plugbus/plugbus/discovery"
)

// A plugin provides a capability, and another finds it.
func Example() {
	index, err := discovery.New(discovery.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	printer, _ := index.Client("printer", discovery.ClientOptions{Version: "1.4.0"})
	reader, _ := index.Client("reader", discovery.ClientOptions{})

	err = printer.Provide(discovery.Capability{Name: "pdf.render", Reliability: new(0.9)})
	if err != nil {
		fmt.Println(err)
	}
	matches, err := reader.Find(discovery.Criteria{
		Require: discovery.Terms{Capabilities: []string{"pdf.render"}, Version: "^1.2"},
	})
	for _, m := range matches {
		fmt.Println(m.Plugin, m.Score)
		for _, reason := range m.Reasons {
			fmt.Println("-", reason)
		}
	}
	fmt.Println(err)
	// Output:
	// printer 79
	// - it provides all required capabilities
	// - its version is in ^1.2
	// - its reliability is 0.9, as declared
	// <nil>
}

// Candidates says of each visible provider why it was left out.
func ExampleClient_Candidates() {
	index, _ := discovery.New(discovery.Options{
		Availability: func(_, provider, _ string) string {
			if provider == "busy" {
				return "draining"
			}
			return ""
		},
	})
	for id, cost := range map[string]float64{"busy": 1, "cheap": 1, "dear": 9} {
		c, _ := index.Client(id, discovery.ClientOptions{})
		_ = c.Provide(discovery.Capability{Name: "pdf.render", Cost: &cost})
	}
	reader, _ := index.Client("reader", discovery.ClientOptions{})
	candidates, _ := reader.Candidates(discovery.Criteria{
		Require: discovery.Terms{Capabilities: []string{"pdf.render"}, MaxCost: new(5.0)},
	})
	for _, c := range candidates {
		fmt.Println(c.Plugin, c.Score, c.Excluded)
	}
	// Output:
	// cheap 50 []
	// dear 50 [the cost is 9, as declared, not at most 5]
	// busy 0 ["pdf.render" is not available: draining]
}

// An access list says who may find and call a capability.
func ExampleClient_MayCall() {
	index, _ := discovery.New(discovery.Options{})
	printer, _ := index.Client("printer", discovery.ClientOptions{})
	_ = printer.Provide(discovery.Capability{Name: "pdf.render", Allowed: []string{"reader"}})
	for _, id := range []string{"reader", "stranger"} {
		c, _ := index.Client(id, discovery.ClientOptions{})
		matches, _ := c.Providers("pdf.render")
		fmt.Println(id, len(matches), c.MayCall("printer", "pdf.render"))
	}
	// Output:
	// reader 1 true
	// stranger 0 false
}
