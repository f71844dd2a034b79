package hubtest

import "github.com/plugbus/plugbus/hub"

// An Option changes one call of [New].
type Option interface{ apply(*settings) }

type settings struct {
	hub             hub.Options
	explain         bool
	persistent      bool
	leaks, problems allowance
}

// An allowance says why something is allowed, if it is.
type allowance struct {
	given  bool
	reason string
}

// With sets the options of the hub. Their Policy and ExplainToPlugins must be
// zero. If they have a Logger, it gets what would go to the test's log.
func With(o hub.Options) Option { return withOption{o} }

type withOption struct{ hub hub.Options }

func (o withOption) apply(s *settings) { s.hub = o.hub }

// Persistent gives the hub a directory of the test for persistent stores, which is
// removed when the test ends. A test of what a plugin finds in a later run has two hubs
// on one directory, one after the other, by the StoreDir of [With].
func Persistent() Option { return persistentOption{} }

type persistentOption struct{}

func (persistentOption) apply(s *settings) { s.persistent = true }

// Unexplained gives plugins no more than they get of a hub in earnest: refusals
// come without the rule, and what a plugin may not know of looks the same whether
// it exists or not.
func Unexplained() Option { return unexplainedOption{} }

type unexplainedOption struct{}

func (unexplainedOption) apply(s *settings) { s.explain = false }

// AllowLeaks accepts what of a plugin still runs when the hub has closed, and
// what was left undone because of it. It is logged with the reason.
func AllowLeaks(reason string) Option { return allowLeaksOption{reason} }

type allowLeaksOption struct{ reason string }

func (o allowLeaksOption) apply(s *settings) { s.leaks = allowance{true, o.reason} }

// AllowProblems accepts plugins that panic or cannot stop, and work that is left
// undone. It is logged with the reason.
func AllowProblems(reason string) Option { return allowProblemsOption{reason} }

type allowProblemsOption struct{ reason string }

func (o allowProblemsOption) apply(s *settings) { s.problems = allowance{true, o.reason} }
