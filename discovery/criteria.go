package discovery

import (
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/internal/topic"
)

// The limits of [Criteria].
const (
	MaxTerms = 64     // capabilities, and categories, in one [Terms]
	MaxLimit = 10_000 // matches
)

// Terms are what criteria ask for. The zero Terms ask for nothing.
type Terms struct {
	// Capabilities and Categories are names, each of which counts once.
	Capabilities, Categories []string

	// Version is a range of versions, such as "^1.2".
	Version string

	// MaxCost, MinReliability and MaxResponseTime are limits; what is as good as
	// the limit satisfies it. If nil, there is none.
	MaxCost, MinReliability *float64
	MaxResponseTime         *time.Duration
}

// Criteria say which providers to find. The zero Criteria match everything that is
// visible.
type Criteria struct {
	Require Terms // decides who matches
	Prefer  Terms // scores

	// AllowUnknown lets unknown figures satisfy the limits of Require.
	AllowUnknown bool

	// Limit is how many matches to return at most. If zero, it is 100; at most
	// MaxLimit.
	Limit int
}

// A query is criteria that were checked.
type query struct {
	Criteria

	categories        []string // of both terms, sorted
	required, prefers *versions
}

// newQuery checks criteria, and reports all that is wrong with them.
func newQuery(k Criteria) (*query, error) {
	m := mistakes{what: "criteria"}
	q := &query{Criteria: k}
	counts := limits.List{Fault: m.fault}
	q.Limit = limits.Within(&counts, "Limit", k.Limit, 100, 1, MaxLimit)
	q.required = q.Require.check(&m, "Require.")
	q.prefers = q.Prefer.check(&m, "Prefer.")
	q.categories = set(slices.Concat(q.Require.Categories, q.Prefer.Categories))
	if err := errors.Join(counts.Err(), m.err()); err != nil {
		return nil, err
	}
	return q, nil
}

// check checks the terms, makes sets of their lists, and returns their range of
// versions.
func (t *Terms) check(m *mistakes, prefix string) *versions {
	for _, list := range []struct {
		field string
		names *[]string
	}{{"Capabilities", &t.Capabilities}, {"Categories", &t.Categories}} {
		if m.atMost(prefix+list.field, len(*list.names), MaxTerms, "names"); len(*list.names) > MaxTerms {
			continue
		}
		*list.names = set(*list.names)
		for _, name := range *list.names {
			if err := topic.CheckName(name); err != nil {
				m.add(prefix+list.field, err, "expected names")
			}
		}
	}
	if t.MaxCost != nil {
		within(m, prefix+"MaxCost", *t.MaxCost, 0, MaxCost)
	}
	if t.MinReliability != nil {
		within(m, prefix+"MinReliability", *t.MinReliability, 0, 1)
	}
	if t.MaxResponseTime != nil && *t.MaxResponseTime < 0 {
		m.add(prefix+"MaxResponseTime", nil, "it is %v; expected 0 or more", *t.MaxResponseTime)
	}
	v, err := parseVersions(t.Version)
	if err != nil {
		m.add(prefix+"Version", err, "it is %q; expected a range of versions, such as \"^1.2\"", plugbus.CutText(t.Version))
	}
	return v
}

// set returns the list sorted, and each of it once.
func set(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// versions is a range of versions. A nil range was not asked for.
type versions struct {
	text string
	*semver.Constraints
}

// zeroTilde finds "~0.0.0", which the library takes for a range of everything.
var zeroTilde = regexp.MustCompile(`~>?\s*v?0+\.0+\.0+`)

// parseVersions reads a range; "" is none.
func parseVersions(text string) (*versions, error) {
	if text == "" {
		return nil, nil
	}
	if zeroTilde.MatchString(text) {
		return nil, &InvalidError{What: "range", Field: "version", Problem: `"~0.0.0" is ambiguous; expected "0.0.x"`}
	}
	c, err := semver.NewConstraint(text)
	if err != nil {
		return nil, err
	}
	return &versions{text, c}, nil
}

// has reports whether a version is known and in the range.
func (v *versions) has(version *semver.Version) bool { return version != nil && v.Check(version) }
