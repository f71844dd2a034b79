package hub_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A storebox keeps what a watch of a store gets.
type storebox struct {
	mu      sync.Mutex
	changes []store.Change
}

func (b *storebox) watch(_ context.Context, c store.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, c)
	return nil
}

// texts returns what came: each change as its kind, with the key and the value if it
// has them.
func (b *storebox) texts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var texts []string
	for _, c := range b.changes {
		text := c.Kind().String()
		if c.Key() != "" {
			text = fmt.Sprintf("%s %s=%s", text, c.Key(), c.Entry().Text())
		}
		texts = append(texts, text)
	}
	return texts
}

// last returns the latest change.
func (b *storebox) last() store.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes[len(b.changes)-1]
}

// create makes a store.
func create(t testing.TB, s *hub.Session, name string, c store.Config) *store.View {
	t.Helper()
	v, err := s.CreateStore(t.Context(), name, c)
	require.NoError(t, err)
	return v
}

// view opens a store.
func view(t testing.TB, s *hub.Session, name string) *store.View {
	t.Helper()
	v, err := s.OpenStore(t.Context(), name)
	require.NoError(t, err)
	return v
}

// set writes one entry.
func set(t testing.TB, v *store.View, key, value string, options ...store.SetOption) store.Entry {
	t.Helper()
	e, err := v.Set(t.Context(), key, []byte(value), options...)
	require.NoError(t, err)
	return e
}

// follow watches keys, and returns what comes.
func follow(t testing.TB, v *store.View, pattern string, options ...store.WatchOption) (*storebox, *store.Watch) {
	t.Helper()
	box := &storebox{}
	w, err := v.Watch(t.Context(), pattern, box.watch, options...)
	require.NoError(t, err)
	return box, w
}

// valueOf returns what a key has, "" if nothing.
func valueOf(t testing.TB, v *store.View, key string) string {
	t.Helper()
	e, err := v.Get(t.Context(), key)
	if err != nil {
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	return e.Text()
}
