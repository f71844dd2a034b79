package security

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A suggestion says what may have been meant by a key that is not known. It is
// found only when it is written.
type suggestion struct {
	key   string
	known map[string]int
}

func (s suggestion) String() string {
	names := slices.Sorted(maps.Keys(s.known))
	if name := nearest(s.key, names); name != "" {
		return fmt.Sprintf("did you mean %q?", name)
	}
	return fmt.Sprintf("expected one of %q", names)
}

// nearest returns the name that is most like s, or "" if none is: more than two
// slips are another word.
func nearest(s string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if strings.EqualFold(s, name) {
			return name
		}
		if d := distance(s, name); d < least && d < len(name) {
			best, least = name, d
		}
	}
	return best
}

// distance returns how many bytes must be put in, left out, replaced or
// swapped with their neighbour to make a from b.
func distance(a, b string) int {
	const far = 1 << 10
	if d := len(a) - len(b); d > 2 || d < -2 {
		return far
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
