package events_test

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
	"github.com/plugbus/plugbus/events"
)

// kinds are the ways by which events come to a handler.
var kinds = [][]events.SubscribeOption{
	nil, // a log
	{events.Fair()},
	{events.OnOverflow(events.DropNewest)},
	{events.OnOverflow(events.RefuseToEmitter)},
	{events.Timeout(time.Hour)},
	{events.Filter(func(events.Event) bool { return true })},
	{events.StartAt(events.All())},
	{events.Concurrent(2)},
	{events.Concurrent(2), events.Timeout(time.Hour)},
}

// A blunt is an error that cannot even be printed.
type blunt struct{}

func (blunt) Error() string { panic("no text") }

var errHandler = errors.New("the handler's own")

// TestE6BadHandlers lets the handler fail for the first of three events, in each
// way. Only this event fails, the host hears why, and where the plugin
// subscribed; other plugins notice nothing.
func TestE6BadHandlers(t *testing.T) {
	long := strings.Repeat("x", 2*plugbus.MaxTextBytes)
	for what, test := range map[string]struct {
		fail func() error
		want func(err error) bool
	}{
		"error":               {func() error { return errHandler }, func(err error) bool { return errors.Is(err, errHandler) }},
		"Goexit":              {func() error { runtime.Goexit(); return nil }, func(err error) bool { return errors.Is(err, events.ErrGoexit) }},
		"panic":               {func() error { panic("boom") }, panicked("boom")},
		"panic with an error": {func() error { panic(errHandler) }, panicked(errHandler.Error())},
		"panic with a number": {func() error { panic(7) }, panicked("7")},
		"panic with nil":      {func() error { panic(errors.Join()) }, panicked(new(runtime.PanicNilError).Error())},
		"panic that panics":   {func() error { panic(blunt{}) }, panicked("events_test.blunt")},
		"panic at length":     {func() error { panic(long) }, panicked(plugbus.CutText(long))},
		"index":               {func() error { return []error{}[len(kinds)] }, panicked("runtime error: index out of range [9] with length 0")},
	} {
		for _, inFilter := range []bool{false, true} {
			if inFilter && what == "error" {
				continue
			}
			for i, options := range kinds {
				what := fmt.Sprintf("%s, in filter %v, kind %d", what, inFilter, i)
				synctest.Test(t, func(t *testing.T) {
					var failures []events.Failure
					bus := openBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
					c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
					d, other := &diary{}, &diary{}
					fail := func(e events.Event) error {
						if e.Data() == "bad" {
							return test.fail()
						}
						return nil
					}
					if inFilter {
						options = append(options, events.Filter(func(e events.Event) bool { return fail(e) == nil }))
					}
					s := listen(t, c, "*", func(ctx context.Context, e events.Event) error {
						if !inFilter {
							if err := fail(e); err != nil {
								return err
							}
						}
						return d.write(ctx, e)
					}, options...)
					listen(t, joinBus(t, bus, "other"), "*", other.write)
					for _, data := range []string{"bad", "good", "good"} {
						tell(t, emitter, "e", data)
					}
					synctest.Wait()
					require.ElementsMatch(t, []int{2, 3}, d.seqs(), what)
					require.Len(t, other.read(), 3, what)
					l := bus.Ledger()
					require.NoError(t, l.Check(), what)
					require.EqualValues(t, 1, l.Failed, what)
					require.EqualValues(t, 5, l.Handled, what)
					require.Len(t, failures, 1, what)
					f := failures[0]
					require.True(t, test.want(f.Err), "%s: %v", what, f.Err)
					require.Contains(t, f.Site, "bus_test.go:", what) // It has listen.
					require.Equal(t, s.Stats().Site, f.Site, what)
					f.Err, f.Site = nil, ""
					require.Equal(t, events.Failure{
						Plugin: "plugin", Source: "emitter", Pattern: "*", Event: "e", Seq: 1, Outcome: plugbus.Failed,
					}, f, what)
				})
			}
		}
	}
}

// panicked returns a check for a panic with that text, and with a stack.
func panicked(text string) func(error) bool {
	return func(err error) bool {
		p, ok := errors.AsType[*events.PanicError](err)
		return ok && p.Value == text && strings.Contains(p.Stack, "handlers_test.go") && strings.Contains(p.Error(), text)
	}
}

// TestTimeout abandons a handler that does not return in time. It keeps its
// plugin's slot until then, Leaks names it, and its result is discarded.
func TestTimeout(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		for _, viaBus := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var failures []events.Failure
				o := events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }}
				var options []events.SubscribeOption
				if viaBus {
					o.HandlerTimeout = time.Second
				} else {
					options = append(options, events.Timeout(time.Second))
				}
				if concurrent {
					options = append(options, events.Concurrent(2))
				}
				bus := openBus(t, o)
				c, emitter := joinBus(t, bus, "plugin"), joinBus(t, bus, "emitter")
				g, d := closedGate(t), &diary{}
				var ended error
				s := listen(t, c, "*", func(ctx context.Context, e events.Event) error {
					if e.Seq() > 1 {
						return d.write(ctx, e)
					}
					<-ctx.Done()
					ended = ctx.Err()
					g.pass()
					return errHandler
				}, options...)
				tell(t, emitter, "hang", nil)
				tell(t, emitter, "after", nil)
				pass(time.Second - 1)
				require.Empty(t, bus.Leaks())
				require.Zero(t, bus.Ledger().Abandoned)
				pass(1)
				require.ErrorIs(t, ended, context.DeadlineExceeded)
				l := bus.Ledger()
				require.NoError(t, l.Check())
				require.EqualValues(t, 1, l.Abandoned)
				require.Zero(t, l.Running)
				require.Equal(t, []events.Leak{{Plugin: "plugin", Pattern: "*", Site: s.Stats().Site}}, bus.Leaks())
				require.Len(t, failures, 1)
				require.ErrorIs(t, failures[0].Err, events.ErrTimedOut)
				require.Equal(t, plugbus.Abandoned, failures[0].Outcome)
				require.Equal(t, "hang", failures[0].Event)
				require.EqualValues(t, 1, failures[0].Seq)
				require.Equal(t, "emitter", failures[0].Source)
				if concurrent {
					require.Len(t, d.read(), 1, "it holds one of two slots")
				} else {
					require.Empty(t, d.read(), "it holds the only slot")
				}
				g.open()
				synctest.Wait()
				require.Len(t, d.read(), 1)
				require.Empty(t, bus.Leaks())
				require.Len(t, failures, 1, "the late result is discarded")
				l = bus.Ledger()
				require.NoError(t, l.Check())
				require.EqualValues(t, 1, l.Abandoned)
				require.EqualValues(t, 1, l.Handled)
				require.Zero(t, l.Failed)
			})
		}
	}
}

// TestTimeoutMeetsTheReturn lets handlers return at the moment in which their
// time ends: each has one outcome.
func TestTimeoutMeetsTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := openBus(t, events.Options{})
		c := joinBus(t, bus, "plugin")
		for _, options := range [][]events.SubscribeOption{nil, {events.Concurrent(4)}} {
			listen(t, c, "e", func(context.Context, events.Event) error {
				<-time.After(time.Millisecond)
				return nil
			}, append(options, events.Timeout(time.Millisecond))...)
		}
		for range 200 {
			tell(t, c, "e", nil)
		}
		require.NoError(t, bus.Idle(t.Context()))
		l := bus.Ledger()
		require.NoError(t, l.Check())
		require.EqualValues(t, 400, l.Handled+l.Abandoned)
	})
}

// TestOnce calls the handler once, although several emitters have events for it
// at once.
func TestE5OnceUnderConcurrentEmits(t *testing.T) {
	for _, options := range kinds {
		for range 20 {
			bus := openBus(t, events.Options{})
			d := &diary{}
			s := listen(t, joinBus(t, bus, "plugin"), "e", d.write, append(options, events.Once())...)
			var wg sync.WaitGroup
			for i := range 3 {
				c := joinBus(t, bus, fmt.Sprint("e", i))
				wg.Go(func() {
					for range 20 {
						if _, err := c.Emit(t.Context(), "e", nil); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			require.NoError(t, s.Wait(t.Context()))
			require.NoError(t, bus.Idle(t.Context()))
			require.Len(t, d.read(), 1)
			l := bus.Ledger()
			require.NoError(t, l.Check())
			require.EqualValues(t, 1, l.Handled)
		}
	}
}

// TestOnceCountsWhatTheFilterLetsThrough shows that only an event that passes
// the filter is the one.
func TestOnceCountsWhatTheFilterLetsThrough(t *testing.T) {
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			c, d := joinBus(t, bus, "plugin"), &diary{}
			listen(t, c, "e", d.write, append(options, events.Once(), events.Filter(func(e events.Event) bool { return e.Data() == 3 }))...)
			for n := range 6 {
				tell(t, c, "e", n)
				synctest.Wait()
			}
			require.Equal(t, []int{4}, d.seqs())
			require.Zero(t, tell(t, c, "e", 3).Matched)
		})
	}
}

// TestHandlersMayDoAnything lets the handler of the first event act on what
// runs it.
func TestHandlersMayDoAnything(t *testing.T) {
	type world struct {
		bus  *events.Bus
		c    *events.Client
		self *events.Subscription
		d    *diary
	}
	for what, test := range map[string]struct {
		act  func(t *testing.T, ctx context.Context, w *world)
		seqs []int // what the plugin handles of three events
		gone bool  // the client has left
	}{
		"unsubscribes itself": {func(_ *testing.T, _ context.Context, w *world) { w.self.Unsubscribe(); w.self.Unsubscribe() }, []int{1}, false},
		"subscribes": {func(t *testing.T, _ context.Context, w *world) {
			listen(t, w.c, "other", nothing)
		}, []int{1, 2, 3}, false},
		"emits": {func(t *testing.T, ctx context.Context, w *world) {
			_, err := w.c.Emit(ctx, "other", nil)
			require.NoError(t, err)
		}, []int{1, 2, 3}, false},
		"drains its client": {func(_ *testing.T, _ context.Context, w *world) { w.c.BeginDrain() }, []int{1, 2, 3}, false},
		"closes its client": {func(t *testing.T, ctx context.Context, w *world) {
			require.NoError(t, w.c.Close(ctx))
			<-ctx.Done()
		}, []int{1}, true},
		"closes the bus": {func(t *testing.T, ctx context.Context, w *world) {
			require.ErrorIs(t, w.bus.Close(ctx), context.Canceled, "its own goroutine is left")
		}, []int{1}, true},
		"looks at the bus": {func(t *testing.T, _ context.Context, w *world) {
			require.NoError(t, w.bus.Ledger().Check())
			w.self.Stats()
			w.bus.Stats()
			w.bus.Leaks()
			w.bus.History()
		}, []int{1, 2, 3}, false},
	} {
		for i, options := range kinds[:7] { // Of a concurrent one, others run beside it.
			what := fmt.Sprintf("%s, kind %d", what, i)
			synctest.Test(t, func(t *testing.T) {
				w := &world{bus: openBus(t, events.Options{}), d: &diary{}}
				w.c = joinBus(t, w.bus, "plugin")
				emitter := joinBus(t, w.bus, "emitter")
				begin, g := closedGate(t), closedGate(t)
				slow := &diary{}
				listen(t, joinBus(t, w.bus, "slow"), "e", g.then(slow.write))
				w.self = listen(t, w.c, "e", func(ctx context.Context, e events.Event) error {
					begin.pass()
					if err := w.d.write(ctx, e); err != nil || e.Seq() > 1 {
						return err
					}
					go func() {
						<-time.After(time.Second)
						g.open()
					}()
					test.act(t, ctx, w)
					return nil
				}, options...)
				for range 3 {
					tell(t, emitter, "e", nil)
				}
				begin.open()
				pass(time.Minute)
				require.Equal(t, test.seqs, w.d.seqs(), what)
				require.Len(t, slow.read(), 3, "%s: others are drained", what)
				require.NoError(t, w.bus.Ledger().Check(), what)
				require.Empty(t, w.bus.Leaks(), what)
				if test.gone {
					_, err := w.c.Emit(t.Context(), "e", nil)
					require.ErrorIs(t, err, plugbus.ErrClosed, what)
				}
			})
		}
	}
}

// TestChainGrows follows the chain from plugin to plugin, by the handlers'
// contexts, and without them: what a plugin does while it handles something
// continues its chain.
func TestE8ChainGrows(t *testing.T) {
	for _, passOn := range []bool{true, false} {
		for i, options := range kinds {
			synctest.Test(t, func(t *testing.T) {
				bus := openBus(t, events.Options{})
				a, b, c := joinBus(t, bus, "a"), joinBus(t, bus, "b"), joinBus(t, bus, "c")
				answer := func(with *events.Client, name string) events.Handler {
					return func(ctx context.Context, _ events.Event) error { //nolint:contextcheck // Not passing on is what is tested.
						if !passOn {
							ctx = t.Context()
						}
						_, err := with.Emit(ctx, name, nil)
						return err
					}
				}
				listen(t, b, "one", answer(b, "two"), options...)
				listen(t, c, "two", answer(c, "three"), options...)
				d := &diary{}
				listen(t, joinBus(t, bus, "d"), "**", d.write)
				for range 2 { // What was served before has left nothing behind.
					tell(t, a, "one", nil)
					synctest.Wait()
				}
				var chains []string
				for _, e := range d.read() {
					chains = append(chains, e.Chain().String())
				}
				want := []string{"a", "a → b", "a → b → c"}
				require.Equal(t, append(want, want...), chains, "pass on %v, kind %d", passOn, i)
			})
		}
	}
}

// TestE8MaxDepth cuts a cascade of plugins that answer each other.
func TestE8MaxDepth(t *testing.T) {
	for i, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{MaxDepth: 7})
			a, b := joinBus(t, bus, "a"), joinBus(t, bus, "b")
			var refused []error
			answer := func(with *events.Client, name string) events.Handler {
				return func(ctx context.Context, _ events.Event) error {
					if _, err := with.Emit(ctx, name, nil); err != nil {
						refused = append(refused, err)
					}
					return nil
				}
			}
			listen(t, a, "pong", answer(a, "ping"), options...)
			listen(t, b, "ping", answer(b, "pong"), options...)
			d := &diary{}
			listen(t, joinBus(t, bus, "c"), "**", d.write)
			tell(t, a, "ping", nil)
			synctest.Wait()
			require.Len(t, d.read(), 7, "kind %d", i)
			require.Equal(t, 7, d.read()[6].Chain().Depth())
			require.Len(t, refused, 1)
			denied, ok := errors.AsType[*plugbus.DeniedError](refused[0])
			require.True(t, ok)
			require.Equal(t, plugbus.ReasonChainTooDeep, denied.Reason)
			require.Equal(t, "a → b → a → b → a → b → a", denied.Chain.String())
			require.EqualValues(t, 1, bus.Ledger().Refused)
		})
	}
}

// TestHandlersContext ends with the plugin's session, or with what the host gave
// for it, and carries no values.
func TestHandlersContext(t *testing.T) {
	type key struct{}
	for _, options := range kinds {
		synctest.Test(t, func(t *testing.T) {
			bus := openBus(t, events.Options{})
			parent, end := context.WithCancel(context.WithValue(t.Context(), key{}, "secret"))
			defer end()
			c, err := bus.Client("plugin", events.ClientOptions{Context: parent})
			require.NoError(t, err)
			var got context.Context
			listen(t, c, "e", func(ctx context.Context, _ events.Event) error {
				got = ctx //nolint:fatcontext // The test looks at it from outside.
				<-ctx.Done()
				return nil
			}, options...)
			_, err = c.Emit(context.WithValue(t.Context(), key{}, "other"), "e", nil)
			require.NoError(t, err)
			synctest.Wait()
			require.NoError(t, got.Err())
			require.Nil(t, got.Value(key{}))
			end()
			synctest.Wait()
			require.EqualValues(t, 1, bus.Ledger().Handled)
		})
	}
}
