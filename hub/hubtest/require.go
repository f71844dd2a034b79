package hubtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// RequireDenied fails the test unless err says that the door refused an act for
// this reason, and returns what it says: a value, and so nothing that a linter
// takes for an unchecked error. It also takes the error of a plugin that the
// policy does not let join; then Verb and Object are zero.
//
// An act that was allowed has no error to say why. Hand in what Hub.Explain says
// of it, and the failure tells.
func RequireDenied(tb testing.TB, err error, reason plugbus.Reason, explained ...security.Explanation) plugbus.DeniedError {
	tb.Helper()
	denied := asDenied(err)
	switch {
	case err == nil:
		lines := []string{"got no error: the act was allowed", "want denied: " + string(reason)}
		for _, e := range explained {
			lines = append(lines, e.String())
		}
		tb.Fatalf("%s", strings.Join(lines, "\n"))
	case denied == nil:
		tb.Fatalf("got another error: %v\nwant denied: %s", err, reason)
	case denied.Reason != reason:
		tb.Fatalf("got denied: %s: %v\nwant denied: %s", denied.Reason, err, reason)
	default:
		return *denied
	}
	return plugbus.DeniedError{}
}

// asDenied returns what err says of a refusal, or nil.
func asDenied(err error) *plugbus.DeniedError {
	if join, ok := errors.AsType[*security.JoinError](err); ok {
		return &plugbus.DeniedError{Plugin: join.Plugin, Reason: join.Reason, Record: join.Record, Hint: join.Problem, Cause: join}
	}
	denied, _ := errors.AsType[*plugbus.DeniedError](err)
	return denied
}

// RequireAllowed fails the test unless err is nil. A refusal tells by which rule,
// and what would change it.
func RequireAllowed(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	if denied := asDenied(err); denied != nil {
		tb.Fatalf("got denied: %s: %v\nwant it allowed", denied.Reason, err)
	}
	tb.Fatalf("got another error: %v\nwant the act done", err)
}

// An Explainer says why a plugin may, or may not, do something: a hub, an
// authority, or a policy.
type Explainer interface {
	Explain(id string, verb plugbus.Verb, object string) security.Explanation
}

// RequireDecision fails the test unless the answer to whether a plugin may do
// verb to object, a name or an id, is want: the reason why not, or "" if it may.
// It asks, and does not act: rates and payloads do not matter.
func RequireDecision(tb testing.TB, by Explainer, id string, verb plugbus.Verb, object string, want plugbus.Reason) {
	tb.Helper()
	if e := by.Explain(id, verb, object); e.Reason != want {
		tb.Fatalf("got  %s\nwant %s\n%v", decision(e.Reason), decision(want), e)
	}
}

// decision says a reason in words.
func decision(r plugbus.Reason) string {
	if r == "" {
		return "allowed"
	}
	return "denied: " + string(r)
}
