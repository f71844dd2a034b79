package topic_test

import (
	"fmt"
	"slices"

	"github.com/plugbus/plugbus/internal/topic"
)

// A "*" is one token, and a "**" at the end is one or more.
func ExamplePattern_Match() {
	for _, text := range []string{"orders.*", "orders.**", "**"} {
		p := topic.MustParse(text)
		fmt.Println(p, p.Match("orders"), p.Match("orders.new"), p.Match("orders.new:eu"), p.Match("plugin:registered"))
	}
	// Output:
	// orders.* false true false false
	// orders.** false true true false
	// ** true true true false
}

// An error says what is wrong, where, and what is expected.
func ExampleParse() {
	_, err := topic.Parse("orders.new*")
	fmt.Println(err)
	// Output:
	// invalid pattern "orders.new*": at byte 10: "*" must be a whole token; expected a name in which "*" may stand for a token, and "**" for one or more at the end
}

// A subscription may not be wider than its grant.
func ExampleSubset() {
	grant := topic.MustParse("orders.**")
	fmt.Println(topic.Subset(topic.MustParse("orders.*.new"), grant))
	fmt.Println(topic.Subset(topic.MustParse("*.new"), grant))
	fmt.Println(topic.Overlap(topic.MustParse("*.new"), grant))
	// Output:
	// true
	// false
	// true
}

// An index finds everybody whose pattern matches a name.
func ExampleIndex() {
	var x topic.Index[string]
	x.Add(topic.MustParse("orders.*"), "billing")
	x.Add(topic.MustParse("**"), "logger")
	x.Add(topic.MustParse("files.*"), "indexer")

	found := x.Append(nil, "orders.new")
	slices.Sort(found)
	fmt.Println(found)
	// Output: [billing logger]
}
