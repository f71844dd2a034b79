package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/plugbus/plugbus/store"
)

// A mirror has what a store has, from what a watch tells.
type mirror struct {
	entries map[string]string
	at      uint64 // the revision up to which it has them
	changes []store.Change
	wrong   int // changes that are not the next one, or do not fit to what came before
}

// watch is the watcher.
func (m *mirror) watch(_ context.Context, c store.Change) error {
	m.changes = append(m.changes, c)
	kind := c.Kind()
	if next := kind == store.Set || kind == store.Deleted; next && (c.Revision() != m.at+1 || c.Old().Text() != m.entries[c.Key()]) {
		m.wrong++
	}
	switch {
	case c.Entry().Exists():
		m.entries[c.Key()] = c.Entry().Text()
	case kind == store.Deleted:
		delete(m.entries, c.Key())
	}
	m.at = c.Revision()
	return nil
}

// mirroring has the student mirror a store, for as long as it may.
func (t *tour) mirroring(ctx context.Context) error {
	t.say(`The student watches the paper. It is told what there is, and then each change, and
keeps a mirror. The printer prints two letters, and the host takes a tray away.
`)
	host, err := t.paper(ctx)
	if err != nil {
		return err
	}
	view, err := t.student.hub.OpenStore(ctx, "paper")
	if err != nil {
		return err
	}
	m := &mirror{entries: map[string]string{}}
	watch, err := view.Watch(ctx, "**", m.watch, store.Snapshot())
	if err != nil {
		return err
	}
	for _, name := range []string{"Eve", "Dan"} {
		if _, err := t.student.hub.Send(ctx, "printer", "print.text", "Dear "+name); err != nil {
			return err
		}
	}
	if err := host.Delete(ctx, "tray"); err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil {
		return err
	}
	t.changes(m)
	held := map[string]string{}
	for entry, err := range host.View().Entries(ctx, store.All()) {
		if err != nil {
			return err
		}
		held[entry.Key()] = entry.Text()
	}
	t.check(maps.Equal(m.entries, held), "the mirror has what the store has: %v", m.entries)
	t.check(m.wrong == 0, "no change is missing, none came twice, and each has what the key had before it")

	told := len(m.changes)
	if err := host.View().Revoke(ctx, store.Read, "student"); err != nil {
		return err
	}
	if _, err := host.Set(ctx, "tray", 20); err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil {
		return err
	}
	last := m.changes[told:]
	t.check(len(last) == 1 && last[0].Kind() == store.Revoked && watch.Err() != nil, "when the student may no longer read, it is told that and nothing more: %v", watch.Err())
	return nil
}

// changes shows what a mirror was told.
func (t *tour) changes(m *mirror) {
	rows := [][]string{{"revision", "what", "key", "before", "now", "by"}}
	for _, c := range m.changes {
		by := c.Writer()
		if c.Kind() == store.Current {
			by = c.Entry().Writer()
		}
		rows = append(rows, []string{fmt.Sprint(c.Revision()), c.Kind().String(), c.Key(), c.Old().Text(), c.Entry().Text(), by})
	}
	t.table(rows...)
}
