package site // Which packages are ours cannot be seen from outside: they are above this one.

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCaller(t *testing.T) {
	t.Parallel()
	_, _, line, _ := runtime.Caller(0)
	require.Equal(t, fmt.Sprintf("github.com/plugbus/plugbus/internal/site/site_test.go:%d", line+1), Caller())
	require.Contains(t, func() string { return Caller() }(), "/site_test.go:")
	require.Contains(t, deep(100), "/site_test.go:", "the depth of the plugin's own stack does not matter")
}

func deep(n int) string {
	if n == 0 {
		return Caller()
	}
	return deep(n - 1)
}

// TestOutside shows that the place is where a plugin's code ends and ours begins,
// whatever is further up.
func TestOutside(t *testing.T) {
	t.Parallel()
	const ours = "github.com/plugbus/plugbus/"
	for _, test := range []struct {
		stack []string // innermost first
		want  string
	}{
		{[]string{"example.com/a.start"}, "example.com/a/file.go:1"},
		{[]string{ours + "events.(*Client).Subscribe", "example.com/a.start", "main.main"}, "example.com/a/file.go:2"},
		{[]string{ours + "events.Subscribe[...]", ours + "hub.(*Session).Subscribe", "example.com/a.start"}, "example.com/a/file.go:3"},
		{[]string{ours + "router.Handle[...]", "example.com/a.start", ours + "hub.(*Hub).Register"}, "example.com/a/file.go:2"},
		{[]string{ours + "hub.(*Hub).announce", ours + "hub.(*Hub).Close"}, ours + "hub/file.go:2"},
		{nil, "/.:0"},
	} {
		n := 0
		got := outside(func() (runtime.Frame, bool) {
			if n == len(test.stack) {
				return runtime.Frame{}, false
			}
			n++
			return runtime.Frame{Function: test.stack[n-1], File: "build/file.go", Line: n}, n < len(test.stack)
		})
		require.Equal(t, test.want, got)
	}
}

// TestPackages shows of functions, as the runtime names them, which package they
// are of, and whether a call only passes through that.
func TestPackages(t *testing.T) {
	t.Parallel()
	const module = "github.com/plugbus/plugbus/"
	for _, test := range []struct {
		function, pkg string
		ours          bool
	}{
		{module + "events.(*Client).Subscribe", module + "events", true},
		{module + "events.Subscribe[...]", module + "events", true},
		{module + "events.Subscribe[...].func1", module + "events", true},
		{module + "router.Handle[...]", module + "router", true},
		{module + "store.(*View).Watch", module + "store", true},
		{module + "discovery.(*Client).Provide", module + "discovery", true},
		{module + "hub.(*Session).Subscribe", module + "hub", true},
		{module + "hub/hubtest.(*Hub).Join", module + "hub/hubtest", false},
		{module + "events_test.TestX", module + "events_test", false},
		{module + "examples/quickstart.start", module + "examples/quickstart", false},
		{"example.com/host/indexer.(*Indexer).Start", "example.com/host/indexer", false},
		{"example.com/hub.(*Session).Subscribe", "example.com/hub", false},
		{"gopkg.in/yaml%2ev3.Unmarshal", "gopkg.in/yaml%2ev3", false},
		{"main.main.func1", "main", false},
		{"main.init.0", "main", false},
		{"odd", "odd", false},
		{"", "", false},
	} {
		pkg := packageOf(test.function)
		require.Equal(t, test.pkg, pkg)
		require.Equal(t, test.ours, isOurs(pkg), test.function)
	}
}
