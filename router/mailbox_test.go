package router_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// stuck returns the client of a plugin whose worker is in a handler until the gate
// opens, so that everything else that comes for it waits. What waits is of type
// "note".
func stuck(t testing.TB, r *router.Router, id string, notes *diary) *gate {
	t.Helper()
	g := closedGate(t)
	to := join(t, r, id)
	handle(t, to, "stick", g.then(notes.write))
	handle(t, to, "note", notes.write)
	post(t, join(t, r, id+"-sticker"), id, "stick", "stuck")
	synctest.Wait()
	require.Zero(t, mailboxOf(t, r, id).Waiting)
	return g
}

// TestR6Order shows that messages of one priority from one sender are handled in
// the order sent, whatever others send at the same time.
func TestR6Order(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		d := &diary{}
		to := join(t, r, "to")
		handle(t, to, "note", d.write)
		handle(t, to, "other", d.write)
		priorities := []plugbus.Priority{plugbus.PriorityLow, plugbus.PriorityNormal, plugbus.PriorityHigh}
		var all sync.WaitGroup
		for n := range 4 {
			from := join(t, r, fmt.Sprintf("from%d", n))
			all.Go(func() {
				for i := range 200 {
					typ := []string{"note", "other"}[i%2]
					err := from.Post(t.Context(), "to", typ, i, router.Priority(priorities[i%3]), router.WaitForRoom())
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		synctest.Wait()
		type lane struct {
			from     string
			priority plugbus.Priority
		}
		last := map[lane]int{}
		for _, m := range d.read() {
			l := lane{m.From(), m.Priority()}
			i := m.Data().(int)
			before, seen := last[l]
			require.True(t, !seen || before < i, "%v: %d after %d", l, i, before)
			last[l] = i
		}
		require.Len(t, d.read(), 4*200)
	})
}

// TestR6IdleIsReachedThroughTheMailbox shows that what is sent to a plugin that
// is idle does not overtake what was sent before, and is not handled on the
// sender's stack.
func TestR6IdleIsReachedThroughTheMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		from, to := join(t, r, "from"), join(t, r, "to")
		var mu sync.Mutex
		handle(t, to, "note", func(context.Context, router.Message) (any, error) {
			mu.Lock() // On the sender's stack, this would never end.
			defer mu.Unlock()
			return nil, nil
		})
		mu.Lock()
		post(t, from, "to", "note", nil)
		mu.Unlock()
		synctest.Wait()
		require.EqualValues(t, 1, r.Ledger().Handled)
	})
}

// TestR8PriorityIsHonoured shows the order in which a mailbox is served.
func TestR8PriorityIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		d := &diary{}
		g := stuck(t, r, "to", d)
		from := join(t, r, "from")
		for range 20 {
			for p := plugbus.PriorityLow; p <= plugbus.PriorityHigh; p++ {
				post(t, from, "to", "note", nil, router.Priority(p))
			}
		}
		g.open()
		synctest.Wait()
		var got strings.Builder
		for _, m := range d.read()[1:] {
			got.WriteByte(m.Priority().String()[0])
		}
		// The message that was stuck has used one of the first round's normal ones.
		require.True(t, strings.HasPrefix(got.String(), "hhhhhhhhnnnl"+"hhhhhhhhnnnnl"+"hhhhnnnnl"+"nnnnl"), got.String())
	})
}

// TestR7Count bounds what waits for one plugin, and what one sender has of it.
func TestR7Count(t *testing.T) {
	for _, test := range []struct{ most, share int }{{1, 1}, {3, 1}, {4, 1}, {8, 2}, {20, 5}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{MailboxMessages: test.most})
			d := &diary{}
			g := stuck(t, r, "to", d)
			accepted := 0
			for n := range 6 {
				from := join(t, r, fmt.Sprintf("from%d", n))
				for i := range test.share + 2 {
					err := from.Post(t.Context(), "to", "note", i)
					if i < test.share && accepted < test.most {
						require.NoError(t, err)
						accepted++
						continue
					}
					require.ErrorIs(t, err, router.ErrQueueFull)
					if accepted < test.most {
						require.ErrorContains(t, err, "has its share")
					} else {
						require.NotContains(t, err.Error(), "has its share")
					}
				}
			}
			box := mailboxOf(t, r, "to")
			require.Equal(t, min(test.most, 6*test.share), box.Waiting)
			require.EqualValues(t, 6*(test.share+2)-accepted, box.Ledger.Full)
			g.open()
			synctest.Wait()
			require.Len(t, d.read(), accepted+1)
			post(t, join(t, r, "later"), "to", "note", nil) // There is room again.
		})
	}
}

// TestR7Bytes bounds the bytes that wait, by the payloads and headers.
func TestR7Bytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxBytes: 400})
		g := closedGate(t)
		to, gates := join(t, r, "to"), make(chan *gate, 1)
		handle(t, to, "gated", func(context.Context, router.Message) (any, error) { (<-gates).pass(); return nil, nil })
		handle(t, to, "note", echo)
		gates <- g
		post(t, join(t, r, "opener"), "to", "gated", "")
		synctest.Wait()
		send := func(from *router.Client, bytes int) error {
			half := max(1, bytes/2) // A correlation id counts like a payload.
			return from.Post(t.Context(), "to", "note", strings.Repeat("x", bytes-half), router.CorrelationID(strings.Repeat("x", half)))
		}
		a, b, c := join(t, r, "a"), join(t, r, "b"), join(t, r, "c")
		require.NoError(t, send(a, 60))
		require.NoError(t, send(a, 40))
		require.ErrorIs(t, send(a, 1), router.ErrQueueFull, "over its quarter")
		require.EqualValues(t, 100, mailboxOf(t, r, "to").Bytes)
		require.NoError(t, send(b, 200), "the first of a sender may be over its quarter")
		require.ErrorIs(t, send(b, 1), router.ErrQueueFull)
		require.ErrorIs(t, send(c, 101), router.ErrQueueFull, "but not over the whole")
		require.NoError(t, send(c, 100))
		require.EqualValues(t, 400, mailboxOf(t, r, "to").Bytes)
		g.open()
		synctest.Wait()
		require.Zero(t, mailboxOf(t, r, "to").Bytes)
		for range 3 { // What was handled counts no more.
			g = closedGate(t)
			gates <- g
			require.NoError(t, c.Post(t.Context(), "to", "gated", ""))
			synctest.Wait()
			require.NoError(t, send(a, 60))
			require.NoError(t, send(a, 40))
			require.ErrorIs(t, send(a, 1), router.ErrQueueFull)
			g.open()
			synctest.Wait()
		}
		g = stuck(t, r, "to2", &diary{})
		require.NoError(t, c.Post(t.Context(), "to2", "note", strings.Repeat("x", 1000)), "an empty mailbox takes any message")
		require.ErrorIs(t, a.Post(t.Context(), "to2", "note", "x"), router.ErrQueueFull)
		g.open()
	})
}

// TestR7ManySenders has more senders come and go than a mailbox remembers.
func TestR7ManySenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 8})
		d := &diary{}
		g := stuck(t, r, "to", d)
		first := join(t, r, "first")
		post(t, first, "to", "note", "x")
		for n := range 500 {
			from := join(t, r, fmt.Sprintf("from%d", n))
			if n == 200 {
				g.open()
				synctest.Wait()
				g = stuck(t, r, "other", d)
			}
			_ = from.Post(t.Context(), "to", "note", n)
			require.NoError(t, from.Close(t.Context()))
		}
		g.open()
		synctest.Wait()
		require.Zero(t, mailboxOf(t, r, "to").Waiting)
		require.Zero(t, mailboxOf(t, r, "to").Bytes)
	})
}

// TestR7WaitForRoom waits until there is room, the context is done, the deadline
// has passed, or either side leaves.
func TestR7WaitForRoom(t *testing.T) {
	type world struct {
		r        *router.Router
		from, to *router.Client
		g        *gate
		cancel   context.CancelFunc
	}
	for _, test := range []struct {
		name    string
		options []router.SendOption
		post    bool
		then    func(t *testing.T, w *world)
		after   time.Duration // of then
		want    []error
	}{
		{"room", nil, true, func(_ *testing.T, w *world) { w.g.open() }, 0, nil},
		{"room for a request", nil, false, func(_ *testing.T, w *world) { w.g.open() }, 0, nil},
		{"limit of a post", nil, true, func(*testing.T, *world) {}, 7 * time.Second, []error{router.ErrQueueFull, context.DeadlineExceeded}},
		{"default deadline", nil, false, func(*testing.T, *world) {}, 30 * time.Second, []error{router.ErrQueueFull, context.DeadlineExceeded}},
		{"timeout", []router.SendOption{router.Timeout(time.Second)}, false, func(*testing.T, *world) {}, time.Second, []error{router.ErrQueueFull, context.DeadlineExceeded}},
		{"context", nil, true, func(_ *testing.T, w *world) { w.cancel() }, 0, []error{router.ErrQueueFull, context.Canceled}},
		{"sender leaves", nil, true, func(t *testing.T, w *world) { require.NoError(t, w.from.Close(t.Context())) }, 0, []error{router.ErrQueueFull, router.ErrClosed}},
		{"recipient drains", nil, true, func(_ *testing.T, w *world) { w.to.BeginDrain() }, 0, []error{router.ErrUnknownTarget}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{MailboxMessages: 1, WaitLimit: 7 * time.Second})
			w := &world{r: r, from: join(t, r, "from"), to: join(t, r, "to"), g: closedGate(t)}
			handle(t, w.to, "note", w.g.then(echo))
			filler := join(t, r, "filler")
			post(t, filler, "to", "note", "runs")
			synctest.Wait()
			post(t, filler, "to", "note", "waits")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.cancel = cancel
			start, done := time.Now(), make(chan error, 1)
			options := append(test.options, router.WaitForRoom())
			go func() {
				if test.post {
					done <- w.from.Post(ctx, "to", "note", "x", options...)
					return
				}
				_, err := w.from.Send(ctx, "to", "note", "x", options...)
				done <- err
			}()
			synctest.Wait()
			require.Empty(t, done, test.name)
			test.then(t, w)
			err := <-done
			require.Equal(t, test.after, time.Since(start), test.name)
			if test.want == nil {
				require.NoError(t, err, test.name)
			}
			for _, want := range test.want {
				require.ErrorIs(t, err, want, test.name)
			}
			w.g.open()
			synctest.Wait()
			l := r.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 3, l.Offered, "each message is offered once, however often it asks for room: %v", l)
		})
	}
}

// TestManyWaitForRoom has a crowd wait for a mailbox of one place.
func TestManyWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 1})
		d := &diary{}
		handle(t, join(t, r, "to"), "note", d.write)
		var all sync.WaitGroup
		for n := range 50 {
			from := join(t, r, fmt.Sprintf("from%d", n))
			all.Go(func() {
				for range 5 {
					if err := from.Post(t.Context(), "to", "note", n, router.WaitForRoom()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		synctest.Wait()
		require.Len(t, d.read(), 250)
		require.Zero(t, r.Ledger().Full)
	})
}

// TestNoWaitInOnesOwnWay refuses to wait for room in a handler on which that room
// depends.
func TestNoWaitInOnesOwnWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{MailboxMessages: 4})
		a, b := join(t, r, "a"), join(t, r, "b")
		d := &diary{}
		handle(t, a, "note", d.write)
		var own, caller error
		handle(t, a, "fill", func(ctx context.Context, _ router.Message) (any, error) {
			for own == nil {
				own = a.Post(ctx, "a", "note", nil, router.WaitForRoom())
			}
			return nil, nil
		})
		handle(t, b, "fill", func(ctx context.Context, _ router.Message) (any, error) {
			for caller == nil {
				caller = b.Post(ctx, "a", "note", nil, router.WaitForRoom())
			}
			return nil, nil
		})
		handle(t, a, "ask", func(ctx context.Context, _ router.Message) (any, error) {
			_, err := a.Send(ctx, "b", "fill", nil)
			return nil, err
		})
		post(t, b, "a", "fill", nil)
		synctest.Wait()
		require.Equal(t, plugbus.ReasonCycle, denial(t, own).Reason)
		require.Len(t, d.read(), 1, "the share of one sender is one")
		post(t, b, "a", "ask", nil)
		synctest.Wait()
		require.Equal(t, plugbus.ReasonCycle, denial(t, caller).Reason)
		require.Equal(t, []string{"b", "a", "b"}, denial(t, caller).Chain.Plugins())
		require.NoError(t, r.Ledger().Check())
	})
}

// TestLeavingLosesNoFigure has a sender give up the wait for room at the moment
// when there is room and the recipient leaves: whichever it hears of, its message
// is counted.
func TestLeavingLosesNoFigure(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{MailboxMessages: 1})
			from, to, g := join(t, r, "from"), join(t, r, "to"), closedGate(t)
			handle(t, to, "note", g.then(echo))
			post(t, from, "to", "note", "runs")
			synctest.Wait()
			post(t, from, "to", "note", "waits")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- from.Post(ctx, "to", "note", nil, router.WaitForRoom()) }()
			synctest.Wait()
			over, end := context.WithCancel(t.Context())
			end()
			g.open()
			cancel()
			_ = to.Close(over)
			t.Log(<-done) // There was room, or there was not.
			synctest.Wait()
			require.EqualValues(t, 3, r.Ledger().Offered)
		})
	}
}
