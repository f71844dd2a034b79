package discovery_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/discovery"
)

// A world is an index, and beside it a plain map of what is provided, which is
// scanned for each query.
type world struct {
	index   *discovery.Index
	clients map[string]*discovery.Client
	guards  map[string]*rules
	records map[string]map[string]discovery.Capability
	closed  map[string]string // why what is unavailable, by provider and name
}

var (
	worldIDs        = []string{"a", "b", "c", "d"}
	worldNames      = []string{"pdf", "ps", "svg"}
	worldCategories = []string{"x", "y", "z"}
)

func (w *world) sees(asker, provider string, c discovery.Capability) bool {
	if asker == provider {
		return true
	}
	return !slices.Contains(c.Denied, asker) && (len(c.Allowed) == 0 || slices.Contains(c.Allowed, asker)) &&
		!w.guards[asker].denied["discover "+c.Name] && !w.guards[provider].denied["provide "+c.Name]
}

// scan finds without an index.
func (w *world) scan(asker string, k discovery.Criteria) []string {
	type match struct {
		id    string
		score float64
		rank  int
	}
	var matches []match
	for id, records := range w.records {
		visible := map[string]discovery.Capability{}
		for name, c := range records {
			if w.sees(asker, id, c) && w.closed[id+" "+name] == "" {
				visible[name] = c
			}
		}
		matter := visible
		if len(k.Require.Capabilities) > 0 {
			matter = map[string]discovery.Capability{}
			for _, name := range k.Require.Capabilities {
				if c, ok := visible[name]; ok {
					matter[name] = c
				}
			}
		}
		m := match{id: id, rank: 1 << 30}
		categories := map[string]bool{}
		reliability, known, affordable := 1.0, true, true
		for _, c := range matter {
			for _, category := range c.Categories {
				categories[category] = true
			}
			m.rank = min(m.rank, c.Rank)
			if c.Reliability == nil {
				known = false
			} else {
				reliability = min(reliability, *c.Reliability)
			}
			if limit := k.Require.MaxCost; limit != nil && (c.Cost == nil && !k.AllowUnknown || c.Cost != nil && *c.Cost > *limit) {
				affordable = false
			}
		}
		required := map[string]bool{}
		for _, name := range k.Require.Capabilities {
			required[name] = true
		}
		if len(matter) == 0 || len(matter) < len(required) || !affordable {
			continue
		}
		if slices.ContainsFunc(k.Require.Categories, func(name string) bool { return !categories[name] }) {
			continue
		}
		if len(required) > 0 {
			m.score += 50
		}
		asked := map[string]bool{}
		for _, name := range slices.Concat(k.Require.Categories, k.Prefer.Categories) {
			if !asked[name] && categories[name] {
				m.score += 10
			}
			asked[name] = true
		}
		if known {
			m.score += 10 * reliability
		}
		preferred := map[string]bool{}
		for _, name := range k.Prefer.Capabilities {
			if _, ok := visible[name]; ok && !preferred[name] {
				m.score += 10
			}
			preferred[name] = true
		}
		matches = append(matches, m)
	}
	slices.SortFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.rank, a.rank), cmp.Compare(a.id, b.id))
	})
	got := make([]string, len(matches))
	for i, m := range matches {
		got[i] = fmt.Sprintf("%s %v", m.id, m.score)
	}
	return got
}

// TestIndexModel compares the index with a scan of all records, with whatever is
// provided, withdrawn, denied and unavailable at the moment (V2, V3).
func TestIndexModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &world{clients: map[string]*discovery.Client{}, guards: map[string]*rules{}, records: map[string]map[string]discovery.Capability{}, closed: map[string]string{}}
		var err error
		w.index, err = discovery.New(discovery.Options{Availability: func(_, provider, name string) string { return w.closed[provider+" "+name] }})
		require.NoError(t, err)
		join := func(id string) {
			w.guards[id] = newRules(id)
			w.clients[id], err = w.index.Client(id, discovery.ClientOptions{Guard: w.guards[id]})
			require.NoError(t, err)
			w.records[id] = map[string]discovery.Capability{}
		}
		for _, id := range worldIDs {
			join(id)
		}
		some := func(t *rapid.T, of []string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(of), 0, 3).Draw(t, "some")
		}
		figure := func(t *rapid.T) *float64 {
			return rapid.SampledFrom([]*float64{nil, new(0.0), new(0.5), new(1.0)}).Draw(t, "figure")
		}
		one := func(t *rapid.T, of []string) string { return rapid.SampledFrom(of).Draw(t, "one") }
		t.Repeat(map[string]func(*rapid.T){
			"provide": func(t *rapid.T) {
				id := one(t, worldIDs)
				c := discovery.Capability{
					Name: one(t, worldNames), Categories: some(t, worldCategories), Rank: rapid.IntRange(0, 1).Draw(t, "rank"),
					Cost: figure(t), Reliability: figure(t), Allowed: some(t, worldIDs),
				}
				if rapid.IntRange(0, 3).Draw(t, "deny") == 0 {
					c.Denied = some(t, worldIDs)
				}
				err := w.clients[id].Provide(c)
				require.Equal(t, w.guards[id].denied["provide "+c.Name], err != nil)
				if err == nil {
					w.records[id][c.Name] = c
				}
			},
			"withdraw": func(t *rapid.T) {
				id, name := one(t, worldIDs), one(t, worldNames)
				_, has := w.records[id][name]
				require.Equal(t, has, w.clients[id].Withdraw(name) == nil)
				delete(w.records[id], name)
			},
			"rejoin": func(t *rapid.T) {
				id := one(t, worldIDs)
				w.clients[id].Close()
				join(id)
			},
			"right": func(t *rapid.T) {
				act := one(t, []string{"provide ", "discover "}) + one(t, worldNames)
				if guard := w.guards[one(t, worldIDs)]; guard.denied[act] {
					guard.allow(act)
				} else {
					guard.deny(act)
				}
			},
			"availability": func(t *rapid.T) {
				w.closed[one(t, worldIDs)+" "+one(t, worldNames)] = one(t, []string{"", "", "draining"})
			},
			"": func(t *rapid.T) {
				asker := one(t, worldIDs)
				k := discovery.Criteria{
					Require:      discovery.Terms{Capabilities: some(t, worldNames), MaxCost: figure(t)},
					Prefer:       discovery.Terms{Capabilities: some(t, worldNames), Categories: some(t, worldCategories)},
					AllowUnknown: rapid.Bool().Draw(t, "unknown"),
				}
				if rapid.Bool().Draw(t, "category") {
					k.Require.Categories = []string{one(t, worldCategories)}
				}
				matches, err := w.clients[asker].Find(k)
				require.NoError(t, err)
				got := make([]string, len(matches))
				for i, m := range matches {
					got[i] = fmt.Sprintf("%s %v", m.Plugin, m.Score)
				}
				require.Equal(t, w.scan(asker, k), got)

				candidates, err := w.clients[asker].Candidates(k)
				require.NoError(t, err)
				matching := 0
				for _, c := range candidates {
					if len(c.Excluded) == 0 {
						require.Equal(t, matches[matching], c.Match)
						matching++
					}
				}
				require.Len(t, matches, matching)

				count := 0
				for id, records := range w.records {
					count += len(records)
					for _, name := range worldNames {
						c, has := records[name]
						require.Equal(t, has && w.sees(asker, id, c), w.clients[asker].MayCall(id, name))
					}
				}
				var provided []string
				for _, r := range w.index.Snapshot() {
					provided = append(provided, r.Plugin+" "+r.Capability.Name)
				}
				require.Len(t, provided, count)
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
