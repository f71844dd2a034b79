package hubtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plugbus/plugbus/hub"
)

// An ending is how a hub came to its end.
type ending struct {
	report hub.Report
	err    error // of Close
	leaks  []hub.Leak
	panics []string
}

// judge fails the test for what is wrong and not allowed.
func (e ending) judge(tb testing.TB, leaks, problems allowance) {
	tb.Helper()
	say := func(what string, complaints []string, allowed allowance) {
		tb.Helper()
		text := strings.Join(complaints, "\n- ")
		switch {
		case len(complaints) == 0:
		case allowed.given:
			tb.Logf("hubtest: %s, which is allowed, since %s:\n- %s", what, allowed.reason, text)
		default:
			tb.Errorf("hubtest: %s:\n- %s", what, text)
		}
	}
	say("the books of the hub do not add up", e.books(), allowance{})
	say("something leaks", e.leaking(), leaks)
	say("the hub did not end well", e.problems(), problems)
}

// books returns what is wrong with the ledger.
func (e ending) books() (complaints []string) {
	l := e.report.Ledger
	if err := l.Check(); err != nil {
		complaints = append(complaints, err.Error())
	}
	if l.Waiting+l.Running > 0 {
		complaints = append(complaints, fmt.Sprintf("the hub has closed, but deliveries have no outcome: %v", l))
	}
	return complaints
}

// leaking returns what still runs, and what was left undone because of it.
func (e ending) leaking() (complaints []string) {
	for _, l := range e.leaks {
		text := fmt.Sprintf("plugin %q: the %s %q has not returned", l.Plugin, l.Kind, l.Name)
		if l.Site != "" {
			text = fmt.Sprintf("plugin %q: the %s of %q, set at %s, has not returned", l.Plugin, l.Kind, l.Name, l.Site)
		}
		complaints = append(complaints, text+"; it must when its context is done")
	}
	for _, p := range e.report.Problems {
		if e.ofLeak(p) {
			complaints = append(complaints, fmt.Sprintf("plugin %q: %v", p.Plugin, p.Err))
		}
	}
	return complaints
}

// problems returns what else went wrong.
func (e ending) problems() (complaints []string) {
	complaints = slices.Clone(e.panics)
	for _, p := range e.report.Problems {
		if !e.ofLeak(p) {
			complaints = append(complaints, fmt.Sprintf("plugin %q: %v", p.Plugin, p.Err))
		}
	}
	if e.err != nil {
		complaints = append(complaints, e.err.Error())
	}
	return complaints
}

// ofLeak reports whether a plugin could not leave because something of it ran
// for too long.
func (e ending) ofLeak(p hub.Problem) bool {
	return errors.Is(p.Err, context.DeadlineExceeded) ||
		slices.ContainsFunc(e.report.Leaks, func(l hub.Leak) bool { return l.Plugin == p.Plugin })
}
