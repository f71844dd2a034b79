package events

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/topic"
)

// A logMachine has a log and some followers that no worker serves: the test does
// what their workers would do, one step at a time, and keeps everything that was
// ever appended in a slice.
type logMachine struct {
	bus       *Bus
	client    *Client
	log       *log
	all       []*Event
	nanos     int64
	followers []*followerModel
}

type followerModel struct {
	s     *Subscription
	from  int // the first of all that it is to get
	got   []uint64
	lost  map[string]uint64
	ended bool
}

func newLogMachine(t *rapid.T) *logMachine {
	bus, err := New(Options{QueueBytes: rapid.SampledFrom([]int64{1, 1000, 200_000, 1 << 30}).Draw(t, "bytes")})
	require.NoError(t, err)
	client, err := bus.Client("c", ClientOptions{})
	require.NoError(t, err)
	p := topic.MustParse("e")
	return &logMachine{bus: bus, client: client, log: bus.logFor(p)}
}

func (m *logMachine) join(t *rapid.T) {
	s := &Subscription{
		client: m.client, pattern: m.log.pattern, log: m.log, quiet: make(chan struct{}),
		opts: subscribeOptions{buffer: rapid.SampledFrom([]int{1, 5, 16, 100, 300}).Draw(t, "buffer")},
	}
	s.ready.Store(true) // It is always with its worker, which is the test.
	s.readTo = nothing
	s.attached = true
	m.client.subs[s] = struct{}{}
	s.join()
	m.followers = append(m.followers, &followerModel{s: s, from: len(m.all), lost: map[string]uint64{}})
}

func (m *logMachine) append(t *rapid.T) {
	for range rapid.SampledFrom([]int{1, 3, 20, 200}).Draw(t, "events") {
		m.nanos += rapid.SampledFrom([]int64{1, fastFill}).Draw(t, "pause")
		e := record(uint64(len(m.all)+1), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "source"), rapid.SampledFrom([]int{0, 10, 30_000}).Draw(t, "size"))
		e.nanos = m.nanos
		m.all = append(m.all, e)
		if len(m.log.followers) > 0 {
			m.log.append(e)
		}
	}
}

// work handles some events of a follower.
func (f *followerModel) work(t *rapid.T, n int) {
	s := f.s
	for range n {
		key := s.next()
		if key == nothing {
			return
		}
		e, outside, _ := s.takeOutside(nothing - 1)
		if !outside {
			if !s.start() {
				continue
			}
			e = s.batch[0]
			s.batch = s.batch[1:]
		}
		require.Equal(t, key, e.seq)
		f.got = append(f.got, e.seq)
		s.finish(plugbus.Handled, &e, nil)
	}
}

func (f *followerModel) end(m *logMachine) {
	m.bus.mu.Lock()
	f.s.detach()
	m.bus.mu.Unlock()
	f.ended = true
}

// check compares the follower with what it should have got.
func (f *followerModel) check(t *rapid.T, m *logMachine, last int) {
	s := f.s
	m.bus.mu.Lock()
	l := s.ledger()
	m.bus.mu.Unlock()
	what := fmt.Sprintf("buffer %d: %v", s.opts.buffer, l)
	require.EqualValues(t, last-f.from, l.Handled+l.Dropped+l.Waiting, what)
	require.EqualValues(t, len(f.got), l.Handled, what)
	require.Zero(t, l.Running, what)
	require.True(t, slices.IsSorted(f.got), what)
	require.LessOrEqual(t, l.Waiting, uint64(s.opts.buffer+max(1, s.opts.buffer/8)), what)
}

// settled checks a follower that has nothing more to handle: what it has not got
// was lost, by source, and announced.
func (f *followerModel) settled(t *rapid.T, m *logMachine, last int) {
	want := map[string]uint64{}
	for _, e := range m.all[f.from:last] {
		if !slices.Contains(f.got, e.seq) {
			want[e.Source()]++
		}
	}
	lost := maps.Clone(f.s.lost)
	if lost == nil {
		lost = map[string]uint64{}
	}
	require.Equal(t, want, lost)
	total := uint64(0)
	for _, n := range lost {
		total += n
	}
	require.Equal(t, total, f.s.missed.Load())
}

// TestLog has followers join, read, lag and leave, and compares what each got
// and lost with the slice of everything.
func TestLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newLogMachine(t)
		m.join(t)
		live := func() []*followerModel {
			return slices.DeleteFunc(slices.Clone(m.followers), func(f *followerModel) bool { return f.ended })
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"join": func(t *rapid.T) {
				if len(m.followers) < 5 {
					m.join(t)
				}
			},
			"work": func(t *rapid.T) {
				if all := live(); len(all) > 0 {
					rapid.SampledFrom(all).Draw(t, "follower").work(t, rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "n"))
				}
			},
			"leave": func(t *rapid.T) {
				all := live()
				if len(all) < 2 {
					return // The log would leave the bus with the last.
				}
				f := rapid.SampledFrom(all).Draw(t, "follower")
				f.check(t, m, len(m.all))
				running := f.s.next() != nothing && rapid.Bool().Draw(t, "running") && f.s.start()
				if !running {
					f.end(m)
					require.False(t, f.s.start(), "what was claimed comes by the queue now")
				} else {
					e := f.s.batch[0]
					f.s.batch = f.s.batch[1:]
					f.got = append(f.got, e.seq)
					f.end(m)
					f.s.finish(plugbus.Handled, &e, nil)
				}
				f.check(t, m, len(m.all))
				f.work(t, len(m.all)+1)
				f.check(t, m, len(m.all))
				f.settled(t, m, len(m.all))
			},
			"": func(t *rapid.T) {
				for _, f := range live() {
					f.check(t, m, len(m.all))
				}
				pins := 0
				bytes, lagging := int64(0), 0
				for _, f := range live() {
					require.NotNil(t, f.s.chunk)
					if f.s.chunk.gone {
						lagging++
					} else {
						require.Contains(t, m.log.chunks, f.s.chunk, "a pinned chunk is kept")
						pins++
					}
				}
				for i, c := range m.log.chunks {
					pins -= c.pins
					require.False(t, c.gone)
					if i > 0 {
						require.Equal(t, m.log.chunks[i-1].end.Load(), c.start, "chunks follow each other")
					}
					if c != m.log.tail {
						bytes += c.bytes
					}
				}
				require.Zero(t, pins)
				require.Equal(t, bytes, m.log.bytes)
				require.Equal(t, lagging, m.log.lagging)
				if lagging == 0 {
					require.Nil(t, m.log.evicted, "losses are counted only while somebody lags")
				}
				require.LessOrEqual(t, m.log.bytes, m.log.maxBytes+chunkBytes+30_000)
			},
		})
		for _, f := range live() {
			f.work(t, len(m.all)+1)
			f.check(t, m, len(m.all))
			f.settled(t, m, len(m.all))
			f.end(m)
			f.work(t, 1)
			require.Nil(t, f.s.chunk)
		}
		require.Zero(t, m.log.lagging)
		require.Empty(t, m.log.followers)
		require.Empty(t, m.log.readers)
		require.Empty(t, m.bus.logs, "a log without followers leaves the bus")
	})
}

// TestRestMeetsRouse has the worker of a follower handle an event and come to
// rest while the emitter of that event wakes those at rest: then either the
// follower is signalled, or it is on the list for the next emitter.
func TestRestMeetsRouse(t *testing.T) {
	bus, err := New(Options{})
	require.NoError(t, err)
	client, err := bus.Client("c", ClientOptions{})
	require.NoError(t, err)
	l := bus.logFor(topic.MustParse("e"))
	s := &Subscription{client: client, pattern: l.pattern, log: l, readTo: nothing, opts: subscribeOptions{buffer: 8}}
	s.join()
	s.ready.Store(true)
	const rounds = 50_000
	var begun, ended atomic.Int64
	worker := make(chan struct{})
	go func() {
		defer close(worker)
		for round := range int64(rounds) {
			for begun.Load() <= round || s.next() == nothing {
				runtime.Gosched()
			}
			s.start()
			s.batch = s.batch[1:]
			s.finish(plugbus.Handled, &Event{}, nil)
			for s.next() != nothing || s.rest() {
			}
			ended.Store(round + 1)
		}
	}()
	lost := 0
	for round := range int64(rounds) {
		begun.Store(round + 1)
		l.append(record(uint64(round+1), "a", 0))
		for range round % 50 {
			begun.Store(round + 1) // So that the moment moves.
		}
		l.rouse(&actor.Wakes{})
		for ended.Load() <= round {
			runtime.Gosched()
		}
		if !s.ready.Load() && !s.listed {
			lost++
		}
		client.inbox.Store(nil)
		s.ready.Store(true) // The worker has it again, as if rest had found more.
	}
	<-worker
	require.Zero(t, lost)
}
