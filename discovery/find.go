package discovery

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
)

// A Match is a plugin that meets criteria.
type Match struct {
	Plugin string

	// Capabilities are what the asker may see of the plugin and what is available,
	// in the order of their names. See [Client.Capability].
	Capabilities []string

	Score   float64 // the sum of Parts; finite
	Parts   Points
	Figures Figures
	Reasons []string // for the score, in words

	// Idempotent says that all capabilities that matter are.
	Idempotent bool

	rank int // the lowest of the capabilities that matter
}

// A Candidate is a plugin that was looked at.
type Candidate struct {
	Match

	// Excluded says why the plugin does not match. It is empty if it does.
	Excluded []string
}

// Find returns the plugins that meet the criteria, the best first. Of a plugin
// that the client may not see there is no trace. The error tells all that is wrong
// with the criteria, and matches [plugbus.ErrInvalid], or is [ErrClosed].
func (c *Client) Find(k Criteria) ([]Match, error) {
	return c.find(k, true)
}

// find is Find, with the reasons or without.
func (c *Client) find(k Criteria, tell bool) ([]Match, error) {
	findings, err := c.search(k, false, tell)
	if err != nil {
		return nil, err
	}
	matches := make([]Match, len(findings))
	for i, f := range findings {
		matches[i] = f.Match
	}
	return matches, nil
}

// Providers returns the plugins that provide a capability, the best first. If the
// client may not discover the name, the error is a [*plugbus.DeniedError], whether
// somebody provides it or not. It may be [ErrClosed].
func (c *Client) Providers(capability string) ([]Match, error) {
	return c.resolve(capability, CallOptions{}, true)
}

// Resolve is Providers for whoever carries a call: by the terms of its options,
// and without Reasons, which take longer than all else. The order is that in which
// to try them. The error is as that of Providers, or matches [plugbus.ErrInvalid].
func (c *Client) Resolve(capability string, o CallOptions) ([]Match, error) {
	return c.resolve(capability, o, false)
}

func (c *Client) resolve(capability string, o CallOptions, tell bool) ([]Match, error) {
	if c.hasEnded() {
		return nil, c.closed()
	}
	if r := c.own(capability); r == nil {
		act := c.act(plugbus.VerbDiscover, capability)
		if _, refusal := door.Check(c.index.clock, &act, &door.Parcel{}); refusal != nil {
			return nil, c.guard.Refuse(*refusal)
		}
	}
	o.Require.Capabilities = append(slices.Clone(o.Require.Capabilities), capability)
	return c.find(Criteria{Require: o.Require, Prefer: o.Prefer}, tell)
}

// Candidates returns every plugin of which the client sees anything, with its
// score: first those that match, as Find returns them, and then the others, with
// the reasons. The limit of the criteria is for both together. The error is as
// that of Find.
func (c *Client) Candidates(k Criteria) ([]Candidate, error) {
	findings, err := c.search(k, true, true)
	if err != nil {
		return nil, err
	}
	candidates := make([]Candidate, len(findings))
	for i, f := range findings {
		candidates[i] = Candidate{f.Match, f.faults}
	}
	return candidates, nil
}

func (c *Client) closed() error {
	return fmt.Errorf("plugin %q looks for capabilities: %w", c.id, ErrClosed)
}

// search examines whoever may match, or everybody if it is to explain, and
// returns the best, with the reasons for their scores if it is to tell.
func (c *Client) search(k Criteria, explain, tell bool) ([]*finding, error) {
	q, err := newQuery(k)
	if err != nil {
		return nil, fmt.Errorf("plugin %q looks for capabilities: %w", c.id, err)
	}
	if c.hasEnded() {
		return nil, c.closed()
	}
	s := c.sight()
	s.may = map[string]bool{}
	var findings []*finding
	for _, p := range c.index.providers(q, explain) {
		if f := q.examine(s, p.client, p.records, explain); f != nil {
			findings = append(findings, f)
		}
	}
	slices.SortFunc(findings, func(a, b *finding) int {
		return cmp.Or(
			cmp.Compare(min(len(a.faults), 1), min(len(b.faults), 1)),
			cmp.Compare(b.Score, a.Score),
			cmp.Compare(b.rank, a.rank),
			cmp.Compare(a.Plugin, b.Plugin),
		)
	})
	findings = findings[:min(len(findings), q.Limit)]
	for _, f := range findings {
		if !tell {
			break
		}
		f.telling = true
		q.score(f, &c.index.opts.Weights)
	}
	return findings, nil
}

// A provider is a client and what it provides at one moment.
type provider struct {
	client  *Client
	records []*record
}

// providers returns the clients that a query has to look at: those of the
// rarest name that it requires, or all.
func (x *Index) providers(q *query, all bool) []provider {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var rarest map[*Client]int
	narrowed := false
	narrow := func(names []string, by postings) {
		for _, name := range names {
			if having := by[name]; !narrowed || len(having) < len(rarest) {
				rarest, narrowed = having, true
			}
		}
	}
	if !all {
		narrow(q.Require.Capabilities, x.byName)
		narrow(q.Require.Categories, x.byCategory)
	}
	var found []provider
	add := func(c *Client) {
		if len(c.records) > 0 {
			found = append(found, provider{c, c.records})
		}
	}
	if narrowed {
		found = make([]provider, 0, len(rarest))
		for c := range rarest {
			add(c)
		}
		return found
	}
	for _, c := range x.clients {
		add(c)
	}
	return found
}
