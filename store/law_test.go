package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/store"
)

// A law is a guard whose answers can be changed, and that keeps what it was told.
type law struct {
	plugbus.Guard // an open one

	version atomic.Uint64
	acts    tally
	bytes   tally

	mu      sync.Mutex // guards below
	denied  map[string]plugbus.Reason
	strange map[string]bool // ids that the plugin does not know
	payload plugbus.PayloadRules
	refused []plugbus.Refusal
}

func newLaw(id string) *law {
	return &law{Guard: door.Open(id), denied: map[string]plugbus.Reason{}}
}

// deny denies an act such as "write notes", or every act of a verb, such as "write".
func (l *law) deny(act string, reason plugbus.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied[act] = reason
	l.version.Add(1)
}

func (l *law) allow(act string) { l.deny(act, "") }

func (l *law) Version() uint64 { return l.version.Load() }

func (l *law) PermitVia(_ plugbus.Chain, verb plugbus.Verb, object string) *plugbus.Permit {
	l.mu.Lock()
	defer l.mu.Unlock()
	reason := l.denied[verb.String()]
	if r, ok := l.denied[verb.String()+" "+object]; ok {
		reason = r
	}
	return &plugbus.Permit{Version: l.version.Load(), Reason: reason, Acts: &l.acts, Bytes: &l.bytes, Payload: l.payload}
}

func (l *law) PermitAt(uint64, plugbus.Verb, string) *plugbus.Permit { return &plugbus.Permit{} }

func (l *law) Knows(id string) bool { return !l.strange[id] }

func (l *law) Refuse(r plugbus.Refusal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, r)
	return l.Guard.Refuse(r)
}

// last returns the last refusal.
func (l *law) last(t testing.TB) plugbus.Refusal {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NotEmpty(t, l.refused)
	return l.refused[len(l.refused)-1]
}

// A tally is a meter that counts what is taken, and admits no more when it is full.
type tally struct {
	taken atomic.Int64
	full  atomic.Bool
}

func (m *tally) Take(_ time.Time, n int) time.Duration {
	if m.full.Load() {
		return time.Minute
	}
	m.taken.Add(int64(n))
	return 0
}

// openDB opens a DB that is closed at the end of the test.
func openDB(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.Background())) })
	return db
}

// member returns the client of a plugin under a law, if there is one.
func member(t testing.TB, db *store.DB, id string, laws ...*law) *store.Client {
	t.Helper()
	o := store.ClientOptions{}
	for _, l := range laws {
		o.Guard = l
	}
	c, err := db.Client(id, o)
	require.NoError(t, err)
	return c
}

func made(t testing.TB, c *store.Client, name string, config store.Config) *store.View {
	t.Helper()
	v, err := c.Create(t.Context(), name, config)
	require.NoError(t, err)
	return v
}

func opened(t testing.TB, c *store.Client, name string) *store.View {
	t.Helper()
	v, err := c.Open(t.Context(), name)
	require.NoError(t, err)
	return v
}
