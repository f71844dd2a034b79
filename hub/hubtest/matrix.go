package hubtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A Matrix says which plugins may do what under a policy: one row for each act,
// one column for each plugin, and in each cell "yes" or the reason why not. It
// needs no test: a program may print it.
type Matrix struct {
	policy  *security.Policy
	plugins []string
	rows    []act
}

type act struct {
	verb   plugbus.Verb
	object string
}

// NewMatrix returns a matrix without rows for these plugins, or, if none is
// named, for all that the policy names.
func NewMatrix(policy *security.Policy, plugins ...string) *Matrix {
	if len(plugins) == 0 {
		plugins = policy.Plugins()
	}
	return &Matrix{policy: policy, plugins: slices.Clone(plugins)}
}

// Add adds a row for each object, and returns m. An object is a name or an id; if
// it is a pattern, the answer is for all that it matches, as for a subscription.
func (m *Matrix) Add(verb plugbus.Verb, objects ...string) *Matrix {
	for _, object := range objects {
		m.rows = append(m.rows, act{verb, object})
	}
	return m
}

// decide returns "yes" or the reason why not.
func (m *Matrix) decide(a act, plugin string) string {
	reason := plugbus.ReasonCheckFailed
	if !a.isPattern() {
		reason = m.policy.Explain(plugin, a.verb, a.object).Reason
	} else if authority, err := security.New(security.Options{Policy: m.policy}); err == nil {
		subject, err := authority.Join(plugin)
		if refused, ok := errors.AsType[*security.JoinError](err); ok {
			reason = refused.Reason
		} else if err == nil {
			reason = subject.PermitPattern(a.verb, a.object, false).Reason
		}
	}
	if reason == "" {
		return "yes"
	}
	return string(reason)
}

// isPattern reports whether the object is a pattern. No name holds a star.
func (a act) isPattern() bool { return strings.Contains(a.object, "*") }

// String returns the table. It ends with a line break.
func (m *Matrix) String() string {
	lines := [][]string{append([]string{"verb", "object"}, m.plugins...)}
	for _, a := range m.rows {
		line := []string{a.verb.String(), a.object}
		for _, plugin := range m.plugins {
			line = append(line, m.decide(a, plugin))
		}
		lines = append(lines, line)
	}
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			line[i] = oneWord(cell)
			width[i] = max(width[i], utf8.RuneCountInString(line[i]))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			fmt.Fprintf(&row, "%-*s  ", width[i], cell)
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return b.String()
}

// oneWord returns s without spaces, which separate the cells of the table. Only
// what no policy could allow has any.
func oneWord(s string) string {
	if s == "" {
		return `""`
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
