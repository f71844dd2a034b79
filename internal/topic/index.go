package topic

import (
	"maps"
	"strings"
)

// An Index holds values under patterns, and finds those whose pattern matches
// a name. The zero Index is empty and ready to use. It is not safe for
// concurrent use, but for calls of Append and Len alone.
//
// It is a tree with one level for each token. A look-up follows, at each token
// of the name, the token itself and "*"; so it costs what the name's tokens
// cost, once for each way in which the patterns put "*" in place of them.
// Patterns that do not begin like the name cost nothing. Whoever lets strangers
// add patterns limits their [Pattern.Wildcards].
type Index[V comparable] struct {
	free  node[V] // patterns of names that begin with a wildcard
	named node[V] // the other patterns of names
	keys  node[V] // patterns of keys
	size  int
}

// Add puts v under p. A value may stand under several patterns, and stands
// under each of them once.
func (x *Index[V]) Add(p Pattern, v V) {
	n := x.root(p)
	for from, start := 0, 0; from < len(p.s); {
		end := tokenEnd(p.s, start)
		n = n.grow(p.s[from:end])
		from, start = end, end+1
	}
	if n.values.add(v) {
		x.size++
	}
}

// Remove takes v from p, frees what is no longer needed, and reports whether v
// stood there.
func (x *Index[V]) Remove(p Pattern, v V) bool {
	if !x.root(p).remove(p.s, 0, 0, v) {
		return false
	}
	x.size--
	return true
}

// Append appends to dst the values whose patterns match name, and returns the
// extended slice. A value is appended once for each of its patterns that
// matches. The order depends only on what was added and removed, and in which
// order; a caller that needs another order sorts.
//
// It allocates only if dst has no room.
func (x *Index[V]) Append(dst []V, name string) []V {
	if name == "" {
		return dst
	}
	dst = x.named.appendTo(dst, name, 0, 0)
	if !x.free.empty() && !Reserved(name) {
		dst = x.free.appendTo(dst, name, 0, 0)
	}
	return x.keys.appendTo(dst, name, 0, 0)
}

// Len returns how many values there are, each counted once for each of its
// patterns.
func (x *Index[V]) Len() int { return x.size }

func (x *Index[V]) root(p Pattern) *node[V] {
	switch {
	case p.key:
		return &x.keys
	case p.lead:
		return &x.free
	}
	return &x.named
}

// A node stands for the tokens that lead to it. An edge is a token and the
// separator before it, such as ".b"; the first token has none.
type node[V comparable] struct {
	literal map[string]*node[V] // by edge
	peak    int                 // of len(literal), since literal was made
	wild    *[6]*node[V]        // by wildcard; nil if all are
	values  set[V]              // of the pattern that ends here
}

func (n *node[V]) empty() bool {
	return len(n.literal) == 0 && n.wild == nil && len(n.values.list) == 0
}

// appendTo appends the values below n that match name from the byte from on,
// which is a separator unless nothing comes before it. The token begins at
// start.
func (n *node[V]) appendTo(dst []V, name string, from, start int) []V {
	if start > len(name) {
		return append(dst, n.values.list...)
	}
	end := tokenEnd(name, start)
	if next := n.literal[name[from:end]]; next != nil {
		dst = next.appendTo(dst, name, end, end+1)
	}
	if n.wild == nil {
		return dst
	}
	one := separatorIndex(name[from:start])
	if next := n.wild[one]; next != nil {
		dst = next.appendTo(dst, name, end, end+1)
	}
	if rest := n.wild[one+3]; rest != nil {
		dst = append(dst, rest.values.list...)
	}
	return dst
}

// child returns the node at the end of a pattern's edge, or nil.
func (n *node[V]) child(edge string) *node[V] {
	i, ok := wildcard(edge)
	switch {
	case !ok:
		return n.literal[edge]
	case n.wild == nil:
		return nil
	}
	return n.wild[i]
}

// grow returns the node at the end of a pattern's edge, which it makes if
// there is none.
func (n *node[V]) grow(edge string) *node[V] {
	next := n.child(edge)
	if next != nil {
		return next
	}
	next = new(node[V])
	if i, ok := wildcard(edge); ok {
		if n.wild == nil {
			n.wild = new([6]*node[V])
		}
		n.wild[i] = next
		return next
	}
	if n.literal == nil {
		n.literal = make(map[string]*node[V])
	}
	n.literal[edge] = next
	n.peak = max(n.peak, len(n.literal))
	return next
}

// remove takes v from the pattern, whose tokens from the byte from on lead on
// from n, and cuts the branch that is then empty.
func (n *node[V]) remove(pattern string, from, start int, v V) bool {
	if from == len(pattern) {
		return n.values.remove(v)
	}
	end := tokenEnd(pattern, start)
	edge := pattern[from:end]
	next := n.child(edge)
	if next == nil || !next.remove(pattern, end, end+1, v) {
		return false
	}
	if next.empty() {
		n.cut(edge)
	}
	return true
}

func (n *node[V]) cut(edge string) {
	if i, ok := wildcard(edge); ok {
		n.wild[i] = nil
		if *n.wild == [6]*node[V]{} {
			n.wild = nil
		}
		return
	}
	delete(n.literal, edge)
	if len(n.literal) > n.peak/4 {
		return
	}
	// A map does not shrink, so what is left of a large one moves.
	n.peak = len(n.literal)
	if n.peak == 0 {
		n.literal = nil
		return
	}
	moved := make(map[string]*node[V], n.peak)
	maps.Copy(moved, n.literal)
	n.literal = moved
}

// wildcard returns the place of a pattern's edge among the wildcards of a
// node: "*" by the separator before it, then "**" likewise.
func wildcard(edge string) (int, bool) {
	switch {
	case strings.HasSuffix(edge, "**"):
		return separatorIndex(edge) + 3, true
	case strings.HasSuffix(edge, "*"):
		return separatorIndex(edge), true
	}
	return 0, false
}

// separatorIndex numbers the separator that s begins with. The first token of
// a name has none, and may share a number since no other edge leaves a root.
func separatorIndex(s string) int {
	switch {
	case strings.HasPrefix(s, ":"):
		return 1
	case strings.HasPrefix(s, "/"):
		return 2
	}
	return 0
}
