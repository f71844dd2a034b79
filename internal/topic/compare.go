package topic

import "strings"

// Subset reports whether q matches every valid name that p matches. The answer
// is exact: it knows the hub's own names and the limits of names. Patterns of
// keys are compared by the keys that they match. A pattern of names and one of
// keys have nothing in common.
func Subset(p, q Pattern) bool {
	switch {
	case p.s == "":
		return true
	case q.s == "" || p.key != q.key || q.lead && Reserved(p.s):
		return false
	}
	for i, j := 0, 0; ; {
		a, b := p.s[i:tokenEnd(p.s, i)], q.s[j:tokenEnd(q.s, j)]
		i += len(a)
		j += len(b)
		switch {
		case b == "**":
			return true
		case a == "**":
			return b == "*" && j == len(q.s) && p.full
		case b != "*" && a != b:
			return false
		case i == len(p.s) || j == len(q.s):
			return i == len(p.s) && j == len(q.s)
		case p.s[i] != q.s[j]:
			return false
		}
		i++
		j++
	}
}

// Overlap reports whether p and q both match some valid name. It is as exact
// as [Subset].
func Overlap(p, q Pattern) bool {
	if p.s == "" || q.s == "" || p.key != q.key || q.lead && Reserved(p.s) || p.lead && Reserved(q.s) {
		return false
	}
	limit := MaxBytes
	if p.key {
		limit = MaxKeyBytes
	}
	size := 0 // of the shortest beginning of a name that both match
	for i, j := 0, 0; ; {
		a, b := p.s[i:tokenEnd(p.s, i)], q.s[j:tokenEnd(q.s, j)]
		switch {
		case a == "**":
			return size+shortest(q.s[j:], p.key) <= limit
		case b == "**":
			return size+shortest(p.s[i:], p.key) <= limit
		case a != b && a != "*" && b != "*":
			return false
		}
		size += max(shortest(a, p.key), shortest(b, p.key))
		i += len(a)
		j += len(b)
		switch {
		case i == len(p.s) || j == len(q.s):
			return i == len(p.s) && j == len(q.s) && size <= limit
		case p.s[i] != q.s[j]:
			return false
		}
		i++
		j++
		size++
	}
}

// shortest returns the length of the shortest string that some tokens of a
// pattern match. A wildcard stands for one byte or, in a key, for none.
func shortest(tokens string, key bool) int {
	switch {
	case key:
		return len(tokens) - strings.Count(tokens, "*")
	case strings.HasSuffix(tokens, "**"):
		return len(tokens) - 1
	}
	return len(tokens)
}
