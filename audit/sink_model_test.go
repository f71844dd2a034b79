package audit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A line is what a sink got: an entry, with the count that it had then.
type line struct{ seq, count uint64 }

// A gated is a sink that writes while its gate is open, and the slices that say what
// it should do.
type gated struct {
	name     string
	queue    int
	required bool

	mu      sync.Mutex // guards below
	blocked chan struct{}
	fails   bool
	got     []line

	current *audit.Entry // what hangs in Write
	waiting []audit.Entry
	want    []line
	stats   audit.SinkStats
}

// Write waits until the gate is open.
func (g *gated) Write(_ context.Context, e audit.Entry) error {
	for {
		g.mu.Lock()
		blocked := g.blocked
		if blocked == nil {
			defer g.mu.Unlock()
			if g.fails {
				return errors.New("it fails")
			}
			g.got = append(g.got, line{e.Seq, e.Count})
			return nil
		}
		g.mu.Unlock()
		<-blocked
	}
}

func (g *gated) set(open, fails bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fails = fails; open && g.blocked != nil {
		close(g.blocked)
		g.blocked = nil
	} else if !open && g.blocked == nil {
		g.blocked = make(chan struct{})
	}
}

func (g *gated) hasRoom(e audit.Entry) bool {
	own := 0
	for _, w := range g.waiting {
		if w.Actor == e.Actor && !w.Admin {
			own++
		}
	}
	return len(g.waiting) < g.queue && (e.Admin || own < (g.queue+1)/2)
}

// push gives the sink an entry.
func (g *gated) push(e audit.Entry) {
	switch {
	case g.blocked == nil && g.fails:
		g.stats.Failed++
	case g.blocked == nil:
		g.stats.Written++
		g.want = append(g.want, line{e.Seq, e.Count})
	case g.current == nil:
		g.current = &e
	case g.hasRoom(e):
		g.waiting = append(g.waiting, e)
	default:
		g.stats.Dropped++
	}
}

// flow writes what waits, once the gate is open.
func (g *gated) flow() {
	if g.blocked != nil || g.current == nil {
		return
	}
	all := append([]audit.Entry{*g.current}, g.waiting...)
	g.current, g.waiting = nil, nil
	for _, e := range all {
		g.push(e)
	}
}

func (g *gated) require(t *rapid.T, s audit.SinkStats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	require.True(t, slices.Equal(g.want, g.got), "%s got %v, want %v", g.name, g.got, g.want)
	want := g.stats
	want.Name, want.Queue, want.Required, want.Waiting = g.name, g.queue, g.required, len(g.waiting)
	if g.current != nil {
		want.Waiting++
	}
	s.Err = ""
	require.Equal(t, want, s)
}

// TestSinkModel has sinks hang, fail and go on while entries come, repeat themselves
// and grow old. A witness, which takes everything, gets each entry when it is
// recorded, and once more with its final count if it was repeated. What the others
// get is what has room in a slice: in order, each actor with a share, and the rest
// counted. While the required one has no room, nothing is confirmed (A5, A6).
func TestSinkModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, func(t *rapid.T) {
			const within = 4 * time.Second
			witness := &gated{name: "witness", queue: 10_000}
			// One step gives a sink up to four entries, of one actor perhaps, which have
			// room whether its worker has begun or not: so what it gets is certain.
			plain := &gated{name: "plain", queue: rapid.IntRange(7, 10).Draw(t, "queue")}
			must := &gated{name: "must", queue: rapid.IntRange(7, 10).Draw(t, "required queue"), required: true}
			sinks := []*gated{witness, plain, must}
			o := audit.Options{Capacity: rapid.IntRange(1, 3).Draw(t, "capacity"), AdminCapacity: 1, CoalesceWithin: within}
			for _, g := range sinks {
				o.Sinks = append(o.Sinks, audit.SinkOptions{Name: g.name, Sink: g, Queue: g.queue, Required: g.required})
			}
			l, err := audit.New(o)
			require.NoError(t, err)
			t.Cleanup(func() { // Should it fail.
				plain.set(true, false)
				must.set(true, false)
				_ = l.Close(context.Background())
			})
			m := newModel(o.Capacity, o.AdminCapacity, within)
			entries := map[uint64]audit.Entry{} // all there ever were
			told := map[uint64][]uint64{}       // the counts that the witness got
			seen := 0
			// step does something, and has the others do what the witness shows.
			step := func(do func()) {
				do()
				synctest.Wait()
				fresh := slices.Clone(witness.got[seen:])
				seen = len(witness.got)
				for _, got := range fresh {
					told[got.seq] = append(told[got.seq], got.count)
					require.LessOrEqual(t, len(told[got.seq]), 2, "an entry is written twice at most")
					e := entries[got.seq]
					e.Count = got.count
					for _, g := range sinks {
						g.push(e)
					}
				}
			}
			record := func(t *rapid.T) {
				e := drawEntry(t, time.Now())
				e.Time = time.Now()
				e.Last, e.Count = e.Time, 1
				e.Unconfirmed = must.blocked != nil && must.current != nil && !must.hasRoom(e)
				before := witness.got
				step(func() {
					seq := m.record(e)
					if e.Seq = seq; seq == m.last {
						if _, had := entries[seq]; !had {
							entries[seq] = e
						}
					}
					got, err := l.Record(e)
					require.Equal(t, seq, got)
					require.Equal(t, e.Unconfirmed, err != nil, "%v", err)
					if err != nil {
						require.ErrorIs(t, err, audit.ErrUnavailable)
					}
				})
				if k, kept := m.get(e.Seq); kept && k.Count == 1 {
					require.Contains(t, witness.got[len(before):], line{e.Seq, 1}, "it is written at once")
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"record": record,
				"many": func(t *rapid.T) {
					for range rapid.IntRange(1, 15).Draw(t, "n") {
						record(t)
					}
				},
				"gate": func(t *rapid.T) {
					g := sinks[rapid.IntRange(1, 2).Draw(t, "sink")]
					open, fails := rapid.Bool().Draw(t, "open"), !g.required && rapid.IntRange(0, 3).Draw(t, "fails") == 0
					step(func() { g.set(open, fails) })
					g.flow()
				},
				"later": func(t *rapid.T) {
					wait := rapid.SampledFrom([]time.Duration{time.Second, within, 2 * within}).Draw(t, "wait")
					step(func() { <-time.After(wait) })
					for i := range m.kept { // The windows that are over are closed, if somebody waited for that.
						if k := &m.kept[i]; wait == 2*within {
							require.Equal(t, k.Count, told[k.Seq][len(told[k.Seq])-1], "the witness knows the final count")
						}
					}
				},
				"": func(t *rapid.T) {
					stats := l.Stats()
					m.requireStats(t, stats)
					for i, g := range sinks {
						g.require(t, stats.Sinks[i])
					}
				},
			})
			step(func() {
				plain.set(true, false)
				must.set(true, false)
			})
			plain.flow()
			must.flow()
			step(func() { require.NoError(t, l.Close(context.Background())) })
			for i, s := range l.Stats().Sinks {
				sinks[i].require(t, s)
				require.Zero(t, s.Waiting)
			}
			for _, k := range m.kept {
				require.Equal(t, k.Count, told[k.Seq][len(told[k.Seq])-1], "the final count is written before Close returns")
			}
		})
	})
}
