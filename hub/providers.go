package hub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// A providers knows which capabilities each plugin provides. Looking takes no lock,
// since security looks in the middle of an act.
type providers struct {
	changes atomic.Uint32 // how often it has changed

	mu     sync.Mutex // of those who change it
	byName atomic.Pointer[map[string][]string]
}

// of returns the capabilities of a plugin. The caller does not change them.
func (p *providers) of(id string) []string {
	if all := p.byName.Load(); all != nil {
		return (*all)[id]
	}
	return nil
}

func (p *providers) has(id, name string) bool { return slices.Contains(p.of(id), name) }

func (p *providers) add(id, name string) {
	p.change(id, func(names []string) []string {
		if slices.Contains(names, name) {
			return names
		}
		return append(slices.Clip(names), name)
	})
}

func (p *providers) remove(id, name string) {
	p.change(id, func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name })
	})
}

// replace makes names what a plugin provides, and returns what it provided before.
func (p *providers) replace(id string, names []string) (had []string) {
	p.change(id, func(before []string) []string {
		had = before
		return slices.Clone(names)
	})
	return had
}

// forget removes all that a plugin provides, and returns it.
func (p *providers) forget(id string) (had []string) {
	p.change(id, func(names []string) []string {
		had = names
		return nil
	})
	return had
}

func (p *providers) change(id string, change func([]string) []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string][]string{}
	if old := p.byName.Load(); old != nil {
		all = maps.Clone(*old)
	}
	before := all[id]
	names := change(before)
	if slices.Equal(names, before) {
		return
	}
	if all[id] = names; len(names) == 0 {
		delete(all, id)
	}
	p.byName.Store(&all)
	p.changes.Add(1) // After it, so that nothing that was known before holds any more.
}
