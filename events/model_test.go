package events_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A world is a bus, and beside it what a naive bus would do: every subscription has
// slices of events that wait, the history is a slice, and a plugin handles what it
// has as long as its gate is open. While that is closed, one handler hangs and the
// rest waits. The parts of the world are in the files model_*_test.go: acts and emit
// (what happens), naive (what it leads to), history, and check.
type world struct {
	bus      *events.Bus
	options  events.Options
	sizes    map[modelPayload]int // as the door measures them
	plugins  []*modelPlugin
	gone     []*modelPlugin // ended, with handlers that have not returned
	subs     []*modelSub    // all there ever were
	seq      int
	clock    time.Time
	unique   time.Duration // what keeps any two times apart
	refused  uint64        // by the door
	waiter   *modelWaiter  // waits for room
	history  modelHistory
	failures uint64 // that the host is to hear of

	mu    sync.Mutex // guards below
	heard uint64     // by OnFailure
}

type modelPlugin struct {
	client   *events.Client
	id       string
	rules    *rules
	gate     *gate
	open     bool
	draining bool
	quota    int
	single   bool      // it has one subscription at a time
	current  *modelSub // whose handler hangs on the plugin's worker
	emitted  uint64
	refused  uint64
	order    []string // in which its handlers are to get what is live

	mu  sync.Mutex // guards below
	got []string   // likewise, as they got it
}

// GoString is how a failure prints the plugin.
func (p *modelPlugin) GoString() string { return p.id }

// denied reports what the plugin's policy says.
func (p *modelPlugin) denied(verb plugbus.Verb, name string) bool {
	return p.rules.denied[verb.String()+" "+name] != ""
}

// knows reports whether the plugin may know of another.
func (p *modelPlugin) knows(other *modelPlugin) bool {
	return p == other || !p.rules.unknown[other.id]
}

// A modelPayload is what events carry.
type modelPayload struct {
	N      int // what handlers and filters go by
	Pad    string
	header string // not of the payload, but it counts in the size
	corr   string // the same
}

type modelEvent struct {
	modelPayload
	seq       int
	name      string
	source    string
	at        time.Time
	expires   time.Time // zero for never
	audience  []*modelPlugin
	broadcast bool
	noHistory bool
	size      int
	replayed  bool
	gap       int // losses of the log right before it
}

// A modelGot is one event as a handler gets it.
type modelGot struct {
	seq          int
	name, source string
	payload      modelPayload
	at           int64
	replayed     bool
	truncated    bool
	missed       int
}

func got(e events.Event) modelGot {
	payload, _ := e.Data().(modelPayload)
	payload.header, payload.corr = e.Header("h"), e.CorrelationID()
	return modelGot{int(e.Seq()), e.Name(), e.Source(), payload, e.Time().UnixNano(), e.Replayed(), e.Truncated(), e.Missed()}
}

// A modelCall is a handler call that hangs.
type modelCall struct {
	e         modelEvent
	abandoned bool
	deadline  time.Time // zero for none
	ofLog     bool
}

type modelSub struct {
	id       int
	of       *modelPlugin
	s        *events.Subscription
	born     chan struct{} // closed when s is set
	receiver bool
	pattern  string
	rule     events.Overflow
	fair     bool
	buffer   int
	priority int
	once     bool
	even     bool // it filters
	quits    bool // its handler ends it
	many     int  // it is concurrent
	past     bool // it begins with the history
	timeout  time.Duration
	expires  time.Time
	bad      func() error // what the handler ends with at times

	detached bool // nothing new comes
	closed   bool
	reader   *modelReader // while it reads the history
	page     []modelEvent // of the history
	log      []modelEvent // of a follower, from its log
	queue    []modelEvent // what came to it alone
	calls    []*modelCall
	led      plugbus.Ledger
	want     []modelGot
	owed     int // losses to be announced
	cut      bool
	lost     map[string]uint64
	over     bool // it was compared for the last time

	mu  sync.Mutex // guards below
	got []modelGot
}

// follows reports whether s reads a log.
func (s *modelSub) follows() bool {
	return !s.detached && s.reader == nil && !s.receiver && s.rule == events.DropOldest && !s.fair && s.many == 0
}

// matches reports whether the events of a name are for s, by the five patterns of
// the model.
func (s *modelSub) matches(name string) bool {
	switch s.pattern {
	case "**":
		return true
	case "*":
		return !strings.Contains(name, ".")
	case "n.*":
		return strings.HasPrefix(name, "n.")
	default:
		return s.pattern == name
	}
}

var (
	modelPatterns = []string{"a", "b", "*", "n.*", "**"}
	modelNames    = []string{"a", "b", "n.x", "n.y"}
)

func (s *modelSub) waiting() int { return len(s.page) + len(s.log) + len(s.queue) }

// running returns the calls that run and were not abandoned.
func (s *modelSub) running() (n int) {
	for _, c := range s.calls {
		if !c.abandoned {
			n++
		}
	}
	return n
}

// ledger returns the ledger of s as it is to be now.
func (s *modelSub) ledger() plugbus.Ledger {
	l := s.led
	l.Waiting, l.Running = uint64(s.waiting()), uint64(s.running())
	return l
}

// A modelWaiter is an emitter that waits for room.
type modelWaiter struct {
	p        *modelPlugin
	e        modelEvent
	deadline time.Time
	result   chan modelResult
}

type modelResult struct {
	receipt events.Receipt
	err     error
}

const modelWaitLimit = 10 * time.Second

// newWorld returns a world without plugins.
func newWorld(t *rapid.T, sizes map[modelPayload]int) *world {
	w := &world{sizes: sizes, clock: time.Now()}
	w.options = events.Options{
		MaxDepth:      1024,
		HistoryEvents: rapid.SampledFrom([]int{300, 300, -1, 5, 30}).Draw(t, "history events"),
		HistoryBytes:  rapid.SampledFrom([]int64{1 << 20, 1 << 20, 400}).Draw(t, "history bytes"),
		HistoryAge:    rapid.SampledFrom([]time.Duration{24 * time.Hour, 17*time.Second + 1}).Draw(t, "history age"),
		QueueBytes:    rapid.SampledFrom([]int64{1 << 20, 1 << 20, 300}).Draw(t, "queue bytes"),
		WaitLimit:     modelWaitLimit,
		OnFailure: func(events.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.heard++
		},
	}
	var err error
	w.bus, err = events.New(w.options)
	require.NoError(t, err)
	w.history = newModelHistory(w.options)
	return w
}

// tight reports whether the bytes of a queue are bounded so that it matters. The
// logs count the bytes of chunks, which the model does not, so there are no
// followers then.
func (w *world) tight() bool { return w.options.QueueBytes < 1000 }

// soon returns a duration that no other thing of the world takes.
func (w *world) soon(d time.Duration) time.Duration {
	w.unique += time.Microsecond
	return d + w.unique
}

// end closes the bus, whatever happens in it.
func (w *world) end(t require.TestingT) {
	for _, p := range slices.Concat(w.plugins, w.gone) {
		p.gate.open()
	}
	require.NoError(t, w.bus.Close(context.Background()))
	if w.waiter != nil {
		<-w.waiter.result
	}
	l := w.bus.Ledger()
	require.NoError(t, l.Check())
	require.Zero(t, l.Waiting+l.Running)
}

// measure returns how the door measures the payloads of the model.
func measure(t *testing.T) map[modelPayload]int {
	bus := openBus(t, events.Options{})
	c := joinBus(t, bus, "measure")
	sizes := map[modelPayload]int{}
	for _, pad := range modelPads {
		for _, header := range []string{"", "h"} {
			for _, corr := range []string{"", "c"} {
				p := modelPayload{0, pad, header, corr}
				tell(t, c, "a", p, p.options()...)
				for e, err := range c.Replay(t.Context(), "a", events.Last(1)) {
					require.NoError(t, err)
					sizes[p] = e.Size()
				}
			}
		}
	}
	return sizes
}

var modelPads = []string{"", strings.Repeat("x", 100)}

// options returns what p has besides the payload.
func (p modelPayload) options() (options []events.EmitOption) {
	if p.header != "" {
		options = append(options, events.Headers(map[string]string{"h": p.header}))
	}
	if p.corr != "" {
		options = append(options, events.CorrelationID(p.corr))
	}
	return options
}

// TestModel lets plugins come, subscribe and emit in every way, read the history,
// hang, go on, gain and lose rights, drain and leave in any order, while time passes,
// and compares the bus with the naive one after each step.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := measure(t)
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(t *rapid.T) {
			w := newWorld(t, sizes)
			defer w.end(t)
			w.join(t)
			w.join(t)
			acts := map[string]func(*rapid.T){"": w.check}
			for name, act := range map[string]struct {
				weight int
				do     func(*rapid.T)
			}{
				"join": {1, w.join}, "leave": {1, w.leave}, "drain": {1, w.drain}, "return": {1, w.comeBack},
				"subscribe": {5, w.subscribe}, "receive": {1, w.receive}, "unsubscribe": {1, w.unsubscribe},
				"emit": {7, w.emit}, "broadcast": {4, w.broadcast}, "wait for room": {3, w.emitWithRoom},
				"hang": {3, w.hang}, "go on": {3, func(t *rapid.T) { w.goOn(w.plugin(t)) }},
				"step": {3, func(t *rapid.T) { w.step(t, w.plugin(t)) }}, "press": {2, w.press},
				"time passes": {2, w.pass}, "rights": {2, w.rights}, "replay": {2, w.replay},
			} {
				for i := range act.weight {
					acts[fmt.Sprint(name, " ", i)] = act.do
				}
			}
			t.Repeat(acts)
			for _, p := range w.plugins {
				w.goOn(p)
			}
			w.check(t)
			require.NoError(t, w.bus.Idle(context.Background()))
		})
	})
}

// GoString is how a failure prints the subscription.
func (s *modelSub) GoString() string { return s.what() }

// what names a subscription in the message of a failure.
func (s *modelSub) what() string {
	return fmt.Sprintf("subscription %d to %q by %s: rule %d, fair %v, buffer %d, concurrent %d, once %v, filter %v",
		s.id, s.pattern, s.of.id, s.rule, s.fair, s.buffer, s.many, s.once, s.even)
}
