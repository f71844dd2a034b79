package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/internal/topic"
)

// The bounds of one transaction.
const (
	maxTxReads  = 10_000   // keys, and entries of ranges
	maxTxWrites = 1000     // keys
	maxTxBytes  = 16 << 20 // of keys and values that are written
)

// A Tx is a transaction over several keys of one store. What it reads is as of one
// instant, and it is still so when its writes are done, all of them or none: otherwise
// there is a conflict. It belongs to the function that [View.Txn] calls.
type Tx struct {
	view *View
	ctx  context.Context //nolint:containedctx // That of Txn, whose call it is part of.

	mu    sync.Mutex // guards below; a plugin may use several goroutines
	draft *draft
	reads map[string]*record // what was read, nil for no entry
	seen  uint64             // the revision of the store at which all that was read was so
	until int64              // when the first of it expires; 0 if nothing does
	count int                // of reads
	bytes int                // of writes
	done  bool
}

// A TxnOption changes how a transaction runs: [Attempts].
type TxnOption interface{ applyTxn(o *txnOptions) error }

type txnOptions struct{ attempts int }

type attempts int

// Attempts calls the function again after a conflict, up to n times in all, 1 to
// 1,000. Without it there is one attempt.
func Attempts(n int) TxnOption { return attempts(n) }

func (n attempts) applyTxn(o *txnOptions) error {
	wrong := limits.List{Fault: newOptionError}
	o.attempts = limits.Within(&wrong, "Attempts", int(n), 1, 1, 1000)
	return wrong.Err()
}

// Txn calls f, and then does what it wrote, all of it or nothing, if what it read has
// not changed. Otherwise the error is a [*ConflictError] with the key. An error of f is
// returned as it is, and nothing is done. Each read and write of f is an act for the
// policy's rates. A transaction may read 10,000 keys, and write 1,000 with 16 MiB;
// other errors are those of [View.Set]. It holds no lock while f runs.
func (v *View) Txn(ctx context.Context, f func(tx *Tx) error, options ...TxnOption) error {
	const act = "transact in"
	if f == nil {
		return v.failed(act, newOptionError("the function", "nil", "a func(*Tx) error"))
	}
	o := txnOptions{attempts: 1}
	for _, option := range options {
		if option == nil {
			return v.failed(act, newOptionError("an option", nil, "a store.TxnOption"))
		}
		if err := option.applyTxn(&o); err != nil {
			return v.failed(act, err)
		}
	}
	for n := 1; ; n++ {
		err := v.attempt(ctx, f)
		if n == o.attempts || !errors.Is(err, ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
}

func (v *View) attempt(ctx context.Context, f func(tx *Tx) error) error {
	if err := v.client.usable(ctx); err != nil {
		return v.failed("transact in", err)
	}
	tx := &Tx{view: v, ctx: ctx, reads: map[string]*record{}}
	defer tx.end() // Also if f panics.
	if err := f(tx); err != nil {
		return err
	}
	tx.end()
	if tx.draft == nil || len(tx.draft.edits) == 0 {
		return nil // All that it read was so at the last read.
	}
	tx.draft.reads = len(tx.reads)+len(tx.draft.ranges) > 0
	return tx.draft.commit(ctx)
}

// end lets nothing more happen in the transaction.
func (tx *Tx) end() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.done = true
}

func (tx *Tx) failed(act, key string, err error) error { return tx.view.keyed(act, key, err) }

// Get returns the entry of a key, as the transaction has made it: what it wrote itself
// has the revision 0 yet. Beside the errors of [View.Get], it may be a [*ConflictError]:
// then the store has changed so that the reads are no longer of one instant.
func (tx *Tx) Get(key string) (Entry, error) {
	const act = "get in a transaction"
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.done {
		return Entry{}, tx.failed(act, key, ErrTxDone)
	}
	if err := topic.CheckKey(key); err != nil {
		return Entry{}, tx.failed(act, key, err)
	}
	p, now, err := tx.view.enter(tx.ctx, act, key, plugbus.VerbRead, nil)
	if err != nil {
		return Entry{}, err
	}
	d := tx.begin(p, now.UnixNano())
	if e := d.edited(key); e != nil {
		if e.delete {
			return Entry{}, tx.failed(act, key, ErrNotFound)
		}
		return Entry{&record{key: e.key, value: e.value, writer: d.client.id, at: d.now, expires: e.expires}}, nil
	}
	r, err := tx.read(key)
	switch {
	case err != nil:
		return Entry{}, tx.failed(act, key, err)
	case r == nil:
		return Entry{}, tx.failed(act, key, ErrNotFound)
	}
	return Entry{r}, nil
}

// begin returns the draft, as of the time of the latest act.
func (tx *Tx) begin(p *pass, now int64) *draft {
	if tx.draft == nil {
		tx.draft = &draft{client: tx.view.client, space: tx.view.space, act: "commit a transaction of"}
	}
	d := tx.draft
	d.now = max(d.now, now)
	if d.pass == nil || p.permit.Version > d.rules {
		d.rules = p.permit.Version
	}
	return d
}

// read reads a key, and remembers what revision it has.
func (tx *Tx) read(key string) (*record, error) {
	s, d := tx.view.space, tx.draft
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := tx.current(); err != nil {
		return nil, err
	}
	if r, ok := tx.reads[key]; ok {
		return r, nil
	}
	if tx.count++; tx.count > maxTxReads {
		return nil, newOptionError("the number of reads", tx.count, fmt.Sprintf("at most %d", maxTxReads))
	}
	r := s.entries[key]
	if r.gone(d.now) {
		r = nil
	}
	key = private(key)
	tx.reads[key] = r
	revision := uint64(0)
	if r != nil {
		revision = r.revision
		tx.lives(r)
	}
	d.expects = append(d.expects, expectation{key, revision})
	return r, nil
}

// current returns an error unless all that was read is still so. The lock of the store
// is held.
func (tx *Tx) current() error {
	s, d := tx.view.space, tx.draft
	if s.dropped {
		return ErrDropped
	}
	if tx.seen == s.revision && (tx.until == 0 || d.now < tx.until) && len(tx.reads)+len(d.ranges) > 0 {
		return nil
	}
	for _, e := range d.expects {
		r := s.entries[e.key]
		if r.gone(d.now) {
			r = nil
		}
		if was := tx.reads[e.key]; was != r {
			return conflict(s, e.key, was, r)
		}
	}
	for _, r := range d.ranges {
		if err := r.compare(s, d.now); err != nil {
			return err
		}
	}
	tx.seen = s.revision
	return nil
}

// lives notes when a record that was read expires.
func (tx *Tx) lives(r *record) {
	if r.expires != 0 && (tx.until == 0 || r.expires < tx.until) {
		tx.until = r.expires
	}
}

func conflict(s *space, key string, was, is *record) error {
	e := &ConflictError{Store: s.name, Key: key}
	if was != nil {
		e.Expected = was.revision
	}
	if is != nil {
		e.Actual = is.revision
	}
	return e
}

// A rangeRead is what a transaction found in a range.
type rangeRead struct {
	selection Selection
	records   []*record
}

// compare returns a conflict unless the range still has the same entries. The lock of
// the store is held.
func (r *rangeRead) compare(s *space, now int64) error {
	i := 0
	var err error
	scan(&s.order, &r.selection, now, func(is *record) bool {
		switch {
		case i == len(r.records) || is.key < r.records[i].key:
			err = conflict(s, is.key, nil, is)
		case is != r.records[i]:
			var same *record
			if is.key == r.records[i].key {
				same = is
			}
			err = conflict(s, r.records[i].key, r.records[i], same)
		}
		i++
		return err == nil
	})
	if err == nil && i < len(r.records) {
		err = conflict(s, r.records[i].key, r.records[i], nil)
	}
	return err
}

// Entries returns the selected entries in the order of their keys, as the transaction
// has made them. If one comes, goes or changes in the range before the commit, that is
// a conflict.
func (tx *Tx) Entries(sel Selection) ([]Entry, error) {
	const act = "list in a transaction"
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.done {
		return nil, tx.failed(act, sel.prefix, ErrTxDone)
	}
	if sel.err != nil {
		return nil, tx.failed(act, sel.prefix, sel.err)
	}
	p, now, err := tx.view.enter(tx.ctx, act, sel.prefix, plugbus.VerbRead, nil)
	if err != nil {
		return nil, err
	}
	d := tx.begin(p, now.UnixNano())
	found, err := tx.readRange(sel)
	if err != nil {
		return nil, tx.failed(act, sel.prefix, err)
	}
	var all []Entry
	for _, r := range found.records {
		if d.edited(r.key) == nil {
			all = append(all, Entry{r})
		}
	}
	for _, e := range d.edits {
		if !e.delete && sel.matches(e.key) {
			all = append(all, Entry{&record{key: e.key, value: e.value, writer: d.client.id, at: d.now, expires: e.expires}})
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.r.key, b.r.key) })
	return all, nil
}

func (tx *Tx) readRange(sel Selection) (*rangeRead, error) {
	s, d := tx.view.space, tx.draft
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := tx.current(); err != nil {
		return nil, err
	}
	found := &rangeRead{selection: sel}
	scan(&s.order, &sel, d.now, func(r *record) bool {
		found.records = append(found.records, r)
		tx.lives(r)
		return tx.count+len(found.records) <= maxTxReads
	})
	tx.count += len(found.records) + 1
	if tx.count > maxTxReads {
		return nil, newOptionError("the number of reads", tx.count, fmt.Sprintf("at most %d", maxTxReads))
	}
	d.ranges = append(d.ranges, found)
	tx.seen = s.revision
	return found, nil
}

// Set makes value what the key has, when the transaction commits. The errors are those
// of [View.Set] that can be known now.
func (tx *Tx) Set(key string, value []byte, options ...SetOption) error {
	const act = "set in a transaction"
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.done {
		return tx.failed(act, key, ErrTxDone)
	}
	p, now, e, err := tx.view.edit(tx.ctx, act, key, value, options)
	if err != nil {
		return err
	}
	return tx.write(p, now.UnixNano(), act, e)
}

// Delete takes the entry of a key away, when the transaction commits. It is no error if
// there is none.
func (tx *Tx) Delete(key string) error {
	const act = "delete in a transaction"
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.done {
		return tx.failed(act, key, ErrTxDone)
	}
	if err := topic.CheckKey(key); err != nil {
		return tx.failed(act, key, err)
	}
	p, now, err := tx.view.enter(tx.ctx, act, key, plugbus.VerbWrite, nil)
	if err != nil {
		return err
	}
	return tx.write(p, now.UnixNano(), act, edit{key: private(key), delete: true})
}

func (tx *Tx) write(p *pass, now int64, act string, e edit) error {
	d := tx.begin(p, now)
	d.client.db.saw(p.permit.Version)
	if d.pass = p; d.led.Depth() == 0 {
		d.led = p.cause.Then(d.client.id)
	}
	before := 0
	if old := d.edited(e.key); old != nil {
		before = len(old.key) + len(old.value)
	} else if len(d.edits) == maxTxWrites {
		return tx.failed(act, e.key, newOptionError("the number of writes", maxTxWrites+1, fmt.Sprintf("at most %d", maxTxWrites)))
	}
	bytes := tx.bytes + len(e.key) + len(e.value) - before
	if bytes > maxTxBytes {
		return tx.failed(act, e.key, newOptionError("the size of the writes", bytes, fmt.Sprintf("at most %d bytes", maxTxBytes)))
	}
	tx.bytes = bytes
	d.put(e)
	return nil
}
