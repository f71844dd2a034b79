package store_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// A shelf is a Backend in memory. A test can see its commits, and decide how they end.
type shelf struct {
	gate func() error // called before each commit; its error ends the commit, undone

	mu      sync.Mutex // guards below
	pairs   map[spot]string
	commits [][]store.Op // with copies of the values
	closed  int
}

// A spot is where a shelf has a value.
type spot struct{ bucket, key string }

func newShelf() *shelf { return &shelf{pairs: map[spot]string{}} }

// copy returns a shelf with what sh has, on which nothing was committed.
func (sh *shelf) copy() *shelf {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return &shelf{pairs: maps.Clone(sh.pairs)}
}

// spots returns where sh has something, in the order of Load.
func (sh *shelf) spots() []spot {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.SortedFunc(maps.Keys(sh.pairs), func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.key, b.key))
	})
}

// Load implements store.Backend.
func (sh *shelf) Load(visit func(bucket, key string, value []byte) error) error {
	for _, at := range sh.spots() {
		value := []byte(sh.pairs[at])
		if err := visit(at.bucket, at.key, value); err != nil {
			return err
		}
		clear(value) // It is valid until visit returns.
	}
	return nil
}

// Commit implements store.Backend.
func (sh *shelf) Commit(ops []store.Op) error {
	if sh.gate != nil {
		if err := sh.gate(); err != nil {
			return err
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	own := slices.Clone(ops)
	for i, op := range ops {
		own[i].Value = slices.Clone(op.Value)
		clear(op.Value) // Nobody may need it any more.
	}
	for _, op := range own {
		sh.apply(op)
	}
	sh.commits = append(sh.commits, own)
	return nil
}

func (sh *shelf) apply(op store.Op) {
	switch {
	case op.Key == "":
		maps.DeleteFunc(sh.pairs, func(at spot, _ string) bool { return at.bucket == op.Bucket })
	case op.Value == nil:
		delete(sh.pairs, spot{op.Bucket, op.Key})
	default:
		sh.pairs[spot{op.Bucket, op.Key}] = string(op.Value)
	}
}

// Backup implements store.Backend.
func (sh *shelf) Backup(_ context.Context, w io.Writer) (int64, error) {
	n, err := io.WriteString(w, "a shelf")
	return int64(n), err
}

// Compact implements store.Backend.
func (sh *shelf) Compact(ctx context.Context) error { return ctx.Err() }

var errShelf = errors.New("the shelf does not close")

// Close implements store.Backend.
func (sh *shelf) Close() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed++; sh.closed > 1 {
		return errShelf
	}
	return nil
}

// count returns how many commits there were.
func (sh *shelf) count() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.commits)
}

// A turnstile is a gate that lets one commit through for each error that a test sends.
type turnstile chan error

func (ts turnstile) gate() error { return <-ts }

// shelved opens a DB on a shelf, and closes it when the test ends.
func shelved(t testing.TB, sh *shelf) *store.DB {
	t.Helper()
	db, err := store.Open(store.Options{Backend: sh})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.Background())) })
	return db
}

// as returns a client of db.
func as(t testing.TB, db *store.DB, id string) *store.Client {
	t.Helper()
	c, err := db.Client(id, store.ClientOptions{})
	require.NoError(t, err)
	return c
}

// durable makes a persistent store.
func durable(t testing.TB, c *store.Client, name string) *store.View {
	t.Helper()
	v, err := c.Create(context.Background(), name, store.Config{Persistent: true})
	require.NoError(t, err)
	return v
}
