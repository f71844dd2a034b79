package events

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// This file and log_test.go are in package events, since what they test has no
// other door.

// record returns an event of a source, as a queue holds it.
func record(seq uint64, source string, size int) *Event {
	return &Event{seq: seq, origin: &origin{name: "e", source: source}, meta: &meta{}, info: sized(size)}
}

func numbers(n int, at func(int) *Event) []uint64 {
	all := []uint64{}
	for i := range n {
		all = append(all, at(i).seq)
	}
	return all
}

// TestRing compares a ring with a slice.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		want := []uint64{}
		next := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 5, 300}).Draw(t, "n") {
					next++
					r.push(record(next, "a", 0))
					want = append(want, next)
				}
			},
			"pop": func(t *rapid.T) {
				for range min(len(want), rapid.SampledFrom([]int{1, 5, 300}).Draw(t, "n")) {
					require.Equal(t, want[0], r.pop().seq)
					want = want[1:]
				}
			},
			"remove": func(t *rapid.T) {
				if len(want) > 0 {
					i := rapid.IntRange(0, len(want)-1).Draw(t, "i")
					require.Equal(t, want[i], r.remove(i).seq)
					want = slices.Delete(slices.Clone(want), i, i+1)
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, want, numbers(r.count, r.at))
				held := 0
				for _, e := range r.records {
					if e.origin != nil {
						held++
					}
				}
				require.Equal(t, len(want), held, "what has left is not held on to")
				if len(want) == 0 {
					require.LessOrEqual(t, len(r.records), max(8, 2*maxChunk), "an empty ring gives back its memory")
				}
			},
		})
	})
}

// TestQueue compares a queue, fair or not, with a slice that is searched.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		fair := rapid.Bool().Draw(t, "fair")
		if fair {
			q.share = map[string]int{}
		}
		var want []*Event
		next := uint64(0)
		count := func(source string) (n int) {
			for _, e := range want {
				if e.Source() == source {
					n++
				}
			}
			return n
		}
		// heaviest returns the source that loses an event to one of newcomer.
		heaviest := func(newcomer string) string {
			most := newcomer
			for _, source := range []string{"a", "b", "c"} {
				if count(source) > count(most) {
					most = source
				}
			}
			return most
		}
		remove := func(e Event, i int) {
			require.Equal(t, want[i].seq, e.seq)
			want = slices.Delete(want, i, i+1)
		}
		source := rapid.SampledFrom([]string{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				next++
				want = append(want, record(next, source.Draw(t, "source"), rapid.IntRange(0, 9).Draw(t, "size")))
				q.push(want[len(want)-1])
			},
			"pop": func(t *rapid.T) {
				if len(want) > 0 {
					remove(q.pop(), 0)
				}
			},
			"drop": func(t *rapid.T) {
				if len(want) == 0 {
					return
				}
				newcomer, i := source.Draw(t, "newcomer"), 0
				if fair {
					if count(heaviest(newcomer)) == 0 {
						return
					}
					i = slices.IndexFunc(want, func(e *Event) bool { return e.Source() == heaviest(newcomer) })
				}
				remove(q.drop(newcomer), i)
			},
			"dropLatest": func(t *rapid.T) {
				newcomer := source.Draw(t, "newcomer")
				most := newcomer
				if fair {
					most = heaviest(newcomer)
				}
				e, other := q.dropLatest(newcomer)
				require.Equal(t, most != newcomer, other)
				if other {
					for i := len(want) - 1; ; i-- {
						if want[i].Source() == most {
							remove(e, i)
							break
						}
					}
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, numbers(len(want), func(i int) *Event { return want[i] }), numbers(q.count, q.at))
				bytes := int64(0)
				for _, e := range want {
					bytes += int64(e.Size())
				}
				require.Equal(t, bytes, q.bytes)
				for _, source := range []string{"a", "b", "c"} {
					n, held := q.share[source]
					require.Equal(t, fair && count(source) > 0, held)
					if fair {
						require.Equal(t, count(source), n)
					}
				}
				for _, room := range []struct {
					size, buffer int
					bytes        int64
				}{{1, 3, 100}, {5, 100, 20}, {0, 1, 1}} {
					fits := len(want) == 0 || len(want) < room.buffer && bytes+int64(room.size) <= room.bytes
					require.Equal(t, fits, q.hasRoom(room.size, room.buffer, room.bytes), "%v", room)
				}
			},
		})
	})
}

// TestACrowdCostsNothing shows that those who wait for room share what they wait
// for, so that emitters who give up and come again pile up nothing.
func TestACrowdCostsNothing(t *testing.T) {
	bus, err := New(Options{})
	require.NoError(t, err)
	client, err := bus.Client("c", ClientOptions{})
	require.NoError(t, err)
	s := &Subscription{client: client, attached: true, opts: subscribeOptions{buffer: 1}}
	s.queue.push(record(1, "a", 0))
	room := s.waitForRoom(0)
	require.Equal(t, room, s.waitForRoom(0))
	require.False(t, isClosed(room))
	s.readTo = nothing
	s.takeFirst()
	require.True(t, isClosed(room))
}
