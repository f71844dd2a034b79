package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

func heldMember(t testing.TB, db *store.DB, id string) *store.Client { //nolint:unparam // It says whose it is.
	t.Helper()
	c, err := db.Client(id, store.ClientOptions{Held: true, MaxWatches: 5})
	require.NoError(t, err)
	return c
}

// A tale keeps what a watch tells.
type tale struct {
	mu    sync.Mutex
	lines []string
}

func (s *tale) watch(_ context.Context, c store.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%v %s %d", c.Kind(), c.Entry().Text(), c.Revision()))
	return nil
}

func (s *tale) read() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.lines...)
}

// TestSucceed puts one client in the place of another: the watches of the old one end
// with what they have, those of the new one begin after it, each as it asked, and are not
// called before it settles.
func TestSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, store.Options{})
		host, old := member(t, db, "host"), member(t, db, "p")
		words := made(t, host, "words", store.Config{Read: []string{"p"}, Write: []string{"p"}})
		put := func(text string) {
			_, err := words.Set(t.Context(), "key", []byte(text))
			require.NoError(t, err)
		}
		gate := make(chan struct{})
		was := &tale{}
		ending, err := opened(t, old, "words").Watch(t.Context(), "**", func(ctx context.Context, c store.Change) error {
			<-gate
			return was.watch(ctx, c)
		})
		require.NoError(t, err)
		put("one")
		put("two")
		next := heldMember(t, db, "p")
		own := opened(t, next, "words")
		_, err = own.Set(t.Context(), "other", nil)
		require.NoError(t, err, "it writes at once")
		plain, snapshot, after, gone := &tale{}, &tale{}, &tale{}, &tale{}
		watch := func(s *tale, options ...store.WatchOption) *store.Watch {
			w, err := own.Watch(t.Context(), "key", s.watch, options...)
			require.NoError(t, err)
			return w
		}
		watch(plain)
		watch(snapshot, store.Snapshot())
		watch(after, store.After(1))
		watch(gone).Stop()
		_, err = own.Watch(t.Context(), "key", plain.watch, store.After(99))
		require.ErrorIs(t, err, plugbus.ErrInvalid, "what is wrong is said at once")
		watch(gone)
		watch(gone)
		_, err = own.Watch(t.Context(), "key", plain.watch)
		require.ErrorIs(t, err, store.ErrQuota)
		put("three")
		require.NoError(t, next.Succeed(old))
		put("four")
		_, err = opened(t, old, "words").Watch(t.Context(), "**", was.watch)
		require.ErrorIs(t, err, store.ErrClosed)
		drained := make(chan error)
		go func() { drained <- old.Drained(context.Background()) }()
		synctest.Wait()
		require.Empty(t, drained, "it has changes to tell")
		close(gate)
		require.NoError(t, <-drained)
		require.ErrorIs(t, ending.Err(), store.ErrClosed)
		require.NoError(t, old.Close(t.Context()))
		require.Equal(t, []string{"set one 1", "set two 2", "set  3", "set three 4"}, was.read())
		synctest.Wait()
		require.Empty(t, append(plain.read(), snapshot.read()...))
		require.Error(t, db.Idle(ended(t)), "something waits")
		require.NoError(t, next.Settle(t.Context()))
		require.NoError(t, next.Settle(t.Context()))
		put("five")
		require.NoError(t, db.Idle(t.Context()))
		require.Equal(t, []string{"set four 5", "set five 6"}, plain.read())
		require.Equal(t, []string{"current three 4", "synced  4", "set four 5", "set five 6"}, snapshot.read())
		require.Equal(t, []string{"set two 2", "set three 4", "set four 5", "set five 6"}, after.read())
		require.Len(t, gone.read(), 4, "of two watches")
	})
}

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestSucceedEndsWhatRests shows that the watches of a client that may not read for now,
// as in quarantine, end when it is succeeded, since nobody is to wait for them.
func TestSucceedEndsWhatRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, rules := openDB(t, store.Options{}), newLaw("p")
		host, old := member(t, db, "host"), member(t, db, "p", rules)
		words := made(t, host, "words", store.Config{Read: []string{"p"}})
		was := &tale{}
		_, err := opened(t, old, "words").Watch(t.Context(), "**", was.watch)
		require.NoError(t, err)
		require.NoError(t, db.Idle(t.Context()))
		rules.deny("read words", plugbus.ReasonQuarantined)
		_, err = words.Set(t.Context(), "key", nil)
		require.NoError(t, err)
		require.NoError(t, heldMember(t, db, "p").Succeed(old))
		require.NoError(t, old.Drained(t.Context()))
		require.Empty(t, was.read())
	})
}

// TestSucceedWaitsForChanges shows that a client which was succeeded has not drained while
// its worker does something else and a watch has changes to tell.
func TestSucceedWaitsForChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, store.Options{})
		host, old := member(t, db, "host"), member(t, db, "p")
		gate := make(chan struct{})
		made(t, old, "own", store.Config{Write: []string{"host"}, Validator: func(context.Context, *store.Proposal) error { <-gate; return nil }})
		words := made(t, host, "words", store.Config{Read: []string{"p"}})
		was := &tale{}
		_, err := opened(t, old, "words").Watch(t.Context(), "**", was.watch)
		require.NoError(t, err)
		require.NoError(t, db.Idle(t.Context()))
		go func() { _, _ = opened(t, host, "own").Set(context.Background(), "key", nil) }() // Ends with the gate.
		synctest.Wait()
		_, err = words.Set(t.Context(), "key", nil)
		require.NoError(t, err)
		require.NoError(t, heldMember(t, db, "p").Succeed(old))
		drained := make(chan error)
		go func() { drained <- old.Drained(context.Background()) }()
		synctest.Wait()
		require.Empty(t, drained)
		close(gate)
		require.NoError(t, <-drained)
		require.Len(t, was.read(), 1)
	})
}

// TestSucceedRefused lists what cannot take a place: nothing changes; and what is
// discarded leaves nothing (H6).
func TestSucceedRefused(t *testing.T) {
	db, other := openDB(t, store.Options{}), openDB(t, store.Options{})
	_, err := db.Client("p", store.ClientOptions{Held: true})
	require.ErrorIs(t, err, plugbus.ErrInvalid, "nobody is there")
	a, p, far := member(t, db, "a"), member(t, db, "p"), member(t, other, "p")
	own := made(t, p, "own", store.Config{Validator: func(context.Context, *store.Proposal) error { return nil }})
	one, two, gone := heldMember(t, db, "p"), heldMember(t, db, "p"), heldMember(t, db, "p")
	v := opened(t, gone, "own")
	_, err = v.Watch(t.Context(), "**", func(context.Context, store.Change) error { panic("called") })
	require.NoError(t, err)
	require.NoError(t, v.SetValidator(t.Context(), func(context.Context, *store.Proposal) error { panic("called") }))
	require.NoError(t, gone.Close(t.Context()))
	_, err = own.Set(t.Context(), "key", nil)
	require.NoError(t, err)
	for _, wrong := range []*store.Client{nil, a, far, one, two} {
		require.ErrorIs(t, one.Succeed(wrong), plugbus.ErrInvalid)
	}
	require.ErrorIs(t, a.Succeed(p), plugbus.ErrInvalid)
	require.ErrorIs(t, gone.Succeed(p), store.ErrClosed)
	require.NoError(t, one.Settle(t.Context()), "it has no place yet")
	require.NoError(t, one.Succeed(p))
	require.ErrorIs(t, one.Succeed(p), plugbus.ErrInvalid)
	require.ErrorIs(t, two.Succeed(p), store.ErrClosed)
	require.NoError(t, p.Close(t.Context()))
	one.BeginDrain()
	require.ErrorIs(t, two.Succeed(one), store.ErrClosed)
	require.NoError(t, one.Close(t.Context()))
	require.Len(t, db.Stats().Clients, 2)
}

// TestSucceedValidators shows that the validator of a store stays the old client's until
// that is closed, and is the new one's from then on: each write is judged by one of them.
// A write that waits for the old one is judged by the new one instead.
func TestSucceedValidators(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, store.Options{Backend: newShelf()})
			writer, old := st.join(t, "writer"), st.join(t, "p")
			says := func(name string) store.Validator {
				return func(context.Context, *store.Proposal) error { return errors.New(name) }
			}
			lists := store.Config{Persistent: persistent, Write: []string{"writer"}, Read: []string{"writer"}}
			guarded := lists
			guarded.Validator = says("old")
			for _, name := range []string{"both", "away", "lost"} {
				create(t, old, name, guarded)
			}
			create(t, old, "fresh", lists)
			next, err := st.Client("p", store.ClientOptions{Held: true})
			require.NoError(t, err)
			require.NoError(t, view(t, next, "both").SetValidator(t.Context(), says("new")))
			require.NoError(t, view(t, next, "fresh").SetValidator(t.Context(), says("new")))
			require.NoError(t, view(t, next, "away").SetValidator(t.Context(), nil))
			judge := func(name string) string {
				_, err := view(t, writer, name).Set(t.Context(), "key", nil)
				switch {
				case err == nil:
					return "done"
				case errors.Is(err, store.ErrNoValidator):
					return "nobody"
				}
				return remote(t, err).Message
			}
			judged := func() [4]string { return [4]string{judge("both"), judge("away"), judge("lost"), judge("fresh")} }
			require.Equal(t, [4]string{"old", "old", "old", "done"}, judged())
			require.NoError(t, next.Succeed(old))
			require.Equal(t, [4]string{"old", "old", "old", "done"}, judged())
			own, err := view(t, old, "both").Set(t.Context(), "key", nil)
			require.False(t, own.Exists())
			require.Equal(t, "old", remote(t, err).Message)

			_, err = view(t, next, "fresh").Set(t.Context(), "other", nil)
			require.NoError(t, err)
			require.NoError(t, old.Close(t.Context()))
			waits := make(chan string, 2)
			go func() { waits <- judge("both") }()
			go func() { waits <- judge("away") }()
			synctest.Wait()
			require.Empty(t, waits, "they wait for the new one, which has not settled")
			require.NoError(t, next.Settle(t.Context()))
			require.ElementsMatch(t, []string{"new", "done"}, []string{<-waits, <-waits})
			require.Equal(t, [4]string{"new", "done", "nobody", "new"}, judged())
			stats := map[string]bool{}
			for _, s := range st.DB.Stats().Stores {
				stats[s.Name] = s.Guarded
			}
			require.Equal(t, map[string]bool{"both": true, "away": false, "lost": true, "fresh": true}, stats)
		})
	}
}

// TestSucceedJudgesWhatWaits closes a client whose validator is busy: the write that
// waits for it is judged by that of the new one.
func TestSucceedJudgesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, store.Options{})
		writer, old := member(t, db, "writer"), member(t, db, "p")
		gate := make(chan struct{})
		made(t, old, "s", store.Config{Write: []string{"writer"}, Read: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error {
			<-gate
			return errors.New("old")
		}})
		results := make(chan error, 2)
		write := func() {
			_, err := opened(t, writer, "s").Set(context.Background(), "key", nil)
			results <- err
		}
		go write()
		synctest.Wait()
		go write()
		synctest.Wait()
		next := heldMember(t, db, "p")
		require.NoError(t, opened(t, next, "s").SetValidator(t.Context(), func(context.Context, *store.Proposal) error { return nil }))
		require.NoError(t, next.Succeed(old))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, old.Close(ctx), "it hangs")
		require.NoError(t, next.Settle(t.Context()))
		require.NoError(t, <-results)
		require.NoError(t, <-results, "the one that the old one was asked about, too")
		close(gate)
		synctest.Wait()
		require.Empty(t, db.Leaks())
	})
}

// TestSucceedExactlyOnce replaces a client again and again while others write to several
// stores: over all versions its watches tell each revision once, in order, and no write
// is without a judge.
func TestSucceedExactlyOnce(t *testing.T) {
	const writers, each = 3, 400
	db := openDB(t, store.Options{})
	host, p := member(t, db, "host"), member(t, db, "p")
	config := store.Config{Read: []string{"p"}, History: 10_000, HistoryBytes: 1 << 22}
	var views []*store.View
	for i := range writers {
		views = append(views, made(t, host, fmt.Sprint("s", i), config))
	}
	made(t, p, "own", store.Config{Write: []string{"host"}, Read: []string{"host"}, Validator: func(context.Context, *store.Proposal) error { return nil }})
	own := opened(t, host, "own")
	var mu sync.Mutex
	seen := map[string]uint64{}
	var settled atomic.Int32
	open := func(c *store.Client, version int32) {
		for _, v := range views {
			_, err := opened(t, c, v.Name()).Watch(context.Background(), "**", func(_ context.Context, ch store.Change) error {
				mu.Lock()
				defer mu.Unlock()
				if settled.Load() != version {
					t.Errorf("version %d is told while %d has the place", version, settled.Load())
				}
				if ch.Revision() != seen[ch.Store()]+1 {
					t.Errorf("%d after %d", ch.Revision(), seen[ch.Store()])
				}
				seen[ch.Store()] = ch.Revision()
				return nil
			})
			require.NoError(t, err)
		}
		require.NoError(t, opened(t, c, "own").SetValidator(context.Background(), func(context.Context, *store.Proposal) error { return nil }))
	}
	open(p, 0)
	var wg sync.WaitGroup
	for _, v := range append(views, own) {
		wg.Go(func() {
			for n := range each {
				if _, err := v.Set(context.Background(), fmt.Sprint("k", n%7), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for version := int32(1); ; version++ {
		next := heldMember(t, db, "p")
		open(next, version)
		require.NoError(t, next.Succeed(p))
		require.NoError(t, p.Close(context.Background()))
		require.True(t, p.Ended())
		settled.Store(version)
		require.NoError(t, next.Settle(context.Background()))
		p = next
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	require.NoError(t, db.Idle(t.Context()))
	for _, v := range views {
		require.EqualValues(t, each, seen[v.Name()])
	}
	require.Len(t, db.Stats().Clients, 2)
}

// TestSettleKeepsWhatIsNewer sets a validator while Settle waits for its turn to set the
// one of before: the last that was set stays.
func TestSettleKeepsWhatIsNewer(t *testing.T) {
	for name, newer := range map[string]store.Validator{
		"another": func(context.Context, *store.Proposal) error { return errors.New("newer") },
		"none":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				busy := make(chan struct{})
				db := openDB(t, store.Options{OnChange: func(a store.Administration) {
					if a.Store == "busy" {
						<-busy // The turn is taken until the host has heard.
					}
				}})
				writer, old := member(t, db, "writer"), member(t, db, "p")
				made(t, old, "s", store.Config{Write: []string{"writer"}, Read: []string{"writer"}})
				next := heldMember(t, db, "p")
				own := opened(t, next, "s")
				require.NoError(t, own.SetValidator(t.Context(), func(context.Context, *store.Proposal) error { return errors.New("older") }))
				require.NoError(t, next.Succeed(old))
				require.NoError(t, old.Close(t.Context()))
				results := make(chan error, 3)
				go func() {
					_, err := writer.Create(context.Background(), "busy", store.Config{})
					results <- err
				}()
				synctest.Wait()
				go func() { results <- own.SetValidator(context.Background(), newer) }()
				synctest.Wait()
				go func() { results <- next.Settle(context.Background()) }()
				synctest.Wait()
				close(busy)
				require.NoError(t, errors.Join(<-results, <-results, <-results))
				_, err := opened(t, writer, "s").Set(t.Context(), "key", nil)
				if newer == nil {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, "newer")
				}
			})
		})
	}
}
