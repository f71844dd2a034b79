package topic

import "slices"

// A set is a list without duplicates. A large one knows where each value is,
// so that a pattern under which everybody stands costs no more than others.
type set[V comparable] struct {
	list []V
	at   map[V]int // where each value is in list; nil in a small set
}

// small is how many values are found by looking at all of them.
const small = 16

// add reports whether v was not there yet.
func (s *set[V]) add(v V) bool {
	if s.index(v) >= 0 {
		return false
	}
	s.list = append(s.list, v)
	switch {
	case s.at != nil:
		s.at[v] = len(s.list) - 1
	case len(s.list) > small:
		s.locate()
	}
	return true
}

// remove reports whether v was there. The last value takes its place.
func (s *set[V]) remove(v V) bool {
	i := s.index(v)
	if i < 0 {
		return false
	}
	last := len(s.list) - 1
	if last == 0 {
		*s = set[V]{}
		return true
	}
	moved := s.list[last]
	s.list[i] = moved
	clear(s.list[last:]) // so that the value can be collected
	s.list = s.list[:last]
	if s.at != nil {
		s.at[moved] = i
		delete(s.at, v)
	}
	if cap(s.list) > small && len(s.list) <= cap(s.list)/4 {
		s.list = slices.Clone(s.list)
		s.locate()
	}
	return true
}

func (s *set[V]) index(v V) int {
	if s.at == nil {
		return slices.Index(s.list, v)
	}
	if i, ok := s.at[v]; ok {
		return i
	}
	return -1
}

// locate makes the map anew, for a map does not shrink.
func (s *set[V]) locate() {
	s.at = nil
	if len(s.list) <= small {
		return
	}
	s.at = make(map[V]int, len(s.list))
	for i, v := range s.list {
		s.at[v] = i
	}
}
