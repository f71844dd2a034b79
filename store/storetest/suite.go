package storetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// A Place is where the backend of one test keeps what it has.
type Place struct {
	// Open returns options with the backend of the place. It is called again after the
	// DB was closed, and the backend then has what was committed. Without a backend in
	// them, the tests are about stores in memory.
	Open func() store.Options

	// Restore returns options with another backend, made of what Backup wrote. It is
	// needed where there is a backend.
	Restore func(backup []byte) store.Options
}

// Run runs every test of the contract. It calls start at the beginning of each, for an
// empty place, in the test's bubble.
func Run(t *testing.T, start func(t *testing.T) Place) {
	t.Helper()
	inBubble := func(t *testing.T, name string, test func(t *testing.T)) {
		t.Helper()
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	durable := false
	inBubble(t, "Place", func(t *testing.T) {
		place := start(t)
		require.NotNil(t, place.Open)
		o := place.Open()
		db, err := store.Open(o)
		require.NoError(t, err)
		require.NoError(t, db.Close(t.Context()))
		if durable = o.Backend != nil; durable {
			require.NotNil(t, place.Restore, "a place with a backend has a Restore")
		}
	})
	for _, c := range contract {
		inBubble(t, "Memory"+c.name, func(t *testing.T) { c.test(newWorld(t, start(t), false)) })
		if durable {
			inBubble(t, "Persistent"+c.name, func(t *testing.T) { c.test(newWorld(t, start(t), true)) })
		}
	}
	if !durable {
		inBubble(t, "NoBackend", func(t *testing.T) { testNoBackend(newWorld(t, start(t), false)) })
		return
	}
	for _, c := range reopening {
		inBubble(t, c.name, func(t *testing.T) { c.test(newWorld(t, start(t), true)) })
	}
	for _, c := range backends {
		inBubble(t, "Backend"+c.name, func(t *testing.T) { c.test(t, start(t)) })
	}
}

// A testCase is one test of what all stores promise.
type testCase struct {
	name string
	test func(w *world)
}

var contract = []testCase{
	{"Create", testCreate},
	{"CreateMistakes", testCreateMistakes},
	{"Open", testOpen},
	{"List", testList},
	{"Lists", testLists},
	{"Grant", testGrant},
	{"Drop", testDrop},
	{"Set", testSet},
	{"Frozen", testFrozen},
	{"Compare", testCompare},
	{"Keys", testKeys},
	{"Pages", testPages},
	{"Txn", testTxn},
	{"TxnConflicts", testTxnConflicts},
	{"TxnRanges", testTxnRanges},
	{"TxnEnds", testTxnEnds},
	{"TTL", testTTL},
	{"StoreQuotas", testStoreQuotas},
	{"SharedQuotas", testSharedQuotas},
	{"Schema", testSchema},
	{"Validator", testValidator},
	{"Revisions", testRevisions},
	{"Watch", testWatch},
	{"Closed", testClosed},
	{"BadArguments", testBadArguments},
}

var reopening = []testCase{
	{"Reopen", testReopen},
	{"ReopenConfig", testReopenConfig},
	{"ReopenExpired", testReopenExpired},
	{"ReopenRevisions", testReopenRevisions},
	{"ReopenDropped", testReopenDropped},
	{"Backup", testBackup},
	{"Compact", testCompact},
}

// A world is a DB with its plugins.
type world struct {
	*testing.T

	place      Place
	options    store.Options
	persistent bool // what the stores of the test are
	db         *store.DB
	clients    map[string]*store.Client
}

func newWorld(t *testing.T, place Place, persistent bool) *world {
	t.Helper()
	w := &world{T: t, place: place, persistent: persistent}
	w.open(func(*store.Options) {})
	t.Cleanup(func() { _ = w.db.Close(context.Background()) })
	return w
}

// open opens the place, with options of the test beside the backend.
func (w *world) open(with func(o *store.Options)) {
	w.Helper()
	w.options = w.place.Open()
	with(&w.options)
	db, err := store.Open(w.options)
	require.NoError(w, err)
	w.db, w.clients = db, map[string]*store.Client{}
}

// reopen closes the DB, and opens the place again.
func (w *world) reopen(with func(o *store.Options)) {
	w.Helper()
	require.NoError(w, w.db.Close(w.Context()))
	w.open(with)
}

// as returns the client of a plugin.
func (w *world) as(id string) *store.Client {
	w.Helper()
	if c := w.clients[id]; c != nil {
		return c
	}
	return w.join(id, store.ClientOptions{})
}

func (w *world) join(id string, o store.ClientOptions) *store.Client {
	w.Helper()
	c, err := w.db.Client(id, o)
	require.NoError(w, err)
	w.clients[id] = c
	return c
}

// create makes a store of the owner, of the kind that the test is about.
func (w *world) create(owner, name string, c store.Config) *store.View {
	w.Helper()
	c.Persistent = w.persistent
	v, err := w.as(owner).Create(w.Context(), name, c)
	require.NoError(w, err)
	return v
}

func (w *world) view(id, name string) *store.View {
	w.Helper()
	v, err := w.as(id).Open(w.Context(), name)
	require.NoError(w, err)
	return v
}

func (w *world) set(v *store.View, key, value string, options ...store.SetOption) store.Entry {
	w.Helper()
	e, err := v.Set(w.Context(), key, []byte(value), options...)
	require.NoError(w, err)
	return e
}

// content returns what a store has.
func (w *world) content(v *store.View) map[string]string {
	w.Helper()
	all := map[string]string{}
	for e, err := range v.Entries(w.Context(), store.All()) {
		require.NoError(w, err)
		all[e.Key()] = e.Text()
	}
	return all
}

func (w *world) keys(v *store.View, sel store.Selection) []string {
	w.Helper()
	all := []string{}
	for key, err := range v.Keys(w.Context(), sel) {
		require.NoError(w, err)
		all = append(all, key)
	}
	return all
}

// revision returns the revision of a store.
func (w *world) revision(v *store.View) uint64 {
	w.Helper()
	infos, err := w.as(v.Owner()).List(w.Context())
	require.NoError(w, err)
	for _, info := range infos {
		if info.Name == v.Name() {
			return info.Revision
		}
	}
	require.Fail(w, "no such store", v.Name())
	return 0
}

// pass lets time go by, and what is due be done.
func (w *world) pass(d time.Duration) {
	w.Helper()
	time.Sleep(d) // In the bubble.
	synctest.Wait()
	require.NoError(w, w.db.Idle(w.Context()))
}

// denied demands a refusal for a reason.
func (w *world) denied(err error, reason plugbus.Reason) {
	w.Helper()
	require.ErrorIs(w, err, plugbus.ErrDenied)
	denied, _ := errors.AsType[*plugbus.DeniedError](err)
	require.Equal(w, reason, denied.Reason, "%v", err)
}

// conflict demands a conflict about a key.
func (w *world) conflict(err error, key string, expected, actual uint64) {
	w.Helper()
	require.ErrorIs(w, err, store.ErrConflict)
	c, _ := errors.AsType[*store.ConflictError](err)
	require.Equal(w, key, c.Key)
	require.Equal(w, [2]uint64{expected, actual}, [2]uint64{c.Expected, c.Actual})
}

// full demands a refusal for a quota.
func (w *world) full(err error, quota string, limit, would int64) {
	w.Helper()
	require.ErrorIs(w, err, store.ErrQuota)
	w.denied(err, plugbus.ReasonQuotaExceeded)
	q, _ := errors.AsType[*store.QuotaError](err)
	require.Equal(w, store.QuotaError{Store: q.Store, Quota: quota, Limit: limit, Would: would}, *q)
}
