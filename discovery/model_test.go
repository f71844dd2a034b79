package discovery_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// drawTerms draws what criteria ask for.
func drawTerms(t *rapid.T) discovery.Terms {
	terms := discovery.Terms{
		Capabilities: drawSome(t, worldNames), Version: drawRange(t),
		MaxCost: drawFigure(t), MinReliability: drawFigure(t), MaxResponseTime: drawTime(t),
	}
	if rapid.Bool().Draw(t, "category") {
		terms.Categories = []string{drawOne(t, worldCategories)}
	}
	return terms
}

func drawOne(t *rapid.T, of []string) string { return rapid.SampledFrom(of).Draw(t, "one") }

func drawSome(t *rapid.T, of []string) []string {
	return rapid.SliceOfN(rapid.SampledFrom(of), 0, 3).Draw(t, "some")
}

// Most limits are absent, so that most terms can be met.

func drawFigure(t *rapid.T) *float64 {
	return rapid.SampledFrom([]*float64{nil, nil, nil, new(0.0), new(0.5), new(1.0)}).Draw(t, "figure")
}

func drawTime(t *rapid.T) *time.Duration {
	return rapid.SampledFrom([]*time.Duration{nil, nil, nil, new(time.Duration(0)), new(time.Second), new(time.Minute)}).Draw(t, "time")
}

func drawRange(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{"", "", "", "", ""}, slices.Sorted(maps.Keys(worldRanges))...)).Draw(t, "range")
}

func newWorld(t *rapid.T) *world {
	w := &world{clients: map[string]*discovery.Client{}, guards: map[string]*rules{}, records: map[string]map[string]discovery.Capability{}, closed: map[string]string{}}
	o := discovery.Options{Availability: func(_, provider, name string) string { return w.closed[provider+" "+name] }}
	w.weights = discovery.DefaultWeights()
	if rapid.Bool().Draw(t, "weights") {
		points := func(name string) float64 { return float64(rapid.IntRange(0, 2).Draw(t, name)) }
		w.weights = discovery.Points{
			Required: points("required"), Category: points("category"), Version: 1 + points("version"), Reliability: points("reliability"),
			Capability: points("capability"), Cost: points("cost"), ResponseTime: points("response time"),
		}
		o.Weights = w.weights
	}
	var err error
	w.index, err = discovery.New(o)
	require.NoError(t, err)
	for _, id := range worldIDs {
		w.join(t, id)
	}
	return w
}

func (w *world) join(t *rapid.T, id string) {
	w.guards[id] = newRules(id)
	var err error
	w.clients[id], err = w.index.Client(id, discovery.ClientOptions{Guard: w.guards[id]})
	require.NoError(t, err)
	w.records[id] = map[string]discovery.Capability{}
}

func (w *world) provide(t *rapid.T) {
	id := drawOne(t, worldIDs)
	c := discovery.Capability{
		Name: drawOne(t, worldNames), Categories: drawSome(t, worldCategories), Rank: rapid.IntRange(-1, 1).Draw(t, "rank"),
		Version: drawOne(t, worldVersions), Idempotent: rapid.Bool().Draw(t, "idempotent"),
		Cost: drawFigure(t), Reliability: drawFigure(t), ResponseTime: drawTime(t),
	}
	if rapid.IntRange(0, 2).Draw(t, "access") == 0 {
		c.Allowed, c.Denied = drawSome(t, worldIDs), drawSome(t, worldIDs)
	}
	given := c.Clone()
	err := w.clients[id].Provide(given)
	require.Equal(t, w.guards[id].denied["provide "+c.Name], err != nil)
	if err == nil {
		w.records[id][c.Name] = c
	}
	for i := range given.Categories { // The index has a copy (V4).
		given.Categories[i] = "changed"
	}
	clear(given.Allowed)
	clear(given.Denied)
}

// require compares all that one client is told.
func (w *world) require(t *rapid.T) {
	asker := drawOne(t, worldIDs)
	c := w.clients[asker]
	k := discovery.Criteria{
		Require: drawTerms(t), Prefer: drawTerms(t), AllowUnknown: rapid.Bool().Draw(t, "unknown"),
		Limit: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "limit"),
	}
	want := w.scan(asker, k)
	candidates, err := c.Candidates(k)
	require.NoError(t, err)
	if k.Limit > 0 {
		require.Len(t, candidates, min(k.Limit, len(want)))
	} else {
		require.Len(t, candidates, len(want))
	}
	for i, candidate := range candidates {
		require.Equal(t, want[i].matches, len(candidate.Excluded) == 0, "%+v\n%+v", candidate, k)
		require.Equal(t, want[i].match, plainMatch(candidate.Match), "%+v", k)
	}
	matching := slices.DeleteFunc(slices.Clone(want), func(s *seen) bool { return !s.matches })
	w.requireMatches(t, matching, k.Limit, func() ([]discovery.Match, error) { return c.Find(k) })

	name := drawOne(t, worldNames)
	if _, own := w.records[asker][name]; !own && w.guards[asker].denied["discover "+name] {
		_, err := c.Providers(name)
		require.ErrorIs(t, err, plugbus.ErrDenied)
		return
	}
	by := discovery.Criteria{Require: discovery.Terms{Capabilities: []string{name}}}
	providers := slices.DeleteFunc(w.scan(asker, by), func(s *seen) bool { return !s.matches })
	w.requireMatches(t, providers, 0, func() ([]discovery.Match, error) { return c.Providers(name) })
}

func (w *world) requireMatches(t *rapid.T, want []*seen, limit int, find func() ([]discovery.Match, error)) {
	got, err := find()
	require.NoError(t, err)
	if limit > 0 {
		want = want[:min(limit, len(want))]
	}
	require.Len(t, got, len(want))
	for i, m := range got {
		require.Equal(t, want[i].match, plainMatch(m))
	}
}

// plainMatch leaves out what is in words.
func plainMatch(m discovery.Match) discovery.Match {
	return discovery.Match{Plugin: m.Plugin, Capabilities: m.Capabilities, Score: m.Score, Parts: m.Parts, Figures: m.Figures, Idempotent: m.Idempotent}
}

// TestIndexModel compares the index with a scan of all records, with whatever is
// provided, withdrawn, denied and unavailable at the moment: who matches, in which
// order, with which score, and what the host sees (V2, V3, V6, V7, V9, V11, V12, V13,
// V15, V17).
func TestIndexModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"provide":       w.provide,
			"provide again": w.provide,
			"withdraw": func(t *rapid.T) {
				id, name := drawOne(t, worldIDs), drawOne(t, worldNames)
				_, has := w.records[id][name]
				require.Equal(t, has, w.clients[id].Withdraw(name) == nil)
				delete(w.records[id], name)
			},
			"rejoin": func(t *rapid.T) {
				id := drawOne(t, worldIDs)
				w.clients[id].Close()
				w.join(t, id)
			},
			"right": func(t *rapid.T) {
				act := drawOne(t, []string{"provide ", "discover "}) + drawOne(t, worldNames)
				if guard := w.guards[drawOne(t, worldIDs)]; guard.denied[act] {
					guard.allow(act)
				} else {
					guard.deny(act)
				}
			},
			"availability": func(t *rapid.T) {
				w.closed[drawOne(t, worldIDs)+" "+drawOne(t, worldNames)] = drawOne(t, []string{"", "", "draining"})
			},
			"": func(t *rapid.T) {
				w.require(t)
				asker := drawOne(t, worldIDs)
				var provided []discovery.Capability
				for _, id := range worldIDs {
					for _, name := range worldNames {
						c, has := w.records[id][name]
						require.Equal(t, has && w.sees(asker, id, c), w.clients[asker].MayCall(id, name))
						if has {
							c.Categories = slices.Compact(slices.Sorted(slices.Values(c.Categories)))
							provided = append(provided, c)
						}
					}
				}
				records := w.index.Snapshot()
				require.Len(t, records, len(provided))
				for i, r := range records {
					require.ElementsMatch(t, provided[i].Categories, r.Capability.Categories)
					r.Capability.Categories = provided[i].Categories
					require.ElementsMatch(t, provided[i].Allowed, r.Capability.Allowed)
					require.ElementsMatch(t, provided[i].Denied, r.Capability.Denied)
					r.Capability.Allowed, r.Capability.Denied = provided[i].Allowed, provided[i].Denied
					require.Equal(t, provided[i], r.Capability)
				}
			},
		})
	})
}

// TestIndexForgets shows that the index keeps no trace of what was replaced or
// withdrawn (V2): who has provided something is not looked at any more.
func TestIndexForgets(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	guard := newRules("printer")
	printer, reader := newClient(t, x, "printer", guard), newClient(t, x, "reader", nil)
	provide(t, printer, discovery.Capability{Name: "pdf", Categories: []string{"old"}}, discovery.Capability{Name: "ps"}, discovery.Capability{Name: "pdf"})
	asks := func(terms discovery.Terms) bool {
		guard.asked = nil
		require.Empty(t, find(t, reader, discovery.Criteria{Require: terms}))
		return len(guard.asked) > 0
	}
	require.True(t, asks(discovery.Terms{Capabilities: []string{"ps"}, Version: "*"}), "it is asked about what is provided")
	require.False(t, asks(discovery.Terms{Categories: []string{"old"}}))
	require.NoError(t, printer.Withdraw("pdf"))
	require.False(t, asks(discovery.Terms{Capabilities: []string{"pdf"}}))
}

// TestQueriesUseTheIndex shows that a query looks only at those who provide the
// rarest of what it requires (V3): nobody else's guard is asked.
func TestQueriesUseTheIndex(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	guards := map[string]*rules{}
	for i := range 50 {
		id := fmt.Sprint("p", i)
		guards[id] = newRules(id)
		c := newClient(t, x, id, guards[id])
		provide(t, c, discovery.Capability{Name: "common", Categories: []string{"many"}})
		if i == 7 {
			provide(t, c, discovery.Capability{Name: "rare", Categories: []string{"few"}})
		}
		guards[id].asked = nil
	}
	reader := newClient(t, x, "reader", nil)
	for _, terms := range []discovery.Terms{
		{Capabilities: []string{"common", "rare"}},
		{Capabilities: []string{"rare"}},
		{Categories: []string{"few", "many"}},
		{Capabilities: []string{"common"}, Categories: []string{"few"}},
		{Capabilities: []string{"none"}},
	} {
		_ = find(t, reader, discovery.Criteria{Require: terms})
		for _, id := range slices.Sorted(maps.Keys(guards)) {
			if id != "p7" {
				require.Empty(t, guards[id].asked, "%+v", terms)
			}
		}
	}
}
