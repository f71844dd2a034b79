package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A logbook is an Observer that keeps what it gets.
type logbook struct {
	mu      sync.Mutex
	all     []plugbus.Observation
	batches int
}

func (b *logbook) Observe(_ context.Context, batch []plugbus.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, batch...)
	b.batches++
}

// take returns what has come since the last call.
func (b *logbook) take() []plugbus.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.all
	b.all = nil
	return all
}

// line says what an observation is in one line, without what differs from run to run.
func line(o plugbus.Observation) string {
	s := fmt.Sprintf("%v %v %v %s>%s %s %s", o.Stage, o.Kind, o.Verb, o.From, o.To, o.Name, o.Result())
	if o.Reason != "" {
		s += " " + string(o.Reason)
	}
	if o.Depth != 1 {
		s += fmt.Sprintf(" depth %d", o.Depth)
	}
	if o.Waited+o.Ran > 0 {
		s += fmt.Sprintf(" %v+%v", o.Waited, o.Ran)
	}
	if o.Count != 1 {
		s += fmt.Sprintf(" x%d", o.Count)
	}
	return s
}

// lines returns one line of each observation, but for those of the hub's own events.
func linesOf(all []plugbus.Observation) (lines []string) {
	for _, o := range all {
		if o.From != "hub" {
			lines = append(lines, line(o))
		}
	}
	return lines
}

const observedPolicy = `
	"a": {"trust": "basic", "emit": true, "broadcast": true, "subscribe": {"allow": ["job.*"]}, "publish": true, "canSendMessages": true,
		"dataAccess": {"shelf": {"read": true, "write": true, "create": true}}},
	"b": {"trust": "basic", "subscribe": {"allow": ["job.*"]}, "consume": true, "canReceiveMessages": true,
		"dataAccess": {"shelf": {"read": true}}},
	"deaf": {"trust": "basic", "subscribe": {"allow": ["job.*"], "deny": ["job.secret"]}}`

// TestObserver shows what is observed of each kind of act and delivery: who, what, how
// it ended and why, how long it waited and ran.
func TestObserver(t *testing.T) {
	for _, test := range []struct {
		name string
		act  func(t *testing.T, h *hub.Hub, a, b *hub.Session)
		want []string
	}{
		{"emit", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			_, err := b.Subscribe("job.*", func(context.Context, events.Event) error { <-time.After(time.Second); return nil })
			require.NoError(t, err)
			emit(t, a, "job.new", 1)
			emit(t, a, "job.new", 2)
			<-time.After(3 * time.Second)
		}, []string{
			"act subscription subscribe b> job.* accepted",
			"act event emit a> job.new accepted",
			"act event emit a> job.new accepted",
			"delivery event subscribe a>b job.new handled 0s+1s",
			"delivery event subscribe a>b job.new handled 1s+1s",
		}},
		{"emit refused", func(t *testing.T, _ *hub.Hub, _, b *hub.Session) {
			_, err := b.Emit(t.Context(), "job.new", 1)
			denied(t, err, plugbus.ReasonInsufficientPermissions)
			_, err = b.Subscribe("other", func(context.Context, events.Event) error { return nil })
			denied(t, err, plugbus.ReasonInsufficientPermissions)
		}, []string{
			"act event emit b> job.new refused insufficient_permissions",
			"act subscription subscribe b> other refused insufficient_permissions",
		}},
		{"cascade", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			_, err := a.Subscribe("job.next", func(context.Context, events.Event) error { return errPlugin })
			require.NoError(t, err)
			handled(t, b, "go", func(ctx context.Context, _ router.Message) (any, error) {
				_, err := b.Emit(ctx, "job.next", 1)
				return nil, err
			})
			_, _ = a.Send(t.Context(), "b", "go", 1)
		}, []string{
			"act subscription subscribe a> job.next accepted",
			"act send send a>b go accepted",
			"act event emit b> job.next refused insufficient_permissions depth 2",
			"delivery send receive a>b go failed",
		}},
		{"overflow", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			hold := make(chan struct{})
			for _, o := range [][]events.SubscribeOption{
				{events.Buffer(1), events.OnOverflow(events.DropNewest)},
				{events.Buffer(1), events.OnOverflow(events.RefuseToEmitter)},
				{events.Buffer(1)},
			} {
				s, err := b.Subscribe("job.*", func(context.Context, events.Event) error { <-hold; return nil }, o...)
				require.NoError(t, err)
				emit(t, a, "job.held", 1)
				synctest.Wait()
				emit(t, a, "job.waits", 2)
				emit(t, a, "job.more", 3)
				emit(t, a, "job.last", 4)
				hold <- struct{}{}
				synctest.Wait()
				s.Unsubscribe()
				hold <- struct{}{}
				synctest.Wait()
			}
		}, []string{
			"act subscription subscribe b> job.* accepted",
			"act event emit a> job.held accepted", "act event emit a> job.waits accepted", "act event emit a> job.more accepted",
			"delivery event subscribe a>b job.more dropped",
			"act event emit a> job.last accepted",
			"delivery event subscribe a>b job.last dropped",
			"delivery event subscribe a>b job.held handled", "delivery event subscribe a>b job.waits handled",
			"act subscription subscribe b> job.* accepted",
			"act event emit a> job.held accepted", "act event emit a> job.waits accepted", "act event emit a> job.more accepted",
			"delivery event subscribe a>b job.more full",
			"act event emit a> job.last accepted",
			"delivery event subscribe a>b job.last full",
			"delivery event subscribe a>b job.held handled", "delivery event subscribe a>b job.waits handled",
			"act subscription subscribe b> job.* accepted",
			"act event emit a> job.held accepted", "act event emit a> job.waits accepted", "act event emit a> job.more accepted", "act event emit a> job.last accepted",
			"delivery event subscribe a>b job.held handled",
			"delivery event subscribe >b  dropped depth 0 x2",
			"delivery event subscribe a>b job.last handled",
		}},
		{"cancelled, abandoned and expired", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			_, err := b.Subscribe("job.*", func(ctx context.Context, _ events.Event) error { <-time.After(3 * time.Second); return nil }, events.Timeout(time.Second))
			require.NoError(t, err)
			emit(t, a, "job.one", 1)
			_, err = a.Emit(t.Context(), "job.two", 1, events.MaxAge(2*time.Second))
			require.NoError(t, err)
			<-time.After(4 * time.Second)
		}, []string{
			"act subscription subscribe b> job.* accepted",
			"act event emit a> job.one accepted",
			"act event emit a> job.two accepted",
			"delivery event subscribe a>b job.one abandoned 0s+1s",
			"delivery event subscribe a>b job.two expired 3s+0s",
		}},
		{"broadcast", func(t *testing.T, h *hub.Hub, a, b *hub.Session) {
			deaf := join(t, h, "deaf")
			_, err := deaf.Subscribe("job.*", (&inbox{}).handle, events.Narrow())
			require.NoError(t, err)
			listen(t, b, "job.*")
			_, err = a.Broadcast(t.Context(), "job.secret", 1, events.Audience{})
			require.NoError(t, err)
		}, []string{
			"act subscription subscribe deaf> job.* accepted",
			"act subscription subscribe b> job.* accepted",
			"act event broadcast a> job.secret accepted",
			"delivery event subscribe a>deaf job.secret refused denied_by_rule",
			"delivery event subscribe a>b job.secret handled",
		}},
		{"replay", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			emit(t, a, "job.old", 1)
			<-time.After(time.Minute)
			for _, err := range b.Replay(t.Context(), "job.*", events.All()) {
				require.NoError(t, err)
			}
			listen(t, b, "job.*", events.StartAt(events.All()))
		}, []string{
			"act event emit a> job.old accepted",
			"act subscription subscribe b> job.* accepted",
			"act subscription subscribe b> job.* accepted",
			"delivery event subscribe a>b job.old handled",
		}},
		{"messages", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			slow := func(context.Context, router.Message) (any, error) { <-time.After(time.Second); return nil, nil }
			handled(t, b, "ask", slow)
			handled(t, b, "tell", slow)
			_, err := b.HandleStream("list", func(_ context.Context, _ router.Message, yield func(any) bool) error { yield(1); return nil })
			require.NoError(t, err)
			_, err = a.Send(t.Context(), "b", "ask", "12345678", router.CorrelationID("x"))
			require.NoError(t, err)
			require.NoError(t, a.Post(t.Context(), "b", "tell", nil))
			for _, err := range a.Stream(t.Context(), "b", "list", nil) {
				require.NoError(t, err)
			}
			_, err = a.Send(t.Context(), "b", "what", nil)
			require.ErrorIs(t, err, router.ErrNoHandler)
			_, err = a.Send(t.Context(), "nobody", "what", nil)
			require.Error(t, err)
			_, err = b.Send(t.Context(), "a", "ask", nil)
			denied(t, err, plugbus.ReasonNoSendPermission)
			_, err = a.Send(t.Context(), "b", "ask", nil, router.Timeout(time.Millisecond))
			require.Error(t, err)
			<-time.After(2 * time.Second)
		}, []string{
			"act send send a>b ask accepted", "delivery send receive a>b ask handled 0s+1s",
			"act post send a>b tell accepted", "act stream send a>b list accepted",
			"delivery post receive a>b tell handled 0s+1s", "delivery stream receive a>b list handled 1s+0s",
			"act send send a>b what refused recipient_cannot_receive",
			"act send send a>nobody what refused unknown_plugin",
			"act send send b>a ask refused no_send_permission",
			"act send send a>b ask accepted", "delivery send receive a>b ask abandoned 0s+1ms",
		}},
		{"publish", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			for range 2 {
				_, err := b.HandleTopic("news.*", func(context.Context, router.Message) error { return errPlugin })
				require.NoError(t, err)
			}
			_, err := a.Publish(t.Context(), "news.now", 1)
			require.NoError(t, err)
		}, []string{
			"act publication publish a> news.now accepted",
			"delivery publication consume a>b news.now failed",
			"delivery publication consume a>b news.now failed",
		}},
		{"stores", func(t *testing.T, _ *hub.Hub, a, b *hub.Session) {
			shelf, err := a.CreateStore(t.Context(), "shelf", store.Config{Read: []string{"b"}})
			require.NoError(t, err)
			view, err := b.OpenStore(t.Context(), "shelf")
			require.NoError(t, err)
			_, err = view.Watch(t.Context(), "**", func(context.Context, store.Change) error { <-time.After(time.Second); return errPlugin })
			require.NoError(t, err)
			_, err = shelf.Set(t.Context(), "key", []byte("value"))
			require.NoError(t, err)
			synctest.Wait() // The watcher runs, so b acts on account of it.
			_, err = shelf.Create(t.Context(), "key", []byte("value"))
			require.ErrorIs(t, err, store.ErrExists)
			_, err = view.Get(t.Context(), "key")
			require.NoError(t, err)
			_, err = view.Set(t.Context(), "key", nil)
			denied(t, err, plugbus.ReasonInsufficientPermissions)
			<-time.After(2 * time.Second)
		}, []string{
			"act store create a> shelf accepted",
			"act store read b> shelf accepted", "act store read b> shelf accepted",
			"act store write a> shelf accepted", "result store write a> shelf handled",
			"act store write a> shelf accepted", "result store write a> shelf failed",
			"act store read b> shelf accepted depth 2",
			"act store write b> shelf refused insufficient_permissions depth 2",
			"delivery store read a>b shelf failed 0s+1s",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book logbook
				h := open(t, hub.Options{Policy: policyOf(t, observedPolicy), Observer: &book})
				a, b := join(t, h, "a"), join(t, h, "b")
				synctest.Wait()
				book.take()
				test.act(t, h, a, b)
				synctest.Wait()
				got := linesOf(book.take())
				require.Equal(t, test.want, got, "%q", got)
			})
		})
	}
}

// handled sets a handler of messages.
func handled(t testing.TB, s *hub.Session, typ string, f router.Handler) {
	t.Helper()
	_, err := s.Handle(typ, f)
	require.NoError(t, err)
}

// TestObservedNames shows what one can join observations by, and that the batch is the
// hub's: nothing of it is left when the call has returned.
func TestObservedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []plugbus.Observation
		var all []plugbus.Observation
		h := open(t, hub.Options{Observer: hub.ObserverFunc(func(_ context.Context, batch []plugbus.Observation) {
			kept = batch
			all = append(all, batch...)
		})})
		a, b := join(t, h, "a"), join(t, h, "b")
		listen(t, b, "job.*")
		synctest.Wait()
		all = nil
		receipt, err := a.Emit(t.Context(), "job.new", "12345", events.CorrelationID("c"), events.Headers(map[string]string{"k": "v"}))
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, all, 2)
		for _, o := range all {
			require.Equal(t, receipt.ID(), o.ID)
			require.Equal(t, receipt.Seq, o.Seq)
			require.Equal(t, "c", o.Correlation)
			require.Positive(t, o.Bytes)
			require.Equal(t, time.Now(), o.Time.In(time.Local))
		}
		require.Equal(t, "job.*", all[1].Pattern)
		require.Zero(t, kept[0], "it is cleared")
	})
}

// TestObserverDelaysNobody shows that an Observer that blocks, panics, ends its goroutine
// or closes the hub delays nobody, that what it cannot take is counted, and that Close
// waits for it no longer than it must, and names it.
func TestObserverDelaysNobody(t *testing.T) {
	release := make(chan struct{})
	for _, test := range []struct {
		name    string
		observe func(ctx context.Context, h *hub.Hub)
		close   time.Duration
		hangs   bool
		panics  bool
	}{
		{"blocks", func(context.Context, *hub.Hub) { <-release }, 30 * time.Second, true, false},
		{"blocks until its context ends", func(ctx context.Context, _ *hub.Hub) { <-ctx.Done() }, 30 * time.Second, true, false},
		{"panics", func(context.Context, *hub.Hub) { panic("ouch") }, 0, false, true},
		{"ends its goroutine", func(context.Context, *hub.Hub) { runtime.Goexit() }, 0, false, true},
		{"is slow", func(context.Context, *hub.Hub) { <-time.After(time.Second) }, 2 * time.Second, false, false},
		{"acts", func(ctx context.Context, h *hub.Hub) { _, _ = h.Host().Emit(ctx, "word.observed", 1) }, 0, false, false},
		{"looks", func(_ context.Context, h *hub.Hub) { h.Inspect(); h.Leaks(); h.Ledger() }, 0, false, false},
		{"waits for itself", func(ctx context.Context, h *hub.Hub) { _ = h.Idle(ctx) }, 0, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release = make(chan struct{})
				var log lines
				var h *hub.Hub
				var calls atomic.Int64
				ready := make(chan struct{})
				h = open(t, hub.Options{Logger: log.logger(), ObserverQueue: 64, Observer: hub.ObserverFunc(func(ctx context.Context, _ []plugbus.Observation) {
					<-ready
					calls.Add(1)
					test.observe(ctx, h)
				})})
				close(ready)
				start := time.Now()
				s := join(t, h, "a")
				box := listen(t, s, "job.*")
				for i := range 200 {
					emit(t, s, "job.new", i)
				}
				idle(t, h)
				require.Zero(t, time.Since(start))
				require.Len(t, box.names(), 200)
				if test.hangs {
					stats := h.Inspect().Observer
					require.Equal(t, 64, stats.Waiting)
					require.Positive(t, stats.Dropped)
				}
				report, err := h.Close(t.Context())
				require.LessOrEqual(t, time.Since(start), test.close)
				stats := h.Inspect().Observer
				if test.hangs {
					require.ErrorContains(t, err, "Options.Observer has not returned")
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, []hub.Leak{{Plugin: "host", Kind: "callback", Name: "Observer"}}, report.Leaks)
				} else {
					require.NoError(t, err)
					require.True(t, report.Clean())
					require.Zero(t, stats.Waiting)
				}
				if test.panics {
					require.Positive(t, stats.Panics)
					require.Contains(t, log.String(), "the Observer did not return")
				}
				before := calls.Load()
				close(release)
				synctest.Wait()
				require.Equal(t, before, calls.Load(), "it is not called after Close")
				require.Empty(t, h.Leaks())
				require.Zero(t, h.Inspect().Observer.Waiting)
			})
		})
	}
}

// TestObserverCloses shows that the Observer can close the hub with its own context, and
// is not called again.
func TestObserverCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *hub.Hub
		calls := 0
		ready, closed := make(chan struct{}), make(chan error, 1)
		h = open(t, hub.Options{Observer: hub.ObserverFunc(func(ctx context.Context, _ []plugbus.Observation) {
			<-ready
			calls++
			report, err := h.Close(ctx)
			require.True(t, report.Clean(), "%+v", report)
			closed <- err
			require.NoError(t, h.Ledger().Check())
		})})
		start := time.Now()
		emit(t, h.Host(), "word.said", 1)
		close(ready)
		require.NoError(t, <-closed)
		synctest.Wait()
		require.Zero(t, time.Since(start))
		require.Equal(t, 1, calls)
		require.ErrorIs(t, h.Register(t.Context(), &plug{manifest: named("a")}), hub.ErrClosed)
		stats := h.Inspect().Observer
		require.Zero(t, stats.Waiting)
	})
}

// TestObserverGetsAll shows that Close gives the Observer what it is owed, after all else
// has ended, and then nothing more.
func TestObserverGetsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logbook
		hold := make(chan struct{})
		h := open(t, hub.Options{Observer: hub.ObserverFunc(func(ctx context.Context, batch []plugbus.Observation) {
			<-time.After(time.Millisecond)
			book.Observe(ctx, batch)
		})})
		s := join(t, h, "a")
		_, err := s.Subscribe("job.*", func(context.Context, events.Event) error { <-hold; return nil })
		require.NoError(t, err)
		for i := range 5 {
			emit(t, s, "job.new", i)
		}
		report, err := h.Close(t.Context())
		require.NoError(t, err)
		var ledger plugbus.Ledger
		all := book.take()
		for _, o := range all {
			ledger.Observe(o)
		}
		require.Equal(t, report.Ledger, ledger)
		require.EqualValues(t, 4, ledger.Cancelled)
		require.EqualValues(t, 1, ledger.Abandoned)
		named := slices.ContainsFunc(all, func(o plugbus.Observation) bool {
			return o.Outcome == plugbus.Abandoned && o.Name == "job.new" && o.Ran == 30*time.Second
		})
		require.True(t, named, "what was abandoned has its name")
		close(hold)
		synctest.Wait()
		require.Empty(t, book.take())
	})
}

// TestObserverOptions shows what is no length of its queue.
func TestObserverOptions(t *testing.T) {
	for _, n := range []int{-1, 1<<20 + 1} {
		_, err := hub.New(hub.Options{ObserverQueue: n})
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		require.ErrorContains(t, err, "ObserverQueue")
	}
	_, err := hub.New(hub.Options{Events: events.Options{Observe: func(plugbus.Observation) {}}})
	require.ErrorContains(t, err, "Observe")
	_, err = hub.New(hub.Options{Router: router.Options{Observe: func(plugbus.Observation) {}}})
	require.ErrorContains(t, err, "Observe")
	_, err = hub.New(hub.Options{Store: store.Options{Observe: func(plugbus.Observation) {}}})
	require.ErrorContains(t, err, "Observe")
	h := open(t, hub.Options{})
	require.Zero(t, h.Inspect().Observer)
}
