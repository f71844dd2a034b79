package store

import (
	"context"
	"iter"
	"strings"

	"github.com/tidwall/btree"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Selection says which keys. It is made by [All], [Prefix] and [Match]; its zero value
// is that of All.
type Selection struct { //nolint:recvcheck // Users have values; those who look through entries spare themselves the copies.
	prefix  string // that all keys have
	pattern topic.Pattern
	after   string
	err     error
}

// All selects every key.
func All() Selection { return Selection{} }

// Prefix selects the keys that begin with these bytes.
func Prefix(prefix string) Selection { return Selection{prefix: prefix} }

// Match selects the keys that a pattern matches, in which "*" stands for one token and
// "**" at the end for one or more; tokens have ".", ":" or "/" between them.
func Match(pattern string) Selection {
	p, err := topic.ParseKey(pattern)
	return Selection{prefix: literal(pattern), pattern: p, err: err}
}

// literal returns what all keys begin with that a pattern matches.
func literal(pattern string) string {
	prefix, _, _ := strings.Cut(pattern, "*")
	return prefix
}

// After leaves out all keys up to this one, which need not exist: so a page goes on
// where the one before it ended.
func (s Selection) After(key string) Selection {
	s.after = key
	return s
}

func (s *Selection) matches(key string) bool {
	return key > s.after && strings.HasPrefix(key, s.prefix) && (s.pattern == topic.Pattern{} || s.pattern.Match(key))
}

// scan calls yield with the selected records that are there at a time, in the order of
// their keys, until it returns false.
func scan(entries *btree.Map[string, *record], sel *Selection, now int64, yield func(r *record) bool) {
	entries.Ascend(max(sel.prefix, sel.after), func(key string, r *record) bool {
		if !strings.HasPrefix(key, sel.prefix) {
			return false // All that have it are together.
		}
		return !sel.matches(key) || r.gone(now) || yield(r)
	})
}

// pageSize is how many entries are gathered under the lock of a store, and how many
// are looked at for it.
const (
	pageSize  = 256
	pageLooks = 4096
)

// page returns the next selected records, and from where to go on; more is false if
// there are none after them.
func (s *space) page(sel *Selection, now int64) (records []*record, next string, more bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.dropped {
		return nil, "", false, ErrDropped
	}
	looks := 0
	s.order.Ascend(max(sel.prefix, sel.after), func(key string, r *record) bool {
		if !strings.HasPrefix(key, sel.prefix) {
			return false // All that have it are together.
		}
		if len(records) == pageSize || looks == pageLooks {
			more = true
			return false
		}
		looks++
		next = key
		if sel.matches(key) && !r.gone(now) {
			records = append(records, r)
		}
		return true
	})
	return records, next, more, nil
}

// Entries returns the selected entries in the order of their keys, byte by byte. They
// are read in pages of at most 256, each of which is of one instant and counts as one
// act: a key that is there all the while comes once, one that comes or goes meanwhile
// may come. The first error is the last pair; the errors are those of [View.Get].
func (v *View) Entries(ctx context.Context, sel Selection) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		const act = "list the entries of"
		if sel.err != nil {
			yield(Entry{}, v.failed(act, sel.err))
			return
		}
		for at, more := sel, true; more; {
			_, now, err := v.enter(ctx, act, sel.prefix, plugbus.VerbRead, nil)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			var records []*record
			var next string
			if records, next, more, err = v.space.page(&at, now.UnixNano()); err != nil {
				yield(Entry{}, v.failed(act, err))
				return
			}
			for _, r := range records {
				if !yield(Entry{r}, nil) {
					return
				}
			}
			at.after = max(at.after, next)
		}
	}
}

// Keys is [View.Entries] for the keys alone.
func (v *View) Keys(ctx context.Context, sel Selection) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range v.Entries(ctx, sel) {
			if !yield(e.Key(), err) {
				return
			}
		}
	}
}
