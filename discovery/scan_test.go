package discovery_test

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/plugbus/plugbus/discovery"
)

// A world is an index, and beside it a plain map of what is provided, which is
// scanned for each query by the words of the package comment.
type world struct {
	index   *discovery.Index
	weights discovery.Points
	clients map[string]*discovery.Client
	guards  map[string]*rules
	records map[string]map[string]discovery.Capability
	closed  map[string]string // why what is unavailable, by provider and name
}

var (
	worldIDs        = []string{"a", "b", "c", "d"}
	worldNames      = []string{"pdf", "ps", "svg"}
	worldCategories = []string{"x", "y", "z"}

	// worldRanges are ranges of versions, and which versions are in them.
	worldVersions = []string{"", "1.0.0", "1.2.0", "2.0.0-rc.1", "2.0.0"}
	worldRanges   = map[string][]string{
		"^1": {"1.0.0", "1.2.0"}, ">=1.1": {"1.2.0", "2.0.0"}, "*": {"1.0.0", "1.2.0", "2.0.0"}, "^2.0.0-rc": {"2.0.0-rc.1", "2.0.0"}, "<1": {},
	}
)

// sees is the one rule of visibility.
func (w *world) sees(asker, provider string, c discovery.Capability) bool {
	if asker == provider {
		return true
	}
	return !slices.Contains(c.Denied, asker) && (len(c.Allowed) == 0 || slices.Contains(c.Allowed, asker)) &&
		!w.guards[asker].denied["discover "+c.Name] && !w.guards[provider].denied["provide "+c.Name]
}

// A seen is what a scan finds out about one provider.
type seen struct {
	match   discovery.Match
	matches bool
	rank    int
}

// worstOf returns the worst known value of the capabilities that matter, and whether
// some, and all of them are known.
func worstOf[T float64 | time.Duration](matter []discovery.Capability, of func(discovery.Capability) *T, worse func(a, b T) T) (worst T, some, all bool) {
	all = len(matter) > 0
	for _, c := range matter {
		switch v := of(c); {
		case v == nil:
			all = false
		case !some:
			worst, some = *v, true
		default:
			worst = worse(worst, *v)
		}
	}
	return worst, some, all
}

func larger[T cmp.Ordered](a, b T) T  { return max(a, b) }
func smaller[T cmp.Ordered](a, b T) T { return min(a, b) }

// figure is a figure that is declared, and known if all are.
func figure[T float64 | time.Duration](worst T, all bool) discovery.Figure[T] {
	if !all {
		return discovery.Figure[T]{}
	}
	return discovery.Figure[T]{Value: worst, Known: true}
}

// look looks at one provider. It returns nil if the asker sees nothing of it.
func (w *world) look(asker, id string, k discovery.Criteria) *seen {
	s := &seen{rank: math.MaxInt}
	s.match.Plugin = id
	visible := false
	var matter []discovery.Capability
	for _, name := range slices.Sorted(maps.Keys(w.records[id])) {
		c := w.records[id][name]
		if !w.sees(asker, id, c) {
			continue
		}
		visible = true
		if w.closed[id+" "+name] != "" {
			continue
		}
		s.match.Capabilities = append(s.match.Capabilities, name)
		if len(k.Require.Capabilities) == 0 || slices.Contains(k.Require.Capabilities, name) {
			matter = append(matter, c)
		}
	}
	if !visible {
		return nil
	}
	has := func(name string) bool { return slices.Contains(s.match.Capabilities, name) }
	in := func(category string) bool {
		return slices.ContainsFunc(matter, func(c discovery.Capability) bool { return slices.Contains(c.Categories, category) })
	}
	inRange := func(wanted string) bool {
		return wanted == "" || !slices.ContainsFunc(matter, func(c discovery.Capability) bool { return !slices.Contains(worldRanges[wanted], c.Version) })
	}
	cost, someCost, allCost := worstOf(matter, func(c discovery.Capability) *float64 { return c.Cost }, larger)
	rate, someRate, allRate := worstOf(matter, func(c discovery.Capability) *float64 { return c.Reliability }, smaller)
	took, someTook, allTook := worstOf(matter, func(c discovery.Capability) *time.Duration { return c.ResponseTime }, larger)
	s.match.Figures = discovery.Figures{Cost: figure(cost, allCost), Reliability: figure(rate, allRate), ResponseTime: figure(took, allTook)}

	s.matches = len(matter) > 0 && inRange(k.Require.Version) &&
		!slices.ContainsFunc(k.Require.Capabilities, func(name string) bool { return !has(name) }) &&
		!slices.ContainsFunc(k.Require.Categories, func(name string) bool { return !in(name) })
	if limit := k.Require.MaxCost; limit != nil {
		s.matches = s.matches && (!someCost || cost <= *limit) && (allCost || k.AllowUnknown)
	}
	if limit := k.Require.MinReliability; limit != nil {
		s.matches = s.matches && (!someRate || rate >= *limit) && (allRate || k.AllowUnknown)
	}
	if limit := k.Require.MaxResponseTime; limit != nil {
		s.matches = s.matches && (!someTook || took <= *limit) && (allTook || k.AllowUnknown)
	}
	if len(matter) == 0 {
		return s
	}
	s.match.Idempotent = true
	for _, c := range matter {
		s.match.Idempotent = s.match.Idempotent && c.Idempotent
		s.rank = min(s.rank, c.Rank)
	}
	p := &s.match.Parts
	if len(k.Require.Capabilities) > 0 && !slices.ContainsFunc(k.Require.Capabilities, func(name string) bool { return !has(name) }) {
		p.Required = w.weights.Required
	}
	for _, name := range worldCategories {
		if in(name) && (slices.Contains(k.Require.Categories, name) || slices.Contains(k.Prefer.Categories, name)) {
			p.Category += w.weights.Category
		}
	}
	if wanted := cmp.Or(k.Prefer.Version, k.Require.Version); wanted != "" && inRange(wanted) {
		p.Version = w.weights.Version
	}
	if limit := k.Prefer.MinReliability; allRate && (limit == nil || rate >= *limit) {
		p.Reliability = w.weights.Reliability * rate
	}
	for _, name := range worldNames {
		if has(name) && slices.Contains(k.Prefer.Capabilities, name) {
			p.Capability += w.weights.Capability
		}
	}
	if limit := k.Prefer.MaxCost; limit != nil && allCost && cost <= *limit {
		p.Cost = w.weights.Cost
	}
	if limit := k.Prefer.MaxResponseTime; limit != nil && allTook && took <= *limit {
		p.ResponseTime = w.weights.ResponseTime
	}
	s.match.Score = p.Required + p.Category + p.Version + p.Reliability + p.Capability + p.Cost + p.ResponseTime
	return s
}

// scan returns everybody of whom the asker sees anything, those that match first.
func (w *world) scan(asker string, k discovery.Criteria) []*seen {
	var all []*seen
	for id := range w.records {
		if s := w.look(asker, id, k); s != nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *seen) int {
		switch {
		case a.matches != b.matches && a.matches:
			return -1
		case a.matches != b.matches:
			return 1
		}
		return cmp.Or(cmp.Compare(b.match.Score, a.match.Score), cmp.Compare(b.rank, a.rank), cmp.Compare(a.match.Plugin, b.match.Plugin))
	})
	return all
}
