package router // The lanes have no other door that shows their order alone.

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
)

func letter(p plugbus.Priority, number int64) *delivery {
	return &delivery{msg: Message{priority: p, nanos: number}}
}

// laneModel is three slices, and the rule of doc.go in its own words.
type laneModel struct {
	queues [laneCount][]*delivery
	left   [laneCount]int // of this round
}

func (m *laneModel) pop() *delivery {
	if len(m.queues[0])+len(m.queues[1])+len(m.queues[2]) == 0 {
		return nil
	}
	for range 2 { // A second look only begins a new round.
		for lane, queue := range m.queues {
			if len(queue) == 0 || m.left[lane] == 0 {
				continue
			}
			m.left[lane]--
			m.queues[lane] = queue[1:]
			if m.left[laneCount-1] == 0 {
				m.left = laneCredits
			}
			return queue[0]
		}
		m.left = laneCredits
	}
	return nil
}

// TestLanesModel compares the lanes with three slices under pushes, removals and
// pops in any order (R8).
func TestLanesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l lanes
		m := laneModel{left: laneCredits}
		number := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				p := rapid.SampledFrom([]plugbus.Priority{plugbus.PriorityLow, plugbus.PriorityNormal, plugbus.PriorityHigh}).Draw(t, "priority")
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					number++
					d := letter(p, number)
					l.push(d)
					m.queues[laneOf(p)] = append(m.queues[laneOf(p)], d)
				}
			},
			"pop": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					require.Same(t, m.pop(), l.pop())
				}
			},
			"remove": func(t *rapid.T) {
				lane := rapid.IntRange(0, laneCount-1).Draw(t, "lane")
				if n := len(m.queues[lane]); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(t, "i")
					l.remove(m.queues[lane][i])
					m.queues[lane] = slices.Delete(slices.Clone(m.queues[lane]), i, i+1)
				}
			},
			"": func(t *rapid.T) {
				count := 0
				for lane, queue := range m.queues {
					count += len(queue)
					var listed, backward []*delivery
					for d := l.first[lane]; d != nil; d = d.next {
						listed = append(listed, d)
					}
					for d := l.last[lane]; d != nil; d = d.prev {
						backward = append(backward, d)
					}
					slices.Reverse(backward)
					require.True(t, slices.Equal(queue, listed))
					require.True(t, slices.Equal(queue, backward))
				}
				require.Equal(t, count, l.count)
			},
		})
	})
}

// TestLanesRound shows one round while messages of all priorities wait.
func TestLanesRound(t *testing.T) {
	t.Parallel()
	var l lanes
	for n := range int64(100) {
		for p := plugbus.PriorityLow; p <= plugbus.PriorityHigh; p++ {
			l.push(letter(p, n))
		}
	}
	for round := range 5 {
		var got []plugbus.Priority
		for range 13 {
			got = append(got, l.pop().msg.priority)
		}
		want := slices.Concat(
			slices.Repeat([]plugbus.Priority{plugbus.PriorityHigh}, 8),
			slices.Repeat([]plugbus.Priority{plugbus.PriorityNormal}, 4),
			[]plugbus.Priority{plugbus.PriorityLow})
		require.Equal(t, want, got, "round %d", round)
	}
}

// TestR8NothingStarves shows that the first message of a lane is taken after so
// many others at most, whatever came before it and comes after it, and that the
// bounds are reached.
func TestR8NothingStarves(t *testing.T) {
	t.Parallel()
	longest := map[plugbus.Priority]int{}
	rapid.Check(t, func(t *rapid.T) {
		var l lanes
		push := func(label string) {
			for p := plugbus.PriorityLow; p <= plugbus.PriorityHigh; p++ {
				for range rapid.IntRange(0, 10).Draw(t, label) {
					l.push(letter(p, 0))
				}
			}
		}
		waited := [laneCount]int{} // by the first of each lane
		for range rapid.IntRange(1, 60).Draw(t, "pops") {
			push("arrive")
			d := l.pop()
			for lane := range waited {
				switch {
				case d != nil && laneOf(d.msg.priority) == lane, l.first[lane] == nil:
					waited[lane] = 0
				default:
					waited[lane]++
				}
				p := plugbus.PriorityHigh - plugbus.Priority(lane)
				longest[p] = max(longest[p], waited[lane])
			}
		}
	})
	require.LessOrEqual(t, longest[plugbus.PriorityLow], 12)
	require.LessOrEqual(t, longest[plugbus.PriorityNormal], 17)
	require.LessOrEqual(t, longest[plugbus.PriorityHigh], 5)
}

// TestR8Bounds reaches the bounds of the two lower lanes.
func TestR8Bounds(t *testing.T) {
	t.Parallel()
	fill := func(l *lanes, p plugbus.Priority, n int) {
		for range n {
			l.push(letter(p, 0))
		}
	}
	until := func(l *lanes, p plugbus.Priority) (others int) {
		for l.pop().msg.priority != p {
			others++
		}
		return others
	}
	var l lanes
	fill(&l, plugbus.PriorityLow, 1)
	fill(&l, plugbus.PriorityNormal, 100)
	fill(&l, plugbus.PriorityHigh, 100)
	require.Equal(t, 12, until(&l, plugbus.PriorityLow))

	l = lanes{}
	fill(&l, plugbus.PriorityNormal, 4)
	fill(&l, plugbus.PriorityLow, 2)
	for range 4 {
		require.Equal(t, plugbus.PriorityNormal, l.pop().msg.priority)
	}
	fill(&l, plugbus.PriorityNormal, 1)
	fill(&l, plugbus.PriorityHigh, 100)
	require.Equal(t, 17, until(&l, plugbus.PriorityNormal))
}
