package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A witness sees what all versions of one plugin get.
type witness struct {
	mu       sync.Mutex // guards below
	version  int        // the latest that was called
	stopped  int        // the latest whose Stop was
	events   []uint64
	received []uint64
	messages map[string][]any // by sender and type
	changes  []uint64
	problems []string
}

// called notes a call of a version, and what it is about.
func (w *witness) called(version int, note func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if version < w.version || version <= w.stopped || version > w.stopped+1 {
		w.problems = append(w.problems, fmt.Sprintf("version %d is called after %d, when %d has stopped", version, w.version, w.stopped))
	}
	w.version = version
	note()
}

func (w *witness) handle(version int) router.Handler {
	return func(_ context.Context, m router.Message) (any, error) {
		w.called(version, func() {
			from := m.From() + " " + m.Type()
			w.messages[from] = append(w.messages[from], m.Data())
		})
		return m.Data(), nil
	}
}

// plugin returns a version of the plugin "p".
func (w *witness) plugin(version int) hub.Plugin {
	p := &receiver{}
	p.manifest = func() hub.Manifest { return caps("p", "ask", "") }
	p.receive = func(_ context.Context, e events.Event) error {
		w.called(version, func() { w.received = append(w.received, e.Seq()) })
		return nil
	}
	p.start = func(ctx context.Context, s *hub.Session) error {
		_, subscribe := s.Subscribe("said.*", func(_ context.Context, e events.Event) error {
			w.called(version, func() { w.events = append(w.events, e.Seq()) })
			return nil
		}, events.Buffer(events.MaxBuffer))
		_, ask := s.Handle("ask", w.handle(version))
		_, post := s.Handle("post", w.handle(version))
		_, aside := s.Handle("aside", w.handle(version), router.Concurrent(2))
		_, topics := s.HandleTopic("news.*", func(ctx context.Context, m router.Message) error {
			_, err := w.handle(version)(ctx, m)
			return err
		})
		log, open := s.OpenStore(ctx, "log")
		if err := errors.Join(subscribe, ask, post, aside, topics, open); err != nil {
			return err
		}
		_, err := log.Watch(ctx, "**", func(_ context.Context, c store.Change) error {
			w.called(version, func() { w.changes = append(w.changes, c.Revision()) })
			return nil
		})
		return err
	}
	p.stop = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopped = version
		return nil
	}
	return p
}

// TestReplaceLosesNothing replaces a plugin a hundred times while others emit, broadcast,
// send, call, post, publish and write: over all versions everything comes once, in its
// order, and no version is called when the next has begun; the books balance at every
// look, what the plugin provides is always found, and nothing of the old ones is left (H2).
func TestReplaceLosesNothing(t *testing.T) {
	const least, most, actors = 50, 3000, 4 // Acts of each kind, by each, while there are swaps.
	swaps := 100
	if testing.Short() {
		swaps = 20
	}
	h := open(t, hub.Options{Events: events.Options{Buffer: events.MaxBuffer}, Router: router.Options{MailboxMessages: 100_000, MailboxBytes: 1 << 40}})
	log := create(t, h.Host(), "log", store.Config{History: 100_000, HistoryBytes: 1 << 26, Read: []string{"p"}})
	w := &witness{messages: map[string][]any{}, stopped: -1}
	require.NoError(t, h.Register(t.Context(), w.plugin(0)))
	var mu sync.Mutex
	var emitted, broadcast []uint64
	done := map[string]int{}
	var over atomic.Bool
	var others sync.WaitGroup
	ctx := context.Background()
	for i := range actors {
		s := join(t, h, fmt.Sprint("a", i))
		each := func(what string, act func(n int) error) {
			others.Go(func() {
				n := 0
				for ; n < least || n < most && !over.Load(); n++ {
					if err := act(n); err != nil {
						t.Error(err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				done[fmt.Sprintf("a%d %s", i, what)] = n
			})
		}
		each("said", func(n int) error {
			r, err := s.Emit(ctx, "said.x", n, events.WaitForRoom())
			b, e := s.Broadcast(ctx, "told.x", n, events.Audience{IDs: []string{"p"}})
			mu.Lock()
			defer mu.Unlock()
			emitted, broadcast = append(emitted, r.Seq), append(broadcast, b.Seq)
			if r.Matched != 1 || r.Accepted != 1 || b.Matched != 1 || b.Accepted != 1 {
				return fmt.Errorf("%+v %+v", r, b)
			}
			return errors.Join(err, e)
		})
		each("ask", func(n int) error {
			reply, err := s.Send(ctx, "p", "ask", n)
			if err == nil && reply.Data() != n {
				err = fmt.Errorf("%v for %v", reply.Data(), n)
			}
			if err == nil {
				_, err = s.Call(ctx, "ask", n)
			}
			return err
		})
		each("post", func(n int) error {
			return errors.Join(s.Post(ctx, "p", "post", n, router.WaitForRoom()), s.Post(ctx, "p", "aside", n, router.WaitForRoom()))
		})
		each("news.x", func(n int) error {
			r, err := s.Publish(ctx, "news.x", n)
			if r.Accepted != 1 {
				return fmt.Errorf("%+v %w", r, err)
			}
			return err
		})
		own := view(t, h.Host(), "log")
		each("write", func(n int) error { _, err := own.Set(ctx, fmt.Sprint("k", i), []byte(fmt.Sprint(n))); return err })
	}
	for n := range swaps {
		require.NoError(t, h.Replace(t.Context(), w.plugin(n+1)))
		require.NoError(t, h.Ledger().Check())
		s := h.Inspect()
		require.NoError(t, s.Ledger.Check())
		require.Equal(t, hub.Ready, must(s.Plugin("p")).State)
		matches, err := h.Host().Providers("ask")
		require.NoError(t, err)
		require.Len(t, matches, 1)
	}
	over.Store(true)
	others.Wait()
	idle(t, h)
	require.Empty(t, w.problems)
	t.Log(done)
	slices.Sort(emitted)
	require.Equal(t, emitted, w.events)
	slices.Sort(broadcast)
	require.Equal(t, broadcast, w.received)
	writes := 0
	for i := range actors {
		id := fmt.Sprint("a", i)
		writes += done[id+" write"]
		for typ, want := range map[string]int{"ask": 2 * done[id+" ask"], "post": done[id+" post"], "aside": done[id+" post"], "news.x": done[id+" news.x"]} {
			got := w.messages[id+" "+typ]
			require.Len(t, got, want, typ)
			for n := range got {
				if typ == "post" || typ == "news.x" {
					require.Equal(t, n, got[n])
				}
			}
		}
	}
	require.Len(t, w.changes, writes)
	for i, revision := range w.changes {
		require.EqualValues(t, i+1, revision)
	}
	l := h.Ledger()
	require.Equal(t, l.Accepted, l.Handled, "%v", l)
	require.Empty(t, h.Leaks())
	require.Empty(t, h.DeadLetters())
	require.Len(t, h.Inspect().Plugins, actors+2)
	entries, err := log.Get(t.Context(), "k0")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(done["a0 write"]-1), entries.Text())
}
