package events_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

// A world is a bus, and beside it what a naive bus would do: every subscription
// has a slice of events that wait, and a plugin handles them as long as its gate
// is open. While it is closed, one handler hangs and the rest waits.
type world struct {
	bus     *events.Bus
	plugins []*modelPlugin
	subs    []*modelSub // all there ever were
	seq     int
	joined  int
	hung    []*modelPlugin // ended, with handlers that have not returned
	leaks   int
	want    plugbus.Ledger
}

type modelPlugin struct {
	client  *events.Client
	gate    *gate
	open    bool
	single  bool      // it has one subscription at a time, whose buffer may be small
	current *modelSub // whose handler hangs
	running int       // handlers that hang, concurrent ones included
}

type modelEvent struct {
	seq    int
	source string
	data   int
}

type modelSub struct {
	id      int
	of      *modelPlugin
	s       *events.Subscription
	d       diary
	pattern string
	rule    events.Overflow
	fair    bool
	buffer  int
	prio    int
	once    bool
	even    bool // it filters
	many    int  // it is concurrent

	closed  bool
	waiting []modelEvent
	active  int
	seqs    []int // what the handler is to get
	missed  []int
	owed    int // losses to be announced
	lost    map[string]uint64
}

func (s *modelSub) matches(name string) bool { return s.pattern == "**" || s.pattern == name }

// follows reports whether s reads a log.
func (s *modelSub) follows() bool {
	return !s.closed && s.rule == events.DropOldest && !s.fair && s.many == 0
}

// heaviest returns the source that loses an event to one of newcomer.
func (s *modelSub) heaviest(newcomer string) string {
	counts := map[string]int{}
	for _, e := range s.waiting {
		counts[e.source]++
	}
	most := newcomer
	for _, source := range slices.Sorted(maps.Keys(counts)) {
		if counts[source] > counts[most] {
			most = source
		}
	}
	return most
}

// offer offers an event to a subscription.
func (w *world) offer(s *modelSub, e modelEvent, r *events.Receipt) {
	r.Matched++
	w.want.Offered++
	if len(s.waiting) == s.buffer {
		if s.rule == events.RefuseToEmitter {
			w.want.Full++
			r.Full++
			return
		}
		victim := 0
		if s.rule == events.DropNewest {
			victim = len(s.waiting)
		}
		if s.fair {
			most := s.heaviest(e.source)
			same := func(e modelEvent) bool { return e.source == most }
			if s.rule == events.DropOldest {
				victim = slices.IndexFunc(s.waiting, same)
			} else if most != e.source {
				for victim--; !same(s.waiting[victim]); victim-- {
				}
			}
		}
		all := append(s.waiting, e)
		s.lost[all[victim].source]++
		s.waiting = slices.Delete(all, victim, victim+1)
		s.owed++
		w.want.Dropped++
	} else {
		s.waiting = append(s.waiting, e)
		w.want.Waiting++
	}
	w.want.Accepted++
	r.Accepted++
}

// start takes the first event of s to its handler, and reports whether that
// hangs.
func (w *world) start(s *modelSub) bool {
	e := s.waiting[0]
	s.waiting = s.waiting[1:]
	w.want.Waiting--
	if s.even && e.data%2 != 0 {
		w.want.Handled++
		return false
	}
	s.seqs = append(s.seqs, e.seq)
	s.missed = append(s.missed, s.owed)
	s.owed = 0
	if s.once {
		w.end(s)
	}
	if s.of.open {
		w.want.Handled++
		return false
	}
	s.of.running++
	w.want.Running++
	return true
}

// end ends a subscription.
func (w *world) end(s *modelSub) {
	s.closed = true
	w.want.Cancelled += uint64(len(s.waiting))
	w.want.Waiting -= uint64(len(s.waiting))
	s.waiting = nil
}

// run lets a plugin handle what it can.
func (w *world) run(p *modelPlugin) {
	for _, s := range w.subs {
		for s.of == p && s.many > 0 && len(s.waiting) > 0 && s.active < s.many {
			if w.start(s) {
				s.active++
			}
		}
	}
	for p.current == nil {
		var first *modelSub
		for _, s := range w.subs {
			if s.of == p && s.many == 0 && len(s.waiting) > 0 && (first == nil || cmp.Or(
				cmp.Compare(s.waiting[0].seq, first.waiting[0].seq), cmp.Compare(first.prio, s.prio)) < 0) {
				first = s
			}
		}
		if first == nil {
			return
		}
		if w.start(first) {
			p.current = first
		}
	}
}

func (w *world) join(t *rapid.T) {
	w.joined++
	c, err := w.bus.Client(fmt.Sprint("plugin", w.joined), events.ClientOptions{})
	require.NoError(t, err)
	w.plugins = append(w.plugins, &modelPlugin{client: c, gate: &gate{}, open: true, single: rapid.Bool().Draw(t, "single")})
}

func (w *world) plugin(t *rapid.T) *modelPlugin {
	return rapid.SampledFrom(w.plugins).Draw(t, "plugin")
}

func (w *world) subscribe(t *rapid.T) {
	p := w.plugin(t)
	s := &modelSub{
		id: len(w.subs), of: p, lost: map[string]uint64{},
		pattern: rapid.SampledFrom([]string{"a", "b", "**"}).Draw(t, "pattern"),
		rule:    rapid.SampledFrom([]events.Overflow{events.DropOldest, events.DropNewest, events.RefuseToEmitter}).Draw(t, "rule"),
		buffer:  rapid.IntRange(1, 12).Draw(t, "buffer"),
		prio:    rapid.IntRange(-1, 1).Draw(t, "priority"),
		once:    rapid.IntRange(0, 5).Draw(t, "once") == 0,
		even:    rapid.IntRange(0, 2).Draw(t, "filter") == 0,
	}
	s.fair = s.rule != events.RefuseToEmitter && rapid.Bool().Draw(t, "fair")
	if rapid.IntRange(0, 2).Draw(t, "concurrent") == 0 {
		s.many = rapid.IntRange(2, 3).Draw(t, "many")
	}
	alone := !slices.ContainsFunc(w.subs, func(other *modelSub) bool { return other.of == p && !other.closed })
	if p.single && !alone {
		return
	}
	if !p.single && s.follows() {
		s.buffer = 10_000 // Of several logs the worker looks ahead in, which the model does not.
	}
	options := []events.SubscribeOption{events.OnOverflow(s.rule), events.Buffer(s.buffer), events.Priority(s.prio)}
	if s.fair {
		options = append(options, events.Fair())
	}
	if s.once {
		options = append(options, events.Once())
	}
	if s.even {
		options = append(options, events.Filter(func(e events.Event) bool { return e.Data().(int)%2 == 0 }))
	}
	if s.many > 0 {
		options = append(options, events.Concurrent(s.many))
	}
	var err error
	s.s, err = p.client.Subscribe(s.pattern, func(ctx context.Context, e events.Event) error {
		_ = s.d.write(ctx, e)
		p.gate.pass()
		return nil
	}, options...)
	require.NoError(t, err)
	w.subs = append(w.subs, s)
}

func (w *world) emit(t *rapid.T) {
	for range rapid.SampledFrom([]int{1, 2, 15}).Draw(t, "events") {
		p := w.plugin(t)
		name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
		w.seq++
		e := modelEvent{w.seq, p.client.ID(), rapid.IntRange(0, 3).Draw(t, "data")}
		got, err := p.client.Emit(context.Background(), name, e.data)
		require.NoError(t, err)
		var want events.Receipt
		for _, s := range w.subs {
			if !s.closed && s.matches(name) {
				w.offer(s, e, &want)
			}
		}
		for _, p := range w.plugins {
			w.run(p)
		}
		require.EqualValues(t, e.seq, got.Seq)
		require.Equal(t, []int{want.Matched, want.Accepted, want.Full}, []int{got.Matched, got.Accepted, got.Full})
		synctest.Wait()
	}
}

func (w *world) unsubscribe(t *rapid.T) {
	if len(w.subs) == 0 {
		return
	}
	s := rapid.SampledFrom(w.subs).Draw(t, "subscription")
	s.s.Unsubscribe()
	if !s.closed {
		w.end(s)
	}
}

func (w *world) closeGate(t *rapid.T) {
	p := w.plugin(t)
	p.open = false
	p.gate.close()
}

func (w *world) openGate(p *modelPlugin) {
	p.open = true
	p.gate.open()
	w.want.Handled += uint64(p.running)
	w.want.Running -= uint64(p.running)
	p.running, p.current = 0, nil
	for _, s := range w.subs {
		if s.of == p {
			s.active = 0
		}
	}
	w.run(p)
}

// leave closes a plugin's client, and gives a plugin that hangs no time.
func (w *world) leave(t *rapid.T) {
	if len(w.plugins) < 2 {
		return
	}
	p := w.plugin(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if p.running > 0 {
		stop()
	}
	err := p.client.Close(ctx)
	require.Equal(t, p.running > 0, err != nil, "%v", err)
	for _, s := range w.subs {
		if s.of == p && !s.closed {
			w.end(s)
		}
	}
	w.want.Abandoned += uint64(p.running)
	w.want.Running -= uint64(p.running)
	w.leaks += p.running
	w.plugins = slices.DeleteFunc(w.plugins, func(other *modelPlugin) bool { return other == p })
	w.hung = append(w.hung, p)
}

func (w *world) check(t *rapid.T) {
	synctest.Wait()
	l := w.bus.Ledger()
	require.NoError(t, l.Check())
	require.Equal(t, w.want, l)
	require.Len(t, w.bus.Leaks(), w.leaks)
	for _, s := range w.subs {
		what := fmt.Sprintf("subscription %d", s.id)
		seqs, missed := s.d.seqs(), s.d.missed()
		if s.many > 0 { // In no order; who announces the losses is open.
			slices.Sort(seqs)
			want := slices.Sorted(slices.Values(s.seqs))
			require.Equal(t, len(want), len(seqs), what)
			require.Equal(t, append([]int{}, want...), seqs, what)
			require.Equal(t, sum(s.missed), sum(missed), what)
		} else {
			require.Equal(t, append([]int{}, s.seqs...), seqs, what)
			require.Equal(t, append([]int{}, s.missed...), missed, what)
		}
		if s.follows() && s.of.current != nil {
			continue // Its worker counts the losses when it comes to them.
		}
		lost := s.s.Stats().Lost
		require.Equal(t, len(s.lost), len(lost), what)
		for source, n := range s.lost {
			require.Equal(t, n, lost[source], what)
		}
	}
}

func sum(all []int) (n int) {
	for _, i := range all {
		n += i
	}
	return n
}

// TestModel lets plugins come, subscribe in every way, emit, hang, go on and
// leave in any order, and compares the bus with the naive one after each step.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(t *rapid.T) {
			bus, err := events.New(events.Options{MaxDepth: 1024, HistoryEvents: -1})
			require.NoError(t, err)
			w := &world{bus: bus}
			defer func() {
				for _, p := range slices.Concat(w.plugins, w.hung) {
					p.gate.open()
				}
				require.NoError(t, bus.Close(context.Background()))
			}()
			w.join(t)
			w.join(t)
			t.Repeat(map[string]func(*rapid.T){
				"join": func(t *rapid.T) {
					if len(w.plugins) < 5 {
						w.join(t)
					}
				},
				"subscribe":   w.subscribe,
				"emit":        w.emit,
				"emit more":   w.emit,
				"unsubscribe": w.unsubscribe,
				"hang":        w.closeGate,
				"go on":       func(t *rapid.T) { w.openGate(w.plugin(t)) },
				"leave":       w.leave,
				"return": func(*rapid.T) {
					for _, p := range w.hung {
						p.gate.open()
					}
					w.hung, w.leaks = nil, 0
				},
				"": w.check,
			})
			for _, p := range w.plugins {
				w.openGate(p)
			}
			w.check(t)
		})
	})
}
