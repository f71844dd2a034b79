// Package chain records which plugins led to an act.
package chain

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
)

// A Chain is a path of plugins, from the one that acted by itself to the one
// that acts now. It is a value of one word; the zero Chain is empty.
type Chain struct{ last *node }

type node struct {
	before *node
	plugin string
	depth  int

	// awaited says that the plugin waits for what this act leads to, in by: nil
	// for its worker.
	awaited bool
	by      any

	// also are plugins of other chains that may have led here, see Join.
	also []string
}

// Depth returns how many plugins are on the chain.
func (c Chain) Depth() int {
	if c.last == nil {
		return 0
	}
	return c.last.depth
}

// Last returns the plugin that acts now, or "" for the empty chain.
func (c Chain) Last() string {
	if c.last == nil {
		return ""
	}
	return c.last.plugin
}

// Has reports whether the plugin is on the chain.
func (c Chain) Has(plugin string) bool {
	for n := c.last; n != nil; n = n.before {
		if n.plugin == plugin {
			return true
		}
	}
	return false
}

// Plugins returns the ids on the chain, the first actor first.
func (c Chain) Plugins() []string {
	ids := make([]string, c.Depth())
	for n := c.last; n != nil; n = n.before {
		ids[n.depth-1] = n.plugin
	}
	return ids
}

// String joins the plugins with arrows.
func (c Chain) String() string { return strings.Join(c.Plugins(), " → ") }

// Then returns the chain that goes on with plugin. It allocates.
func (c Chain) Then(plugin string) Chain {
	return Chain{&node{before: c.last, plugin: plugin, depth: c.Depth() + 1}}
}

// Await is Then for an act that plugin waits for. If it waits in a handler, by
// says where: nil on its worker, and otherwise in one of the handlers that by,
// which can be compared, runs beside it.
func (c Chain) Await(plugin string, by any) Chain {
	return Chain{&node{before: c.last, plugin: plugin, depth: c.Depth() + 1, awaited: true, by: by}}
}

// Waiting returns how many times plugin waits, in by, for what the chain has led
// to: only the acts at its end that are awaited count, since whoever did not wait
// for an act waits for nothing after it.
func (c Chain) Waiting(plugin string, by any) (n int) {
	for at := c.last; at != nil && at.awaited; at = at.before {
		if at.plugin == plugin && at.by == by {
			n++
		}
	}
	return n
}

// Deeper returns the deeper of two chains, c where they are equally deep.
func Deeper(c, other Chain) Chain {
	if other.Depth() > c.Depth() {
		return other
	}
	return c
}

// maxAlso bounds what Join notes at one place of a chain.
const maxAlso = 64

// Join returns c, to which the plugins of other may have led as well: they count for
// [Chain.Led], and for nothing else. Where they are too many, "" stands for them.
func Join(c, other Chain) Chain {
	if c.last == nil {
		return other
	}
	known := c.Led()
	var also []string
	for _, id := range other.Led() {
		if !slices.Contains(known, id) && !slices.Contains(also, id) {
			also = append(also, id)
		}
	}
	if len(also) == 0 {
		return c
	}
	last := *c.last
	if last.also = append(slices.Clip(last.also), also...); len(last.also) > maxAlso {
		last.also = []string{""}
	}
	return Chain{&last}
}

// Led returns the plugins that led here, or may have: those on the chain, and those
// joined to it.
func (c Chain) Led() []string {
	ids := c.Plugins()
	for n := c.last; n != nil; n = n.before {
		ids = append(ids, n.also...)
	}
	return ids
}

// Key is the only key of a handler's context: its value is a Chain.
type Key struct{}

// From returns the chain that ctx carries, or the empty one.
func From(ctx context.Context) Chain {
	if ctx == nil {
		return Chain{}
	}
	c, _ := ctx.Value(Key{}).(Chain)
	return c
}

// A Cell holds a chain that several goroutines read and write. Its zero value
// holds the empty chain.
type Cell struct{ last atomic.Pointer[node] }

// Load returns the chain.
func (c *Cell) Load() Chain { return Chain{c.last.Load()} }

// Store replaces the chain.
func (c *Cell) Store(to Chain) { c.last.Store(to.last) }
