package router

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/topic"
)

// A way is what a client knows about sending messages of one type to one plugin:
// whether it may, and where the mailbox is. It is immutable, and holds as long as
// the versions in it do.
type way struct {
	address  *address
	cause    plugbus.Chain
	permit   *plugbus.Permit // of the sender
	topology uint64
	box      *mailbox        // nil if there is none
	peer     *Client         // who handled when the way was found; nil while nobody does
	accept   *plugbus.Permit // of the recipient; nil while nobody handles
	invalid  error           // what is wrong with the type, if anything
	known    bool            // the sender may know of the recipient
}

// A wayTable is a small cache of ways by recipient, type and kind.
type wayTable struct {
	seed maphash.Seed
	ways [64]atomic.Pointer[way]
}

func (t *wayTable) at(to, name string) *atomic.Pointer[way] {
	return &t.ways[(maphash.String(t.seed, to)+maphash.String(t.seed, name))%uint64(len(t.ways))]
}

// holds reports whether w leads to the same place, and all that it says is so.
func (w *way) holds(c *Client, kind Kind, to, name string, cause plugbus.Chain) bool {
	a := w.address
	return a.kind == kind && a.name == name && a.to == to && w.cause == cause &&
		w.topology == c.router.topology.Load() && w.permit.Version == c.guard.Version() &&
		(w.accept == nil || w.accept.Version == w.peer.guard.Version())
}

// way returns the way of messages of a type to a plugin.
func (c *Client) way(kind Kind, to, name string, cause plugbus.Chain) *way {
	if w := c.last.Load(); w != nil && w.holds(c, kind, to, name, cause) {
		return w
	}
	table := c.ways.Load()
	if table == nil {
		table = &wayTable{seed: maphash.MakeSeed()}
		c.ways.Store(table)
	}
	at := table.at(to, name)
	w := at.Load()
	if w == nil || !w.holds(c, kind, to, name, cause) {
		w = c.findWay(kind, to, name, cause)
		if w.invalid != nil || w.permit.Reason == plugbus.ReasonInvalidName {
			return w // It is no name, and may be of any length.
		}
		at.Store(w)
	}
	c.last.Store(w)
	return w
}

func (c *Client) findWay(kind Kind, to, name string, cause plugbus.Chain) *way {
	r := c.router
	w := &way{
		address: &address{from: c.id, to: to, name: name, kind: kind, salt: r.salt}, cause: cause,
		topology: r.topology.Load(), // Before the look: a change after it is noticed.
		invalid:  topic.CheckName(name),
	}
	w.permit = door.Sound(c.guard.PermitVia(cause, plugbus.VerbSend, to), plugbus.VerbSend, to)
	if !w.permit.Allowed() || w.invalid != nil {
		w.address = &address{to: to, name: name, kind: kind} // Not worth keeping more.
		return w
	}
	w.known = c.knows(to)
	r.mu.Lock()
	w.box = r.boxes[to]
	r.mu.Unlock()
	if w.box == nil {
		return w
	}
	if w.peer = w.box.owner(); w.peer != nil {
		w.accept = w.peer.guard.PermitVia(cause, plugbus.VerbReceive, c.id)
	}
	return w
}
