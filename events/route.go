package events

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
)

// A route is what the bus knows about the events of one name by one client:
// whether the door lets them in, and where they go. It is immutable, and holds
// as long as the policy and the topology stay as they are.
type route struct {
	origin   *origin
	permit   *plugbus.Permit
	topology uint64

	logs     []*log          // that have followers
	queued   []*Subscription // that have a queue of their own
	catching []*Subscription // that still read the history

	followers int // of logs
	known     int // followers that the emitter may know of
}

// A routeTable remembers routes by name. Names that meet in one place push each
// other out, so it is bounded by itself.
type routeTable struct {
	seed   maphash.Seed
	routes [64]atomic.Pointer[route]
}

func (t *routeTable) at(name string) *atomic.Pointer[route] {
	return &t.routes[maphash.String(t.seed, name)%uint64(len(t.routes))]
}

// route returns the route for a name, which holds at this moment. bus.mu is not
// held.
func (c *Client) route(name string) *route {
	version := c.guard.Version()
	if r := c.last.Load(); r != nil && r.origin.name == name && r.origin.version == version {
		return r
	}
	table := c.routes.Load()
	if table == nil {
		table = &routeTable{seed: maphash.MakeSeed()}
		c.routes.Store(table)
	}
	r := table.at(name).Load()
	if r == nil || r.origin.name != name || r.origin.version != version {
		r = c.newRoute(plugbus.VerbEmit, name)
		table.at(name).Store(r)
	}
	c.last.Store(r)
	return r
}

// newRoute asks whether the door lets in the events of a name.
func (c *Client) newRoute(verb plugbus.Verb, name string) *route {
	permit := c.guard.Permit(verb, name)
	return &route{
		permit: door.Sound(permit, verb, name),
		origin: &origin{name: name, source: c.id, salt: c.bus.salt, version: permit.Version},
	}
}

// lead returns r with the ways of the present topology. bus.mu is held.
func (c *Client) lead(r *route) *route {
	b := c.bus
	led := &route{origin: r.origin, permit: r.permit, topology: b.topology}
	for _, l := range b.index.Append(nil, r.origin.name) {
		if n := len(l.followers); n > 0 {
			led.logs = append(led.logs, l)
			led.followers += n
		}
		led.queued = append(led.queued, l.queued...)
		led.catching = append(led.catching, l.catching...)
	}
	for _, l := range led.logs {
		for id, n := range l.readers {
			if c.knows(id) {
				led.known += n
			}
		}
	}
	if c.routes.Load() != nil {
		c.routes.Load().at(r.origin.name).Store(led)
	}
	c.last.Store(led)
	return led
}

// knows reports whether the client may know of another plugin, and so whether
// receipts count what that one gets.
func (c *Client) knows(id string) bool { return id == c.id || c.guard.Knows(id) }
