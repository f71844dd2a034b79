package store

// Graves remember the last revision of stores that were dropped, so that revisions do
// not go back when a store of the same name is made.
type graves struct {
	names map[string]uint64 // of persistent stores; the backend has the same
	brief map[string]uint64 // of stores in memory
}

// maxGraves bounds the names that are remembered one by one, of each kind.
const maxGraves = 10_000

// others is the name of the grave of all that are no longer remembered one by one. No
// store can have it.
const others = "*"

// of returns after which revision a new store begins.
func (g *graves) of(name string) uint64 {
	return max(g.names[name], g.names[others], g.brief[name], g.brief[others])
}

// dig remembers a store that was dropped, and returns what the backend has to do if it
// was persistent.
func (g *graves) dig(name string, revision uint64, persistent bool) (ops []Op) {
	if !persistent {
		if g.brief == nil {
			g.brief = map[string]uint64{}
		}
		bury(g.brief, name, revision)
		return nil
	}
	lowest := bury(g.names, name, revision)
	ops = []Op{{bucketGraves, name, encodeGrave(name, revision)}}
	if lowest != "" {
		ops = append(ops, Op{bucketGraves, lowest, nil}, Op{bucketGraves, others, encodeGrave(others, g.names[others])})
	}
	return ops
}

// bury adds a grave. If there are too many then, the one with the lowest revision joins
// the others, and its name is returned.
func bury(names map[string]uint64, name string, revision uint64) (lowest string) {
	names[name] = revision
	if len(names) <= maxGraves {
		return ""
	}
	for other, at := range names {
		if other != others && (lowest == "" || at < names[lowest]) {
			lowest = other
		}
	}
	names[others] = max(names[others], names[lowest])
	delete(names, lowest)
	return lowest
}
