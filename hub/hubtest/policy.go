package hubtest

import (
	"testing"

	"github.com/plugbus/plugbus/security"
)

// Policy returns the policy that the JSON says, or fails the test with every
// mistake in it.
func Policy(tb testing.TB, json string) *security.Policy {
	tb.Helper()
	p, err := security.Parse([]byte(json), "")
	if err != nil {
		tb.Fatalf("hubtest: the policy is not valid:\n%v", err)
	}
	return p
}

// PolicyFile is Policy for a file.
func PolicyFile(tb testing.TB, path string) *security.Policy {
	tb.Helper()
	p, err := security.LoadFile(path)
	if err != nil {
		tb.Fatalf("hubtest: the policy is not valid:\n%v", err)
	}
	return p
}
