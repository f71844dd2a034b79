package hub_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A caller gives the hub a call of a plugin's own code for a store of "owner": that of
// a watch of the plugin "p", or of a validator of it.
type caller struct {
	name string
	set  func(t *testing.T, h *hub.Hub, s *hub.Session, f func(ctx context.Context) error) // s is p
	call func(t *testing.T, h *hub.Hub)
}

var callers = []caller{
	{"watch ** of store words", func(t *testing.T, h *hub.Hub, s *hub.Session, f func(ctx context.Context) error) {
		t.Helper()
		create(t, h.Host(), "words", store.Config{Read: []string{"p"}})
		_, err := view(t, s, "words").Watch(t.Context(), "**", func(ctx context.Context, _ store.Change) error { return f(ctx) })
		require.NoError(t, err)
	}, func(t *testing.T, h *hub.Hub) {
		t.Helper()
		set(t, view(t, h.Host(), "words"), "a", "1")
		synctest.Wait()
	}},
	{"validator of store words", func(t *testing.T, _ *hub.Hub, s *hub.Session, f func(ctx context.Context) error) {
		t.Helper()
		create(t, s, "words", store.Config{Validator: func(ctx context.Context, _ *store.Proposal) error { return f(ctx) }})
	}, func(t *testing.T, h *hub.Hub) {
		t.Helper()
		words := view(t, h.Host(), "words")
		go func() { _, _ = words.Set(context.Background(), "a", []byte("1")) }() // Ends with the validator's time.
		synctest.Wait()
	}},
}

// TestLeaksOfStores shows that a plugin whose watcher or validator hangs is waited for
// as long as the host says, and not longer; that this is the report's to tell, with what
// was abandoned; and that Leaks names the call until it returns, and nothing of the
// plugin is called any more (promises 8 and 11).
func TestLeaksOfStores(t *testing.T) {
	leave := map[string]func(ctx context.Context, h *hub.Hub) error{
		"Unregister": func(ctx context.Context, h *hub.Hub) error { return h.Unregister(ctx, "p") },
		"Replace": func(ctx context.Context, h *hub.Hub) error {
			require.NoError(t, h.Replace(ctx, &plug{manifest: named("p")}))
			return context.DeadlineExceeded // It is no error.
		},
		"Close": func(ctx context.Context, h *hub.Hub) error {
			report, err := h.Close(ctx)
			require.Equal(t, 1, report.Abandoned)
			require.Len(t, report.Problems, 1)
			require.Equal(t, "p", report.Problems[0].Plugin)
			require.Equal(t, h.Leaks(), report.Leaks)
			require.NoError(t, err)
			return report.Problems[0].Err
		},
	}
	for how, leave := range leave {
		for _, c := range callers {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{WaitLimit: time.Second})
				s, release, calls := join(t, h, "p"), make(chan struct{}), 0
				c.set(t, h, s, func(context.Context) error {
					calls++
					<-release
					return nil
				})
				c.call(t, h)
				c.call(t, h)
				require.Empty(t, h.Leaks())
				began := time.Now()
				require.ErrorIs(t, leave(t.Context(), h), context.DeadlineExceeded, how)
				took := time.Second
				if how == "Close" {
					took += hub.CloseGrace / 10 // For what obeys its context.
				}
				require.Equal(t, took, time.Since(began), how)
				if how == "Unregister" {
					require.Equal(t, hub.Stopped, must(snapshotOf(h, "p")).State, "there is something of it still")
				}
				leaks := h.Leaks()
				require.Len(t, leaks, 1)
				require.Equal(t, [3]string{"p", "handler", c.name}, [3]string{leaks[0].Plugin, leaks[0].Kind, leaks[0].Name})
				if strings.HasPrefix(c.name, "watch") {
					require.Contains(t, leaks[0].Site, "stores_leave_test.go:")
				}
				close(release)
				synctest.Wait()
				require.Empty(t, h.Leaks())
				require.Equal(t, 1, calls, how)
				if how == "Unregister" {
					require.Zero(t, state(h, "p"))
				}
			})
		}
	}
}

// TestCloseFromAWatcher shows that a watcher or validator can close the hub, or let its
// own plugin go, without waiting for itself.
func TestCloseFromAWatcher(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		for _, c := range callers {
			for _, leave := range []func(ctx context.Context, h *hub.Hub) error{
				func(ctx context.Context, h *hub.Hub) error { return h.Unregister(ctx, "p") },
				func(ctx context.Context, h *hub.Hub) error { _, err := h.Close(ctx); return err },
			} {
				synctest.Test(t, func(t *testing.T) {
					h := open(t, hub.Options{StoreDir: dir})
					var took time.Duration
					c.set(t, h, join(t, h, "p"), func(ctx context.Context) error {
						start := time.Now()
						_ = leave(ctx, h)
						took = time.Since(start)
						return nil
					})
					c.call(t, h)
					require.Zero(t, took)
					require.Empty(t, h.Plugins())
					require.Empty(t, h.Leaks())
				})
			}
		}
	}
}

// TestBlameOfStores shows what a plugin is to blame for. A watcher or validator that
// panics, ends its goroutine or runs out of its time counts against its own plugin; an
// error of a watcher is only told, and a validator that rejects does its work. The
// deadline of whoever writes, and writes that wait long for the owner's worker, are
// nobody's failure.
func TestBlameOfStores(t *testing.T) {
	watch := func(f store.Watcher, options ...store.WatchOption) func(t *testing.T, h *hub.Hub) {
		return func(t *testing.T, h *hub.Hub) {
			t.Helper()
			words := create(t, h.Host(), "words", store.Config{Read: []string{"p"}})
			_, err := view(t, join(t, h, "p"), "words").Watch(t.Context(), "**", f, options...)
			require.NoError(t, err)
			for range 6 {
				set(t, words, "a", "1")
			}
			<-time.After(time.Hour)
			require.NoError(t, h.Idle(t.Context()))
		}
	}
	validate := func(deadline time.Duration, want error, f store.Validator) func(t *testing.T, h *hub.Hub) {
		return func(t *testing.T, h *hub.Hub) {
			t.Helper()
			create(t, join(t, h, "p"), "words", store.Config{Validator: f})
			words := view(t, h.Host(), "words")
			for range 6 {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				_, err := words.Set(ctx, "a", []byte("1"))
				require.ErrorIs(t, err, want)
				cancel()
			}
			<-time.After(time.Hour)
			require.NoError(t, h.Idle(t.Context()))
		}
	}
	takes := func(d time.Duration) store.Validator {
		return func(context.Context, *store.Proposal) error { <-time.After(d); return nil }
	}
	for _, test := range []struct {
		name     string
		run      func(t *testing.T, h *hub.Hub)
		event    string // of the audit, "" for none
		failures int
		counts   bool
	}{
		{"a watcher panics", watch(func(context.Context, store.Change) error { panic("boo") }), "store.failed", 6, true},
		{"a watcher ends its goroutine", watch(func(context.Context, store.Change) error { runtime.Goexit(); return nil }), "store.failed", 6, true},
		{"a watcher runs out of its time", watch(func(ctx context.Context, _ store.Change) error { <-ctx.Done(); return nil }, store.Timeout(time.Second)), "store.abandoned", 6, true},
		{"a watcher fails", watch(func(context.Context, store.Change) error { return errPlugin }), "store.failed", 6, false},
		{"a watcher says that it panicked", watch(func(context.Context, store.Change) error { return (*store.PanicError)(nil) }), "store.failed", 6, true},
		{"a watcher is slow", watch(func(context.Context, store.Change) error { <-time.After(time.Minute); return nil }), "", 0, false},
		{"a validator panics", validate(time.Minute, plugbus.ErrDenied, func(context.Context, *store.Proposal) error { panic("boo") }), "store.failed", 6, true},
		{"a validator ends its goroutine", validate(time.Minute, plugbus.ErrDenied, func(context.Context, *store.Proposal) error { runtime.Goexit(); return nil }), "store.failed", 6, true},
		{"a validator runs out of its time", validate(time.Minute, plugbus.ErrDenied, func(ctx context.Context, _ *store.Proposal) error { <-ctx.Done(); return nil }), "store.abandoned", 6, true},
		{"a validator rejects", validate(time.Minute, plugbus.ErrDenied, func(context.Context, *store.Proposal) error { return errPlugin }), "", 0, false},
		{"writers have no time", validate(time.Nanosecond, context.DeadlineExceeded, takes(time.Second)), "", 0, false},
		{"writers have little time", validate(time.Second, context.DeadlineExceeded, takes(4*time.Second)), "", 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(test.name)
			h := open(t, hub.Options{ProbeAfter: -1})
			test.run(t, h)
			p := must(snapshotOf(h, "p"))
			require.EqualValues(t, test.failures, p.Failures)
			require.Equal(t, test.counts, p.State == hub.Quarantined)
			var records uint64
			for _, e := range entries(t, h, audit.Query{Event: "store.*", Actor: "p"}) {
				if e.Event == "store.created" {
					continue
				}
				require.Equal(t, [2]string{test.event, "words"}, [2]string{e.Event, e.Target})
				require.Equal(t, "host", detail(e, "writer"))
				require.Equal(t, "a", detail(e, "key"))
				records += e.Count
			}
			require.EqualValues(t, test.failures, records)
			require.Zero(t, must(snapshotOf(h, "host")).Failures)
		})
	}
}

// TestBusyOwner shows that a validator that takes no longer than it may is not to blame
// if writes wait for it longer than that.
func TestBusyOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Store: store.Options{ValidateLimit: 5 * time.Second}})
		create(t, join(t, h, "p"), "words", store.Config{Validator: func(context.Context, *store.Proposal) error {
			<-time.After(2 * time.Second)
			return nil
		}})
		words := view(t, h.Host(), "words")
		var writes sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			writes.Go(func() { _, errs[i] = words.Set(context.Background(), fmt.Sprint(i), nil) })
		}
		writes.Wait()
		idle(t, h)
		require.Zero(t, must(snapshotOf(h, "p")).Failures)
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
				continue
			}
			require.ErrorIs(t, err, store.ErrBusy)
			require.ErrorIs(t, err, store.ErrNotDone)
		}
		require.Equal(t, 3, done, "those whose turn came in time")
		require.Equal(t, 3, h.Inspect().Stores.Stores[0].Keys)
	})
}

// TestQuarantineOfStores shows that a plugin in quarantine may do nothing with stores,
// and is called for none: its watches rest, and writes that its validator would be asked
// about are not done. When it is restored, its watches go on without a gap, or say how
// much of one there is.
func TestQuarantineOfStores(t *testing.T) {
	for _, history := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			s := join(t, h, "p")
			asked := 0
			create(t, s, "own", store.Config{Validator: func(context.Context, *store.Proposal) error { asked++; return nil }})
			words := create(t, h.Host(), "words", store.Config{Read: []string{"p"}, Write: []string{"p"}, History: history})
			v := view(t, s, "words")
			box, w := follow(t, v, "**")
			set(t, words, "a", "1")
			idle(t, h)
			quarantine(t, h, s)
			for i := range 5 {
				set(t, words, "b", fmt.Sprint(i))
			}
			idle(t, h)
			require.Equal(t, []string{"set a=1"}, box.texts())
			_, err := v.Get(t.Context(), "a")
			denied(t, err, plugbus.ReasonQuarantined)
			_, err = view(t, h.Host(), "own").Set(t.Context(), "a", nil)
			require.ErrorIs(t, err, store.ErrNoValidator)
			require.Zero(t, asked)
			require.EqualValues(t, 1, must(snapshotOf(h, "p")).Refused, "its own act")

			require.NoError(t, h.Restore("p"))
			idle(t, h)
			want := []string{"set a=1", "set b=0", "set b=1", "set b=2", "set b=3", "set b=4"}
			if history != 0 {
				want = []string{"set a=1", "lagged", "set b=3", "set b=4"}
				require.EqualValues(t, 3, box.changes[1].Lost())
			}
			require.Equal(t, want, box.texts())
			require.NoError(t, w.Err())
			set(t, view(t, h.Host(), "own"), "a", "1")
			require.Equal(t, 1, asked)
		})
	}
}

// TestLeaveWhileQuarantined shows that the watches of a plugin in quarantine end with it.
func TestLeaveWhileQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "p")
		words := create(t, h.Host(), "words", store.Config{Read: []string{"p"}})
		box, w := follow(t, view(t, s, "words"), "**")
		quarantine(t, h, s)
		set(t, words, "a", "1")
		require.NoError(t, h.Unregister(t.Context(), "p"))
		<-w.Done()
		require.ErrorIs(t, w.Err(), plugbus.ErrClosed)
		require.Empty(t, box.texts())
		require.Empty(t, h.Inspect().Stores.Stores[0].Watches)
	})
}

// TestDrainOfStores shows that a plugin that leaves is called for no change any more from
// the beginning, although it still handles events, may still write in Stop, and validates
// until then.
func TestDrainOfStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{StoreDir: t.TempDir()})
		box := &storebox{}
		shared := create(t, h.Host(), "words", store.Config{Read: []string{"p"}})
		var own, words *store.View
		p := &plug{manifest: named("p"), start: func(ctx context.Context, s *hub.Session) (err error) {
			own, err = s.CreateStore(ctx, "own", store.Config{Persistent: true, Validator: func(context.Context, *store.Proposal) error { return nil }})
			if err == nil {
				words, err = s.OpenStore(ctx, "words")
			}
			if err == nil {
				_, err = words.Watch(ctx, "**", box.watch)
			}
			if err == nil {
				_, err = s.Subscribe("job", func(context.Context, events.Event) error { <-time.After(time.Second); return nil })
			}
			return err
		}, stop: func(ctx context.Context) error {
			_, err := own.Set(ctx, "stopped", nil)
			return err
		}}
		require.NoError(t, h.Register(t.Context(), p))
		set(t, shared, "ready", "")
		idle(t, h)
		for range 2 {
			emit(t, h.Host(), "job", 1)
		}
		var meanwhile sync.WaitGroup
		meanwhile.Go(func() {
			<-time.After(time.Millisecond)
			set(t, shared, "draining", "")
			set(t, view(t, h.Host(), "own"), "draining", "")
		})
		require.NoError(t, h.Unregister(t.Context(), "p"))
		meanwhile.Wait()
		require.Equal(t, []string{"set ready="}, box.texts())
		require.Equal(t, 2, h.Inspect().Stores.Stores[0].Keys)
	})
}

// TestCloseWhileTheyWrite shows that a hub which closes while plugins write and watch
// ends in order, and that what it had acknowledged is on disk and nothing else of which
// a writer knows that it was not done (promise 13).
func TestCloseWhileTheyWrite(t *testing.T) {
	o := hub.Options{StoreDir: t.TempDir()}
	h := open(t, o)
	const writers = 4
	done, refused := make([][]string, writers), make([]map[string]bool, writers)
	var wait sync.WaitGroup
	var begun sync.WaitGroup
	begun.Add(writers)
	for i := range writers {
		s := join(t, h, fmt.Sprintf("p%d", i))
		words := create(t, s, s.ID(), store.Config{Persistent: true})
		_, err := words.Watch(t.Context(), "**", func(ctx context.Context, c store.Change) error { return ctx.Err() }, store.Snapshot())
		require.NoError(t, err)
		refused[i] = map[string]bool{}
		wait.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprint(n)
				_, err := words.Set(context.Background(), key, []byte(key))
				if n == 10 {
					begun.Done()
				}
				switch {
				case err == nil:
					done[i] = append(done[i], key)
					continue
				case !errors.Is(err, store.ErrUnknown):
					refused[i][key] = true
				}
				return
			}
		})
	}
	begun.Wait()
	h = reopen(t, h, o)
	wait.Wait()
	for i := range writers {
		words := view(t, h.Host(), fmt.Sprintf("p%d", i))
		there := map[string]bool{}
		for key, err := range words.Keys(t.Context(), store.All()) {
			require.NoError(t, err)
			there[key] = true
			require.False(t, refused[i][key])
		}
		for _, key := range done[i] {
			require.True(t, there[key], key)
		}
		require.Contains(t, []int{len(done[i]), len(done[i]) + 1}, len(there), "and perhaps that of which it was not known")
	}
}

// TestReplaceWithWatches shows that a successor has its predecessor's stores and none of
// its watches, and that no write is lost while one takes the place of the other.
func TestReplaceWithWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		s := join(t, h, "p")
		words := create(t, s, "words", store.Config{})
		old, w := follow(t, words, "**")
		set(t, words, "a", "1")
		idle(t, h)
		box := &storebox{}
		next := &plug{manifest: named("p"), start: func(ctx context.Context, s *hub.Session) error {
			v, err := s.OpenStore(ctx, "words")
			if err == nil {
				_, err = v.Watch(ctx, "**", box.watch, store.After(1))
			}
			return err
		}, stop: func(context.Context) error { return nil }}
		for _, key := range []string{"b", "c"} {
			set(t, view(t, h.Host(), "words"), key, "1")
		}
		require.NoError(t, h.Replace(t.Context(), next))
		require.ErrorIs(t, w.Err(), plugbus.ErrClosed)
		idle(t, h)
		require.Equal(t, "set a=1", old.texts()[0])
		require.Equal(t, []string{"set b=1", "set c=1"}, box.texts())
		require.Len(t, must(snapshotOf(h, "p")).Watches, 1)
	})
}
