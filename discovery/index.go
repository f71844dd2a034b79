package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/Masterminds/semver/v3"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/internal/topic"
)

// Options configure an [Index]. The zero value is ready to use.
type Options struct {
	// Weights are the points that the parts of a score are worth, each 0 to 1
	// million. If all are zero, they are those of DefaultWeights.
	Weights Points

	// MaxCapabilities bounds the capabilities of all clients together. If zero, it
	// is 100,000; at most 10 million.
	MaxCapabilities int

	// Window is how many calls of one capability of one provider measured figures
	// look back, 1 to 10,000. One caller has at most a quarter of them. If zero, it
	// is 100.
	Window int

	// MinSamples is how many calls it takes for measured figures to replace
	// declared ones, 1 to Window. If zero, it is 20, or Window if that is less.
	MinSamples int

	// Availability says why a capability is not available, in a word such as
	// "draining"; "" means that it is. It runs without a lock, in the call of the
	// asker, and must not block. If nil, all capabilities are available.
	Availability func(asker, provider, capability string) string

	// Clock is the hub's. If nil, the index has its own.
	Clock *clock.Clock
}

// An Index knows what its clients provide.
type Index struct {
	opts  Options
	clock *clock.Clock

	mu         sync.RWMutex // guards below
	clients    map[string]*Client
	byName     postings
	byCategory postings
	count      int // of capabilities
	revision   uint64
}

// New returns an index without clients.
func New(o Options) (*Index, error) {
	m := mistakes{what: "options"}
	if o.Weights == (Points{}) {
		o.Weights = DefaultWeights()
	}
	for _, w := range o.Weights.all() {
		within(&m, "Weights."+w.name, w.points, 0, 1e6)
	}
	counts := limits.List{Fault: m.fault}
	o.MaxCapabilities = limits.Within(&counts, "MaxCapabilities", o.MaxCapabilities, 100_000, 1, 10_000_000)
	o.Window = limits.Within(&counts, "Window", o.Window, 100, 1, 10_000)
	o.MinSamples = limits.Within(&counts, "MinSamples", o.MinSamples, min(20, o.Window), 1, o.Window)
	if err := errors.Join(m.err(), counts.Err()); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	return &Index{opts: o, clock: o.Clock, clients: map[string]*Client{}, byName: postings{}, byCategory: postings{}}, nil
}

// ClientOptions configure a [Client]. The zero value allows everything.
type ClientOptions struct {
	// Guard decides what the client may do. If nil, it may do everything.
	Guard plugbus.Guard

	// Version is that of the plugin. If it is one of SemVer 2.0, it is that of its
	// capabilities which declare none.
	Version string

	// Held makes a client that is to take the place of the one with its id, by
	// [Client.Succeed]. It can do everything at once; but others do not find what it
	// provides until then. All that it provides counts toward the limits at once.
	Held bool

	// MaxCapabilities bounds what the client provides. If zero, it is 256; if
	// negative, the client may provide nothing.
	MaxCapabilities int

	// MaxBytes bounds the texts of all that the client provides. If zero, it is
	// 4 MiB; if negative, no text may be longer than nothing.
	MaxBytes int
}

// Client returns the handle of a new plugin. It is an error if the id is not one
// ASCII token, or is in use; or, with ClientOptions.Held, if it is not. A reused id
// inherits nothing.
func (x *Index) Client(id string, o ClientOptions) (*Client, error) {
	if err := topic.CheckID(id); err != nil {
		return nil, fmt.Errorf("discovery: new client: %w", err)
	}
	c := &Client{
		index: x, id: id, guard: o.Guard,
		quota: max(0, cmp.Or(o.MaxCapabilities, 256)), maxBytes: max(0, cmp.Or(o.MaxBytes, 4<<20)),
		windows: map[string]*window{},
	}
	if c.guard == nil {
		c.guard = door.Open(id)
	}
	c.version, _ = semver.StrictNewVersion(o.Version) // Versions of plugins are for people: nil if it is none.
	x.mu.Lock()
	defer x.mu.Unlock()
	_, taken := x.clients[id]
	switch {
	case o.Held && !taken:
		return nil, fmt.Errorf("discovery: new client: nobody has the id %q, so there is no place to hold a client for; leave ClientOptions.Held unset: %w", id, plugbus.ErrInvalid)
	case o.Held:
		c.held = true
		return c, nil
	case taken:
		return nil, fmt.Errorf("discovery: new client: the id %q is in use; a client must leave before its id joins again: %w", id, plugbus.ErrInvalid)
	}
	c.listed = true
	x.clients[id] = c
	return c, nil
}

// Observe takes account of how a call ended. What is not provided, and calls of a
// plugin to itself, do not count.
func (x *Index) Observe(s Sample) {
	if r := x.record(s.Provider, s.Capability); r != nil {
		r.observe(s)
	}
}

// Observe is [Index.Observe] for a call that the client itself has handled, whoever
// provides the capability as its id by now.
func (c *Client) Observe(s Sample) {
	s.Provider = c.id
	if r := c.own(s.Capability); r != nil {
		r.observe(s)
	}
}

func (r *record) observe(s Sample) {
	if s.Caller != s.Provider {
		r.window.observe(s, r.client.index.opts.Window)
	}
}

// A Record is what the host may see of a capability: everything.
type Record struct {
	Plugin     string
	Capability Capability
	Revision   uint64 // grows with each change of the index
	Figures    Figures
}

// Snapshot returns all that is provided, by plugin and name.
func (x *Index) Snapshot() []Record {
	x.mu.RLock()
	var records []*record
	for _, c := range x.clients {
		records = append(records, c.records...)
	}
	x.mu.RUnlock()
	all := make([]Record, len(records))
	for i, r := range records {
		all[i] = Record{r.client.id, r.Clone(), r.revision, r.figures(x.opts.MinSamples)}
	}
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Capability.Name, b.Capability.Name))
	})
	return all
}

// record returns what a plugin provides under a name, or nil.
func (x *Index) record(provider, name string) *record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c := x.clients[provider]; c != nil {
		return c.record(name)
	}
	return nil
}

// put makes r, or nothing if r is nil, what its client provides under a name.
// All of the index changes here. x.mu is held.
func (x *Index) put(c *Client, name string, r *record) {
	x.revision++
	at, found := c.place(name)
	records := slices.Clone(c.records) // Queries may be reading them.
	if found {
		old := records[at]
		records = slices.Delete(records, at, at+1)
		x.count--
		c.bytes -= old.bytes
		x.unlist(old)
	}
	if r != nil {
		r.revision = x.revision
		records = slices.Insert(records, at, r)
		x.count++
		c.bytes += r.bytes
		x.list(r)
	}
	c.records = records
}

// list lets others find a record, if its client is listed. x.mu is held.
func (x *Index) list(r *record) {
	if !r.client.listed {
		return
	}
	x.byName.add(r.Name, r.client)
	for _, category := range r.Categories {
		x.byCategory.add(category, r.client)
	}
}

// unlist undoes list. x.mu is held.
func (x *Index) unlist(r *record) {
	if !r.client.listed {
		return
	}
	x.byName.remove(r.Name, r.client)
	for _, category := range r.Categories {
		x.byCategory.remove(category, r.client)
	}
}

// recordFor is record for a client that asks: of its own id it sees what it provides
// itself.
func (x *Index) recordFor(asker *Client, provider, name string) *record {
	if provider == asker.id {
		return asker.own(name)
	}
	return x.record(provider, name)
}

// postings say under each name how many capabilities of which clients have it.
type postings map[string]map[*Client]int

func (p postings) add(name string, c *Client) {
	if p[name] == nil {
		p[name] = map[*Client]int{}
	}
	p[name][c]++
}

func (p postings) remove(name string, c *Client) {
	if p[name][c]--; p[name][c] > 0 {
		return
	}
	if delete(p[name], c); len(p[name]) == 0 {
		delete(p, name)
	}
}
