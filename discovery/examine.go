package discovery

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A finding is what a query finds out about one plugin.
type finding struct {
	Match

	matter  []*record // what the criteria are about
	faults  []string  // why the plugin does not match
	telling bool      // whether score is to give its reasons, which takes longer than all else

	cost         worst[float64]
	reliability  worst[float64]
	responseTime worst[time.Duration]
}

func (f *finding) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// examine looks at what a plugin provides. It returns nil if the asker sees
// nothing of it, and, unless it is to explain, if the plugin does not match.
func (q *query) examine(s *sight, c *Client, records []*record, explain bool) *finding {
	f := &finding{}
	f.Plugin, f.Idempotent, f.rank = c.id, true, math.MaxInt
	if !q.choose(f, s, records) || len(f.faults) > 0 && !explain {
		return nil
	}
	opts := &s.client.index.opts
	f.measure(opts.MinSamples)
	q.filter(f)
	if len(f.faults) > 0 && !explain {
		return nil
	}
	q.score(f, &opts.Weights)
	return f
}

// choose finds out what the asker sees, what of it is available, and what of
// that matters. It reports whether the asker sees anything.
func (q *query) choose(f *finding, s *sight, records []*record) bool {
	required := q.Require.Capabilities
	missing := slices.Clone(required)
	var closed []string
	seen := false
	for _, r := range records {
		if !s.sees(r) {
			continue
		}
		seen = true
		_, matters := slices.BinarySearch(required, r.Name)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == r.Name })
		if why := s.unavailable(r); why != "" {
			if matters || len(required) == 0 {
				closed = append(closed, fmt.Sprintf("%q is not available: %s", r.Name, why))
			}
			continue
		}
		f.Capabilities = append(f.Capabilities, r.Name)
		if matters || len(required) == 0 {
			f.matter = append(f.matter, r)
		}
	}
	for _, name := range missing {
		f.fault("it does not provide %q", name)
	}
	if len(required) > 0 || len(f.matter) == 0 {
		f.faults = append(f.faults, closed...)
	}
	return seen
}

// measure takes the worst of the capabilities that matter.
func (f *finding) measure(enough int) {
	for _, r := range f.matter {
		figures := r.figures(enough)
		f.cost.add(figures.Cost, more)
		f.reliability.add(figures.Reliability, less)
		f.responseTime.add(figures.ResponseTime, more)
		f.rank = min(f.rank, r.Rank)
		f.Idempotent = f.Idempotent && r.Idempotent
	}
	f.Idempotent = f.Idempotent && len(f.matter) > 0
	f.Figures = Figures{f.cost.result(), f.reliability.result(), f.responseTime.result()}
}

// filter notes which of the required terms are not met. If nothing matters, the
// plugin is out already, and nothing can be said of its figures.
func (q *query) filter(f *finding) {
	if len(f.matter) == 0 {
		return
	}
	for _, category := range q.Require.Categories {
		if !f.in(category) {
			f.fault("it is not in the category %q", category)
		}
	}
	if q.required != nil {
		for _, r := range f.matter {
			if !q.required.has(r.version) {
				f.fault("%q has %s, not %s", r.Name, versionText(r), q.required.text)
			}
		}
	}
	if limit := q.Require.MaxCost; limit != nil && !f.cost.within(*limit, more, q.AllowUnknown) {
		f.fault("the cost is %s, not at most %v", f.cost.text(), *limit)
	}
	if limit := q.Require.MinReliability; limit != nil && !f.reliability.within(*limit, less, q.AllowUnknown) {
		f.fault("the reliability is %s, not at least %v", f.reliability.text(), *limit)
	}
	if limit := q.Require.MaxResponseTime; limit != nil && !f.responseTime.within(*limit, more, q.AllowUnknown) {
		f.fault("the response time is %s, not at most %v", f.responseTime.text(), *limit)
	}
}

// score gives points for what is met. A plugin of which nothing matters gets
// none.
func (q *query) score(f *finding, weights *Points) {
	if len(f.matter) == 0 {
		return
	}
	p := &f.Parts
	if len(f.matter) == len(q.Require.Capabilities) {
		p.Required = weights.Required
		f.because("it provides all required capabilities")
	}
	if met := slices.DeleteFunc(slices.Clone(q.categories), func(name string) bool { return !f.in(name) }); len(met) > 0 {
		p.Category = weights.Category * float64(len(met))
		f.because("it is in the categories %q", met)
	}
	asked := q.prefers
	if asked == nil {
		asked = q.required
	}
	if asked != nil && !slices.ContainsFunc(f.matter, func(r *record) bool { return !asked.has(r.version) }) {
		p.Version = weights.Version
		f.because("its version is in %s", asked.text)
	}
	if rate, limit := f.Figures.Reliability, q.Prefer.MinReliability; rate.Known && (limit == nil || rate.Value >= *limit) {
		p.Reliability = weights.Reliability * rate.Value
		f.because("its reliability is %s", f.reliability.text())
	}
	if met := slices.DeleteFunc(slices.Clone(q.Prefer.Capabilities), func(name string) bool { return !slices.Contains(f.Capabilities, name) }); len(met) > 0 {
		p.Capability = weights.Capability * float64(len(met))
		f.because("it provides the preferred %q", met)
	}
	if limit := q.Prefer.MaxCost; limit != nil && f.cost.within(*limit, more, false) {
		p.Cost = weights.Cost
		f.because("its cost is %s", f.cost.text())
	}
	if limit := q.Prefer.MaxResponseTime; limit != nil && f.responseTime.within(*limit, more, false) {
		p.ResponseTime = weights.ResponseTime
		f.because("its response time is %s", f.responseTime.text())
	}
	f.Score = p.Sum()
}

func (f *finding) because(format string, args ...any) {
	if f.telling {
		f.Reasons = append(f.Reasons, fmt.Sprintf(format, args...))
	}
}

// in reports whether one of the capabilities that matter is in a category.
func (f *finding) in(category string) bool {
	return slices.ContainsFunc(f.matter, func(r *record) bool {
		_, is := slices.BinarySearch(r.Categories, category)
		return is
	})
}

func versionText(r *record) string {
	if r.version == nil {
		return "no known version"
	}
	return "version " + r.version.String()
}

// text says what is known, and how.
func (w *worst[T]) text() string {
	if !w.figure.Known {
		return "unknown"
	}
	var b strings.Builder
	fmt.Fprint(&b, w.figure.Value)
	if w.figure.Measured {
		fmt.Fprintf(&b, ", measured by %d calls", w.figure.Samples)
	} else {
		b.WriteString(", as declared")
	}
	if w.unknown {
		b.WriteString(", and partly unknown")
	}
	return b.String()
}
