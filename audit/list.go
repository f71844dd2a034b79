package audit

// A list is a doubly linked list of nodes that live inside what they link, so
// that linking and unlinking allocate nothing. The zero list is empty.
type list[T any] struct{ first, last *node[T] }

type node[T any] struct {
	prev, next *node[T]
	value      T
}

// push links n as the last node.
func (l *list[T]) push(n *node[T]) {
	n.prev, n.next = l.last, nil
	if l.last != nil {
		l.last.next = n
	} else {
		l.first = n
	}
	l.last = n
}

// remove unlinks n, which is in l.
func (l *list[T]) remove(n *node[T]) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.last = n.prev
	}
	n.prev, n.next = nil, nil
}
